//! Space that is given back on a full disk, or where the caller is low on space.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haypile::storage::{
    Operation, Options, Persistence, Queue, Sequence, SequenceRange, Store, StoreError,
};
use tempfile::tempdir;

use crate::quota::QuotaDisk;
use crate::support::*;

const SEGMENT: u64 = 64 << 10;

/// The size of a message that fills a page of the log nearly, so that moving it gains nothing by itself.
const PAGE_FULL: usize = 3900;

fn limited(segments: u64) -> (QuotaDisk, Options) {
    let disk = QuotaDisk::new(segments * SEGMENT + (16 << 10));
    let options = Options { disk: Arc::new(disk.clone()), ..small() };
    (disk, options)
}

fn open(dir: &Path, options: &Options) -> Store {
    Store::open(dir, options.clone()).unwrap()
}

/// Publishes until nothing is taken for a while; returns how many messages were confirmed.
fn fill(store: &Store, queue: &Queue) -> u64 {
    fill_with(store, queue, 1200)
}

fn fill_with(store: &Store, queue: &Queue, size: usize) -> u64 {
    let (mut confirmed, mut refused) = (0, 0);
    while refused < 50 {
        let text = format!("{confirmed:>size$}");
        match store.append(&message(text), Persistence::Durable, &[queue]) {
            Ok(appended) => {
                store.wait_durable(appended.durable_at.unwrap()).unwrap();
                (confirmed, refused) = (confirmed + 1, 0);
            }
            Err(StoreError::Full) => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(4));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(confirmed < 100_000, "nothing is ever refused");
    }
    confirmed
}

/// Publishes so many messages more, each as soon as it is taken.
fn goes_on(store: &Store, queue: &Queue, count: u64) {
    goes_on_with(store, queue, count, 1200);
}

fn goes_on_with(store: &Store, queue: &Queue, count: u64, size: usize) {
    let begin = Instant::now();
    for number in 0..count {
        let text = format!("{number:>size$}");
        let appended = loop {
            match store.append(&message(&*text), Persistence::Durable, &[queue]) {
                Ok(appended) => break appended,
                Err(StoreError::Full) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => panic!("{error}"),
            }
            let waited = begin.elapsed();
            assert!(waited < Duration::from_secs(60), "nothing is taken after {number} messages");
        };
        store.wait_durable(appended.durable_at.unwrap()).unwrap();
    }
}

/// Acknowledges the messages whose number is chosen.
fn acknowledge_some(store: &Store, queue: &Queue, chosen: impl Fn(u64) -> bool) {
    let mut newest = None;
    for fetched in fetch_all(queue) {
        if chosen(fetched.sequence.get()) {
            newest = acknowledge(queue, fetched.sequence.get()).or(newest);
        }
    }
    if let Some(lsn) = newest {
        store.wait_durable(lsn).unwrap();
    }
}

/// Nineteen in twenty were acknowledged, and the store took nothing more: the log assured fewer ready segments than
/// compaction asked for. Each open took a segment then, until there was none.
#[test]
fn a_full_store_goes_on_when_one_message_in_twenty_is_left_of_each_segment() {
    let dir = tempdir().unwrap();
    let (disk, options) = limited(12);
    let mut store = open(dir.path(), &options);
    let (mut orders, _) = store.create_queue(b"orders").unwrap();
    fill(&store, &orders);
    acknowledge_some(&store, &orders, |number| number % 20 != 0);
    for _ in 0..6 {
        drop((store, orders));
        store = open(dir.path(), &options);
        orders = queue(&store, "orders");
    }
    goes_on(&store, &orders, 120);
    assert!(disk.refused() > 0);
}

/// Hand-outs were taken into the reserve like acknowledgements, until nothing was left for anybody, nor for an open.
#[test]
fn hand_outs_do_not_use_up_the_reserve() {
    let dir = tempdir().unwrap();
    let (_, options) = limited(12);
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    fill(&store, &orders);
    let places: Vec<Sequence> = fetch_all(&orders).iter().map(|found| found.sequence).collect();
    let mut recorded = 0;
    for round in 1..=200 {
        for places in places.chunks(7) {
            let counts: Vec<_> = places.iter().map(|place| (*place, round)).collect();
            recorded += u64::from(orders.mark_delivered(&counts).unwrap());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(recorded > 0);
    store.checkpoint().unwrap();
    drop((store, orders));
    let store = open(dir.path(), &options);
    let orders = queue(&store, "orders");
    assert!(fetch_all(&orders).iter().all(|found| found.deliveries == 200));
    acknowledge_some(&store, &orders, |_| true);
    goes_on(&store, &orders, 60);
}

/// Acknowledgements took the whole reserve when they came faster than checkpoints, and nothing was left for one.
#[test]
fn acknowledgements_leave_room_for_the_checkpoint_that_frees_their_segments() {
    let dir = tempdir().unwrap();
    let disk = QuotaDisk::new(12 * SEGMENT + (16 << 10));
    let options = Options { disk: Arc::new(disk.clone()), ..manual() };
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    // Of a small message the acknowledgement takes nearly as much as the message.
    while let Ok(appended) = store.append(&message("x"), Persistence::Durable, &[&orders]) {
        if orders.len() % 100 == 0 {
            store.wait_durable(appended.durable_at.unwrap()).unwrap();
        }
    }
    let places = fetch_all(&orders);
    assert!(places.len() > 3000, "{} messages are not enough", places.len());
    let mut newest = None;
    for found in &places {
        newest = acknowledge(&orders, found.sequence.get()).or(newest);
    }
    store.wait_durable(newest.unwrap()).unwrap();
    assert_eq!(disk.used() / SEGMENT, 12);
    confirm(&store, &orders, "goes on");
    drop((store, orders));
    assert_eq!(bodies(&queue(&open(dir.path(), &options), "orders")), ["goes on"]);
}

/// Dead bytes were borne up to three fifths of the live ones, on a full disk too.
#[test]
fn a_full_store_gives_back_what_is_dead_whatever_its_share() {
    let dir = tempdir().unwrap();
    let (_, options) = limited(24);
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let confirmed = fill_with(&store, &orders, PAGE_FULL);
    acknowledge_some(&store, &orders, |number| number % 4 == 0);
    // A quarter of what was there, but for what fits into no segment to the end.
    goes_on_with(&store, &orders, confirmed / 8, PAGE_FULL);
}

#[test]
fn a_store_that_is_low_on_space_gives_back_what_is_dead() {
    let dir = tempdir().unwrap();
    let (disk, options) = limited(100);
    let store = open(dir.path(), &options);
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for number in 0..1000 {
        append(&store, &orders, format!("{number:>1200}"));
    }
    store.wait_durable(append(&store, &orders, "last")).unwrap();
    acknowledge_some(&store, &orders, |number| number % 3 == 0);
    let before = disk.used();
    store.set_low_on_space(true);
    let begin = Instant::now();
    while disk.used() + 4 * SEGMENT > before {
        let (now, waited) = (disk.used(), begin.elapsed());
        assert!(waited < Duration::from_secs(60), "{now} of {before} bytes are still taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    store.set_low_on_space(false);
    assert_eq!(fetch_all(&orders).len(), 667);
}

/// A message larger than a segment waited for a file that nobody could make, and so did all that came behind it.
#[test]
fn a_message_larger_than_a_segment_is_refused_where_there_is_no_room_and_blocks_nothing() {
    for options in [small(), manual()] {
        let dir = tempdir().unwrap();
        let disk = QuotaDisk::new(100 * SEGMENT);
        let options = Options { disk: Arc::new(disk.clone()), ..options };
        let store = open(dir.path(), &options);
        let (orders, _) = store.create_queue(b"orders").unwrap();
        confirm(&store, &orders, "first");
        store.wait_durable(store.durable_lsn()).unwrap();
        let large = message("z".repeat(10 * SEGMENT as usize));
        disk.leave(3 * SEGMENT);
        let refused = store.append(&large, Persistence::Durable, &[&orders]);
        assert!(matches!(refused, Err(StoreError::NoRoom { .. })), "{refused:?}");
        let together = store.apply_together(&[
            Operation::Acknowledge {
                queue: &orders,
                ranges: &[SequenceRange::one(Sequence::FIRST)],
            },
            Operation::Append {
                message: (&large).into(),
                persistence: Persistence::Durable,
                queues: &[&orders],
            },
        ]);
        assert!(matches!(together, Err(StoreError::NoRoom { .. })), "{together:?}");
        confirm(&store, &orders, "behind");
        assert_eq!(bodies(&orders), ["first", "behind"]);
        disk.leave(20 * SEGMENT);
        let taken = store.append(&large, Persistence::Durable, &[&orders]).unwrap();
        store.wait_durable(taken.durable_at.unwrap()).unwrap();
        confirm(&store, &orders, "last");
        drop((store, orders));
        let found = bodies(&queue(&open(dir.path(), &options), "orders"));
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [5, 6, 655_360, 4]);
    }
}
