//! Checkpoints that meet something else half-way.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::tempdir;

use crate::storage::compaction;
use crate::storage::disk::{Access, DirectoryLock, Disk, DiskFile, RealDisk};
use crate::storage::inspect::Inspection;
use crate::storage::{
    Background, CompactionActivity, Fetch, Message, Options, Persistence, Queue, SegmentId,
    Sequence, SequenceRange, Store,
};

type Hook = Box<dyn FnOnce() + Send>;

/// A disk that has something done in the middle of a read: what another thread might do just then.
#[derive(Clone, Default)]
struct HookedDisk(Arc<Mutex<Option<(u32, Hook)>>>);

#[derive(Debug)]
struct HookedFile(HookedDisk, Arc<dyn DiskFile>);

impl std::fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookedDisk")
    }
}

impl HookedDisk {
    /// Does this in the read that comes after so many others.
    fn after_reads(&self, reads: u32, hook: impl FnOnce() + Send + 'static) {
        *self.0.lock() = Some((reads, Box::new(hook)));
    }

    fn due(&self) -> Option<Hook> {
        let mut hook = self.0.lock();
        match hook.take() {
            Some((0, due)) => Some(due),
            Some((reads, later)) => {
                *hook = Some((reads - 1, later));
                None
            }
            None => None,
        }
    }
}

impl Disk for HookedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(HookedFile(self.clone(), RealDisk.open(path, access)?)))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(HookedFile(self.clone(), RealDisk.create(path)?)))
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

impl DiskFile for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(hook) = self.0.due() {
            hook();
        }
        self.1.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.1.write_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.1.sync_all()
    }
    fn size(&self) -> io::Result<u64> {
        self.1.size()
    }
}

const SEGMENT: u64 = 64 << 10;

fn options(disk: &HookedDisk) -> Options {
    Options {
        background: Background::Caller,
        segment_size: SEGMENT,
        checkpoint_distance: u64::MAX,
        cache: 0,
        chunk_places: 16,
        disk: Arc::new(disk.clone()),
        ..Options::default()
    }
}

/// Appends this many messages of 1,500 bytes, and waits for them.
fn publish(store: &Store, queue: &Queue, messages: u32) {
    for n in 0..messages {
        let message = Message::new("", format!("{n:>1500}"));
        let appended = store.append(&message, Persistence::Durable, &[queue]).unwrap();
        store.wait_durable(appended.durable_at.unwrap()).unwrap();
    }
}

fn acknowledge(queue: &Queue, first: u64, last: u64) {
    let range = SequenceRange::new(Sequence(first), Sequence(last)).unwrap();
    assert!(queue.acknowledge(&[range]).unwrap().messages > 0);
}

/// Has the chunk that begins at this place leave memory.
fn leave_to_the_log(store: &Store, queue: &Queue, base: u64) {
    let mut state = queue.core.state.lock();
    store.shared.spill(&queue.core, &mut state, Sequence(base)).unwrap();
}

fn places(queue: &Queue) -> Vec<u64> {
    let mut all = Vec::new();
    let mut from = Sequence::FIRST;
    while queue.fetch(from, usize::MAX, &mut all) != Fetch::Complete {
        from = all.last().map_or(from, |last| last.sequence.next());
        queue.load(from).unwrap();
    }
    all.iter().map(|fetched| fetched.sequence.0).collect()
}

/// A store whose last checkpoint had looked at a chunk of its first queue (`orders`) when compaction moved messages of it, and
/// had not written the queue's state then. `moved_from` has nothing live any more; in `home` nothing but the chunk's record is.
struct MovedMeanwhile {
    store: Store,
    /// On another page of the checkpoint than `orders`.
    other: Queue,
    moved_from: SegmentId,
    home: SegmentId,
}

impl MovedMeanwhile {
    fn make(dir: &Path, disk: &HookedDisk) -> MovedMeanwhile {
        let store = Store::open(dir, options(disk)).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        let others: Vec<_> = (0..64).map(|_| store.create_queue(b"").unwrap().0).collect();
        let other = others.last().unwrap().clone();
        let end = || SegmentId::holding(store.shared.log.end_of_groups(), SEGMENT);

        // All but the last message of chunk 2 are in early segments; the last one, and with it the chunk's record, is
        // in a segment with nothing else of this queue.
        publish(&store, &orders, 32);
        let moved_from = end().plus(1);
        publish(&store, &orders, 15);
        publish(&store, &other, 40);
        publish(&store, &orders, 1);
        leave_to_the_log(&store, &orders, 32);
        let home = end();
        publish(&store, &other, 40);
        publish(&store, &orders, 16);
        leave_to_the_log(&store, &orders, 48);
        publish(&store, &orders, 16);
        leave_to_the_log(&store, &orders, 64);
        store.checkpoint().unwrap();
        assert!(moved_from < home, "{moved_from} {home}");

        // Chunk 4 has to be looked at. Before the checkpoint comes to the queue, chunks 2 and 3 have to be as well; and
        // while the record of the second of these is read, the first is moved.
        acknowledge(&orders, 64, 64);
        let (queue, hooked) = (orders, disk.clone());
        disk.after_reads(0, move || {
            acknowledge(&queue, 47, 47);
            acknowledge(&queue, 50, 50);
            hooked.after_reads(1, move || {
                let victim = queue.shared.segments.get(moved_from).unwrap();
                assert!(compaction::move_all(&queue.shared, &victim).unwrap().messages > 0);
            });
        });
        store.checkpoint().unwrap();
        assert!(disk.0.lock().is_none(), "the checkpoint has read three records");
        acknowledge(&other, 0, 79);
        MovedMeanwhile { store, other, moved_from, home }
    }

    /// Writes a checkpoint that nothing on the page of `orders` has changed for.
    fn checkpoint(&self) {
        publish(&self.store, &self.other, 1);
        self.store.checkpoint().unwrap();
    }

    fn is_free(&self, segment: SegmentId) -> bool {
        self.store.shared.segments.get(segment).is_none()
    }
}

/// What is in `orders` at that point.
fn left() -> Vec<u64> {
    (0..80).filter(|place| ![47, 50, 64].contains(place)).collect()
}

#[test]
fn what_is_moved_in_the_middle_of_a_checkpoint_is_found_in_its_new_place() {
    let (dir, disk) = (tempdir().unwrap(), HookedDisk::default());
    let MovedMeanwhile { store, other, moved_from, .. } = MovedMeanwhile::make(dir.path(), &disk);
    drop((store, other));
    // The checkpoint has the moves, and the log tells of them again.
    let store = Store::open(dir.path(), options(&disk)).unwrap();
    for _ in 0..2 {
        store.checkpoint().unwrap();
    }
    assert!(store.shared.segments.get(moved_from).is_none(), "nothing is live in there");
    drop(store);
    let store = Store::open(dir.path(), options(&disk)).unwrap();
    assert_eq!(places(&store.queues()[0]), left());
    assert_eq!(store.set_aside(), 0);
}

/// Compaction moved a message after the checkpoint had looked at its chunk and before it wrote the queue's state, which
/// then named the chunk's record *and* the move. That was settled later, outside of a checkpoint: the chunk got a new
/// record, and nobody said that the queue had changed. The next checkpoint left its page as it was, with the old record,
/// and freed that record's segment; after a restart all messages of the chunk were lost.
#[test]
fn a_chunk_that_gets_a_new_record_between_checkpoints_is_in_the_next_one() {
    let (dir, disk) = (tempdir().unwrap(), HookedDisk::default());
    let made = MovedMeanwhile::make(dir.path(), &disk);
    made.store.shared.settle_all().unwrap();
    made.checkpoint();
    assert!(made.is_free(made.home), "its record was the last thing in there");
    assert_eq!(places(&made.store.queues()[0]), left());
    drop(made);
    let store = Store::open(dir.path(), options(&disk)).unwrap();
    assert_eq!(places(&store.queues()[0]), left());
    assert_eq!(store.set_aside(), 0);
}

/// Has the store inspected in the middle of the next read, by the very thread that reads: what is told then.
fn inspected_while_reading(
    store: &Store,
    disk: &HookedDisk,
    work: impl FnOnce(&Store),
) -> Inspection {
    let (told, seen) = std::sync::mpsc::channel();
    let meanwhile = store.clone();
    disk.after_reads(0, move || told.send(meanwhile.inspect()).unwrap());
    work(store);
    seen.try_recv().expect("something was read")
}

/// What compaction had done could be asked for when it had ended, and not before: whoever asked waited for seconds.
#[test]
fn an_inspection_waits_for_no_compaction_and_tells_how_far_it_is() {
    let (dir, disk) = (tempdir().unwrap(), HookedDisk::default());
    let store = Store::open(dir.path(), options(&disk)).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    publish(&store, &orders, 400);
    (0..400).step_by(100).for_each(|n| acknowledge(&orders, n + 1, n + 99));
    store.checkpoint().unwrap();
    let expected: Vec<SegmentId> =
        store.shared.next_victims().iter().map(|segment| segment.id()).collect();
    let seen = inspected_while_reading(&store, &disk, |store| {
        store.compact().unwrap();
    });
    let CompactionActivity::Moving { segment, number, of, moved } = seen.compaction.activity else {
        panic!("{:?}", seen.compaction.activity)
    };
    // Those before it have nothing live any more, and are not read.
    assert_eq!(segment, expected[number as usize - 1]);
    assert_eq!((of, moved.segments), (expected.len() as u64, number - 1));
    assert_eq!(moved.messages, 0, "it was the first read");
    let idle = store.inspect().compaction;
    assert_eq!(idle.activity, CompactionActivity::Idle);
    assert!(idle.ended.is_some() && idle.total.messages > 0, "{idle:?}");
}

#[test]
fn an_inspection_waits_for_no_checkpoint_and_tells_that_one_is_under_way() {
    let (dir, disk) = (tempdir().unwrap(), HookedDisk::default());
    let store = Store::open(dir.path(), options(&disk)).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    publish(&store, &orders, 40);
    leave_to_the_log(&store, &orders, 16);
    store.checkpoint().unwrap();
    let before = store.inspect();
    acknowledge(&orders, 17, 17);
    let seen = inspected_while_reading(&store, &disk, |store| store.checkpoint().unwrap());
    assert!(seen.open.unwrap().checkpoint_under_way);
    assert_eq!(seen.checkpoint, before.checkpoint, "the next one is not there yet");
    assert_eq!(seen.queues[0].messages, 39);
    let after = store.inspect();
    assert!(!after.open.unwrap().checkpoint_under_way);
    assert!(after.checkpoint.root > before.checkpoint.root);
}
