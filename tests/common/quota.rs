//! A disk of limited size, in front of the real one.

#![allow(dead_code)] // every test binary uses its own part of this

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile, RealDisk};
use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Usage {
    quota: u64,
    /// Renames to come that find no room in the directory.
    failing_renames: u64,
    /// Attempts to make a file that found no room.
    refused: u64,
    /// How long it takes to make a file.
    delay: Duration,
    files: HashMap<PathBuf, Arc<Mutex<u64>>>,
    used: u64,
}

/// A disk with room for so many bytes of files.
#[derive(Clone, Debug)]
pub(crate) struct QuotaDisk(Arc<Mutex<Usage>>);

#[derive(Debug)]
struct QuotaFile {
    file: Arc<dyn DiskFile>,
    usage: Arc<Mutex<Usage>>,
    size: Arc<Mutex<u64>>,
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl QuotaDisk {
    pub(crate) fn new(quota: u64) -> QuotaDisk {
        QuotaDisk(Arc::new(Mutex::new(Usage { quota, ..Usage::default() })))
    }

    pub(crate) fn set_quota(&self, quota: u64) {
        self.0.lock().quota = quota;
    }

    /// Leaves room for so many more bytes.
    pub(crate) fn leave(&self, bytes: u64) {
        let mut usage = self.0.lock();
        usage.quota = usage.used + bytes;
    }

    pub(crate) fn used(&self) -> u64 {
        self.0.lock().used
    }

    /// How often there was no room for a file.
    pub(crate) fn refused(&self) -> u64 {
        self.0.lock().refused
    }

    /// From now on it takes so long to make a file.
    pub(crate) fn delay(&self, delay: Duration) {
        self.0.lock().delay = delay;
    }

    pub(crate) fn fail_renames(&self, count: u64) {
        self.0.lock().failing_renames = count;
    }

    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> io::Result<Arc<dyn DiskFile>> {
        let mut usage = self.0.lock();
        let size = match usage.files.get(path) {
            Some(size) => size.clone(),
            None => {
                let bytes = file.size()?;
                usage.used += bytes;
                let size = Arc::new(Mutex::new(bytes));
                usage.files.insert(path.to_owned(), size.clone());
                size
            }
        };
        Ok(Arc::new(QuotaFile { file, usage: self.0.clone(), size }))
    }
}

impl Usage {
    fn forget(&mut self, path: &Path) {
        if let Some(size) = self.files.remove(path) {
            self.used -= *size.lock();
        }
    }
}

impl Disk for QuotaDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.file(path, RealDisk.open(path, access)?)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let delay = self.0.lock().delay;
        std::thread::sleep(delay);
        {
            let mut usage = self.0.lock();
            if usage.used >= usage.quota {
                usage.refused += 1;
                return Err(full());
            }
        }
        self.file(path, RealDisk.create(path)?)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut usage = self.0.lock();
        if let Some(left) = usage.failing_renames.checked_sub(1) {
            usage.failing_renames = left;
            return Err(full());
        }
        RealDisk.rename(from, to)?;
        usage.forget(to);
        if let Some(size) = usage.files.remove(from) {
            usage.files.insert(to.to_owned(), size);
        }
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)?;
        self.0.lock().forget(path);
        Ok(())
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        RealDisk.lock_dir(dir)
    }
}

impl DiskFile for QuotaFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let mut usage = self.usage.lock();
        let mut size = self.size.lock();
        let grown = (offset + buffer.len() as u64).saturating_sub(*size);
        if usage.used + grown > usage.quota && grown > 0 {
            usage.refused += 1;
            return Err(full());
        }
        let written = self.file.write_at(buffer, offset)?;
        let grown = (offset + written as u64).saturating_sub(*size);
        usage.used += grown;
        *size += grown;
        Ok(written)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
