//! Queues that a channel has published to, until they are asked to hand out what they got.
//!
//! One look for consumers does for all messages that came with the same read from the socket: the queue and the outboxes are
//! locked once for them, and not once each against consumers that take them meanwhile.

use std::sync::Arc;

use super::queue::Queue;
use crate::storage::Timestamp;

/// How many queues are looked through for one that is noted already. A queue that is noted twice is asked twice, and has
/// nothing to hand out then.
const LOOKED_AT: usize = 16;

/// The queues of one channel's messages.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    queues: Vec<Arc<Queue>>,
    /// When the first of them was published, if any has to know its time. So the clock is read once for all of them.
    published_at: Option<Timestamp>,
}

impl Arrivals {
    /// Notes the queues that a message went to.
    pub(super) fn note(&mut self, queues: &[Arc<Queue>]) {
        for queue in queues {
            let noted = self.queues.iter().rev().take(LOOKED_AT);
            if !noted.into_iter().any(|noted| Arc::ptr_eq(noted, queue)) {
                self.queues.push(Arc::clone(queue));
            }
        }
    }

    /// The time at which messages are published, until they are handed out.
    pub(super) fn published_at(&mut self, now: impl FnOnce() -> Timestamp) -> Timestamp {
        *self.published_at.get_or_insert_with(now)
    }

    /// Has the queues hand out what they can, in the order in which they got their first message.
    pub(super) fn dispatch(&mut self) {
        let published_at = self.published_at.take();
        self.queues.drain(..).for_each(|queue| queue.dispatch(published_at));
    }
}
