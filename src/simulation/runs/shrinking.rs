//! Making a plan that fails shorter: delta debugging over its actions.
//!
//! Actions are left out, first many at a time, then fewer, for as long as the plan still fails in the same way. What is left
//! cannot do without any of its actions.

use super::Rig;
use super::execution::execute;
use super::failure::Failure;
use super::plan::Plan;

/// The shortest plan that was found, and how it fails.
pub(super) fn shrink(plan: &Plan, failure: Failure, rig: &Rig) -> (Plan, Failure) {
    let mut best = (plan.clone(), failure);
    // What comes behind the action that failed matters only if that was the end of the run.
    let mut shorter = plan.clone();
    shorter.actions.truncate(best.1.action + 1);
    still_fails(&mut best, shorter, rig);
    let mut size = best.0.actions.len().div_ceil(2);
    loop {
        let before = best.0.actions.len();
        let mut at = 0;
        while at < best.0.actions.len() {
            let mut shorter = best.0.clone();
            let end = (at + size).min(shorter.actions.len());
            shorter.actions.drain(at..end);
            if !still_fails(&mut best, shorter, rig) {
                at += size;
            }
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if best.0.actions.len() == before {
            return best;
        }
    }
}

/// Takes a plan that fails in the same way as the best one in its place.
fn still_fails(best: &mut (Plan, Failure), plan: Plan, rig: &Rig) -> bool {
    match execute(&plan, rig, false).failure {
        Some(failure) if failure.kind == best.1.kind => {
            *best = (plan, failure);
            true
        }
        _ => false,
    }
}
