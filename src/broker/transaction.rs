//! A channel's transaction (AMQP 0-9-1, section 1.9): what is to be done when it is committed, and not before.
//!
//! A message is looked at and routed when it is published, so that what is wrong with it is said then; it is stored with the
//! commit, in those of its queues that are there. A delivery that is acknowledged or rejected is
//! the transaction's until the end: it cannot be acknowledged twice, keeps its consumer's credit, and goes back to the channel when
//! the transaction is rolled back.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::channel::Committed;
use super::delivery::DeliveryTag;
use super::queue::Queue;
use super::refusal::{Reason, Refusal};
use super::unacknowledged::Held;
use super::virtual_host::Routed;
use crate::message::ShortStr;
use crate::storage::{Lsn, Message, Sequence};

/// What a staged message counts for besides its bytes, and each name that it was routed to.
const MESSAGE_OVERHEAD: usize = 128;
const NAME_OVERHEAD: usize = 64;

/// A message that was published in a transaction.
#[derive(Debug)]
pub(super) struct Staged {
    /// As it is to be stored.
    pub(super) message: Message,
    pub(super) mandatory: bool,
    /// The queues that it was routed to, by name: if one has been deleted and declared again, it is the new one's.
    pub(super) queues: Box<[ShortStr]>,
    /// The addresses of direct replies that it was routed to.
    pub(super) replies: Box<[ShortStr]>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Acknowledged,
    Rejected,
    Requeued,
}

/// Deliveries with the same verdict.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) verdict: Verdict,
    held: VecDeque<(DeliveryTag, Held)>,
}

/// What all transactions of a connection hold in memory.
#[derive(Debug)]
pub(super) struct StagedBytes {
    used: AtomicUsize,
    limit: usize,
}

/// What a channel is to do at its next commit.
#[derive(Debug)]
pub(super) struct Transaction {
    staged: VecDeque<Staged>,
    /// In the order in which they came.
    settled: VecDeque<Settled>,
    /// Of the connection.
    memory: Arc<StagedBytes>,
    /// What it has taken of that.
    bytes: usize,
    /// When what a commit has done so far is durable.
    durable_at: Option<Lsn>,
    /// Whether a queue had no room for one of its messages.
    refused: bool,
    /// Mandatory messages that it has found nobody for.
    returned: Vec<Message>,
}

impl StagedBytes {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }
}

impl Staged {
    fn bytes(&self) -> usize {
        let names = self.queues.len() + self.replies.len();
        self.message.size() + MESSAGE_OVERHEAD + names * NAME_OVERHEAD
    }
}

impl Settled {
    /// Takes out the first, `most` at most.
    pub(super) fn take_some(&mut self, most: usize) -> Vec<Held> {
        let count = most.min(self.held.len());
        self.held.drain(..count).map(|(_, held)| held).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Transaction {
    pub(super) fn new(memory: Arc<StagedBytes>) -> Self {
        Self {
            staged: VecDeque::new(),
            settled: VecDeque::new(),
            memory,
            bytes: 0,
            durable_at: None,
            refused: false,
            returned: Vec::new(),
        }
    }

    /// Whether anything is to be stored.
    pub(super) fn has_messages(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Adds a message, if the connection's transactions may hold as much (406).
    pub(super) fn stage(&mut self, staged: Staged) -> Result<(), Refusal> {
        let bytes = staged.bytes();
        // The channels of a connection belong to one task: nobody else adds meanwhile.
        let used = self.memory.used.load(Relaxed) + bytes;
        let limit = self.memory.limit;
        if used > limit {
            return Err(Refusal::new(
                Reason::PreconditionFailed,
                format_args!(
                    "messages of {used} bytes in uncommitted transactions of the connection, \
                     which may hold {limit}: commit more often"
                ),
            ));
        }
        self.memory.used.store(used, Relaxed);
        self.bytes += bytes;
        self.staged.push_back(staged);
        Ok(())
    }

    /// Adds deliveries.
    pub(super) fn settle(&mut self, verdict: Verdict, held: Vec<(DeliveryTag, Held)>) {
        match self.settled.back_mut() {
            Some(last) if last.verdict == verdict => last.held.extend(held),
            _ => self.settled.push_back(Settled { verdict, held: VecDeque::from(held) }),
        }
    }

    /// The messages that a commit has to publish, in order.
    pub(super) fn staged(&self) -> &VecDeque<Staged> {
        &self.staged
    }

    /// Something of a commit has been done that is durable then.
    pub(super) fn done(&mut self, durable_at: Option<Lsn>) {
        self.durable_at = self.durable_at.max(durable_at);
    }

    /// The next of them has been published.
    pub(super) fn published(&mut self, routed: &Routed) {
        let Some(staged) = self.staged.pop_front() else { return };
        self.give_back(staged.bytes());
        self.done(routed.durable_at);
        self.refused |= routed.refused;
        if staged.mandatory && routed.queues == 0 && routed.replies == 0 {
            self.returned.push(staged.message);
        }
    }

    /// What a commit takes out of queues without asking them, by queue, in order of place.
    pub(super) fn acknowledged(&self) -> Vec<(Arc<Queue>, Vec<Sequence>)> {
        let mut held: Vec<&Held> = self
            .settled
            .iter()
            .flat_map(|settled| settled.held.iter().map(move |(_, held)| (settled.verdict, held)))
            .filter(|(verdict, held)| match verdict {
                Verdict::Acknowledged => true,
                // With rules, a queue may have another place for it.
                Verdict::Rejected => !held.origin.queue().rules().any(),
                Verdict::Requeued => false,
            })
            .map(|(_, held)| held)
            .collect();
        held.sort_unstable_by_key(|held| (held.origin.queue().id(), held.sequence));
        held.chunk_by(|one, other| one.origin.queue() == other.origin.queue())
            .map(|group| {
                let sequences = group.iter().map(|held| held.sequence).collect();
                (Arc::clone(group[0].origin.queue()), sequences)
            })
            .collect()
    }

    /// What a commit has to do with deliveries, in order.
    pub(super) fn take_settled(&mut self) -> VecDeque<Settled> {
        mem::take(&mut self.settled)
    }

    /// What has come of the commit, which is at its end.
    pub(super) fn finish(&mut self) -> Committed {
        Committed {
            durable_at: self.durable_at.take(),
            returned: mem::take(&mut self.returned),
            refused: mem::take(&mut self.refused),
        }
    }

    /// Forgets everything; the deliveries are the channel's again.
    pub(super) fn roll_back(&mut self) -> Vec<(DeliveryTag, Held)> {
        self.staged = VecDeque::new();
        self.give_back(self.bytes);
        self.take_settled().into_iter().flat_map(|settled| settled.held).collect()
    }

    fn give_back(&mut self, bytes: usize) {
        self.memory.used.fetch_sub(bytes, Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(size: usize) -> Staged {
        let message = Message::new(vec![0; size], []);
        Staged { message, mandatory: false, queues: Box::default(), replies: Box::default() }
    }

    fn stored() -> Routed {
        Routed { queues: 1, ..Routed::default() }
    }

    #[test]
    fn what_transactions_hold_is_counted_for_all_of_a_connection_and_given_back() {
        let memory = Arc::new(StagedBytes::new(3 * (100 + MESSAGE_OVERHEAD)));
        let (mut one, mut other) =
            (Transaction::new(Arc::clone(&memory)), Transaction::new(Arc::clone(&memory)));
        one.stage(staged(100)).unwrap();
        one.stage(staged(100)).unwrap();
        other.stage(staged(100)).unwrap();
        let refusal = other.stage(staged(0)).unwrap_err();
        assert_eq!(refusal.reason(), Reason::PreconditionFailed);
        one.published(&stored());
        other.stage(staged(100)).unwrap();
        assert!(other.stage(staged(0)).is_err());
        other.roll_back();
        one.stage(staged(100)).unwrap();
        drop(one);
        assert_eq!(memory.used.load(Relaxed), 0);
    }
}
