//! Reading messages back from the log, by threads that may wait for the disk so that nobody else has to.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::jobs::Jobs;
use super::queue::Queue;
use crate::storage::Sequence;

/// How long what could not be read is left alone before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where queues leave what they need read.
#[derive(Debug, Default)]
pub(super) struct Loader {
    jobs: Jobs<(Arc<Queue>, Sequence)>,
}

impl Loader {
    /// Has the queue's messages from `from` on read, and the queue dispatched again.
    pub(super) fn submit(&self, queue: Arc<Queue>, from: Sequence) {
        self.jobs.submit((queue, from));
    }

    /// Has what could not be read tried again, `after` some time: always the same, or the order is wrong.
    pub(super) fn submit_later(&self, queue: Arc<Queue>, from: Sequence, after: Duration) {
        self.jobs.submit_later((queue, from), after);
    }

    /// Reads for as long as the list of jobs is open.
    pub(super) fn work(&self) {
        while let Some((queue, from)) = self.jobs.next() {
            self.read(queue, from);
        }
    }

    /// Reads what queues wait for by now, in the caller's thread. Whether there was anything.
    pub(super) fn work_off(&self) -> bool {
        let mut any = false;
        while let Some((queue, from)) = self.jobs.take() {
            self.read(queue, from);
            any = true;
        }
        any
    }

    /// Ends the work.
    pub(super) fn close(&self) {
        self.jobs.close();
    }

    fn read(&self, queue: Arc<Queue>, from: Sequence) {
        let error = match queue.load(from) {
            Ok(any) => return queue.loaded(any),
            Err(error) => error,
        };
        // A failed store ends the process; an unreadable place in the log does not.
        error!(queue = %queue.name(), %error, "cannot read messages back");
        if queue.load_failed(error) {
            self.submit_later(queue, from, RETRY_AFTER);
        }
    }
}
