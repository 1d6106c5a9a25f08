//! Wakes queues when messages expire, or when they themselves do.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::queue::Queue;
use crate::storage::{Store, Timestamp};

/// The time of day may be set, forward as well: whatever is due then is noticed after this time at the latest.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The queues that are to be woken.
#[derive(Debug)]
pub(super) struct Timer {
    /// Knows what time it is.
    store: Store,
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    /// By the time; the number tells apart what is due at the same time. A queue that has gone meanwhile need not be woken.
    queues: BTreeMap<(Timestamp, u64), Weak<Queue>>,
    next: u64,
    closed: bool,
}

impl Due {
    fn first(&self) -> Option<Timestamp> {
        self.queues.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next queue to be woken, if it is time, and when it was to be woken.
    fn take(&mut self, now: Timestamp) -> Option<(Timestamp, Weak<Queue>)> {
        let entry = self.queues.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some((entry.key().0, entry.remove()))
    }
}

impl Timer {
    /// A timer that goes by the store's clock.
    pub(super) fn new(store: Store) -> Self {
        Self { store, due: Mutex::default(), changed: Condvar::new() }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// Has the queue woken at that time, or when it is over.
    pub(super) fn wake_at(&self, at: Timestamp, queue: &Arc<Queue>) {
        let mut due = self.due.lock();
        if due.closed {
            return;
        }
        let earlier = due.first().is_none_or(|first| at < first);
        let number = due.next;
        due.next += 1;
        due.queues.insert((at, number), Arc::downgrade(queue));
        if earlier {
            self.changed.notify_one();
        }
    }

    /// Wakes queues until the timer is closed.
    pub(super) fn work(&self) {
        let mut due = self.due.lock();
        while !due.closed {
            let now = self.now();
            if let Some((at, queue)) = due.take(now) {
                drop(due);
                wake(&queue, at);
                due = self.due.lock();
                continue;
            }
            match due.first() {
                Some(at) => {
                    let sleep = now.until(at).min(LONGEST_SLEEP);
                    self.changed.wait_for(&mut due, sleep);
                }
                None => self.changed.wait(&mut due),
            }
        }
    }

    /// Wakes the queues whose time has come, in the caller's thread. Whether there were any.
    pub(super) fn work_off(&self) -> bool {
        let now = self.now();
        let mut any = false;
        loop {
            let Some((at, queue)) = self.due.lock().take(now) else { return any };
            wake(&queue, at);
            any = true;
        }
    }

    /// How often somebody is to be woken.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.due.lock().queues.len()
    }

    /// Ends the work.
    pub(super) fn close(&self) {
        let queues = {
            let mut due = self.due.lock();
            due.closed = true;
            std::mem::take(&mut due.queues)
        };
        drop(queues);
        self.changed.notify_all();
    }
}

fn wake(queue: &Weak<Queue>, at: Timestamp) {
    if let Some(queue) = queue.upgrade() {
        queue.wake(at);
    }
}
