//! Files that do not belong together, or are missing: of two histories of one store, of a backup and of today.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use haypile::storage::disk::{Disk, RealDisk};
use haypile::storage::inspect::{repair, verify};
use haypile::storage::{OpenError, Options, Store};
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::{TempDir, tempdir};

use crate::support::*;

fn options(segment_size: u64) -> Options {
    Options { segment_size, checkpoint_distance: u64::MAX, ..manual() }
}

/// Publishes so many messages, with a checkpoint in the middle, and leaves the store as a crash does.
fn go_on(dir: &Path, segment_size: u64, whose: &str, count: usize) {
    let store = Store::open(dir, options(segment_size)).unwrap();
    let known = store.queues().into_iter().next();
    let orders = known.unwrap_or_else(|| store.create_queue(b"orders").unwrap().0);
    for n in 0..count {
        confirm(&store, &orders, format!("{whose} {n:>1000}"));
        if n == count / 2 {
            store.checkpoint().unwrap();
        }
    }
}

fn copy_of(dir: &Path) -> TempDir {
    let copied = tempdir().unwrap();
    copy(dir, copied.path());
    copied
}

fn is_segment(name: &str) -> bool {
    name.ends_with(".segment")
}

/// The messages of a store, or why it is refused: then `verify` says so, too.
fn outcome(dir: &Path, segment_size: u64) -> Result<Vec<String>, String> {
    let whole = verify(&RealDisk::shared(), dir, |_| {}).unwrap().is_whole();
    match Store::open(dir, options(segment_size)) {
        Ok(store) => Ok(bodies(&queue(&store, "orders"))),
        Err(OpenError::Damaged(damage)) => {
            assert!(!whole, "verify has missed: {damage}");
            Err(damage.to_string())
        }
        Err(error) => panic!("{error}"),
    }
}

/// The messages of a store that opens, read in a copy.
fn messages(dir: &Path, segment_size: u64) -> Vec<String> {
    outcome(copy_of(dir).path(), segment_size).unwrap()
}

/// Two directories that went on from the same backup.
fn two_histories(segment_size: u64, first: usize, more: usize) -> (TempDir, TempDir, TempDir) {
    let backup = tempdir().unwrap();
    go_on(backup.path(), segment_size, "before", first);
    let (later, today) = (copy_of(backup.path()), copy_of(backup.path()));
    go_on(later.path(), segment_size, "later", more);
    go_on(today.path(), segment_size, "today", more);
    (backup, later, today)
}

#[test]
fn a_segment_of_another_history_is_refused_by_name() {
    for segment_size in [16 << 10, 64 << 10] {
        let (_backup, later, today) = two_histories(segment_size, 60, 180);
        let expected = messages(today.path(), segment_size);
        let others = files(later.path());
        let mut refused = 0;
        for (name, content) in files(today.path()).into_iter().filter(|(name, _)| is_segment(name))
        {
            let Some(other) = others.get(&name).filter(|other| **other != content) else {
                continue;
            };
            let mixed = copy_of(today.path());
            fs::write(mixed.path().join(&name), other).unwrap();
            match outcome(mixed.path(), segment_size) {
                Ok(found) => assert!(found == expected, "{name} passes with other messages"),
                Err(told) => {
                    assert!(told.contains(&name), "{name} is not named: {told}");
                    assert!(told.contains("another history"), "{told}");
                    refused += 1;
                }
            }
        }
        assert!(refused >= 6, "{refused} files were refused");
    }
}

#[test]
fn a_superblock_of_another_history_is_refused() {
    let (backup, later, today) = two_histories(64 << 10, 60, 180);
    for other in [backup, later] {
        let mixed = copy_of(today.path());
        fs::copy(other.path().join("superblock"), mixed.path().join("superblock")).unwrap();
        let told = outcome(mixed.path(), 64 << 10).unwrap_err();
        assert!(told.contains("histor") || told.contains("missing"), "{told}");
    }
}

#[test]
fn a_backup_that_is_copied_over_a_newer_directory_is_refused() {
    for more in [20, 180] {
        let backup = tempdir().unwrap();
        go_on(backup.path(), 64 << 10, "before", 60);
        let newer = copy_of(backup.path());
        go_on(newer.path(), 64 << 10, "newer", more);
        copy(backup.path(), newer.path());
        let told = outcome(newer.path(), 64 << 10).unwrap_err();
        assert!(told.contains("superblock does not know"), "{told}");
    }
}

#[test]
fn a_segment_of_another_history_is_put_away_by_a_repair() {
    let (_backup, later, today) = two_histories(64 << 10, 60, 180);
    let (ours, others) = (files(today.path()), files(later.path()));
    let differs = |name: &&String| is_segment(name) && others.get(*name) != ours.get(*name);
    let common = |name: &&String| others.contains_key(*name);
    let names: Vec<&String> = ours.keys().filter(differs).filter(common).collect();
    let name = names[names.len() / 2];
    let mixed = copy_of(today.path());
    fs::write(mixed.path().join(name), &others[name]).unwrap();
    outcome(copy_of(mixed.path()).path(), 64 << 10).unwrap_err();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let applied = repair(&disk, mixed.path(), true, |_| {}).unwrap().applied.unwrap();
    assert!(applied.after.is_whole(), "{:?}", applied.after);
    assert_eq!(fs::read(applied.kept.join(name)).unwrap(), others[name]);
    let found = outcome(mixed.path(), 64 << 10).unwrap();
    assert!(found.iter().all(|body| !body.starts_with("later")));
    assert!(found.iter().filter(|body| body.starts_with("today")).count() >= 100);
}

/// The superblock knew of the newest segment when it had been noted there, some time after the first message was confirmed in it.
#[test]
fn no_set_of_missing_segments_passes() {
    for segment_size in [16 << 10, 64 << 10, 1 << 20] {
        let dir = tempdir().unwrap();
        let count = if segment_size < 1 << 20 { 150 } else { 1500 };
        {
            let threads = Options { segment_size, checkpoint_distance: u64::MAX, ..small() };
            let store = Store::open(dir.path(), threads).unwrap();
            let (orders, _) = store.create_queue(b"orders").unwrap();
            let mut last = None;
            for n in 0..count {
                last = Some(append(&store, &orders, format!("{n:>1000}")));
                if n % 10 == 0 {
                    store.wait_durable(last.unwrap()).unwrap();
                }
                if n == count / 3 {
                    store.checkpoint().unwrap();
                }
            }
            store.wait_durable(last.unwrap()).unwrap();
        }
        let expected = messages(dir.path(), segment_size);
        assert_eq!(expected.len(), count);
        let names: Vec<String> = files(dir.path()).into_keys().filter(|n| is_segment(n)).collect();
        let count = names.len();
        let singles = (0..count).map(|one| vec![one]);
        let suffixes = (0..count).map(|first| (first..count).collect());
        let pairs = (1..count).map(|second| vec![second - 1, second]);
        let mut refused = 0;
        for missing in singles.chain(suffixes).chain(pairs) {
            let copied = copy_of(dir.path());
            for file in &missing {
                fs::remove_file(copied.path().join(&names[*file])).unwrap();
            }
            match outcome(copied.path(), segment_size) {
                Ok(found) => assert!(found == expected, "{missing:?} of {count} files are missing"),
                Err(told) => {
                    assert!(told.contains("is missing"), "{told}");
                    refused += 1;
                }
            }
        }
        assert!(refused >= count, "{refused} of {count}");
    }
}

/// The segment of the first messages, which a checkpoint needs and replay does not.
fn with_a_segment_that_is_not_replayed() -> (TempDir, String) {
    let dir = tempdir().unwrap();
    go_on(dir.path(), 64 << 10, "mine", 130);
    let name = files(dir.path()).into_keys().find(|name| is_segment(name)).unwrap();
    (dir, name)
}

#[test]
fn a_segment_of_the_wrong_length_is_refused_though_replay_does_not_need_it() {
    let (dir, name) = with_a_segment_that_is_not_replayed();
    let content = fs::read(dir.path().join(&name)).unwrap();
    for length in [40_000, 64 << 10, (64 << 10) + 512] {
        let copied = copy_of(dir.path());
        let mut changed = content.clone();
        changed.resize(length, 0);
        fs::write(copied.path().join(&name), changed).unwrap();
        if length == content.len() {
            assert_eq!(outcome(copied.path(), 64 << 10).unwrap().len(), 130);
            continue;
        }
        let told = outcome(copied.path(), 64 << 10).unwrap_err();
        for word in [&name, &format!("{length} bytes instead of 65536")] {
            assert!(told.contains(word), "{told}");
        }
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let repaired = repair(&disk, copied.path(), true, |_| {}).unwrap();
        assert!(repaired.applied.as_ref().unwrap().after.is_whole());
        let found = outcome(copied.path(), 64 << 10).unwrap();
        assert_eq!(found.len() as u64, 130 - repaired.lost);
        assert_eq!(repaired.lost == 0, length > content.len());
    }
}

/// Punches a hole into a file, as `fallocate --punch-hole` does.
#[expect(clippy::disallowed_types, reason = "the engine never punches holes")]
fn punch(path: &Path, range: Range<u64>) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, flags, range.start, range.end - range.start).unwrap();
}

#[test]
fn a_hole_where_messages_are_is_refused_though_replay_does_not_need_them() {
    let (dir, name) = with_a_segment_that_is_not_replayed();
    let end = 64 << 10;
    for hole in [12 << 10..16 << 10, 20 << 10..24 << 10, 32 << 10..end, 4 << 10..end] {
        let copied = copy_of(dir.path());
        punch(&copied.path().join(&name), hole.clone());
        let told = outcome(copied.path(), 64 << 10).unwrap_err();
        for word in [&name, "has a hole of", &format!("at byte {}", hole.start)] {
            assert!(told.contains(word), "{hole:?}: {told}");
        }
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let repaired = repair(&disk, copied.path(), true, |_| {}).unwrap();
        assert!(repaired.lost > 0);
        assert!(repaired.applied.as_ref().unwrap().after.is_whole());
        // The file still has the hole, and the damage has been dealt with.
        let found = outcome(copied.path(), 64 << 10).unwrap();
        assert_eq!(found.len() as u64, 130 - repaired.lost);
    }
}

/// Nothing tells any more where the log left such a segment: its own groups say how far it was durable.
#[test]
fn a_hole_in_a_segment_whose_successor_was_freed_is_refused() {
    let dir = tempdir().unwrap();
    {
        let store = Store::open(dir.path(), options(64 << 10)).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        for n in 0..60 {
            confirm(&store, &orders, format!("{n:>1000}"));
        }
        for place in 5..50 {
            store.wait_durable(acknowledge(&orders, place).unwrap()).unwrap();
        }
        store.checkpoint().unwrap();
        store.checkpoint().unwrap();
    }
    let names: Vec<String> = files(dir.path()).into_keys().filter(|n| is_segment(n)).collect();
    let expected = messages(dir.path(), 64 << 10);
    assert_eq!(expected.len(), 15);
    let copied = copy_of(dir.path());
    punch(&copied.path().join(&names[0]), 12 << 10..16 << 10);
    let told = outcome(copied.path(), 64 << 10).unwrap_err();
    for word in [&names[0], "has a hole of 4096 bytes"] {
        assert!(told.contains(word), "{told}");
    }
    // Room that the log has not used is a hole like any other to the file system.
    let copied = copy_of(dir.path());
    punch(&copied.path().join(&names[0]), 60 << 10..64 << 10);
    assert_eq!(outcome(copied.path(), 64 << 10).unwrap(), expected);
}

/// Copies and file systems make holes of zeros by themselves.
#[test]
fn holes_that_cost_nothing_are_accepted() {
    let dir = tempdir().unwrap();
    {
        let store = Store::open(dir.path(), options(64 << 10)).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        for _ in 0..20 {
            confirm(&store, &orders, "\0".repeat(20_000));
        }
        store.checkpoint().unwrap();
    }
    let before = messages(dir.path(), 64 << 10);
    let mut punched = 0;
    for name in files(dir.path()).into_keys().filter(|name| is_segment(name)) {
        let path = dir.path().join(&name);
        let content = fs::read(&path).unwrap();
        for (page, bytes) in (0..).zip(content.chunks(4096)) {
            if bytes.iter().all(|byte| *byte == 0) {
                punch(&path, page * 4096..(page + 1) * 4096);
                punched += 1;
            }
        }
    }
    assert!(punched >= 20 * 3, "{punched} pages of zeros");
    assert_eq!(outcome(dir.path(), 64 << 10).unwrap(), before);
}

/// Preparing ahead, giving up, and recycling keep to the list in the superblock, however the log goes.
#[test]
fn a_store_opens_whenever_it_is_left_between_large_messages() {
    let dir = tempdir().unwrap();
    let options = || Options { segments_ahead: 3, ..options(16 << 10) };
    let mut expected = BTreeMap::new();
    for round in 0..12 {
        let store = Store::open(dir.path(), options()).unwrap();
        let orders = match store.queues().pop() {
            Some(orders) => orders,
            None => store.create_queue(b"orders").unwrap().0,
        };
        assert_eq!(bodies(&orders), expected.values().cloned().collect::<Vec<_>>());
        for n in 0..6 {
            let text = format!("{round} {n} {}", "x".repeat([100, 40_000, 9_000][(round + n) % 3]));
            expected.insert(orders.next_sequence(), text.clone());
            confirm(&store, &orders, text);
        }
        if round % 3 == 1 {
            let (first, _) = expected.pop_first().unwrap();
            store.wait_durable(acknowledge(&orders, first.get()).unwrap()).unwrap();
            store.checkpoint().unwrap();
        }
    }
}
