//! A disk that fails on demand, in front of the real one; and what the engine makes of it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile, RealDisk};
use haypile::storage::{Options, Persistence, Sequence, SequenceRange, Store, StoreError};
use tempfile::tempdir;

use crate::support::*;

/// What fails; 0: nothing does.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The next sync, and only that one.
    fail_syncs: AtomicU64,
    /// All writes from now on.
    fail_writes: AtomicU64,
    /// The next sync of a new file, whole.
    fail_new_files: AtomicU64,
    /// So many creations to come: the user's share of the disk is used up.
    over_quota: AtomicU64,
}

#[derive(Debug)]
struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    faults: Arc<Faults>,
    /// The store's threads sync it whenever they see fit: its syncs are let alone.
    is_superblock: bool,
}

impl FaultyFile {
    fn new(file: Arc<dyn DiskFile>, faults: &Arc<Faults>, path: &Path) -> Arc<FaultyFile> {
        let is_superblock = path.ends_with("superblock") || path.ends_with("superblock.new");
        Arc::new(FaultyFile { file, faults: faults.clone(), is_superblock })
    }
}

fn fail() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(FaultyFile::new(RealDisk.open(path, access)?, &self.0, path))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let left = |count: u64| count.checked_sub(1);
        if self.0.over_quota.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(FaultyFile::new(RealDisk.create(path)?, &self.0, path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        RealDisk.lock_dir(dir)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        if self.faults.fail_writes.load(Ordering::SeqCst) > 0 {
            return Err(fail());
        }
        self.file.write_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        // Only this one sync fails; a log that tried again would be told that all is well.
        if !self.is_superblock && self.faults.fail_syncs.swap(0, Ordering::SeqCst) > 0 {
            return Err(fail());
        }
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        if self.faults.fail_new_files.swap(0, Ordering::SeqCst) > 0 {
            return Err(fail());
        }
        self.file.sync_all()
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

fn faulty(options: Options) -> (Arc<Faults>, Options) {
    let faults = Arc::new(Faults::default());
    let disk = Arc::new(FaultyDisk(faults.clone()));
    (faults, Options { disk, ..options })
}

#[test]
fn after_a_failed_sync_nothing_is_confirmed_any_more() {
    for options in [small(), manual()] {
        let dir = tempdir().unwrap();
        let (faults, options) = faulty(options);
        let store = Store::open(dir.path(), options).unwrap();
        let (orders, created) = store.create_queue(b"orders").unwrap();
        store.wait_durable(created).unwrap();
        let confirmed = store.durable_lsn();
        faults.fail_syncs.store(1, Ordering::SeqCst);
        let lsn = append(&store, &orders, "never confirmed");
        let error = store.wait_durable(lsn).unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
        assert!(error.to_string().contains("cannot sync"), "{error}");
        // The disk works again, and would confirm. The log does not ask it.
        assert!(store.wait_durable(lsn).is_err());
        assert!(store.append(&message("m"), Persistence::Durable, &[&orders]).is_err());
        assert!(store.append(&message("m"), Persistence::Transient, &[&orders]).is_err());
        assert!(store.create_queue(b"more").is_err());
        assert!(store.checkpoint().is_err());
        assert_eq!(store.durable_lsn(), confirmed);
        assert!(store.close().is_err());
    }
}

#[test]
fn a_failed_write_ends_the_log_as_well() {
    let dir = tempdir().unwrap();
    let (faults, options) = faulty(small());
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "confirmed");
    faults.fail_writes.store(1, Ordering::SeqCst);
    // Whichever write it was: of this group, of the superblock, or of a segment to come, which may have failed by now.
    let error = store
        .append(&message("never confirmed"), Persistence::Durable, &[&orders])
        .and_then(|appended| store.wait_durable(appended.durable_at.unwrap()))
        .unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    drop((store, orders));
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")), ["confirmed"]);
}

/// Without threads such a failure was an error of that one wait, and the log went on: it took and confirmed more, until it came to
/// the segment that nobody made any more, and looked for its file for ever.
#[test]
fn a_segment_that_cannot_be_made_ends_the_log_without_threads_too() {
    let dir = tempdir().unwrap();
    let (faults, options) = faulty(manual());
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "x".repeat(30_000));
    // It goes to the next segment, so that another one is to be made ahead of need.
    let lsn = append(&store, &orders, "y".repeat(40_000));
    faults.fail_new_files.store(1, Ordering::SeqCst);
    let error = store.wait_durable(lsn).unwrap_err();
    assert!(error.to_string().contains("cannot prepare segment"), "{error}");
    let again = store.append(&message("m"), Persistence::Durable, &[&orders]).unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    assert!(store.checkpoint().is_err());
    assert!(store.create_queue(b"more").is_err());
}

/// It was told that the disk is full, and that everything goes on by itself: nothing would.
#[test]
fn who_appends_to_a_full_store_that_has_failed_hears_of_the_failure() {
    let dir = tempdir().unwrap();
    let (faults, options) = faulty(manual());
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    faults.over_quota.store(u64::MAX, Ordering::SeqCst);
    let full = loop {
        match store.append(&message("x".repeat(30_000)), Persistence::Durable, &[&orders]) {
            Ok(appended) => store.wait_durable(appended.durable_at.unwrap()).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full), "{full}");
    let lsn = orders.acknowledge(&[SequenceRange::one(Sequence::FIRST)]).unwrap().durable_at;
    faults.fail_syncs.store(1, Ordering::SeqCst);
    assert!(store.wait_durable(lsn.unwrap()).is_err());
    let failed = store.create_queue(b"more").unwrap_err();
    assert!(matches!(failed, StoreError::Failed(_)), "{failed}");
}

#[test]
fn who_asked_for_it_is_told_of_a_failure_once() {
    let dir = tempdir().unwrap();
    let (faults, options) = faulty(manual());
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let early = sender.clone();
    store.on_failure(move |error| early.send(error.to_string()).unwrap());
    confirm(&store, &orders, "confirmed");
    assert!(receiver.try_recv().is_err(), "nothing has failed yet");
    faults.fail_writes.store(1, Ordering::SeqCst);
    let lsn = append(&store, &orders, "never confirmed");
    assert!(store.wait_durable(lsn).is_err());
    assert!(receiver.try_recv().unwrap().contains("cannot write"));
    assert!(store.wait_durable(lsn).is_err());
    assert!(receiver.try_recv().is_err(), "it was told twice");
    store.on_failure(move |error| sender.send(error.to_string()).unwrap());
    assert!(receiver.try_recv().unwrap().contains("cannot write"), "late, and told at once");
}

#[test]
fn everybody_who_waits_hears_of_a_failure() {
    let dir = tempdir().unwrap();
    // Nothing is written before somebody waits for it.
    let patient = Options { lazy_sync: std::time::Duration::from_secs(3600), ..small() };
    let (faults, options) = faulty(patient);
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    let appended: Vec<_> = (0..4).map(|n| append(&store, &orders, n.to_string())).collect();
    faults.fail_writes.store(1, Ordering::SeqCst);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for lsn in appended {
            let (store, sender) = (&store, sender.clone());
            scope.spawn(move || {
                store.on_durable(lsn, move |outcome| sender.send(outcome.is_err()).unwrap());
                assert!(store.wait_durable(lsn).is_err());
            });
        }
    });
    drop(sender);
    assert_eq!(receiver.into_iter().collect::<Vec<bool>>(), [true; 4]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_the_end_too() {
    let dir = tempdir().unwrap();
    let (faults, options) = faulty(manual());
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "confirmed");
    store.wait_durable(created).unwrap();
    faults.fail_syncs.store(1, Ordering::SeqCst);
    assert!(store.checkpoint().is_err());
    assert!(store.append(&message("m"), Persistence::Durable, &[&orders]).is_err());
    drop((store, orders));
    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")), ["confirmed"]);
}

#[test]
fn a_quota_that_is_used_up_holds_the_log_back_and_does_not_end_it() {
    let dir = tempdir().unwrap();
    let (faults, options) = faulty(manual());
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    faults.over_quota.store(1, Ordering::SeqCst);
    let texts: Vec<String> = (0..70).map(|n| format!("{n:>1000}")).collect();
    texts.iter().for_each(|text| confirm(&store, &orders, text));
    assert_eq!(faults.over_quota.load(Ordering::SeqCst), 0, "it was met");
    assert_eq!(bodies(&orders), texts);
}
