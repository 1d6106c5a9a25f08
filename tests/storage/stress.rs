//! Everything at once: publishers that fan out, consumers that acknowledge out of order and requeue, queues that come and
//! go, compaction and checkpoints without a pause, on segments, chunks and budgets so small that all of it meets all the
//! time. Each life of the store ends with a power cut, by dropping it, or by closing it in the middle of the work; then it is opened
//! again, and compared with what its users know.
//!
//! A seed does not give all of it, because there are threads; a failure says its seed all the same.
//! `HAYPILE_STRESS_SEEDS` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use haypile::simulation::{Random, SimulatedDisk};
use haypile::storage::inspect::inspect;
use haypile::storage::{
    Change, Draft, Fetch, Fetched, Message, Operation, Options, Persistence, Queue, Sequence,
    SequenceRange, Store, StoreError,
};
use parking_lot::Mutex;

use crate::compaction::advance;
use crate::power_cuts::after_power_cut;
use crate::support::*;

/// How many runs of [`LIVES`] lives each.
const SEEDS: u64 = 2;

const LIVES: u64 = 6;

const QUEUES: u8 = 4;

const PUBLISHERS: u64 = 2;

/// One message in one queue, as its users know it.
#[derive(Clone, Debug, Default)]
struct Info {
    persistent: bool,
    confirmed: bool,
    acknowledged: bool,
    place: Option<u64>,
    /// Hand-outs: so many are known to be durable, so many were noted.
    counted: u32,
    durably_counted: u32,
}

type Known = Mutex<BTreeMap<u64, Info>>;

/// The text of a message: its number says all of it.
fn text(number: u64) -> String {
    let width = match number % 61 {
        7 => 17_000, // More than a segment.
        13 => 5000,
        other => other * 10,
    };
    format!("{number}:{}", "z".repeat(width as usize))
}

fn number_of(fetched: &Fetched) -> u64 {
    let body = body(fetched);
    let number = body.split(':').next().unwrap().parse().unwrap();
    assert!(body == text(number), "message {number} was altered");
    number
}

/// What the threads of one life share.
struct Life<'a> {
    store: &'a Store,
    queues: &'a [Queue],
    known: &'a [Known],
    random: &'a Random,
    counter: &'a AtomicU64,
    done: &'a AtomicBool,
    seed: u64,
}

impl Life<'_> {
    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }

    /// Publishes to some of the queues, and to some that come and go.
    fn publish(&self, publisher: u64) -> Result<(), StoreError> {
        let mut waiting: Vec<(u64, Vec<usize>)> = Vec::new();
        let mut last = None;
        let mut passing: Option<Queue> = None;
        while self.goes_on() {
            let number = self.counter.fetch_add(1, Ordering::Relaxed) * PUBLISHERS + publisher;
            let persistent = self.random.below(6) != 0;
            let targets: Vec<usize> =
                (0..self.queues.len()).filter(|_| self.random.below(3) == 0).collect();
            for target in &targets {
                let info = Info { persistent, ..Info::default() };
                self.known[*target].lock().insert(number, info);
            }
            let mut handles: Vec<&Queue> = targets.iter().map(|at| &self.queues[*at]).collect();
            handles.extend(&passing);
            let message = Message::new("header", text(number));
            let persistence =
                if persistent { Persistence::Durable } else { Persistence::Transient };
            let durable_at = if self.random.below(2) == 0 {
                self.store.append(&message, persistence, &handles)?.durable_at
            } else {
                let message = Draft::from(&message);
                let append = Operation::Append { message, persistence, queues: &handles };
                self.store.apply_together(&[append])?.durable_at
            };
            if persistent && !targets.is_empty() {
                last = durable_at;
                waiting.push((number, targets));
            }
            if self.random.below(10) == 0 {
                if let Some(lsn) = last {
                    self.store.wait_durable(lsn)?;
                }
                for (number, targets) in waiting.drain(..) {
                    for target in targets {
                        // It may be acknowledged, and forgotten, by now.
                        if let Some(info) = self.known[target].lock().get_mut(&number) {
                            info.confirmed = true;
                        }
                    }
                }
            }
            if let Some(lsn) = self.store.congested() {
                self.store.wait_durable(lsn)?;
            }
            if self.random.below(40) == 0 {
                if let Some(queue) = passing.take().filter(Queue::is_durable) {
                    self.store.apply(vec![Change::DeleteQueue(queue.id())])?;
                }
                passing = match self.random.below(3) {
                    0 => None,
                    1 => Some(self.store.create_volatile_queue()),
                    _ => Some(self.store.create_queue(b"passing")?.0),
                };
            }
        }
        Ok(())
    }

    /// The only consumer of a queue: it knows exactly what it has to see.
    fn consume(&self, at: usize) -> Result<(), StoreError> {
        let (queue, known) = (&self.queues[at], &self.known[at]);
        let mut cursor = Sequence::FIRST;
        let mut batches: Vec<Vec<(Sequence, u64)>> = Vec::new();
        // What is gone and counted, and not known to be durable.
        let (mut gone, mut counted) = (Vec::new(), Vec::new());
        while self.goes_on() {
            match self.random.below(10) {
                0..4 => {
                    let mut fetched = Vec::new();
                    let limit = 1 + self.random.below(20) as usize;
                    if queue.fetch(cursor, limit, &mut fetched) == Fetch::NeedsLoad {
                        queue.load(cursor)?;
                    }
                    let Some(last) = fetched.last() else { continue };
                    cursor = last.sequence.next();
                    let mut delivered = Vec::new();
                    {
                        let mut known = known.lock();
                        for fetched in &fetched {
                            let number = number_of(fetched);
                            let seed = self.seed;
                            let info = known.get_mut(&number);
                            let info = info
                                .unwrap_or_else(|| panic!("seed {seed}: {number} was never there"));
                            assert!(!info.acknowledged, "seed {seed}: {number} came back");
                            assert_eq!(info.counted, fetched.deliveries, "seed {seed}: {number}");
                            let place = fetched.sequence.get();
                            assert_eq!(*info.place.get_or_insert(place), place, "seed {seed}");
                            info.counted += 1;
                            delivered.push((fetched.sequence, info.counted));
                            counted.push((number, info.counted));
                        }
                    }
                    queue.mark_delivered(&delivered)?;
                    let batch = fetched.iter().map(|f| (f.sequence, number_of(f)));
                    batches.push(batch.collect());
                }
                4..7 if !batches.is_empty() => {
                    let index = self.random.below(batches.len() as u64) as usize;
                    let batch = &batches[index];
                    // All of it, a run of it, or single places; some messages stay for long.
                    let chosen: Vec<(Sequence, u64)> = match self.random.below(3) {
                        0 => batch.clone(),
                        1 => batch[self.random.below(batch.len() as u64) as usize..].to_vec(),
                        _ => batch.iter().filter(|(_, n)| n % 13 != 3).copied().collect(),
                    };
                    let runs = self.random.below(2) == 0 && chosen.len() == batch.len();
                    let ranges: Vec<SequenceRange> = match (chosen.first(), chosen.last()) {
                        (Some((first, _)), Some((last, _))) if runs => {
                            vec![SequenceRange { first: *first, last: *last }]
                        }
                        _ => chosen.iter().map(|(place, _)| SequenceRange::one(*place)).collect(),
                    };
                    let mut expected = 0;
                    for (_, number) in &chosen {
                        if let Some(info) = known.lock().get_mut(number) {
                            expected += u64::from(!info.acknowledged);
                            info.acknowledged = true;
                        }
                        gone.push(*number);
                    }
                    let went = if self.random.below(2) == 0 {
                        queue.acknowledge(&ranges)?.messages
                    } else {
                        let acknowledge = Operation::Acknowledge { queue, ranges: &ranges };
                        self.store.apply_together(&[acknowledge])?.messages
                    };
                    assert_eq!(went, expected, "seed {}", self.seed);
                    if self.random.below(3) == 0 {
                        batches.swap_remove(index);
                    }
                }
                7 => {
                    cursor = Sequence::new(self.random.below(queue.next_sequence().get() + 1));
                }
                8 => cursor = Sequence::FIRST,
                9 => {
                    let lsn = self.store.apply(vec![])?;
                    self.store.wait_durable(lsn)?;
                    let mut known = known.lock();
                    gone.drain(..).for_each(|number| {
                        known.remove(&number);
                    });
                    for (number, count) in counted.drain(..) {
                        if let Some(info) = known.get_mut(&number) {
                            info.durably_counted = count;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads here and there, as the broker's loaders do.
    fn disturb(&self) -> Result<(), StoreError> {
        while self.goes_on() {
            let queue = &self.queues[self.random.below(self.queues.len() as u64) as usize];
            let place = Sequence::new(self.random.below(queue.next_sequence().get() + 1));
            queue.load(place)?;
            let mut fetched = Vec::new();
            queue.fetch(place, 5, &mut fetched);
            fetched.iter().for_each(|fetched| {
                number_of(fetched);
            });
            std::thread::sleep(Duration::from_micros(self.random.below(500)));
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        while self.goes_on() {
            self.store.checkpoint()?;
            std::thread::sleep(Duration::from_micros(self.random.below(2000)));
        }
        Ok(())
    }

    fn compact(&self) -> Result<(), StoreError> {
        while self.goes_on() {
            self.store.compact()?;
            std::thread::sleep(Duration::from_micros(self.random.below(500)));
        }
        Ok(())
    }
}

/// Compares a store that has just been opened with what is known, and forgets what is not there.
fn check_restarted(store: &Store, queues: &[Queue], known: &[Known], seed: u64) {
    for (queue, known) in queues.iter().zip(known) {
        let mut known = known.lock();
        let mut found = BTreeSet::new();
        let mut newest = BTreeMap::new();
        for fetched in fetch_all(queue) {
            let number = number_of(&fetched);
            assert!(found.insert(number), "seed {seed}: {number} is there twice");
            let before = newest.insert(number % PUBLISHERS, number);
            assert!(before < Some(number), "seed {seed}: {number} behind {before:?}");
            let info = known.get_mut(&number);
            let info = info.unwrap_or_else(|| panic!("seed {seed}: {number} came back"));
            assert!(info.persistent, "seed {seed}: {number} is transient");
            let place = fetched.sequence.get();
            assert_eq!(*info.place.get_or_insert(place), place, "seed {seed}: {number}");
            let counts = info.durably_counted..=info.counted;
            assert!(counts.contains(&fetched.deliveries), "seed {seed}: {number} {info:?}");
            *info = Info {
                persistent: true,
                confirmed: true,
                acknowledged: false,
                place: Some(place),
                counted: fetched.deliveries,
                durably_counted: fetched.deliveries,
            };
        }
        assert_eq!(queue.len(), found.len() as u64, "seed {seed}");
        for (number, info) in known.iter().filter(|(number, _)| !found.contains(number)) {
            let lost = info.confirmed && !info.acknowledged && info.persistent;
            assert!(!lost, "seed {seed}: {number} of {} is lost: {info:?}", queue.attributes()[0]);
        }
        known.retain(|number, _| found.contains(number));
    }
    assert_eq!(store.set_aside(), 0, "seed {seed}");
}

/// Compares a store that nobody uses at the moment with what is known.
fn check_quiet(store: &Store, queues: &[Queue], known: &[Known], seed: u64) {
    for (queue, known) in queues.iter().zip(known) {
        let found: Vec<u64> = fetch_all(queue).iter().map(number_of).collect();
        let known = known.lock();
        let live = known.iter().filter(|(_, info)| !info.acknowledged).map(|(n, _)| *n);
        let (found, live): (BTreeSet<u64>, BTreeSet<u64>) =
            (found.into_iter().collect(), live.collect());
        let lost: Vec<_> = live.difference(&found).collect();
        let back: Vec<_> = found.difference(&live).collect();
        assert!(lost.is_empty() && back.is_empty(), "seed {seed}: lost {lost:?}, back {back:?}");
    }
    assert_eq!(store.set_aside(), 0, "seed {seed}");
}

/// Without queues and messages only the root is live: so nothing was counted twice, or never given back.
fn check_nothing_is_left(disk: &SimulatedDisk, store: Store, seed: u64) {
    let deletions = store.queues().iter().map(|queue| Change::DeleteQueue(queue.id())).collect();
    store.apply(deletions).unwrap();
    assert_eq!(store.cached_bytes(), 0, "seed {seed}");
    assert_eq!(store.resident_places(), 0, "seed {seed}");
    store.close().unwrap();
    let left = inspect(&disk.shared(), std::path::Path::new(DIR)).unwrap();
    let live: u64 = left.segments.iter().map(|segment| segment.live_references).sum();
    assert!(live <= 1, "seed {seed}: {:?}", left.segments);
}

const DIR: &str = "/stress/store";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    PowerCut,
    Drop,
    Close,
}

fn run(seed: u64) {
    let mut disk = SimulatedDisk::new();
    let random = Arc::new(Random::new(!seed));
    let counter = AtomicU64::new(0);
    let known: Vec<Known> = (0..QUEUES).map(|_| Known::default()).collect();
    for life in 0..LIVES {
        let options = Options {
            segment_size: 16 << 10,
            checkpoint_distance: 60 << 10,
            cache: 20_000,
            index: [0, 4000, 40_000][random.below(3) as usize],
            chunk_places: [16, 64][random.below(2) as usize],
            disk: Arc::new(disk.clone()),
            entropy: random.clone(),
            ..small()
        };
        let end = match life {
            0 => End::Drop, // The queues are made here.
            _ => [End::PowerCut, End::PowerCut, End::Drop, End::Close][random.below(4) as usize],
        };
        let store = match Store::open(DIR, options) {
            Ok(store) => store,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        let mut queues: Vec<Queue> = Vec::new();
        for owner in 0..QUEUES {
            let found = store.queues().into_iter().find(|q| q.attributes()[..] == [owner]);
            assert!(life == 0 || found.is_some(), "seed {seed}: queue {owner} is lost");
            queues.push(found.unwrap_or_else(|| {
                let (queue, created) = store.create_queue(&[owner]).unwrap();
                store.wait_durable(created).unwrap();
                queue
            }));
        }
        if life == 0 && seed.is_multiple_of(2) {
            // It goes on over the border of two directories.
            advance(&store, &queues[0], (1 << 17) - 300);
        }
        check_restarted(&store, &queues, &known, seed);
        // Queues that were passing when the life before ended.
        let passing = store.queues().into_iter().filter(|q| q.attributes()[..] == *b"passing");
        store.apply(passing.map(|q| Change::DeleteQueue(q.id())).collect()).unwrap();
        if end == End::PowerCut {
            disk.cut_after(random.below(1500));
        }
        let done = AtomicBool::new(false);
        let life = Life {
            store: &store,
            queues: &queues,
            known: &known,
            random: &random,
            counter: &counter,
            done: &done,
            seed,
        };
        std::thread::scope(|scope| {
            let (life, disk) = (&life, &disk);
            let judge = move |outcome: Result<(), StoreError>| match outcome {
                Ok(()) => {}
                Err(StoreError::Closed) if end == End::Close => {}
                Err(error) => assert!(disk.is_off(), "seed {seed}: {error}"),
            };
            for publisher in 0..PUBLISHERS {
                scope.spawn(move || judge(life.publish(publisher)));
            }
            for at in 0..queues.len() {
                scope.spawn(move || judge(life.consume(at)));
            }
            scope.spawn(move || judge(life.disturb()));
            scope.spawn(move || judge(life.checkpoint()));
            scope.spawn(move || judge(life.compact()));
            std::thread::sleep(Duration::from_millis(40 + random.below(60)));
            if end == End::Close {
                store.clone().close().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        if end == End::Drop {
            check_quiet(&store, &queues, &known, seed);
            store.compact().unwrap();
            check_quiet(&store, &queues, &known, seed);
        }
        drop((queues, store));
        disk = after_power_cut(&disk, &random);
    }
    let store = Store::open(DIR, Options { disk: Arc::new(disk.clone()), ..small() }).unwrap();
    check_nothing_is_left(&disk, store, seed);
}

#[test]
fn whatever_meets_whatever_nothing_confirmed_is_lost_and_nothing_comes_back() {
    let seeds = std::env::var("HAYPILE_STRESS_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        run(seed);
    }
}
