//! Source queues whose dead letters a channel transfers itself.
//!
//! A client that rejects a message may ask for it with its next method, in the dead-letter queue.
//! So a channel transfers the dead letters that its methods have caused before its next method,
//! where they are few, small and in memory. That costs no more than to publish as many messages.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::arrivals::Arrivals;
use crate::broker::queue::Queue;

/// How many dead letters a channel transfers at a time, those of later hops included.
const COUNT: usize = 64;
/// How many bytes they may have.
const BYTES: usize = 64 << 10;

/// How much a channel may still transfer.
#[derive(Debug)]
pub(in crate::broker) struct Budget {
    pub(in crate::broker) count: usize,
    pub(in crate::broker) bytes: usize,
}

/// Queues with dead letters of which the carrier has not been told.
///
/// Invariant: each of them is transferred by the owner of this value, or submitted to the carrier,
/// at the latest when the value is dropped.
#[derive(Debug, Default)]
pub(in crate::broker) struct PendingSources {
    queues: VecDeque<Arc<Queue>>,
}

impl PendingSources {
    /// Adds a queue that has dead letters.
    pub(in crate::broker) fn add(&mut self, queue: &Arc<Queue>) {
        self.queues.push_back(Arc::clone(queue));
    }

    /// Whether there are any.
    pub(in crate::broker) fn is_pending(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Transfers the dead letters where they are few, and leaves the others to the carrier. Must
    /// not be called with anything locked.
    pub(in crate::broker) fn transfer(&mut self) {
        if self.is_pending() {
            self.transfer_few();
        }
    }

    #[cold]
    fn transfer_few(&mut self) {
        let mut budget = Budget { count: COUNT, bytes: BYTES };
        let mut arrivals = Arrivals::default();
        while let Some(queue) = self.queues.pop_front() {
            let host = queue.host();
            let done = host.is_some_and(|host| host.carry_few(&queue, &mut budget, &mut arrivals));
            if !done {
                queue.leave_to_carrier();
            }
            // Dead letters of the target queues come behind the others.
            arrivals.dispatch(self);
        }
    }
}

impl Drop for PendingSources {
    fn drop(&mut self) {
        self.queues.drain(..).for_each(|queue| queue.leave_to_carrier());
    }
}
