//! Clients of a broker in their own words, each step of which is noted in the broker's history.
//!
//! What a client does is noted before it is done, because the disk may be looked at in the middle of it. What it is told is
//! noted when it has been told: an answer that names an LSN after that LSN is durable, any other at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use haypile::broker::{
    Bind, Broker, Channel, ChannelNumber, Consume, DeclareExchange, DeclareQueue, Delivery,
    DeliveryTag, Event, Get, Session,
};
use haypile::message::{Envelope, FieldTable, Properties, RawProperties, ShortStr, Value};
use haypile::storage::{Body, Lsn, Message as Stored};
use parking_lot::Mutex;

use super::model::{
    Binding, Effect, Exchange, Incarnation, Message, Name, Place, QueueSpec, Wanted, World,
};
use super::oracle::{History, Position, Step, StepNumber};

/// Headers of a message.
pub(super) type Headers<'a> = &'a [(&'a str, &'a str)];

pub(super) fn short(name: &str) -> ShortStr {
    ShortStr::try_from(name).expect("the names of these tests are short")
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> FieldTable {
    entries.into_iter().map(|(name, value)| (short(name), Value::text(value))).collect()
}

pub(super) fn mode_arguments(mode: Option<&str>) -> FieldTable {
    table(mode.map(|mode| ("x-queue-mode", mode)))
}

fn wanted_arguments(wanted: Option<&Wanted>) -> FieldTable {
    let Some(Wanted { all, headers }) = wanted else { return FieldTable::new() };
    let mode = ("x-match", if *all { "all" } else { "any" });
    table(std::iter::once(mode).chain(headers.iter().copied()))
}

/// A message as a front end gives it to the broker.
pub(super) fn envelope(
    exchange: &str,
    key: &str,
    headers: Headers<'_>,
    persistent: bool,
    body: Bytes,
) -> Arc<Stored> {
    let properties = Properties {
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        headers: (!headers.is_empty()).then(|| table(headers.iter().copied())),
        ..Properties::default()
    };
    let properties = properties.to_bytes();
    let envelope = Envelope {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        properties: RawProperties::parse(&properties).expect("they were just made"),
    };
    Arc::new(Stored { header: envelope.to_bytes(), body: Body::from(body) })
}

/// Something that is there or not, and that somebody may be told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Exchange(Name),
    Queue(Name),
    Binding(Binding),
    /// Not there: what was in a queue before it was purged.
    Backlog(Name),
}

/// An answer that is on its way: what it waits for, and the step that it vouches for.
#[derive(Clone, Copy, Debug)]
#[must_use = "a client that does not look at it was told nothing"]
pub(super) struct Answer {
    durable_at: Option<Lsn>,
    vouches_for: Option<StepNumber>,
}

/// A connection's number, and one of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(pub(super) usize, pub(super) usize);

/// A message that a client holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    tag: DeliveryTag,
    queue: Name,
    incarnation: Incarnation,
    place: Place,
}

/// What a channel has not told the queues yet, by queue: handed out, and done with.
type Pending = BTreeMap<(Name, Incarnation), (Vec<Place>, Vec<Place>)>;

struct Chan {
    inner: Channel,
    confirming: bool,
    /// What each published message that is not confirmed yet vouches for.
    published: VecDeque<Option<StepNumber>>,
    /// How many were confirmed.
    confirmed: u64,
    held: VecDeque<Held>,
    pending: Pending,
    /// The last step that took something out of a durable queue.
    acknowledged: Option<StepNumber>,
    /// By tag: the queue.
    consumers: BTreeMap<&'static str, (Name, Incarnation)>,
}

struct Client {
    // Go before the session, as a connection's channels do.
    channels: Vec<Chan>,
    session: Session,
}

/// Whether a consumer of this tag wants no acknowledgements: so that it is known of a delivery whose consumer is gone.
fn is_no_ack(tag: &[u8]) -> bool {
    tag.starts_with(b"no-ack")
}

/// A broker with its clients.
pub(super) struct Clients {
    pub(super) broker: Broker,
    clients: Vec<Option<Client>>,
    world: World,
    history: History,
    now: Arc<Mutex<Position>>,
    /// When each thing that a restart brings back last came or went.
    changed: BTreeMap<Thing, StepNumber>,
    /// Messages that somebody holds, or that are done with and not written down as such.
    out: BTreeSet<(Incarnation, Place)>,
    /// The numbers of messages that were in a queue of that name and went with it.
    gone: BTreeSet<(Name, usize)>,
    owners: BTreeMap<Incarnation, usize>,
    incarnations: usize,
    messages: usize,
    /// Whether clients do what they should: not look at an answer before it is due.
    patient: bool,
}

impl Clients {
    /// A broker that was just started on a store that holds `world`, and numbers for what is new.
    pub(super) fn new(
        broker: Broker,
        world: World,
        (incarnations, messages): (usize, usize),
    ) -> Clients {
        Clients {
            broker,
            clients: Vec::new(),
            history: History::new(world.clone()),
            world,
            now: Arc::default(),
            changed: BTreeMap::new(),
            out: BTreeSet::new(),
            gone: BTreeSet::new(),
            owners: BTreeMap::new(),
            incarnations,
            messages,
            patient: true,
        }
    }

    /// From now on clients take every answer for given at once: what a front end must never do.
    pub(super) fn lose_patience(&mut self) {
        self.patient = false;
    }

    /// Where the history is, now and later.
    pub(super) fn now(&self) -> Arc<Mutex<Position>> {
        self.now.clone()
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// The next numbers, for the broker's next life.
    pub(super) fn numbers(&self) -> (usize, usize) {
        (self.incarnations, self.messages)
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Everybody's connection is gone, and the broker, without a word.
    pub(super) fn leave(self) -> History {
        self.history
    }

    // ---- What is noted ----

    fn stored(&self) -> BTreeSet<Thing> {
        let left = self.world.restarted();
        let exchanges = left.exchanges.into_keys().map(Thing::Exchange);
        let queues = left.queues.into_keys().map(Thing::Queue);
        exchanges.chain(queues).chain(left.bindings.into_iter().map(Thing::Binding)).collect()
    }

    fn note(&mut self, chains: Vec<Vec<Effect>>) -> StepNumber {
        let before = self.stored();
        for effect in chains.iter().flatten() {
            if let Effect::DeleteQueue(name, _) = effect
                && let Some(queue) = self.world.queues.get(name)
            {
                let numbers = queue.messages.values().map(|message| (*name, message.number));
                self.gone.extend(numbers);
            }
            self.world.apply(effect);
        }
        let step = self.history.note(Step(chains));
        let after = self.stored();
        for thing in before.symmetric_difference(&after) {
            self.changed.insert(thing.clone(), step);
        }
        *self.now.lock() = self.history.position();
        step
    }

    fn one(&mut self, effect: Effect) -> StepNumber {
        self.note(vec![vec![effect]])
    }

    fn answer(&self, durable_at: Option<Lsn>, thing: &Thing) -> Answer {
        Answer { durable_at, vouches_for: self.changed.get(thing).copied() }
    }

    /// The client waits for the answer, and believes it.
    pub(super) fn receive(&mut self, answer: Answer) {
        if let Some(lsn) = answer.durable_at.filter(|_| self.patient) {
            self.broker.store().wait_durable(lsn).unwrap();
        }
        if let Some(step) = answer.vouches_for {
            self.history.promise(step);
            *self.now.lock() = self.history.position();
        }
    }

    // ---- Connections ----

    pub(super) fn connect(&mut self, channels: usize) -> usize {
        let session = self.broker.connect(b"/", b"guest").unwrap();
        let channels = (1..=channels as u16).map(|number| Chan {
            inner: session.open_channel(ChannelNumber(number)),
            confirming: false,
            published: VecDeque::new(),
            confirmed: 0,
            held: VecDeque::new(),
            pending: Pending::new(),
            acknowledged: None,
            consumers: BTreeMap::new(),
        });
        let channels = channels.collect();
        self.clients.push(Some(Client { channels, session }));
        self.clients.len() - 1
    }

    /// The connections that there are.
    pub(super) fn connections(&self) -> Vec<usize> {
        (0..self.clients.len()).filter(|number| self.clients[*number].is_some()).collect()
    }

    fn chan(&mut self, At(client, channel): At) -> &mut Chan {
        let client = self.clients[client].as_mut().expect("it is connected");
        &mut client.channels[channel]
    }

    /// The connection ends, channels first; what they hold goes back, exclusive queues go.
    pub(super) fn disconnect(&mut self, client: usize) {
        while let Some(mut chan) = self.take_channel(client) {
            self.note_flush_of(&mut chan);
            for held in std::mem::take(&mut chan.held) {
                self.out.remove(&(held.incarnation, held.place));
            }
            let consumed: BTreeSet<_> =
                chan.consumers.values().map(|(name, queue)| (*name, *queue)).collect();
            let abandoned = consumed.into_iter().filter(|queue| self.is_abandoned(*queue));
            let chains: Vec<_> =
                abandoned.map(|(name, queue)| vec![Effect::DeleteQueue(name, queue)]).collect();
            if !chains.is_empty() {
                self.note(chains);
            }
            chan.inner.close();
        }
        let Client { session, .. } = self.clients[client].take().expect("it is connected");
        let owned: Vec<_> = self.owners.iter().filter(|(_, owner)| **owner == client).collect();
        let owned: BTreeSet<Incarnation> = owned.into_iter().map(|(queue, _)| *queue).collect();
        let queues = self.world.queues.iter();
        let owned = queues.filter(|(_, queue)| owned.contains(&queue.incarnation));
        let owned: Vec<_> =
            owned.map(|(name, queue)| vec![Effect::DeleteQueue(name, queue.incarnation)]).collect();
        if !owned.is_empty() {
            self.note(owned);
        }
        session.close();
    }

    fn take_channel(&mut self, client: usize) -> Option<Chan> {
        self.clients[client].as_mut().expect("it is connected").channels.pop()
    }

    /// Whether an auto-delete queue has lost its last consumer.
    fn is_abandoned(&self, (name, incarnation): (Name, Incarnation)) -> bool {
        let queue = self.world.queues.get(name).filter(|queue| queue.incarnation == incarnation);
        let mut consumers = self.clients.iter().flatten().flat_map(|client| &client.channels);
        queue.is_some_and(|queue| queue.spec.auto_delete)
            && !consumers
                .any(|chan| chan.consumers.values().any(|(_, other)| *other == incarnation))
    }

    // ---- Topology ----

    pub(super) fn declare_exchange(&mut self, at: At, name: Name, exchange: Exchange) -> Answer {
        let known = self.world.exchanges.get(name).copied();
        if known.is_none() {
            self.one(Effect::DeclareExchange(name, exchange));
        }
        let request = DeclareExchange {
            name: short(name),
            kind: short(exchange.kind.name()),
            passive: false,
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: FieldTable::new(),
        };
        let outcome = self.chan(at).inner.declare_exchange(&request);
        if known.is_some_and(|known| known != exchange) {
            assert_eq!(outcome.unwrap_err().code(), 406, "exchange {name}");
            return Answer { durable_at: None, vouches_for: None };
        }
        self.answer(outcome.unwrap(), &Thing::Exchange(name))
    }

    pub(super) fn delete_exchange(&mut self, at: At, name: Name) -> Answer {
        if self.world.exchanges.contains_key(name) {
            self.one(Effect::DeleteExchange(name));
        }
        let durable_at = self.chan(at).inner.delete_exchange(name.as_bytes(), false).unwrap();
        self.answer(durable_at, &Thing::Exchange(name))
    }

    pub(super) fn declare_queue(&mut self, at: At, name: Name, spec: QueueSpec) -> Answer {
        let known = self.world.queues.get(name).map(|queue| (queue.incarnation, queue.spec));
        let owner = known.and_then(|(queue, _)| self.owners.get(&queue)).copied();
        if known.is_none() {
            self.incarnations += 1;
            let incarnation = Incarnation(self.incarnations);
            if spec.exclusive {
                self.owners.insert(incarnation, at.0);
            }
            self.one(Effect::DeclareQueue(name, incarnation, spec));
        }
        let request = DeclareQueue {
            name: short(name),
            passive: false,
            durable: spec.durable,
            exclusive: spec.exclusive,
            auto_delete: spec.auto_delete,
            arguments: mode_arguments(spec.mode),
        };
        let outcome = self.chan(at).inner.declare_queue(&request);
        if let Some((_, known)) = known {
            let locked = owner != spec.exclusive.then_some(at.0);
            if locked || known != spec {
                let code = if locked { 405 } else { 406 };
                assert_eq!(outcome.unwrap_err().code(), code, "queue {name}");
                return Answer { durable_at: None, vouches_for: None };
            }
        }
        self.answer(outcome.unwrap().durable_at, &Thing::Queue(name))
    }

    /// Whether a client may use a queue: it is there, and nobody else's.
    pub(super) fn may_use(&self, at: At, name: Name) -> bool {
        let owner = |queue: Incarnation| self.owners.get(&queue).copied();
        let queue = self.world.queues.get(name);
        queue.is_some_and(|queue| owner(queue.incarnation).is_none_or(|owner| owner == at.0))
    }

    pub(super) fn delete_queue(&mut self, at: At, name: Name) -> Answer {
        self.note_flush(at);
        if let Some(queue) = self.world.queues.get(name) {
            let incarnation = queue.incarnation;
            self.one(Effect::DeleteQueue(name, incarnation));
            self.out.retain(|(queue, _)| *queue != incarnation);
            let chans = self.clients.iter_mut().flatten().flat_map(|client| &mut client.channels);
            chans.for_each(|chan| chan.consumers.retain(|_, (_, queue)| *queue != incarnation));
        }
        let deleted = self.chan(at).inner.delete_queue(name.as_bytes(), false, false).unwrap();
        self.answer(deleted.durable_at, &Thing::Queue(name))
    }

    fn bind_request(binding: &Binding) -> Bind {
        Bind {
            source: short(binding.source),
            kind: binding.kind(),
            destination: short(binding.destination),
            routing_key: short(binding.key),
            arguments: wanted_arguments(binding.wanted.as_ref()),
        }
    }

    /// Whether both ends of a binding are there, and may be bound by this client.
    pub(super) fn may_bind(&self, at: At, binding: &Binding) -> bool {
        let exchange = |name| self.world.exchanges.contains_key(name);
        exchange(binding.source)
            && if binding.to_exchange {
                exchange(binding.destination)
            } else {
                self.may_use(at, binding.destination)
            }
    }

    pub(super) fn bind(&mut self, at: At, binding: &Binding) -> Answer {
        assert!(self.may_bind(at, binding), "{binding:?}");
        if !self.world.bindings.contains(binding) {
            self.one(Effect::Bind(binding.clone()));
        }
        let durable_at = self.chan(at).inner.bind(&Self::bind_request(binding)).unwrap();
        self.answer(durable_at, &Thing::Binding(binding.clone()))
    }

    pub(super) fn unbind(&mut self, at: At, binding: &Binding) -> Answer {
        if self.world.bindings.contains(binding) {
            self.one(Effect::Unbind(binding.clone()));
        }
        let durable_at = self.chan(at).inner.unbind(&Self::bind_request(binding)).unwrap();
        self.answer(durable_at, &Thing::Binding(binding.clone()))
    }

    /// Takes everybody's deliveries first, so that what is left is ready.
    pub(super) fn purge(&mut self, at: At, name: Name) -> Answer {
        self.take_all();
        let queue = &self.world.queues[name];
        let incarnation = queue.incarnation;
        let ready =
            queue.messages.keys().filter(|place| !self.out.contains(&(incarnation, **place)));
        let ready: Vec<Place> = ready.copied().collect();
        let count = ready.len();
        let stored =
            queue.spec.is_stored() && ready.iter().any(|place| queue.messages[place].persistent);
        if count > 0 {
            let step = self.one(Effect::Acknowledge(name, incarnation, ready));
            if stored {
                self.changed.insert(Thing::Backlog(name), step);
            }
        }
        let purged = self.chan(at).inner.purge_queue(name.as_bytes()).unwrap();
        assert_eq!(purged.messages as usize, count, "ready in {name}");
        self.answer(purged.durable_at, &Thing::Backlog(name))
    }

    // ---- Publishing ----

    pub(super) fn confirm_select(&mut self, at: At) {
        let chan = self.chan(at);
        chan.confirming = true;
        chan.inner.confirm_select();
    }

    /// Publishes a message of so many bytes at least; the exchange must be there, and not internal.
    pub(super) fn publish(
        &mut self,
        at: At,
        (exchange, key): (Name, &str),
        headers: Headers<'_>,
        persistent: bool,
        size: usize,
    ) {
        if self.chan(at).confirming {
            // A confirm vouches for what was acknowledged before.
            self.note_flush(at);
        }
        self.messages += 1;
        let number = self.messages;
        let mut body = format!("{number}:").into_bytes();
        body.extend((body.len()..size).map(|at| (at * 7 + number) as u8));
        let stored = envelope(exchange, key, headers, persistent, body.into());
        let message = Message {
            number,
            header: stored.header.clone(),
            body: stored.body.to_bytes(),
            persistent,
            redelivered: false,
        };
        let queues = self.world.route(exchange, key, headers);
        let is_stored = |name: &Name| self.world.queues[name].spec.is_stored();
        let lasts = persistent && queues.iter().any(is_stored);
        let count = queues.len();
        let step = (count > 0).then(|| self.one(Effect::Publish(queues, message)));
        let vouches_for = step.filter(|_| lasts).or(self.chan(at).acknowledged);
        let chan = self.chan(at);
        let published = chan.inner.publish(&stored).unwrap();
        assert_eq!(published.queues, count, "queues of {exchange} {key}");
        if chan.confirming {
            chan.published.push_back(vouches_for);
        }
    }

    /// Takes the confirms that are due.
    pub(super) fn take_confirms(&mut self, at: At) {
        let durable = if self.patient { self.broker.store().durable_lsn() } else { Lsn::MAX };
        let chan = self.chan(at);
        let Some(confirm) = chan.inner.confirms(durable) else { return };
        let count = (confirm.tag.0 - chan.confirmed) as usize;
        assert_eq!(confirm.multiple, count > 1);
        chan.confirmed = confirm.tag.0;
        let vouched_for: Vec<_> = chan.published.drain(..count).flatten().collect();
        vouched_for.into_iter().for_each(|step| self.history.promise(step));
        *self.now.lock() = self.history.position();
    }

    /// Waits for all confirms.
    pub(super) fn await_confirms(&mut self, at: At) {
        while let Some(lsn) = self.chan(at).inner.awaited_lsn() {
            if self.patient {
                self.broker.store().wait_durable(lsn).unwrap();
            }
            self.take_confirms(at);
        }
        self.take_confirms(at);
        assert!(self.chan(at).published.is_empty(), "all are confirmed");
    }

    // ---- Consuming ----

    /// Without acknowledgements if its tag [says so](is_no_ack).
    pub(super) fn consume(&mut self, at: At, name: Name, tag: &'static str, prefetch: u16) {
        if self.chan(at).consumers.contains_key(tag) {
            return;
        }
        let incarnation = self.world.queues[name].incarnation;
        let request = Consume {
            queue: short(name),
            consumer_tag: short(tag),
            no_ack: is_no_ack(tag.as_bytes()),
            exclusive: false,
            arguments: FieldTable::new(),
        };
        let chan = self.chan(at);
        // A consumer of a queue that was deleted is known until its cancellation has been taken.
        chan.inner.forget_consumer(tag.as_bytes());
        chan.inner.qos(0, prefetch, false).unwrap();
        chan.inner.consume(&request).unwrap();
        chan.consumers.insert(tag, (name, incarnation));
    }

    pub(super) fn cancel(&mut self, at: At, tag: &'static str) {
        let Some((name, incarnation)) = self.chan(at).consumers.remove(tag) else { return };
        self.note_flush(at);
        if self.is_abandoned((name, incarnation)) {
            self.one(Effect::DeleteQueue(name, incarnation));
        }
        self.chan(at).inner.cancel(tag.as_bytes()).unwrap();
    }

    /// Asks for one message, and waits for the answer.
    pub(super) fn get(&mut self, at: At, name: Name) {
        match self.chan(at).inner.get(name.as_bytes(), false).unwrap() {
            Get::Message(delivery, _) => self.accept(at, delivery),
            Get::Empty => {}
            // The answer is among what it takes next.
            Get::Pending => {
                self.take(at.0);
            }
        }
    }

    /// What a store with threads of its own does from time to time.
    pub(super) fn look_after(&mut self, thoroughly: bool) {
        let store = self.broker.store();
        if thoroughly {
            store.compact().unwrap();
        } else {
            store.checkpoint().unwrap();
        }
    }

    /// Takes a client's deliveries as they are now; whether there were any.
    pub(super) fn take(&mut self, client: usize) -> bool {
        self.broker.read_back();
        let mut events = Vec::new();
        let Some(found) = &self.clients[client] else { return false };
        found.session.take_events(&mut events, usize::MAX);
        let any = !events.is_empty();
        for event in events {
            let at = At(client, usize::from(event.channel().0) - 1);
            match event {
                Event::Delivery { delivery, .. } => self.accept(at, delivery),
                Event::ConsumerCancelled { consumer_tag, .. } => {
                    self.chan(at).inner.forget_consumer(&consumer_tag);
                }
                Event::Got { message, .. } => {
                    message.into_iter().for_each(|(delivery, _)| self.accept(at, delivery));
                }
                Event::GetRefused { .. } => panic!("{event:?}"),
            }
        }
        any
    }

    /// Takes everybody's deliveries until there are none.
    pub(super) fn take_all(&mut self) {
        let mut any = true;
        while std::mem::take(&mut any) {
            any |= self.broker.read_back();
            for client in self.connections() {
                any |= self.take(client);
            }
        }
    }

    /// A delivery has to be one of the queue's messages, that nobody has, with the right flag.
    fn accept(&mut self, at: At, delivery: Delivery) {
        let body = delivery.message().body.to_bytes();
        let digits = body.split(|byte| *byte == b':').next().expect("there is a first part");
        let number: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
        let (queue, flag) = (delivery.queue().clone(), delivery.redelivered());
        let no_ack = is_no_ack(delivery.consumer_tag());
        let header = delivery.message().header.clone();
        let tag = self.chan(at).inner.accept(delivery);
        let known = self.world.queues.iter().find(|(name, _)| name.as_bytes() == queue.as_bytes());
        let found = known.and_then(|(name, queue)| {
            let place = queue.messages.iter().find(|(_, message)| message.number == number);
            place.map(|(place, message)| (*name, queue.incarnation, *place, message))
        });
        let Some((name, incarnation, place, message)) = found else {
            // It was in the outbox when its queue was deleted.
            let gone = self
                .gone
                .iter()
                .any(|(name, other)| *other == number && name.as_bytes() == queue.as_bytes());
            assert!(gone, "queue {queue} has no message {number}");
            let stale = Held { tag, queue: "", incarnation: Incarnation(0), place: Place(0) };
            if !no_ack {
                self.chan(at).held.push_back(stale);
            }
            return;
        };
        assert_eq!((&message.header, &message.body), (&header, &body), "message {number} altered");
        assert_eq!(message.redelivered, flag, "message {number} of {name}");
        assert!(self.out.insert((incarnation, place)), "message {number} is handed out twice");
        let chan = self.chan(at);
        let (handed_out, done) = chan.pending.entry((name, incarnation)).or_default();
        if no_ack {
            done.push(place);
        } else {
            handed_out.push(place);
            chan.held.push_back(Held { tag, queue: name, incarnation, place });
        }
    }

    /// How many messages a channel holds.
    pub(super) fn holds(&mut self, at: At) -> usize {
        self.chan(at).held.len()
    }

    /// Takes the `nth` of the messages that are held out of them, and with `multiple` all before it.
    fn take_held(&mut self, at: At, nth: usize, multiple: bool) -> (DeliveryTag, Vec<Held>) {
        let held = &mut self.chan(at).held;
        let tag = held[nth].tag;
        let first = if multiple { 0 } else { nth };
        (tag, held.drain(first..=nth).collect())
    }

    /// Acknowledges the `nth` message that the channel holds, or rejects it for good.
    pub(super) fn acknowledge(&mut self, at: At, nth: usize, multiple: bool, rejecting: bool) {
        let (tag, held) = self.take_held(at, nth, multiple);
        let chan = self.chan(at);
        for Held { queue, incarnation, place, .. } in held {
            if !queue.is_empty() {
                chan.pending.entry((queue, incarnation)).or_default().1.push(place);
            }
        }
        if rejecting {
            chan.inner.nack(tag, multiple, false).unwrap();
        } else {
            chan.inner.ack(tag, multiple).unwrap();
        }
    }

    /// Returns the `nth` message that the channel holds.
    pub(super) fn requeue(&mut self, at: At, nth: usize, multiple: bool) {
        self.note_flush(at);
        let (tag, held) = self.take_held(at, nth, multiple);
        for Held { incarnation, place, .. } in held {
            self.out.remove(&(incarnation, place));
        }
        self.chan(at).inner.nack(tag, multiple, true).unwrap();
    }

    /// Tells the queues what was taken and acknowledged, as a front end does after each batch.
    pub(super) fn flush(&mut self, at: At) {
        self.note_flush(at);
        self.chan(at).inner.flush().unwrap();
    }

    fn note_flush(&mut self, At(client, channel): At) {
        let mut client_taken = self.clients[client].take().expect("it is connected");
        self.note_flush_of(&mut client_taken.channels[channel]);
        self.clients[client] = Some(client_taken);
    }

    fn note_flush_of(&mut self, chan: &mut Chan) {
        let mut chains = Vec::new();
        let mut acknowledges = false;
        for ((name, incarnation), (handed_out, done)) in std::mem::take(&mut chan.pending) {
            let Some(queue) = self.world.queues.get(name) else { continue };
            if queue.incarnation != incarnation {
                continue;
            }
            let lasts = |place: &Place| queue.messages.get(place).is_some_and(|m| m.persistent);
            acknowledges |= queue.spec.is_stored() && done.iter().any(lasts);
            for place in &done {
                self.out.remove(&(incarnation, *place));
            }
            let effects = [
                (!handed_out.is_empty()).then(|| Effect::HandOut(name, incarnation, handed_out)),
                (!done.is_empty()).then(|| Effect::Acknowledge(name, incarnation, done)),
            ];
            chains.push(effects.into_iter().flatten().collect());
        }
        if chains.is_empty() {
            return;
        }
        let step = self.note(chains);
        if acknowledges {
            chan.acknowledged = Some(step);
        }
    }
}
