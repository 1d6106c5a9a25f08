//! Those who wait for the log to become durable: threads, callbacks and futures.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::task::Waker;

use crate::storage::error::StoreError;
use crate::storage::sync::{Mutex, Slip, Thread, breaks};
use crate::storage::units::Lsn;

/// What to do when an LSN has become durable, or never will.
pub(super) enum Action {
    Unpark(Thread),
    Wake(Arc<WakerSlot>),
    Call(Box<dyn FnOnce(Result<(), StoreError>) + Send>),
}

/// The waker of a future, which may change from poll to poll; empty once the future was dropped.
pub(super) type WakerSlot = Mutex<Option<Waker>>;

struct Waiter {
    lsn: Lsn,
    action: Action,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Waiter) -> bool {
        self.lsn == other.lsn
    }
}

impl Eq for Waiter {}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Waiter) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Waiter) -> std::cmp::Ordering {
        self.lsn.cmp(&other.lsn)
    }
}

/// The waiters, lowest LSN first.
#[derive(Default)]
pub(super) struct Waiters(Mutex<BinaryHeap<Reverse<Waiter>>>);

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiters({})", self.0.lock().len())
    }
}

impl Waiters {
    /// Adds a waiter, unless `settled` (asked under the lock that [`settle`](Self::settle) takes, so that nothing slips
    /// through) says that there is nothing to wait for: then the action comes back with the outcome.
    pub(super) fn add(
        &self,
        lsn: Lsn,
        action: Action,
        settled: impl Fn() -> Option<Result<(), StoreError>>,
    ) -> Option<(Action, Result<(), StoreError>)> {
        let early = if breaks(Slip::AskBeforeLock) { Some(settled()) } else { None };
        let mut waiters = self.0.lock();
        if let Some(outcome) = early.unwrap_or_else(&settled) {
            return Some((action, outcome));
        }
        waiters.push(Reverse(Waiter { lsn, action }));
        None
    }

    /// Tells everybody who waits for `durable` or less that it is durable; or everybody that it never will be.
    pub(super) fn settle(&self, outcome: Result<Lsn, &StoreError>) {
        loop {
            let mut waiters = self.0.lock();
            let due = waiters
                .peek()
                .is_some_and(|Reverse(first)| outcome.map_or(true, |durable| first.lsn <= durable));
            let Some(Reverse(waiter)) = due.then(|| waiters.pop()).flatten() else { return };
            drop(waiters); // An action may take its time, or wait for something else.
            waiter.action.run(outcome.map(|_| ()).map_err(Clone::clone));
        }
    }
}

impl Action {
    pub(super) fn run(self, outcome: Result<(), StoreError>) {
        match self {
            Action::Unpark(thread) => thread.unpark(),
            Action::Wake(slot) => {
                // Not under the lock: a waker may poll, or drop, the future at once, and both take it.
                let waker = slot.lock().take();
                waker.into_iter().for_each(Waker::wake);
            }
            Action::Call(callback) => callback(outcome),
        }
    }
}
