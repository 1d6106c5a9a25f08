//! Queues that a channel has published to, until they are asked to hand out what they got; and direct replies, until they are sent.
//!
//! One look for consumers does for all messages that came with the same read from the socket: the queue and the outboxes are
//! locked once for them, and not once each against consumers that take them meanwhile.

use std::sync::Arc;

use super::dead_letters::PendingSources;
use super::outbox::Wakers;
use super::queue::Queue;
use super::replies::Replies;
use crate::message::ShortStr;
use crate::storage::{Message, Timestamp};

/// How many queues are looked through for one that is noted already. A queue that is noted twice is asked twice, and has
/// nothing to hand out then.
const LOOKED_AT: usize = 16;

/// The queues of one channel's messages.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    queues: Vec<Arc<Queue>>,
    /// When the first of them was published, if any has to know its time. So the clock is read once for all of them.
    published_at: Option<Timestamp>,
    /// Direct replies, with the addresses that they go to.
    replies: Vec<(ShortStr, Message)>,
    /// Replies are held until [`Arrivals::send_replies`], and not sent at once.
    pub(super) holds_replies: bool,
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

    /// Holds a direct reply.
    pub(super) fn hold_reply(&mut self, address: &ShortStr, message: &Message) {
        self.replies.push((address.clone(), message.clone()));
    }

    /// Whether there is something to hand out or to send.
    pub(super) fn is_pending(&self) -> bool {
        !self.queues.is_empty() || !self.replies.is_empty()
    }

    /// Sends the replies that are held. One is dropped if its channel has gone meanwhile, or its connection does not read.
    pub(super) fn send_replies(&mut self, replies: &Replies) {
        if self.replies.is_empty() {
            return;
        }
        let mut wakers = Wakers::default();
        for (address, message) in self.replies.drain(..) {
            replies.deliver(&address, &message, &mut wakers);
        }
        wakers.wake();
    }

    /// Has the queues hand out what they can, in the order in which they got their first message.
    /// Adds queues that have dead letters then to `pending`.
    pub(super) fn dispatch(&mut self, pending: &mut PendingSources) {
        let published_at = self.published_at.take();
        self.queues.drain(..).for_each(|queue| queue.dispatch(published_at, pending));
    }
}
