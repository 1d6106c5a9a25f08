//! The threads that may wait for the disk so that nobody else has to: they read messages back from the log.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::error;

use super::queue::Queue;
use crate::storage::{Background, Sequence};

/// Enough to keep a disk busy.
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

impl Jobs {
    /// A job that is due.
    fn take(&mut self) -> Option<(Arc<Queue>, Sequence)> {
        let due = self.later.front().is_some_and(|(due, ..)| *due <= Instant::now());
        if due && let Some((_, queue, from)) = self.later.pop_front() {
            return Some((queue, from));
        }
        self.waiting.pop_front()
    }
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
            if let Some(job) = jobs.take() {
                return Some(job);
            }
            match jobs.later.front().map(|(due, ..)| *due) {
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
            self.read(queue, from);
        }
    }

    /// Reads what queues wait for by now, in the caller's thread. Whether there was anything.
    pub(super) fn work_off(&self) -> bool {
        let mut any = false;
        loop {
            let job = self.jobs.lock().take();
            let Some((queue, from)) = job else { return any };
            self.read(queue, from);
            any = true;
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

/// The running threads; they end when this is dropped.
#[derive(Debug)]
pub(super) struct LoaderThreads {
    loader: Arc<Loader>,
    threads: Vec<JoinHandle<()>>,
}

impl LoaderThreads {
    /// Starts the threads; with [`Background::Caller`] there are none, and somebody has to [work off](Loader::work_off)
    /// what comes.
    pub(super) fn start(background: Background) -> io::Result<Self> {
        let threads = match background {
            Background::Threads => THREADS,
            Background::Caller => 0,
        };
        let mut started = Self { loader: Arc::default(), threads: Vec::with_capacity(threads) };
        for _ in 0..threads {
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
