//! One fault at a time: a workload is played again and again, each time with another operation of its disk going wrong.
//!
//! Whatever becomes of the workload then (it may fail, or go on as if nothing were), the store's user tries to go on; then the
//! power goes off, with nothing and with everything that was pending written, and the store has to come back as what it may be.
//! So nothing is confirmed on the strength of a sync that failed, and what cannot be read is never taken for the end of the
//! log. A process that is started again *without* a power cut after a failed sync is not tried here.

use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::breaking;
use super::disk::{Operation, OperationKind, SimulatedDisk, Verdict};
use super::driver::{Driver, ReopenError};
use super::image::{Fate, Image};
use super::scene::{DIR, Scene, SceneError, Workload};
use crate::storage::OpenError;

/// What goes wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, as on a broken disk.
    Error,
    /// There is no room for it, once.
    NoRoom,
    /// A read or a write moves 512 bytes at most.
    Short,
    /// A read or a write is interrupted by a signal.
    Interrupted,
}

const ALL: [Fault; 4] = [Fault::Error, Fault::NoRoom, Fault::Short, Fault::Interrupted];

impl Fault {
    fn applies(self, operation: &Operation) -> bool {
        use OperationKind::{Create, Read, Rename, Write};
        match self {
            Fault::Error => true,
            Fault::NoRoom => matches!(operation.kind, Create | Rename { .. } | Write { .. }),
            Fault::Short => match operation.kind {
                Read { bytes, .. } | Write { bytes, .. } => bytes > 512,
                _ => false,
            },
            Fault::Interrupted => matches!(operation.kind, Read { .. } | Write { .. }),
        }
    }

    fn verdict(self) -> Verdict {
        match self {
            Fault::Error => Verdict::Fail(ErrorKind::Other),
            Fault::NoRoom => Verdict::Fail(ErrorKind::StorageFull),
            Fault::Short => Verdict::Short(512),
            Fault::Interrupted => Verdict::Fail(ErrorKind::Interrupted),
        }
    }

    /// Nobody has to notice.
    fn is_harmless(self) -> bool {
        matches!(self, Fault::Short | Fault::Interrupted)
    }
}

/// A fault that the store did not come through.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The workload.
    pub workload: &'static str,
    /// What went wrong, and where.
    pub fault: (Fault, u64),
    /// The operation in words.
    pub operation: String,
    /// What was found, and what should have been.
    pub found: String,
    /// How many runs there had been.
    pub runs: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fault, number) = self.fault;
        let Failure { workload, operation, found, .. } = self;
        write!(f, "workload {workload:?}, {fault:?} at operation {number} ({operation}): {found}")
    }
}

/// What came of all faults.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs of the workload.
    pub runs: u64,
    /// Those that did not end as they should, three at most.
    pub failures: Vec<Failure>,
}

/// Plays a workload with one operation in so many going wrong, in each way that there is for it.
///
/// # Errors
/// The workload did not come to its end although all went well on the disk.
pub fn sweep(workload: &Workload, one_in: u64, threads: usize) -> Result<Summary, SceneError> {
    let operations = operations(workload)?;
    let wanted = operations.iter().filter(|operation| operation.number.is_multiple_of(one_in));
    let cases: Vec<(Fault, &Operation)> = wanted
        .flat_map(|operation| ALL.map(|fault| (fault, operation)))
        .filter(|(fault, operation)| fault.applies(operation))
        .collect();
    let (next, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let failures = Mutex::new(Vec::new());
    let broken = breaking::broken();
    let work = || {
        while !done.load(Ordering::Relaxed) {
            let runs = next.fetch_add(1, Ordering::Relaxed);
            let Some((fault, operation)) = cases.get(runs as usize) else { break };
            let outcome =
                catch_unwind(AssertUnwindSafe(|| run(workload, *fault, operation.number)));
            let Err(found) = outcome.unwrap_or_else(|_| Err("it panicked".to_owned())) else {
                continue;
            };
            let mut failures = failures.lock();
            failures.push(Failure {
                workload: workload.name,
                fault: (*fault, operation.number),
                operation: operation.to_string(),
                found,
                runs: runs + 1,
            });
            done.store(failures.len() >= 3, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| breaking::with(broken, work));
        }
        work();
    });
    Ok(Summary { runs: next.into_inner().min(cases.len() as u64), failures: failures.into_inner() })
}

/// All operations of a run in which nothing goes wrong.
fn operations(workload: &Workload) -> Result<Vec<Operation>, SceneError> {
    let disk = workload.disk(Image::default());
    let noted = Arc::new(Mutex::new(Vec::new()));
    let sink = noted.clone();
    disk.direct(move |operation, _| {
        sink.lock().push(operation.clone());
        Verdict::Proceed
    });
    let mut scene = Scene::on(*workload, disk, 1);
    scene.open()?;
    (workload.play)(&mut scene)?;
    drop(scene);
    Ok(std::mem::take(&mut *noted.lock()))
}

fn run(workload: &Workload, fault: Fault, number: u64) -> Result<(), String> {
    let disk = workload.disk(Image::default());
    disk.direct(
        move |operation, _| {
            if operation.number == number { fault.verdict() } else { Verdict::Proceed }
        },
    );
    let mut scene = Scene::on(*workload, disk.clone(), 1);
    let opened = scene.open().map_err(SceneError::Reopen);
    match opened.and_then(|()| (workload.play)(&mut scene)) {
        Ok(()) => {}
        Err(error) if fault.is_harmless() => return Err(format!("it was noticed: {error}")),
        Err(SceneError::Reopen(ReopenError::Mismatch(mismatch))) => {
            return Err(format!("in the middle of it: {mismatch}"));
        }
        // That something cannot be read is to be said as it is: nothing else is known of it.
        Err(SceneError::Reopen(ReopenError::Open(OpenError::Damaged(damage))))
            if !damage.what.contains(&std::io::Error::from(ErrorKind::Other).to_string()) =>
        {
            return Err(format!("in the middle of it: {damage}"));
        }
        Err(_) => {}
    }
    // Whoever does not take no for an answer is not told anything else, unless it is true.
    for number in 0..2 {
        if let Some(driver) = scene.try_driver()
            && let Some(queue) = driver.store().queues().into_iter().next()
        {
            let published = driver.publish(format!("all the same {number}"), &[&queue]);
            // Only what this says is known: an error is an answer like any other.
            let _answer = published.and_then(|()| driver.confirm());
        }
    }
    disk.undirect();
    let ledger = scene.into_ledger();
    let image = disk.image();
    for fate in [Fate::Dropped, Fate::Kept] {
        let after = SimulatedDisk::of(image.after_power_cut(|_, _| fate));
        let options = workload.options(&after, 1000);
        Driver::open(DIR, options, ledger.clone())
            .map_err(|error| format!("after a power cut, {fate:?}: {error}"))?;
    }
    Ok(())
}
