//! What some threads have to do for others: a list that is worked off in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Jobs that wait for a thread.
#[derive(Debug)]
pub(super) struct Jobs<T> {
    list: Mutex<List<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct List<T> {
    waiting: VecDeque<T>,
    /// Failed before, and not to be tried before that time; the earliest first.
    later: VecDeque<(Instant, T)>,
    closed: bool,
}

impl<T> Default for Jobs<T> {
    fn default() -> Self {
        let list = List { waiting: VecDeque::new(), later: VecDeque::new(), closed: false };
        Self { list: Mutex::new(list), changed: Condvar::new() }
    }
}

impl<T> List<T> {
    /// A job that is due.
    fn take(&mut self) -> Option<T> {
        let due = self.later.front().is_some_and(|(due, _)| *due <= Instant::now());
        if due && let Some((_, job)) = self.later.pop_front() {
            return Some(job);
        }
        self.waiting.pop_front()
    }
}

impl<T> Jobs<T> {
    /// Adds a job, unless the list is closed.
    pub(super) fn submit(&self, job: T) {
        let mut list = self.list.lock();
        if !list.closed {
            list.waiting.push_back(job);
            self.changed.notify_one();
        }
    }

    /// Adds a job that is to be done after some time: always the same, or the order is wrong.
    pub(super) fn submit_later(&self, job: T, after: Duration) {
        let mut list = self.list.lock();
        if !list.closed {
            list.later.push_back((Instant::now() + after, job));
            self.changed.notify_one();
        }
    }

    /// The next job, waiting for it; `None` when the list is closed.
    pub(super) fn next(&self) -> Option<T> {
        let mut list = self.list.lock();
        loop {
            if list.closed {
                return None;
            }
            if let Some(job) = list.take() {
                return Some(job);
            }
            match list.later.front().map(|(due, _)| *due) {
                Some(due) => {
                    self.changed.wait_until(&mut list, due);
                }
                None => self.changed.wait(&mut list),
            }
        }
    }

    /// A job that is due, if there is one now.
    pub(super) fn take(&self) -> Option<T> {
        self.list.lock().take()
    }

    /// Drops what waits, and takes no more.
    pub(super) fn close(&self) {
        // The jobs are dropped with the list unlocked.
        let (waiting, later) = {
            let mut list = self.list.lock();
            list.closed = true;
            (std::mem::take(&mut list.waiting), std::mem::take(&mut list.later))
        };
        drop((waiting, later));
        self.changed.notify_all();
    }
}
