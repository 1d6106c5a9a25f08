//! Damage to the lists of deep queues, and to the other parts of a checkpoint.

use haypile::storage::inspect::inspect;
use haypile::storage::{Change, Queue, Sequence, SequenceRange};
use tempfile::TempDir;

use super::*;

pub(super) fn deep() -> Options {
    Options { chunk_places: 16, index: 0, cache: 0, ..options() }
}

fn number(n: u64) -> String {
    format!("message {n:<200}")
}

/// Appends messages in groups of ten.
fn fill(store: &Store, queue: &Queue, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let lsn = append(store, queue, number(n));
        if n % 10 == 9 {
            store.wait_durable(lsn).unwrap();
        }
    }
}

fn acknowledge_all(queue: &Queue, first: u64, last: u64) {
    let range = SequenceRange::new(Sequence::new(first), Sequence::new(last)).unwrap();
    assert_eq!(queue.acknowledge(&[range]).unwrap().messages, last - first + 1);
}

/// A queue of 400 messages in 25 chunks, of which some are gone; its checkpoint is of now. If `compacted`, the beginning of the
/// log is gone as well, and some that checkpoints before rely on.
pub(super) fn example(compacted: bool) -> TempDir {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), deep()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    store.apply(vec![Change::put("exchange", vec![1; 100])]).unwrap();
    fill(&store, &orders, 0..400);
    store.checkpoint().unwrap();
    acknowledge_all(&orders, 40, 59);
    if compacted {
        acknowledge_all(&orders, 200, 299);
        // Every message of the first segments is moved: they hold little else but acknowledged ones.
        for first in (0..40).step_by(4) {
            acknowledge_all(&orders, first + 1, first + 3);
        }
        assert!(store.compact().unwrap().messages > 5);
    }
    assert!(store.resident_places() < 200, "{}", store.resident_places());
    drop(orders);
    store.close().unwrap();
    if compacted {
        for file in inspect(&RealDisk::shared(), dir.path()).unwrap().unused {
            fs::remove_file(file).unwrap();
        }
    }
    assert!(look(dir.path()).is_whole());
    dir
}

pub(super) fn live(compacted: bool) -> Vec<u64> {
    let gone = |n: &u64| {
        let more = (200..300).contains(n) || (*n < 40 && !n.is_multiple_of(4));
        (40..60).contains(n) || (compacted && more)
    };
    (0..400).filter(|n| !gone(n)).collect()
}

/// Flips a bit in the newest record that begins like this, from its kind on; gives the file and the record's offset.
fn damage_newest(dir: &Path, beginning: &[u8]) -> (PathBuf, u64) {
    let newest = files(dir).into_iter().rev().find_map(|(name, content)| {
        let offset = content.windows(beginning.len()).rposition(|w| w == beginning)?;
        Some((dir.join(name), offset))
    });
    let (file, offset) = newest.unwrap();
    flip(&file, offset + beginning.len());
    (file, offset as u64 - 8)
}

/// The record of the chunk of queue 1 that begins with this place.
pub(super) fn damage_chunk(dir: &Path, base: u64) -> (PathBuf, u64) {
    let mut beginning = b"\x06\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    beginning.extend_from_slice(&base.to_le_bytes());
    beginning.extend_from_slice(&16u32.to_le_bytes());
    damage_newest(dir, &beginning)
}

/// The first directory of queue 1.
fn damage_directory(dir: &Path) -> (PathBuf, u64) {
    damage_newest(dir, b"\x0c\0\0\0\x02\x01\0")
}

fn damage_record_of(dir: &Path, n: u64) {
    for (name, mut content) in files(dir) {
        let body = number(n).into_bytes();
        let at: Vec<usize> = content
            .windows(body.len())
            .enumerate()
            .filter(|(_, w)| *w == body)
            .map(|(at, _)| at)
            .collect();
        at.iter().for_each(|at| content[at + 100] ^= 1);
        if !at.is_empty() {
            fs::write(dir.join(name), content).unwrap();
        }
    }
}

/// The queue has these messages in the places that they have always had.
fn holds(dir: &Path, expected: &[u64]) {
    for round in 0..2 {
        let store = Store::open(dir, deep()).unwrap();
        let orders = queue(&store, "orders");
        assert_eq!(orders.len(), expected.len() as u64);
        let all = fetch_all(&orders);
        assert_eq!(all.iter().map(|f| f.sequence.get()).collect::<Vec<_>>(), expected);
        assert!(all.iter().map(body).eq(expected.iter().map(|n| number(*n))));
        assert_eq!(store.set_aside(), 0);
        assert_eq!(store.entries().len(), 1);
        assert_eq!(orders.next_sequence().get(), 400 + round);
        confirm(&store, &orders, "one more");
        acknowledge(&orders, 400 + round).unwrap();
        store.compact().unwrap();
        drop(orders);
        store.close().unwrap();
        assert!(look(dir).is_whole());
    }
}

/// Messages of a damaged list went to the end of their queue.
#[test]
fn the_messages_of_damaged_lists_of_a_deep_queue_keep_their_places() {
    for compacted in [false, true] {
        let dir = example(compacted);
        let lists = [32, 96, 192].map(|base| damage_chunk(dir.path(), base));
        for n in [36, 100, 150] {
            damage_record_of(dir.path(), n);
        }
        let found = look(dir.path());
        assert!(found.refusal.is_none());
        for list in &lists {
            let told = found.damage.iter().find(|f| (&f.file, f.offset) == (&list.0, list.1));
            assert!(told.is_some_and(|f| f.list && f.needed && !f.uncertain), "{told:?}");
        }
        let in_lists = |n: &u64| [32..48, 96..112, 192..208].iter().any(|list| list.contains(n));
        let expected: Vec<u64> =
            live(compacted).into_iter().filter(|n| in_lists(n) || *n == 150).collect();
        let mut told = lost(&found);
        told.sort_unstable();
        assert_eq!(told, expected);
        let (done, _) = repaired(dir.path());
        assert_eq!((done.lost, done.restored), (3, expected.len() as u64 - 3));
        let left: Vec<u64> =
            live(compacted).into_iter().filter(|n| ![36, 100, 150].contains(n)).collect();
        holds(dir.path(), &left);
    }
}

#[test]
fn without_a_directory_an_older_checkpoint_and_the_log_from_there_on_cost_nothing() {
    let dir = example(false);
    damage_directory(dir.path());
    let found = look(dir.path());
    assert!(found.refusal.is_some() && found.older_checkpoint.is_some());
    let (done, _) = repaired(dir.path());
    assert_eq!((done.lost, done.restored), (0, 0));
    holds(dir.path(), &live(false));
}

/// A damaged directory of a store whose log did not go back far enough was the end of all of it: without any checkpoint
/// nothing was repaired, although but one list of lists was missing.
#[test]
fn a_directory_that_nothing_else_replaces_is_made_up_for_by_the_log() {
    let dir = example(true);
    let (file, offset) = damage_directory(dir.path());
    assert!(matches!(Store::open(dir.path(), deep()), Err(OpenError::Damaged(_))));
    let found = look(dir.path());
    assert!(found.refusal.is_some() && !found.no_checkpoint);
    let told = found.damage.iter().find(|f| (&f.file, f.offset) == (&file, offset)).unwrap();
    assert!(told.list && told.uncertain && told.needed);
    let (done, kept) = repaired(dir.path());
    assert_eq!(done.lost, 0);
    let report = String::from_utf8(kept["report.txt"].clone()).unwrap();
    assert!(report.contains("some of these messages may have been acknowledged"), "{report}");
    // What was acknowledged is known: the records of chunks, or of acknowledgements, are still there.
    assert_eq!(done.restored, live(true).len() as u64);
    holds(dir.path(), &live(true));
}

#[test]
fn a_directory_and_lists_and_messages_of_it_may_be_damaged_at_once() {
    let dir = example(true);
    damage_directory(dir.path());
    damage_chunk(dir.path(), 320);
    for n in [100, 325] {
        damage_record_of(dir.path(), n);
    }
    let (done, _) = repaired(dir.path());
    // Of 325 there is no record, and nothing that says that there was one.
    let told: Vec<_> = done.found.damage.iter().flat_map(|f| &f.messages).collect();
    let told: Vec<u64> =
        told.iter().filter(|m| m.record.is_none()).map(|m| m.sequence.get()).collect();
    assert_eq!((told, done.lost), (vec![100], 1));
    let left: Vec<u64> = live(true).into_iter().filter(|n| ![100, 325].contains(n)).collect();
    holds(dir.path(), &left);
}

/// Pages of queues, of metadata, and the root: nothing in the log says what was in them. Without an older checkpoint that
/// has all of it nothing is changed.
#[test]
fn other_parts_of_a_checkpoint_are_replaced_by_an_older_one_or_not_at_all() {
    // From the kind on, with the version.
    for part in [&b"\x07\0\0\0\x02"[..], b"\x08\0\0\0\x02", b"\x09\0\0\0\x03"] {
        let dir = example(false);
        damage_newest(dir.path(), part);
        let found = look(dir.path());
        assert!(found.refusal.is_some() && found.older_checkpoint.is_some(), "{part:?}");
        let (done, _) = repaired(dir.path());
        assert_eq!((done.lost, done.restored), (0, 0), "{part:?}");
        holds(dir.path(), &live(false));

        let dir = example(true);
        // And every older one that is still there.
        for (name, mut content) in files(dir.path()) {
            let windows = content.windows(part.len()).enumerate();
            let found: Vec<usize> = windows.filter(|(_, w)| *w == part).map(|(at, _)| at).collect();
            found.iter().for_each(|at| content[at + part.len()] ^= 1);
            fs::write(dir.path().join(name), content).unwrap();
        }
        let before = files(dir.path());
        let error = run(dir.path(), true).unwrap_err();
        assert!(matches!(error, RepairError::NoCheckpoint(_)), "{error}");
        assert!(files(dir.path()) == before, "{part:?}");
    }
}
