//! Crashes: what was confirmed is there afterwards, whatever became of the rest.

use std::fs;
use std::path::{Path, PathBuf};

use haypile::storage::disk::RealDisk;
use haypile::storage::{Background, Change, Options, Sequence, SequenceRange, Store, inspect};
use tempfile::tempdir;

use crate::support::*;

/// The segment file that was written to last.
fn newest_segment(dir: &Path) -> PathBuf {
    // The last one that has a group: prepared ones are zeros behind their header.
    files(dir)
        .into_iter()
        .filter(|(name, content)| name.ends_with(".segment") && content[4096..4104] != [0; 8])
        .map(|(name, _)| dir.join(name))
        .next_back()
        .unwrap()
}

#[test]
fn what_was_not_synced_is_lost_and_nothing_else() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..10).for_each(|n| confirm(&store, &orders, format!("confirmed {n}")));
    append(&store, &orders, "never synced");
    std::mem::drop((store, orders)); // without threads nothing writes it
    let store = Store::open(dir.path(), manual()).unwrap();
    let expected: Vec<String> = (0..10).map(|n| format!("confirmed {n}")).collect();
    assert_eq!(bodies(&queue(&store, "orders")), expected);
}

#[test]
fn a_copy_taken_between_any_two_steps_has_everything_that_was_confirmed_before() {
    let (dir, copies) = (tempdir().unwrap(), tempdir().unwrap());
    let options = || Options { checkpoint_distance: 100 << 10, ..manual() };
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    for round in 0..12 {
        for n in 0..150 {
            append(&store, &orders, format!("{round} {n} {}", "x".repeat(n * 7)));
        }
        let first = round * 151;
        let range = SequenceRange::new(Sequence::new(first), Sequence::new(first + 99)).unwrap();
        let acknowledged = orders.acknowledge(&[range]).unwrap();
        store.wait_durable(acknowledged.durable_at.unwrap()).unwrap();
        append(&store, &orders, "not confirmed");
        let copied = copies.path().join(round.to_string());
        copy(dir.path(), &copied);
        acknowledge(&orders, orders.next_sequence().previous().unwrap().get());

        let revived = Store::open(&copied, options()).unwrap();
        let texts = bodies(&queue(&revived, "orders"));
        assert_eq!(texts.len() as u64, (round + 1) * 50, "round {round}");
        assert!(texts.last().unwrap().starts_with(&format!("{round} 149 ")));
    }
}

/// A store whose last group, of ten unconfirmed messages, can be cut anywhere: its directory, the file of the last
/// group, and where in the file that group begins and ends.
fn store_with_a_last_group(dir: &Path) -> (PathBuf, usize, usize) {
    let store = Store::open(dir, manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..5).for_each(|n| confirm(&store, &orders, format!("confirmed {n}")));
    let start = store.durable_lsn().get();
    let last =
        (0..10).map(|n| append(&store, &orders, format!("last {n} {}", "y".repeat(900)))).max();
    store.wait_durable(last.unwrap()).unwrap();
    let end = store.durable_lsn().get();
    let size = 64 << 10;
    drop((store, orders));
    (newest_segment(dir), (start % size) as usize, (end % size) as usize)
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_tore_and_stays_cut() {
    let original = tempdir().unwrap();
    let (file, start, end) = store_with_a_last_group(original.path());
    let whole = fs::read(&file).unwrap();
    let name = file.file_name().unwrap();
    let end = whole[start..end].iter().rposition(|byte| *byte != 0).unwrap() + start + 1;
    for cut in (start..end).step_by(512) {
        for garbage in [0x00, 0xa5] {
            let dir = tempdir().unwrap();
            copy(original.path(), dir.path());
            let mut torn = whole.clone();
            torn[cut..end].fill(garbage);
            fs::write(dir.path().join(name), &torn).unwrap();
            for round in 0..3 {
                let store = Store::open(dir.path(), manual()).unwrap();
                let orders = queue(&store, "orders");
                let texts = bodies(&orders);
                let mut expected: Vec<String> = (0..5).map(|n| format!("confirmed {n}")).collect();
                expected.extend((0..round).map(|n| format!("after {n}")));
                assert_eq!(texts, expected, "cut at {cut}, round {round}");
                confirm(&store, &orders, format!("after {round}"));
            }
        }
    }
}

#[test]
fn a_tail_that_was_cut_off_is_no_damage_to_those_who_verify() {
    let dir = tempdir().unwrap();
    let (file, start, _) = store_with_a_last_group(dir.path());
    let mut torn = fs::read(&file).unwrap();
    torn[start + 2048..start + 2560].fill(0);
    fs::write(&file, torn).unwrap();
    for _ in 0..2 {
        let verification = inspect::verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap();
        assert_eq!(verification.damage, []);
        let store = Store::open(dir.path(), manual()).unwrap();
        confirm(&store, &queue(&store, "orders"), "after the crash");
    }
    let verification = inspect::verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap();
    assert_eq!(verification.damage, []);
}

/// Where a tail was cut off is told by the segment that the log went on to. A store that had been killed several times
/// was called damaged once that segment was freed and the one with the torn tail was still needed.
#[test]
fn a_tail_that_was_cut_off_is_no_damage_when_the_segment_after_it_is_gone() {
    let dir = tempdir().unwrap();
    let (file, start, _) = store_with_a_last_group(dir.path());
    let mut torn = fs::read(&file).unwrap();
    torn[start + 2048..start + 2560].fill(0);
    fs::write(&file, torn).unwrap();

    let store = Store::open(dir.path(), manual()).unwrap();
    let orders = queue(&store, "orders");
    let last = (0..200).map(|n| append(&store, &orders, format!("after {n} {}", "x".repeat(900))));
    store.wait_durable(last.max().unwrap()).unwrap();
    // With those that came after it goes the last one before the torn tail, which was taken up anew there.
    for message in fetch_all(&orders).iter().skip(4) {
        acknowledge(&orders, message.sequence.get());
    }
    // The second frees what the first still needed.
    (0..2).for_each(|_| store.checkpoint().unwrap());
    drop((store, orders));

    let verification = inspect::verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap();
    assert_eq!(verification.segments, 2, "the one with the tail, and the one with the checkpoint");
    assert_eq!((verification.messages, verification.damage), (4, vec![]));
}

#[test]
fn a_torn_sector_in_the_middle_of_the_last_group_voids_all_of_it() {
    let original = tempdir().unwrap();
    let (file, start, end) = store_with_a_last_group(original.path());
    for sector in (start..end - 3072).step_by(512) {
        let dir = tempdir().unwrap();
        copy(original.path(), dir.path());
        let path = dir.path().join(file.file_name().unwrap());
        let mut torn = fs::read(&path).unwrap();
        torn[sector..sector + 512].fill(0);
        fs::write(&path, torn).unwrap();
        let store = Store::open(dir.path(), manual()).unwrap();
        assert_eq!(bodies(&queue(&store, "orders")).len(), 5, "sector at {sector}");
    }
}

#[test]
fn opening_again_and_again_changes_nothing_that_can_be_seen() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..300).for_each(|n| {
        append(&store, &orders, n.to_string());
    });
    (0..300).step_by(3).for_each(|n| {
        acknowledge(&orders, n);
    });
    confirm(&store, &orders, "300");
    let expected = fetch_all(&orders);
    drop((store, orders));
    for _ in 0..30 {
        let store = Store::open(dir.path(), manual()).unwrap();
        assert_eq!(fetch_all(&queue(&store, "orders")), expected);
    }
    // Each open goes on in a fresh segment; the ones that hold nothing are taken back by the next checkpoints.
    let store = Store::open(dir.path(), manual()).unwrap();
    (0..3).for_each(|_| store.checkpoint().unwrap());
    let segments = files(dir.path()).len();
    assert!(segments < 12, "{segments} files after thirty opens");
}

#[test]
fn many_queues_over_checkpoints_and_crashes() {
    let dir = tempdir().unwrap();
    let mut expected = 0;
    for round in 0..4 {
        let store = Store::open(dir.path(), manual()).unwrap();
        let mut queues = store.queues();
        queues.sort_by_key(|queue| queue.id());
        assert_eq!(queues.len(), round * 100);
        let count: u64 = queues.iter().map(|queue| queue.len()).sum();
        assert_eq!(count, expected);
        // Every third of the old queues goes; so pages of the checkpoint have holes to fill.
        for n in 0..100 {
            queues.push(store.create_queue(format!("{round} {n}").as_bytes()).unwrap().0);
        }
        let mut last = None;
        for queue in &queues {
            last = Some(append(&store, queue, "m"));
            expected += 1;
            if queue.id().get() % 64 == 0 {
                store.checkpoint().unwrap();
            }
        }
        store.wait_durable(last.unwrap()).unwrap();
    }
}

#[test]
fn deleting_queues_leaves_room_for_others_in_the_checkpoint() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    for n in 0..200 {
        store.create_queue(format!("old {n}").as_bytes()).unwrap();
    }
    store.checkpoint().unwrap();
    for queue in store.queues().into_iter().filter(|queue| queue.id().get() % 2 == 0) {
        store.apply(vec![Change::DeleteQueue(queue.id())]).unwrap();
    }
    store.checkpoint().unwrap();
    let names = |store: &Store| {
        let mut names: Vec<_> = store.queues().iter().map(|q| q.attributes().clone()).collect();
        names.sort();
        names
    };
    let after_deletion = names(&store);
    assert_eq!(after_deletion.len(), 100);
    drop(store);
    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(names(&store), after_deletion);
    (0..150).for_each(|n| {
        store.create_queue(format!("new {n}").as_bytes()).unwrap();
    });
    store.checkpoint().unwrap();
    let expected = names(&store);
    assert_eq!(expected.len(), 250);
    drop(store);
    assert_eq!(names(&Store::open(dir.path(), manual()).unwrap()), expected);
}

#[test]
fn without_threads_a_run_is_the_same_every_time() {
    #[derive(Debug)]
    struct Counting(std::sync::atomic::AtomicU64);
    impl haypile::storage::Entropy for Counting {
        fn number(&self) -> u64 {
            self.0.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::SeqCst)
        }
    }
    let run = || {
        let dir = tempdir().unwrap();
        let options = Options {
            background: Background::Caller,
            entropy: std::sync::Arc::new(Counting(7.into())),
            checkpoint_distance: 100_000,
            ..small()
        };
        let store = Store::open(dir.path(), options).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        (0..500).for_each(|n| {
            confirm(&store, &orders, format!("{n:>500}"));
            acknowledge(&orders, n / 2);
        });
        drop((store, orders));
        files(dir.path())
    };
    assert!(run() == run(), "two runs wrote different bytes");
}
