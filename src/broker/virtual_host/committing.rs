//! Committing a transaction as one change of the store: after a crash all of it is there, or nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::publishing::persistence;
use super::staging::envelope;
use super::{Routed, VirtualHost};
use crate::broker::arrivals::Arrivals;
use crate::broker::backlog::push_sequence;
use crate::broker::queue::Queue;
use crate::broker::refusal::Refusal;
use crate::broker::routing::Matches;
use crate::broker::topology::Topology;
use crate::broker::transaction::Staged;
use crate::message::Envelope;
use crate::storage::{self, Draft, Lsn, Message, Operation, Sequence, StoreError, Together};

/// A message of a transaction whose parts are stored at once.
struct Part<'s> {
    /// As it was published.
    envelope: Envelope<'s>,
    /// As it is stored.
    message: Message,
    queues: Vec<Arc<Queue>>,
    /// It may expire.
    timed: bool,
}

impl Part<'_> {
    /// The engine's queues that get it.
    fn receivers(&self) -> Vec<&storage::Queue> {
        let priority = || self.envelope.properties.priority();
        self.queues.iter().map(|queue| queue.store().receiver(priority)).collect()
    }

    /// They have it.
    fn note_arrival(&self) {
        let priority = || self.envelope.properties.priority();
        self.queues.iter().for_each(|queue| queue.store().note_arrival(priority));
    }
}

impl VirtualHost {
    /// Stores messages, and takes others out of their queues for good: after a crash all of it is so, or nothing. Where each
    /// message went, and when all is durable; `None`: that cannot be done at once, and nothing has been.
    pub(in crate::broker) fn publish_together(
        &self,
        staged: &VecDeque<Staged>,
        acknowledged: &[(Arc<Queue>, Vec<Sequence>)],
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Option<(Vec<Routed>, Option<Lsn>)>, Refusal> {
        let topology = self.topology.read();
        let mut parts = Vec::with_capacity(staged.len());
        for staged in staged {
            let Some(part) = self.part(&topology, staged, arrivals)? else { return Ok(None) };
            parts.push(part);
        }
        // A queue that counts bytes takes those of what is held for ready while the engine is ahead of it.
        if acknowledged.iter().any(|(queue, _)| queue.rules().bounds_bytes()) {
            return Ok(None);
        }
        let durable_at = match self.apply_together(&topology, &parts, acknowledged) {
            Ok(applied) => applied.durable_at,
            Err(StoreError::TooLarge { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut all = Vec::with_capacity(parts.len());
        for part @ Part { message, queues, timed, .. } in &parts {
            Self::note_stored(queues, message.body_len(), *timed);
            part.note_arrival();
            arrivals.note(queues);
            all.push(Routed { queues: queues.len(), durable_at, ..Routed::default() });
        }
        drop(topology);
        for ((routed, staged), part) in all.iter_mut().zip(staged).zip(&parts) {
            if !staged.replies.is_empty() {
                matches.clear();
                staged.replies.iter().for_each(|address| matches.add_reply(address));
                let draft = Draft::Whole(&staged.message);
                *routed = self.reply(&part.envelope, draft, std::mem::take(routed), matches);
            }
        }
        Ok(Some((all, durable_at)))
    }

    /// A message as its queues' rules have it; `None`: one of them may refuse it, which is found out one message after the other.
    fn part<'s>(
        &self,
        topology: &Topology,
        staged: &'s Staged,
        arrivals: &mut Arrivals,
    ) -> Result<Option<Part<'s>>, Refusal> {
        let found = staged.queues.iter().filter_map(|name| topology.queue(name));
        let queues: Vec<_> = found.map(Arc::clone).collect();
        let envelope = envelope(&staged.message)?;
        let mut timed = envelope.properties.expiration().is_some();
        if timed {
            queues.iter().for_each(|queue| queue.note_expiration());
        }
        for queue in queues.iter().filter(|queue| queue.rules().any()) {
            let rules = queue.rules().get();
            if rules.refuses() {
                return Ok(None);
            }
            timed |= rules.message_ttl.is_some();
        }
        let message = if timed {
            let published_at = arrivals.published_at(|| self.store.now()).unix_millis();
            let envelope = Envelope { published_at: Some(published_at), ..envelope };
            staged.message.with_header(envelope.to_bytes())
        } else {
            staged.message.clone()
        };
        Ok(Some(Part { envelope, message, queues, timed }))
    }

    fn apply_together(
        &self,
        topology: &Topology,
        parts: &[Part<'_>],
        acknowledged: &[(Arc<Queue>, Vec<Sequence>)],
    ) -> Result<Together, StoreError> {
        let receivers: Vec<Vec<&storage::Queue>> = parts.iter().map(Part::receivers).collect();
        let mut ranges = Vec::with_capacity(acknowledged.len());
        for (queue, sequences) in acknowledged {
            // What is held of a queue that has been deleted is nobody's any more.
            if topology.queue(queue.name()).is_some_and(|found| found == queue) {
                let mut own = Vec::new();
                sequences.iter().for_each(|sequence| push_sequence(&mut own, *sequence));
                ranges.extend(queue.store().by_level(&own));
            }
        }
        let appends = parts.iter().zip(&receivers).filter(|(_, queues)| !queues.is_empty());
        let appends = appends.map(|(part, queues)| Operation::Append {
            message: Draft::Whole(&part.message),
            persistence: persistence(&part.envelope),
            queues,
        });
        let acknowledgements =
            ranges.iter().map(|(queue, ranges)| Operation::Acknowledge { queue, ranges });
        let operations: Vec<_> = appends.chain(acknowledgements).collect();
        if operations.is_empty() {
            return Ok(Together::default());
        }
        self.store.apply_together(&operations)
    }
}
