//! What the log, those who wait for it and the segment pool synchronize with, in one place.
//!
//! `tests/schedules` compiles these sources a second time, with another file in the place of this one: there the same names
//! mean a scheduler's, which decides on every step of every thread. So nothing that one of these threads may wait for, or that
//! tells another one something, may come from anywhere else.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::thread::{Thread, current, park};

pub(crate) use parking_lot::{Condvar, Mutex};

/// A rule of the protocol between these threads that can be broken on purpose, where the scheduler decides, to see that it is
/// noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    /// The durable LSN moves before the sync.
    DurableBeforeSync,
    /// Whether there is anything to wait for is asked before the waiters are locked.
    AskBeforeLock,
    /// The writer goes to sleep without a word.
    SleepUnannounced,
    /// Whoever waits is told of a failure before it is known to those who come.
    TellBeforeFailed,
    /// A stopping log leaves what nobody waits for.
    StopBeforeWritten,
    /// A segment's file is made ready without telling anybody.
    ReadyUntold,
    /// A file comes back without telling who may have no room for one.
    RecycledUntold,
}

/// Whether a rule is broken: never, here.
pub(crate) const fn breaks(_slip: Slip) -> bool {
    false
}
