//! What the log, those who wait for it and the segment pool synchronize with, in one place.
//!
//! `tests/schedules` compiles these sources a second time, with another file in the place of this one: there the same names
//! mean a scheduler's, which decides on every step of every thread. So nothing that one of these threads may wait for, or that
//! tells another one something, may come from anywhere else.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

use std::sync::atomic::AtomicU32;

/// Wakes all threads that listen, at once: with one system call, and with none if nobody does.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// How often it has been rung.
    rung: AtomicU32,
    listeners: AtomicU32,
}

/// A thread that listens to a bell. It hears all that is rung from then on, asleep or not.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    bell: &'a Bell,
    rung: u32,
}

impl Bell {
    pub(crate) fn listen(&self) -> Listener<'_> {
        // All in one order with what `ring` does: either it sees the listener, or the listener sees that it has been rung, and
        // what was done before.
        self.listeners.fetch_add(1, Ordering::SeqCst);
        Listener { bell: self, rung: self.rung.load(Ordering::SeqCst) }
    }

    pub(crate) fn ring(&self) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        if self.listeners.load(Ordering::SeqCst) > 0 {
            atomic_wait::wake_all(&self.rung);
        }
    }
}

impl Listener<'_> {
    /// Sleeps until the bell is rung, if it has not been rung yet; or wakes up early.
    pub(crate) fn sleep(&self) {
        atomic_wait::wait(&self.bell.rung, self.rung);
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.bell.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A rule of the protocol between these threads that can be broken on purpose, where the scheduler decides, to see that it is
/// noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    /// The durable LSN moves before the sync.
    DurableBeforeSync,
    /// Whether there is anything to wait for is asked before the waiters are locked.
    AskBeforeLock,
    /// A thread asks whether there is anything to wait for before it listens.
    AskBeforeListening,
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
