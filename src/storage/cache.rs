//! The budget for message bodies in memory.

use std::sync::atomic::{AtomicU64, Ordering};

/// How much of the budget is taken. Queues are read from the front, so it is the messages that come last that go
/// without: what was taken in first is needed first.
#[derive(Debug)]
pub(crate) struct Cache {
    limit: u64,
    taken: AtomicU64,
}

impl Cache {
    pub(crate) fn new(limit: u64) -> Cache {
        Cache { limit, taken: AtomicU64::new(0) }
    }

    /// Takes so many bytes, if they are within the budget.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        let fits = self.taken.load(Ordering::Relaxed) + bytes <= self.limit;
        if fits {
            self.take(bytes);
        }
        fits
    }

    /// Takes so many bytes, budget or not: what is about to be delivered has to be in memory.
    pub(crate) fn take(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            let before = self.taken.fetch_sub(bytes, Ordering::Relaxed);
            debug_assert!(before >= bytes, "more was given back than was taken");
        }
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}
