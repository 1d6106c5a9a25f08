//! Damage to what was on stable storage: always noticed, never passed over, nothing changed by the refusal.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use haypile::storage::disk::{Disk, RealDisk};
use haypile::storage::inspect::{repair, verify};
use haypile::storage::{OpenError, Options, Sequence, SequenceRange, Store};
use tempfile::{TempDir, tempdir};

use crate::support::*;

/// A store of several segments with one checkpoint in the middle of its life, and a tail behind it.
fn example() -> TempDir {
    let dir = tempdir().unwrap();
    let options = Options { checkpoint_distance: u64::MAX, ..manual() };
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    for n in 0..125 {
        confirm(&store, &orders, format!("{n:>1000}"));
        if n == 60 {
            store.checkpoint().unwrap();
        }
    }
    dir
}

/// Opens a damaged store, which has to be refused with these words and without any change.
fn refused(dir: &Path, words: &[&str]) -> OpenError {
    let before = files(dir);
    let error = Store::open(dir, manual()).unwrap_err();
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(files(dir) == before, "the refusal changed files");
    error
}

fn segments(dir: &Path) -> Vec<String> {
    files(dir).into_keys().filter(|name| name.ends_with(".segment")).collect()
}

/// The segments with groups in them.
fn used_segments(dir: &Path) -> Vec<String> {
    let used = |name: &String| fs::read(dir.join(name)).unwrap()[4096..4104] != [0; 8];
    segments(dir).into_iter().filter(used).collect()
}

fn damage(path: &Path, offset: usize) {
    let mut content = fs::read(path).unwrap();
    content[offset] ^= 0x10;
    fs::write(path, content).unwrap();
}

#[test]
fn a_hole_in_the_log_below_what_was_durable_is_refused() {
    let dir = example();
    let tail = used_segments(dir.path()).pop().unwrap();
    // The second group of the tail: others follow it, and say that it was durable.
    damage(&dir.path().join(&tail), 4096 * 2 + 100);
    let error = refused(dir.path(), &[&tail, "byte", "checksum", "confirmed", "haypile verify"]);
    assert!(matches!(error, OpenError::Damaged(_)));
}

#[test]
fn a_damaged_group_header_below_what_was_durable_is_refused() {
    let dir = example();
    let tail = used_segments(dir.path()).pop().unwrap();
    damage(&dir.path().join(&tail), 4096 * 2 + 20);
    refused(dir.path(), &[&tail, "byte 8192", "group header"]);
}

#[test]
fn a_hole_before_a_later_segment_is_refused() {
    let dir = example();
    let used = used_segments(dir.path());
    let middle = &used[used.len() - 2];
    let content = fs::read(dir.path().join(middle)).unwrap();
    let last_group = content.chunks(4096).rposition(|page| &page[4..8] == b"HAYG").unwrap();
    damage(&dir.path().join(middle), last_group * 4096 + 80);
    refused(dir.path(), &[middle, "checksum"]);
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let dir = example();
    for name in used_segments(dir.path()) {
        let copied = tempdir().unwrap();
        copy(dir.path(), copied.path());
        fs::remove_file(copied.path().join(&name)).unwrap();
        refused(copied.path(), &[&name, "missing"]);
    }
}

#[test]
fn a_truncated_segment_is_refused_by_name() {
    let dir = example();
    let tail = used_segments(dir.path()).pop().unwrap();
    let content = fs::read(dir.path().join(&tail)).unwrap();
    fs::write(dir.path().join(&tail), &content[..40_000]).unwrap();
    refused(dir.path(), &[&tail, "40000 bytes"]);
}

/// The header could not be read to its end, and that was told as a failure of the disk: the open said "failed to fill whole
/// buffer", and `verify` and `repair`, which are for this very store, could not run at all. Found by fuzzing.
#[test]
fn a_segment_that_ends_within_its_header_is_damage() {
    for length in [0, 1, 63] {
        let dir = example();
        let tail = used_segments(dir.path()).pop().unwrap();
        let content = fs::read(dir.path().join(&tail)).unwrap();
        fs::write(dir.path().join(&tail), &content[..length]).unwrap();
        let error = refused(dir.path(), &[&tail, "ends within the segment's header"]);
        assert!(matches!(error, OpenError::Damaged(_)));
        let found = verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap();
        assert!(found.refusal.is_some());
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let applied = repair(&disk, dir.path(), true, |_| {}).unwrap().applied.unwrap();
        assert!(applied.after.is_whole(), "{:?}", applied.after);
    }
}

#[test]
fn a_segment_of_another_store_is_refused() {
    let (dir, other) = (example(), example());
    let tail = used_segments(dir.path()).pop().unwrap();
    fs::copy(other.path().join(&tail), dir.path().join(&tail)).unwrap();
    refused(dir.path(), &[&tail, "another store"]);
}

#[test]
fn two_swapped_segments_are_refused() {
    let dir = example();
    let used = used_segments(dir.path());
    let [first, second] = [&used[used.len() - 2], &used[used.len() - 1]];
    let (a, b) = (dir.path().join(first), dir.path().join(second));
    let (content_a, content_b) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    fs::write(a, content_b).unwrap();
    fs::write(b, content_a).unwrap();
    refused(dir.path(), &["renamed or swapped"]);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let dir = example();
    let mut roots = 0;
    for name in used_segments(dir.path()) {
        let content = fs::read(dir.path().join(&name)).unwrap();
        // Kind 9 in a record's frame, with an empty rest: roots and, rarely, a look-alike.
        let frames = content.windows(12).enumerate();
        for (offset, frame) in frames {
            let length = u32::from_le_bytes(frame[4..8].try_into().unwrap());
            if frame[8..12] == [9, 0, 0, 0] && length > 0 && length < 200 && frame[..4] != [0; 4] {
                roots += 1;
                let copied = tempdir().unwrap();
                copy(dir.path(), copied.path());
                damage(&copied.path().join(&name), offset + 14);
                refused(copied.path(), &[&name, "checkpoint"]);
            }
        }
    }
    assert_eq!(roots, 1, "there is one checkpoint");
}

#[test]
fn a_damaged_group_that_the_last_checkpoint_ends_is_no_torn_tail() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    let begin = (store.durable_lsn().get() % (64 << 10)) as usize;
    // One group has the message, the checkpoint and its root: nothing later says that it was durable.
    append(&store, &orders, "confirmed by the checkpoint");
    store.checkpoint().unwrap();
    drop((store, orders));
    let tail = used_segments(dir.path()).pop().unwrap();
    damage(&dir.path().join(&tail), begin + 100);
    refused(dir.path(), &[&tail, "checksum", "checkpoint"]);
}

#[test]
fn a_missing_superblock_is_refused_and_no_new_store_is_made_over_the_old_one() {
    let dir = example();
    fs::remove_file(dir.path().join("superblock")).unwrap();
    refused(dir.path(), &["superblock", "missing"]);
}

#[test]
fn a_store_of_another_format_is_refused_by_its_version() {
    for version in [2, 5] {
        of_another_format(version);
    }
}

fn of_another_format(version: u8) {
    let dir = example();
    let path = dir.path().join("superblock");
    let mut content = fs::read(&path).unwrap();
    for copy in [0, 4096] {
        content[copy + 8] = version;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&content[copy..copy + 12]);
        hasher.update(&content[copy + 16..copy + 512]);
        content[copy + 12..copy + 16].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    fs::write(path, content).unwrap();
    let error = refused(dir.path(), &[&format!("format version {version}"), "version 4"]);
    assert!(matches!(error, OpenError::Format { found, .. } if found == u32::from(version)));
}

/// The number behind its own was too large to be one.
#[test]
fn a_file_with_a_number_that_no_segment_can_have_is_left_alone() {
    let dir = example();
    let foreign = dir.path().join("ffffffffffffffff.segment");
    fs::write(&foreign, "somebody's notes").unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(fetch_all(&queue(&store, "orders")).len(), 125);
    assert_eq!(fs::read(foreign).unwrap(), b"somebody's notes");
}

#[test]
fn an_unknown_file_in_the_directory_is_left_alone() {
    let dir = example();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::write(dir.path().join("00000000000000ff.unfinished"), "a crash while preparing").unwrap();
    drop(Store::open(dir.path(), manual()).unwrap());
    assert_eq!(fs::read(dir.path().join("notes.txt")).unwrap(), b"mine");
    assert!(!dir.path().join("00000000000000ff.unfinished").exists());
}

#[test]
fn a_damaged_message_is_set_aside_and_the_queue_goes_on() {
    let dir = example();
    // In the first segment, behind the checkpoint: nobody reads it before it is fetched.
    let first = used_segments(dir.path()).remove(0);
    let path = dir.path().join(&first);
    let content = fs::read(&path).unwrap();
    let wanted = format!("{:>1000}", 7);
    let offset = content.windows(1000).position(|w| w == wanted.as_bytes()).unwrap();
    damage(&path, offset + 500);
    let store = Store::open(dir.path(), manual()).unwrap();
    let orders = queue(&store, "orders");
    let texts = bodies(&orders);
    assert_eq!(texts.len(), 124);
    assert!(!texts.contains(&wanted));
    assert_eq!(store.set_aside(), 1);
    assert_eq!(orders.len(), 125, "it still has its place");
}

/// A list of messages that could not be read used to fail every fetch from its queue, for ever; and an acknowledgement that
/// met it was forgotten half-way.
#[test]
fn a_damaged_list_of_messages_is_set_aside_and_the_queue_goes_on() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..3000).for_each(|n| {
        append(&store, &orders, n.to_string());
    });
    drop(orders);
    store.close().unwrap();
    // A full chunk's record stays where the first checkpoint put it; the next one moves on.
    let store = Store::open(dir.path(), manual()).unwrap();
    append(&store, &queue(&store, "orders"), "3000");
    store.close().unwrap();
    // The first record of kind 6 has the places 0 to 2,047.
    let (name, offset) = used_segments(dir.path())
        .into_iter()
        .find_map(|name| {
            let content = fs::read(dir.path().join(&name)).unwrap();
            // Kind 6; queue 1, from place 0 on, 2,048 places.
            let chunk = |frame: &[u8]| {
                frame[8..12] == [6, 0, 0, 0]
                    && frame[12..32] == *b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0"
            };
            Some((name, content.windows(32).position(chunk)?))
        })
        .unwrap();
    damage(&dir.path().join(name), offset + 100);

    let store = Store::open(dir.path(), manual()).unwrap();
    let orders = queue(&store, "orders");
    let expected: Vec<String> = (2048..3001).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&orders), expected);
    assert_eq!(store.set_aside(), 2048);
    let cut = SequenceRange::new(Sequence::new(2000), Sequence::new(2100)).unwrap();
    assert_eq!(orders.acknowledge(&[cut]).unwrap().messages, 101);
    append(&store, &orders, "3001");
    assert_eq!(
        orders.len(),
        3002 - 101,
        "those set aside keep their places until they are acknowledged"
    );
    drop(orders);
    store.close().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")).len(), 3001 - 2101 + 1);
}

/// The records of a checkpoint may lie in segments that the log has only come to while it was written, and that the root does not
/// name.
#[test]
fn whichever_segment_of_a_long_checkpoint_has_a_damaged_header_no_message_is_missing_in_silence() {
    let dir = tempdir().unwrap();
    let options = || Options {
        segment_size: 16 << 10,
        chunk_places: 16,
        checkpoint_distance: u64::MAX,
        ..manual()
    };
    const MESSAGES: usize = 4000;
    {
        let store = Store::open(dir.path(), options()).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        (0..MESSAGES).for_each(|n| {
            append(&store, &orders, format!("{n}"));
        });
        store.checkpoint().unwrap();
    }
    let (mut refusals, mut opened) = (0, 0);
    for name in segments(dir.path()) {
        let copied = tempdir().unwrap();
        copy(dir.path(), copied.path());
        damage(&copied.path().join(&name), 28);
        match Store::open(copied.path(), options()) {
            Ok(store) => {
                opened += 1;
                assert_eq!(fetch_all(&queue(&store, "orders")).len(), MESSAGES, "{name}");
                assert_eq!(store.set_aside(), 0, "{name}");
            }
            Err(OpenError::Damaged(damage)) => {
                refusals += 1;
                assert_eq!(damage.file, copied.path().join(&name));
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(refusals > 10, "{refusals} refused, {opened} opened");
}
