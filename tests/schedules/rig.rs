//! A log with its threads, as a store has them, and what must hold whatever the schedule.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};

use super::disk::{Fails, SlowDisk};
use crate::storage::entropy::Entropy;
use crate::storage::error::StoreError;
use crate::storage::log::{FailureCallback, Log, LogConfig, Outline};
use crate::storage::options::Background;
use crate::storage::record::{FRAME, RecordKind};
use crate::storage::segment::{FreeFile, PoolConfig, Register, SegmentPool, SegmentSet};
use crate::storage::sync::{Condvar, Mutex};
use crate::storage::units::{Lsn, SegmentId, SegmentTag};

/// Small enough for a few records to go through several.
const SEGMENT: u64 = 16 << 10;

/// Schedules of each kind in a default run.
const SCHEDULES: usize = 300;

/// For another number of them.
const MORE: &str = "HAYPILE_SCHEDULES";

/// Switches that a PCT schedule has: few, because few are what most such defects take.
const SWITCHES: usize = 3;

/// How a run is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) fails: Option<Fails>,
    /// Files that fit on the disk.
    pub(crate) room: Option<usize>,
    /// What nobody waits for is written at once, or never.
    pub(crate) lazy_sync: Duration,
    /// In bytes.
    pub(crate) unsynced_limit: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { fails: None, room: None, lazy_sync: Duration::MAX, unsynced_limit: 16 << 20 }
    }
}

/// A log on a disk, with its threads.
pub(crate) struct Rig {
    pub(crate) log: Arc<Log>,
    pub(crate) pool: Arc<SegmentPool>,
    pub(crate) disk: SlowDisk,
    segments: Arc<SegmentSet>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A record that was appended.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
    payload: Vec<u8>,
}

/// Not random at all: the schedule alone makes the difference.
#[derive(Debug)]
struct Constant;

impl Entropy for Constant {
    fn number(&self) -> u64 {
        7
    }
}

/// Segments that the register has room for.
const REGISTERED: usize = 2;

/// A register that has little room, and never fails.
#[derive(Debug, Default)]
struct SmallRegister(Mutex<Vec<SegmentTag>>);

impl Register for SmallRegister {
    fn note(
        &self,
        ready: &[SegmentTag],
        dropped: &[SegmentTag],
        reached: Option<(SegmentTag, Lsn)>,
    ) -> io::Result<usize> {
        let mut ahead = self.0.lock();
        let ended = |tag: &SegmentTag| reached.is_some_and(|(newest, _)| tag.id <= newest.id);
        ahead.retain(|tag| !ended(tag) && !dropped.contains(tag));
        let added = ready.len().min(REGISTERED.saturating_sub(ahead.len()));
        ahead.extend(&ready[..added]);
        Ok(added)
    }
}

impl Rig {
    /// Starts the threads, each of which fails the log when it fails, as the store's do.
    pub(crate) fn start(settings: Settings) -> Arc<Rig> {
        let dir = PathBuf::from("/store");
        let disk = SlowDisk::new(settings.fails, settings.room);
        let config = PoolConfig {
            dir: dir.clone(),
            disk: Arc::new(disk.clone()),
            segment_size: SEGMENT,
            spare: 1,
            register: Arc::new(SmallRegister::default()),
        };
        let pool = Arc::new(SegmentPool::new(config, Vec::<FreeFile>::new()));
        let segments = Arc::new(SegmentSet::new(SEGMENT));
        let config = LogConfig {
            store: [0; 16],
            dir,
            segments_ahead: 1,
            lazy_sync: settings.lazy_sync,
            unsynced_limit: settings.unsynced_limit,
            background: Background::Threads,
            entropy: Arc::new(Constant),
        };
        let log = Log::new(config, segments.clone(), pool.clone(), Lsn::ZERO, SegmentId(1));
        log.end_opening();
        let log = Arc::new(log);
        let rig = Rig { log, pool, disk, segments, threads: Mutex::new(Vec::new()) };
        let (log, pool) = (rig.log.clone(), rig.pool.clone());
        let writer = {
            let log = log.clone();
            thread::spawn(move || {
                if let Err(error) = log.run() {
                    log.fail(&error.to_string());
                }
            })
        };
        let maker = thread::spawn(move || {
            if let Err(reason) = pool.run() {
                log.fail(&reason);
            }
        });
        rig.threads.lock().extend([writer, maker]);
        Arc::new(rig)
    }

    /// Appends a record of so many bytes, all of them `byte`.
    pub(crate) fn append(&self, byte: u8, size: usize) -> Result<Written, StoreError> {
        let payload = vec![byte; size];
        let placed = self.log.append(RecordKind::Message, size, 1, |buffer| {
            buffer.extend_from_slice(&payload);
        })?;
        Ok(Written { lsn: placed.lsn, end: placed.end, payload })
    }

    /// Appends records of so many bytes, all of them `byte`, as one unit.
    pub(crate) fn append_unit(
        &self,
        byte: u8,
        sizes: &[usize],
    ) -> Result<Vec<Written>, StoreError> {
        let outline =
            |size: &usize| Outline { kind: RecordKind::Message, size: *size, references: 1 };
        let unit: Vec<Outline> = sizes.iter().map(outline).collect();
        let placed = self.log.append_unit(&unit, |number, buffer| {
            buffer.resize(buffer.len() + sizes[number], byte);
        })?;
        let written = placed.iter().zip(sizes).map(|(placed, size)| Written {
            lsn: placed.lsn,
            end: placed.end,
            payload: vec![byte; *size],
        });
        Ok(written.collect())
    }

    /// Somebody was told what became of a record: if it is said to be durable, it is.
    pub(crate) fn believe(&self, written: &Written, outcome: &Result<(), StoreError>) {
        if outcome.is_ok() {
            let (segment, offset) = self.segments.locate(written.lsn).expect("it is in use");
            let synced =
                self.disk.has_synced(&segment.path, offset + FRAME as u64, &written.payload);
            assert!(synced, "{} was reported durable before it was synced", written.lsn);
            assert!(self.log.durable() >= written.end, "the durable LSN does not move back");
        }
    }

    /// Ends the threads, as closing a store does.
    pub(crate) fn end(&self) {
        self.pool.close();
        if self.log.check().is_err() {
            self.pool.stop();
        }
        let mut threads = std::mem::take(&mut *self.threads.lock()).into_iter();
        self.log.stop();
        threads.next().expect("the writer").join().expect("it does not panic");
        self.pool.stop();
        threads.next().expect("the maker of segments").join().expect("it does not panic");
    }

    /// Counts how often the log's failure is told.
    pub(crate) fn count_failures(&self, told: &Arc<Told>) {
        let told = told.clone();
        let callback = move |error| told.tell(Err(error));
        self.log.on_failure(FailureCallback(Box::new(callback)));
    }

    /// Has somebody called back about a record.
    pub(crate) fn call_back(&self, written: &Written, told: &Arc<Told>) {
        let told = told.clone();
        self.log.on_durable(written.end, Box::new(move |outcome| told.tell(outcome)));
    }
}

/// Appended records lie one behind the other.
pub(crate) fn assert_apart(mut all: Vec<Written>) {
    all.sort_by_key(|written| written.lsn);
    for pair in all.windows(2) {
        assert!(pair[0].end <= pair[1].lsn, "{} and {} overlap", pair[0].lsn, pair[1].lsn);
    }
}

/// Hears what callbacks are called with, and can be waited for.
#[derive(Default)]
pub(crate) struct Told {
    heard: Mutex<Vec<Result<(), StoreError>>>,
    news: Condvar,
}

impl Told {
    pub(crate) fn new() -> Arc<Told> {
        Arc::new(Told::default())
    }

    fn tell(&self, outcome: Result<(), StoreError>) {
        self.heard.lock().push(outcome);
        self.news.notify_all();
    }

    /// Waits for the first call.
    pub(crate) fn wait(&self) -> Result<(), StoreError> {
        let mut heard = self.heard.lock();
        while heard.is_empty() {
            self.news.wait(&mut heard);
        }
        heard[0].clone()
    }

    /// What it was called with; by now everybody must have been told.
    pub(crate) fn once(&self) -> Result<(), StoreError> {
        let heard = self.heard.lock();
        assert_eq!(heard.len(), 1, "told once, not {:?}", *heard);
        heard[0].clone()
    }
}

/// Runs a scenario under schedules of each kind. Waiting without an end is a panic of the scheduler's.
pub(crate) fn explore(name: &str, scenario: fn()) -> usize {
    let count = std::env::var(MORE)
        .map_or(SCHEDULES, |text| text.parse().expect("a number of schedules of each kind"));
    let begun = Instant::now();
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    let run =
        |scheduler: Box<dyn Scheduler + Send>| Runner::new(scheduler, config.clone()).run(scenario);
    let random = run(Box::new(RandomScheduler::new_from_seed(1, count)));
    let few_switches = run(Box::new(PctScheduler::new_from_seed(2, SWITCHES, count)));
    eprintln!("{name}: {} schedules in {:?}", random + few_switches, begun.elapsed());
    random + few_switches
}
