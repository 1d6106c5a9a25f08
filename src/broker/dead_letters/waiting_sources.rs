//! Source queues whose dead letters wait for a change: a route, or room in a full target queue.
//!
//! They retry by themselves after a pause. A notification makes that sooner; nothing relies on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::broker::queue::Queue;
use crate::storage::QueueId;

/// How many queues are notified of a change. The others retry after their pause.
const NOTIFIED: usize = 8;

/// The source queues that wait for the same change.
#[derive(Debug, Default)]
pub(in crate::broker) struct WaitingSources {
    is_any: AtomicBool,
    queues: Mutex<HashMap<QueueId, Weak<Queue>>>,
}

impl WaitingSources {
    /// Adds a queue, unless it is there already.
    pub(in crate::broker) fn add(&self, queue: &Arc<Queue>) {
        let mut queues = self.queues.lock();
        if queues.len().is_power_of_two() {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        queues.insert(queue.id(), Arc::downgrade(queue));
        self.is_any.store(true, Relaxed);
    }

    /// Whether there are any.
    pub(in crate::broker) fn is_any(&self) -> bool {
        self.is_any.load(Relaxed)
    }

    /// Removes some of the queues, and has them retry.
    pub(in crate::broker) fn notify(&self) {
        if !self.is_any() {
            return;
        }
        // The list is unlocked before a queue is locked.
        let notified: Vec<_> = {
            let mut queues = self.queues.lock();
            let ids: Vec<_> = queues.keys().take(NOTIFIED).copied().collect();
            let notified = ids.iter().filter_map(|id| queues.remove(id)?.upgrade()).collect();
            self.is_any.store(!queues.is_empty(), Relaxed);
            notified
        };
        notified.iter().for_each(Queue::retry_dead_letters);
    }
}
