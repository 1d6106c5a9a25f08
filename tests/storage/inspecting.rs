//! Looking at a store: what is told of one that is open and of one that is not, and that it is the same.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use haypile::storage::disk::RealDisk;
use haypile::storage::inspect::{Inspection, VolatileQueues, inspect, verify};
use haypile::storage::{
    Change, Compacted, CompactionActivity, CompactionEnd, Lsn, Options, Persistence, Queue,
    SegmentId, Sequence, SequenceRange, Store, StoreError, Timestamp,
};
use tempfile::tempdir;

use crate::quota::QuotaDisk;
use crate::support::*;

fn of_stopped(dir: &Path) -> Inspection {
    inspect(&RealDisk::shared(), dir).unwrap()
}

/// Queues by attributes, with their depth and bytes.
fn depths(inspection: &Inspection) -> Vec<(&[u8], u64, u64)> {
    let queues = inspection.queues.iter();
    queues.map(|queue| (&queue.attributes[..], queue.messages, queue.bytes)).collect()
}

/// Segments with what is live in them.
fn live(inspection: &Inspection) -> Vec<(SegmentId, u64, u64)> {
    let segments = inspection.segments.iter();
    segments.map(|segment| (segment.id, segment.live_references, segment.live_bytes)).collect()
}

/// Publishes messages of 500 bytes, and waits for the last of them.
fn publish(store: &Store, queue: &Queue, count: u64) {
    let lsn = (0..count)
        .map(|n| append(store, queue, format!("{n:>500}")))
        .fold(None, |_, lsn| Some(lsn));
    store.wait_durable(lsn.unwrap()).unwrap();
}

/// Acknowledges all but every hundredth of the first messages.
fn keep_every_hundredth(queue: &Queue, count: u64) {
    for first in (0..count).step_by(100) {
        let range =
            SequenceRange { first: Sequence::new(first + 1), last: Sequence::new(first + 99) };
        queue.acknowledge(&[range]).unwrap();
    }
}

#[test]
fn an_open_store_tells_what_is_in_it_and_tells_the_same_when_it_is_closed() {
    let dir = tempdir().unwrap();
    let clock = SetClock::at(1_000_000);
    let options = Options { clock: clock.clone(), ..manual() };
    let store = Store::open(dir.path(), options).unwrap();
    let new = store.inspect();
    assert_eq!(new.checkpoint.root, Lsn::ZERO);
    assert_eq!(new.checkpoint.written, None);
    assert_eq!(new.replay.bytes, 4096, "the group that an open begins with");
    assert_eq!((new.queues.len(), new.entries.len()), (0, 0));

    let (orders, _) = store.create_queue(b"orders").unwrap();
    let (parcels, _) = store.create_queue(b"parcels").unwrap();
    let passing = store.create_volatile_queue();
    let put = Change::put("k", "v");
    store.apply(vec![put]).unwrap();
    publish(&store, &orders, 300);
    acknowledge(&orders, 7).unwrap();
    store.append(&message("passing"), Persistence::Transient, &[&passing]).unwrap();
    store.checkpoint().unwrap();
    clock.set(1_012_345);
    publish(&store, &parcels, 3);

    let seen = store.inspect();
    let expected = [(&b"orders"[..], 299, orders.bytes()), (&b"parcels"[..], 3, parcels.bytes())];
    assert_eq!(depths(&seen), expected);
    assert_eq!(seen.entries, [(b"k"[..].into(), b"v"[..].into())]);
    assert_eq!(seen.checkpoint.written, Some(Timestamp::from_unix_millis(1_000_000)));
    assert!(seen.checkpoint.root > Lsn::ZERO);
    assert!(seen.replay.from <= seen.checkpoint.root);
    assert_eq!(seen.replay.end, store.durable_lsn());
    assert_eq!(seen.replay.bytes, seen.replay.end.get() - seen.replay.from.get());
    // 303 messages less one; a chunk, a page of queues, one of metadata, and the root.
    assert_eq!(live(&seen).iter().map(|(_, references, _)| references).sum::<u64>(), 302 + 4);
    let open = seen.open.unwrap();
    assert_eq!((open.is_full, open.checkpoint_under_way, open.set_aside), (false, false, 0));
    assert_eq!((open.segments_ready, open.segments_wanted), (5, 0));
    assert_eq!(open.cached_bytes, store.cached_bytes());
    assert_eq!(open.resident_places, store.resident_places());
    assert_eq!(open.log, store.log_statistics());
    let bytes = passing.bytes();
    assert_eq!(open.volatile, VolatileQueues { queues: 1, messages: 1, bytes });
    let files = files(dir.path());
    assert!(seen.unused.len() as u64 == open.segments_ready + open.spare_files);
    for file in seen.segments.iter().map(|segment| &segment.file).chain(&seen.unused) {
        assert!(files.contains_key(file.file_name().unwrap().to_str().unwrap()), "{file:?}");
    }
    assert_eq!(seen.segments.len() + seen.unused.len() + 1, files.len());

    drop((orders, parcels, passing, store));
    let closed = of_stopped(dir.path());
    assert!(closed.open.is_none());
    assert_eq!(depths(&closed), depths(&seen));
    assert_eq!(live(&closed), live(&seen));
    assert_eq!(closed.checkpoint, seen.checkpoint);
    assert_eq!((closed.store, closed.format), (seen.store, seen.format));
    assert_eq!((closed.replay.from, closed.replay.end), (seen.replay.from, seen.replay.end));
    assert!(closed.replay.records.unwrap() > 3, "{:?}", closed.replay);
}

/// The time is for people: a clock that is wrong must not matter for anything else.
#[test]
fn the_time_of_the_checkpoint_comes_from_the_clock_and_survives_restarts() {
    let dir = tempdir().unwrap();
    let clock = SetClock::at(5_000_000);
    let options = Options { clock: clock.clone(), checkpoint_distance: u64::MAX, ..manual() };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    store.checkpoint().unwrap();
    clock.set(6_000_000);
    // Segments that are noted in the superblock leave it alone.
    publish(&store, &orders, 400);
    let written = Some(Timestamp::from_unix_millis(5_000_000));
    assert!(store.inspect().segments.len() > 2);
    assert_eq!(store.inspect().checkpoint.written, written);
    drop((orders, store));
    assert_eq!(of_stopped(dir.path()).checkpoint.written, written);
    let store = Store::open(dir.path(), options.clone()).unwrap();
    assert_eq!(store.inspect().checkpoint.written, written);

    clock.set(4_000_000); // It was set back.
    let early = store.inspect().checkpoint.written.unwrap();
    assert_eq!(early.age(Timestamp::from_unix_millis(4_000_000)), Duration::ZERO);
    store.checkpoint().unwrap();
    let written = Some(Timestamp::from_unix_millis(4_000_000));
    assert_eq!(store.inspect().checkpoint.written, written);
    clock.set(0); // It has never been set.
    store.close().unwrap();
    assert_eq!(of_stopped(dir.path()).checkpoint.written, None);
    assert_eq!(Store::open(dir.path(), options).unwrap().inspect().queues[0].messages, 400);
}

#[test]
fn compaction_that_is_due_is_told_with_its_victims_and_what_it_has_moved_is_never_forgotten() {
    let dir = tempdir().unwrap();
    let clock = SetClock::at(5_000_000);
    // The upkeep compacts nothing by itself here: there is no thread for it.
    let options = Options { clock: clock.clone(), ..manual() };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    publish(&store, &orders, 5000);
    let full = store.inspect();
    assert!(!full.compaction.due && !full.compaction.due_when_quiet, "{:?}", full.compaction);
    assert!(full.segments.iter().all(|segment| !segment.victim));

    keep_every_hundredth(&orders, 5000);
    store.checkpoint().unwrap();
    let seen = store.inspect();
    let compaction = seen.compaction;
    assert!(compaction.due && compaction.due_when_quiet, "{compaction:?}");
    assert_eq!(compaction.activity, CompactionActivity::Idle);
    assert_eq!((compaction.ended, compaction.total), (None, Compacted::default()));
    assert_eq!(compaction.sealed, compaction.live + compaction.dead);
    assert_eq!(compaction.borne, compaction.live / 5 * 3);
    assert_eq!(compaction.borne_in_use, compaction.borne + 4 * (64 << 10));
    let victims = |inspection: &Inspection| -> Vec<SegmentId> {
        let segments = inspection.segments.iter().filter(|segment| segment.victim);
        segments.map(|segment| segment.id).collect()
    };
    // All of them fit into one round, but for the last one, which the log is in.
    let sealed: Vec<SegmentId> = live(&seen).iter().map(|segment| segment.0).collect();
    assert_eq!(victims(&seen), sealed[..sealed.len() - 1]);

    drop((orders, store));
    let closed = of_stopped(dir.path());
    assert_eq!(victims(&closed), victims(&seen));
    assert_eq!(closed.compaction, compaction);

    let store = Store::open(dir.path(), options.clone()).unwrap();
    clock.set(6_000_000);
    let compacted = store.compact().unwrap();
    assert!(compacted.messages >= 49, "{compacted:?}");
    assert_eq!(store.compacted(), compacted);
    let after = store.inspect();
    assert_eq!(after.compaction.total, compacted);
    assert_eq!(after.open.unwrap().compacted, compacted);
    let (why, at) = after.compaction.ended.unwrap();
    assert!(matches!(why, CompactionEnd::Done | CompactionEnd::LittleGain), "{why:?}");
    assert_eq!(at, Timestamp::from_unix_millis(6_000_000));
    assert!(!after.compaction.due);
    assert!(live(&after).iter().all(|segment| !victims(&seen).contains(&segment.0)));
    store.close().unwrap();
    assert_eq!(of_stopped(dir.path()).compaction.total, compacted);

    let store = Store::open(dir.path(), options).unwrap();
    let orders = queue(&store, "orders");
    assert_eq!(store.compacted(), Compacted::default());
    publish(&store, &orders, 5000);
    let range = SequenceRange { first: Sequence::new(5000), last: Sequence::new(9998) };
    orders.acknowledge(&[range]).unwrap();
    let again = store.compact().unwrap();
    drop(orders);
    store.close().unwrap();
    let total = of_stopped(dir.path()).compaction.total;
    assert_eq!(total.messages, compacted.messages + again.messages);
    assert_eq!(total.bytes, compacted.bytes + again.bytes);
    assert_eq!(total.segments, compacted.segments + again.segments);
}

/// A segment that compaction could not empty was named in the log once, and nowhere afterwards.
#[test]
fn a_segment_that_compaction_cannot_empty_is_told() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    publish(&store, &orders, 2000);
    keep_every_hundredth(&orders, 2000);
    store.checkpoint().unwrap();
    drop((orders, store));
    let kept = format!("{:>500}", 1000);
    let (name, mut content) = files(dir.path())
        .into_iter()
        .find(|(_, content)| content.windows(500).any(|w| w == kept.as_bytes()))
        .unwrap();
    let at = content.windows(500).position(|w| w == kept.as_bytes()).unwrap();
    content[at] ^= 1;
    fs::write(dir.path().join(&name), content).unwrap();

    let store = Store::open(dir.path(), manual()).unwrap();
    store.compact().unwrap();
    let seen = store.inspect();
    let stuck: Vec<_> = seen.segments.iter().filter(|segment| segment.stuck).collect();
    assert_eq!(stuck.len(), 1, "{:?}", seen.segments);
    assert!(stuck[0].file.ends_with(&name) && !stuck[0].victim);
    assert_eq!(stuck[0].live_references, 1);
    assert_eq!(seen.open.unwrap().set_aside, 0, "nobody has wanted to read it");
    let left = bodies(&queue(&store, "orders"));
    assert_eq!(left.len(), 19);
    assert_eq!(store.inspect().open.unwrap().set_aside, 1);
}

#[test]
fn a_full_disk_is_told_with_what_is_missing() {
    let dir = tempdir().unwrap();
    let disk = QuotaDisk::new(10 * (64 << 10) + (16 << 10));
    let options = Options { disk: Arc::new(disk), ..manual() };
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let refused = loop {
        let text = format!("{:>3900}", orders.len());
        match store.append(&message(text), Persistence::Durable, &[&orders]) {
            Ok(appended) => store.wait_durable(appended.durable_at.unwrap()).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full), "{refused}");
    let seen = store.inspect();
    let open = seen.open.unwrap();
    assert!(open.is_full);
    assert_eq!(open.segments_ready + open.segments_wanted, 5, "{open:?}");
    assert!(open.segments_wanted > 0, "{open:?}");
    assert_eq!(seen.segments.len() as u64 + open.segments_ready, 10);
}

#[test]
fn a_socket_in_the_directory_disturbs_nobody() {
    let dir = tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("some.socket")).unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "one");
    drop((orders, store));
    drop(listener); // The name stays.
    assert!(verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap().is_whole());
    assert_eq!(of_stopped(dir.path()).queues[0].messages, 1);
    let disk: Arc<dyn haypile::storage::disk::Disk> = Arc::new(RealDisk);
    let repaired = haypile::storage::inspect::repair(&disk, dir.path(), true, |_| {}).unwrap();
    assert!(repaired.applied.is_none());
    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")), ["one"]);
    assert!(fs::symlink_metadata(dir.path().join("some.socket")).is_ok());
}
