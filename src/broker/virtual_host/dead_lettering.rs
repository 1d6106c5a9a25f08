//! Where dead letters arrive.
//!
//! Letters are stored where they go and taken out of their queue in one change of the store: a crash leaves each of them in one of
//! the two.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::{debug, error, warn};

use super::VirtualHost;
use super::publishing::persistence;
use super::together::Part;
use crate::broker::arrivals::Arrivals;
use crate::broker::copies::Copies;
use crate::broker::dead_letters::{Death, bury, is_cycle};
use crate::broker::queue::{Leaving, Queue};
use crate::broker::routing::Matches;
use crate::broker::rules::DeadLetters;
use crate::broker::topology::Topology;
use crate::message::{Envelope, RawProperties};
use crate::storage::{Fetch, Message, Sequence, StoreError};

/// Letters that are carried at a time.
const BATCH: usize = 256;
/// Bytes of them, unless one alone is larger.
const BATCH_BYTES: usize = 1 << 20;

impl VirtualHost {
    /// Has the queue's dead letters carried away that there are now, by the caller: the queue is about to be deleted.
    pub(super) fn settle_dead_letters(&self, queue: &Arc<Queue>) {
        if queue.rules().any()
            && let Err(error) = self.carry_dead_letters(queue)
        {
            warn!(queue = %queue.name(), %error, "dead letters go with their queue");
        }
    }

    /// Carries all dead letters of a queue to their exchange. Reads back those that are not in memory, so it may block. Must not
    /// be called with anything locked.
    ///
    /// # Errors
    /// The store's. What has not been carried stays in the queue.
    pub(in crate::broker) fn carry_dead_letters(
        &self,
        queue: &Arc<Queue>,
    ) -> Result<(), StoreError> {
        let _turn = queue.rules().details().carrying.lock();
        let mut arrivals = Arrivals::default();
        loop {
            let mut leaving = VecDeque::from(queue.take_leaving(BATCH));
            if leaving.is_empty() {
                return Ok(());
            }
            let mut outcome = Ok(());
            while outcome.is_ok() && !leaving.is_empty() {
                outcome = self.carry_some(queue, &mut leaving, BATCH_BYTES, &mut arrivals);
            }
            queue.put_back_leaving(leaving.into());
            arrivals.dispatch();
            outcome?;
        }
    }

    /// Carries the first of them, as many as have so many bytes together, and one at least.
    fn carry_some(
        &self,
        queue: &Arc<Queue>,
        leaving: &mut VecDeque<Leaving>,
        most: usize,
        arrivals: &mut Arrivals,
    ) -> Result<(), StoreError> {
        let (mut count, mut bytes) = (0, 0);
        for letter in leaving.iter_mut() {
            if letter.message.is_none() {
                letter.message = read_back(queue, letter.sequence)?;
            }
            bytes += letter.message.as_ref().map_or(0, Message::size);
            if count > 0 && bytes > most {
                break;
            }
            count += 1;
        }
        let topology = self.topology.read();
        let (mut parts, mut carried) = (Vec::new(), Vec::new());
        for letter in leaving.iter().take(count) {
            // One that cannot be read keeps its place.
            let Some(message) = &letter.message else { continue };
            self.letters(&topology, queue, message, letter.death, arrivals, &mut parts);
            carried.push(letter.sequence);
        }
        carried.sort_unstable();
        let acknowledged = [(Arc::clone(queue), carried)];
        match self.store_together(&topology, &parts, &acknowledged, arrivals) {
            Ok(_) => {}
            Err(StoreError::TooLarge { .. }) if count > 1 => {
                drop(topology);
                return self.carry_some(queue, leaving, most / 2, arrivals);
            }
            Err(error @ StoreError::TooLarge { .. }) => {
                error!(queue = %queue.name(), %error, "a dead letter has become too large to be stored: it is dropped");
                self.store_together(&topology, &[], &acknowledged, arrivals)?;
            }
            Err(error) => return Err(error),
        }
        drop(topology);
        leaving.drain(..count);
        queue.buried(count as u64);
        Ok(())
    }

    /// What a dead letter of `queue` comes to, as that queue's rules say: added to `parts`.
    pub(super) fn letters(
        &self,
        topology: &Topology,
        queue: &Queue,
        message: &Message,
        death: Death,
        arrivals: &mut Arrivals,
        parts: &mut Vec<Part>,
    ) {
        let Some(DeadLetters { exchange: to, routing_key }) = queue.rules().get().dead_letters()
        else {
            return;
        };
        let exchange = topology.exchanges.get(&to);
        if exchange.is_none() && !to.is_empty() {
            debug!(queue = %queue.name(), exchange = %to, "no such dead-letter exchange: the letter is dropped");
            return;
        }
        let Ok(envelope) = Envelope::parse(message.header()) else { return };
        let time = self.store.now().unix_millis() / 1000;
        let properties =
            bury(&envelope, queue.name(), death, time, routing_key.is_none()).to_bytes();
        let properties = RawProperties::from_checked(&properties);
        let key = routing_key.as_ref().map_or(envelope.routing_key, |key| key.as_bytes());
        // Where it keeps its key, it keeps the others too.
        let copies = properties.headers().and_then(|headers| Copies::named_by(headers).ok()?);
        let keys: Vec<_> =
            std::iter::once(key).chain(copies.iter().flat_map(Copies::keys)).collect();
        let mut matches = Matches::default();
        topology.route(exchange, &keys, &properties, &mut matches);
        if death != Death::Rejected {
            matches.retain_queues(|target| !is_cycle(&properties, target.name()));
        }
        let sorted = Self::sort_out(&mut matches, message.body_len(), false);
        let timed = sorted.timed;
        let published_at = timed.then(|| arrivals.published_at(|| self.store.now()).unix_millis());
        let envelope = Envelope { exchange: &to, routing_key: key, properties, published_at };
        let message = message.with_header(envelope.to_bytes());
        for refusing in &sorted.refusing {
            match refusing.dead_letters() {
                Some(queue) => {
                    self.letters(topology, queue, &message, Death::MaxLength, arrivals, parts);
                }
                None => {
                    warn!(queue = %queue.name(), exchange = %to, "a queue that is full has refused a dead letter");
                }
            }
        }
        let priority = properties.priority();
        let (persistence, queues) = (persistence(&envelope), matches.queues().to_vec());
        parts.push(Part { message, persistence, priority, queues, timed });
    }

    /// Stores letters of queues that had no room for a message.
    pub(super) fn store_letters(
        &self,
        topology: &Topology,
        parts: &[Part],
        arrivals: &mut Arrivals,
    ) -> Result<(), StoreError> {
        // One by one: they need not be there together, and each may be as large as any message.
        for part in parts {
            self.store_together(topology, std::slice::from_ref(part), &[], arrivals)?;
        }
        Ok(())
    }
}

/// The message at that place, from the log if need be; `None`: it cannot be read.
fn read_back(queue: &Queue, sequence: Sequence) -> Result<Option<Message>, StoreError> {
    let store = queue.store();
    let mut found = Vec::new();
    if store.fetch(sequence, 1, &mut found) == Fetch::NeedsLoad {
        store.load(sequence)?;
        store.fetch(sequence, 1, &mut found);
    }
    Ok(found.pop().filter(|found| found.sequence == sequence).map(|found| found.message))
}
