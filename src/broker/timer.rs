//! Wakes queues when messages expire, or when they themselves do.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::queue::Queue;
use crate::storage::{QueueId, Store, Timestamp};

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

/// Each queue is in it once, however often it has asked: queues may live for years, and shorter than what they wait for.
#[derive(Debug, Default)]
struct Due {
    /// By the time.
    queues: BTreeMap<(Timestamp, QueueId), Weak<Queue>>,
    times: HashMap<QueueId, Timestamp>,
    closed: bool,
}

impl Due {
    fn first(&self) -> Option<Timestamp> {
        self.queues.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next queue to be woken, if it is time.
    fn take(&mut self, now: Timestamp) -> Option<Weak<Queue>> {
        let entry = self.queues.first_entry().filter(|entry| entry.key().0 <= now)?;
        self.times.remove(&entry.key().1);
        Some(entry.remove())
    }

    /// Adds a queue, unless it is woken before that anyway.
    fn add(&mut self, at: Timestamp, queue: &Arc<Queue>) {
        let id = queue.id();
        match self.times.get(&id) {
            Some(known) if *known <= at => return,
            _ => self.remove(id),
        }
        self.times.insert(id, at);
        self.queues.insert((at, id), Arc::downgrade(queue));
    }

    fn remove(&mut self, id: QueueId) {
        if let Some(at) = self.times.remove(&id) {
            self.queues.remove(&(at, id));
        }
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

    /// Has the queue woken at that time, or when it is over. One that waits for several things is woken for the earliest, and asks
    /// again for the others then.
    pub(super) fn wake_at(&self, at: Timestamp, queue: &Arc<Queue>) {
        let mut due = self.due.lock();
        if due.closed {
            return;
        }
        let earlier = due.first().is_none_or(|first| at < first);
        due.add(at, queue);
        if earlier {
            self.changed.notify_one();
        }
    }

    /// The queue with this number has gone.
    pub(super) fn forget(&self, id: QueueId) {
        self.due.lock().remove(id);
    }

    /// Wakes queues until the timer is closed.
    pub(super) fn work(&self) {
        let mut due = self.due.lock();
        while !due.closed {
            let now = self.now();
            if let Some(queue) = due.take(now) {
                drop(due);
                wake(&queue);
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
            let Some(queue) = self.due.lock().take(now) else { return any };
            wake(&queue);
            any = true;
        }
    }

    /// How many queues are to be woken.
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

fn wake(queue: &Weak<Queue>) {
    if let Some(queue) = queue.upgrade() {
        queue.wake();
    }
}
