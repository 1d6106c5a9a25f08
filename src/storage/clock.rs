//! The time of day, injected so that a test can set it.
//!
//! The engine tells it to people and decides nothing by it: what has to be waited for is measured by a clock that cannot be
//! set. Whoever uses the engine may do both.

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of Unix time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub(crate) u64);

impl Timestamp {
    /// Later than any other.
    pub const LATEST: Timestamp = Timestamp(u64::MAX);

    /// The moment so many milliseconds after the beginning of 1970.
    pub fn from_unix_millis(milliseconds: u64) -> Timestamp {
        Timestamp(milliseconds)
    }

    /// Milliseconds since the beginning of 1970.
    pub fn unix_millis(self) -> u64 {
        self.0
    }

    /// The moment so many milliseconds later.
    #[must_use]
    pub fn plus_millis(self, milliseconds: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(milliseconds))
    }

    /// How long it is until `later`; no time, where that is over.
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }

    /// How long ago this was at the moment `now`; nothing, where a clock that was set back says that it is to come.
    pub fn age(self, now: Timestamp) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }
}

/// Says what time it is.
pub trait Clock: Send + Sync + Debug {
    /// The time of day. It may jump, and back as well.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still, so that a run can be repeated to the byte.
impl Clock for Timestamp {
    fn now(&self) -> Timestamp {
        *self
    }
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock that is before 1970 was never set.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clock_that_was_set_back_has_yet_to_reach_is_no_time_ago() {
        let written = Timestamp::from_unix_millis(5000);
        assert_eq!(written.age(Timestamp::from_unix_millis(6500)), Duration::from_millis(1500));
        assert_eq!(written.age(Timestamp::from_unix_millis(4000)), Duration::ZERO);
    }
}
