//! Where dead letters arrive.
//!
//! A letter is stored where it goes before it is taken out of its queue, and the log keeps that order: a crash in between
//! leaves it in both, and it is dead-lettered once more. It is never in neither.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::{debug, error, warn};

use super::VirtualHost;
use super::publishing::Nature;
use crate::broker::arrivals::Arrivals;
use crate::broker::copies::Copies;
use crate::broker::dead_letters::{Death, bury, is_cycle};
use crate::broker::queue::{Leaving, Queue};
use crate::broker::routing::Matches;
use crate::broker::rules::DeadLetters;
use crate::broker::topology::Topology;
use crate::message::{Envelope, RawProperties};
use crate::storage::{Draft, Fetch, Message, Sequence, StoreError};

/// Letters that are carried at a time.
const BATCH: usize = 256;

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
            let (mut buried, mut damaged) = (Vec::with_capacity(leaving.len()), 0);
            while let Some(mut next) = leaving.pop_front() {
                match self.carry(queue, &mut next, &mut arrivals) {
                    Ok(true) => buried.push(next.sequence),
                    Ok(false) => damaged += 1,
                    Err(error) => {
                        leaving.push_front(next);
                        outcome = Err(error);
                        break;
                    }
                }
            }
            queue.put_back_leaving(leaving.into());
            queue.leave_damaged(damaged);
            queue.buried(&buried);
            arrivals.dispatch();
            outcome?;
        }
    }

    /// Carries one. False: it cannot be read.
    fn carry(
        &self,
        queue: &Queue,
        leaving: &mut Leaving,
        arrivals: &mut Arrivals,
    ) -> Result<bool, StoreError> {
        if leaving.message.is_none() {
            leaving.message = read_back(queue, leaving.sequence)?;
        }
        let Some(message) = &leaving.message else { return Ok(false) };
        let topology = self.topology.read();
        match self.dead_letter(&topology, queue, message, leaving.death, arrivals) {
            Err(error @ StoreError::TooLarge { .. }) => {
                error!(queue = %queue.name(), %error, "a dead letter has become too large to be stored: it is dropped");
                Ok(true)
            }
            outcome => outcome.map(|()| true),
        }
    }

    /// Stores a dead letter of `queue` where that queue's rules say.
    pub(super) fn dead_letter(
        &self,
        topology: &Topology,
        queue: &Queue,
        message: &Message,
        death: Death,
        arrivals: &mut Arrivals,
    ) -> Result<(), StoreError> {
        let Some(DeadLetters { exchange: to, routing_key }) = queue.rules().get().dead_letters()
        else {
            return Ok(());
        };
        let exchange = topology.exchanges.get(&to);
        if exchange.is_none() && !to.is_empty() {
            debug!(queue = %queue.name(), exchange = %to, "no such dead-letter exchange: the letter is dropped");
            return Ok(());
        }
        let Ok(envelope) = Envelope::parse(message.header()) else { return Ok(()) };
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
        let envelope = Envelope { exchange: &to, routing_key: key, properties, published_at: None };
        let message = message.with_header(envelope.to_bytes());
        let draft = Draft::Whole(&message);
        let routed =
            self.store(topology, &envelope, draft, Nature::default(), arrivals, &mut matches)?;
        arrivals.note(matches.queues());
        if routed.refused {
            warn!(queue = %queue.name(), exchange = %to, "a queue that is full has refused a dead letter");
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
