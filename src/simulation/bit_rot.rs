//! Bit rot: every place of a small store damaged in turn.
//!
//! The store has every kind of record, a checkpoint, a deep queue, what compaction has moved, a message that is
//! larger than a segment, and a tail behind the checkpoint. Of it, one at a time: every bit is turned round; and
//! every sector is zeros, garbage, another sector of the same file (a write that went astray), the same sector of
//! another segment, or an older version of itself (a write that was lost). What may come of it is
//! [judged](super::judge) by what the store's user knows, and by what the disk [says was durable](super::statement).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::disk::{SimulatedDisk, Verdict};
use super::driver::{Driver, ReopenError};
use super::image::{Image, SECTOR};
use super::judge::{Outcome, judge};
use super::ledger::{KnownChange, Ledger};
use super::random::Random;
use super::statement::Groups;
use crate::storage::Timestamp;
use crate::storage::{Background, Fetch, Options, Queue, Sequence, SequenceRange, StoreError};

const DIR: &str = "/store";

const SEGMENT: u64 = 16 << 10;

/// Of the format, in bytes: a page, and the headers of a segment, a group and a record.
const PAGE: usize = 4096;
const SEGMENT_HEADER: usize = 64;
const GROUP_HEADER: usize = 64;
const RECORD_FRAME: usize = 12;

/// A store to be damaged.
#[derive(Debug)]
pub struct Specimen {
    image: Image,
    ledger: Ledger,
    groups: Groups,
    /// Earlier states of its disk, the newest first.
    earlier: Vec<BTreeMap<PathBuf, Vec<u8>>>,
}

/// What happens to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "described by their `Display`")]
pub enum Kind {
    BitInUse,
    BitElsewhere,
    Zeros,
    Garbage,
    Astray,
    OtherSegment,
    Lost,
}

/// A place and what happens to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// The bit in the file, or the first bit of the sector.
    pub bit: u64,
    sector: Box<[u8; SECTOR]>,
}

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every sector, and of every so many bytes that are in use one a bit.
    Bytes(usize),
    /// Every sector, every bit of what is in use, and every 61st bit of the rest.
    Everything,
}

/// What came of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cases, by what happened and what came of it.
    pub cases: BTreeMap<(Kind, Outcome), u64>,
    /// What must not be.
    pub failures: Vec<String>,
}

impl Specimen {
    /// Makes the store. `closed`: properly, so that a checkpoint is the last thing in its log; otherwise its process
    /// ended.
    ///
    /// # Errors
    /// Making it has nothing to do with damage: any error is a defect.
    pub fn make(closed: bool) -> Result<Specimen, ReopenError> {
        let disk = SimulatedDisk::new();
        let groups = Arc::new(Mutex::new(Groups::new(SEGMENT)));
        let noted = groups.clone();
        disk.direct(move |operation, _| {
            noted.lock().note(operation);
            Verdict::Proceed
        });
        let mut earlier = Vec::new();
        let mut keep = || earlier.insert(0, disk.image().contents());
        let failed = |error: StoreError| ReopenError::Read(error.to_string());
        let mut driver = Driver::open(DIR, options(&disk, 1), Ledger::new())?;
        fill(&mut driver, &mut keep).map_err(failed)?;
        let mut driver = Driver::open(DIR, options(&disk, 2), driver.into_ledger())?;
        go_on(&mut driver, &mut keep).map_err(failed)?;
        let ledger = match closed {
            true => driver.close().map_err(failed)?,
            false => driver.into_ledger(),
        };
        let groups = groups.lock().clone();
        Ok(Specimen { image: disk.image(), ledger, groups, earlier })
    }

    /// What is to be tried.
    pub fn cases(&self, extent: Extent) -> Vec<Case> {
        let contents = self.image.contents();
        let mut cases = Vec::new();
        for (path, bytes) in &contents {
            for (number, sector) in bytes.chunks_exact(SECTOR).enumerate() {
                let at = number * SECTOR;
                let mut add = |kind, other: Option<&[u8]>| {
                    let other = other.filter(|other| *other != sector);
                    let other = other.and_then(|other| other.try_into().ok());
                    let bit = at as u64 * 8;
                    cases.extend(other.map(|s| Case {
                        kind,
                        path: path.clone(),
                        bit,
                        sector: Box::new(s),
                    }));
                };
                let random = Random::new(at as u64);
                let garbage: Vec<u8> = (0..SECTOR).map(|_| random.next() as u8).collect();
                add(Kind::Zeros, Some(&[0; SECTOR]));
                add(Kind::Garbage, Some(&garbage));
                let mut others =
                    bytes.chunks_exact(SECTOR).cycle().skip(number + 1).take(bytes.len() / SECTOR);
                add(
                    Kind::Astray,
                    others.find(|other| *other != sector && other.iter().any(|b| *b != 0)),
                );
                let other = contents
                    .iter()
                    .filter(|(other, _)| *other != path && is_segment(other) && is_segment(path));
                let mut others = other.filter_map(|(_, bytes)| bytes.get(at..at + SECTOR));
                add(Kind::OtherSegment, others.find(|other| *other != sector));
                let mut older =
                    self.earlier.iter().filter_map(|files| files.get(path)?.get(at..at + SECTOR));
                add(Kind::Lost, older.find(|older| *older != sector));
            }
            let used = in_use(path, bytes);
            for bit in 0..bytes.len() as u64 * 8 {
                let (byte, used) = ((bit / 8) as usize, used[(bit / 8) as usize]);
                let wanted = match (extent, used) {
                    (Extent::Everything, true) => true,
                    (Extent::Everything, false) => bit % 61 == 0,
                    // Another bit of each.
                    (Extent::Bytes(n), true) => byte % n == 0 && bit % 8 == byte as u64 / 3 % 8,
                    (Extent::Bytes(_), false) => bit % 4001 == 0,
                };
                let at = byte / SECTOR * SECTOR;
                if let Some(sector) = bytes.get(at..at + SECTOR).filter(|_| wanted) {
                    let mut sector: Box<[u8; SECTOR]> =
                        Box::new(sector.try_into().expect("a slice of a sector's length"));
                    sector[byte - at] ^= 1 << (bit % 8);
                    let kind = if used { Kind::BitInUse } else { Kind::BitElsewhere };
                    cases.push(Case { kind, path: path.clone(), bit, sector });
                }
            }
        }
        cases
    }

    /// The kinds of the records on its disk, by their numbers in `docs/format.md`.
    pub fn record_kinds(&self) -> BTreeSet<u8> {
        let mut kinds = BTreeSet::new();
        for (_, bytes) in self.image.contents().iter().filter(|(path, _)| is_segment(path)) {
            for (at, length) in groups(bytes) {
                let mut record = at + GROUP_HEADER;
                while record < at + GROUP_HEADER + length {
                    kinds.insert(bytes[record + 8]);
                    record += RECORD_FRAME + number_at(bytes, record + 4);
                }
            }
        }
        kinds
    }

    /// Damages a place of a copy, and sees what comes of it.
    ///
    /// # Errors
    /// What must not be, in words.
    pub fn try_case(&self, case: &Case) -> Result<Outcome, String> {
        let mut damaged = self.image.clone();
        damaged.corrupt(&case.path, case.bit / 8, |bytes| *bytes = *case.sector);
        let unproven = self.groups.unproven_at(&self.image, &case.path, case.bit / 8);
        judge(&damaged, DIR.as_ref(), &self.ledger, unproven, &|disk| options(disk, 3))
            .map_err(|what| format!("{case}: {what}"))
    }

    /// Tries cases on so many threads. `progress` is told how many have been tried, now and then; false: stop here.
    pub fn sweep(
        &self,
        cases: &[Case],
        threads: usize,
        progress: &(dyn Fn(usize) -> bool + Sync),
    ) -> Report {
        let report = Mutex::new(Report::default());
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = self.try_case(case);
                        let mut report = report.lock();
                        match outcome {
                            Ok(outcome) => {
                                *report.cases.entry((case.kind, outcome)).or_default() += 1;
                            }
                            Err(what) => report.failures.push(what),
                        }
                        drop(report);
                        let tried = next.load(Ordering::Relaxed);
                        if tried.is_multiple_of(512) && !progress(tried) {
                            return;
                        }
                    }
                });
            }
        });
        report.into_inner()
    }
}

fn options(disk: &SimulatedDisk, seed: u64) -> Options {
    Options {
        segment_size: SEGMENT,
        segments_ahead: 1,
        segments_spare: 1,
        checkpoint_distance: u64::MAX,
        // So that indexes, and what is transient, are left to the log.
        cache: 0,
        index: 0,
        chunk_places: 16,
        background: Background::Caller,
        disk: Arc::new(disk.clone()),
        entropy: Arc::new(Random::new(seed)),
        clock: Arc::new(Timestamp::from_unix_millis(0)),
        ..Options::default()
    }
}

/// Everything that a store can have in it.
fn fill(driver: &mut Driver, keep: &mut dyn FnMut()) -> Result<(), StoreError> {
    let deep = driver.create_queue(b"deep")?;
    let other = driver.create_queue(b"other")?;
    let passing = driver.create_queue(b"passing")?;
    let entry = |key: u8| KnownChange::Put(vec![key], vec![key; 40]);
    driver.apply(&[entry(1), entry(2)])?;
    for n in 0..300_u32 {
        let both = [&deep, &other];
        let queues = if n % 9 == 0 { &both[..] } else { &both[..1] };
        driver.publish(format!("message {n} of many"), queues)?;
        if n % 50 == 49 {
            driver.confirm()?;
            keep();
        }
    }
    driver.publish("x".repeat(SEGMENT as usize + 200), &[&other])?;
    driver.publish("in passing", &[&passing, &deep])?;
    driver.confirm()?;
    driver.store().checkpoint()?;
    keep();
    // Of the first segments most goes, and compaction moves the rest.
    let range =
        |first, last| SequenceRange { first: Sequence::new(first), last: Sequence::new(last) };
    driver.acknowledge(&deep, &[range(3, 7), range(9, 60), range(62, 96)])?;
    hand_out(driver, &deep, 2)?;
    driver.confirm()?;
    driver.store().compact()?;
    keep();
    driver.apply(&[KnownChange::DeleteQueue(passing.id()), KnownChange::Remove(vec![1])])?;
    driver.store().checkpoint()?;
    keep();
    Ok(())
}

/// Behind the checkpoint a tail of several groups, which an open has to replay.
fn go_on(driver: &mut Driver, keep: &mut dyn FnMut()) -> Result<(), StoreError> {
    let mut queues = driver.store().queues();
    queues.sort_by_key(Queue::id);
    let [deep, other] = &queues[..] else { return Ok(()) };
    let entry = |key: u8| KnownChange::Put(vec![key], vec![key; 40]);
    for n in 0..24_u32 {
        driver.publish(format!("late {n}"), &[other, deep])?;
        driver.publish_transient(format!("passing {n}"), &[other])?;
        if n % 3 == 2 {
            driver.acknowledge(other, &[SequenceRange::one(Sequence::new(n.into()))])?;
            hand_out(driver, other, 3)?;
            driver.confirm()?;
            keep();
        }
    }
    driver.apply(&[entry(3), KnownChange::Remove(vec![2])])?;
    driver.publish("the last but one", &[deep])?;
    driver.confirm()?;
    // Not the first group of its segment: of that one the superblock knows.
    driver.publish("the last of all", &[deep])?;
    driver.confirm()
}

fn hand_out(driver: &mut Driver, queue: &Queue, count: usize) -> Result<(), StoreError> {
    let mut fetched = Vec::new();
    while queue.fetch(Sequence::FIRST, count, &mut fetched) == Fetch::NeedsLoad {
        queue.load(Sequence::FIRST)?;
    }
    let counts: Vec<_> =
        fetched.iter().map(|found| (found.sequence, found.deliveries + 1)).collect();
    driver.deliver(queue, &counts)
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "segment")
}

/// Where groups begin in a segment's file, and the bytes of their records.
fn groups(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let pages = (PAGE..bytes.len()).step_by(PAGE);
    let begins = pages.filter(|at| bytes[at + 4..at + 8] == *b"HAYG");
    begins.map(|at| (at, number_at(bytes, at + 32)))
}

fn number_at(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes) as usize
}

/// Which bytes of a file mean something: headers, and groups from their first byte to the last one of their records.
fn in_use(path: &Path, bytes: &[u8]) -> Vec<bool> {
    let mut used = vec![false; bytes.len()];
    let mut mark = |from: usize, count: usize| used[from..from + count].fill(true);
    if !is_segment(path) {
        mark(0, SECTOR);
        mark(PAGE, SECTOR);
        return used;
    }
    mark(0, SEGMENT_HEADER);
    groups(bytes).for_each(|(at, length)| mark(at, GROUP_HEADER + length));
    used
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::BitInUse => "a bit of what is in use",
            Kind::BitElsewhere => "a bit of what is stale or zero",
            Kind::Zeros => "a sector of zeros",
            Kind::Garbage => "a sector of garbage",
            Kind::Astray => "another sector of the same file",
            Kind::OtherSegment => "the same sector of another segment",
            Kind::Lost => "an older version of a sector",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { kind, path, bit, .. } = self;
        write!(f, "{kind}, at bit {} of byte {} of {}", bit % 8, bit / 8, path.display())
    }
}

impl Report {
    /// How many cases there were.
    pub fn tried(&self) -> u64 {
        self.cases.values().sum::<u64>() + self.failures.len() as u64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, outcome), count) in &self.cases {
            writeln!(f, "{count:>9} {kind}: {outcome}")?;
        }
        write!(f, "{:>9} cases, {} failures", self.tried(), self.failures.len())
    }
}
