//! Publishing: a message is routed, and stored in the queues that it goes to.
//!
//! Most messages are stored as they came, in queues that ask for nothing. What is out of the ordinary goes the longer ways
//! below, which cost the others a look at a flag.

use std::sync::Arc;

use bytes::Bytes;

use super::dead_lettering::{Letter, Obstacle};
use super::together::Part;
use super::{Refusal, VirtualHost};
use crate::broker::arrivals::Arrivals;
use crate::broker::copies::Copies;
use crate::broker::dead_letters::Death;
use crate::broker::exchange::Exchange;
use crate::broker::outbox::Wakers;
use crate::broker::promises::{Publisher, Wishes, check_properties};
use crate::broker::queue::Queue;
use crate::broker::refusal::Reason;
use crate::broker::routing::Matches;
use crate::broker::rules::Overflow;
use crate::broker::topology::Topology;
use crate::message::{DeliveryMode, Envelope, RawProperties};
use crate::storage::{Appended, Draft, Lsn, Persistence, StoreError};

/// Where a published message went.
#[derive(Debug, Default)]
pub(in crate::broker) struct Routed {
    /// Those that refused it included.
    pub(in crate::broker) queues: usize,
    /// Whether one of them had no room for it.
    pub(in crate::broker) refused: bool,
    /// Whether one of them may have no room for the next, unless it hands out this one before.
    pub(in crate::broker) bounded: bool,
    /// The channels that got it as a direct reply.
    pub(in crate::broker) replies: usize,
    pub(in crate::broker) durable_at: Option<Lsn>,
    /// Nothing has been done, because its keys have to be looked up for longer than may be now.
    pub(in crate::broker) is_put_off: bool,
    /// Its properties, where they are not those that it was published with.
    pub(in crate::broker) rewritten: Option<Bytes>,
}

impl Routed {
    /// A message that must be published again.
    fn put_off() -> Self {
        Self { is_put_off: true, ..Self::default() }
    }
}

/// What is to be known of a message before it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nature {
    /// It has a header of its own making, and not the one that its envelope would have.
    pub(super) altered: bool,
    /// It has an expiration.
    pub(super) expires: bool,
}

/// What a message that has been routed has come to.
pub(super) struct Sorted {
    /// How many queues it was routed to.
    queues: usize,
    /// It has to know its time.
    pub(super) timed: bool,
    /// One of them may refuse the next one.
    pub(super) bounded: bool,
    pub(super) refusing: Vec<Refusing>,
}

/// A queue that has no room for a message.
pub(super) struct Refusing {
    queue: Arc<Queue>,
    overflow: Overflow,
}

impl Refusing {
    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The queue, if the message is to be dead-lettered.
    pub(super) fn dead_letters(&self) -> Option<&Arc<Queue>> {
        (self.overflow == Overflow::RejectPublishAndDeadLetter).then_some(&self.queue)
    }
}

impl VirtualHost {
    /// Routes a message, and stores it in its queues, which `matches` has afterwards; one that is a direct reply is delivered.
    /// It may be put off instead: `matches` knows with what effort to route.
    pub(in crate::broker) fn publish(
        &self,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        publisher: Publisher<'_>,
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Routed, Refusal> {
        let routed = self.store_routed(envelope, message, publisher, arrivals, matches)?;
        if routed.is_put_off || matches.replies().is_empty() {
            return Ok(routed);
        }
        Ok(self.reply(envelope, message, routed, arrivals, matches))
    }

    /// Routes a message, and stores it in its queues.
    fn store_routed(
        &self,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        publisher: Publisher<'_>,
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Routed, Refusal> {
        matches.clear();
        // Locked until the message is stored, so that no queue is deleted between routing and storing.
        let topology = self.topology.read();
        let exchange = self.publishing_to(&topology, envelope.exchange)?;
        let Envelope { routing_key, properties, .. } = envelope;
        if let Some(wishes) = check_properties(properties, publisher)? {
            let to = (&*topology, exchange);
            return Ok(self.store_altered(to, envelope, message, &wishes, arrivals, matches)?);
        }
        topology.route(exchange, &[routing_key], properties, matches);
        if matches.is_put_off() {
            return Ok(Routed::put_off());
        }
        Ok(self.store(&topology, envelope, message, Nature::default(), arrivals, matches)?)
    }

    /// The same for a message that has more keys than its own, expires, or is not stored as it is.
    #[cold]
    fn store_altered(
        &self,
        (topology, exchange): (&Topology, Option<&Exchange>),
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        wishes: &Wishes<'_>,
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Routed, StoreError> {
        let copies = wishes.copies.iter().flat_map(Copies::keys);
        let keys: Vec<_> = std::iter::once(envelope.routing_key).chain(copies).collect();
        let nature = Nature { altered: false, expires: wishes.expires };
        let Some(rewritten) = wishes.rewrite(&envelope.properties) else {
            topology.route(exchange, &keys, &envelope.properties, matches);
            if matches.is_put_off() {
                return Ok(Routed::put_off());
            }
            return self.store(topology, envelope, message, nature, arrivals, matches);
        };
        let properties = RawProperties::from_checked(&rewritten);
        topology.route(exchange, &keys, &properties, matches);
        if matches.is_put_off() {
            return Ok(Routed::put_off());
        }
        let envelope = Envelope { properties, ..*envelope };
        let nature = Nature { altered: true, ..nature };
        let routed = self.store(topology, &envelope, message, nature, arrivals, matches)?;
        Ok(Routed { rewritten: Some(rewritten), ..routed })
    }

    /// Sends a message to the channels that await it as a direct reply, or has it sent later.
    #[cold]
    pub(super) fn reply(
        &self,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        mut routed: Routed,
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Routed {
        let mut message = message.to_message();
        if let Some(rewritten) = &routed.rewritten {
            let properties = RawProperties::from_checked(rewritten);
            message = message.with_header(Envelope { properties, ..*envelope }.to_bytes());
        }
        let mut wakers = Wakers::default();
        for address in matches.replies() {
            let sent = if !arrivals.holds_replies {
                self.replies.deliver(address, &message, &mut wakers)
            } else if self.replies.admits(address) {
                arrivals.hold_reply(address, &message);
                true
            } else {
                false
            };
            routed.replies += usize::from(sent);
        }
        wakers.wake();
        routed
    }

    /// The exchange of that name, for clients to publish to; `None` for the default one.
    pub(super) fn publishing_to<'t>(
        &self,
        topology: &'t Topology,
        name: &[u8],
    ) -> Result<Option<&'t Exchange>, Refusal> {
        if name.is_empty() {
            return Ok(None);
        }
        let exchange = topology.exchanges.get(name);
        let exchange = exchange.ok_or_else(|| Self::missing(&self.exchange_label(name)))?;
        if exchange.spec.internal {
            return Err(Refusal::new(
                Reason::AccessRefused,
                format_args!("cannot publish to internal {}", self.exchange_label(name)),
            ));
        }
        Ok(Some(exchange))
    }

    /// Stores a message in the queues that it was routed to, as far as they take it.
    pub(super) fn store(
        &self,
        topology: &Topology,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        nature: Nature,
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Routed, StoreError> {
        let Nature { altered, expires } = nature;
        if !altered && !expires && !matches.queues().iter().any(|queue| queue.rules().any()) {
            return self.append(envelope, message, matches);
        }
        self.store_by_rules(topology, envelope, message, nature, arrivals, matches)
    }

    /// The same where a queue has rules, or the message needs another header than it came with.
    #[cold]
    fn store_by_rules(
        &self,
        topology: &Topology,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        nature: Nature,
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Routed, StoreError> {
        let body = message.body_len();
        let Sorted { queues, timed, bounded, refusing } =
            Self::sort_out(matches, body, nature.expires);
        let published_at = timed.then(|| arrivals.published_at(|| self.store.now()).unix_millis());
        let envelope = Envelope { published_at, ..*envelope };
        let stored = matches.queues().iter().map(Arc::clone).collect::<Vec<_>>();
        if nature.expires {
            stored.iter().for_each(|queue| queue.note_expiration());
        }
        let refused = !refusing.is_empty();
        let routed = Routed { queues, refused, bounded, ..Routed::default() };
        if refusing.iter().any(|refusing| refusing.dead_letters().is_some()) {
            let message = message.to_message().with_header(envelope.to_bytes());
            let (persistence, priority) = (persistence(&envelope), envelope.properties.priority());
            let part = Part { message, persistence, priority, queues: stored, timed };
            let durable_at = self.store_refused(topology, part, &refusing, arrivals)?;
            return Ok(Routed { durable_at, ..routed });
        }
        let appended = if nature.altered || timed {
            under_header(message, envelope.to_bytes(), |message| {
                self.append(&envelope, message, matches)
            })
        } else {
            self.append(&envelope, message, matches)
        };
        let durable_at = appended?.durable_at;
        Self::note_stored(&stored, body, timed);
        Ok(Routed { durable_at, ..routed })
    }

    /// Stores a message in the queues that take it, and where it goes from those that refuse it: all of it, or nothing if it cannot
    /// be stored, for then it may be published again.
    fn store_refused(
        &self,
        topology: &Topology,
        part: Part,
        refusing: &[Refusing],
        arrivals: &mut Arrivals,
    ) -> Result<Option<Lsn>, StoreError> {
        let full = refusing.iter().filter_map(Refusing::dead_letters).map(Arc::clone);
        let (message, death) = (part.message.clone(), Death::MaxLength);
        let letters = full.map(|queue| Letter { queue, message: message.clone(), death });
        let mut parts = vec![part];
        let placement =
            self.letters(topology, letters, &mut Matches::default(), arrivals, &mut parts);
        placement.obstacle.iter().for_each(Obstacle::warn);
        let together = match self.store_together(topology, &parts, &[], arrivals) {
            Err(StoreError::TooLarge { .. }) => self.store_one_by_one(topology, &parts, arrivals),
            other => other,
        };
        Ok(together?.durable_at)
    }

    /// Leaves those queues in `matches` that take a message with such a body. `expires`: whether it does so by itself.
    pub(super) fn sort_out(matches: &mut Matches, body: usize, expires: bool) -> Sorted {
        let queues = matches.queues().len();
        let mut sorted = Sorted { queues, timed: expires, bounded: false, refusing: Vec::new() };
        matches.retain_queues(|queue| {
            if !queue.rules().any() {
                return true;
            }
            let rules = queue.rules().get();
            sorted.timed |= rules.message_ttl.is_some();
            sorted.bounded |= rules.can_refuse();
            let refuses = queue.refuses(&rules, body);
            if refuses {
                let (queue, overflow) = (Arc::clone(queue), rules.overflow());
                sorted.refusing.push(Refusing { queue, overflow });
            }
            !refuses
        });
        sorted
    }

    /// A message with a body of so many bytes, which may expire or not, has been stored in these queues.
    pub(super) fn note_stored(queues: &[Arc<Queue>], body: usize, timed: bool) {
        for queue in queues {
            queue.more_ready(body);
            if timed {
                queue.note_timed();
            }
        }
    }

    /// Stores a message in the queues that it was routed to.
    fn append(
        &self,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        matches: &mut Matches,
    ) -> Result<Routed, StoreError> {
        let persistence = persistence(envelope);
        let queues = matches.queues();
        let priority = || envelope.properties.priority();
        let Appended { durable_at } = match queues {
            [] => return Ok(Routed::default()),
            [queue] => {
                let receiver = queue.store().receiver(&self.store, priority)?;
                self.store.append(message, persistence, &[receiver])?
            }
            many => {
                let queues = many.iter();
                let receivers = queues.map(|queue| queue.store().receiver(&self.store, priority));
                let receivers = receivers.collect::<Result<Vec<_>, _>>()?;
                self.store.append(message, persistence, &receivers)?
            }
        };
        queues.iter().for_each(|queue| queue.store().note_arrival(priority));
        Ok(Routed { queues: queues.len(), durable_at, ..Routed::default() })
    }
}

/// Whether a message is to survive a restart.
pub(super) fn persistence(envelope: &Envelope<'_>) -> Persistence {
    match envelope.properties.delivery_mode() {
        DeliveryMode::Persistent => Persistence::Durable,
        DeliveryMode::Transient => Persistence::Transient,
    }
}

/// The message with another header.
fn under_header<R>(message: Draft<'_>, header: Bytes, then: impl FnOnce(Draft<'_>) -> R) -> R {
    match message {
        Draft::Whole(message) => then(Draft::Whole(&message.with_header(header))),
        Draft::Pieces { body, memory, .. } => {
            then(Draft::Pieces { header: &[&header[..]], body, memory })
        }
    }
}
