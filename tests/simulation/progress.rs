//! A small disk that is full most of the time: whatever is done to the store, and however often it is killed, it opens, loses
//! nothing, and takes new messages again when enough has been consumed.
//!
//! A seed is a history of random operations with small segments: publishing, handing out, acknowledging in patterns,
//! transactions, purging, checkpoints, compaction, proper ends, kills and power cuts at any change of the disk, also while it is
//! opened. *Safety* is the [`Ledger`]'s business. *Progress* is checked here: every open succeeds with the room that there is;
//! and whenever half of what the disk has room for, beside the reserve, is consumed, a message is taken and confirmed within so
//! many steps. `HAYPILE_FULL_DISK_SEEDS` asks for another number of seeds, `HAYPILE_FULL_DISK_FIRST` for another first one, and
//! `HAYPILE_FULL_DISK_TRACE` has each step printed.

use std::sync::Arc;

use haypile::simulation::runs::fates;
use haypile::simulation::{Driver, Ledger, Random, ReopenError, SimulatedDisk};
use haypile::storage::inspect::inspect;
use haypile::storage::{
    Background, Message, Operation, Options, Persistence, Queue, Sequence, SequenceRange, Store,
    StoreError,
};

const SEGMENT: u64 = 32 << 10;
const DIR: &str = "/store";

/// The open segment, the reserve, and two for what does not fit to the end of a segment.
const OVERHEAD: u64 = 1 + 4 + 2;

/// The attempts after which a message must have been taken.
const PATIENCE: usize = 40;

struct Life {
    seed: u64,
    random: Random,
    disk: SimulatedDisk,
    quota: u64,
    state: Option<Driver>,
    ledger: Ledger,
    published: u64,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    opens: u64,
    cut_opens: u64,
    kills: u64,
    power_cuts: u64,
    refused: u64,
    unrecorded: u64,
    relieved: u64,
    confirmed: u64,
}

impl Life {
    fn begin(seed: u64) -> Life {
        let random = Random::new(seed);
        let quota = 12 + random.below(14);
        let disk = SimulatedDisk::new();
        disk.set_capacity(Some(quota * SEGMENT + 20_000));
        let (ledger, figures) = (Ledger::new(), Figures::default());
        let mut life =
            Life { seed, random, disk, quota, state: None, ledger, published: 0, figures };
        life.open();
        for name in [b"one", b"two"] {
            life.driver().create_queue(name).unwrap();
        }
        life.confirm().unwrap();
        life
    }

    fn options(&self) -> Options {
        Options {
            segment_size: SEGMENT,
            segments_spare: 2,
            checkpoint_distance: 6 * SEGMENT,
            cache: 20_000,
            index: [0, 100, 1 << 20][self.seed as usize % 3],
            chunk_places: 16,
            background: Background::Caller,
            disk: Arc::new(self.disk.clone()),
            entropy: Arc::new(Random::new(self.random.next())),
            ..Options::default()
        }
    }

    fn driver(&mut self) -> &mut Driver {
        self.state.as_mut().expect("it is open")
    }

    fn store(&mut self) -> Store {
        self.driver().store().clone()
    }

    fn queue(&mut self) -> Queue {
        let queues = self.store().queues();
        queues[self.random.below(queues.len() as u64) as usize].clone()
    }

    /// Opens the store with the room that there is; now and then the first attempts are cut off.
    fn open(&mut self) {
        for _ in 0..self.random.below(3) {
            self.disk.cut_after(self.random.below(40));
            let opened = Store::open(DIR, self.options());
            let cut = self.disk.is_off();
            drop(opened);
            if cut {
                self.figures.cut_opens += 1;
            }
            self.restart_disk(cut && self.random.one_in(2));
            if std::env::var_os("HAYPILE_FULL_DISK_TRACE").is_some() {
                println!("cut {cut}: {}", self.describe());
            }
        }
        self.figures.opens += 1;
        let opened = Driver::open(DIR, self.options(), self.ledger.clone());
        match opened {
            Ok(driver) => self.state = Some(driver),
            Err(ReopenError::Mismatch(mismatch)) => panic!("seed {}: {mismatch}", self.seed),
            Err(error) => {
                panic!("seed {}: it is not opened: {error}\n{}", self.seed, self.describe())
            }
        }
    }

    /// The disk as a killed process leaves it, or a power cut.
    fn restart_disk(&mut self, power_cut: bool) {
        let image = self.disk.image();
        let image = if power_cut { fates(&image, self.random.next()) } else { image };
        self.disk = SimulatedDisk::of(image);
        self.disk.set_capacity(Some(self.quota * SEGMENT + 20_000));
    }

    /// Ends the process, and starts another one.
    fn kill(&mut self, power_cut: bool) {
        if let Some(driver) = self.state.take() {
            self.ledger = driver.into_ledger();
        }
        let count = if power_cut { &mut self.figures.power_cuts } else { &mut self.figures.kills };
        *count += 1;
        self.restart_disk(power_cut);
        self.open();
    }

    fn close(&mut self) {
        let driver = self.state.take().expect("it is open");
        let before = driver.ledger().clone();
        self.ledger = match driver.close() {
            Ok(ledger) => ledger,
            Err(StoreError::Full) => before,
            Err(error) => panic!("seed {}: it is not closed: {error}", self.seed),
        };
        self.restart_disk(false);
        self.open();
    }

    fn confirm(&mut self) -> Result<(), StoreError> {
        self.driver().confirm()
    }

    fn publish(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.published += 1;
        let body = format!("{:>width$}", self.published, width = bytes as usize);
        let queues = self.store().queues();
        let fans_out = self.random.one_in(5);
        let first = self.random.below(queues.len() as u64) as usize;
        let targets: Vec<&Queue> =
            if fans_out { queues.iter().collect() } else { vec![&queues[first]] };
        self.driver().publish(body, &targets)?;
        self.confirm()
    }

    /// Some of a queue's live places, from its front on.
    fn places(&mut self, queue: &Queue, most: u64) -> Vec<(Sequence, u32)> {
        let skip = if self.random.one_in(2) { 0 } else { self.random.below(30) };
        let latest = self.driver().ledger().latest();
        let Some(known) = latest.queues.get(&queue.id()) else { return Vec::new() };
        let messages = known.messages.iter().skip(skip as usize).take(most as usize);
        messages.map(|(place, message)| (*place, message.deliveries)).collect()
    }

    fn hand_out(&mut self) -> Result<(), StoreError> {
        let queue = self.queue();
        let most = 1 + self.random.below(60);
        let rounds = 1 + self.random.below(20);
        for _ in 0..rounds {
            let mut counts = self.places(&queue, most);
            counts.iter_mut().for_each(|(_, count)| *count += 1);
            if let [first, ..] = &counts[..] {
                let first = first.0;
                let recorded = queue.mark_delivered(&[(first, 1)])?;
                self.figures.unrecorded += u64::from(!recorded);
                self.driver().deliver(&queue, &counts)?;
            }
            if self.random.one_in(3) {
                self.confirm()?;
            }
        }
        self.confirm()
    }

    fn acknowledge(&mut self) -> Result<(), StoreError> {
        let queue = self.queue();
        let most = self.random.below(80);
        let step = 1 + self.random.below(5) as usize;
        let places = self.places(&queue, most);
        let at_once = self.random.one_in(2);
        let mut ranges = Vec::new();
        for (place, _) in places.iter().step_by(step) {
            if at_once {
                ranges.push(SequenceRange::one(*place));
            } else {
                self.driver().acknowledge(&queue, &[SequenceRange::one(*place)])?;
                if self.random.one_in(3) {
                    self.confirm()?;
                }
            }
        }
        if !ranges.is_empty() {
            self.driver().acknowledge(&queue, &ranges)?;
        }
        self.confirm()
    }

    fn transact(&mut self) -> Result<(), StoreError> {
        let (from, to) = (self.queue(), self.queue());
        let places = self.places(&from, 5);
        let ranges: Vec<_> = places.iter().map(|(place, _)| SequenceRange::one(*place)).collect();
        self.published += 1;
        let message = Message::new("header", format!("{:>700}", self.published));
        let operations = [
            Operation::Acknowledge { queue: &from, ranges: &ranges },
            Operation::Append {
                message: (&message).into(),
                persistence: Persistence::Durable,
                queues: &[&to],
            },
        ];
        let with_message = 1 + usize::from(self.random.one_in(2));
        self.driver().apply_together(&operations[..with_message])?;
        self.confirm()
    }

    fn describe_open(&mut self) -> String {
        let found = self.store().inspect();
        let live = found.segments.iter().map(|s| format!("{}:{}", s.id.get(), s.live_bytes));
        let (unused, live) = (found.unused.len(), live.collect::<Vec<_>>().join(" "));
        format!("{unused} unused, live {live}, checkpoint {:?}", found.checkpoint.root)
    }

    /// What is in the files, for a failure.
    fn describe(&self) -> String {
        let disk = SimulatedDisk::of(self.disk.image()).shared();
        match inspect(&disk, DIR.as_ref()) {
            Ok(found) => {
                let live =
                    found.segments.iter().map(|s| format!("{}:{}", s.id.get(), s.live_bytes));
                let (unused, live) = (found.unused.len(), live.collect::<Vec<_>>().join(" "));
                format!("{unused} unused, live {live}, checkpoint {:?}", found.checkpoint.root)
            }
            Err(error) => error.to_string(),
        }
    }

    fn step(&mut self) -> Result<(), StoreError> {
        if std::env::var_os("HAYPILE_FULL_DISK_TRACE").is_some() {
            let full = self.store().is_full();
            let (seed, state) = (self.seed, self.describe_open());
            println!("seed {seed}, full {full}: {state}");
        }
        match self.random.below(20) {
            0..=6 => {
                let bytes = [20, 300, 1500, 3900, 9000][self.random.below(5) as usize];
                for _ in 0..1 + self.random.below(12) {
                    self.publish(bytes)?;
                    self.figures.confirmed += 1;
                }
                Ok(())
            }
            7..=9 => self.hand_out(),
            10..=12 => self.acknowledge(),
            13 => self.transact(),
            14 => self.driver().upkeep(Store::checkpoint),
            15 | 16 => self.driver().upkeep(|store| store.compact().map(|_| ())),
            17 => {
                self.close();
                Ok(())
            }
            18 => {
                let power_cut = self.random.one_in(2);
                self.kill(power_cut);
                Ok(())
            }
            _ => {
                // The next step is cut off somewhere.
                self.disk.cut_after(self.random.below(60));
                let _cut = self.acknowledge();
                let _cut = self.publish(2000);
                let _cut = self.driver().upkeep(|store| store.compact().map(|_| ()));
                self.disk.undirect();
                let power_cut = self.random.one_in(2);
                self.kill(power_cut);
                Ok(())
            }
        }
    }

    fn live_bytes(&mut self) -> u64 {
        let queues = self.store().queues();
        queues.iter().map(Queue::bytes).sum()
    }

    /// Consumes until half of the room is left, in a pattern that leaves some in each segment, and has a message taken.
    fn check_progress(&mut self) {
        let room = self.quota.saturating_sub(OVERHEAD) * SEGMENT / 2;
        let step = 2 + self.random.below(18) as usize;
        while self.live_bytes() > room {
            for queue in self.store().queues() {
                let places = self.places(&queue, u64::MAX);
                let gone: Vec<_> = match places.len() {
                    0..=20 => places.iter().collect(),
                    _ => (0..).zip(&places).filter(|(at, _)| at % step != 0).map(|p| p.1).collect(),
                };
                let gone: Vec<_> =
                    gone.into_iter().map(|(place, _)| SequenceRange::one(*place)).collect();
                for gone in gone.chunks(10) {
                    self.driver().acknowledge(&queue, gone).unwrap();
                    self.tolerate();
                }
            }
        }
        for _ in 0..PATIENCE {
            match self.publish(1000) {
                Ok(()) => {
                    self.figures.relieved += 1;
                    return;
                }
                Err(StoreError::Full) => {}
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
            self.driver().upkeep(|store| store.compact().map(|_| ())).unwrap();
            self.tolerate();
        }
        let live = self.live_bytes();
        let segments = SimulatedDisk::of(self.disk.image()).used() / SEGMENT;
        panic!(
            "seed {}: nothing is taken with {live} of {room} live bytes, {segments} of {} segments",
            self.seed, self.quota
        );
    }

    /// What finds no room now finds some later.
    fn tolerate(&mut self) {
        match self.confirm() {
            Ok(()) | Err(StoreError::Full) => {}
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }
}

#[test]
fn a_store_on_a_full_disk_always_opens_and_goes_on() {
    let seeds = std::env::var("HAYPILE_FULL_DISK_SEEDS");
    let seeds: u64 = seeds.map_or(40, |text| text.parse().unwrap());
    let mut all = Figures::default();
    let first = std::env::var("HAYPILE_FULL_DISK_FIRST");
    let first: u64 = first.map_or(0, |text| text.parse().unwrap());
    for seed in first..first + seeds {
        let mut life = Life::begin(seed);
        for round in 0..4 {
            for step in 0..40 {
                match life.step() {
                    Ok(()) => {}
                    Err(StoreError::Full) => life.figures.refused += 1,
                    Err(error) => panic!("seed {seed}, round {round}, step {step}: {error}"),
                }
            }
            life.check_progress();
        }
        let figures = life.figures;
        all.opens += figures.opens;
        all.cut_opens += figures.cut_opens;
        all.kills += figures.kills;
        all.power_cuts += figures.power_cuts;
        all.refused += figures.refused;
        all.unrecorded += figures.unrecorded;
        all.relieved += figures.relieved;
        all.confirmed += figures.confirmed;
    }
    println!("{seeds} seeds: {all:?}");
    assert!(all.refused > seeds && all.unrecorded > 0, "the disk is hardly ever full: {all:?}");
}
