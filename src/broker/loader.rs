//! The threads that may wait for the disk so that nobody else has to: they read messages back from the log.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::error;

use super::queue::Queue;
use crate::storage::Sequence;

/// Enough to keep a disk busy; a queue has at most one read under way.
const THREADS: usize = 2;

/// How long what could not be read is left alone before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where queues leave what they need read.
#[derive(Debug, Default)]
pub(super) struct Loader {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<(Arc<Queue>, Sequence)>,
    /// Failed before, and not to be tried before that time; the earliest first.
    later: VecDeque<(Instant, Arc<Queue>, Sequence)>,
    closed: bool,
}

impl Loader {
    /// Has the queue's messages from `from` on read, and the queue dispatched again.
    pub(super) fn submit(&self, queue: Arc<Queue>, from: Sequence) {
        let mut jobs = self.jobs.lock();
        if !jobs.closed {
            jobs.waiting.push_back((queue, from));
            self.changed.notify_one();
        }
    }

    fn next(&self) -> Option<(Arc<Queue>, Sequence)> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.closed {
                return None;
            }
            let due = jobs.later.front().map(|(due, ..)| *due);
            if due.is_some_and(|due| due <= Instant::now())
                && let Some((_, queue, from)) = jobs.later.pop_front()
            {
                return Some((queue, from));
            }
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            match due {
                Some(due) => {
                    self.changed.wait_until(&mut jobs, due);
                }
                None => self.changed.wait(&mut jobs),
            }
        }
    }

    /// Has what could not be read tried again, `after` some time: always the same, or the order is wrong.
    pub(super) fn submit_later(&self, queue: Arc<Queue>, from: Sequence, after: Duration) {
        let mut jobs = self.jobs.lock();
        if !jobs.closed {
            jobs.later.push_back((Instant::now() + after, queue, from));
            self.changed.notify_one();
        }
    }

    fn work(&self) {
        while let Some((queue, from)) = self.next() {
            let Err(error) = queue.load(from) else {
                queue.loaded();
                continue;
            };
            // A failed store ends the process; an unreadable place in the log does not.
            error!(queue = %queue.name(), %error, "cannot read messages back");
            if queue.load_failed(error) {
                self.submit_later(queue, from, RETRY_AFTER);
            }
        }
    }
}

/// The running threads; they end when this is dropped.
#[derive(Debug)]
pub(super) struct LoaderThreads {
    loader: Arc<Loader>,
    threads: Vec<JoinHandle<()>>,
}

impl LoaderThreads {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        let mut started = Self { loader: Arc::default(), threads: Vec::with_capacity(THREADS) };
        for _ in 0..THREADS {
            let loader = Arc::clone(&started.loader);
            let builder = thread::Builder::new().name("haypile-loader".into());
            started.threads.push(builder.spawn(move || loader.work())?);
        }
        Ok(started)
    }

    pub(super) fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }
}

impl Drop for LoaderThreads {
    fn drop(&mut self) {
        {
            let mut jobs = self.loader.jobs.lock();
            jobs.closed = true;
            jobs.waiting.clear();
            jobs.later.clear();
        }
        self.loader.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a loader thread panicked");
            }
        }
    }
}
