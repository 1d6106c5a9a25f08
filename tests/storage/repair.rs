//! Telling all that is damaged in a store, and making it whole again without what is lost.

mod deep;
mod holes;
mod hostile;
mod moved;
mod provisional;
mod service;
mod sweep;
mod units;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use haypile::storage::disk::{Disk, RealDisk};
use haypile::storage::inspect::{Repair, RepairError, Verification, repair, verify};
use haypile::storage::{OpenError, Options, Store};
use tempfile::{TempDir, tempdir};

use crate::support::*;
use crate::unsynced::UnsyncedDisk;

const GROUP: usize = 4096;

fn options() -> Options {
    Options { checkpoint_distance: u64::MAX, ..manual() }
}

/// A store of several segments, one message of a thousand bytes to a group, with a checkpoint behind the first 60 of them.
fn example() -> TempDir {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..125 {
        confirm(&store, &orders, text(n));
        if n == 59 {
            store.checkpoint().unwrap();
        }
    }
    dir
}

fn text(n: u64) -> String {
    format!("{n:<1000}")
}

/// Where these bytes are: the file, and the offset in it.
fn find(dir: &Path, wanted: &[u8]) -> (PathBuf, usize) {
    files(dir)
        .into_iter()
        .find_map(|(name, content)| {
            let offset = content.windows(wanted.len()).position(|w| w == wanted)?;
            Some((dir.join(name), offset))
        })
        .unwrap()
}

fn flip(path: &Path, offset: usize) {
    let mut content = fs::read(path).unwrap();
    content[offset] ^= 0x10;
    fs::write(path, content).unwrap();
}

/// Flips a bit in the body of a message; gives the file and the offset of its record.
fn damage_message(dir: &Path, n: u64) -> (PathBuf, u64) {
    let (path, offset) = find(dir, text(n).as_bytes());
    flip(&path, offset + 500);
    // Frame, counts, one reference, the header.
    (path, (offset - 12 - 2 - 2 - "header".len()) as u64)
}

/// The messages in a file.
fn messages_in(path: &Path) -> Vec<u64> {
    let content = fs::read(path).unwrap();
    let content = String::from_utf8_lossy(&content);
    let is_in_it = |n: &u64| content.contains(&text(*n));
    (0..125).filter(is_in_it).collect()
}

/// A byte of the root record of the only checkpoint.
fn find_root(dir: &Path) -> (PathBuf, usize) {
    let mut roots = Vec::new();
    for (name, content) in files(dir) {
        for (offset, frame) in content.windows(12).enumerate() {
            let length = u32::from_le_bytes(frame[4..8].try_into().unwrap());
            if frame[8..12] == [9, 0, 0, 0] && length > 0 && length < 200 && frame[..4] != [0; 4] {
                roots.push((dir.join(&name), offset + 14));
            }
        }
    }
    roots.pop().unwrap()
}

fn look(dir: &Path) -> Verification {
    let before = files(dir);
    let found = verify(&RealDisk::shared(), dir, |_| {}).unwrap();
    assert!(files(dir) == before, "looking changed files");
    found
}

fn run(dir: &Path, apply: bool) -> Result<Repair, RepairError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    repair(&disk, dir, apply, |_| {})
}

/// Says what a repair would do, which changes nothing, and does it; gives what it said, and the files that it kept.
fn repaired(dir: &Path) -> (Repair, BTreeMap<String, Vec<u8>>) {
    let before = files(dir);
    let names = fs::read_dir(dir).unwrap().count();
    let planned = run(dir, false).unwrap();
    assert!(files(dir) == before, "a repair that was not told to do anything changed files");
    assert_eq!(fs::read_dir(dir).unwrap().count(), names);
    assert_eq!(planned.applied, None);
    let done = run(dir, true).unwrap();
    assert_eq!(
        (&done.found, done.lost, done.restored),
        (&planned.found, planned.lost, planned.restored)
    );
    let applied = done.applied.as_ref().unwrap();
    assert!(applied.after.is_whole(), "{:?}", applied.after);
    let again = run(dir, true).unwrap();
    assert_eq!(again.applied, None, "there is nothing left to repair");
    let kept = files(&applied.kept);
    assert!(kept.contains_key("report.txt"));
    (done, kept)
}

/// The lost messages' places, as the damage's findings say.
fn lost(found: &Verification) -> Vec<u64> {
    found.damage.iter().flat_map(|f| &f.messages).map(|lost| lost.sequence.get()).collect()
}

/// The lost messages' places, as the holes say.
fn lost_in_holes(found: &Verification) -> Vec<(u64, u64)> {
    found
        .holes
        .iter()
        .flat_map(|hole| &hole.places)
        .map(|lost| (lost.places.first.get(), lost.places.last.get()))
        .collect()
}

/// Everything but the messages in these places is in the queue, and the store goes on.
fn holds_all_but(dir: &Path, lost: &[u64]) {
    let store = Store::open(dir, options()).unwrap();
    let orders = queue(&store, "orders");
    let expected: Vec<String> = (0..125).filter(|n| !lost.contains(n)).map(text).collect();
    assert_eq!(bodies(&orders), expected);
    assert_eq!(orders.len(), expected.len() as u64);
    assert_eq!(store.set_aside(), 0);
    confirm(&store, &orders, "one more");
    drop(orders);
    store.close().unwrap();
    let store = Store::open(dir, options()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")).len(), expected.len() + 1);
}

#[test]
fn a_whole_store_needs_no_repair() {
    let dir = example();
    let before = files(dir.path());
    assert!(look(dir.path()).is_whole());
    for apply in [false, true] {
        let outcome = run(dir.path(), apply).unwrap();
        assert!(outcome.found.is_whole());
        assert_eq!(outcome.applied, None);
        assert!(files(dir.path()) == before);
    }
}

#[test]
fn damaged_messages_are_each_found_and_taken_out_and_copies_kept() {
    let dir = example();
    let damaged = [7, 8, 33].map(|n| damage_message(dir.path(), n));
    let found = look(dir.path());
    let places: Vec<_> = found.damage.iter().map(|f| (f.file.clone(), f.offset)).collect();
    assert_eq!(places, damaged);
    assert_eq!(lost(&found), [7, 8, 33]);
    assert!(found.refusal.is_none() && found.holes.is_empty());
    let originals = files(dir.path());
    let (done, kept) = repaired(dir.path());
    assert_eq!((done.lost, done.restored), (3, 0));
    for finding in &done.found.damage {
        let name = finding.file.file_name().unwrap().to_str().unwrap();
        let (start, end) = (finding.offset, finding.offset + finding.bytes);
        let copy = &kept[&format!("{name}.{start}-{end}")];
        assert!(copy[..] == originals[name][start as usize..end as usize]);
    }
    let report = String::from_utf8(kept["report.txt"].clone()).unwrap();
    assert!(report.contains("lost: place 33 of queue 1 (\"orders\")"), "{report}");
    holds_all_but(dir.path(), &[7, 8, 33]);
}

#[test]
fn a_damaged_message_in_the_tail_is_a_hole_that_a_repair_goes_over() {
    let dir = example();
    let (file, offset) = damage_message(dir.path(), 70);
    assert!(matches!(Store::open(dir.path(), options()), Err(OpenError::Damaged(_))));
    let found = look(dir.path());
    assert!(found.refusal.is_some());
    assert!(found.damage.iter().any(|f| (&f.file, f.offset, f.needed) == (&file, offset, true)));
    assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
    assert_eq!(found.holes.len(), 1, "{:?}", found.holes);
    assert_eq!(lost_in_holes(&found), [(70, 70)]);
    let (_, kept) = repaired(dir.path());
    let group = offset as usize - 64;
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!(kept[&format!("{name}.{group}-{}", group + GROUP)].len(), GROUP);
    holds_all_but(dir.path(), &[70]);
}

#[test]
fn damage_in_several_places_of_the_tail_is_all_found() {
    let dir = example();
    for n in [65, 66, 90, 124] {
        damage_message(dir.path(), n);
    }
    let found = look(dir.path());
    // Nothing says that the last group was durable: it looks like a torn tail.
    assert_eq!(lost_in_holes(&found), [(65, 66), (90, 90)]);
    repaired(dir.path());
    holds_all_but(dir.path(), &[65, 66, 90, 124]);
}

#[test]
fn a_damaged_group_header_in_the_tail_costs_nothing() {
    let dir = example();
    let (file, offset) = find(dir.path(), text(70).as_bytes());
    let group = offset / GROUP * GROUP;
    flip(&file, group + 20);
    let found = look(dir.path());
    assert!(found.refusal.is_some());
    let places: Vec<_> = found.damage.iter().map(|f| (f.file.clone(), f.offset)).collect();
    assert_eq!(places, [(file, group as u64)]);
    assert_eq!(found.holes.len(), 1);
    assert_eq!((found.holes[0].records, lost_in_holes(&found)), (1, vec![]));
    repaired(dir.path());
    holds_all_but(dir.path(), &[]);
}

#[test]
fn a_run_of_pages_overwritten_with_garbage_costs_what_was_in_them() {
    let dir = example();
    let (file, offset) = find(dir.path(), text(70).as_bytes());
    let mut content = fs::read(&file).unwrap();
    content[offset / GROUP * GROUP..][..3 * GROUP].fill(0xa5);
    fs::write(&file, content).unwrap();
    let found = look(dir.path());
    assert_eq!(lost_in_holes(&found), [(70, 72)]);
    repaired(dir.path());
    holds_all_but(dir.path(), &[70, 71, 72]);
}

#[test]
fn a_segment_of_the_tail_with_a_damaged_header_is_a_hole() {
    let dir = example();
    let (file, _) = find(dir.path(), text(80).as_bytes());
    let in_it = messages_in(&file);
    assert!(in_it[0] >= 60, "it is behind the checkpoint: {in_it:?}");
    flip(&file, 20);
    let found = look(dir.path());
    assert!(found.refusal.is_some());
    let all = (in_it[0], *in_it.last().unwrap());
    assert_eq!(lost_in_holes(&found), [all]);
    let (_, kept) = repaired(dir.path());
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!(kept[name].len(), 64 << 10);
    assert!(!file.exists());
    holds_all_but(dir.path(), &in_it);
}

#[test]
fn a_missing_segment_costs_its_messages() {
    let dir = example();
    let (file, _) = find(dir.path(), text(10).as_bytes());
    let in_it = messages_in(&file);
    assert!(*in_it.last().unwrap() < 59, "it is before the checkpoint");
    fs::remove_file(&file).unwrap();
    let found = look(dir.path());
    assert!(found.refusal.is_some());
    assert_eq!(lost(&found), in_it);
    let (done, _) = repaired(dir.path());
    assert_eq!(done.lost, in_it.len() as u64);
    holds_all_but(dir.path(), &in_it);
}

#[test]
fn without_the_last_checkpoint_the_log_is_replayed_from_its_beginning() {
    let dir = example();
    let (file, offset) = find_root(dir.path());
    flip(&file, offset);
    let found = look(dir.path());
    assert!(found.refusal.is_some() && !found.no_checkpoint);
    assert_eq!(found.older_checkpoint.map(|lsn| lsn.get()), Some(0));
    assert!(found.damage.iter().any(|f| f.file == file && f.needed), "{:?}", found.damage);
    repaired(dir.path());
    holds_all_but(dir.path(), &[]);
}

#[test]
fn without_the_last_checkpoint_an_older_one_is_used() {
    let dir = example();
    let store = Store::open(dir.path(), options()).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let superblock = fs::read(dir.path().join("superblock")).unwrap();
    let root = u64::from_le_bytes(superblock[48..56].try_into().unwrap());
    let segment = dir.path().join(format!("{:016x}.segment", root / (64 << 10)));
    flip(&segment, (root % (64 << 10)) as usize + 14);
    let found = look(dir.path());
    assert!(found.older_checkpoint.is_some_and(|lsn| lsn.get() > 0), "{found:?}");
    repaired(dir.path());
    holds_all_but(dir.path(), &[]);
}

#[test]
fn without_any_checkpoint_nothing_is_guessed() {
    let dir = example();
    let (root, offset) = find_root(dir.path());
    flip(&root, offset);
    fs::remove_file(dir.path().join("0000000000000001.segment")).unwrap();
    assert!(look(dir.path()).no_checkpoint);
    let before = files(dir.path());
    let error = run(dir.path(), true).unwrap_err();
    assert!(matches!(error, RepairError::NoCheckpoint(_)), "{error}");
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert!(files(dir.path()) == before);
}

#[test]
fn the_messages_of_a_damaged_list_are_found_and_keep_their_places() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..3000).for_each(|n| {
        append(&store, &orders, format!("message {n}"));
    });
    acknowledge(&orders, 5);
    drop(orders);
    store.close().unwrap();
    // A full chunk's record stays where the first checkpoint put it; the next one moves on.
    let store = Store::open(dir.path(), manual()).unwrap();
    append(&store, &queue(&store, "orders"), "message 3000");
    store.close().unwrap();
    // Kind 6; queue 1, from place 0 on, 2,048 places.
    let list = b"\x06\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0";
    let (file, offset) = find(dir.path(), list);
    flip(&file, offset + 100);
    // And one of its messages, of which there is no other record.
    let (of_message, place) = find(dir.path(), b"message 77");
    flip(&of_message, place);

    let found = look(dir.path());
    assert!(found.refusal.is_none());
    let finding = found.damage.iter().find(|finding| finding.list).unwrap();
    assert_eq!((&finding.file, finding.offset), (&file, offset as u64 - 8));
    let places: Vec<u64> = (0..2048).filter(|n| *n != 5).collect();
    assert_eq!(lost(&found), places);
    let (done, _) = repaired(dir.path());
    assert_eq!((done.lost, done.restored), (1, 2046));
    let store = Store::open(dir.path(), manual()).unwrap();
    let places: Vec<u64> = (0..3001).filter(|n| ![5, 77].contains(n)).collect();
    let orders = fetch_all(&queue(&store, "orders"));
    assert!(orders.iter().map(|fetched| fetched.sequence.get()).eq(places.iter().copied()));
    assert!(orders.iter().map(body).eq(places.iter().map(|n| format!("message {n}"))));
}

#[test]
fn damage_that_nothing_needs_is_told_and_noted() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..3 {
        confirm(&store, &orders, text(n));
    }
    acknowledge(&orders, 1);
    drop(orders);
    store.close().unwrap();
    damage_message(dir.path(), 1);
    let found = look(dir.path());
    assert_eq!(found.damage.len(), 1);
    assert!(!found.damage[0].needed && found.damage[0].messages.is_empty());
    let (done, _) = repaired(dir.path());
    assert_eq!(done.lost, 0);
    let after = look(dir.path());
    assert_eq!(after.dealt_with.len(), 1);
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")), [text(0), text(2)]);
}

#[test]
fn acknowledgements_behind_a_hole_hold() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..10 {
        confirm(&store, &orders, text(n));
    }
    let acknowledged = acknowledge(&orders, 2).unwrap();
    store.wait_durable(acknowledged).unwrap();
    confirm(&store, &orders, text(10));
    drop((store, orders));
    damage_message(dir.path(), 4);
    repaired(dir.path());
    let store = Store::open(dir.path(), options()).unwrap();
    let expected: Vec<String> = (0..11).filter(|n| ![2, 4].contains(n)).map(text).collect();
    assert_eq!(bodies(&queue(&store, "orders")), expected);
}

#[test]
fn messages_of_a_queue_whose_creation_is_lost_are_counted() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    for n in 0..3 {
        confirm(&store, &orders, text(n));
    }
    drop((store, orders));
    let (file, offset) = find(dir.path(), b"orders");
    flip(&file, offset);
    let found = look(dir.path());
    assert_eq!(found.holes.len(), 1, "{found:?}");
    assert_eq!((found.messages, found.holes[0].strays), (0, 3));
    repaired(dir.path());
    assert!(Store::open(dir.path(), options()).unwrap().queues().is_empty());
}

/// A tail that a crash had torn, and that an open has cut off, must not come back over a hole.
#[test]
fn what_was_cut_off_does_not_come_back() {
    let dir = example();
    let tail = files(dir.path())
        .into_iter()
        .filter(|(name, content)| name.ends_with(".segment") && content[4096..4104] != [0; 8])
        .map(|(name, _)| dir.path().join(name))
        .next_back()
        .unwrap();
    // The last message is torn.
    let (file, offset) = find(dir.path(), text(124).as_bytes());
    assert_eq!(file, tail);
    flip(&file, offset + 900);
    let store = Store::open(dir.path(), options()).unwrap();
    confirm(&store, &queue(&store, "orders"), "behind the cut");
    drop(store);
    // What was cut off appears again as it was; and something else is damaged.
    flip(&file, offset + 900);
    damage_message(dir.path(), 100);
    repaired(dir.path());
    let store = Store::open(dir.path(), options()).unwrap();
    let mut expected: Vec<String> = (0..124).filter(|n| *n != 100).map(text).collect();
    expected.push("behind the cut".to_owned());
    assert_eq!(bodies(&queue(&store, "orders")), expected);
}

/// Whatever byte is damaged: a repair says what is lost, leaves a store that opens, and everything else is in it.
#[test]
fn any_damaged_byte_costs_what_is_said_and_nothing_else() {
    let dir = tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(UnsyncedDisk);
    let small =
        Options { segment_size: 16 << 10, segments_ahead: 1, disk: disk.clone(), ..options() };
    let store = Store::open(dir.path(), small.clone()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..8 {
        confirm(&store, &orders, n.to_string());
        if n == 2 {
            let acknowledged = acknowledge(&orders, 1).unwrap();
            store.wait_durable(acknowledged).unwrap();
            store.checkpoint().unwrap();
        }
    }
    let acknowledged = acknowledge(&orders, 4).unwrap();
    store.wait_durable(acknowledged).unwrap();
    confirm(&store, &orders, "8");
    drop((store, orders));
    let mut outcomes = BTreeMap::new();
    for (name, content) in files(dir.path()) {
        let used = content.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for offset in (0..=used).filter(|offset| content[offset & !0xf..].len() >= 16) {
            // Padding is not worth the time.
            let line = &content[offset & !0xf..][..16];
            if *line == [0; 16] || offset % 5 != 0 {
                continue;
            }
            let copied = tempdir().unwrap();
            copy(dir.path(), copied.path());
            flip(&copied.path().join(&name), offset);
            let place = format!("{name} at {offset}");
            let outcome = match repair(&disk, copied.path(), true, |_| {}) {
                Ok(outcome) => outcome,
                Err(RepairError::NoCheckpoint(_)) => {
                    *outcomes.entry("refused").or_insert(0) += 1;
                    assert!(Store::open(copied.path(), small.clone()).is_err(), "{place}");
                    continue;
                }
                Err(error) => panic!("{place}: {error}"),
            };
            let store = Store::open(copied.path(), small.clone());
            let store = store.unwrap_or_else(|error| panic!("{place}: {error}"));
            let mut missing = lost(&outcome.found);
            for (first, last) in lost_in_holes(&outcome.found) {
                missing.extend(first..=last);
            }
            let Some(orders) = store.queues().pop() else {
                assert!(!outcome.found.holes.is_empty(), "{place}");
                *outcomes.entry("queue lost").or_insert(0) += 1;
                continue;
            };
            let found: Vec<u64> = bodies(&orders).iter().map(|n| n.parse().unwrap()).collect();
            for n in (0..9).filter(|n| ![1, 4].contains(n)) {
                // The last message may look like a torn tail.
                let told = missing.contains(&n) || n == 8;
                assert!(found.contains(&n) || told, "{place}: {n} is gone: {:?}", outcome.found);
            }
            let kind = if outcome.found.is_whole() {
                // The last group, of which nothing says that it was synced; or padding.
                assert!(!found.contains(&8) || content[offset] == 0, "{place} was not noticed");
                "torn"
            } else {
                "repaired"
            };
            *outcomes.entry(kind).or_insert(0) += 1;
        }
    }
    assert!(outcomes["repaired"] > 50, "{outcomes:?}");
    assert!(!outcomes.contains_key("queue lost"), "{outcomes:?}");
}

#[test]
fn what_is_no_store_or_in_use_is_refused() {
    let dir = tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = run(&path, true).unwrap_err();
        assert!(matches!(error, RepairError::Open(OpenError::NoStore(_))), "{error}");
    }
    assert!(files(dir.path()).is_empty());
    let dir = example();
    damage_message(dir.path(), 7);
    let _store = Store::open(dir.path(), options()).unwrap();
    let before = files(dir.path());
    let error = run(dir.path(), true).unwrap_err();
    assert!(matches!(error, RepairError::Open(OpenError::Locked(_))), "{error}");
    assert!(files(dir.path()) == before);
}

/// Two findings may begin at the same place of a file and reach beyond its end: that copies of both are the same file was
/// "entity already exists", and the store could not be repaired at all. Found by fuzzing.
#[test]
fn a_segment_that_was_cut_off_is_copied_once() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    // Ten messages in one group, and the log goes on behind it.
    for first in (0..100).step_by(10) {
        for n in first..first + 9 {
            append(&store, &orders, text(n));
        }
        confirm(&store, &orders, text(first + 9));
    }
    drop((store, orders));
    let (path, first) = find(dir.path(), text(30).as_bytes());
    let (_, end) = find(dir.path(), text(35).as_bytes());
    let content = fs::read(&path).unwrap();
    fs::write(&path, &content[..end]).unwrap();
    let (_, kept) = repaired(dir.path());
    let name = path.file_name().unwrap().to_str().unwrap();
    let group = first / GROUP * GROUP;
    assert_eq!(kept[&format!("{name}.{group}-{end}")], content[group..end]);
}

/// The number behind the largest that there is was too large: a panic, or the number 0.
#[test]
fn a_directory_that_no_repair_has_made_is_left_alone() {
    let dir = example();
    damage_message(dir.path(), 7);
    for foreign in ["repair-18446744073709551615", "repair-007", "repair-"] {
        fs::create_dir(dir.path().join(foreign)).unwrap();
    }
    let done = run(dir.path(), true).unwrap();
    assert_eq!(done.applied.unwrap().kept, dir.path().join("repair-1"));
}
