//! A full disk: nothing confirmed is lost, what makes room goes on, and so does the rest when there is room again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use haypile::storage::{
    OpenError, Operation, Options, Persistence, Queue, Sequence, SequenceRange, Store, StoreError,
};
use tempfile::tempdir;

use crate::quota::QuotaDisk;
use crate::support::*;

/// The size of the tests' segments, in bytes.
const SEGMENT: u64 = 64 << 10;

/// A disk with room for so many segments and a bit, and options for a store on it.
fn limited(segments: u64, options: Options) -> (QuotaDisk, Options) {
    let disk = QuotaDisk::new(segments * SEGMENT + (16 << 10));
    let options = Options { disk: Arc::new(disk.clone()), ..options };
    (disk, options)
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: it never happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Publishes confirmed messages until one is refused; gives the confirmed ones. Each fills a page of the log nearly, so
/// that compaction has nothing to gain.
fn fill(store: &Store, queue: &Queue) -> Vec<String> {
    let mut confirmed = Vec::new();
    go_on_filling(store, queue, &mut confirmed);
    confirmed
}

fn go_on_filling(store: &Store, queue: &Queue, confirmed: &mut Vec<String>) {
    loop {
        let text = format!("{:>3900}", confirmed.len());
        match store.append(&message(&*text), Persistence::Durable, &[queue]) {
            Ok(appended) => match store.wait_durable(appended.durable_at.unwrap()) {
                Ok(()) => confirmed.push(text),
                Err(error) => panic!("{error} after {} messages", confirmed.len()),
            },
            Err(StoreError::Full) => return,
            Err(error) => panic!("{error} after {} messages", confirmed.len()),
        }
        assert!(confirmed.len() < 10_000, "nothing is ever refused");
    }
}

fn acknowledge_all(store: &Store, queue: &Queue) {
    let mut newest = None;
    for fetched in fetch_all(queue) {
        newest = acknowledge(queue, fetched.sequence.get()).or(newest);
    }
    if let Some(lsn) = newest {
        store.wait_durable(lsn).unwrap();
    }
}

fn open(dir: &Path, options: &Options) -> Store {
    Store::open(dir, options.clone()).unwrap()
}

#[test]
fn a_full_store_refuses_what_is_new_and_goes_on_by_itself_when_it_was_consumed() {
    for options in [small(), manual()] {
        let dir = tempdir().unwrap();
        let (disk, options) = limited(10, options);
        let store = open(dir.path(), &options);
        let told = Arc::new(AtomicBool::new(false));
        let noted = told.clone();
        store.on_room_change(move || noted.store(true, Ordering::SeqCst));
        let (orders, _) = store.create_queue(b"orders").unwrap();
        for _ in 0..3 {
            // What the round before has left behind is freed by a checkpoint, which may come after a message was refused.
            let (mut confirmed, mut refused) = (Vec::new(), None);
            eventually("it is full, and stays so", || {
                go_on_filling(&store, &orders, &mut confirmed);
                refused = store.create_queue(b"more").err();
                refused.is_some() && store.is_full()
            });
            assert!(confirmed.len() > 4 * 15, "{}", confirmed.len());
            let refused = refused.unwrap();
            assert!(refused.to_string().contains("free some space"), "{refused}");
            eventually("everybody is told", || told.load(Ordering::SeqCst));
            assert_eq!(bodies(&orders), confirmed);
            acknowledge_all(&store, &orders);
            eventually("there is room again", || {
                // Without threads it is those who wait that do the work.
                store.wait_durable(store.durable_lsn()).unwrap();
                !store.is_full()
            });
            confirm(&store, &orders, "goes on");
            assert_eq!(bodies(&orders), ["goes on"]);
            acknowledge_all(&store, &orders);
        }
        assert!(disk.refused() > 0);
        store.close().unwrap();
    }
}

/// The log could run into its last segment before a slow disk said that it was full. What had been taken then waited for
/// room, unconfirmed and without an end: a test of the above that had little of the processor never came back.
#[test]
fn a_disk_that_is_slow_to_say_that_it_is_full_is_waited_for() {
    let dir = tempdir().unwrap();
    let (disk, options) = limited(10, small());
    let store = open(dir.path(), &options);
    disk.delay(Duration::from_millis(100));
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let (done, filled) = std::sync::mpsc::channel();
    let filling = store.clone();
    std::thread::spawn(move || done.send(fill(&filling, &orders).len()));
    let confirmed = filled.recv_timeout(Duration::from_secs(60)).expect("it came to an end");
    assert!(confirmed > 4 * 15, "{confirmed}");
    assert!(store.is_full());
}

#[test]
fn what_is_applied_together_is_refused_as_a_whole_unless_it_only_makes_room() {
    let dir = tempdir().unwrap();
    let (_, options) = limited(10, small());
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let passing = store.create_volatile_queue();
    let confirmed = fill(&store, &orders);
    let (kept, taken) = (store.cached_bytes(), passing.len());
    let (large, tiny) = (message("z".repeat(20_000)), message("y"));
    let half = [SequenceRange::one(Sequence::FIRST)];
    let acknowledge = Operation::Acknowledge { queue: &orders, ranges: &half };
    let refused = store.apply_together(&[
        acknowledge,
        Operation::Append {
            message: (&tiny).into(),
            persistence: Persistence::Durable,
            queues: &[&passing],
        },
        Operation::Append {
            message: (&large).into(),
            persistence: Persistence::Durable,
            queues: &[&orders],
        },
    ]);
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    assert_eq!(orders.len(), confirmed.len() as u64);
    assert_eq!((store.cached_bytes(), passing.len()), (kept, taken));
    // What is in memory alone needs no room.
    let done = store.apply_together(&[
        Operation::Append {
            message: (&tiny).into(),
            persistence: Persistence::Transient,
            queues: &[&passing, &orders],
        },
        acknowledge,
    ]);
    assert_eq!(done.unwrap().messages, 1);
    assert_eq!((passing.len(), orders.len()), (taken + 1, confirmed.len() as u64));
}

#[test]
fn deleting_a_queue_makes_room_as_well() {
    let dir = tempdir().unwrap();
    let (_, options) = limited(10, small());
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    fill(&store, &orders);
    let put = haypile::storage::Change::put("k", "v");
    assert!(matches!(store.apply(vec![put]), Err(StoreError::Full)));
    let deleted = haypile::storage::Change::DeleteQueue(orders.id());
    store.wait_durable(store.apply(vec![deleted]).unwrap()).unwrap();
    eventually("there is room again", || !store.is_full());
    let (parcels, _) = store.create_queue(b"parcels").unwrap();
    confirm(&store, &parcels, "goes on");
}

/// The checkpoint had asked which pages have changed, and forgot it when it found no room half-way. The next one, with room,
/// left the page of a new queue as it was and had the replay begin behind it: a confirmed queue was lost.
#[test]
fn a_checkpoint_that_finds_no_room_forgets_nothing() {
    let dir = tempdir().unwrap();
    let options = Options { index: 0, chunk_places: 16, checkpoint_distance: u64::MAX, ..manual() };
    let (disk, options) = limited(100, options);
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for _ in 1..64 {
        store.create_queue(b"another").unwrap();
    }
    store.checkpoint().unwrap();
    // The 65th queue is on a page of its own.
    let (late, created) = store.create_queue(b"late").unwrap();
    store.wait_durable(created).unwrap();
    // There is no room for all of these, nor for what the checkpoint wants to read.
    disk.leave(0);
    for _ in 0..600 {
        append(&store, &orders, "z".repeat(1000));
    }
    let gone = acknowledge(&orders, 500).unwrap();
    assert!(matches!(store.checkpoint(), Err(StoreError::Full)));
    disk.set_quota(100 * SEGMENT);
    store.wait_durable(gone).unwrap();
    store.checkpoint().unwrap();
    confirm(&store, &late, "first");
    drop((orders, late, store));

    let store = open(dir.path(), &options);
    assert_eq!(queue(&store, "orders").len(), 599);
    assert_eq!(bodies(&queue(&store, "late")), ["first"]);
}

/// What is in memory alone needs no room, so it is taken when the disk is full. When the index grew beyond its budget all of
/// it was written to the log all the same, into the reserve, and acknowledgements could make no room any more.
#[test]
fn what_leaves_memory_does_not_use_up_the_reserve() {
    let dir = tempdir().unwrap();
    let (disk, options) = limited(12, Options { index: 0, chunk_places: 16, ..manual() });
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let passing = store.create_volatile_queue();
    fill(&store, &orders);
    let texts: Vec<String> = (0..400).map(|n| format!("{n:>3900}")).collect();
    for text in &texts {
        store.append(&message(text), Persistence::Transient, &[&passing]).unwrap();
    }
    acknowledge_all(&store, &orders);
    disk.set_quota(100 * SEGMENT);
    eventually("there is room again", || {
        store.wait_durable(store.durable_lsn()).unwrap();
        !store.is_full()
    });
    confirm(&store, &orders, "goes on");
    assert_eq!(bodies(&passing), texts);
}

#[test]
fn room_that_somebody_else_makes_is_found() {
    let dir = tempdir().unwrap();
    let (disk, options) = limited(8, small());
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let confirmed = fill(&store, &orders);
    disk.set_quota(100 * SEGMENT);
    eventually("there is room again", || !store.is_full());
    confirm(&store, &orders, "more");
    assert_eq!(fetch_all(&orders).len(), confirmed.len() + 1);
}

#[test]
fn a_store_opens_on_a_full_disk_however_often_it_is_interrupted() {
    for options in [small(), manual()] {
        let dir = tempdir().unwrap();
        let (disk, options) = limited(10, options);
        let store = open(dir.path(), &options);
        let (orders, _) = store.create_queue(b"orders").unwrap();
        let confirmed = fill(&store, &orders);
        drop((store, orders));
        disk.leave(0);
        for round in 0..20 {
            let store = Store::open(dir.path(), options.clone())
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
            if round % 2 == 0 {
                eventually("it is noticed", || store.is_full());
            }
            assert_eq!(bodies(&queue(&store, "orders")), confirmed);
        }
        let store = open(dir.path(), &options);
        let orders = queue(&store, "orders");
        acknowledge_all(&store, &orders);
        eventually("there is room again", || {
            store.wait_durable(store.durable_lsn()).unwrap();
            !store.is_full()
        });
        confirm(&store, &orders, "goes on");
    }
}

#[test]
fn without_any_room_the_error_says_how_much_is_needed() {
    let dir = tempdir().unwrap();
    // With one segment ahead there is no reserve: nothing is left to go on in.
    let (disk, options) = limited(10, Options { segments_ahead: 1, ..small() });
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let confirmed = fill(&store, &orders);
    drop((store, orders));
    // The superblock says from where on it is needed; that it was read changes it.
    let segments = || {
        let mut segments = files(dir.path());
        segments.retain(|name, _| name.ends_with(".segment"));
        segments
    };
    let before = segments();
    let unfinished = format!("{:016x}.unfinished", 1000);
    std::fs::write(dir.path().join(unfinished), b"an interrupted preparation").unwrap();
    let disk_now = QuotaDisk::new(0);
    let options = Options { disk: Arc::new(disk_now.clone()), ..options };
    let error = Store::open(dir.path(), options.clone()).unwrap_err();
    assert!(matches!(error, OpenError::Full { bytes: SEGMENT, .. }), "{error}");
    // What had been kept is as it was; what was never in use made way.
    assert!(segments() == before);
    assert!(error.to_string().contains("65536 free bytes"), "{error}");
    // So much is enough; the open may even find more, in what is dead.
    disk_now.leave(SEGMENT);
    let store = open(dir.path(), &options);
    assert_eq!(bodies(&queue(&store, "orders")), confirmed);
    drop(disk);
}

#[test]
fn a_full_store_takes_many_acknowledgements() {
    let dir = tempdir().unwrap();
    // A group for each hand-out, when they come as slowly as on a slow machine, would use the reserve up before the checkpoint that
    // frees it has had its turn: so small are the segments here.
    let patient = Options { lazy_sync: Duration::from_secs(3600), ..small() };
    let (_, options) = limited(10, patient);
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let confirmed = fill(&store, &orders);
    // Hand-outs make no room, and fill more than a segment.
    for round in 1..=30 {
        let delivered: Vec<_> =
            (0..confirmed.len() as u64).map(|place| (Sequence::new(place), round)).collect();
        for place in delivered.chunks(1) {
            orders.mark_delivered(place).unwrap();
        }
    }
    acknowledge_all(&store, &orders);
    eventually("there is room again", || !store.is_full());
    confirm(&store, &orders, "goes on");
}

#[test]
fn closing_and_dropping_a_store_that_waits_for_room_ends() {
    for close in [true, false] {
        let dir = tempdir().unwrap();
        let (disk, options) = limited(20, small());
        let store = open(dir.path(), &options);
        let (orders, _) = store.create_queue(b"orders").unwrap();
        confirm(&store, &orders, "confirmed");
        disk.leave(0);
        // Faster than the disk says that it is full: these wait for files that nobody can make.
        for _ in 0..20 {
            let big = "x".repeat(50 << 10);
            if store.append(&message(big), Persistence::Durable, &[&orders]).is_err() {
                break;
            }
        }
        drop(orders);
        if close {
            // Whether all of it found room depends on how soon it was refused.
            let _either: Result<(), StoreError> = store.close();
        } else {
            drop(store);
        }
        disk.leave(20 * SEGMENT);
        let store = open(dir.path(), &options);
        assert_eq!(bodies(&queue(&store, "orders"))[0], "confirmed");
    }
}

#[test]
fn without_threads_a_full_disk_is_an_error_that_passes() {
    let dir = tempdir().unwrap();
    let (disk, options) = limited(20, manual());
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "first");
    disk.leave(0);
    let lsns: Vec<_> = (0..8).map(|_| append(&store, &orders, "x".repeat(50 << 10))).collect();
    let last = *lsns.last().unwrap();
    assert!(matches!(store.wait_durable(last), Err(StoreError::Full)));
    assert!(matches!(store.wait_durable(last), Err(StoreError::Full)));
    disk.leave(20 * SEGMENT);
    store.wait_durable(last).unwrap();
    confirm(&store, &orders, "last");
    assert_eq!(fetch_all(&orders).len(), 10);
    drop(orders);
    store.close().unwrap();
    assert_eq!(fetch_all(&queue(&open(dir.path(), &options), "orders")).len(), 10);
}

#[test]
fn a_directory_without_room_for_a_name_is_tried_again() {
    let dir = tempdir().unwrap();
    let (disk, options) = limited(100, manual());
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let mut texts = Vec::new();
    for n in 0..300 {
        if n % 50 == 0 {
            disk.fail_renames(2);
        }
        let text = format!("{n:>2000}");
        confirm(&store, &orders, &*text);
        texts.push(text);
        if n % 40 == 39 {
            // So that there is something to recycle.
            acknowledge_all(&store, &orders);
            texts.clear();
            store.checkpoint().unwrap();
        }
    }
    assert_eq!(bodies(&orders), texts);
    drop(orders);
    store.close().unwrap();
    assert_eq!(bodies(&queue(&open(dir.path(), &options), "orders")), texts);
}
