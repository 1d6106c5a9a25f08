//! Several changes as one of the store: after a crash all of it is there, or nothing.

use std::sync::Arc;

use super::VirtualHost;
use crate::broker::arrivals::Arrivals;
use crate::broker::backlog::push_sequence;
use crate::broker::queue::Queue;
use crate::broker::topology::Topology;
use crate::storage::{
    self, Draft, Message, Operation, Persistence, Sequence, Store, StoreError, Together,
};

/// A message on its way into queues that take it.
#[derive(Debug)]
pub(super) struct Part {
    /// As it is to be stored.
    pub(super) message: Message,
    pub(super) persistence: Persistence,
    pub(super) priority: Option<u8>,
    pub(super) queues: Vec<Arc<Queue>>,
    /// It may expire.
    pub(super) timed: bool,
}

impl Part {
    /// The engine's queues that get it.
    fn receivers(&self, store: &Store) -> Result<Vec<&storage::Queue>, StoreError> {
        let queues = self.queues.iter();
        queues.map(|queue| queue.store().receiver(store, || self.priority)).collect()
    }

    /// They have it.
    fn note_stored(&self, arrivals: &mut Arrivals) {
        VirtualHost::note_stored(&self.queues, self.message.body_len(), self.timed);
        self.queues.iter().for_each(|queue| queue.store().note_arrival(|| self.priority));
        arrivals.note(&self.queues);
    }
}

impl VirtualHost {
    /// Stores messages, and takes others out of their queues for good. The topology must have been locked since they were
    /// routed. The queues that have got something are to be dispatched afterwards.
    ///
    /// # Errors
    /// The store's, [`StoreError::TooLarge`] among them: nothing has been done then.
    pub(super) fn store_together(
        &self,
        topology: &Topology,
        parts: &[Part],
        acknowledged: &[(Arc<Queue>, Vec<Sequence>)],
        arrivals: &mut Arrivals,
    ) -> Result<Together, StoreError> {
        let receivers = parts.iter().map(|part| part.receivers(&self.store));
        let receivers = receivers.collect::<Result<Vec<_>, _>>()?;
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
            persistence: part.persistence,
            queues,
        });
        let acknowledgements =
            ranges.iter().map(|(queue, ranges)| Operation::Acknowledge { queue, ranges });
        let operations: Vec<_> = appends.chain(acknowledgements).collect();
        if operations.is_empty() {
            return Ok(Together::default());
        }
        let together = self.store.apply_together(&operations)?;
        parts.iter().for_each(|part| part.note_stored(arrivals));
        Ok(together)
    }
}
