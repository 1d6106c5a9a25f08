//! A disk for the scheduler: every operation is a few steps, it knows what is synced, and it fails when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::disk::{Access, DirectoryLock, Disk, DiskFile};
use crate::storage::sync::{AtomicU64, Ordering};

/// What fails, once and for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fails {
    /// The write that so many have gone before, of groups.
    Write(u64),
    /// The sync that so many have gone before, of data.
    Sync(u64),
    /// The creation that so many have gone before.
    Create(u64),
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<File>>,
    fails: Option<Fails>,
    writes: u64,
    syncs: u64,
    creates: u64,
    /// Files that fit.
    room: Option<usize>,
    failed: bool,
    /// Operations that came behind the failure.
    after_failure: u64,
}

#[derive(Debug, Default)]
struct Bytes {
    written: Vec<u8>,
    synced: Vec<u8>,
}

/// The disk. All clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct SlowDisk {
    state: Arc<Mutex<State>>,
    step: Arc<AtomicU64>,
}

#[derive(Debug)]
struct File {
    bytes: Mutex<Bytes>,
}

#[derive(Debug)]
struct OpenFile {
    disk: SlowDisk,
    file: Arc<File>,
}

impl SlowDisk {
    pub(crate) fn new(fails: Option<Fails>, room: Option<usize>) -> SlowDisk {
        let state = State { fails, room, ..State::default() };
        SlowDisk { state: Arc::new(Mutex::new(state)), step: Arc::new(AtomicU64::new(0)) }
    }

    /// Others may come between.
    fn step(&self) {
        self.step.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether these bytes are on stable storage.
    pub(crate) fn has_synced(&self, path: &Path, offset: u64, bytes: &[u8]) -> bool {
        let state = self.state.lock();
        let Some(file) = state.files.get(path) else { return false };
        let found = &file.bytes.lock().synced;
        found.get(offset as usize..offset as usize + bytes.len()) == Some(bytes)
    }

    /// Writes and syncs of groups that were asked for after one had failed.
    pub(crate) fn after_failure(&self) -> u64 {
        self.state.lock().after_failure
    }

    /// So many files fit from now on.
    pub(crate) fn set_room(&self, files: usize) {
        self.state.lock().room = Some(files);
    }

    fn try_it(&self, what: impl FnOnce(&mut State) -> Fails) -> io::Result<()> {
        let mut state = self.state.lock();
        let now = what(&mut state);
        let of_log = matches!(now, Fails::Write(_) | Fails::Sync(_));
        state.after_failure += u64::from(of_log && state.failed);
        if state.fails == Some(now) {
            state.failed = of_log;
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(())
    }
}

impl Disk for SlowDisk {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.state.lock().files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(OpenFile { disk: self.clone(), file }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.step();
        self.try_it(|state| {
            state.creates += 1;
            Fails::Create(state.creates - 1)
        })?;
        let mut state = self.state.lock();
        if state.room.is_some_and(|room| state.files.len() >= room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = Arc::new(File { bytes: Mutex::default() });
        state.files.insert(path.to_owned(), file.clone());
        Ok(Arc::new(OpenFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step();
        let mut state = self.state.lock();
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step();
        self.state.lock().files.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.step();
        Ok(())
    }

    fn lock_dir(&self, _dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        Ok(None)
    }
}

impl DiskFile for OpenFile {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.step();
        // Only groups count: what is written of a new file at first begins with its header.
        if offset > 0 {
            self.disk.try_it(|state| {
                state.writes += 1;
                Fails::Write(state.writes - 1)
            })?;
        }
        let mut bytes = self.file.bytes.lock();
        let end = offset as usize + buffer.len();
        if bytes.written.len() < end {
            bytes.written.resize(end, 0);
        }
        bytes.written[offset as usize..end].copy_from_slice(buffer);
        Ok(buffer.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.step();
        self.disk.try_it(|state| {
            state.syncs += 1;
            Fails::Sync(state.syncs - 1)
        })?;
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        let written = self.file.bytes.lock().written.clone();
        self.disk.step();
        self.file.bytes.lock().synced = written;
        self.disk.step();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.bytes.lock().written.len() as u64)
    }
}
