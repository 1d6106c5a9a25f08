//! Random simulation: a seed gives a workload, faults and crashes, and what has to be true of each.
//!
//! A seed gives a [`Plan`]: a list of [actions](Action) that are carried out one after the other on a [simulated
//! disk](super::SimulatedDisk). Whatever is left out of it, the rest still makes sense; so a plan that fails is made
//! shorter for as long as it fails in the same way, and what is told in the end is a trace of a few actions in words.
//!
//! What is right when something goes wrong:
//!
//! - *A write or a sync fails.* The store has failed: nothing more is taken, confirmed or written. The next open,
//!   with or without a power cut in between, has everything that was confirmed, and of the rest what one step of its
//!   history had, as a whole.
//! - *The power goes off*, in use, in the middle of an operation, or while the store is being opened. The same.
//! - *A read fails while the store is opened*, or gives a wrong bit. It does not open, and nothing is changed; never
//!   is that the end of the log. The one exception is [documented](super::statement): a bit of the last group, of
//!   which nothing says that it was durable, read wrong by the very open that looks for the end of the log.
//! - *A read fails later*, or gives a wrong bit. Messages are set aside and counted, and are back after a restart.
//! - *A place is damaged*, of a store that is stopped or in use. See [`judge`](super::judge).
//! - *The disk is full.* What is new may be refused, with these words; acknowledgements, hand-outs and deletions are
//!   not. With room everything goes on. A store that had its segments ready opens on a full disk; any other opens
//!   when there is room.
//! - *Transfers are short or interrupted.* Nobody notices.
//!
//! A store in use is compared after every action, in what is cheap to ask; read as a whole when the plan says so; and
//! after every restart as a whole against the [ledger](super::ledger). What lives here: that. It may use the engine's
//! public interface, and nothing of what it believes about its own bytes.

mod damage;
mod execution;
mod failure;
mod plan;
mod shrinking;
mod summary;
mod usage;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use self::execution::fates;
pub use self::failure::{Failure, FailureKind, Found};
pub use self::plan::{Action, Fault, FaultKind, Plan, Rot, RotKind, SEGMENT, Setup, Stop};
pub use self::summary::Summary;
use super::disk::SimulatedDisk;
use crate::storage::disk::Disk;

/// What stands between the engine and the simulated disk: nothing, unless something is to be broken on purpose.
#[derive(Clone, Copy)]
pub struct Rig {
    /// The disk that the engine is given.
    pub disk: fn(SimulatedDisk) -> Arc<dyn Disk>,
}

impl Default for Rig {
    fn default() -> Rig {
        Rig { disk: |disk| Arc::new(disk) }
    }
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rig")
    }
}

/// Carries out the plan of a seed.
///
/// # Errors
/// What must not be, with the shortest plan that leads to it.
pub fn run(seed: u64, rig: &Rig) -> Result<Summary, Box<Found>> {
    let plan = Plan::of(seed);
    let ended = execution::execute(&plan, rig, false);
    match ended.failure {
        None => Ok(ended.summary),
        Some(failure) => {
            let actions = plan.actions.len();
            let (plan, failure) = shrinking::shrink(&plan, failure, rig);
            Err(Box::new(Found { seed, actions, plan, failure }))
        }
    }
}

/// Carries out one plan; how it fails, if it does.
pub fn run_plan(plan: &Plan) -> Option<Failure> {
    execution::execute(plan, &Rig::default(), false).failure
}

/// A number that depends on every operation of a seed's run, what it wrote, and what was decided.
pub fn trace_of(seed: u64) -> u64 {
    execution::execute(&Plan::of(seed), &Rig::default(), true).trace
}
