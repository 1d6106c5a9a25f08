//! A disk that fails when it is told to, in front of the real one.
//!
//! - *A sync that fails*: the n-th one. What had been written to that file since its last sync is taken back, as a kernel may do
//!   that has thrown away dirty pages: so whatever is confirmed all the same is missing after the restart. All syncs behind
//!   it succeed, and promise nothing.
//! - *A full disk*: files may grow by so many bytes in all, and no further.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::output::remark;
use crate::storage::disk::{Access, DirectoryLock, Disk, DiskFile, RealDisk};

/// What is printed on standard error when the sync fails: the program has to end then.
pub(super) const SYNC_FAILS_NOW: &str = "torture: a sync fails now";

#[derive(Debug)]
struct State {
    /// Syncs until the one that fails; `None`: none does, or it has.
    until_failure: Option<u64>,
    /// Bytes that files may grow by; `None`: as much as there is.
    room: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    disk: FaultyDisk,
    /// What was in the places that have been written to since the last sync, oldest first.
    before: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl FaultyDisk {
    /// The `fail_sync`-th sync fails, counted from 1; files grow by `room` bytes at most.
    pub(super) fn new(fail_sync: Option<u64>, room: Option<u64>) -> FaultyDisk {
        FaultyDisk(Arc::new(Mutex::new(State { until_failure: fail_sync, room })))
    }

    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { file, disk: self.clone(), before: Mutex::default() })
    }

    /// Counts a sync; whether it is the one that fails.
    fn sync_fails(&self) -> bool {
        let mut state = self.0.lock();
        state.until_failure = match state.until_failure {
            Some(0 | 1) => {
                state.until_failure = None;
                remark!("{SYNC_FAILS_NOW}");
                return true;
            }
            other => other.map(|left| left - 1),
        };
        false
    }

    fn sync_may_fail(&self) -> bool {
        self.0.lock().until_failure.is_some()
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        if let Some(room) = &mut self.0.lock().room {
            *room = room.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }

    fn give_room(&self, bytes: u64) {
        if let Some(room) = &mut self.0.lock().room {
            *room += bytes;
        }
    }

    /// The size of a file that is about to go; 0 if there is none.
    fn size_of(path: &Path) -> io::Result<u64> {
        match RealDisk.open(path, Access::Read) {
            Ok(file) => file.size(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn sync_failure() -> io::Error {
    io::Error::other("input/output error (made by the torture)")
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(RealDisk.open(path, access)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.take_room(1)?; // A full disk has no room for a name either.
        self.give_room(1);
        Ok(self.wrap(RealDisk.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = FaultyDisk::size_of(to)?;
        RealDisk.rename(from, to)?;
        self.give_room(replaced);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let size = FaultyDisk::size_of(path)?;
        RealDisk.remove(path)?;
        self.give_room(size);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.sync_fails() { Err(sync_failure()) } else { RealDisk.sync_dir(dir) }
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        RealDisk.lock_dir(dir)
    }
}

impl FaultyFile {
    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut before = self.before.lock();
        if !self.disk.sync_fails() {
            before.clear();
            return sync();
        }
        while let Some((offset, bytes)) = before.pop() {
            write_all(&*self.file, &bytes, offset)?;
        }
        Err(sync_failure())
    }

    /// What is in the file at `offset`, with zeros for what is beyond its end.
    fn content(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut content = vec![0; length];
        let mut read = 0;
        while let Some(rest) = content.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(content)
    }
}

fn write_all(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        written += file.write_at(rest, offset + written as u64)?;
    }
    Ok(())
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let mut before = self.before.lock();
        let size = self.file.size()?;
        let grown = (offset + buffer.len() as u64).saturating_sub(size);
        self.disk.take_room(grown)?;
        if self.disk.sync_may_fail() {
            before.push((offset, self.content(offset, buffer.len())?));
        }
        let written = self.file.write_at(buffer, offset)?;
        let grown_less = (offset + written as u64).saturating_sub(size);
        self.disk.give_room(grown - grown_less);
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_all())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn unlock(&self) {
        self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(file: &dyn DiskFile) -> Vec<u8> {
        let mut content = vec![0; file.size().unwrap() as usize];
        file.read_at(&mut content, 0).unwrap();
        content
    }

    #[test]
    fn a_failed_sync_takes_back_what_it_was_for_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new(Some(2), None);
        let file = disk.create(&dir.path().join("file")).unwrap();
        file.write_at(b"synced..", 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(b"lost", 2).unwrap();
        file.write_at(b"lost twice", 4).unwrap();
        assert!(file.sync_data().is_err());
        assert_eq!(content(&*file), b"synced..\0\0\0\0\0\0");
        file.write_at(b"later", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(
            content(&*file),
            b"later"[..].iter().chain(b"d..\0\0\0\0\0\0").copied().collect::<Vec<u8>>()
        );
    }

    #[test]
    fn a_full_disk_takes_no_more_until_a_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new(None, Some(10));
        let path = dir.path().join("file");
        let file = disk.create(&path).unwrap();
        file.write_at(&[1; 10], 0).unwrap();
        file.write_at(&[2; 10], 0).unwrap();
        let full = file.write_at(&[3; 2], 9).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let full = disk.create(&dir.path().join("other")).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(content(&*file), [2; 10]);
        disk.remove(&path).unwrap();
        assert!(disk.create(&dir.path().join("other")).is_ok());
    }
}
