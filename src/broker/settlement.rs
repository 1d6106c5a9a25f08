//! What a channel has to tell its queues, gathered so that each of them is locked once for many messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backlog::push_sequence;
use super::consumer::Returned;
use super::dead_letters::PendingSources;
use super::queue::{Queue, Rejected, Settled};
use super::unacknowledged::{GivenBack, Held};
use crate::storage::{Lsn, QueueId, Sequence, SequenceRange, StoreError};

/// Queues whose buffers are kept for the next time.
const KEPT: usize = 8;

/// What has been gathered.
#[derive(Debug, Default)]
pub(super) struct Settlement {
    batches: Vec<Batch>,
    ranges: Vec<SequenceRange>,
    /// When the acknowledgements so far are durable.
    durable_at: Option<Lsn>,
}

/// What one queue has to be told.
#[derive(Debug)]
struct Batch {
    queue: Arc<Queue>,
    /// Handed out, with the new count of hand-outs.
    delivered: Vec<(Sequence, u32)>,
    /// Acknowledged.
    done: Vec<Sequence>,
    /// Rejected for good, and not the same as acknowledged.
    rejected: Vec<Rejected>,
    /// Consumers that got credit back.
    released: Vec<Returned>,
}

impl Settlement {
    /// A message has been handed out, and was `deliveries` times before.
    pub(super) fn delivered(&mut self, queue: &Arc<Queue>, sequence: Sequence, deliveries: u32) {
        self.batch(queue).delivered.push((sequence, deliveries.saturating_add(1)));
    }

    /// A message that needs no acknowledgement has been handed out.
    pub(super) fn consumed(&mut self, queue: &Arc<Queue>, sequence: Sequence) {
        self.batch(queue).done.push(sequence);
    }

    /// A message has been acknowledged. Its credit is given back with it.
    pub(super) fn done(&mut self, held: &Held) {
        let batch = self.batch(held.origin.queue());
        batch.done.push(held.sequence);
        batch.release(held);
    }

    /// A message has been rejected for good. Its credit is given back with it.
    pub(super) fn rejected(&mut self, GivenBack { held, message }: GivenBack) {
        let queue = held.origin.queue();
        if !queue.rules().any() {
            return self.done(&held);
        }
        let batch = self.batch(queue);
        batch.rejected.push(Rejected { sequence: held.sequence, body: held.body, message });
        batch.release(&held);
    }

    /// Whether there is anything to tell.
    pub(super) fn is_pending(&self) -> bool {
        self.batches.iter().any(Batch::is_pending)
    }

    /// Tells the queues. Nothing is left over. Adds queues that have dead letters then to
    /// `pending`.
    pub(super) fn flush(&mut self, pending: &mut PendingSources) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for batch in &mut self.batches {
            let flushed = batch.flush(&mut self.ranges, pending);
            outcome = outcome.and(flushed.map(|durable_at| {
                self.durable_at = self.durable_at.max(durable_at);
            }));
        }
        self.batches.truncate(KEPT);
        outcome
    }

    /// When everything that was ever acknowledged here is durable; `None`: nothing of it was to be.
    pub(super) fn durable_at(&self) -> Option<Lsn> {
        self.durable_at
    }

    fn batch(&mut self, queue: &Arc<Queue>) -> &mut Batch {
        // The one used last is in front: mostly there is only one.
        let place = self.batches.iter().position(|batch| Arc::ptr_eq(&batch.queue, queue));
        let place = place.unwrap_or_else(|| {
            self.batches.push(Batch {
                queue: Arc::clone(queue),
                delivered: Vec::new(),
                done: Vec::new(),
                rejected: Vec::new(),
                released: Vec::new(),
            });
            self.batches.len() - 1
        });
        if place > 0 {
            self.batches.swap(0, place);
        }
        &mut self.batches[0]
    }
}

impl Batch {
    fn is_pending(&self) -> bool {
        !self.delivered.is_empty() || !self.done.is_empty() || !self.rejected.is_empty()
    }

    fn release(&mut self, held: &Held) {
        if let Some(consumer) = held.origin.consumer() {
            Returned::note(&mut self.released, consumer);
        }
    }

    fn flush(
        &mut self,
        ranges: &mut Vec<SequenceRange>,
        pending: &mut PendingSources,
    ) -> Result<Option<Lsn>, StoreError> {
        // Both are told before anything is returned to the queue, or a message could go
        // out again without its hand-out having been counted.
        // Sorted, because the engine keeps them like that, and requeued ones come out of order.
        self.delivered.sort_unstable();
        let marked = self.queue.mark_delivered(&self.delivered);
        self.delivered.clear();
        if self.done.is_empty() && self.rejected.is_empty() {
            return marked.map(|()| None);
        }
        Returned::give_back(&mut self.released);
        self.done.sort_unstable();
        ranges.clear();
        for sequence in &self.done {
            push_sequence(ranges, *sequence);
        }
        let mut settled = Settled {
            ranges,
            acknowledged: self.done.len() as u64,
            rejected: &mut self.rejected,
            consumers: &self.released,
        };
        let settled = self.queue.settle(&mut settled, pending);
        self.done.clear();
        self.rejected.clear();
        self.released.clear();
        marked.and(settled)
    }
}

/// Messages that go back to their queues in pieces. Their queues hand out nothing until all are back, so that they go out again
/// in order. Dropping it lets the queues go on.
#[derive(Debug, Default)]
pub(super) struct Requeue {
    held: BTreeMap<QueueId, Arc<Queue>>,
}

impl Requeue {
    /// Returns messages to their queues. More follow, unless they are the `last`.
    pub(super) fn put_back(
        &mut self,
        given_back: Vec<GivenBack>,
        last: bool,
        pending: &mut PendingSources,
    ) {
        if !last || !self.held.is_empty() {
            for given_back in &given_back {
                let queue = given_back.queue();
                self.held.entry(queue.id()).or_insert_with(|| {
                    queue.begin_requeue();
                    Arc::clone(queue)
                });
            }
        }
        requeue(given_back, pending);
    }

    /// Lets `most` of the queues hand out what they have got back. Returns `true` if these were all.
    pub(super) fn resume_some(&mut self, most: usize, pending: &mut PendingSources) -> bool {
        for _ in 0..most {
            let Some((_, queue)) = self.held.pop_first() else { break };
            queue.end_requeue(pending);
        }
        self.held.is_empty()
    }
}

impl Drop for Requeue {
    fn drop(&mut self) {
        self.resume_some(usize::MAX, &mut PendingSources::default());
    }
}

/// Returns messages to their queues, and their credit to the consumers, which may get them again.
pub(super) fn requeue(mut given_back: Vec<GivenBack>, pending: &mut PendingSources) {
    // Stable: the order of the queues does not matter, that of the sequences is the queue's own.
    given_back.sort_by_key(|given_back| given_back.queue().id());
    for group in given_back.chunk_by_mut(|one, other| one.queue() == other.queue()) {
        let mut released = Vec::new();
        for consumer in group.iter().filter_map(|given_back| given_back.held.origin.consumer()) {
            Returned::note(&mut released, consumer);
        }
        Returned::give_back(&mut released);
        if let Some(queue) = group.first().map(|first| Arc::clone(first.queue())) {
            queue.requeue(group, &released, pending);
        }
    }
}
