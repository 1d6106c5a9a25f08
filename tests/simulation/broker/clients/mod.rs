//! Clients of a broker in their own words, each step of which is noted in the broker's history.
//!
//! What a client does is noted before it is done, because the disk may be looked at in the middle of it. What it is told is
//! noted when it has been told: an answer that names an LSN after that LSN is durable, any other at once.

mod burying;
mod consuming;
mod publishing;
mod topology;
mod transacting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use haypile::broker::{Broker, Channel, ChannelNumber, DeliveryTag, Session};
use haypile::message::{Envelope, FieldTable, Properties, RawProperties, ShortStr, Value};
use haypile::storage::{Lsn, Message as Stored};
use parking_lot::Mutex;

use super::letters::Reason;
use super::model::{Binding, COPY, Effect, Incarnation, Name, Place, QueueSpec, Wanted, World};
use super::oracle::{History, Position, Step, StepNumber};

pub(super) use publishing::Publish;

/// Headers of a message.
pub(super) type Headers<'a> = &'a [(&'a str, &'a str)];

pub(super) fn short(name: &str) -> ShortStr {
    ShortStr::try_from(name).expect("the names of these tests are short")
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> FieldTable {
    entries.into_iter().map(|(name, value)| (short(name), Value::text(value))).collect()
}

pub(super) fn queue_arguments(spec: &QueueSpec) -> FieldTable {
    let mode = spec.mode.map(|mode| (short("x-queue-mode"), Value::text(mode)));
    let max = Some(spec.max_priority).filter(|max| *max > 0);
    let max = max.map(|max| (short("x-max-priority"), Value::U8(max)));
    let grave = spec.grave.into_iter().flat_map(|grave| {
        let exchange = (short("x-dead-letter-exchange"), Value::text(""));
        [exchange, (short("x-dead-letter-routing-key"), Value::text(grave))]
    });
    let most = spec.max_length.and_then(|most| i32::try_from(most).ok());
    let most = most.map(|most| (short("x-max-length"), Value::I32(most)));
    mode.into_iter().chain(max).chain(grave).chain(most).collect()
}

pub(super) fn alternate_arguments(alternate: Option<&str>) -> FieldTable {
    table(alternate.map(|name| ("alternate-exchange", name)))
}

fn wanted_arguments(wanted: Option<&Wanted>) -> FieldTable {
    let Some(Wanted { all, headers }) = wanted else { return FieldTable::new() };
    let mode = ("x-match", if *all { "all" } else { "any" });
    table(std::iter::once(mode).chain(headers.iter().copied()))
}

/// The headers of a message: all are texts, but the one that names a routing key is an array of it.
fn message_headers(headers: Headers<'_>) -> FieldTable {
    let value = |(name, value): &(&str, &str)| {
        let text = Value::text(value);
        (short(name), if *name == COPY { Value::Array(vec![text]) } else { text })
    };
    headers.iter().map(value).collect()
}

/// A message as a front end gives it to the broker.
pub(super) fn envelope(
    exchange: &str,
    key: &str,
    headers: Headers<'_>,
    persistent: bool,
    priority: u8,
    body: Bytes,
) -> Stored {
    let properties = Properties {
        priority: (priority > 0).then_some(priority),
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        headers: (!headers.is_empty()).then(|| message_headers(headers)),
        ..Properties::default()
    };
    let properties = properties.to_bytes();
    let envelope = Envelope {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        properties: RawProperties::parse(&properties).expect("they were just made"),
        published_at: None,
    };
    Stored::new(envelope.to_bytes(), body)
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

/// What a channel has not told a queue yet.
#[derive(Debug, Default)]
struct Untold {
    handed_out: Vec<Place>,
    /// Acknowledged, or rejected where that is the same.
    done: Vec<Place>,
    /// Rejected, where the queue has rules.
    rejected: Vec<Place>,
}

/// What a channel has not told the queues yet.
type Pending = BTreeMap<(Name, Incarnation), Untold>;

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
    /// Messages on their way to the dead-letter exchange of their queue, in order. They are out, too.
    leaving: BTreeMap<(Name, Incarnation), Vec<(Place, Reason)>>,
    /// Dead letters have been noted as carried, and the carrier may still have some of them.
    burying: bool,
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
            leaving: BTreeMap::new(),
            burying: false,
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
            let relieves = self.drop_excess();
            let consumed: BTreeSet<_> =
                chan.consumers.values().map(|(name, queue)| (*name, *queue)).collect();
            let abandoned: Vec<_> =
                consumed.into_iter().filter(|queue| self.is_abandoned(*queue)).collect();
            let chains: Vec<_> = abandoned.into_iter().map(|queue| self.deletion(queue)).collect();
            if !chains.is_empty() {
                self.note(chains);
            }
            chan.inner.close();
            if relieves {
                self.relieve();
            }
        }
        let Client { session, .. } = self.clients[client].take().expect("it is connected");
        let owned: Vec<_> = self.owners.iter().filter(|(_, owner)| **owner == client).collect();
        let owned: BTreeSet<Incarnation> = owned.into_iter().map(|(queue, _)| *queue).collect();
        let queues = self.world.queues.iter();
        let owned = queues.filter(|(_, queue)| owned.contains(&queue.incarnation));
        let owned: Vec<_> = owned.map(|(name, queue)| (*name, queue.incarnation)).collect();
        let owned: Vec<_> = owned.into_iter().map(|queue| self.deletion(queue)).collect();
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

    fn note_flush(&mut self, At(client, channel): At) {
        let mut client_taken = self.clients[client].take().expect("it is connected");
        self.note_flush_of(&mut client_taken.channels[channel]);
        self.clients[client] = Some(client_taken);
    }

    fn note_flush_of(&mut self, chan: &mut Chan) {
        let mut chains = Vec::new();
        let mut acknowledges = false;
        for ((name, incarnation), untold) in std::mem::take(&mut chan.pending) {
            let Untold { handed_out, done, rejected } = untold;
            let Some(queue) = self.world.queues.get(name) else { continue };
            if queue.incarnation != incarnation {
                continue;
            }
            let lasts = |place: &Place| queue.messages.get(place).is_some_and(|m| m.persistent);
            acknowledges |= queue.spec.is_stored() && done.iter().any(lasts);
            for place in &done {
                self.out.remove(&(incarnation, *place));
            }
            let handed_out = Place::by_rank(handed_out).into_iter();
            let handed_out = handed_out.map(|places| Effect::HandOut(name, incarnation, places));
            let done = Place::by_rank(done).into_iter();
            let done = done.map(|places| Effect::Acknowledge(name, incarnation, places));
            let mut chain: Vec<_> = handed_out.chain(done).collect();
            if !rejected.is_empty() {
                let gone = self.discard((name, incarnation), rejected, Reason::Rejected);
                chain.extend(gone);
            }
            chains.push(chain);
        }
        if chains.is_empty() {
            return;
        }
        let step = self.note(chains);
        if acknowledges {
            chan.acknowledged = Some(step);
        }
        self.note_burials();
        if self.burying {
            // Before anything else of what its channel does now.
            chan.inner.flush().unwrap();
            self.end_burials();
        }
    }
}
