//! What comes after a sync that failed. The system goes on showing the bytes, and takes them for written: no later sync
//! writes them. A process that starts again reads them, acts on them, confirms what it builds on them, and then the power goes
//! off. Only what was really written is there then, and everything confirmed has to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use haypile::simulation::{Driver, Fate, Image, Ledger, Operation, Random, SimulatedDisk, Verdict};
use haypile::storage::{
    Background, Message, Options, Persistence, Sequence, SequenceRange, Store, StoreError,
    Timestamp,
};

fn options(disk: &SimulatedDisk) -> Options {
    Options {
        segment_size: 16 << 10,
        segments_ahead: 1,
        segments_spare: 1,
        chunk_places: 16,
        checkpoint_distance: 24 << 10,
        background: Background::Caller,
        disk: Arc::new(disk.clone()),
        clock: Arc::new(Timestamp::from_unix_millis(0)),
        entropy: Arc::new(Random::new(disk.operations())),
        ..Options::default()
    }
}

/// Publishes, acknowledges, fills segments and recycles them, writes checkpoints.
fn work(driver: &mut Driver, rounds: u64) -> Result<(), StoreError> {
    let queue = match driver.store().queues().pop() {
        Some(queue) => queue,
        None => driver.create_queue(b"orders")?,
    };
    for round in 0..rounds {
        for size in [20, 700, 3000] {
            driver.publish(format!("{round:>size$}"), &[&queue])?;
        }
        driver.confirm()?;
        let newest = queue.next_sequence().get();
        let gone = |place| SequenceRange::one(Sequence::new(place));
        driver.acknowledge(&queue, &[gone(newest - 1), gone(newest - 3)])?;
        driver.deliver(&queue, &[(Sequence::new(newest - 2), 1)])?;
        if round % 3 == 2 {
            driver.upkeep(|store| store.checkpoint())?;
        }
        if round % 5 == 4 {
            let first = SequenceRange::new(Sequence::FIRST, Sequence::new(newest - 3));
            driver.acknowledge(&queue, first.as_slice())?;
        }
    }
    Ok(())
}

/// Has the `n`th operation from now on that `which` chooses fail, and says whether it came to that.
fn fail(
    disk: &SimulatedDisk,
    n: u64,
    which: impl Fn(&Operation) -> bool + Send + 'static,
) -> Arc<AtomicBool> {
    let failed = Arc::new(AtomicBool::new(false));
    let (count, told) = (AtomicU64::new(0), failed.clone());
    disk.direct(move |operation, _: &Image| {
        if which(operation) && count.fetch_add(1, Ordering::Relaxed) == n {
            told.store(true, Ordering::Relaxed);
            return Verdict::Fail(std::io::ErrorKind::Other);
        }
        Verdict::Proceed
    });
    failed
}

/// Runs until the `n`th sync fails; starts again and again on what can be read; then the power goes off. False: there were
/// fewer syncs.
fn a_sync_fails(n: u64, restarts: u64) -> bool {
    let disk = SimulatedDisk::new();
    let mut driver = Driver::open("/store", options(&disk), Ledger::new()).unwrap();
    let failed = fail(&disk, n, Operation::is_sync);
    let outcome = work(&mut driver, 25);
    if !failed.load(Ordering::Relaxed) {
        outcome.unwrap();
        return false;
    }
    assert!(matches!(outcome, Err(StoreError::Failed(_))), "sync {n}: {outcome:?}");
    let mut ledger = driver.into_ledger();
    for restart in 0..restarts {
        // The last of these processes meets the same.
        let failed = (restart > 0).then(|| fail(&disk, n % 7, Operation::is_sync));
        if failed.is_none() {
            disk.undirect();
        }
        let known = ledger.clone();
        let lives = |ledger| -> Result<(Ledger, Result<(), StoreError>), _> {
            let mut driver = Driver::open("/store", options(&disk), ledger)?;
            let outcome = work(&mut driver, 1 + n % 3);
            Ok((driver.into_ledger(), outcome))
        };
        match (lives(ledger), failed) {
            (Ok((after, outcome)), None) => {
                outcome.unwrap();
                ledger = after;
            }
            (Ok((after, _)), Some(_)) => ledger = after,
            (Err(error), Some(failed)) => {
                assert!(failed.load(Ordering::Relaxed), "sync {n}: {error}");
                ledger = known;
            }
            (Err::<_, haypile::simulation::ReopenError>(error), None) => {
                panic!("sync {n}, start {restart}: {error}")
            }
        }
    }
    for kept in [Fate::Dropped, Fate::Kept] {
        let after = SimulatedDisk::of(disk.image().after_power_cut(|_, _| kept));
        if let Err(error) = Driver::open("/store", options(&after), ledger.clone()) {
            panic!("sync {n}, {restarts} starts, then {kept:?}: {error}");
        }
    }
    true
}

/// The log's last group was shown whole after its sync had failed, was taken for durable, and the log went on behind it. Then
/// it was gone, and the store did not open any more: a hole below what was durable. So was a superblock whose sync had failed,
/// after the segments that only the older one needs had been recycled.
#[test]
fn what_is_confirmed_after_a_failed_sync_and_a_restart_survives_a_power_cut() {
    for restarts in 1..4 {
        let syncs = (0..).take_while(|n| a_sync_fails(*n, restarts)).count();
        assert!(syncs > 60, "{syncs} syncs");
    }
}

/// A message that is larger than a segment was not appended a second time by the next open, for want of room, and was relied on
/// where it is. It was the one group that a power cut could still take away below what was durable. Then it was written once
/// more where it is; and a power cut that destroys a sector that is being written took a confirmed message.
#[test]
fn so_does_what_comes_behind_a_message_larger_than_a_segment_whose_sync_has_failed() {
    for durable in [true, false] {
        let disk = SimulatedDisk::new();
        let small = |disk: &SimulatedDisk| Options { cache: 0, ..options(disk) };
        let mut driver = Driver::open("/store", small(&disk), Ledger::new()).unwrap();
        let queue = driver.create_queue(b"orders").unwrap();
        driver.publish("confirmed", &[&queue]).unwrap();
        driver.confirm().unwrap();
        let large = "x".repeat(40_000);
        if durable {
            driver.publish(large, &[&queue]).unwrap();
        } else {
            driver.publish_transient(large, &[&queue]).unwrap();
            driver.publish("behind it", &[&queue]).unwrap();
        }
        let of_group = |operation: &Operation| {
            operation.is_sync() && operation.path.ends_with("0000000000000003.segment")
        };
        let failed = fail(&disk, 0, of_group);
        assert!(matches!(driver.confirm(), Err(StoreError::Failed(_))));
        assert!(failed.load(Ordering::Relaxed), "it was the large one's");
        drop(queue);
        let ledger = driver.into_ledger();
        disk.undirect();
        let mut driver = Driver::open("/store", small(&disk), ledger).unwrap();
        let queue = driver.store().queues().pop().unwrap();
        driver.publish("confirmed as well", &[&queue]).unwrap();
        driver.confirm().unwrap();
        drop(queue);
        let ledger = driver.into_ledger();
        let after = SimulatedDisk::of(disk.image().after_power_cut(|_, _| Fate::Dropped));
        Driver::open("/store", small(&after), ledger).unwrap();
    }
}

/// What was waited for was durable, and the sync of a group behind it failed. The wait succeeded, as it should; and then the store
/// was looked after as if nothing had happened: segments were made, and the superblock written.
#[test]
fn a_store_that_has_failed_leaves_the_disk_alone() {
    let disk = SimulatedDisk::new();
    let store = Store::open("/store", Options { cache: 0, ..options(&disk) }).unwrap();
    let (queue, created) = store.create_queue(b"orders").unwrap();
    let behind = Message::new("header", "x".repeat(12_100));
    store.append(&behind, Persistence::Durable, &[&queue]).unwrap();
    let (failed, changes) = (AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let counted = changes.clone();
    disk.direct(move |operation, _| {
        if failed.load(Ordering::Relaxed) {
            counted.fetch_add(u64::from(operation.is_change()), Ordering::Relaxed);
        } else if operation.is_sync() && operation.path.ends_with("0000000000000002.segment") {
            failed.store(true, Ordering::Relaxed);
            return Verdict::Fail(std::io::ErrorKind::Other);
        }
        Verdict::Proceed
    });
    let _either_way = store.wait_durable(created);
    assert!(store.append(&behind, Persistence::Durable, &[&queue]).is_err(), "it has failed");
    assert_eq!(changes.load(Ordering::Relaxed), 0);
}
