//! Each rule of the engine broken on purpose: somebody has to notice. Where nobody can, because another rule covers it, that is
//! said, with the reason, and it has to stay true.

use std::sync::atomic::{AtomicUsize, Ordering};

use haypile::simulation::explorer::{Plan, explore, explore_one};
use haypile::simulation::faults::sweep;
use haypile::simulation::{Mutant, with_mutant, workloads};
use parking_lot::Mutex;

/// Who is to notice.
#[derive(Clone, Copy)]
enum Net {
    /// The crash points of this workload.
    CrashPoints(&'static str),
    /// The faults of this workload.
    Faults(&'static str),
    /// Nobody, in all of these workloads' crash points, because of this.
    Covered(&'static [&'static str], &'static str),
}

use Net::{Covered, CrashPoints, Faults};

const TABLE: &[(Mutant, Net)] = &[
    (
        Mutant::CutUnsynced,
        Covered(
            &["killed and started again"],
            "the end is told by the first record of the first group of a fresh segment: nothing is confirmed before it",
        ),
    ),
    (
        Mutant::RecycleWithoutSalt,
        Covered(
            &["recycle"],
            "a segment's number and the place in the log are in every checksum too, and are never used twice",
        ),
    ),
    (
        Mutant::TrustCachedDirectory,
        Covered(
            &["publish and confirm", "killed and started again"],
            "every open makes a segment ready, and syncs the directory for it, before it writes to the log",
        ),
    ),
    (
        Mutant::TrustCachedTail,
        Covered(
            &["publish and confirm", "killed and started again"],
            "of a group that another one follows the sync had succeeded, and the last one is written anew",
        ),
    ),
    (Mutant::SkipDirectorySync, CrashPoints("publish and confirm")),
    (Mutant::KeepOldName, CrashPoints("close and open again")),
    (Mutant::UnnamedSegment, CrashPoints("publish and confirm")),
    (Mutant::SkipParentSync, CrashPoints("publish and confirm")),
    (Mutant::SkipFileSync, CrashPoints("publish and confirm")),
    (Mutant::ConfirmBeforeSync, CrashPoints("publish and confirm")),
    (Mutant::TrustLength, CrashPoints("deep queue")),
    (Mutant::RecycleEarly, CrashPoints("recycle")),
    (Mutant::PointEarly, CrashPoints("checkpoint")),
    (Mutant::OverwriteBothCopies, CrashPoints("checkpoint")),
    (Mutant::TrustCachedSuperblock, CrashPoints("roll over")),
    (Mutant::ShareSectors, CrashPoints("publish and confirm")),
    (Mutant::AcknowledgeFuture, CrashPoints("acknowledge and hand out")),
    (
        Mutant::MoveUnchecked,
        Covered(
            &["compaction", "compaction of a deep queue"],
            "a move releases what is counted for the place where the index has the message, and nothing else",
        ),
    ),
    (Mutant::ForgetDirectory, CrashPoints("deep queue")),
    (Mutant::DivideUnits, CrashPoints("applied together")),
    (Mutant::ConfirmUnnoted, CrashPoints("oversized message")),
    (Mutant::IgnoreReadError, Faults("close and open again")),
    (Mutant::RetrySync, Faults("publish and confirm")),
    (Mutant::GoOnAfterFailure, Faults("publish and confirm")),
    (Mutant::BelieveShortWrite, Faults("publish and confirm")),
];

/// How many states or runs there were, and what was noticed in the last of them.
fn cast(mutant: Mutant, net: Net) -> (u64, Option<String>) {
    let workload = |name: &str| workloads::named(name).unwrap();
    let plan = Plan { threads: 1, failures: 1, ..Plan::quick() };
    let crash_points = |name, plan: &Plan| {
        let summary = with_mutant(mutant, || explore(workload(name), plan));
        // A workload that cannot even be played to its end is noticed as well.
        let summary = summary.map(|s| (s.states, s.failures.first().map(ToString::to_string)));
        summary.unwrap_or_else(|error| (0, Some(error.to_string())))
    };
    match net {
        CrashPoints(name) => crash_points(name, &plan),
        Faults(name) => {
            let summary = with_mutant(mutant, || sweep(workload(name), 1, 1)).unwrap();
            let first = summary.failures.first();
            let runs = first.map_or(summary.runs, |failure| failure.runs);
            (runs, first.map(ToString::to_string))
        }
        Covered(names, _) => {
            let all = names.iter().map(|name| crash_points(*name, &plan));
            all.fold((0, None), |(sum, found), (states, more)| (sum + states, found.or(more)))
        }
    }
}

#[test]
fn whoever_breaks_a_rule_is_found_out() {
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let wrong = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((mutant, net)) = TABLE.get(at) else { break };
            let (tried, found) = cast(*mutant, *net);
            let name = format!("{mutant:?}");
            let outcome = match net {
                CrashPoints(workload) => {
                    format!("caught by crash points of {workload:?}, state {tried}")
                }
                Faults(workload) => format!("caught by faults in {workload:?}, run {tried}"),
                Covered(_, reason) => format!("not to be seen in {tried} states: {reason}"),
            };
            lines.lock().push((at, format!("{name:<22} {outcome}")));
            let covered = matches!(net, Covered(..));
            if covered != found.is_none() {
                let found = found.unwrap_or_else(|| format!("nothing, in {tried} states"));
                wrong.lock().push(format!("{name}: {found}"));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let mut lines = lines.into_inner();
    lines.sort();
    lines.iter().for_each(|(_, line)| println!("{line}"));
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_failure_is_found_again_by_the_numbers_that_it_prints() {
    let workload = workloads::named("publish and confirm").unwrap();
    let plan = Plan { failures: 1, ..Plan::quick() };
    let summary = with_mutant(Mutant::ConfirmBeforeSync, || explore(workload, &plan)).unwrap();
    let [failure] = &summary.failures[..] else { panic!("{:?}", summary.failures) };
    let place = failure.place.to_string().parse().unwrap();
    let again = with_mutant(Mutant::ConfirmBeforeSync, || explore_one(workload, &place)).unwrap();
    let again: Vec<String> = again.failures.iter().map(ToString::to_string).collect();
    assert_eq!(again, [failure.to_string()]);
    let kept = explore_one(workload, &place).unwrap();
    assert!(kept.failures.is_empty() && kept.states > 0, "{:?}", kept.failures);
}
