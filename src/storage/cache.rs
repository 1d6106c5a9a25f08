//! The budgets for what is in memory: messages, and the places of the queues' indexes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

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

    /// The same for a message that comes back and is first in its queue: there is a quarter more for these, so that they have room also
    /// where messages further behind have taken all.
    pub(crate) fn try_take_back(&self, bytes: u64) -> bool {
        let fits = self.taken.load(Ordering::Relaxed) + bytes <= self.limit + self.limit / 4;
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

/// How many places of the queues' indexes are in memory, and how many should be at most.
#[derive(Debug)]
pub(crate) struct ResidentPlaces {
    limit: i64,
    taken: AtomicI64,
}

/// What a place takes in memory, roughly.
const PLACE_BYTES: u64 = 40;

impl ResidentPlaces {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes: u64) -> ResidentPlaces {
        let limit = i64::try_from(bytes / PLACE_BYTES).unwrap_or(i64::MAX);
        ResidentPlaces { limit, taken: AtomicI64::new(0) }
    }

    pub(crate) fn take(&self, places: i64) {
        if places != 0 {
            self.taken.fetch_add(places, Ordering::Relaxed);
        }
    }

    /// Whether places should leave memory.
    pub(crate) fn is_short(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.limit
    }

    /// Whether so much is taken that queues that nobody uses have to be gone through.
    pub(crate) fn is_far_short(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.limit.saturating_add(self.limit / 4)
    }

    /// Places in memory.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed).max(0) as u64
    }
}
