//! Where dead letters arrive.
//!
//! Letters are stored where they go and taken out of their queue in one change of the store: a crash leaves each of them in one of
//! the two.

use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;
use std::thread;

use tracing::{debug, error, warn};

use super::VirtualHost;
use super::publishing::{Refusing, persistence};
use super::together::Part;
use crate::broker::arrivals::Arrivals;
use crate::broker::copies::Copies;
use crate::broker::dead_letters::{Budget, Death, PendingSources, bury, is_cycle};
use crate::broker::queue::{Leaving, Queue, WINDOW};
use crate::broker::routing::{Effort, Matches};
use crate::broker::rules::DeadLetters;
use crate::broker::topology::Topology;
use crate::message::{Envelope, RawProperties};
use crate::storage::{Fetch, Message, StoreError, Together};

/// Letters that are carried at a time.
const BATCH: usize = 256;
/// Bytes of them, unless one alone is larger.
const BATCH_BYTES: usize = 1 << 20;

/// How often a letter that finds no room, and one that comes of that, may go on to where those go that the full queue refuses. Full
/// queues that refer to each other have as many ways for it as they can be put in orders.
const REFUSALS: usize = 256;

/// A message that leaves a queue for the queue's dead-letter exchange.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) queue: Arc<Queue>,
    pub(super) message: Message,
    pub(super) death: Death,
}

/// The reason why a dead letter is not stored in one of its target queues.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// It has no route.
    NoRoute,
    /// The target queue refuses it.
    Full(Arc<Queue>),
}

impl Obstacle {
    /// Logs that a dead letter is dropped for it.
    pub(super) fn warn(&self) {
        if let Self::Full(full) = self {
            warn!(queue = %full.name(), "a queue that is full has refused a dead letter");
        }
    }
}

/// Result of routing dead letters.
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// The first obstacle: there can be hundreds for one message.
    pub(super) obstacle: Option<Obstacle>,
    /// Whether a target queue may refuse the next dead letter.
    bounded: bool,
    /// Whether its route takes more effort than it may: nothing has been found then.
    is_put_off: bool,
}

/// What to do with a dead letter whose route takes much effort.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Costly {
    /// It stays: the caller leaves it to the carrier.
    Stays,
    /// It is routed in pieces, with the topology unlocked in between.
    InPieces,
}

impl Placement {
    fn meet(&mut self, obstacle: Obstacle) {
        self.obstacle.get_or_insert(obstacle);
    }
}

impl VirtualHost {
    /// Has the queue's dead letters carried away that there are now, by the caller: the queue is about to be deleted.
    pub(super) fn settle_dead_letters(&self, queue: &Arc<Queue>) {
        if !queue.rules().any() {
            return;
        }
        let _turn = queue.rules().details().carrying.lock();
        queue.retry_dead_letters();
        // Others that leave meanwhile go with their queue: of those there may be no end.
        let mut left = queue.letters();
        while left > 0 {
            match self.carry_batch(queue, left.min(BATCH)) {
                Ok(0) => return,
                Ok(carried) => left -= carried,
                Err(error) => {
                    warn!(queue = %queue.name(), %error, "dead letters go with their queue");
                    return;
                }
            }
        }
    }

    /// Carries a batch of the queue's dead letters to their exchange; how many: where there are none, the queue will say when there
    /// are others. Reads back those that are not in memory, so it may block. Must not be called with anything locked.
    ///
    /// # Errors
    /// The store's. What has not been carried stays in the queue.
    pub(in crate::broker) fn carry_dead_letters(
        &self,
        queue: &Arc<Queue>,
    ) -> Result<usize, StoreError> {
        // As publishers do, who are not read from meanwhile.
        if let Some(unsynced) = self.store.congested() {
            self.store.wait_durable(unsynced)?;
        }
        let _turn = queue.rules().details().carrying.lock();
        self.carry_batch(queue, BATCH)
    }

    /// Transfers the queue's dead letters for a channel, where they are few, small and in memory.
    /// Adds the target queues to `arrivals`: the caller must dispatch them. Returns `false` if dead
    /// letters are left: the caller must leave them to the carrier.
    pub(in crate::broker) fn carry_few(
        &self,
        queue: &Arc<Queue>,
        budget: &mut Budget,
        arrivals: &mut Arrivals,
    ) -> bool {
        if self.store.congested().is_some() {
            return false;
        }
        // The thread that has the turn may be reading from the disk.
        let Some(_turn) = queue.rules().details().carrying.try_lock() else { return false };
        let Some(leaving) = queue.take_few(budget) else { return false };
        self.carry(queue, leaving, Costly::Stays, arrivals).is_ok() && queue.has_carried_all()
    }

    /// Transfers so many dead letters at most. The caller has the queue's turn. Returns how many
    /// were tried.
    fn carry_batch(&self, queue: &Arc<Queue>, most: usize) -> Result<usize, StoreError> {
        let mut arrivals = Arrivals::default();
        let leaving = queue.take_leaving(most);
        let count = leaving.len();
        let outcome = self.carry(queue, leaving, Costly::InPieces, &mut arrivals);
        // Dead letters of the target queues are left to the carrier, because this turn is not over.
        arrivals.dispatch(&mut PendingSources::default());
        outcome.map(|()| count)
    }

    /// Transfers dead letters that were taken. Puts those back that cannot be stored.
    fn carry(
        &self,
        queue: &Arc<Queue>,
        leaving: Vec<Leaving>,
        costly: Costly,
        arrivals: &mut Arrivals,
    ) -> Result<(), StoreError> {
        let (mut leaving, mut held) = (VecDeque::from(leaving), Vec::new());
        let mut outcome = Ok(true);
        while let Ok(true) = outcome
            && !leaving.is_empty()
            && held.len() < WINDOW
        {
            outcome =
                self.carry_some(queue, &mut leaving, BATCH_BYTES, costly, &mut held, arrivals);
        }
        queue.hold_leaving(held);
        let is_stuck = outcome.is_err();
        queue.put_back_leaving(leaving.into(), is_stuck);
        outcome.map(drop)
    }

    /// Transfers the first of them, as many as have so many bytes together, and one at least. Adds
    /// those that have to wait for a change to `held`. Returns `false` if the first one is costly, and stays.
    fn carry_some(
        &self,
        queue: &Arc<Queue>,
        leaving: &mut VecDeque<Leaving>,
        most: usize,
        costly: Costly,
        held: &mut Vec<Leaving>,
        arrivals: &mut Arrivals,
    ) -> Result<bool, StoreError> {
        let (mut count, mut bytes) = (0, 0);
        for place in 0..leaving.len() {
            if leaving[place].message.is_none() {
                leaving[place].message = read_back(queue, leaving.range(place..))?;
            }
            bytes += leaving[place].message.as_ref().map_or(0, Message::size);
            if count > 0 && bytes > most {
                break;
            }
            count += 1;
        }
        let mut topology = self.topology.read();
        let mut matches = Matches::default();
        matches.start(Effort::Glance, u64::MAX);
        let (mut parts, mut carried, mut stay) = (Vec::new(), Vec::new(), Vec::new());
        let is_at_least_once = queue.rules().get().is_at_least_once();
        for (place, Leaving { sequence, death, message }) in leaving.iter().take(count).enumerate()
        {
            // One that cannot be read keeps its place.
            let Some(message) = message else { continue };
            let before = parts.len();
            let letter =
                Letter { queue: Arc::clone(queue), message: message.clone(), death: *death };
            let mut letters = |topology: &Topology, matches: &mut Matches| {
                self.letters(topology, [letter.clone()], matches, arrivals, &mut parts)
            };
            let mut placement = letters(&topology, &mut matches);
            while placement.is_put_off && place == 0 && costly == Costly::InPieces {
                drop(topology);
                thread::yield_now();
                topology = self.topology.read();
                matches.start(Effort::Piece, 0);
                placement = letters(&topology, &mut matches);
            }
            matches.finish();
            matches.start(Effort::Glance, u64::MAX);
            let Placement { obstacle, bounded, is_put_off } = placement;
            if is_put_off {
                // It is the first one the next time.
                count = place;
                break;
            }
            match obstacle {
                Some(obstacle) if is_at_least_once => {
                    parts.truncate(before);
                    self.await_change(queue, obstacle);
                    stay.push(place);
                }
                obstacle => {
                    obstacle.iter().for_each(Obstacle::warn);
                    carried.push(*sequence);
                    if bounded && parts.len() > before {
                        // Room for the next one is known when this one is stored.
                        count = place + 1;
                        break;
                    }
                }
            }
        }
        if count == 0 {
            return Ok(false);
        }
        carried.sort_unstable();
        let acknowledged = [(Arc::clone(queue), carried)];
        match self.store_together(&topology, &parts, &acknowledged, arrivals) {
            Ok(_) => {}
            Err(StoreError::TooLarge { .. }) if count > 1 => {
                drop(topology);
                return self.carry_some(queue, leaving, most / 2, costly, held, arrivals);
            }
            Err(error @ StoreError::TooLarge { .. }) => {
                // Of one letter several may have come. They are all there before it goes: a crash may leave it as well.
                if parts.len() > 1 {
                    self.store_one_by_one(&topology, &parts, arrivals)?;
                } else {
                    error!(queue = %queue.name(), %error, "a dead letter has become too large to be stored: it is dropped");
                }
                self.store_together(&topology, &[], &acknowledged, arrivals)?;
            }
            Err(error) => return Err(error),
        }
        drop(topology);
        let (mut arrived, mut bytes) = (0, 0);
        let mut stay = stay.into_iter().peekable();
        for (place, letter) in leaving.drain(..count).enumerate() {
            if stay.next_if_eq(&place).is_some() {
                held.push(letter);
            } else {
                arrived += 1;
                bytes += letter.message.as_ref().map_or(0, |message| message.body_len() as u64);
            }
        }
        queue.buried(arrived, bytes);
        Ok(true)
    }

    /// Has the queue notified when the obstacle may have gone. The topology must have been locked
    /// since the obstacle was found.
    fn await_change(&self, queue: &Arc<Queue>, obstacle: Obstacle) {
        match obstacle {
            Obstacle::NoRoute => self.unrouted.add(queue),
            Obstacle::Full(full) => full.add_waiting_source(queue),
        }
    }

    /// What dead letters come to, as the rules of their queues say, and those of the queues that have no room for them: added to
    /// `parts`. The first of them is routed with `matches`, and the effort that the caller has [started](Matches::start) it with; all
    /// others are routed as a whole.
    pub(super) fn letters(
        &self,
        topology: &Topology,
        letters: impl IntoIterator<Item = Letter>,
        matches: &mut Matches,
        arrivals: &mut Arrivals,
        parts: &mut Vec<Part>,
    ) -> Placement {
        let mut letters: VecDeque<Letter> = letters.into_iter().collect();
        let (mut refusals, mut placement) = (REFUSALS, Placement::default());
        let mut first = Some(matches);
        while let Some(letter) = letters.pop_front() {
            let mut others = Matches::default();
            let matches = first.take().unwrap_or(&mut others);
            let Some((part, refusing)) =
                self.letter(topology, &letter, matches, arrivals, &mut placement)
            else {
                continue;
            };
            for refusing in refusing {
                let on = refusing.dead_letters().filter(|_| refusals > 0);
                let Some(full) = on.map(Arc::clone) else {
                    placement.meet(Obstacle::Full(Arc::clone(refusing.queue())));
                    continue;
                };
                refusals -= 1;
                let (message, death) = (part.message.clone(), Death::MaxLength);
                letters.push_back(Letter { queue: full, message, death });
            }
            if !part.queues.is_empty() {
                parts.push(part);
            }
        }
        placement
    }

    /// What a dead letter of `queue` comes to, as that queue's rules say, and where it finds no room; `None`: to nothing.
    fn letter(
        &self,
        topology: &Topology,
        letter: &Letter,
        matches: &mut Matches,
        arrivals: &mut Arrivals,
        placement: &mut Placement,
    ) -> Option<(Part, Vec<Refusing>)> {
        let Letter { queue, message, death } = letter;
        let DeadLetters { exchange: to, routing_key } = queue.rules().get().dead_letters()?;
        let exchange = topology.exchanges.get(&to);
        if exchange.is_none() && !to.is_empty() {
            debug!(queue = %queue.name(), exchange = %to, "no such dead-letter exchange");
            placement.meet(Obstacle::NoRoute);
            return None;
        }
        let envelope = Envelope::parse(message.header()).ok()?;
        let time = self.store.now().unix_millis() / 1000;
        let properties =
            bury(&envelope, queue.name(), *death, time, routing_key.is_none()).to_bytes();
        let properties = RawProperties::from_checked(&properties);
        let key = routing_key.as_ref().map_or(envelope.routing_key, |key| key.as_bytes());
        // Where it keeps its key, it keeps the others too.
        let copies = properties.headers().and_then(|headers| Copies::named_by(headers).ok()?);
        let keys: Vec<_> =
            std::iter::once(key).chain(copies.iter().flat_map(Copies::keys)).collect();
        matches.clear();
        topology.route(exchange, &keys, &properties, matches);
        if matches.is_put_off() {
            placement.is_put_off = true;
            return None;
        }
        if *death != Death::Rejected {
            matches.retain_queues(|target| !is_cycle(&properties, target.name()));
        }
        if matches.queues().is_empty() {
            placement.meet(Obstacle::NoRoute);
        }
        let sorted = Self::sort_out(matches, message.body_len(), false);
        placement.bounded |= sorted.bounded;
        let timed = sorted.timed;
        let published_at = timed.then(|| arrivals.published_at(|| self.store.now()).unix_millis());
        let envelope = Envelope { exchange: &to, routing_key: key, properties, published_at };
        let message = message.with_header(envelope.to_bytes());
        let priority = properties.priority();
        let (persistence, queues) = (persistence(&envelope), matches.queues().to_vec());
        Some((Part { message, persistence, priority, queues, timed }, sorted.refusing))
    }

    /// Stores messages each by itself: they need not be there together, and each may be as large as any message.
    pub(super) fn store_one_by_one(
        &self,
        topology: &Topology,
        parts: &[Part],
        arrivals: &mut Arrivals,
    ) -> Result<Together, StoreError> {
        let mut all = Together::default();
        for part in parts {
            let part = std::slice::from_ref(part);
            let Together { durable_at, .. } = self.store_together(topology, part, &[], arrivals)?;
            all.durable_at = all.durable_at.max(durable_at);
        }
        Ok(all)
    }
}

/// The message of the first of these letters, from the log if need be; `None`: it cannot be read.
fn read_back<'l>(
    queue: &Queue,
    letters: impl Iterator<Item = &'l Leaving>,
) -> Result<Option<Message>, StoreError> {
    let mut places =
        letters.filter(|letter| letter.message.is_none()).map(|letter| letter.sequence);
    let Some(sequence) = places.next() else { return Ok(None) };
    let store = queue.store();
    let mut found = Vec::new();
    // With those that are next to it. What lies between letters is held by somebody, and would be in memory for nothing.
    let following = iter::successors(Some(sequence.next()), |place| Some(place.next()));
    let neighbours = places.zip(following).take_while(|(place, next)| place == next).count();
    // Again, if the loader has taken it out of memory meanwhile to count its bytes.
    while store.fetch(sequence, 1, &mut found) == Fetch::NeedsLoad {
        store.load_some(sequence, 1 + neighbours)?;
    }
    Ok(found.pop().filter(|found| found.sequence == sequence).map(|found| found.message))
}
