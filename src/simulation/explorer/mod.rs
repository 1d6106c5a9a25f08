//! Exhaustive crash points: every moment of a recorded workload, and everything that a power cut may make of the disk then.
//!
//! For each moment before a change of the disk, and for the one at the end, each [variant](Variant) of what was pending gives a
//! *state*. In each of them the store is opened, which has to succeed, and compared with the [ledger](super::Ledger). Of some,
//! as many as the [plan](Plan) says, more is asked:
//!
//! - it goes on: a message is published and confirmed, the power goes off again, with nothing and with everything that was
//!   pending then written, and it is opened and compared again. What an open has cut off must not come back;
//! - nothing is left: when everything in it is deleted, the log holds nothing that is live;
//! - the recovery is itself recorded, and all of this is done at each of *its* moments; and so on, to a depth.
//!
//! A store on a full disk has to open too, from what it keeps for that, however many opens have been cut off before.
//!
//! Two power cuts that leave the same disk with the same knowledge are one state. What is done with which state depends on the
//! numbers of its moment and its variant alone: so a failure can be tried again by these numbers ([`Place`]).

mod plan;
mod states;
mod variants;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

pub use self::plan::{Failure, ParsePlaceError, Place, Plan, Summary};
use self::states::{State, cuts, states};
pub use self::variants::{Filling, Sectors, Variant};
use super::breaking;
use super::disk::SimulatedDisk;
use super::driver::{Driver, ReopenError};
use super::image::{Fate, Image};
use super::ledger::{KnownChange, Ledger};
use super::scene::{DIR, Moment, Recording, SceneError, Workload, record_opening};
use crate::storage::StoreError;
use crate::storage::inspect::inspect;

/// The seed of a workload's first life; each recovery has others.
const SEED: u64 = 1;

/// Explores all states of a workload that the plan asks for.
///
/// # Errors
/// The workload did not come to its end although all went well on the disk.
pub fn explore(workload: &Workload, plan: &Plan) -> Result<Summary, SceneError> {
    let recording = workload.record(SEED)?;
    let cuts = cuts(&recording, |_, _| true);
    let count = cuts.len() as u64;
    let states = states(&recording, cuts, plan.threads);
    let explorer = Explorer {
        workload,
        plan,
        states: AtomicU64::new(0),
        failures: Mutex::default(),
        done: AtomicBool::new(false),
    };
    let next = AtomicUsize::new(0);
    let broken = breaking::broken();
    let work = || {
        while !explorer.done.load(Ordering::Relaxed)
            && let Some(state) = states.get(next.fetch_add(1, Ordering::Relaxed))
        {
            explorer.state(&recording, *state, &mut Vec::new(), &|_| Ask::ByPlan);
        }
    };
    std::thread::scope(|scope| {
        // With a single one, the caller's: panics are told where its other output goes.
        for _ in 1..plan.threads {
            scope.spawn(|| breaking::with(broken, work));
        }
        work();
    });
    Ok(Summary {
        moments: recording.moments.len() as u64,
        cuts: count,
        states: explorer.states.into_inner(),
        failures: explorer.failures.into_inner(),
    })
}

/// How many states of a workload there are, and how many of the recovery of its last one.
///
/// # Errors
/// Those of [`explore`], and of the recovery.
pub fn survey(workload: &Workload) -> Result<(u64, u64), SceneError> {
    let recording = workload.record(SEED)?;
    let count = |of: &Recording| states(of, cuts(of, |_, _| true), 1).len() as u64;
    let Some(last) = recording.moments.len().checked_sub(1) else { return Ok((0, 0)) };
    let disk = workload.disk(Variant::Everything.apply(&recording.moments[last].image));
    let options = workload.options(&disk, SEED + 100);
    let (_driver, recovery) = record_opening(&disk, options, recording.ledger(last).clone())?;
    Ok((count(&recording), count(&recovery)))
}

/// Tries one state again, and everything that is asked of it.
///
/// # Errors
/// Those of [`explore`]. A place that there is not is a failure like any other.
pub fn explore_one(workload: &Workload, place: &Place) -> Result<Summary, SceneError> {
    let recording = workload.record(SEED)?;
    let plan = Plan { depth: place.steps.len(), ..Plan::quick() };
    let explorer = Explorer {
        workload,
        plan: &plan,
        states: AtomicU64::new(0),
        failures: Mutex::default(),
        done: AtomicBool::new(false),
    };
    let wanted = |depth: usize| place.steps.get(depth).map_or(Ask::All, |step| Ask::Only(*step));
    match place.steps.first() {
        Some(step) => explorer.step(&recording, *step, &mut Vec::new(), &wanted),
        None => explorer.fail(&[], "the place itself", "it is nowhere"),
    }
    Ok(Summary {
        moments: recording.moments.len() as u64,
        cuts: 1,
        states: explorer.states.into_inner(),
        failures: explorer.failures.into_inner(),
    })
}

/// What is asked of a state, beyond that it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// As much as the plan says.
    ByPlan,
    /// Everything, but no moments of its recovery.
    All,
    /// Only this moment and variant of its recovery.
    Only((usize, usize)),
}

struct Explorer<'a> {
    workload: &'a Workload,
    plan: &'a Plan,
    states: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    done: AtomicBool,
}

impl Explorer<'_> {
    fn count(&self) {
        self.states.fetch_add(1, Ordering::Relaxed);
        if let Some(tried) = self.plan.tried {
            tried.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fail(&self, path: &[(usize, usize)], what: &str, found: &str) {
        let mut failures = self.failures.lock();
        failures.push(Failure {
            workload: self.workload.name,
            place: Place { steps: path.to_vec() },
            what: what.to_owned(),
            found: found.to_owned(),
            states: self.states.load(Ordering::Relaxed),
        });
        if failures.len() >= self.plan.failures {
            self.done.store(true, Ordering::Relaxed);
        }
    }

    /// Does all that is asked of one state of a recording.
    fn state(
        &self,
        recording: &Recording,
        state: State,
        path: &mut Vec<(usize, usize)>,
        ask: &dyn Fn(usize) -> Ask,
    ) {
        let State { variant, .. } = state;
        let moment = &recording.moments[state.moment];
        path.push((state.moment, state.number));
        let depth = path.len();
        let asked = ask(depth);
        let chance = Chance::of(path);
        let ledger = recording.ledger(state.moment);
        let after = variant.apply(&moment.image);
        let share =
            if depth == 1 { self.plan.recoveries_one_in } else { self.plan.deep_recoveries_one_in };
        // A kill leaves something pending: there is more to go wrong in its recovery than in others.
        let share = if variant == Variant::Killed { share.div_ceil(20) } else { share };
        let recovers = match asked {
            Ask::ByPlan => depth < self.plan.depth && chance.one_in(1, share),
            Ask::Only(_) => true,
            Ask::All => false,
        };
        let goes_on = asked == Ask::All
            || asked == Ask::ByPlan && chance.one_in(2, self.plan.goes_on_one_in)
            || variant == Variant::Killed;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.open(after, ledger, depth, recovers, goes_on, chance)
        }));
        let outcome = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("it panicked: {}", text.unwrap_or("without a word")))
        });
        match outcome {
            Ok(Some(recovery)) if matches!(asked, Ask::Only(_)) => {
                if let Ask::Only(step) = asked {
                    self.step(&recovery, step, path, ask);
                }
            }
            Ok(Some(recovery)) => {
                let chosen = |moment, number| {
                    let number = Chance::of(&[(moment, number)]).0 ^ chance.0;
                    Chance(number).one_in(4, self.plan.deep_one_in)
                };
                for state in states(&recovery, cuts(&recovery, chosen), 1) {
                    if self.done.load(Ordering::Relaxed) {
                        break;
                    }
                    self.state(&recovery, state, path, ask);
                }
            }
            Ok(None) => {}
            Err(found) => self.fail(path, &describe(moment, variant), &found),
        }
        path.pop();
    }

    /// Does the same for the state of a recording that has these numbers.
    fn step(
        &self,
        recording: &Recording,
        (moment, number): (usize, usize),
        path: &mut Vec<(usize, usize)>,
        ask: &dyn Fn(usize) -> Ask,
    ) {
        let Some(Moment { image, .. }) = recording.moments.get(moment) else {
            return self.fail(path, "the place itself", "there is no such moment");
        };
        let Some(variant) = Variant::all(image.pending()).get(number).copied() else {
            return self.fail(path, "the place itself", "there is no such variant");
        };
        self.state(recording, State { moment, variant, number }, path, ask);
    }

    /// Opens the store on a disk in this state, compares, and goes on with it.
    fn open(
        &self,
        after: Image,
        ledger: &Ledger,
        depth: usize,
        recovers: bool,
        goes_on: bool,
        chance: Chance,
    ) -> Result<Option<Recording>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let disk = self.workload.disk(after);
        let seed = SEED + 100 * depth as u64;
        let (mut driver, recovery) = if recovers {
            self.count();
            let options = self.workload.options(&disk, seed);
            let (driver, recovery) =
                record_opening(&disk, options, ledger.clone()).map_err(|e| text(&e))?;
            (driver, Some(recovery))
        } else {
            (self.have(&disk, seed, ledger).map_err(|e| text(&e))?, None)
        };
        if goes_on {
            self.go_on(&mut driver).map_err(|e| format!("going on: {e}"))?;
            let image = disk.image();
            let ledger = driver.into_ledger();
            for fate in [Fate::Dropped, Fate::Kept] {
                let again = self.workload.disk(image.after_power_cut(|_, _| fate));
                let driver = self
                    .have(&again, seed + 50, &ledger)
                    .map_err(|e| format!("after going on, {fate:?}: {e}"))?;
                if fate == Fate::Kept && chance.one_in(3, self.plan.emptied_one_in) {
                    empty(driver, &again).map_err(|e| format!("after emptying it: {e}"))?;
                }
            }
        }
        Ok(recovery)
    }

    /// Opens the store and compares, which makes a state.
    fn have(
        &self,
        disk: &SimulatedDisk,
        seed: u64,
        ledger: &Ledger,
    ) -> Result<Driver, ReopenError> {
        self.count();
        Driver::open(DIR, self.workload.options(disk, seed), ledger.clone())
    }

    /// Publishes and confirms a message, unless the disk is full.
    fn go_on(&self, driver: &mut Driver) -> Result<(), StoreError> {
        let queue = match driver.store().queues().into_iter().next() {
            Some(queue) => queue,
            None => match driver.create_queue(b"afterwards") {
                Err(StoreError::Full) => return Ok(()),
                created => created?,
            },
        };
        let published = driver.publish("afterwards", &[&queue]).and_then(|()| driver.confirm());
        match published {
            Err(StoreError::Full) if self.workload.capacity.is_some() => Ok(()),
            outcome => outcome,
        }
    }
}

/// Deletes all that there is. What is live in the log is the last checkpoint's root then: so nothing was counted twice, nor
/// never given back.
fn empty(mut driver: Driver, disk: &SimulatedDisk) -> Result<(), String> {
    let queues = driver.store().queues();
    let entries = driver.store().entries();
    let mut changes: Vec<KnownChange> =
        queues.iter().map(|queue| KnownChange::DeleteQueue(queue.id())).collect();
    drop(queues);
    changes.extend(entries.into_iter().map(|(key, _)| KnownChange::Remove(key.to_vec())));
    driver.apply(&changes).map_err(|e| e.to_string())?;
    if driver.store().cached_bytes() > 0 || driver.store().resident_places() > 0 {
        return Err("something is still counted as being in memory".to_owned());
    }
    driver.close().map_err(|e| e.to_string())?;
    let left = inspect(&disk.shared(), Path::new(DIR)).map_err(|e| e.to_string())?;
    let live: u64 = left.segments.iter().map(|segment| segment.live_references).sum();
    if live > 1 {
        return Err(format!("{live} references are still live: {:?}", left.segments));
    }
    Ok(())
}

/// A moment and a variant in words.
fn describe(moment: &Moment, variant: Variant) -> String {
    let units = (0..).zip(moment.image.pending());
    let units =
        units.map(|(number, unit)| format!("  {number}: {}\n", moment.image.describe(unit)));
    let next = match &moment.next {
        Some(operation) => format!("before operation {operation}"),
        None => "at the end".to_owned(),
    };
    format!("{next}; {variant}; pending:\n{}", units.collect::<String>())
}

/// What is to be done with a state of this path, the same every time.
#[derive(Clone, Copy)]
struct Chance(u64);

impl Chance {
    fn of(path: &[(usize, usize)]) -> Chance {
        let mix = |sum: u64, number: usize| {
            (sum ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
        };
        let numbers = path.iter().flat_map(|(moment, variant)| [*moment, *variant]);
        Chance(numbers.fold(0x51ed_270b, mix))
    }

    /// True for one in so many, each `what` by itself; never for 0.
    fn one_in(self, what: u64, times: u64) -> bool {
        let mixed = (self.0 ^ what).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        times > 0 && (mixed >> 20).is_multiple_of(times)
    }
}
