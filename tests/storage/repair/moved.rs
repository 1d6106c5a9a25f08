//! Damage to a store that has been compacted: messages have two records, for a while or for good.

use tempfile::TempDir;

use std::collections::BTreeSet;

use haypile::storage::inspect::inspect;
use haypile::storage::{Change, Persistence};

use super::*;

/// Kinds of records.
pub(super) const MESSAGE: u8 = 1;
pub(super) const MOVED: u8 = 11;

/// Records of a message of one queue with this body: the file, the offset of the record, and its kind.
pub(super) fn records(dir: &Path, body: &str) -> Vec<(PathBuf, usize, u8)> {
    let mut records = Vec::new();
    for (name, content) in files(dir) {
        let found = content.windows(body.len()).enumerate().filter(|(_, w)| *w == body.as_bytes());
        for (offset, _) in found {
            // The frame, where it was moved from, counts, one reference, the header. Where a recycled file has been written to,
            // bytes of its earlier life may follow that had another record's frame in front.
            let kind = |start: usize| {
                let frame = content.get(start..start + 12)?;
                let length = (offset - start - 12 + body.len()) as u32;
                let ends = frame[4..8] == length.to_le_bytes() && frame[9..] == [0; 3];
                ends.then_some(frame[8])
            };
            let found = [38, 22].into_iter().find_map(|before| {
                let start = offset.checked_sub(before)?;
                let kind = kind(start).filter(|kind| (*kind == MOVED) == (before == 38))?;
                Some((start, kind))
            });
            let Some((start, kind)) = found else { continue };
            records.push((dir.join(&name), start, kind));
        }
    }
    records
}

/// Flips a bit in every record of this kind that a message has.
pub(super) fn damage_records(dir: &Path, body: &str, kind: u8) {
    let records = records(dir, body);
    let of_kind = records.iter().filter(|record| record.2 == kind);
    let damaged = of_kind.map(|(file, offset, _)| flip(file, offset + 80)).count();
    assert!(damaged > 0, "there is no such record: {records:?}");
}

/// Puts back what a checkpoint has taken away or changed since: what a power cut leaves just before the superblock points to
/// that checkpoint.
fn undo_checkpoint(dir: &Path, before: &BTreeMap<String, Vec<u8>>) {
    let now = files(dir);
    for (name, content) in before {
        if name == "superblock" || !now.contains_key(name) {
            fs::write(dir.join(name), content).unwrap();
        }
    }
}

/// A store of 60 messages whose segments were compacted, and whose tail of log has the first records and the moved ones.
fn compacted_tail() -> TempDir {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..60 {
        confirm(&store, &orders, text(n));
    }
    let before = files(dir.path());
    assert!(store.compact().unwrap().messages > 30);
    confirm(&store, &orders, text(60));
    let acknowledged = acknowledge(&orders, 9).unwrap();
    store.wait_durable(acknowledged).unwrap();
    confirm(&store, &orders, text(61));
    drop((store, orders));
    undo_checkpoint(dir.path(), &before);
    for n in [7, 8, 9, 20] {
        // More than once where a file has been recycled: what it had before is in it still, and void.
        let records = records(dir.path(), &text(n));
        let kinds: BTreeSet<u8> = records.iter().map(|record| record.2).collect();
        assert!(kinds.into_iter().eq([MESSAGE, MOVED]), "{n}: {records:?}");
    }
    dir
}

fn holds(dir: &Path, expected: impl Iterator<Item = u64>) {
    let store = Store::open(dir, options()).unwrap();
    let orders = queue(&store, "orders");
    let found: Vec<u64> = fetch_all(&orders).iter().map(|f| f.sequence.get()).collect();
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert!(bodies(&orders).into_iter().eq(found.into_iter().map(text)));
}

/// What had been moved was told as lost, and taken out: a hole in the log gave its place away before the copy was read.
#[test]
fn a_message_whose_first_record_is_lost_in_a_hole_is_taken_from_where_it_was_moved_to() {
    let dir = compacted_tail();
    for n in [7, 8, 9, 20] {
        damage_records(dir.path(), &text(n), MESSAGE);
    }
    let found = look(dir.path());
    assert_eq!(found.holes.len(), 4, "{:?}", found.holes);
    assert_eq!(lost_in_holes(&found), []);
    let (done, _) = repaired(dir.path());
    assert_eq!((done.lost, done.restored), (0, 0));
    // The acknowledgement of 9 came behind its copy.
    holds(dir.path(), (0..62).filter(|n| *n != 9));
}

#[test]
fn a_hole_that_swallows_the_moved_record_leaves_the_message_where_it_was() {
    let dir = compacted_tail();
    for n in [7, 20] {
        damage_records(dir.path(), &text(n), MOVED);
    }
    let found = look(dir.path());
    assert!(!found.holes.is_empty());
    assert_eq!((lost_in_holes(&found), lost(&found)), (vec![], vec![]));
    let (done, _) = repaired(dir.path());
    assert_eq!(done.lost, 0);
    holds(dir.path(), (0..62).filter(|n| *n != 9));
}

#[test]
fn a_message_whose_records_are_all_lost_in_holes_is_told() {
    let dir = compacted_tail();
    for kind in [MESSAGE, MOVED] {
        damage_records(dir.path(), &text(20), kind);
    }
    assert_eq!(lost_in_holes(&look(dir.path())), [(20, 20)]);
    repaired(dir.path());
    holds(dir.path(), (0..62).filter(|n| ![9, 20].contains(n)));
}

/// Removes the files that nothing needs any more: the old segments of moved messages are among them.
fn remove_unused(dir: &Path) {
    for file in inspect(&RealDisk::shared(), dir).unwrap().unused {
        fs::remove_file(file).unwrap();
    }
}

/// A store most of whose 60 messages were moved, and whose last checkpoint has them at their new places. `keep_old`: every
/// file of their old segments is still there, as before a checkpoint would use them again; or none is.
pub(super) fn compacted(keep_old: bool) -> TempDir {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..60 {
        confirm(&store, &orders, text(n));
    }
    let before = files(dir.path());
    assert!(store.compact().unwrap().messages > 30);
    drop(orders);
    store.close().unwrap();
    if keep_old {
        let now = files(dir.path());
        for (name, content) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
            fs::write(dir.path().join(name), content).unwrap();
        }
    } else {
        remove_unused(dir.path());
    }
    assert!(look(dir.path()).is_whole());
    dir
}

#[test]
fn a_moved_message_that_is_damaged_is_taken_from_where_it_was_before() {
    let dir = compacted(true);
    for n in [7, 20] {
        damage_records(dir.path(), &text(n), MOVED);
    }
    let found = look(dir.path());
    assert!(found.refusal.is_none());
    assert_eq!(lost(&found), [7, 20]);
    assert!(found.damage.iter().all(|f| f.needed && f.messages.iter().all(|m| m.record.is_some())));
    let (done, _) = repaired(dir.path());
    assert_eq!((done.lost, done.restored), (0, 2));
    holds(dir.path(), 0..60);
    // What is in the old segment is needed again, and moves on like anything else.
    let store = Store::open(dir.path(), options()).unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    holds(dir.path(), 0..60);
    assert!(look(dir.path()).is_whole());
}

#[test]
fn a_moved_message_that_is_damaged_is_lost_when_its_old_segment_is_gone() {
    let dir = compacted(false);
    for n in [7, 20] {
        damage_records(dir.path(), &text(n), MOVED);
    }
    let (done, _) = repaired(dir.path());
    assert_eq!((done.lost, done.restored, lost(&done.found)), (2, 0, vec![7, 20]));
    holds(dir.path(), (0..60).filter(|n| ![7, 20].contains(n)));
}

#[test]
fn a_missing_segment_of_moved_messages_is_made_up_for_by_the_old_ones() {
    let dir = compacted(true);
    let moved = records(dir.path(), &text(7)).into_iter().find(|record| record.2 == MOVED).unwrap();
    // The last message was in it as well, and nowhere else before.
    let last = *messages_in(&moved.0).last().unwrap();
    fs::remove_file(&moved.0).unwrap();
    let (done, _) = repaired(dir.path());
    assert!(done.found.refusal.is_some());
    assert!(done.restored > 30, "{}", done.restored);
    assert_eq!(done.lost, 1);
    holds(dir.path(), (0..60).filter(|n| *n != last));
}

/// The record of a torn tail was never confirmed, and its place was given to another message. When that one is damaged, the
/// other is not it: also where the segment is gone that would tell where the torn tail begins.
#[test]
fn what_a_torn_tail_has_left_is_not_taken_for_a_lost_message() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, text(0));
    confirm(&store, &orders, "torn");
    drop((store, orders));
    let (first, offset) = find(dir.path(), b"torn");
    let whole = fs::read(&first).unwrap();
    flip(&first, offset);
    let store = Store::open(dir.path(), options()).unwrap();
    let orders = queue(&store, "orders");
    assert_eq!(orders.next_sequence().get(), 1);
    (1..40).for_each(|n| confirm(&store, &orders, text(n)));
    assert!(store.compact().unwrap().messages > 20);
    drop(orders);
    store.close().unwrap();
    remove_unused(dir.path());
    // The file was not used again yet, and what was torn is whole, to make it as hard as can be.
    assert!(!first.exists() && !dir.path().join("0000000000000002.segment").exists());
    fs::write(&first, whole).unwrap();
    assert!(look(dir.path()).is_whole());
    // Of the one there is a whole double in that file, of the other there is not.
    for n in [0, 1] {
        damage_records(dir.path(), &text(n), MOVED);
    }
    let (done, _) = repaired(dir.path());
    assert_eq!((done.lost, done.restored), (1, 1));
    holds(dir.path(), (0..40).filter(|n| *n != 1));
}

/// A message of several queues is one record: damaged, it is lost for those that still have it, and for none else.
#[test]
fn a_message_of_several_queues_is_lost_for_those_that_still_have_it() {
    for damage_moved in [false, true] {
        let dir = tempdir().unwrap();
        let store = Store::open(dir.path(), options()).unwrap();
        let names = ["a", "b", "c", "deleted"];
        let queues = names.map(|name| store.create_queue(name.as_bytes()).unwrap().0);
        let mut newest = None;
        for n in 0..60 {
            let targets: Vec<_> = queues.iter().collect();
            let appended = store.append(&message(text(n)), Persistence::Durable, &targets);
            newest = appended.unwrap().durable_at;
            store.wait_durable(newest.unwrap()).unwrap();
        }
        store.wait_durable(newest.unwrap()).unwrap();
        acknowledge(&queues[1], 7).unwrap();
        store.apply(vec![Change::DeleteQueue(queues[3].id())]).unwrap();
        if damage_moved {
            assert!(store.compact().unwrap().messages > 30);
        }
        drop(queues);
        store.close().unwrap();
        remove_unused(dir.path());
        let (file, offset) = if damage_moved {
            // Two references are left, and the frame says what it is.
            files(dir.path())
                .into_iter()
                .find_map(|(name, content)| {
                    let body = text(7).into_bytes();
                    let all = content.windows(body.len()).enumerate();
                    let mut found = all.filter(|(_, w)| *w == body).map(|(offset, _)| offset);
                    let offset = found.find(|offset| content[offset - 40 + 8] == MOVED)?;
                    Some((dir.path().join(name), offset))
                })
                .unwrap()
        } else {
            find(dir.path(), text(7).as_bytes())
        };
        flip(&file, offset + 500);
        let (done, _) = repaired(dir.path());
        let told: Vec<_> = done.found.damage.iter().flat_map(|f| &f.messages).collect();
        let told: Vec<_> = told.iter().map(|m| (&m.attributes[..], m.sequence.get())).collect();
        assert_eq!(told, [(&b"a"[..], 7), (b"c", 7)]);
        let store = Store::open(dir.path(), options()).unwrap();
        for name in ["a", "b", "c"] {
            let expected = (0..60).filter(|n| *n != 7).map(text);
            assert!(bodies(&queue(&store, name)).into_iter().eq(expected), "{name}");
        }
        assert_eq!(store.queues().len(), 3);
    }
}

/// A transient message that compaction had moved looked like any other moved message: where its first record was lost in a
/// hole, it would have come back.
#[test]
fn a_transient_message_is_never_brought_back_nor_told_as_lost() {
    let dir = tempdir().unwrap();
    let spilling = Options { cache: 0, index: 0, ..options() };
    let store = Store::open(dir.path(), spilling).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    let transient = |n: u64| {
        let appended = store.append(&message(text(n)), Persistence::Transient, &[&orders]);
        assert_eq!(appended.unwrap().durable_at, None);
    };
    for n in 0..30 {
        confirm(&store, &orders, text(n));
        let places = 2 * n + 1;
        assert_eq!(orders.next_sequence().get(), places);
        transient(100 + n);
    }
    let before = files(dir.path());
    assert!(store.compact().unwrap().messages > 30, "transient ones, too");
    confirm(&store, &orders, text(30));
    drop((store, orders));
    undo_checkpoint(dir.path(), &before);
    // The first records of three messages, and of the transient ones between them.
    for n in [7, 8, 9] {
        damage_records(dir.path(), &text(n), MESSAGE);
        let (file, offset, _) = records(dir.path(), &text(100 + n)).remove(0);
        flip(&file, offset + 80);
    }
    let found = look(dir.path());
    assert!(!found.holes.is_empty());
    assert_eq!((lost_in_holes(&found), lost(&found)), (vec![], vec![]));
    repaired(dir.path());
    let store = Store::open(dir.path(), options()).unwrap();
    let orders = queue(&store, "orders");
    assert!(bodies(&orders).into_iter().eq((0..31).map(text)));
    assert!(fetch_all(&orders).iter().all(|fetched| fetched.sequence.get() % 2 == 0));
}
