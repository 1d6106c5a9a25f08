//! Power cuts at random moments of many lives of a store, in single threads and in many, and of a repair.
//!
//! The disk is [`haypile::simulation`]'s: what was not synced is kept or lost, each sector and each name by itself. A seed gives
//! everything: a failing one is printed, and run again alone by putting it in place of the range in the test.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use haypile::simulation::{Fate, Random, SimulatedDisk};
use haypile::storage::disk::Disk;
use haypile::storage::inspect::repair;
use haypile::storage::{
    Fetch, Fetched, Lsn, OpenError, Options, Persistence, Queue, Sequence, SequenceRange, Store,
};

use crate::support::*;

/// The disk when the power is back: more or less of what was pending was written.
pub(crate) fn after_power_cut(disk: &SimulatedDisk, random: &Random) -> SimulatedDisk {
    let odds = [0, 1, 2, 4][random.below(4) as usize];
    let fate = |kept| if kept { Fate::Kept } else { Fate::Dropped };
    SimulatedDisk::of(disk.image().after_power_cut(|_, _| fate(random.below(4) < odds)))
}

/// What is known of the one queue that the workload uses.
#[derive(Debug, Default)]
struct Known {
    /// Messages that were confirmed and of which no acknowledgement was ever appended.
    confirmed: BTreeSet<u64>,
    /// Messages that were appended and may be there.
    possible: BTreeSet<u64>,
    published: u64,
}

impl Known {
    /// Compares with what a restart has brought back, which counts from now on.
    fn check(&mut self, messages: &[Fetched], seed: u64) {
        let found: Vec<u64> = messages.iter().map(number).collect();
        assert!(found.is_sorted(), "seed {seed}: out of order");
        let found: BTreeSet<u64> = found.into_iter().collect();
        let lost: Vec<_> = self.confirmed.difference(&found).collect();
        assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
        let back: Vec<_> = found.difference(&self.possible).collect();
        assert!(back.is_empty(), "seed {seed}: came back {back:?}");
        self.confirmed.clone_from(&found);
        self.possible = found;
    }
}

/// The number that a message was published with.
fn number(fetched: &Fetched) -> u64 {
    body(fetched).trim().parse().unwrap()
}

/// All live messages, or why they cannot be had: the power may have gone off with something that is not an error to the store,
/// and what is read after that is set aside.
fn try_fetch_all(store: &Store, queue: &Queue) -> Result<Vec<Fetched>, String> {
    let mut all = Vec::new();
    let next = |all: &[Fetched]| all.last().map_or(Sequence::FIRST, |last| last.sequence.next());
    while queue.fetch(next(&all), 1000, &mut all) != Fetch::Complete {
        queue.load(next(&all)).map_err(|error| error.to_string())?;
    }
    match store.set_aside() {
        0 => Ok(all),
        messages => Err(format!("{messages} messages were set aside")),
    }
}

/// One life of the store, until the power goes off (an error that only the disk knows of) or it is dropped.
fn live(options: Options, random: &Random, known: &mut Known, seed: u64) -> Result<(), String> {
    let store = Store::open("/a/b/store", options).map_err(|e: OpenError| e.to_string())?;
    work(&store, 0, random, known, seed)
}

/// The workload, on the queue that this one owns.
fn work(
    store: &Store,
    owner: u8,
    random: &Random,
    known: &mut Known,
    seed: u64,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let queue = match store.queues().into_iter().find(|queue| queue.attributes()[..] == [owner]) {
        Some(queue) => queue,
        None => {
            assert!(known.confirmed.is_empty(), "seed {seed}: the queue is lost");
            let (queue, created) = store.create_queue(&[owner]).map_err(|e| text(&e))?;
            store.wait_durable(created).map_err(|e| text(&e))?;
            queue
        }
    };
    known.check(&try_fetch_all(store, &queue)?, seed);
    let mut waiting: Vec<(Lsn, Option<u64>)> = Vec::new();
    let mut gone: Vec<(Lsn, u64)> = Vec::new();
    for _ in 0..random.below(60) {
        match random.below(10) {
            0..5 => {
                let width = if random.below(8) == 0 { random.below(40_000) } else { 600 } as usize;
                let number = known.published;
                known.published += 1;
                known.possible.insert(number);
                let message = message(format!("{number:>width$}"));
                let appended = store
                    .append(&message, Persistence::Durable, &[&queue])
                    .map_err(|e| text(&e))?;
                waiting.push((appended.durable_at.unwrap(), Some(number)));
            }
            5..7 => {
                let all = try_fetch_all(store, &queue)?;
                let Some(fetched) = all.get(random.below(4) as usize) else { continue };
                let number = number(fetched);
                known.confirmed.remove(&number);
                waiting.iter_mut().filter(|(_, n)| *n == Some(number)).for_each(|w| w.1 = None);
                let range = SequenceRange::one(fetched.sequence);
                let done = queue.acknowledge(&[range]).map_err(|e| text(&e))?;
                gone.push((done.durable_at.unwrap(), number));
            }
            7 => store.checkpoint().map_err(|e| text(&e))?,
            _ => {
                let end = waiting.iter().map(|w| w.0).chain(gone.iter().map(|g| g.0)).max();
                store.wait_durable(end.unwrap_or(Lsn::ZERO)).map_err(|e| text(&e))?;
                known.confirmed.extend(waiting.drain(..).filter_map(|(_, number)| number));
                gone.drain(..).for_each(|(_, number)| {
                    known.possible.remove(&number);
                });
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_a_power_cut_leaves_the_store_opens_with_all_that_was_confirmed() {
    let mut cuts = 0;
    for seed in 0..SEEDS {
        let mut disk = SimulatedDisk::new();
        let random = Arc::new(Random::new(!seed));
        let mut known = Known::default();
        for _ in 0..25 {
            let options = Options {
                segment_size: 16 << 10,
                checkpoint_distance: [50 << 10, 200 << 10][random.below(2) as usize],
                disk: Arc::new(disk.clone()),
                entropy: random.clone(),
                ..manual()
            };
            let limit = [15, 60, 200][random.below(3) as usize];
            disk.cut_after(random.below(limit));
            if let Err(error) = live(options, &random, &mut known, seed) {
                assert!(disk.is_off(), "seed {seed}: {error}");
                cuts += 1;
            }
            disk = after_power_cut(&disk, &random);
        }
    }
    assert!(cuts > SEEDS, "{cuts} power cuts");
}

/// The same disk, with what a file has damaged where these bytes are.
fn damaged(disk: &SimulatedDisk, wanted: &[u8]) -> SimulatedDisk {
    let mut image = disk.image();
    let found = image.contents().into_iter().find_map(|(path, bytes)| {
        let offset = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some((path, offset))
    });
    let (path, offset) = found.unwrap();
    image.corrupt(&path, offset as u64, |sector| sector[offset % sector.len()] ^= 1);
    SimulatedDisk::of(image)
}

#[test]
fn a_repair_that_a_power_cut_ends_leaves_the_damage_or_the_repaired_store() {
    let dir = Path::new("/data");
    for cut in 0.. {
        let disk = SimulatedDisk::new();
        let random = Arc::new(Random::new(cut));
        let options = |disk: &SimulatedDisk| Options {
            segment_size: 16 << 10,
            disk: Arc::new(disk.clone()),
            entropy: random.clone(),
            checkpoint_distance: u64::MAX,
            ..manual()
        };
        let store = Store::open(dir, options(&disk)).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        for n in 10..30 {
            confirm(&store, &orders, format!("message {n}"));
            if n == 19 {
                store.checkpoint().unwrap();
            }
        }
        drop((store, orders));
        let disk = damaged(&damaged(&disk, b"message 13"), b"message 24");
        let expected: Vec<String> =
            (10..30).filter(|n| ![13, 24].contains(n)).map(|n| format!("message {n}")).collect();

        disk.cut_after(cut);
        let outcome = repair(&(Arc::new(disk.clone()) as Arc<dyn Disk>), dir, true, |_| {});
        let finished = outcome.is_ok();
        assert!(finished || disk.is_off(), "{outcome:?}");
        let disk = after_power_cut(&disk, &random);
        match repair(&(Arc::new(disk.clone()) as Arc<dyn Disk>), dir, true, |_| {}) {
            Ok(again) => assert!(!finished || again.applied.is_none(), "{cut}: {again:?}"),
            Err(error) => panic!("{cut}: {error}"),
        }
        let store =
            Store::open(dir, options(&disk)).unwrap_or_else(|error| panic!("{cut}: {error}"));
        assert_eq!(bodies(&queue(&store, "orders")), expected, "{cut}");
        if finished {
            assert!(cut > 20, "{cut} operations");
            return;
        }
    }
}

/// The same with the store's own threads and with three that use it, so that checkpoints, recycling and publishing
/// meet. A seed does not give all of it here.
#[test]
fn whatever_a_power_cut_leaves_of_many_threads_work_the_store_opens_with_all_that_was_confirmed() {
    let mut cuts = 0;
    for seed in 0..THREADED_SEEDS {
        let mut disk = SimulatedDisk::new();
        let random = Arc::new(Random::new(!seed));
        let mut known = [(); 3].map(|()| Known::default());
        for _ in 0..15 {
            let options = Options {
                segment_size: 16 << 10,
                checkpoint_distance: 40 << 10,
                disk: Arc::new(disk.clone()),
                entropy: random.clone(),
                ..small()
            };
            let limit = [30, 200, 600][random.below(3) as usize];
            disk.cut_after(random.below(limit));
            match Store::open("/a/b/store", options) {
                Ok(store) => std::thread::scope(|scope| {
                    for (owner, known) in (0..).zip(&mut known) {
                        let (store, random, disk) = (&store, &random, &disk);
                        scope.spawn(move || {
                            if let Err(error) = work(store, owner, random, known, seed) {
                                assert!(disk.is_off(), "seed {seed}: {error}");
                            }
                        });
                    }
                }),
                Err(error) => assert!(disk.is_off(), "seed {seed}: {error}"),
            }
            cuts += u64::from(disk.is_off());
            disk = after_power_cut(&disk, &random);
        }
    }
    assert!(cuts > THREADED_SEEDS, "{cuts} power cuts");
}

/// How many runs of 15 lives each.
const THREADED_SEEDS: u64 = 40;

/// How many runs of 25 lives each.
const SEEDS: u64 = 50;
