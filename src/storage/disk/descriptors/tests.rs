use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::storage::disk::{RealDisk, read_exact_at, write_all_at};

/// A disk with so many descriptors.
#[derive(Debug)]
struct Limited {
    limit: AtomicUsize,
    open: Arc<AtomicUsize>,
    most: AtomicUsize,
    unsynced: Arc<Mutex<HashSet<PathBuf>>>,
}

#[derive(Debug)]
struct LimitedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    open: Arc<AtomicUsize>,
    unsynced: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Limited {
    fn new(limit: usize) -> Arc<Limited> {
        Arc::new(Limited {
            limit: limit.into(),
            open: Arc::default(),
            most: 0.into(),
            unsynced: Arc::default(),
        })
    }

    fn take(
        &self,
        path: &Path,
        file: io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = file?;
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        let (path, open, unsynced) = (path.to_owned(), self.open.clone(), self.unsynced.clone());
        Ok(Arc::new(LimitedFile { file, path, open, unsynced }))
    }

    fn has_room(&self) -> io::Result<()> {
        let free = self.open.load(Ordering::SeqCst) < self.limit.load(Ordering::SeqCst);
        if free { Ok(()) } else { Err(io::Error::from_raw_os_error(24)) }
    }
}

impl Drop for LimitedFile {
    fn drop(&mut self) {
        let unsynced = self.unsynced.lock().contains(&self.path);
        assert!(!unsynced, "{} was closed before its sync", self.path.display());
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Disk for Limited {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.has_room()?;
        self.take(path, RealDisk.open(path, access))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.has_room()?;
        self.take(path, RealDisk.create(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.has_room()?;
        RealDisk.sync_dir(dir)
    }
    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        RealDisk.lock_dir(dir)
    }
}

impl DiskFile for LimitedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.unsynced.lock().insert(self.path.clone());
        self.file.write_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.unsynced.lock().remove(&self.path);
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.unsynced.lock().remove(&self.path);
        self.file.sync_all()
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

fn path(dir: &tempfile::TempDir, number: u8) -> PathBuf {
    dir.path().join(number.to_string())
}

fn files(disk: &Descriptors, dir: &tempfile::TempDir, count: u8) -> Vec<Arc<dyn DiskFile>> {
    let made = (0..count).map(|number| {
        let file = disk.create(&path(dir, number)).unwrap();
        write_all_at(&*file, &[number; 100], 0).unwrap();
        file.sync_data().unwrap();
        file
    });
    made.collect()
}

fn byte(file: &dyn DiskFile) -> u8 {
    let mut byte = [0];
    read_exact_at(file, &mut byte, 99).unwrap();
    byte[0]
}

#[test]
fn a_bounded_number_of_files_is_open_and_each_of_them_can_be_used() {
    let (dir, limited) = (tempfile::tempdir().unwrap(), Limited::new(usize::MAX));
    let disk = Descriptors::new(limited.clone(), 4);
    let files = files(&disk, &dir, 20);
    for _ in 0..2 {
        for (number, file) in (0..).zip(&files) {
            assert_eq!(byte(&**file), number);
        }
    }
    assert!(limited.most.load(Ordering::SeqCst) <= 5);
    drop(files);
    assert_eq!(limited.open.load(Ordering::SeqCst), 0);
    assert!(disk.0.files.lock().by_path.is_empty());
}

#[test]
fn a_file_with_unsynced_writes_stays_open() {
    let (dir, limited) = (tempfile::tempdir().unwrap(), Limited::new(usize::MAX));
    let disk = Descriptors::new(limited.clone(), 2);
    let files = files(&disk, &dir, 10);
    for file in &files[..5] {
        write_all_at(&**file, b"new", 0).unwrap();
    }
    files[5..].iter().for_each(|file| _ = byte(&**file));
    assert!(limited.open.load(Ordering::SeqCst) >= 5, "closed ones fail in `drop`");
    files[..5].iter().for_each(|file| file.sync_data().unwrap());
    files[5..].iter().for_each(|file| _ = byte(&**file));
    assert_eq!(limited.open.load(Ordering::SeqCst), 2);
}

#[test]
fn a_locked_file_stays_open() {
    let (dir, limited) = (tempfile::tempdir().unwrap(), Limited::new(usize::MAX));
    let disk = Descriptors::new(limited, 1);
    let files = files(&disk, &dir, 5);
    assert!(files[0].try_lock().unwrap());
    files.iter().for_each(|file| _ = byte(&**file));
    let other = RealDisk.open(&path(&dir, 0), Access::ReadWrite).unwrap();
    assert!(!other.try_lock().unwrap(), "the lock was given back");
}

#[test]
fn a_closed_file_is_found_by_the_name_that_it_has_now() {
    let (dir, limited) = (tempfile::tempdir().unwrap(), Limited::new(usize::MAX));
    let disk = Descriptors::new(limited, 1);
    let files = files(&disk, &dir, 3);
    disk.rename(&path(&dir, 0), &path(&dir, 10)).unwrap();
    // The name goes to another file, as that of a recycled segment may.
    disk.rename(&path(&dir, 1), &path(&dir, 0)).unwrap();
    assert_eq!(files.iter().map(|file| byte(&**file)).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_process_without_descriptors_is_told_when_it_creates_and_waits_otherwise() {
    let (dir, limited) = (tempfile::tempdir().unwrap(), Limited::new(3));
    let disk = Descriptors::new(limited.clone(), 100);
    let files = files(&disk, &dir, 10);
    assert_eq!(files.iter().map(|file| byte(&**file)).sum::<u8>(), 45);
    limited.limit.store(0, Ordering::SeqCst);
    let error = disk.create(&path(&dir, 11)).unwrap_err();
    assert!(is_out_of_descriptors(&error), "{error}");
    let read = thread::scope(|scope| {
        let reading = scope.spawn(|| byte(&*files[7]));
        let syncing = scope.spawn(|| disk.sync_dir(dir.path()));
        thread::sleep(RETRY);
        assert!(!reading.is_finished() && !syncing.is_finished());
        limited.limit.store(3, Ordering::SeqCst);
        syncing.join().unwrap().unwrap();
        reading.join().unwrap()
    });
    assert_eq!(read, 7);
}
