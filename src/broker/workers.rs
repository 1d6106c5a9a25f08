//! What works for all queues while nobody else waits, and its threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::error;

use super::dead_letters::Carrier;
use super::loader::Loader;
use super::timer::Timer;
use crate::storage::{Background, Store};

/// Threads that read messages back: enough to keep a disk busy.
const LOADERS: usize = 2;

/// The parts, as queues know them.
#[derive(Debug)]
pub(super) struct Workers {
    /// What everything is kept in.
    pub(super) store: Store,
    /// Reads messages back.
    pub(super) loader: Loader,
    /// Carries dead letters.
    pub(super) carrier: Carrier,
    /// Wakes queues when it is time.
    pub(super) timer: Timer,
    /// The shortest time, in milliseconds, that any consumer was ever given to acknowledge a delivery; the largest number: none
    /// was.
    shortest_timeout: AtomicU64,
}

impl Workers {
    /// Those of a store, without threads of their own.
    pub(super) fn new(store: &Store) -> Self {
        let (loader, carrier) = (Loader::default(), Carrier::default());
        let (timer, shortest_timeout) = (Timer::new(store.clone()), AtomicU64::new(u64::MAX));
        Self { store: store.clone(), loader, carrier, timer, shortest_timeout }
    }

    /// Notes that a consumer is given so much time to acknowledge a delivery.
    pub(super) fn note_timeout(&self, timeout: Duration) {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.shortest_timeout.fetch_min(milliseconds, Relaxed);
    }

    /// The shortest time that any consumer was ever given to acknowledge a delivery, if one was.
    pub(super) fn shortest_timeout(&self) -> Option<Duration> {
        let shortest = self.shortest_timeout.load(Relaxed);
        (shortest < u64::MAX).then(|| Duration::from_millis(shortest))
    }
}

/// The running threads; they end when this is dropped.
#[derive(Debug)]
pub(super) struct WorkerThreads {
    workers: Arc<Workers>,
    threads: Vec<JoinHandle<()>>,
}

impl WorkerThreads {
    /// Starts the threads; with [`Background::Caller`] there are none, and somebody has to [work off](Self::work_off)
    /// what comes.
    pub(super) fn start(store: &Store) -> io::Result<Self> {
        let mut started = Self { workers: Arc::new(Workers::new(store)), threads: Vec::new() };
        if store.background() == Background::Threads {
            for _ in 0..LOADERS {
                started.spawn("haypile-loader", |workers| workers.loader.work())?;
            }
            started.spawn("haypile-carrier", |workers| workers.carrier.work())?;
            started.spawn("haypile-timer", |workers| workers.timer.work())?;
        }
        Ok(started)
    }

    fn spawn(&mut self, name: &str, work: impl Fn(&Workers) + Send + 'static) -> io::Result<()> {
        let workers = Arc::clone(&self.workers);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(&workers))?;
        self.threads.push(thread);
        Ok(())
    }

    pub(super) fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// Does what is to be done by now, in the caller's thread. Whether there was anything.
    pub(super) fn work_off(&self) -> bool {
        let woken = self.workers.timer.work_off();
        let read = self.workers.loader.work_off();
        let carried = self.workers.carrier.work_off();
        woken || read || carried
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.workers.timer.close();
        self.workers.loader.close();
        self.workers.carrier.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread that works for the queues panicked");
            }
        }
    }
}
