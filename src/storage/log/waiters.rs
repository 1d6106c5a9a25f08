//! Callbacks and futures that wait for the log to become durable. Threads [listen](crate::storage::sync::Bell) instead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use crate::storage::error::StoreError;
use crate::storage::sync::{Mutex, Slip, breaks};
use crate::storage::units::Lsn;

/// What to do when an LSN has become durable, or never will.
pub(super) enum Action {
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
            // A few at a time: an action may take its time, or wait for something else, and is not run under the lock.
            let mut due = SmallVec::<[Action; 16]>::new();
            let mut waiters = self.0.lock();
            while due.len() < due.inline_size()
                && let Some(first) = waiters.peek_mut()
                && outcome.map_or(true, |durable| first.0.lsn <= durable)
            {
                due.push(PeekMut::pop(first).0.action);
            }
            drop(waiters);
            if due.is_empty() {
                return;
            }
            for action in due {
                action.run(outcome.map(|_| ()).map_err(Clone::clone));
            }
        }
    }
}

impl Action {
    pub(super) fn run(self, outcome: Result<(), StoreError>) {
        match self {
            Action::Wake(slot) => {
                // Not under the lock: a waker may poll, or drop, the future at once, and both take it.
                let waker = slot.lock().take();
                waker.into_iter().for_each(Waker::wake);
            }
            Action::Call(callback) => callback(outcome),
        }
    }
}
