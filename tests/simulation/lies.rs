//! Disks that lie: what the random runs are worth is that they find them, and tell how in a few actions.

use std::io;
use std::path::Path;
use std::sync::Arc;

use haypile::simulation::SimulatedDisk;
use haypile::simulation::runs::{FailureKind, Found, Rig, run};
use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile};

/// How many seeds are tried before a lie counts as believed.
const SEEDS: u64 = 400;

/// What a disk says without its being so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// A file is synced.
    FileSynced,
    /// A directory is synced.
    DirectorySynced,
    /// A sync has succeeded, at the second try.
    SyncedInTheEnd,
    /// All of a group was written.
    Written,
    /// What cannot be read is zeros.
    Readable,
}

#[derive(Debug)]
struct Liar<T: ?Sized>(Lie, Arc<T>);

impl Liar<SimulatedDisk> {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(Liar(self.0, file))
    }
}

impl Disk for Liar<SimulatedDisk> {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.1.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.1.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.1.open(path, access)?))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.1.create(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.1.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.1.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.0 == Lie::DirectorySynced { Ok(()) } else { self.1.sync_dir(dir) }
    }
    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        self.1.lock_dir(dir)
    }
}

impl DiskFile for Liar<dyn DiskFile> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.1.read_at(buffer, offset) {
            Err(error) if self.0 == Lie::Readable && error.kind() == io::ErrorKind::Other => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            other => other,
        }
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        // Of a group of several pages the last one is lost.
        if self.0 == Lie::Written && buffer.len() >= 2 * 4096 && offset >= 4096 {
            self.1.write_at(&buffer[..buffer.len() - 4096], offset)?;
            return Ok(buffer.len());
        }
        self.1.write_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        match self.0 {
            Lie::FileSynced => Ok(()),
            Lie::SyncedInTheEnd => self.1.sync_data().or_else(|_| self.1.sync_data()),
            _ => self.1.sync_data(),
        }
    }
    fn sync_all(&self) -> io::Result<()> {
        match self.0 {
            Lie::SyncedInTheEnd => self.1.sync_all().or_else(|_| self.1.sync_all()),
            _ => self.1.sync_all(),
        }
    }
    fn size(&self) -> io::Result<u64> {
        self.1.size()
    }
}

/// Runs seeds on such a disk until one fails.
fn found(lie: Lie, disk: fn(SimulatedDisk) -> Arc<dyn Disk>) -> Found {
    let rig = Rig { disk };
    let failure = (0..SEEDS).find_map(|seed| run(seed, &rig).err());
    let failure = *failure.unwrap_or_else(|| panic!("{SEEDS} seeds believe in {lie:?}"));
    println!("{lie:?}: {failure}\n");
    // So few actions are enough that one can think about them.
    assert!(failure.plan.actions.len() <= 8, "{lie:?}: {failure}");
    failure
}

#[test]
fn a_disk_that_lies_about_syncs_of_files_is_found_out() {
    let found = found(Lie::FileSynced, |disk| Arc::new(Liar(Lie::FileSynced, Arc::new(disk))));
    assert!(
        matches!(found.failure.kind, FailureKind::Mismatch | FailureKind::NotOpened),
        "{found}"
    );
}

#[test]
fn a_disk_that_lies_about_syncs_of_directories_is_found_out() {
    let lie = Lie::DirectorySynced;
    let found = found(lie, |disk| Arc::new(Liar(Lie::DirectorySynced, Arc::new(disk))));
    assert!(
        matches!(found.failure.kind, FailureKind::Mismatch | FailureKind::NotOpened),
        "{found}"
    );
}

#[test]
fn a_failed_sync_that_is_tried_again_and_believed_is_found_out() {
    let lie = Lie::SyncedInTheEnd;
    let found = found(lie, |disk| Arc::new(Liar(Lie::SyncedInTheEnd, Arc::new(disk))));
    assert_eq!(found.failure.kind, FailureKind::PassedOver, "{found}");
}

#[test]
fn a_disk_that_loses_a_page_is_found_out() {
    let found = found(Lie::Written, |disk| Arc::new(Liar(Lie::Written, Arc::new(disk))));
    let expected = matches!(
        found.failure.kind,
        FailureKind::Mismatch | FailureKind::NotOpened | FailureKind::Differs
    );
    assert!(expected, "{found}");
}

#[test]
fn a_read_error_that_is_taken_for_zeros_is_found_out() {
    let found = found(Lie::Readable, |disk| Arc::new(Liar(Lie::Readable, Arc::new(disk))));
    assert_ne!(found.failure.kind, FailureKind::Panic, "{found}");
}
