//! Purging a queue in pieces.
//!
//! A purge takes all ready messages out of the backlog at once, so that no consumer gets one of them any more. It then removes
//! them from the store in pieces, with the queue unlocked in between. Until then they count as unacknowledged. Messages that
//! become ready later stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Queue, saturate};
use crate::broker::backlog::{Ready, push_sequence};
use crate::broker::refusal::Refusal;
use crate::storage::{Fetched, Lsn, Sequence, SequenceRange, StoreError};

/// The number of places that are removed with the queue locked once.
pub(in crate::broker) const PURGED_AT_ONCE: usize = 4096;

/// A purge that is under way. Dropping it completes it.
#[derive(Debug)]
pub(in crate::broker) struct Purge {
    queue: Arc<Queue>,
    /// Its number among the purges of its queue.
    number: u64,
    ready: Ready,
    /// Messages that count as unacknowledged because of it.
    held: u64,
    messages: u64,
    /// When the removals so far are durable.
    durable_at: Option<Lsn>,
    is_over: bool,
}

/// The purges of a queue that are under way.
#[derive(Debug, Default)]
pub(super) struct Purges {
    begun: u64,
    under_way: BTreeSet<u64>,
}

impl Purges {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.under_way.insert(self.begun);
        self.begun
    }
}

impl Ready {
    /// Takes the next places out, `most` at most, in ascending order.
    pub(super) fn take_some(&mut self, most: usize) -> Vec<SequenceRange> {
        let mut ranges = Vec::new();
        if !self.returned.is_empty() {
            let some = std::iter::from_fn(|| self.returned.pop_first()).take(most);
            some.for_each(|sequence| push_sequence(&mut ranges, sequence));
        } else if !self.fetched.is_empty() {
            let count = self.fetched.len().min(most);
            let some = self.fetched.drain(..count);
            some.for_each(|fetched: Fetched| push_sequence(&mut ranges, fetched.sequence));
        } else if let Some(behind) = self.behind.front_mut() {
            let SequenceRange { first, last } = *behind;
            let end = first.get().saturating_add(most as u64 - 1);
            if end >= last.get() {
                self.behind.pop_front();
                ranges.push(SequenceRange { first, last });
            } else {
                let end = Sequence::new(end);
                ranges.push(SequenceRange { first, last: end });
                behind.first = end.next();
            }
        }
        ranges
    }
}

impl Purge {
    /// The queue that is purged.
    pub(in crate::broker) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The number of messages that it has removed.
    pub(in crate::broker) fn messages(&self) -> u32 {
        saturate(self.messages)
    }

    /// When the removals so far are durable. `None` means that there is nothing to wait for.
    pub(in crate::broker) fn durable_at(&self) -> Option<Lsn> {
        self.durable_at
    }

    /// Removes the next messages. Returns `false` if none are left.
    pub(in crate::broker) fn remove_some(&mut self) -> Result<bool, StoreError> {
        let mut places = 0;
        while places < PURGED_AT_ONCE {
            match self.remove(PURGED_AT_ONCE - places)? {
                0 => return Ok(false),
                removed => places += removed,
            }
        }
        Ok(true)
    }

    /// Removes the messages of `most` places at most. Returns the number of places.
    fn remove(&mut self, most: usize) -> Result<usize, StoreError> {
        let ranges = self.ready.take_some(most);
        if ranges.is_empty() {
            return Ok(0);
        }
        let places =
            ranges.iter().map(|range| range.last.get() - range.first.get() + 1).sum::<u64>();
        let mut guard = self.queue.state.lock();
        let removed = self.queue.store.acknowledge(&ranges)?;
        if let Some(state) = &mut *guard {
            let held = self.held.min(removed.messages);
            state.unacknowledged = state.unacknowledged.saturating_sub(held);
            self.held -= held;
        }
        self.messages += removed.messages;
        self.durable_at = self.durable_at.max(removed.durable_at);
        Ok(usize::try_from(places).unwrap_or(usize::MAX))
    }

    /// Whether an earlier purge of the queue is under way: what this one did not find may not be removed yet.
    pub(in crate::broker) fn waits(&self) -> bool {
        let guard = self.queue.state.lock();
        let first = guard.as_ref().and_then(|state| state.purges.under_way.first());
        first.is_some_and(|first| *first < self.number)
    }

    /// Ends it: nothing is left to remove.
    pub(in crate::broker) fn end(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Some(host) = self.queue.host() {
            host.note_purge(self.durable_at);
        }
        let mut guard = self.queue.state.lock();
        if let Some(state) = &mut *guard {
            state.unacknowledged = state.unacknowledged.saturating_sub(self.held);
            state.purges.under_way.remove(&self.number);
        }
        self.queue.run(guard);
    }
}

impl Drop for Purge {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        loop {
            match self.remove_some() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // The store has failed: the process is about to end.
                    tracing::error!(queue = %self.queue.name(), %error, "a purge is not completed");
                    break;
                }
            }
        }
        self.end();
    }
}

impl Queue {
    /// Begins to remove all messages that are ready.
    pub(in crate::broker) fn begin_purge(self: &Arc<Self>) -> Result<Purge, Refusal> {
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return Err(self.not_found());
        }
        let held = self.store.len().saturating_sub(state.unacknowledged);
        let ready = state.backlog.take_ready(&self.store);
        self.forget_ready_bytes(state);
        state.unacknowledged += held;
        let number = state.purges.begin();
        let queue = Arc::clone(self);
        let (messages, durable_at, is_over) = (0, None, false);
        Ok(Purge { queue, number, ready, held, messages, durable_at, is_over })
    }
}
