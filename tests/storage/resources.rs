//! The resources that a store takes of the process: file descriptors, and memory while it is opened.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile, RealDisk};
use haypile::storage::inspect::{inspect, repair, verify};
use haypile::storage::{
    Background, Message, Operation, Options, Persistence, Sequence, SequenceRange, Store,
    StoreError,
};
use tempfile::tempdir;

use crate::support::*;

/// A disk for a process with so many descriptors.
#[derive(Debug)]
struct FewDescriptors {
    limit: AtomicUsize,
    open: Arc<AtomicUsize>,
    most: AtomicUsize,
    /// The largest piece that was read at once, in bytes.
    largest: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn DiskFile>,
    open: Arc<AtomicUsize>,
    largest: Arc<AtomicUsize>,
}

impl FewDescriptors {
    fn new(limit: usize) -> Arc<FewDescriptors> {
        let (limit, most) = (limit.into(), 0.into());
        let (open, largest) = (Arc::default(), Arc::default());
        Arc::new(FewDescriptors { limit, open, most, largest })
    }

    fn check(&self) -> io::Result<()> {
        let free = self.open.load(Ordering::SeqCst) < self.limit.load(Ordering::SeqCst);
        if free { Ok(()) } else { Err(io::Error::from_raw_os_error(24)) }
    }

    fn count(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        let (open, largest) = (self.open.clone(), self.largest.clone());
        Arc::new(CountedFile { file, open, largest })
    }
}

impl Drop for CountedFile {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Disk for FewDescriptors {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.check()?;
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.check()?;
        Ok(self.count(RealDisk.open(path, access)?))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check()?;
        Ok(self.count(RealDisk.create(path)?))
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

impl DiskFile for CountedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.largest.fetch_max(buffer.len(), Ordering::SeqCst);
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buffer, offset)
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

#[test]
fn a_store_of_many_segments_works_and_opens_with_few_descriptors() {
    let dir = tempdir().unwrap();
    let disk = FewDescriptors::new(20);
    let options = Options { disk: disk.clone(), segment_size: 16 << 10, cache: 0, ..small() };
    let open = || Store::open(dir.path(), options.clone()).unwrap();
    let store = open();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let texts: Vec<String> = (0..200).map(|n| format!("{n:>6000}")).collect();
    let mut last = None;
    for text in &texts {
        last = Some(append(&store, &orders, text));
        if let Some(lsn) = store.congested() {
            store.wait_durable(lsn).unwrap();
        }
    }
    store.wait_durable(last.unwrap()).unwrap();
    let segments = files(dir.path()).keys().filter(|name| name.ends_with(".segment")).count();
    assert!(segments > 80, "{segments} segments are too few for this test");
    assert_eq!(bodies(&orders), texts);
    drop((store, orders));

    let store = open();
    let orders = queue(&store, "orders");
    assert_eq!(bodies(&orders), texts);
    // Every second message goes, and compaction reads all of the rest.
    for place in (0..200).step_by(2) {
        acknowledge(&orders, place);
    }
    store.compact().unwrap();
    let left: Vec<String> = texts.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(bodies(&orders), left);
    drop(orders);
    store.close().unwrap();
    let store = open();
    assert_eq!(bodies(&queue(&store, "orders")), left);
    assert!(disk.most.load(Ordering::SeqCst) <= 20);
}

#[test]
fn a_store_of_many_segments_is_looked_at_and_repaired_with_few_descriptors() {
    let dir = tempdir().unwrap();
    let options = Options { segment_size: 16 << 10, ..small() };
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..200 {
        let last = append(&store, &orders, format!("{n:>6000}"));
        if n == 199 {
            store.wait_durable(last).unwrap();
        }
    }
    drop(orders);
    store.close().unwrap();
    let names: Vec<_> = files(dir.path()).into_keys().filter(|n| n.ends_with(".segment")).collect();
    assert!(names.len() > 80, "{} segments are too few for this test", names.len());

    let few = FewDescriptors::new(20);
    let disk: Arc<dyn Disk> = few.clone();
    assert!(verify(&disk, dir.path(), |_| {}).unwrap().is_whole());
    assert_eq!(inspect(&disk, dir.path()).unwrap().queues[0].messages, 200);
    std::fs::remove_file(dir.path().join(&names[40])).unwrap();
    let repaired = repair(&disk, dir.path(), true, |_| {}).unwrap();
    assert!((1..=3).contains(&repaired.lost), "{} messages are lost", repaired.lost);
    assert!(repaired.applied.unwrap().after.is_whole());
    assert!(few.most.load(Ordering::SeqCst) <= 20);
}

/// Nothing of a segment's size is in memory, whatever is damaged in it.
#[test]
fn large_segments_are_verified_and_repaired_in_bounded_pieces() {
    let dir = tempdir().unwrap();
    let options = Options { segment_size: 24 << 20, checkpoint_distance: u64::MAX, ..small() };
    let store =
        Store::open(dir.path(), Options { background: Background::Caller, ..options }).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..18 {
        confirm(&store, &orders, format!("{n} {}", "x".repeat(1_000_000)));
    }
    drop((store, orders));
    let name = files(dir.path()).into_keys().find(|name| name.ends_with(".segment")).unwrap();
    let path = dir.path().join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    // The header of a group, a record, and all groups for longer than a piece.
    for range in [1_100_000..1_200_000, 4_000_000..4_000_001, 6_000_000..12_000_000] {
        bytes[range].fill(0xa5);
    }
    std::fs::write(&path, bytes).unwrap();

    let few = FewDescriptors::new(20);
    let disk: Arc<dyn Disk> = few.clone();
    let found = verify(&disk, dir.path(), |_| {}).unwrap();
    assert!(!found.is_whole() && !found.holes.is_empty());
    let repaired = repair(&disk, dir.path(), true, |_| {}).unwrap();
    assert!(repaired.applied.unwrap().after.is_whole());
    let largest = few.largest.load(Ordering::SeqCst);
    assert!(largest <= 4 << 20, "{largest} bytes were read at once");
}

#[test]
fn a_store_without_a_free_descriptor_is_full_until_there_is_one() {
    let dir = tempdir().unwrap();
    let disk = FewDescriptors::new(usize::MAX);
    let store = Store::open(dir.path(), Options { disk: disk.clone(), ..small() }).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "first");
    disk.limit.store(0, Ordering::SeqCst);
    let mut confirmed = 1;
    while !store.is_full() {
        assert!(confirmed < 10_000, "the store never noticed");
        let text = message(format!("{confirmed:>3000}"));
        match store.append(&text, Persistence::Durable, &[&orders]) {
            Ok(_) => confirmed += 1,
            Err(StoreError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        std::thread::yield_now();
    }
    disk.limit.store(usize::MAX, Ordering::SeqCst);
    let begin = Instant::now();
    while store.is_full() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it stays full");
        std::thread::sleep(Duration::from_millis(10));
    }
    confirm(&store, &orders, "last");
    confirmed += 1;
    assert_eq!(orders.len(), confirmed);
    let all = SequenceRange::new(Sequence::FIRST, orders.next_sequence()).unwrap();
    orders.acknowledge(&[all]).unwrap();
    drop(orders);
    store.close().unwrap();
}

#[test]
fn an_open_reads_a_large_group_in_pieces_and_takes_it_up_again() {
    const MEBIBYTE: usize = 1 << 20;
    let dir = tempdir().unwrap();
    let disk = FewDescriptors::new(usize::MAX);
    let options = Options {
        disk: disk.clone(),
        segment_size: 16 << 20,
        segments_ahead: 1,
        checkpoint_distance: 1 << 30,
        background: Background::Caller,
        ..small()
    };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "first");
    let messages: Vec<Message> = [3, 3, 5, 2]
        .iter()
        .map(|size| Message::new("header", vec![*size as u8; size * MEBIBYTE]))
        .collect();
    let queues = [&orders];
    let appends: Vec<Operation<'_>> = messages
        .iter()
        .map(|message| Operation::Append {
            message: message.into(),
            persistence: Persistence::Durable,
            queues: &queues,
        })
        .collect();
    let together = store.apply_together(&appends).unwrap();
    store.wait_durable(together.durable_at.unwrap()).unwrap();
    drop((store, orders));

    // First it is the last group, and then one that others follow.
    for round in 0..3 {
        disk.largest.store(0, Ordering::SeqCst);
        let store = Store::open(dir.path(), options.clone()).unwrap();
        let largest = disk.largest.load(Ordering::SeqCst);
        assert!(largest <= 5 * MEBIBYTE + 100, "{largest} bytes were read at once");
        let orders = queue(&store, "orders");
        assert_eq!(orders.len(), 5 + u64::from(round == 2));
        let found: Vec<Message> = fetch_all(&orders).into_iter().map(|one| one.message).collect();
        assert_eq!(found[1..5], messages, "round {round}");
        if round == 1 {
            confirm(&store, &orders, "last");
        }
    }
}
