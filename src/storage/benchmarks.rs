//! The hot parts of the engine, to be measured: see [`benchmarks`](crate::benchmarks).
//!
//! The store is in memory and does its background work when it is waited for, so that there are no threads and no disk in
//! the figures.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::checksum::Seed;
use super::clock::Timestamp;
use super::draft::Draft;
use super::fuzzing::{MemoryDisk, Repeatable};
use super::index::{Entry, QueueIndex, Released};
use super::message::Message;
use super::record::{self, ChunkEntry, FRAME, MessageRecord, RecordKind, Reference};
use super::units::{Lsn, QueueId, SegmentId, Sequence, SequenceRange};
use super::{Background, Options, Persistence, Queue, Store};
use crate::benchmarks::{Benchmark, Part};

/// How many messages a run is about, unless it is one of an index alone.
const MESSAGES: u64 = 1024;

/// How many places an index has while it is measured: four chunks.
const PLACES: u64 = 8192;

/// Bytes of a message's header: what an envelope takes.
const HEADER: usize = 20;

const KIBIBYTE: usize = 1024;

/// See [`benchmarks::all`](crate::benchmarks::all).
pub(crate) const PARTS: &[Benchmark] = &[
    Benchmark {
        group: "checksum",
        name: "100 B",
        operations: MESSAGES,
        bytes: 100,
        make: || Checksum::of(100),
    },
    Benchmark {
        group: "checksum",
        name: "1 KiB",
        operations: MESSAGES,
        bytes: KIBIBYTE as u64,
        make: || Checksum::of(KIBIBYTE),
    },
    Benchmark {
        group: "checksum",
        name: "64 KiB",
        operations: MESSAGES,
        bytes: 64 * KIBIBYTE as u64,
        make: || Checksum::of(64 * KIBIBYTE),
    },
    Benchmark {
        group: "record",
        name: "encode 100 B",
        operations: MESSAGES,
        bytes: 100,
        make: || Encode::of(100),
    },
    Benchmark {
        group: "record",
        name: "encode 1 KiB",
        operations: MESSAGES,
        bytes: KIBIBYTE as u64,
        make: || Encode::of(KIBIBYTE),
    },
    Benchmark {
        group: "record",
        name: "check and decode 1 KiB",
        operations: MESSAGES,
        bytes: KIBIBYTE as u64,
        make: || Decode::of(KIBIBYTE),
    },
    Benchmark {
        group: "store",
        name: "append 1 KiB",
        operations: MESSAGES,
        bytes: KIBIBYTE as u64,
        make: || Append::of(Group::All),
    },
    Benchmark {
        group: "store",
        name: "append 1 KiB and write it",
        operations: MESSAGES,
        bytes: KIBIBYTE as u64,
        make: || Append::of(Group::Each),
    },
    Benchmark {
        group: "store",
        name: "fetch and acknowledge",
        operations: MESSAGES,
        bytes: 0,
        make: Take::boxed,
    },
    Benchmark { group: "index", name: "push", operations: PLACES, bytes: 0, make: Push::boxed },
    Benchmark {
        group: "index",
        name: "fetch",
        operations: PLACES,
        bytes: 0,
        make: FetchAll::boxed,
    },
    Benchmark {
        group: "index",
        name: "acknowledge in order",
        operations: PLACES,
        bytes: 0,
        make: || Acknowledge::of(|place| place),
    },
    Benchmark {
        group: "index",
        name: "acknowledge anywhere",
        operations: PLACES,
        bytes: 0,
        // The factor is odd, so that every place has its turn.
        make: || Acknowledge::of(|place| place * 5003 % PLACES),
    },
];

fn message(size: usize) -> Message {
    Message::new(vec![b'h'; HEADER], vec![b'x'; size])
}

fn seed() -> Seed {
    Seed::new(b"0123456789abcdef", SegmentId(3), 7)
}

/// A message's checksum.
struct Checksum(Vec<u8>);

impl Checksum {
    fn of(size: usize) -> Box<dyn Part> {
        Box::new(Checksum(vec![b'x'; size]))
    }
}

impl Part for Checksum {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for place in 0..MESSAGES {
            black_box(seed().checksum(Lsn(place), black_box(&self.0), &[]));
        }
    }
}

/// A message's record, as the log encodes it into a group.
struct Encode {
    message: Message,
    group: Vec<u8>,
}

impl Encode {
    fn of(size: usize) -> Box<dyn Part> {
        Box::new(Encode { message: message(size), group: Vec::new() })
    }
}

fn encode(group: &mut Vec<u8>, message: &Message, place: u64) {
    let start = group.len();
    group.resize(start + FRAME, 0);
    let reference = Reference { queue: QueueId(1), sequence: Sequence(place) };
    MessageRecord::encode(group, Draft::from(message), &[reference]);
    record::seal(&mut group[start..], RecordKind::Message, Lsn(place), seed());
}

impl Part for Encode {
    fn prepare(&mut self) {
        self.group.clear();
    }

    fn run(&mut self) {
        for place in 0..MESSAGES {
            encode(&mut self.group, black_box(&self.message), place);
        }
    }
}

/// A message's record, as it is read back.
struct Decode(Vec<Bytes>);

impl Decode {
    fn of(size: usize) -> Box<dyn Part> {
        let message = message(size);
        let record = |place| {
            let mut group = Vec::new();
            encode(&mut group, &message, place);
            Bytes::from(group)
        };
        Box::new(Decode((0..MESSAGES).map(record).collect()))
    }
}

impl Part for Decode {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for (place, bytes) in (0..).zip(&self.0) {
            let record = record::open(bytes, Lsn(place), seed()).expect("it was sealed here");
            let message = MessageRecord::decode(record.payload).expect("it was encoded here");
            black_box(message.message());
        }
    }
}

/// A store in memory, where everything happens when somebody waits for it.
pub(crate) fn store() -> Store {
    let options = Options {
        segment_size: 4 << 20,
        segments_ahead: 2,
        segments_spare: 2,
        // Checkpoints are written between the runs.
        checkpoint_distance: 1 << 40,
        background: Background::Caller,
        disk: Arc::new(MemoryDisk::default()),
        entropy: Arc::new(Repeatable::default()),
        clock: Arc::new(Timestamp::from_unix_millis(0)),
        ..Options::default()
    };
    Store::open(Path::new("/store"), options).expect("a disk in memory has room for a store")
}

/// Everything is written, and what is dead can be written over.
pub(crate) fn settle(store: &Store) {
    store.checkpoint().expect("a disk in memory does not fail");
}

/// A store with one queue.
struct Rig {
    store: Store,
    queue: Queue,
}

impl Rig {
    fn new() -> Rig {
        let store = store();
        let (queue, _) = store.create_queue(b"queue").expect("a disk in memory does not fail");
        Rig { store, queue }
    }

    fn append(&self, message: &Message) {
        let appended = self.store.append(message, Persistence::Durable, &[&self.queue]);
        black_box(appended.expect("a disk in memory does not fail"));
    }

    fn write(&self) {
        self.store
            .wait_durable(self.store.shared.log.end())
            .expect("a disk in memory does not fail");
    }

    fn empty(&self) {
        let all = SequenceRange { first: Sequence::FIRST, last: Sequence(Sequence::LIMIT.0 - 1) };
        self.queue.acknowledge(&[all]).expect("a disk in memory does not fail");
        settle(&self.store);
    }
}

/// How many messages share a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// It is not written while it is measured.
    All,
    Each,
}

/// Appending messages to a queue.
struct Append {
    rig: Rig,
    group: Group,
    messages: Vec<Message>,
}

impl Append {
    fn of(group: Group) -> Box<dyn Part> {
        Box::new(Append { rig: Rig::new(), group, messages: Vec::new() })
    }
}

impl Part for Append {
    fn prepare(&mut self) {
        self.rig.empty();
        self.messages = (0..MESSAGES).map(|_| message(KIBIBYTE)).collect();
    }

    fn run(&mut self) {
        for message in &self.messages {
            self.rig.append(message);
            if self.group == Group::Each {
                self.rig.write();
            }
        }
    }
}

/// Fetching messages from memory and acknowledging them, a hundred at a time.
struct Take {
    rig: Rig,
    next: Sequence,
}

impl Take {
    fn boxed() -> Box<dyn Part> {
        Box::new(Take { rig: Rig::new(), next: Sequence::FIRST })
    }
}

impl Part for Take {
    fn prepare(&mut self) {
        self.rig.empty();
        self.next = self.rig.queue.next_sequence();
        (0..MESSAGES).for_each(|_| self.rig.append(&message(KIBIBYTE)));
    }

    fn run(&mut self) {
        let mut fetched = Vec::with_capacity(100);
        loop {
            self.rig.queue.fetch(self.next, 100, &mut fetched);
            let (Some(first), Some(last)) = (fetched.first(), fetched.last()) else { return };
            let range = SequenceRange { first: first.sequence, last: last.sequence };
            self.next = range.last.next();
            let acknowledged = self.rig.queue.acknowledge(&[range]);
            black_box(acknowledged.expect("a disk in memory does not fail"));
            fetched.clear();
        }
    }
}

fn entry(place: u64) -> Entry {
    Entry::at(ChunkEntry { lsn: Lsn((1 << 20) + place * 1100), length: 1100, sharers: 1 })
}

fn filled(message: Option<&Message>) -> QueueIndex {
    let mut index = QueueIndex::new(64 << 20);
    for place in 0..PLACES {
        index.push(entry(place), message.cloned());
    }
    index
}

/// Adding messages to an index.
struct Push(QueueIndex);

impl Push {
    fn boxed() -> Box<dyn Part> {
        Box::new(Push(QueueIndex::new(64 << 20)))
    }
}

impl Part for Push {
    fn prepare(&mut self) {
        self.0 = QueueIndex::new(64 << 20);
    }

    fn run(&mut self) {
        for place in 0..PLACES {
            black_box(self.0.push(entry(place), None));
        }
    }
}

/// Taking messages that are in memory out of an index, a hundred at a time.
struct FetchAll {
    index: QueueIndex,
    message: Message,
}

impl FetchAll {
    fn boxed() -> Box<dyn Part> {
        let message = message(100);
        Box::new(FetchAll { index: filled(Some(&message)), message })
    }
}

impl Part for FetchAll {
    fn prepare(&mut self) {
        self.index = filled(Some(&self.message));
    }

    fn run(&mut self) {
        let mut from = Sequence::FIRST;
        for _ in 0..PLACES.div_ceil(100) {
            self.index.fetch(from, 100, |found| {
                from = found.sequence.next();
                black_box(found);
            });
        }
    }
}

/// Acknowledging one message after the other.
struct Acknowledge {
    index: QueueIndex,
    order: fn(u64) -> u64,
}

impl Acknowledge {
    fn of(order: fn(u64) -> u64) -> Box<dyn Part> {
        Box::new(Acknowledge { index: filled(None), order })
    }
}

impl Part for Acknowledge {
    fn prepare(&mut self) {
        self.index = filled(None);
    }

    fn run(&mut self) {
        let mut released = Released::default();
        for place in 0..PLACES {
            let range = SequenceRange::one(Sequence((self.order)(place)));
            self.index.acknowledge(range, &mut released);
        }
        black_box(released);
    }
}
