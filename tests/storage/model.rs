//! The engine beside a model that is too simple to be wrong: the same random operations for both, and nothing that can
//! be seen may differ, over checkpoints, clean restarts and crashes.

use std::collections::BTreeMap;

use haypile::storage::disk::RealDisk;
use haypile::storage::inspect::inspect;
use haypile::storage::{
    Background, Change, Fetched, Lsn, Operation as Part, Options, Persistence, Queue, Sequence,
    SequenceRange, Store,
};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use tempfile::tempdir;

use crate::support::*;

#[derive(Clone, Debug)]
enum Operation {
    Declare,
    DeclareVolatile,
    DropVolatile(u8),
    Delete(u8),
    Put(u8, u8),
    Remove(u8),
    Publish {
        queues: Vec<u8>,
        size: u16,
        transient: bool,
        times: u8,
    },
    Acknowledge {
        queue: u8,
        first: u8,
        more: u8,
    },
    Deliver {
        queue: u8,
        first: u8,
        more: u8,
    },
    /// Acknowledges some messages and publishes others, all at once.
    Replace {
        queue: u8,
        first: u8,
        more: u8,
        messages: Vec<(Vec<u8>, u8, bool)>,
    },
    Purge(u8),
    Wait,
    Checkpoint,
    Compact,
    /// Takes messages out of memory.
    Evict,
    CleanRestart,
    Crash,
}

impl Arbitrary for Operation {
    fn arbitrary(g: &mut Gen) -> Operation {
        use Operation::*;
        match u8::arbitrary(g) % 100 {
            0..6 => Declare,
            6..7 => DeclareVolatile,
            7..8 => DropVolatile(Arbitrary::arbitrary(g)),
            8..10 => Delete(Arbitrary::arbitrary(g)),
            10..14 => Put(u8::arbitrary(g) % 20, Arbitrary::arbitrary(g)),
            14..16 => Remove(u8::arbitrary(g) % 20),
            16..48 => Publish {
                queues: (0..1 + u8::arbitrary(g) % 3).map(|_| u8::arbitrary(g)).collect(),
                size: if u8::arbitrary(g) % 8 == 0 {
                    u16::arbitrary(g)
                } else {
                    u16::arbitrary(g) % 300
                },
                transient: u8::arbitrary(g) % 5 == 0,
                times: u8::arbitrary(g) % 40,
            },
            48..60 => Acknowledge {
                queue: Arbitrary::arbitrary(g),
                first: Arbitrary::arbitrary(g),
                more: u8::arbitrary(g) % 16,
            },
            60..69 => Replace {
                queue: Arbitrary::arbitrary(g),
                first: Arbitrary::arbitrary(g),
                more: u8::arbitrary(g) % 8,
                messages: (0..u8::arbitrary(g) % 4)
                    .map(|_| {
                        let queues = (0..1 + u8::arbitrary(g) % 3).map(|_| u8::arbitrary(g));
                        (queues.collect(), u8::arbitrary(g), u8::arbitrary(g) % 4 == 0)
                    })
                    .collect(),
            },
            69..76 => Deliver {
                queue: Arbitrary::arbitrary(g),
                first: Arbitrary::arbitrary(g),
                more: u8::arbitrary(g) % 16,
            },
            76..78 => Purge(Arbitrary::arbitrary(g)),
            78..81 => Wait,
            81..84 => Evict,
            84..87 => Checkpoint,
            87..90 => Compact,
            90..95 => CleanRestart,
            _ => Crash,
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Operation>> {
        match self.clone() {
            Operation::Publish { queues, size, transient, times } if times > 1 => {
                Box::new([1, times / 2].into_iter().map(move |times| Operation::Publish {
                    queues: queues.clone(),
                    size,
                    transient,
                    times,
                }))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// What is in a queue: place, body, hand-outs, whether it survives a restart.
type ModelQueue = BTreeMap<u64, (String, u32, bool)>;

/// Queues from this number on are volatile.
const VOLATILE: u64 = 1 << 63;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    queues: BTreeMap<u64, (u64, ModelQueue)>,
    metadata: BTreeMap<u8, u8>,
}

impl Model {
    /// What is left of it after a restart.
    fn restarted(mut self) -> Model {
        self.queues.retain(|id, _| *id < VOLATILE);
        for (_, queue) in self.queues.values_mut() {
            queue.retain(|_, (_, _, durable)| *durable);
        }
        self
    }
}

struct Pair {
    dir: tempfile::TempDir,
    store: Option<Store>,
    queues: BTreeMap<u64, Queue>,
    model: Model,
    /// The states since the last one known durable, with the LSN that each needs.
    history: Vec<(Lsn, Model)>,
    counter: u64,
}

fn options() -> Options {
    Options {
        background: Background::Caller,
        segment_size: 32 << 10,
        checkpoint_distance: 150 << 10,
        cache: 20_000,
        index: 4_000,
        chunk_places: 16,
        ..Options::default()
    }
}

impl Pair {
    fn new() -> Pair {
        let dir = tempdir().unwrap();
        let store = Store::open(dir.path(), options()).unwrap();
        Pair {
            dir,
            store: Some(store),
            queues: BTreeMap::new(),
            model: Model::default(),
            history: vec![(Lsn::ZERO, Model::default())],
            counter: 0,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn pick(&self, number: u8) -> Option<(u64, Queue)> {
        let count = self.queues.len();
        let index = usize::from(number).checked_rem(count)?;
        self.queues.iter().nth(index).map(|(id, queue)| (*id, queue.clone()))
    }

    /// The places of up to `more + 1` neighbours in a queue.
    fn range(&self, id: u64, first: u8, more: u8) -> Option<SequenceRange> {
        let places: Vec<u64> = self.model.queues[&id].1.keys().copied().collect();
        let first = places.get(usize::from(first).checked_rem(places.len())?)?;
        SequenceRange::new(Sequence::new(*first), Sequence::new(first + u64::from(more)))
    }

    fn changed(&mut self, lsn: Option<Lsn>) {
        let lsn = lsn.unwrap_or(self.history.last().unwrap().0);
        self.history.push((lsn, self.model.clone()));
    }

    fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::Declare => {
                let (queue, lsn) = self.store().create_queue(b"q").unwrap();
                self.model.queues.insert(queue.id().get(), (0, ModelQueue::new()));
                self.queues.insert(queue.id().get(), queue);
                self.changed(Some(lsn));
            }
            Operation::DeclareVolatile => {
                let queue = self.store().create_volatile_queue();
                self.model.queues.insert(queue.id().get(), (0, ModelQueue::new()));
                self.queues.insert(queue.id().get(), queue);
                self.changed(None);
            }
            Operation::DropVolatile(number) => {
                let Some((id, _)) = self.pick(*number).filter(|(id, _)| *id >= VOLATILE) else {
                    return;
                };
                self.queues.remove(&id);
                self.model.queues.remove(&id);
                self.changed(None);
            }
            Operation::Delete(number) => {
                let Some((id, queue)) = self.pick(*number) else { return };
                if id >= VOLATILE {
                    return;
                }
                let lsn = self.store().apply(vec![Change::DeleteQueue(queue.id())]).unwrap();
                self.queues.remove(&id);
                self.model.queues.remove(&id);
                self.changed(Some(lsn));
            }
            Operation::Put(key, value) => {
                let change = Change::put(vec![*key], vec![*value]);
                let lsn = self.store().apply(vec![change]).unwrap();
                self.model.metadata.insert(*key, *value);
                self.changed(Some(lsn));
            }
            Operation::Remove(key) => {
                let lsn = self.store().apply(vec![Change::remove(vec![*key])]).unwrap();
                self.model.metadata.remove(key);
                self.changed(Some(lsn));
            }
            Operation::Publish { queues, size, transient, times } => {
                let targets: BTreeMap<u64, Queue> =
                    queues.iter().filter_map(|number| self.pick(*number)).collect();
                let handles: Vec<&Queue> = targets.values().collect();
                for _ in 0..*times {
                    self.counter += 1;
                    let text = format!("{}:{}", self.counter, "z".repeat(usize::from(*size)));
                    let persistence =
                        if *transient { Persistence::Transient } else { Persistence::Durable };
                    let appended =
                        self.store().append(&message(&text), persistence, &handles).unwrap();
                    for id in targets.keys() {
                        let (next, queue) = self.model.queues.get_mut(id).unwrap();
                        queue.insert(*next, (text.clone(), 0, !*transient && *id < VOLATILE));
                        *next += 1;
                    }
                    self.changed(appended.durable_at);
                }
            }
            Operation::Acknowledge { queue, first, more } => {
                let Some((id, handle)) = self.pick(*queue) else { return };
                let Some(range) = self.range(id, *first, *more) else { return };
                self.acknowledge(id, &handle, range);
            }
            Operation::Replace { queue, first, more, messages } => {
                let Some((id, handle)) = self.pick(*queue) else { return };
                let range = self.range(id, *first, *more);
                self.replace(id, &handle, range, messages);
            }
            Operation::Purge(number) => {
                let Some((id, handle)) = self.pick(*number) else { return };
                let Some(end) = SequenceRange::new(Sequence::FIRST, handle.next_sequence()) else {
                    return;
                };
                self.acknowledge(id, &handle, end);
            }
            Operation::Deliver { queue, first, more } => {
                let Some((id, handle)) = self.pick(*queue) else { return };
                let Some(range) = self.range(id, *first, *more) else { return };
                let queue = &mut self.model.queues.get_mut(&id).unwrap().1;
                let delivered: Vec<(Sequence, u32)> = queue
                    .range_mut(range.first.get()..=range.last.get())
                    .map(|(place, (_, count, _))| {
                        *count += 1;
                        (Sequence::new(*place), *count)
                    })
                    .collect();
                handle.mark_delivered(&delivered).unwrap();
                // It has no LSN of its own to wait for; it is known to be durable with whatever comes next.
                let lsn = self.store().apply(vec![]).unwrap();
                self.changed(Some(lsn));
            }
            Operation::Wait => {
                let lsn = self.history.last().unwrap().0;
                self.store().wait_durable(lsn).unwrap();
            }
            Operation::Checkpoint => self.store().checkpoint().unwrap(),
            Operation::Compact => {
                self.store().compact().unwrap();
            }
            Operation::Evict => {
                self.store().evict_messages().unwrap();
                assert_eq!(self.store().cached_bytes(), 0);
            }
            Operation::CleanRestart => {
                self.queues.clear();
                self.store.take().unwrap().close().unwrap();
                let expected = self.model.clone().restarted();
                self.reopen(&[expected]);
            }
            Operation::Crash => {
                let durable = self.store().durable_lsn();
                self.queues.clear();
                drop(self.store.take());
                // Whatever is known durable is there; what came later is there as far as some state in order had it.
                let newest = self.history.iter().rposition(|(lsn, _)| *lsn <= durable).unwrap();
                let possible = self.history[newest..]
                    .iter()
                    .map(|(_, m)| m.clone().restarted())
                    .collect::<Vec<_>>();
                self.reopen(&possible);
            }
        }
        let durable = self.store().durable_lsn();
        let newest = self.history.iter().rposition(|(lsn, _)| *lsn <= durable).unwrap();
        self.history.drain(..newest);
    }

    fn acknowledge(&mut self, id: u64, handle: &Queue, range: SequenceRange) {
        let acknowledged = handle.acknowledge(&[range]).unwrap();
        let queue = &mut self.model.queues.get_mut(&id).unwrap().1;
        let before = queue.len();
        queue.retain(|place, _| *place < range.first.get() || *place > range.last.get());
        assert_eq!(acknowledged.messages, (before - queue.len()) as u64);
        self.changed(acknowledged.durable_at);
    }

    fn replace(
        &mut self,
        from: u64,
        handle: &Queue,
        range: Option<SequenceRange>,
        messages: &[(Vec<u8>, u8, bool)],
    ) {
        // The messages that go are those that are there before.
        let gone = range.map_or(0, |range| {
            let queue = &mut self.model.queues.get_mut(&from).unwrap().1;
            let before = queue.len();
            queue.retain(|place, _| *place < range.first.get() || *place > range.last.get());
            before - queue.len()
        });
        let mut drafts = Vec::new();
        for (queues, size, transient) in messages {
            self.counter += 1;
            let text = format!("{}:{}", self.counter, "z".repeat(20 * usize::from(*size)));
            let targets: BTreeMap<u64, Queue> =
                queues.iter().filter_map(|number| self.pick(*number)).collect();
            for id in targets.keys() {
                let (next, queue) = self.model.queues.get_mut(id).unwrap();
                queue.insert(*next, (text.clone(), 0, !*transient && *id < VOLATILE));
                *next += 1;
            }
            let persistence =
                if *transient { Persistence::Transient } else { Persistence::Durable };
            drafts.push((message(text), persistence, targets));
        }
        let targets: Vec<Vec<&Queue>> =
            drafts.iter().map(|(_, _, targets)| targets.values().collect()).collect();
        let mut parts: Vec<Part<'_>> = drafts
            .iter()
            .zip(&targets)
            .map(|((message, persistence, _), queues)| Part::Append {
                message: message.into(),
                persistence: *persistence,
                queues,
            })
            .collect();
        // It is somewhere in the middle.
        let acknowledge = Part::Acknowledge { queue: handle, ranges: range.as_slice() };
        parts.insert(parts.len() / 2, acknowledge);
        let done = self.store().apply_together(&parts).unwrap();
        assert_eq!(done.messages, gone as u64);
        self.changed(done.durable_at);
    }

    /// Opens the store again: it has to be in one of the possible states.
    fn reopen(&mut self, possible: &[Model]) {
        let store = Store::open(self.dir.path(), options()).unwrap();
        self.queues = store.queues().into_iter().map(|q| (q.id().get(), q)).collect();
        let seen = self.seen(&store);
        let same = |model: &Model| {
            model.metadata == seen.metadata
                && model.queues.keys().eq(seen.queues.keys())
                && model.queues.iter().all(|(id, (_, queue))| *queue == seen.queues[id].1)
        };
        assert!(possible.iter().any(same), "none of {} states is\n{seen:?}", possible.len());
        self.history = vec![(Lsn::ZERO, seen.clone())];
        self.model = seen;
        self.store = Some(store);
    }

    /// What can be seen of the store.
    fn seen(&self, store: &Store) -> Model {
        let content =
            |fetched: Fetched| (fetched.sequence.get(), (body(&fetched), fetched.deliveries, true));
        let queues = self
            .queues
            .iter()
            .map(|(id, queue)| {
                let all: ModelQueue = fetch_all(queue).into_iter().map(content).collect();
                assert_eq!(queue.len(), all.len() as u64);
                (*id, (queue.next_sequence().get(), all))
            })
            .collect();
        let metadata = store.entries().iter().map(|(key, value)| (key[0], value[0])).collect();
        Model { queues, metadata }
    }

    /// Compares what can be seen now, transient messages included.
    fn compare(&self) {
        let mut seen = self.seen(self.store());
        for (id, (_, queue)) in &mut seen.queues {
            for (place, (_, _, durable)) in queue {
                *durable = self.model.queues[id].1.get(place).is_some_and(|(_, _, d)| *d);
            }
        }
        assert_eq!(seen, self.model);
        assert_eq!(self.store().set_aside(), 0);
    }
}

impl Pair {
    /// Without queues nothing is live but the checkpoint: so nothing was counted twice, or never given back.
    fn nothing_is_left_of_nothing(&mut self) {
        self.queues.clear();
        let store = self.store.take().unwrap();
        let queues = store.queues();
        let deletions = queues.iter().map(|queue| Change::DeleteQueue(queue.id()));
        store.apply(deletions.collect()).unwrap();
        drop(queues);
        assert_eq!(store.cached_bytes(), 0);
        assert_eq!(store.resident_places(), 0);
        store.close().unwrap();
        let left = inspect(&RealDisk::shared(), self.dir.path()).unwrap();
        let live: u64 = left.segments.iter().map(|segment| segment.live_references).sum();
        assert!(live <= 2, "only the root and a page of metadata are needed: {:?}", left.segments);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "quickcheck wants a function of values")]
fn engine_and_model_agree(operations: Vec<Operation>) -> bool {
    let mut pair = Pair::new();
    for operation in &operations {
        pair.perform(operation);
    }
    pair.compare();
    pair.perform(&Operation::Compact);
    pair.compare();
    pair.perform(&Operation::CleanRestart);
    pair.compare();
    pair.nothing_is_left_of_nothing();
    true
}

#[test]
fn the_engine_does_what_a_simple_model_does() {
    QuickCheck::new()
        .rng(Gen::new(150))
        .tests(60)
        .quickcheck(engine_and_model_agree as fn(Vec<Operation>) -> bool);
}
