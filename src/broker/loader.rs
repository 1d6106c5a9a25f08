//! Reading messages back from the log, by threads that may wait for the disk so that nobody else has to.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::jobs::Jobs;
use super::queue::Queue;
use crate::storage::{Sequence, StoreError};

/// How long what could not be read is left alone before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A read that a queue needs.
#[derive(Debug)]
enum Job {
    /// Its messages from that place on, to hand them out.
    Load(Arc<Queue>, Sequence),
    /// Messages whose bodies are to be counted.
    Count(Arc<Queue>),
}

/// Where queues leave what they need read.
#[derive(Debug, Default)]
pub(super) struct Loader {
    jobs: Jobs<Job>,
}

impl Loader {
    /// Has the queue's messages from `from` on read, and the queue dispatched again.
    pub(super) fn submit(&self, queue: Arc<Queue>, from: Sequence) {
        self.jobs.submit(Job::Load(queue, from));
    }

    /// Has what could not be read tried again, `after` some time: always the same, or the order is wrong.
    pub(super) fn submit_later(&self, queue: Arc<Queue>, from: Sequence, after: Duration) {
        self.jobs.submit_later(Job::Load(queue, from), after);
    }

    /// Has the bodies of the queue's uncounted messages counted.
    pub(super) fn submit_count(&self, queue: Arc<Queue>) {
        self.jobs.submit(Job::Count(queue));
    }

    /// Reads for as long as the list of jobs is open.
    pub(super) fn work(&self) {
        while let Some(job) = self.jobs.next() {
            self.perform(job);
        }
    }

    /// Reads what queues wait for by now, in the caller's thread. Whether there was anything.
    pub(super) fn work_off(&self) -> bool {
        let mut any = false;
        while let Some(job) = self.jobs.take() {
            self.perform(job);
            any = true;
        }
        any
    }

    /// Ends the work.
    pub(super) fn close(&self) {
        self.jobs.close();
    }

    fn perform(&self, job: Job) {
        match job {
            Job::Load(queue, from) => self.read(queue, from),
            Job::Count(queue) => self.count(queue),
        }
    }

    /// Counts some messages. The others wait for their turn behind the jobs of other queues.
    fn count(&self, queue: Arc<Queue>) {
        match queue.count_some() {
            Ok(true) => self.submit_count(queue),
            Ok(false) | Err(StoreError::Failed(_) | StoreError::Closed) => {}
            Err(error) => {
                error!(queue = %queue.name(), %error, "cannot count the bytes in the queue");
                self.jobs.submit_later(Job::Count(queue), RETRY_AFTER);
            }
        }
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
