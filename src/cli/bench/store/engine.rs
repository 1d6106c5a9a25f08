//! A store to be measured, and what it did meanwhile.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::BenchError;
use crate::cli::bench::cpu::cpu_time;
use crate::storage::{Options, Queue, Store};

/// How often it is looked whether all segments are ready.
const LOOK: Duration = Duration::from_millis(5);

/// How long that may take: on a disk that is nearly full there may never be all of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store with a queue.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) store: Store,
    pub(super) queue: Queue,
}

impl Engine {
    /// A new store with an empty queue.
    pub(super) fn create(dir: &Path, options: Options) -> Result<Engine, BenchError> {
        let store = Store::open(dir, options)?;
        let (queue, created) = store.create_queue(b"bench")?;
        store.wait_durable(created)?;
        let engine = Engine { store, queue };
        engine.settle();
        Ok(engine)
    }

    /// A store that is there, and its first queue.
    pub(super) fn open(dir: &Path, options: Options) -> Result<Engine, BenchError> {
        Engine::of(Store::open(dir, options)?)
    }

    /// The same, of one that was opened.
    pub(super) fn of(store: Store) -> Result<Engine, BenchError> {
        let queue = store.queues().into_iter().next().ok_or(BenchError::NoQueue)?;
        let engine = Engine { store, queue };
        engine.settle();
        Ok(engine)
    }

    /// Closes the store. Nobody else may have a handle of it, or it stays locked.
    pub(super) fn close(self) -> Result<(), BenchError> {
        drop(self.queue);
        Ok(self.store.close()?)
    }

    /// The files that something was written to.
    pub(super) fn used_files(&self) -> Vec<PathBuf> {
        self.store.inspect().segments.into_iter().map(|segment| segment.file).collect()
    }

    /// Waits until the files that the log goes on to are ready: to make them is work for the disk, which is done once in the life of
    /// a file.
    pub(super) fn settle(&self) {
        let begin = Instant::now();
        let wanted = || self.store.inspect().open.map_or(0, |open| open.segments_wanted);
        while wanted() > 0 && begin.elapsed() < PATIENCE {
            thread::sleep(LOOK);
        }
    }
}

/// What a store did, and what it cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effort {
    /// Groups written, each with a sync.
    pub(super) groups: u64,
    /// Bytes written to the log.
    pub(super) bytes: u64,
    /// Processor time of the process, the benchmark's own threads included.
    pub(super) cpu: Duration,
}

impl Effort {
    /// Does something and adds what it took.
    pub(super) fn measure<T>(&mut self, store: &Store, work: impl FnOnce() -> T) -> T {
        let (log, cpu) = (store.log_statistics(), cpu_time());
        let outcome = work();
        self.cpu += cpu_time().saturating_sub(cpu);
        let now = store.log_statistics();
        self.groups += now.groups - log.groups;
        self.bytes += now.bytes - log.bytes;
        outcome
    }

    /// What a group had on average, in bytes.
    pub(super) fn group(&self) -> u64 {
        self.bytes / self.groups.max(1)
    }
}
