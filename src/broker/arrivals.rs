//! Queues that a channel has published to, until they are asked to hand out what they got.
//!
//! One look for consumers does for all messages that came with the same read from the socket: the queue and the outboxes are
//! locked once for them, and not once each against consumers that take them meanwhile.

use std::sync::Arc;

use super::queue::Queue;

/// How many queues are looked through for one that is noted already. A queue that is noted twice is asked twice, and has
/// nothing to hand out then.
const LOOKED_AT: usize = 16;

/// The queues of one channel's messages.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    queues: Vec<Arc<Queue>>,
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

    /// Has the queues hand out what they can, in the order in which they got their first message.
    pub(super) fn dispatch(&mut self) {
        self.queues.drain(..).for_each(|queue| queue.dispatch());
    }
}
