//! Counts the bytes of ready bodies, in queues whose rules bound them.
//!
//! A queue that begins empty, or that is restored, is counted exactly from the first message on. When a policy begins to bound the
//! bytes of a queue that has messages, nobody knows the sizes of their bodies: they are on disk. The loader's threads count them
//! then, some at a time. Invariant: until that is done the count is too small and never too large, so that the head is never
//! removed from a queue that keeps its bound.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use super::{Queue, State};
use crate::broker::levels::Rank;
use crate::storage::{Fetch, Fetched, Sequence, StoreError};

/// Messages that are counted at a time, while the queue is locked.
const AT_ONCE: usize = 512;

/// The messages that are still to be counted: by rank from the first place to the second.
#[derive(Debug)]
pub(super) struct Uncounted {
    ranked: bool,
    places: SmallVec<[(Sequence, Sequence); 1]>,
}

impl Uncounted {
    /// Whether the message in that place has its part in the count while it is ready.
    pub(super) fn counts(uncounted: Option<&Self>, place: Sequence) -> bool {
        let Some(Self { ranked, places }) = uncounted else { return true };
        let rank = if *ranked { Rank::of(place).index() } else { 0 };
        places.get(rank).is_none_or(|(from, to)| place < *from || place >= *to)
    }

    /// The next places to count, unless all is done.
    fn next(&mut self) -> Option<&mut (Sequence, Sequence)> {
        self.places.iter_mut().find(|(from, to)| from < to)
    }
}

/// The bytes of a message's body, as far as they have their part in the count.
pub(super) fn counted_body(uncounted: Option<&Uncounted>, fetched: &Fetched) -> usize {
    if Uncounted::counts(uncounted, fetched.sequence) { fetched.message.body_len() } else { 0 }
}

impl Queue {
    pub(super) fn ready_bytes(&self) -> u64 {
        u64::try_from(self.rules.details().ready_bytes.load(Relaxed)).unwrap_or(0)
    }

    /// A message with such a body is ready now.
    pub(in crate::broker) fn more_ready(&self, bytes: usize) {
        if self.rules.bounds_bytes() {
            self.rules.details().ready_bytes.fetch_add(bytes as i64, Relaxed);
        }
    }

    /// One is not any more.
    pub(super) fn less_ready(&self, bytes: usize) {
        if self.rules.bounds_bytes() {
            self.rules.details().ready_bytes.fetch_sub(bytes as i64, Relaxed);
        }
    }

    /// None is.
    pub(super) fn forget_ready_bytes(&self, state: &mut State) {
        state.uncounted = None;
        if self.rules.bounds_bytes() {
            self.rules.details().ready_bytes.store(0, Relaxed);
        }
    }

    /// The bytes of bodies are bounded from now on. The messages that are there are counted by [`Queue::count_some`].
    ///
    /// Called with publishers kept out by the virtual host's lock: what they add is counted by them.
    pub(super) fn begin_counting(&self) {
        let mut guard = self.state.lock();
        self.rules.details().ready_bytes.store(0, Relaxed);
        if self.store.len() == 0 {
            if let Some(state) = &mut *guard {
                state.uncounted = None;
            }
            return;
        }
        let places = self.store.firsts().zip(self.store.ends()).collect();
        let uncounted = Uncounted { ranked: self.store.is_ranked(), places };
        guard.get_or_insert_default().uncounted = Some(uncounted);
    }

    /// Counts the next messages, and blocks on the disk. Returns `false` when all have been counted.
    pub(in crate::broker) fn count_some(self: &Arc<Self>) -> Result<bool, StoreError> {
        let mut guard = self.state.lock();
        let Some(state) = guard.as_mut().filter(|state| !state.deleted) else { return Ok(false) };
        let Some(next) = state.uncounted.as_mut().and_then(Uncounted::next) else {
            state.uncounted = None;
            self.run(guard);
            return Ok(false);
        };
        let (from, to) = *next;
        let mut fetched = Vec::new();
        let outcome = self.store.fetch(from, AT_ONCE, &mut fetched);
        let complete = outcome == Fetch::Complete && fetched.len() < AT_ONCE;
        next.0 = match fetched.last() {
            _ if complete => to,
            Some(last) => last.sequence.next(),
            None => from,
        };
        let (mut bytes, mut ready) = (0, Vec::new());
        for Fetched { sequence, message, .. } in fetched {
            if sequence < to && state.backlog.is_ready(&self.store, sequence) {
                bytes += message.body_len();
                ready.push((sequence, message));
            }
        }
        self.more_ready(bytes);
        // They will be fetched again.
        self.store.keep(ready);
        drop(guard);
        if outcome == Fetch::NeedsLoad {
            self.store.load(from)?;
        }
        Ok(true)
    }

    /// Whether no messages are left to be counted.
    #[cfg(test)]
    pub(in crate::broker) fn is_counted(&self) -> bool {
        self.state.lock().as_ref().is_none_or(|state| state.uncounted.is_none())
    }

    /// Counts the bodies of all messages, which nobody holds yet. Reads all of the queue, and blocks on the disk.
    pub(in crate::broker) fn measure(&self) -> Result<(), StoreError> {
        let (mut bytes, mut fetched) = (0, Vec::new());
        for mut from in self.store.firsts() {
            loop {
                let outcome = self.store.fetch(from, AT_ONCE, &mut fetched);
                let done = outcome == Fetch::Complete && fetched.len() < AT_ONCE;
                if let Some(last) = fetched.last() {
                    from = last.sequence.next();
                }
                bytes +=
                    fetched.drain(..).map(|fetched| fetched.message.body_len() as i64).sum::<i64>();
                if done {
                    break;
                }
                if outcome == Fetch::NeedsLoad {
                    self.store.load(from)?;
                }
            }
        }
        if let Some(state) = &mut *self.state.lock() {
            state.uncounted = None;
        }
        self.rules.details().ready_bytes.store(bytes, Relaxed);
        Ok(())
    }
}
