//! A clock that stands still: the time of day is written to disk, and a run is to be the same every time.

use crate::storage::{Clock, Timestamp};

/// It is always the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(1_000_000_000_000)
    }
}
