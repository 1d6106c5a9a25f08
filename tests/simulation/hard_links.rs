//! A disk on which every file has a second name, as if copies of the store were made of hard links all the time: no update of
//! the superblock and no recycled segment may touch an existing file, and power cuts must not harm what replaces them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use haypile::simulation::SimulatedDisk;
use haypile::simulation::runs::{Rig, run};
use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile};

const SEEDS: u64 = 150;

#[derive(Debug)]
struct Linked<T: ?Sized>(Arc<T>);

fn linked(file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
    Arc::new(Linked(file))
}

impl Disk for Linked<SimulatedDisk> {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(linked(self.0.open(path, access)?))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(linked(self.0.create(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        self.0.lock_dir(dir)
    }
}

impl DiskFile for Linked<dyn DiskFile> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }
    fn links(&self) -> io::Result<u64> {
        Ok(2)
    }
}

#[test]
fn files_that_replace_hard_linked_ones_survive_power_cuts_and_faults() {
    let rig = Rig { disk: |disk| Arc::new(Linked(Arc::new(disk))) };
    for seed in 0..SEEDS {
        if let Err(found) = run(seed, &rig) {
            panic!("{found}");
        }
    }
}
