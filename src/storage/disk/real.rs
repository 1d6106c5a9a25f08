//! The operating system's file system.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one place that calls the file system"
)]

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::direct::{self, PageFile};
use super::{Access, DirectoryLock, Disk, DiskFile};

/// The modes of directories and files that are created: other users can neither read nor list them.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The permissions of group and others.
const OTHERS: u32 = 0o077;

/// The file system of the machine that this runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    /// The file system as [`verify`](crate::storage::inspect::verify()) and its siblings take it.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            // The mode that was asked for, whatever the process's mask takes away.
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)),
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path)?;
        Ok(Arc::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        let handle = File::open(dir)?;
        Ok(lock(&handle)?.then(|| Box::new(Held(handle)) as Box<dyn DirectoryLock>))
    }

    fn restrict(&self, path: &Path) -> io::Result<Option<u32>> {
        let mode = fs::symlink_metadata(path)?.permissions().mode() & 0o7777;
        if mode & OTHERS == 0 {
            return Ok(None);
        }
        fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))?;
        Ok(Some(mode))
    }
}

/// Takes the lock of an open file or directory. Returns `false` if another holder has it.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A locked directory.
#[derive(Debug)]
struct Held(File);

impl DirectoryLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        DiskFile::unlock(&self.0);
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, buffer, offset)
    }

    fn fill(&self, length: u64) -> io::Result<()> {
        direct::fill(self, length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        direct::allocate(self, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn for_pages(&self) -> Option<Arc<dyn DiskFile>> {
        PageFile::of(self).ok().map(|file| Arc::new(file) as Arc<dyn DiskFile>)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn next_hole(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let size = DiskFile::size(self)?;
        let start = match seek(self, SeekFrom::Hole(from)) {
            // There is always one behind the last byte.
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match seek(self, SeekFrom::Data(start)) {
            Ok(end) => Ok(Some(start..end)),
            Err(Errno::NXIO) => Ok(Some(start..size)),
            Err(error) => Err(error.into()),
        }
    }

    fn links(&self) -> io::Result<u64> {
        Ok(self.metadata()?.nlink())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn try_lock(&self) -> io::Result<bool> {
        lock(self)
    }

    fn unlock(&self) {
        // The file was locked. If it cannot be unlocked, closing it will do.
        File::unlock(self).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RealDisk.lock_dir(dir.path()).unwrap();
        assert!(lock.is_some());
        assert!(RealDisk.lock_dir(dir.path()).unwrap().is_none());
        drop(lock);
        assert!(RealDisk.lock_dir(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_file_is_held_by_one_holder_at_a_time_under_all_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other_name) = (dir.path().join("file"), dir.path().join("other"));
        let file = RealDisk.create(&path).unwrap();
        fs::hard_link(&path, &other_name).unwrap();
        assert!(file.try_lock().unwrap());
        let again = RealDisk.open(&other_name, Access::Read).unwrap();
        assert!(!again.try_lock().unwrap());
        drop(file);
        assert!(again.try_lock().unwrap());
    }

    /// A process that is being started holds duplicates of all open files until it executes its
    /// program. A store that was closed meanwhile was still in use for the next open.
    #[test]
    fn a_released_lock_is_free_although_the_file_is_still_open_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let duplicate = |file: &File| file.try_clone().unwrap();
        let held = Held(File::open(dir.path()).unwrap());
        assert!(lock(&held.0).unwrap());
        let inherited = duplicate(&held.0);
        drop(held);
        assert!(RealDisk.lock_dir(dir.path()).unwrap().is_some());
        let file = File::create(dir.path().join("file")).unwrap();
        assert!(lock(&file).unwrap());
        let copy = duplicate(&file);
        DiskFile::unlock(&file);
        let again = RealDisk.open(&dir.path().join("file"), Access::Read).unwrap();
        assert!(again.try_lock().unwrap());
        drop((inherited, copy));
    }

    #[test]
    fn permissions_of_other_users_are_taken_away_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let inner = dir.path().join("parent/store");
        RealDisk.create_dir_all(&inner).unwrap();
        RealDisk.create_dir_all(&inner).unwrap();
        let path = inner.join("file");
        RealDisk.create(&path).unwrap();
        assert_eq!((mode(&inner), mode(&path)), (0o700, 0o600));
        assert_eq!(RealDisk.restrict(&path).unwrap(), None);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(RealDisk.restrict(&path).unwrap(), Some(0o644));
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn holes_are_found_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("file")).unwrap();
        assert_eq!(file.next_hole(0).unwrap(), None);
        file.fill(64 << 10).unwrap();
        assert_eq!(file.next_hole(0).unwrap(), None);
        let path = dir.path().join("sparse");
        let sparse = RealDisk.create(&path).unwrap();
        sparse.write_at(&[1; 4096], 1 << 20).unwrap();
        sparse.truncate(2 << 20).unwrap();
        let (first, last) = (0..1 << 20, (1 << 20) + 4096..2 << 20);
        assert_eq!(sparse.next_hole(0).unwrap(), Some(first));
        assert_eq!(sparse.next_hole(1 << 20).unwrap(), Some(last));
        assert_eq!(sparse.next_hole(2 << 20).unwrap(), None);
    }

    #[test]
    fn creating_a_file_that_exists_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        RealDisk.create(&path).unwrap();
        let error = RealDisk.create(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
