//! What all scenarios run with: the directory, the time, the report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use super::disk::Probe;
use super::engine::{Engine, empty};
use super::load::{Load, Waiting};
use super::{BenchError, BenchStore, Chosen};
use crate::cli::bench::report::{Measurement, Report};
use crate::cli::interrupt;
use crate::cli::status_line::StatusLine;
use crate::cli::text;
use crate::cli::workplace::Workplace;
use crate::storage::{Clock, Options, SystemClock};

/// How long each measurement takes.
const LONG: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(400);

/// How long a new store is written to before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// So much has to be free: the segments of a store that is used and emptied again, and the file that the disk is measured with.
const ROOM: u64 = 2 << 30;

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
    line: StatusLine,
    report: Report,
}

impl Session {
    /// Makes the directory, and the file that the disk is measured with.
    pub(super) fn begin(dir: &Path, options: &BenchStore) -> Result<Session, BenchError> {
        let interrupted = interrupt::watch().map_err(BenchError::Signals)?;
        let began = Instant::now();
        let workplace = Workplace::fresh(dir, "bench")?;
        let begun =
            check_room(workplace.dir(), ROOM).and_then(|()| Probe::prepare(workplace.dir()));
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
            line: StatusLine::default(),
            report,
        })
    }

    /// The store of those scenarios that leave nothing in it. Its files have been used before: to make them is work that is done once
    /// in the life of a file, and would be in the first measurement.
    pub(super) fn engine(&mut self) -> Result<Engine, BenchError> {
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        self.say("a store, and files for it");
        let engine = Engine::create(&self.workplace.begin_data()?, Options::default())?;
        let load = Load {
            writers: 1,
            size: 16 << 10,
            batch: 1,
            waiting: Waiting::Lazy,
            window: 1,
            rate: None,
        };
        let time = self.time.min(WARM_UP);
        load.run(&engine.store, std::slice::from_ref(&engine.queue), time, &self.interrupted)?;
        empty(&engine.queue)?;
        engine.store.checkpoint()?;
        engine.settle();
        Ok(self.engine.insert(engine).clone())
    }

    /// Set when somebody wants it to end.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        self.interrupted.clone()
    }

    /// Whether there is to be more.
    pub(super) fn goes_on(&self) -> bool {
        !self.interrupted.load(Ordering::Relaxed)
    }

    /// Says what is being measured.
    pub(super) fn say(&self, what: &str) {
        self.line.say(&format!("{:>5.1} s  {what}", self.began.elapsed().as_secs_f64()));
    }

    /// Takes a measurement into the report. One that was interrupted is not what it says it is, and is left out.
    pub(super) fn take(&mut self, measurement: Measurement) {
        if self.goes_on() {
            let rate = text::number(measurement.throughput.per_second());
            self.say(&format!("{}: {rate} a second", measurement.scenario));
            self.report.measurements.push(measurement);
        }
    }

    /// Removes the directory. What was measured is told if an interruption was the only thing that kept it from its end.
    pub(super) fn end(mut self, outcome: Result<(), BenchError>) -> Result<Report, BenchError> {
        self.line.end();
        // Its files go with the directory.
        self.engine = None;
        let cleared = self.workplace.clear();
        outcome?;
        cleared?;
        self.report.interrupted = !self.goes_on();
        self.report.seconds = self.began.elapsed().as_secs_f64();
        Ok(self.report)
    }
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
