//! What all scenarios run with: the directory, the time, the report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use super::backlog::SIZE;
use super::beside::CPU;
use super::disk::Probe;
use super::engine::Engine;
use super::load::{Load, Waiting};
use super::{BenchError, BenchStore, Chosen};
use crate::cli::bench::cpu::Others;
use crate::cli::bench::report::{Measurement, Parameters, Report};
use crate::cli::interrupt;
use crate::cli::status_line::StatusLine;
use crate::cli::text;
use crate::cli::workplace::Workplace;
use crate::storage::{Clock, Options, SystemClock};

/// How long each measurement takes.
const LONG: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(400);

/// What the shares mean, under the tables.
const OF_DISK: &str = "Of disk: beside the rate at which one thread writes and syncs groups of the same average size to a \
     file that was written before, and does nothing else, measured in turns with it. More than 100 %: others used the \
     processors just then (a single thread waits for its turn after each sync), or the sizes of the groups differ much.";
const ABOUT_CPU: &str =
    "CPU: of the whole process, the threads that append and acknowledge among them.";
const OF_READING: &str = "Of reading: beside reading the store's files from the front to the end.";

/// How long a new store is written to before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// How many messages a deep backlog has.
const DEEP: u64 = 2_000_000;
const SHALLOW: u64 = 200_000;

/// So many segments a store has at most that is used and emptied again. What it writes in two seconds may be on the disk besides what
/// is live.
const SEGMENTS: u64 = 24;

/// Bytes that a message takes in the log besides its body.
const OVERHEAD: u64 = 64;

/// So much has to be free in any case: the file that the disk is measured with, and a little.
const LEAST_ROOM: u64 = 256 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    workplace: Workplace,
    /// What the disk is measured with.
    pub(super) probe: Probe,
    /// How long each measurement takes.
    pub(super) time: Duration,
    pub(super) quick: bool,
    pub(super) chosen: Chosen,
    engine: Option<Engine>,
    interrupted: Arc<AtomicBool>,
    began: Instant,
    others: Others,
    line: StatusLine,
    report: Report,
}

impl Session {
    /// Makes the directory, and the file that the disk is measured with.
    pub(super) fn begin(dir: &Path, options: &BenchStore) -> Result<Session, BenchError> {
        let interrupted = interrupt::watch().map_err(BenchError::Signals)?;
        let began = Instant::now();
        let workplace = Workplace::fresh(dir, "bench")?;
        let begun = check_room(workplace.dir(), room(options))
            .and_then(|()| Probe::prepare(workplace.dir(), interrupted.clone()));
        let probe = match begun {
            Ok(probe) => probe,
            Err(error) => {
                workplace.clear()?;
                return Err(error);
            }
        };
        let mut report = Report::new("bench store", SystemClock.now().unix_millis());
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        report.setting.set("directory", dir.display().to_string()).set("cores", cores);
        let time = options.seconds.unwrap_or(if options.quick { SHORT } else { LONG });
        Ok(Session {
            workplace,
            probe,
            time,
            quick: options.quick,
            chosen: options.chosen.clone(),
            engine: None,
            interrupted,
            began,
            others: Others::watch(cores),
            line: StatusLine::default(),
            report,
        })
    }

    /// How a store works: as one in production does.
    pub(super) fn options(&self) -> Options {
        Options { segment_size: self.chosen.segment << 20, ..Options::default() }
    }

    /// The store of those scenarios that leave nothing in it.
    pub(super) fn engine(&mut self) -> Result<Engine, BenchError> {
        match &self.engine {
            Some(engine) => Ok(engine.clone()),
            None => {
                let engine = self.fresh_engine()?;
                Ok(self.engine.insert(engine).clone())
            }
        }
    }

    /// A new store, which has been used: to make its files is work that is done once in the life of a file, and would be in the first
    /// measurement. What was there before is removed.
    pub(super) fn fresh_engine(&mut self) -> Result<Engine, BenchError> {
        self.say("a store, and files for it");
        let dir = self.fresh_data()?;
        let engine = Engine::create(&dir, self.options())?;
        let load = Load { size: 16 << 10, waiting: Waiting::Lazy, ..Load::default() };
        let queues = std::slice::from_ref(&engine.queue);
        load.run(&engine.store, queues, self.time.min(WARM_UP), &self.interrupted)?;
        engine.store.checkpoint()?;
        engine.settle();
        Ok(engine)
    }

    /// Where a new store may be made; the one before is removed.
    pub(super) fn fresh_data(&mut self) -> Result<PathBuf, BenchError> {
        self.engine = None;
        Ok(self.workplace.begin_data()?)
    }

    /// What the files of the store take, in bytes.
    pub(super) fn data_bytes(&self) -> u64 {
        self.workplace.bytes()
    }

    /// Has the store's files read from the disk next, where the system can do that.
    pub(super) fn forget_files(&mut self) {
        let note = "what was to be read from the disk may have been in the system's memory still";
        if self.workplace.forget().is_err() && !self.report.notes.iter().any(|one| one == note) {
            self.report.notes.push(note.to_owned());
        }
    }

    /// Bytes of a message, in scenarios that measure one size.
    pub(super) fn size(&self, default: u64) -> u64 {
        self.chosen.size.first().copied().unwrap_or(default)
    }

    /// How many threads append, in scenarios that measure one number.
    pub(super) fn writers(&self, default: u64) -> u64 {
        self.chosen.writers.first().copied().unwrap_or(default)
    }

    /// How many messages a deep backlog has.
    pub(super) fn backlog(&self) -> u64 {
        backlog(&self.chosen, self.quick)
    }

    /// Set when somebody wants it to end.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        self.interrupted.clone()
    }

    /// Whether there is to be more.
    pub(super) fn goes_on(&self) -> bool {
        !self.interrupted.load(Ordering::Relaxed)
    }

    /// Says what is being done.
    pub(super) fn say(&self, what: &str) {
        self.line.say(&self.at_this_time(what));
    }

    /// Says on a terminal how far a measurement is.
    pub(super) fn glimpse(&self, scenario: &str, parameters: &Parameters, so_far: Option<f64>) {
        let so_far = so_far.map(|rate| format!(": {} a second so far", text::number(rate)));
        let what = format!("{scenario}{}{}", list(parameters), so_far.unwrap_or_default());
        self.line.glimpse(&self.at_this_time(&what));
    }

    fn at_this_time(&self, what: &str) -> String {
        format!("{:>5.1} s  {what}", self.began.elapsed().as_secs_f64())
    }

    /// Takes a measurement into the report. One that was interrupted is not what it says it is, and is left out.
    pub(super) fn take(&mut self, measurement: Measurement) {
        if self.goes_on() {
            let share = measurement.share.map(|one| (one.share * 100.0, one.of));
            let share = share.map(|(share, of)| format!(", {share:.0} % of {of}"));
            self.say(&format!(
                "{}{}: {} {} a second{}",
                measurement.scenario,
                list(&measurement.parameters),
                text::number(measurement.throughput.per_second()),
                measurement.throughput.counted(),
                share.unwrap_or_default()
            ));
            self.report.measurements.push(measurement);
        }
    }

    /// Removes the directory. What was measured until then is told also if something went wrong in the end.
    pub(super) fn end(mut self, outcome: Result<(), BenchError>) -> Result<Report, BenchError> {
        self.line.end();
        // Its files go with the directory.
        self.engine = None;
        let outcome = outcome.and(self.workplace.clear().map_err(BenchError::from));
        match outcome {
            Err(error) if self.report.measurements.is_empty() => return Err(error),
            Err(error) => self.report.failed = Some(error.to_string()),
            Ok(()) => {}
        }
        let shares = self.report.measurements.iter().filter_map(|one| one.share);
        let of: Vec<&str> = shares.map(|share| share.of).collect();
        if self.report.measurements.iter().any(|one| one.figures.iter().any(|all| all.name == CPU))
        {
            self.report.notes.push(ABOUT_CPU.to_owned());
        }
        let about = [("disk", OF_DISK), ("reading", OF_READING)];
        let about = about.into_iter().filter(|(what, _)| of.contains(what));
        self.report.notes.extend(about.map(|(_, note)| note.to_owned()));
        self.report.interrupted = !self.goes_on();
        self.report.others = self.others.share();
        self.report.seconds = self.began.elapsed().as_secs_f64();
        Ok(self.report)
    }
}

fn list(parameters: &Parameters) -> String {
    parameters.iter().map(|one| format!(", {} {}", one.name, one.value.text())).collect()
}

fn backlog(chosen: &Chosen, quick: bool) -> u64 {
    chosen.backlog.unwrap_or(if quick { SHALLOW } else { DEEP })
}

/// What is written at most and not given back meanwhile: what a store needs that is in use, and a backlog in it.
fn room(options: &BenchStore) -> u64 {
    let size = options.chosen.size.first().copied().unwrap_or(0).max(SIZE) + OVERHEAD;
    let segments = (options.chosen.segment << 20).saturating_mul(SEGMENTS);
    let backlog = backlog(&options.chosen, options.quick);
    segments.saturating_add(backlog.saturating_mul(size)).max(LEAST_ROOM)
}

fn check_room(dir: &Path, needed: u64) -> Result<(), BenchError> {
    let space = statvfs(dir).map_err(|error| BenchError::Io {
        action: "ask how much room there is in",
        path: dir.to_owned(),
        source: error.into(),
    })?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < needed {
        let dir = dir.parent().map_or_else(PathBuf::new, Path::to_owned);
        return Err(BenchError::NoRoom { dir, needed, free });
    }
    Ok(())
}
