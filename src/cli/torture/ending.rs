//! How the program under torture ends, and whether it was right to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::TortureError;
use super::defect::DefectKind;
use super::faults::SYNC_FAILS_NOW;
use super::oracle::Oracle;
use super::plan::{Ending, Round};
use super::process::{Process, describe};
use crate::cli::workplace::Workplace;

/// How long an end that was asked for, or that has to come, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the size of the files is looked at.
const MEASURED: Duration = Duration::from_millis(100);

/// What bounds a torture.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// Somebody wants it to end.
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) deadline: Instant,
    /// Bytes that the files of the store may take.
    pub(super) disk_limit: u64,
}

/// What became of the program.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) by_itself: bool,
    /// For the line about the round.
    pub(super) text: String,
}

impl Bounds {
    /// A round publishes so many bytes at most.
    pub(super) fn budget(&self) -> u64 {
        self.disk_limit / 16
    }

    /// From so many bytes of files on, nothing stays in the queues.
    pub(super) fn is_much(&self, bytes: u64) -> bool {
        bytes > self.disk_limit / 2
    }

    /// Whether there is time for more.
    pub(super) fn goes_on(&self) -> bool {
        !self.interrupted.load(Ordering::Relaxed) && Instant::now() < self.deadline
    }
}

/// Lets the program work for as long as the round wants, and ends it. `over` is set just before.
pub(super) fn end(
    process: &mut Process,
    round: &Round,
    bounds: &Bounds,
    workplace: &Workplace,
    over: &AtomicBool,
    oracle: &Mutex<Oracle>,
) -> Result<Ended, TortureError> {
    let began = Instant::now();
    let mut measured = began;
    let mut early = process
        .wait_while(|| {
            if measured.elapsed() > MEASURED {
                measured = Instant::now();
                if workplace.bytes() > bounds.disk_limit {
                    return false;
                }
            }
            began.elapsed() < round.works_for && bounds.goes_on()
        })
        .map_err(TortureError::Control)?;
    let misbehaved = |text: String| oracle.lock().defect(DefectKind::Misbehaved, text);
    if early.is_none() && process.last_words().contains(SYNC_FAILS_NOW) {
        early = process.wait_for(PATIENCE).map_err(TortureError::Control)?;
        if early.is_none() {
            misbehaved(format!("a sync failed, and it still ran {} s later", PATIENCE.as_secs()));
        }
    }
    over.store(true, Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f64();
    if let Some(status) = early {
        let words = process.last_words();
        match round.ending {
            Ending::SyncFails(_)
                if matches!(status.code(), Some(1 | 2)) && tells_of_sync(&words) =>
            {
                let text = format!("ended by a failed sync after {seconds:.2} s");
                return Ok(Ended { by_itself: true, text });
            }
            _ => misbehaved(format!("it ended by itself: {}", describe(status))),
        }
        return Ok(Ended {
            by_itself: true,
            text: format!("ended by itself, {}", describe(status)),
        });
    }
    let text = match round.ending {
        Ending::Terminated => {
            process.terminate().map_err(TortureError::Control)?;
            match process.wait_for(PATIENCE).map_err(TortureError::Control)? {
                Some(status) if status.code() == Some(0) => {}
                // Closing does not wait for room; what was not confirmed may be given up for want of it.
                Some(status) if status.code() == Some(1) && is_full(&process.last_words()) => {}
                Some(status) => misbehaved(format!("SIGTERM ended it with {}", describe(status))),
                None => misbehaved(format!("SIGTERM did not end it in {} s", PATIENCE.as_secs())),
            }
            format!("ended cleanly after {seconds:.2} s")
        }
        Ending::DiskFull(_) => {
            process.kill().map_err(TortureError::Control)?;
            format!("killed with a full disk after {seconds:.2} s")
        }
        Ending::Killed | Ending::SyncFails(_) => {
            process.kill().map_err(TortureError::Control)?;
            format!("killed after {seconds:.2} s")
        }
    };
    Ok(Ended { by_itself: false, text })
}

/// Whether a program that could not begin, on a disk that fails, was right: the error has to say what it met.
pub(super) fn may_refuse(ending: Ending, code: Option<i32>, words: &str) -> bool {
    match ending {
        Ending::SyncFails(_) => matches!(code, Some(1 | 2)) && tells_of_sync(words),
        Ending::DiskFull(_) => code == Some(2) && is_full(words),
        Ending::Killed | Ending::Terminated => false,
    }
}

/// The program's own complaint is about the failed sync.
fn tells_of_sync(words: &str) -> bool {
    words.contains(SYNC_FAILS_NOW) && complaint(words).contains("made by the torture")
}

/// The program's own complaint is about a full disk.
pub(super) fn is_full(words: &str) -> bool {
    ["disk is full", "full disk"].iter().any(|text| complaint(words).contains(text))
}

fn complaint(words: &str) -> &str {
    words.lines().rfind(|line| line.starts_with("haypile: ")).unwrap_or_default()
}
