//! A disk in memory that does as it is told.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::storage::disk::{Access, DirectoryLock, Disk, DiskFile};

/// The largest that all files together may get, in bytes: a store that was made to believe that its segments have a
/// terabyte finds this disk full.
const CAPACITY: u64 = 64 << 20;

/// A file's content, shared by all copies of a disk until one of them writes.
type Content = Arc<Vec<u8>>;

/// The files of a disk, by path. Directories are where files are.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
    locked: Arc<AtomicBool>,
    used: Arc<Mutex<u64>>,
}

#[derive(Debug)]
struct MemoryFile {
    content: Mutex<Content>,
    /// Of the whole disk, as far as files have grown on it; what is removed does not give it back.
    used: Arc<Mutex<u64>>,
}

#[derive(Debug)]
struct Held(Arc<AtomicBool>);

impl DirectoryLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl MemoryDisk {
    /// A disk with these files.
    pub(crate) fn with(files: &BTreeMap<PathBuf, Content>) -> MemoryDisk {
        let disk = MemoryDisk::default();
        for (path, content) in files {
            disk.put(path, content.clone());
        }
        disk
    }

    /// Everything that is on it.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Content> {
        let files = self.files.lock();
        files.iter().map(|(path, file)| (path.clone(), file.content.lock().clone())).collect()
    }

    fn put(&self, path: &Path, content: Content) -> Arc<MemoryFile> {
        let file = Arc::new(MemoryFile { content: Mutex::new(content), used: self.used.clone() });
        self.files.lock().insert(path.to_owned(), file.clone());
        file
    }

    fn find(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.files.lock().get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.files.lock();
        let below = files.keys().filter_map(|path| path.strip_prefix(dir).ok()?.iter().next());
        let mut names: Vec<String> = below.filter_map(|n| n.to_str().map(str::to_owned)).collect();
        names.dedup();
        Ok(names)
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.find(path)?)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.find(path) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => Ok(self.put(path, Content::default())),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock_dir(&self, _: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        if self.locked.swap(true, Ordering::AcqRel) {
            return Ok(None);
        }
        Ok(Some(Box::new(Held(self.locked.clone()))))
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock();
        let rest = usize::try_from(offset).ok().and_then(|at| content.get(at..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let mut content = self.content.lock();
        let end = offset.saturating_add(buffer.len() as u64);
        let mut used = self.used.lock();
        let grown = end.saturating_sub(content.len() as u64);
        if grown > CAPACITY - *used {
            return Err(ErrorKind::StorageFull.into());
        }
        *used += grown;
        let content = Arc::make_mut(&mut content);
        if content.len() < end as usize {
            content.resize(end as usize, 0);
        }
        content[offset as usize..end as usize].copy_from_slice(buffer);
        Ok(buffer.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content.lock().len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        Arc::make_mut(&mut self.content.lock()).truncate(length as usize);
        Ok(())
    }
}
