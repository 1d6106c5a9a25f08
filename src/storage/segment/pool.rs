//! Segments made ready ahead of need, out of dead ones where there are any.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Segment, SegmentHeader, unfinished_file_name};
use crate::storage::disk::{Disk, DiskFile, write_all_at};
use crate::storage::units::SegmentId;

/// How long to wait before a full disk is asked again.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// What a pool needs to know of its store.
#[derive(Debug)]
pub(crate) struct PoolConfig {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) segment_size: u64,
    /// How many dead files are kept for recycling.
    pub(crate) spare: usize,
}

/// The file of a segment that nothing needs any more.
#[derive(Debug)]
pub(crate) struct FreeFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// Makes segment files ready. Preparing one leaves it durable in every respect: header, zeros (or the stale bytes of
/// an earlier life, which the new salt makes invalid) and directory entry; so rolling over costs nothing.
#[derive(Debug)]
pub(crate) struct SegmentPool {
    config: PoolConfig,
    state: Mutex<PoolState>,
    /// There is something to prepare, or it is time to stop.
    work: Condvar,
    /// Something was made ready, or preparing failed.
    ready: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    wanted: VecDeque<Arc<Segment>>,
    preparing: Option<SegmentId>,
    /// Decided on, and then not needed after all.
    abandoned: BTreeSet<SegmentId>,
    free: Vec<FreeFile>,
    failure: Option<Arc<str>>,
    stopping: bool,
}

impl SegmentPool {
    pub(crate) fn new(config: PoolConfig, free: Vec<FreeFile>) -> SegmentPool {
        let state = PoolState { free, ..PoolState::default() };
        SegmentPool {
            config,
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
        }
    }

    /// Asks for a segment's file.
    pub(crate) fn want(&self, segment: Arc<Segment>) {
        self.state.lock().wanted.push_back(segment);
        self.work.notify_one();
    }

    /// Takes back a [`want`](Self::want): the log passed over this number.
    pub(crate) fn abandon(&self, segment: &Segment) {
        let mut state = self.state.lock();
        state.wanted.retain(|wanted| wanted.id() != segment.id());
        if let Some(file) = segment.file() {
            state.free.push(FreeFile { path: segment.path.clone(), file: file.clone() });
        } else if state.preparing == Some(segment.id()) {
            state.abandoned.insert(segment.id());
        }
    }

    /// Waits for the file of a segment that was asked for.
    pub(crate) fn wait_ready(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>, Arc<str>> {
        if let Some(file) = segment.file() {
            return Ok(file.clone());
        }
        let mut state = self.state.lock();
        loop {
            if let Some(file) = segment.file() {
                return Ok(file.clone());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.stopping {
                return Err("the store is closing".into());
            }
            self.ready.wait(&mut state);
        }
    }

    /// Takes a dead file for recycling, or removes it where there are enough of them.
    pub(crate) fn recycle(&self, file: FreeFile) -> io::Result<()> {
        let mut state = self.state.lock();
        let whole = file.file.size()? == self.config.segment_size;
        if whole && state.free.len() < self.config.spare {
            state.free.push(file);
            return Ok(());
        }
        drop(state);
        self.config.disk.remove(&file.path)
    }

    /// Prepares segments until [`stop`](Self::stop); the body of a thread. An error other than a full disk is
    /// returned, after it has been told to everybody who waits.
    pub(crate) fn run(&self) -> Result<(), Arc<str>> {
        loop {
            let mut state = self.state.lock();
            while state.wanted.is_empty() && !state.stopping {
                self.work.wait(&mut state);
            }
            if state.stopping {
                return Ok(());
            }
            drop(state);
            self.prepare_next()?;
        }
    }

    /// Prepares the segment that has been wanted for longest, if any.
    pub(crate) fn prepare_next(&self) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        let Some(segment) = state.wanted.pop_front() else { return Ok(()) };
        let recycled = if segment.header.slots == 1 { state.free.pop() } else { None };
        state.preparing = Some(segment.id());
        drop(state);

        let prepared = self.make(&segment, recycled);

        let mut state = self.state.lock();
        state.preparing = None;
        match prepared {
            Ok(file) if state.abandoned.remove(&segment.id()) => {
                state.free.push(FreeFile { path: segment.path.clone(), file });
            }
            Ok(file) => segment.set_file(file),
            Err(error)
                if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                tracing::error!(
                    file = %segment.path.display(),
                    "no room for the next segment: free some disk space, the log goes on by itself"
                );
                state.wanted.push_front(segment);
                self.work.wait_for(&mut state, FULL_DISK_RETRY);
            }
            Err(error) => {
                let failure: Arc<str> =
                    format!("cannot prepare segment {}: {error}", segment.path.display()).into();
                state.failure = Some(failure.clone());
                self.ready.notify_all();
                return Err(failure);
            }
        }
        self.ready.notify_all();
        Ok(())
    }

    /// Ends [`run`](Self::run), and every wait for a file that is not ready.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
        self.ready.notify_all();
    }

    /// Makes the file of a segment under a passing name, then gives it its own name. What a crash leaves under the
    /// passing name was never in use.
    fn make(&self, segment: &Segment, recycled: Option<FreeFile>) -> io::Result<Arc<dyn DiskFile>> {
        let unfinished = self.config.dir.join(unfinished_file_name(segment.id()));
        let made = match recycled {
            Some(free) => self.take_over(segment, free, &unfinished),
            None => self.write_whole(segment, &unfinished),
        };
        let made = made.and_then(|file| {
            self.config.disk.rename(&unfinished, &segment.path)?;
            self.config.disk.sync_dir(&self.config.dir)?;
            Ok(file)
        });
        if made.is_err() {
            // A part of a file helps nobody, least of all on a full disk. What matters is the first error.
            if let Err(error) = self.config.disk.remove(&unfinished) {
                tracing::debug!(%error, file = %unfinished.display(), "left behind");
            }
        }
        made
    }

    /// Gives a dead file a new header. It has to lose its old name first, for good: recovery looks at every segment
    /// behind the checkpoint, used or not, and one that says that it is another is damage to it.
    fn take_over(
        &self,
        segment: &Segment,
        free: FreeFile,
        unfinished: &Path,
    ) -> io::Result<Arc<dyn DiskFile>> {
        self.config.disk.rename(&free.path, unfinished)?;
        self.config.disk.sync_dir(&self.config.dir)?;
        write_all_at(&*free.file, &segment.header.encode(), 0)?;
        free.file.sync_data()?;
        Ok(free.file)
    }

    /// Makes a new file, full of zeros and synced.
    fn write_whole(&self, segment: &Segment, unfinished: &Path) -> io::Result<Arc<dyn DiskFile>> {
        const STEP: u64 = 1 << 20;
        let file = self.config.disk.create(unfinished)?;
        let size = self.config.segment_size * u64::from(segment.header.slots);
        let mut piece = vec![0; STEP.min(size) as usize];
        piece[..SegmentHeader::SIZE].copy_from_slice(&segment.header.encode());
        let mut offset = 0;
        while offset < size {
            let length = (size - offset).min(STEP) as usize;
            write_all_at(&*file, &piece[..length], offset)?;
            piece[..SegmentHeader::SIZE].fill(0);
            offset += length as u64;
        }
        file.sync_all()?;
        Ok(file)
    }
}
