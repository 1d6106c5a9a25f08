//! A bounded number of open files, however many segments a store has.
//!
//! The files of a [`Descriptors`] disk are closed when too many are open, the one first that has not been used for longest, and
//! opened again when they are used. A file that was written to and not synced since stays open: closed in between, the kernel
//! may forget to report an error. So does one whose sync failed, and one that is locked.
//!
//! A process without a free descriptor is like a full disk: it passes. Creating a file says so
//! ([`is_out_of_descriptors`]), everything else waits, because closing connections gives descriptors back.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Access, DirectoryLock, Disk, DiskFile};

/// The number of files that are open at a time, besides those that must not be closed.
pub(crate) const MOST_OPEN: usize = 64;

/// The same for a process that looks at a store or repairs it: it has no clients whose connections could give descriptors back,
/// so it stays below the smallest limits that are in use.
pub(crate) const MOST_OPEN_TO_LOOK: usize = 16;

/// The pause before a process without a free descriptor tries again.
const RETRY: Duration = Duration::from_millis(50);

/// Whether an error means that the process, or the system, has no free file descriptor: `EMFILE` or `ENFILE`.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// A disk of which a bounded number of files is open.
#[derive(Clone, Debug)]
pub(crate) struct Descriptors(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    most: usize,
    /// Counts uses of files.
    clock: AtomicU64,
    /// The last attempt to create a file found no descriptor.
    short: AtomicBool,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    by_path: HashMap<PathBuf, Vec<Weak<Handle>>>,
    /// Files that have a descriptor, and some that had one.
    open: Vec<Weak<Handle>>,
}

/// A handle of a file that is closed and opened again as needed.
#[derive(Debug)]
struct CachedFile(Arc<Handle>);

/// A file, open or not.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    access: Access,
    used: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    /// The number of writes.
    writes: u64,
    /// The number of writes that a sync has covered.
    synced: u64,
    /// It is never closed.
    pinned: bool,
}

impl Descriptors {
    pub(crate) fn new(disk: Arc<dyn Disk>, most: usize) -> Descriptors {
        let (clock, short) = (AtomicU64::new(0), AtomicBool::new(false));
        Descriptors(Arc::new(Shared { disk, most, clock, short, files: Mutex::default() }))
    }

    /// The handle of a file that was just opened or created.
    fn handle(&self, path: &Path, access: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let state =
            State { path: path.to_owned(), file: Some(file), writes: 0, synced: 0, pinned: false };
        let handle = Arc::new(Handle {
            shared: self.0.clone(),
            access,
            used: AtomicU64::new(self.0.tick()),
            state: Mutex::new(state),
        });
        let weak = Arc::downgrade(&handle);
        self.0.files.lock().by_path.entry(path.to_owned()).or_default().push(weak);
        self.0.opened(&handle);
        Arc::new(CachedFile(handle))
    }
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that a file is open, and closes others where there are too many.
    fn opened(&self, handle: &Arc<Handle>) {
        self.files.lock().open.push(Arc::downgrade(handle));
        self.shrink_to(self.most);
    }

    /// Closes files that may be closed until so many are open at most; false: nothing was closed.
    fn shrink_to(&self, most: usize) -> bool {
        let mut closed = false;
        let mut files = self.files.lock();
        files.open.retain(|file| file.strong_count() > 0);
        if files.open.len() <= most {
            return false;
        }
        let mut open: Vec<Arc<Handle>> = files.open.iter().filter_map(Weak::upgrade).collect();
        open.sort_unstable_by_key(|handle| handle.used.load(Ordering::Relaxed));
        let mut excess = open.len().saturating_sub(most);
        let mut left = Vec::with_capacity(open.len());
        for handle in &open {
            // One that is being opened, renamed or closed right now is left alone.
            let done = excess > 0 && handle.state.try_lock().is_some_and(|mut state| state.close());
            if done {
                excess -= 1;
                closed = true;
            } else {
                left.push(Arc::downgrade(handle));
            }
        }
        files.open = left;
        drop(files);
        // Not under the lock: with the last reference a handle looks for itself in there.
        drop(open);
        closed
    }

    /// Tries again as long as closing a file may have given a descriptor back.
    fn attempt<T>(&self, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut most = self.files.lock().open.len();
        loop {
            match operation() {
                Err(error) if is_out_of_descriptors(&error) && most > 0 => {
                    most /= 2;
                    self.shrink_to(most);
                }
                outcome => return outcome,
            }
        }
    }

    /// Does this until it succeeds: it waits for a descriptor.
    fn insist<T>(&self, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut told = false;
        loop {
            match self.attempt(&mut operation) {
                Err(error) if is_out_of_descriptors(&error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            "no file descriptor is free: the store waits for one; \
                             raise the limit of open files (`ulimit -n`), or lower the limit of connections"
                        );
                    }
                    thread::sleep(RETRY);
                }
                outcome => return outcome,
            }
        }
    }
}

impl State {
    /// Closes the file, if that forgets nothing; false: it stays as it is.
    fn close(&mut self) -> bool {
        !self.pinned && self.writes == self.synced && self.file.take().is_some()
    }
}

impl Handle {
    /// The open file; `writes`: it is about to be written to.
    fn file(self: &Arc<Self>, writes: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.used.store(self.shared.tick(), Ordering::Relaxed);
        let mut state = self.state.lock();
        state.writes += u64::from(writes);
        if let Some(file) = &state.file {
            return Ok(file.clone());
        }
        let file = self.shared.insist(|| self.shared.disk.open(&state.path, self.access))?;
        state.file = Some(file.clone());
        drop(state);
        self.shared.opened(self);
        Ok(file)
    }

    fn sync(
        self: &Arc<Self>,
        sync: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.file(false)?;
        let writes = self.state.lock().writes;
        let outcome = sync(&*file);
        let mut state = self.state.lock();
        match &outcome {
            Ok(()) => state.synced = state.synced.max(writes),
            // Nobody knows what became of the writes.
            Err(_) => state.pinned = true,
        }
        outcome
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let path = &self.state.get_mut().path;
        let mut files = self.shared.files.lock();
        // Another file may have that name by now.
        if let Some(handles) = files.by_path.get_mut(path) {
            handles.retain(|handle| handle.strong_count() > 0);
            if handles.is_empty() {
                files.by_path.remove(path);
            }
        }
    }
}

impl Disk for Descriptors {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.insist(|| self.0.disk.list(dir))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.insist(|| self.0.disk.open(path, access))?;
        Ok(self.handle(path, access, file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let created = self.0.attempt(|| self.0.disk.create(path));
        let short = created.as_ref().is_err_and(is_out_of_descriptors);
        if short && !self.0.short.swap(true, Ordering::Relaxed) {
            tracing::warn!(file = %path.display(), "no file descriptor is free for a new segment");
        }
        let file = created?;
        self.0.short.store(false, Ordering::Relaxed);
        Ok(self.handle(path, Access::ReadWrite, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let handles: Vec<Arc<Handle>> = {
            let files = self.0.files.lock();
            files.by_path.get(from).into_iter().flatten().filter_map(Weak::upgrade).collect()
        };
        // None of them is opened again by a name that it has no more.
        let mut states: Vec<_> = handles.iter().map(|handle| handle.state.lock()).collect();
        self.0.disk.rename(from, to)?;
        states.iter_mut().for_each(|state| to.clone_into(&mut state.path));
        let mut files = self.0.files.lock();
        files.by_path.remove(from);
        files.by_path.insert(to.to_owned(), handles.iter().map(Arc::downgrade).collect());
        drop(files);
        drop(states);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.insist(|| self.0.disk.sync_dir(dir))
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        self.0.insist(|| self.0.disk.lock_dir(dir))
    }

    fn restrict(&self, path: &Path) -> io::Result<Option<u32>> {
        self.0.insist(|| self.0.disk.restrict(path))
    }
}

impl DiskFile for CachedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.file(false)?.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.0.file(true)?.write_at(buffer, offset)
    }

    fn fill(&self, length: u64) -> io::Result<()> {
        self.0.file(true)?.fill(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.file(true)?.allocate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync(|file| file.sync_all())
    }

    /// Has a descriptor of its own, which is open from a write to the sync that covers it.
    fn for_pages(&self) -> Option<Arc<dyn DiskFile>> {
        self.0.file(false).ok()?.for_pages()
    }

    fn size(&self) -> io::Result<u64> {
        self.0.file(false)?.size()
    }

    fn next_hole(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.0.file(false)?.next_hole(from)
    }

    fn links(&self) -> io::Result<u64> {
        self.0.file(false)?.links()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.file(true)?.truncate(length)
    }

    fn try_lock(&self) -> io::Result<bool> {
        // Closing the file would give the lock back.
        self.0.state.lock().pinned = true;
        self.0.file(false)?.try_lock()
    }

    fn unlock(&self) {
        if let Ok(file) = self.0.file(false) {
            file.unlock();
        }
    }
}

#[cfg(test)]
#[path = "descriptors/tests.rs"]
mod tests;
