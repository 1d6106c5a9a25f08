//! The thread that carries dead letters to their exchange.
//!
//! A queue that has some says so; what they are, it is asked for when it is its turn. Nobody who publishes or consumes waits
//! for it, also when a letter has to be read back from the log first.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::broker::jobs::Jobs;
use crate::broker::queue::Queue;
use crate::storage::StoreError;

/// How long letters that could not be stored are left alone: the disk is full, most likely.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The queues that have dead letters.
#[derive(Debug, Default)]
pub(in crate::broker) struct Carrier {
    jobs: Jobs<Arc<Queue>>,
}

impl Carrier {
    /// Has the queue's dead letters carried away.
    pub(in crate::broker) fn submit(&self, queue: Arc<Queue>) {
        self.jobs.submit(queue);
    }

    /// Carries for as long as the list of jobs is open.
    pub(in crate::broker) fn work(&self) {
        while let Some(queue) = self.jobs.next() {
            self.carry(queue);
        }
    }

    /// Carries what there is now, in the caller's thread. Whether there was anything.
    pub(in crate::broker) fn work_off(&self) -> bool {
        let mut any = false;
        while let Some(queue) = self.jobs.take() {
            self.carry(queue);
            any = true;
        }
        any
    }

    /// Ends the work.
    pub(in crate::broker) fn close(&self) {
        self.jobs.close();
    }

    fn carry(&self, queue: Arc<Queue>) {
        let Some(host) = queue.host() else { return };
        match host.carry_dead_letters(&queue) {
            Ok(0) => {}
            // Others have their turn in between.
            Ok(_) => self.jobs.submit(queue),
            // They stay in their queue; a store that has failed or was closed stays so.
            Err(StoreError::Failed(_) | StoreError::Closed) => {}
            Err(error) => {
                warn!(queue = %queue.name(), %error, "dead letters wait in their queue");
                self.jobs.submit_later(queue, RETRY_AFTER);
            }
        }
    }
}
