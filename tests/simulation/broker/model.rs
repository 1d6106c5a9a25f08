//! Exchanges, bindings, queues and messages, as the protocol's books describe them.
//!
//! Nothing here comes from the broker: routing is done by looking at every binding. What is applied are [`Effect`]s, each of
//! which is whole after a power cut or has not happened.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use haypile::broker::DestinationKind;

use super::letters::{Reason, letter};

/// A name of an exchange or a queue.
pub(super) type Name = &'static str;

/// Tells queues of the same name apart, of which one was deleted before the other was declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Incarnation(pub(super) usize);

/// A message's place in its queue: the order in which they are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub(super) usize);

impl Place {
    /// The `nth` message that came, in a queue where those of this rank are handed out before those of higher ones.
    fn of(rank: u8, nth: usize) -> Place {
        Place(usize::from(rank) << 32 | nth)
    }

    fn rank(self) -> usize {
        self.0 >> 32
    }

    /// Places by rank: what is done to each rank is written down by itself.
    pub(super) fn by_rank(mut places: Vec<Place>) -> Vec<Vec<Place>> {
        places.sort_unstable();
        places.chunk_by(|one, other| one.rank() == other.rank()).map(<[Place]>::to_vec).collect()
    }
}

/// The types of exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Fanout => "fanout",
            Kind::Topic => "topic",
            Kind::Headers => "headers",
        }
    }
}

/// The exchanges that are always there.
pub(super) const PREDECLARED: [(Name, Kind); 4] = [
    ("amq.direct", Kind::Direct),
    ("amq.fanout", Kind::Fanout),
    ("amq.topic", Kind::Topic),
    ("amq.headers", Kind::Headers),
];

/// The alternates that exchanges are declared with; two of them lead from one exchange to the other and back.
pub(super) const ALTERNATES: [Option<Name>; 4] =
    [None, Some("amq.fanout"), Some("ex-inner"), Some("ex-direct")];

/// The header that names another routing key.
pub(super) const COPY: &str = "CC";

/// How an exchange was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) kind: Kind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    /// The exchange that gets what none of the bindings takes.
    pub(super) alternate: Option<Name>,
}

impl Exchange {
    pub(super) const fn durable(kind: Kind) -> Exchange {
        Exchange { kind, durable: true, auto_delete: false, internal: false, alternate: None }
    }
}

/// Where the dead letters of a queue of that name go, if it is declared so: no two go to the same.
pub(super) fn grave_of(name: Name) -> Option<Name> {
    match name {
        "q-a" => Some("q-c"),
        // From what is there after a restart to what is not, and back.
        "q-c" => Some("q-volatile"),
        "q-volatile" => Some("q-b"),
        "q-b" => Some("q-auto"),
        "q-auto" => Some("q-a"),
        // To its own end.
        "q-exclusive" => Some("q-exclusive"),
        "q-short" => Some("q-spill"),
        _ => None,
    }
}

/// How many messages may be ready in a queue of that name: the oldest go where there are more.
pub(super) fn limit_of(name: Name) -> Option<usize> {
    (name == "q-short").then_some(3)
}

/// How a queue was declared. `mode` is its argument `x-queue-mode`, which a second declaration has to repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueSpec {
    pub(super) durable: bool,
    pub(super) exclusive: bool,
    pub(super) auto_delete: bool,
    pub(super) mode: Option<&'static str>,
    /// `x-max-priority`; 0 where nothing is said.
    pub(super) max_priority: u8,
    /// The queue that gets its dead letters, by the default exchange.
    pub(super) grave: Option<Name>,
    /// `x-max-length`.
    pub(super) max_length: Option<usize>,
}

impl QueueSpec {
    /// How many queues of the engine it takes.
    pub(super) fn levels(&self) -> usize {
        usize::from(self.max_priority) + 1
    }

    /// Whether anything is asked of it that has to do with messages that go otherwise than to a consumer.
    pub(super) fn has_rules(&self) -> bool {
        self.grave.is_some() || self.max_length.is_some()
    }

    /// Whether a restart brings it back: an exclusive queue goes with its connection.
    pub(super) fn is_stored(&self) -> bool {
        self.durable && !self.exclusive
    }
}

/// What a binding to a headers exchange asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub(super) all: bool,
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Binding {
    pub(super) source: Name,
    pub(super) to_exchange: bool,
    pub(super) destination: Name,
    pub(super) key: &'static str,
    pub(super) wanted: Option<Wanted>,
}

impl Binding {
    pub(super) fn kind(&self) -> DestinationKind {
        if self.to_exchange { DestinationKind::Exchange } else { DestinationKind::Queue }
    }
}

/// A message. `number` is its own; header and body are as its publisher gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) number: usize,
    pub(super) header: Bytes,
    pub(super) body: Bytes,
    pub(super) persistent: bool,
    pub(super) priority: u8,
    pub(super) redelivered: bool,
}

/// A queue with its messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) incarnation: Incarnation,
    pub(super) spec: QueueSpec,
    pub(super) messages: BTreeMap<Place, Message>,
    /// How many have come.
    pub(super) came: usize,
}

/// A change that happens as a whole.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    DeclareExchange(Name, Exchange),
    DeleteExchange(Name),
    DeclareQueue(Name, Incarnation, QueueSpec),
    DeleteQueue(Name, Incarnation),
    Bind(Binding),
    Unbind(Binding),
    Publish(BTreeSet<Name>, Message),
    HandOut(Name, Incarnation, Vec<Place>),
    Acknowledge(Name, Incarnation, Vec<Place>),
    /// All of them at once, because of this.
    Together(Cause, Vec<Effect>),
}

/// Why several effects are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A transaction is committed.
    Transaction,
    /// Dead letters are where they go, and not where they were.
    DeadLetters,
}

impl Effect {
    pub(super) const NAMES: [&'static str; 11] = [
        "exchanges declared",
        "exchanges deleted",
        "queues declared",
        "queues deleted",
        "bindings",
        "bindings removed",
        "messages",
        "hand-outs",
        "acknowledgements",
        "transactions",
        "dead letters",
    ];

    pub(super) fn name(&self) -> &'static str {
        let number = match self {
            Effect::DeclareExchange(..) => 0,
            Effect::DeleteExchange(..) => 1,
            Effect::DeclareQueue(..) => 2,
            Effect::DeleteQueue(..) => 3,
            Effect::Bind(..) => 4,
            Effect::Unbind(..) => 5,
            Effect::Publish(..) => 6,
            Effect::HandOut(..) => 7,
            Effect::Acknowledge(..) => 8,
            Effect::Together(Cause::Transaction, _) => 9,
            Effect::Together(Cause::DeadLetters, _) => 10,
        };
        Effect::NAMES[number]
    }
}

/// All that is in a virtual host.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) exchanges: BTreeMap<Name, Exchange>,
    pub(super) queues: BTreeMap<Name, Queue>,
    pub(super) bindings: BTreeSet<Binding>,
}

impl Default for World {
    fn default() -> World {
        let predeclared = |(name, kind)| (name, Exchange::durable(kind));
        World {
            exchanges: PREDECLARED.into_iter().map(predeclared).collect(),
            queues: BTreeMap::new(),
            bindings: BTreeSet::new(),
        }
    }
}

impl Queue {
    /// The places of messages for which there is no room when all but those in `out` are ready.
    pub(super) fn excess(&self, out: impl Fn(Place) -> bool) -> Vec<Place> {
        let Some(most) = self.spec.max_length else { return Vec::new() };
        let ready: Vec<Place> =
            self.messages.keys().copied().filter(|place| !out(*place)).collect();
        ready[..ready.len().saturating_sub(most)].to_vec()
    }
}

impl World {
    pub(super) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::DeclareExchange(name, exchange) => {
                self.exchanges.insert(name, *exchange);
            }
            Effect::DeleteExchange(name) => self.remove_exchange(name),
            Effect::DeclareQueue(name, incarnation, spec) => {
                let queue = Queue { incarnation: *incarnation, spec: *spec, ..Queue::default() };
                self.queues.insert(name, queue);
            }
            Effect::DeleteQueue(name, incarnation) => {
                if self.same(name, *incarnation).is_some() {
                    self.queues.remove(name);
                    self.unbind(|binding| !binding.to_exchange && binding.destination == *name);
                }
            }
            Effect::Bind(binding) => {
                self.bindings.insert(binding.clone());
            }
            Effect::Unbind(binding) => self.unbind(|other| other == binding),
            Effect::Together(_, effects) => effects.iter().for_each(|effect| self.apply(effect)),
            Effect::Publish(queues, message) => {
                for name in queues {
                    if let Some(queue) = self.queues.get_mut(name) {
                        let rank = queue.spec.max_priority.saturating_sub(message.priority);
                        queue.messages.insert(Place::of(rank, queue.came), message.clone());
                        queue.came += 1;
                    }
                }
            }
            Effect::HandOut(name, incarnation, places) => {
                let Some(queue) = self.same(name, *incarnation) else { return };
                for place in places {
                    if let Some(message) = queue.messages.get_mut(place) {
                        message.redelivered = true;
                    }
                }
            }
            Effect::Acknowledge(name, incarnation, places) => {
                let Some(queue) = self.same(name, *incarnation) else { return };
                queue.messages.retain(|place, _| !places.contains(place));
            }
        }
    }

    fn same(&mut self, name: Name, incarnation: Incarnation) -> Option<&mut Queue> {
        self.queues.get_mut(name).filter(|queue| queue.incarnation == incarnation)
    }

    fn remove_exchange(&mut self, name: Name) {
        if self.exchanges.remove(name).is_some() {
            self.unbind(|binding| {
                binding.source == name || binding.to_exchange && binding.destination == name
            });
        }
    }

    /// An auto-delete exchange goes with the last binding that it is the source of.
    fn unbind(&mut self, going: impl Fn(&Binding) -> bool) {
        let (gone, kept): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.bindings).into_iter().partition(going);
        self.bindings = kept;
        for Binding { source, .. } in gone {
            let abandoned = !self.bindings.iter().any(|binding| binding.source == source);
            if abandoned && self.exchanges.get(source).is_some_and(|found| found.auto_delete) {
                self.remove_exchange(source);
            }
        }
    }

    /// The queues that a message goes to, by its key and by those that its headers name.
    pub(super) fn route(
        &self,
        exchange: Name,
        key: &str,
        headers: &[(&str, &str)],
    ) -> BTreeSet<Name> {
        let copies = headers.iter().filter(|(name, _)| *name == COPY).map(|(_, key)| *key);
        let keys: Vec<&str> = std::iter::once(key).chain(copies).collect();
        if exchange.is_empty() {
            return self.queues.keys().copied().filter(|name| keys.contains(name)).collect();
        }
        let (mut queues, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![exchange]);
        while let Some(exchange) = next.pop() {
            if !seen.insert(exchange) {
                continue;
            }
            let Some(Exchange { kind, alternate, .. }) = self.exchanges.get(exchange) else {
                continue;
            };
            let mut taken = false;
            let outgoing = self.bindings.iter().filter(|binding| binding.source == exchange);
            let takes =
                |binding: &&Binding| keys.iter().any(|key| matches(*kind, binding, key, headers));
            for binding in outgoing.filter(takes) {
                taken = true;
                if binding.to_exchange {
                    next.push(binding.destination);
                } else {
                    queues.insert(binding.destination);
                }
            }
            next.extend(alternate.filter(|_| !taken));
        }
        queues
    }

    /// Whether a restart brings a binding back: if it does so with both ends.
    pub(super) fn is_stored(&self, binding: &Binding) -> bool {
        let exchange = |name| self.exchanges.get(name).is_some_and(|found| found.durable);
        let destination = if binding.to_exchange {
            exchange(binding.destination)
        } else {
            self.queues.get(binding.destination).is_some_and(|queue| queue.spec.is_stored())
        };
        exchange(binding.source) && destination
    }

    /// What is left after a restart.
    pub(super) fn restarted(&self) -> World {
        let mut left = self.clone();
        left.bindings.retain(|binding| self.is_stored(binding));
        left.exchanges.retain(|_, exchange| exchange.durable);
        left.queues.retain(|_, queue| queue.spec.is_stored());
        for queue in left.queues.values_mut() {
            queue.messages.retain(|_, message| message.persistent);
        }
        left
    }
}

impl World {
    /// What there is when the messages have gone for which there is no room. Nobody holds any.
    pub(super) fn relieved(mut self) -> World {
        for name in self.queues.keys().copied().collect::<Vec<_>>() {
            let Queue { incarnation, spec, messages, .. } = &self.queues[name];
            let (incarnation, grave) = (*incarnation, spec.grave);
            let excess = self.queues[name].excess(|_| false);
            let dead: Vec<_> = excess.iter().map(|place| messages[place].clone()).collect();
            self.apply(&Effect::Acknowledge(name, incarnation, excess));
            let Some(grave) = grave else { continue };
            for message in &dead {
                let letter = letter(message, name, Reason::MaxLength, grave);
                self.apply(&Effect::Publish(self.route("", grave, &[]), letter));
            }
        }
        self
    }
}

fn matches(kind: Kind, binding: &Binding, key: &str, headers: &[(&str, &str)]) -> bool {
    match kind {
        Kind::Fanout => true,
        Kind::Direct => binding.key == key,
        Kind::Topic => {
            let (pattern, key): (Vec<_>, Vec<_>) =
                (binding.key.split('.').collect(), key.split('.').collect());
            topic_matches(&pattern, &key)
        }
        Kind::Headers => binding.wanted.as_ref().is_none_or(|wanted| {
            let mut found = wanted.headers.iter().map(|pair| headers.contains(pair));
            if wanted.all { found.all(|found| found) } else { found.any(|found| found) }
        }),
    }
}

/// `*` stands for one word, `#` for any number of them.
fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            (0..=key.len()).any(|skipped| topic_matches(rest, &key[skipped..]))
        }
        ([word, pattern @ ..], [first, key @ ..]) => {
            (*word == "*" || word == first) && topic_matches(pattern, key)
        }
        _ => false,
    }
}
