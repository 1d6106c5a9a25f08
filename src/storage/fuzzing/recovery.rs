//! The target `recovery`: a store whose files are not as it left them is opened, looked at and repaired.
//!
//! However damaged, on a disk that does as it is told:
//!
//! - nothing panics, hangs, or is told as a failure of the disk;
//! - looking changes nothing, and neither does an open that is refused;
//! - what verify, repair and an open say agrees;
//! - a store that opens works: it takes messages, gives them back, and opens again with the same ones;
//! - a store that was repaired opens, and nothing of it is damaged.
//!
//! And unless checksums were forged: no message is altered, nor in another place, and none of those that a checkpoint had
//! is missing without being counted. Where a checkpoint was forged the store is looked at and opened, and not used.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::Input;
use super::damage::{self, *};
use super::disk::MemoryDisk;
use super::image::{Files, Image, Messages, dir, drain, images, messages, options};
use crate::storage::disk::Disk;
use crate::storage::inspect::{RepairError, Verification, inspect, repair, verify};
use crate::storage::{
    Message, OpenError, Operation, Persistence, Sequence, SequenceRange, Store, StoreError,
};

/// Runs the target.
pub(crate) fn recovery(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let Some(image) = input.pick(images()) else { return };
    let mut files = image.files.clone();
    let forged = damage::apply(&mut input, &mut files);
    let case = Case { image, files, forged };
    let found = case.look();
    case.open(found.as_ref());
    if forged < Forged::Books {
        case.repair(found.as_ref());
    }
}

struct Case<'a> {
    image: &'a Image,
    files: Files,
    forged: Forged,
}

impl Case<'_> {
    fn disk(&self) -> Arc<MemoryDisk> {
        Arc::new(MemoryDisk::with(&self.files))
    }

    fn assert_unchanged(&self, disk: &MemoryDisk) {
        assert!(disk.files() == self.files, "a store that was only looked at has changed");
    }

    /// Looks at the store in every way there is.
    fn look(&self) -> Option<Verification> {
        let disk = self.disk();
        let shared: Arc<dyn Disk> = disk.clone();
        let found = verify(&shared, dir(), |_| {}).map_err(|error| self.check(&error)).ok();
        let inspected = inspect(&shared, dir()).map_err(|error| self.check(&error)).is_ok();
        match repair(&shared, dir(), false, |_| {}) {
            Ok(repair) => {
                assert_eq!(Some(&repair.found), found.as_ref());
                assert_eq!(repair.applied, None);
            }
            Err(RepairError::Open(error)) => self.check(&error),
            Err(RepairError::NoCheckpoint(_)) => {
                assert!(found.as_ref().is_some_and(|found| found.no_checkpoint));
            }
            Err(error @ RepairError::Unfinished(_)) => {
                unreachable!("nothing was to be done: {error}")
            }
        }
        self.assert_unchanged(&disk);
        if let Some(found) = &found {
            assert_eq!(found.refusal.is_none(), inspected);
        }
        found
    }

    /// What is wrong with a file is never told as a failure of this disk, which has none; but it may be full.
    fn check(&self, error: &OpenError) {
        match error {
            OpenError::Io { source, .. } => {
                assert_eq!(source.kind(), ErrorKind::StorageFull, "{error}");
            }
            OpenError::Locked(_) | OpenError::Shared(_) => {
                unreachable!("somebody has kept the lock")
            }
            _ => {}
        }
    }

    /// Opens the store and uses it.
    fn open(&self, found: Option<&Verification>) {
        let disk = self.disk();
        let store = match Store::open(dir(), options(disk.clone())) {
            Ok(store) => store,
            Err(error) => {
                self.check(&error);
                if matches!(error, OpenError::Damaged(_)) {
                    assert!(found.is_none_or(|found| found.refusal.is_some()), "{error}");
                    self.assert_unchanged(&disk);
                }
                return;
            }
        };
        if self.forged == Forged::Books {
            return;
        }
        let drained = messages(&store);
        if let Some(found) = found {
            assert_eq!(found.refusal, None);
            assert!(!found.is_whole() || store.set_aside() == 0, "verify missed some damage");
        }
        if self.forged == Forged::Nothing && !store.recovery().created {
            self.assert_unaltered(&drained);
            let missing = self.image.settled.iter().filter(|p| !drained.contains_key(*p)).count();
            assert!(missing as u64 <= store.set_aside(), "{missing} messages are lost in silence");
        }
        self.reuse(store, disk);
    }

    fn assert_unaltered(&self, drained: &Messages) {
        for (place, message) in drained {
            assert_eq!(self.image.published.get(place), Some(message), "altered: {place:?}");
        }
    }

    /// A store that opens goes on like any other, through a restart.
    fn reuse(&self, store: Store, disk: Arc<MemoryDisk>) {
        let expected = match use_it(&store) {
            Ok(expected) => expected,
            Err(error) => return self.check_use(&error),
        };
        let set_aside = store.set_aside();
        drop(store);
        let store = match Store::open(dir(), options(disk)) {
            Ok(store) => store,
            Err(error) => {
                assert!(
                    matches!(error, OpenError::Full { .. }) || self.forged > Forged::Nothing,
                    "{error}"
                );
                return self.check(&error);
            }
        };
        let drained = messages(&store);
        if self.forged == Forged::Nothing {
            assert!(drained == expected, "a restart has changed the messages");
            assert!(store.set_aside() <= set_aside);
        }
    }

    /// Damage does not stop a store that has opened.
    fn check_use(&self, error: &StoreError) {
        assert!(matches!(error, StoreError::Full) || self.forged > Forged::Nothing, "{error}");
    }

    /// Repairs the store and opens it.
    fn repair(&self, found: Option<&Verification>) {
        let disk = self.disk();
        let shared: Arc<dyn Disk> = disk.clone();
        let repair = match repair(&shared, dir(), true, |_| {}) {
            Ok(repair) => repair,
            Err(RepairError::Open(error)) => return self.check(&error),
            Err(RepairError::NoCheckpoint(_)) => return self.assert_unchanged(&disk),
            Err(RepairError::Unfinished(error)) => {
                assert!(
                    self.forged > Forged::Nothing || matches!(*error, OpenError::Full { .. }),
                    "{error}"
                );
                return;
            }
        };
        let Some(applied) = &repair.applied else {
            assert!(found.is_some_and(Verification::is_whole));
            return self.assert_unchanged(&disk);
        };
        if self.forged > Forged::Nothing {
            return;
        }
        assert!(applied.after.is_whole(), "damage is left: {:?}", applied.after);
        let store = match Store::open(dir(), options(disk)) {
            Ok(store) => store,
            Err(error) => unreachable!("a repaired store does not open: {error}"),
        };
        let drained = messages(&store);
        assert_eq!(store.set_aside(), 0);
        self.assert_known(&drained);
    }

    /// Every message is one that its queue had, be it at another place.
    fn assert_known(&self, drained: &Messages) {
        let known: BTreeSet<(&[u8], Vec<u8>)> = self
            .image
            .published
            .iter()
            .map(|((queue, _), message)| (&queue[..], message.body().to_vec()))
            .collect();
        for ((queue, sequence), message) in drained {
            let body = message.body().to_vec();
            assert!(known.contains(&(queue, body)), "altered: {sequence} of {queue:?}");
        }
    }
}

/// Does a little of everything; gives what a restart has to bring back.
fn use_it(store: &Store) -> Result<Messages, StoreError> {
    let queues = store.queues();
    let (new, _) = store.create_queue(b"new")?;
    let both: Vec<_> = queues.iter().take(2).chain([&new]).collect();
    let message = Message::new("new header", "new body");
    let mut last = None;
    for _ in 0..3 {
        last = store.append(&message, Persistence::Durable, &both)?.durable_at.max(last);
    }
    for queue in &queues {
        let some: Vec<_> = drain(queue).iter().map(|fetched| fetched.sequence).collect();
        if let [first, .., middle, _] = some[..] {
            queue.mark_delivered(&[(middle, 1)])?;
            let later = Sequence(middle.0.saturating_add(1_000_000));
            for range in [SequenceRange::one(first), SequenceRange { first: later, last: later }] {
                queue.acknowledge(&[range])?;
            }
        }
    }
    if let Some(queue) = queues.last() {
        let first: Vec<_> =
            drain(queue).iter().take(1).map(|f| SequenceRange::one(f.sequence)).collect();
        let append = Operation::Append {
            message: (&message).into(),
            persistence: Persistence::Durable,
            queues: &[&new],
        };
        let done =
            store.apply_together(&[Operation::Acknowledge { queue, ranges: &first }, append])?;
        assert_eq!(done.messages, first.len() as u64);
        last = done.durable_at.max(last);
    }
    store.wait_durable(last.unwrap_or_default())?;
    store.checkpoint()?;
    store.compact()?;
    let published = 3 + usize::from(!queues.is_empty());
    assert!(drain(&new).len() == published, "a new queue does not give its messages back");
    let expected = messages(store);
    let (_, end) = store.create_queue(b"last")?;
    store.wait_durable(end)?;
    Ok(expected)
}

/// Inputs to begin with: each kind of damage in each image, and some that go together.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for image in 0..3u8 {
        let mut add = |name: &str, damage: &[u8]| {
            seeds.push((format!("{name}-{image}"), [&[image], damage].concat()));
        };
        add("whole", &[]);
        add("flip", &[FLIP, 3, 0x50, 0x10, 0, 0, 1]);
        add("fill", &[FILL, 2, 8, 0, 8, 0]);
        add("cut", &[CUT, 1, 0, 0x30, 0, 0]);
        add("cut-to-nothing", &[CUT, 1, 0, 0, 0, 0]);
        add("extend", &[EXTEND, 1, 0, 0x10, 0]);
        add("remove", &[REMOVE, 2]);
        add("swap", &[SWAP, 1, 2]);
        add("copy", &[COPY, 1, 2, 3, 2]);
        add("rename", &[RENAME, 1, 0, 9]);
        add(
            "create",
            &[CREATE, 0, 5, 30, 0, b'1', b' ', b'0', b' ', b'4', b'0', b'9', b'6', b'\n'],
        );
        add("patch", &[PATCH, 2, 0, 0x11, 0, 0, 2, 0xff, 0xff]);
        add("superblock", &[SUPERBLOCK, 0, 48, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        add("header", &[HEADER, 2, 12, 1, 2]);
        add("record", &[RECORD, 2, 0, 0, 10, 0, 2, 0xff, 0xff]);
        add("group", &[GROUP, 2, 0, 8, 2, 0xff, 0xff]);
    }
    let group = |records: &[(u8, &[u8])]| {
        let mut seed = vec![2, APPEND, 0, records.len() as u8 - 1];
        for (kind, payload) in records {
            seed.push(*kind);
            seed.extend_from_slice(&(payload.len() as u16).to_le_bytes());
            seed.extend_from_slice(payload);
        }
        seed
    };
    let place =
        |queue: u8, place: u64| [&[queue, 0, 0, 0, 0, 0, 0, 0][..], &place.to_le_bytes()].concat();
    let message = |queue, sequence| {
        [&[1, 0, 0, 0, 1, 0, 0, 0][..], &place(queue, sequence), b"h", b"body"].concat()
    };
    let next_to_last = message(1, u64::MAX - 1);
    let range = [&place(1, 0)[..], &[0xff, 0xff, 1, 0]].concat();
    seeds.push(("append-message".to_owned(), group(&[(1, &message(1, 500)), (1, &message(9, 0))])));
    seeds.push(("append-far-message".to_owned(), group(&[(1, &next_to_last)])));
    seeds.push(("append-ranges".to_owned(), group(&[(2, &range), (3, &range)])));
    seeds.push((
        "append-topology".to_owned(),
        group(&[(4, b"\x01\x02\x00\x07\x01a\x01\x01"), (5, b"")]),
    ));
    let moved = [&[0; 16][..], &message(1, 3)].concat();
    seeds.push(("append-moved".to_owned(), group(&[(11, &moved), (10, &message(1, 9))])));
    seeds.push((
        "two-damages".to_owned(),
        vec![2, FLIP, 4, 0x50, 0x20, 0, 0, 1, FILL, 3, 16, 0, 8, 0],
    ));
    seeds
}
