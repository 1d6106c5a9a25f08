//! The names of the engine's `sync.rs`, meaning the scheduler's. What looks like `parking_lot` there looks like it here.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A lock.
#[derive(Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// The lock is held for as long as this lives; not while its holder waits.
pub(crate) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

const HELD: &str = "a guard holds its lock";
const UNPOISONED: &str = "a thread that panics ends the run";

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect(UNPOISONED)))
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(HELD)
    }
}

/// A condition variable.
#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect(HELD);
        guard.0 = Some(self.0.wait(held).expect(UNPOISONED));
    }

    /// The scheduler knows no time, and it is never up: whoever counts on that is found out.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _time: Duration) {
        self.wait(guard);
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _deadline: Instant) {
        self.wait(guard);
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// See the engine's own.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<u32>,
    heard: Condvar,
}

/// See the engine's own.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    bell: &'a Bell,
    rung: u32,
}

impl Bell {
    pub(crate) fn listen(&self) -> Listener<'_> {
        Listener { bell: self, rung: *self.rung.lock() }
    }

    pub(crate) fn ring(&self) {
        *self.rung.lock() += 1;
        self.heard.notify_all();
    }
}

impl Listener<'_> {
    pub(crate) fn sleep(&self) {
        let mut rung = self.bell.rung.lock();
        while *rung == self.rung {
            self.bell.heard.wait(&mut rung);
        }
    }
}

/// A cell that is written once. Looking at it is a step that others may come before.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    step: AtomicBool,
    cell: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { step: AtomicBool::new(false), cell: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.step.load(Ordering::SeqCst);
        self.cell.get()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.step.store(true, Ordering::SeqCst);
        self.cell.set(value)
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.step.store(true, Ordering::SeqCst);
        self.cell.get_or_init(make)
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        OnceLock { step: AtomicBool::new(true), cell: value.into() }
    }
}

/// See the engine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    DurableBeforeSync,
    AskBeforeLock,
    AskBeforeListening,
    SleepUnannounced,
    TellBeforeFailed,
    StopBeforeWritten,
    ReadyUntold,
    RecycledUntold,
}

thread_local! {
    /// All threads of a run are one to the system.
    static BROKEN: Cell<Option<Slip>> = const { Cell::new(None) };
}

/// Whether a rule is broken in this run.
pub(crate) fn breaks(slip: Slip) -> bool {
    BROKEN.get() == Some(slip)
}

/// Does something with a rule broken.
pub(crate) fn with_broken<T>(slip: Slip, what: impl FnOnce() -> T) -> T {
    struct Mended;
    impl Drop for Mended {
        fn drop(&mut self) {
            BROKEN.set(None);
        }
    }
    BROKEN.set(Some(slip));
    let _mended = Mended;
    what()
}
