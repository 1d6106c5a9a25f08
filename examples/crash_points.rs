//! Tries as many crash points as are asked for: every state of every workload, the recovery of each of them, and a sample of the
//! recoveries of those.
//!
//!     cargo run --release --features simulation --example crash_points -- --states 10000000
//!     cargo run --release --features simulation --example crash_points -- --states 1000000 --workload "recycle"
//!     cargo run --release --features simulation --example crash_points -- --only "recycle" 12.3/4.5
//!
//! Exit code 0: the store came through all of them. 1: it did not, and the failures are told. 2: it could not be tried.
#![expect(clippy::print_stdout, reason = "it is what it is for")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use haypile::simulation::explorer::{Place, Plan, Summary, explore, explore_one, survey};
use haypile::simulation::scene::Workload;
use haypile::simulation::workloads;

static TRIED: AtomicU64 = AtomicU64::new(0);

/// How often it is told how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

const USAGE: &str = "usage: crash_points [--states NUMBER [--workload WORKLOAD]] | --only WORKLOAD PLACE (as a failure prints them)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => all(1_000_000, workloads::ALL),
        ["--states", states] => number(states).and_then(|states| all(states, workloads::ALL)),
        ["--states", states, "--workload", name] => number(states).and_then(|states| {
            let workload = named(name)?;
            all(states, std::slice::from_ref(workload))
        }),
        ["--only", workload, place] => one(workload, place),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(text) => {
            println!("{text}");
            ExitCode::from(2)
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| USAGE.to_owned())
}

fn named(name: &str) -> Result<&'static Workload, String> {
    workloads::named(name).ok_or_else(|| {
        let names: Vec<_> = workloads::ALL.iter().map(|workload| workload.name).collect();
        format!("there is no workload {name:?}; there are: {}", names.join(", "))
    })
}

fn told(workload: &Workload, summary: &Summary, seconds: f64) -> bool {
    let Summary { moments, states, failures, .. } = summary;
    let name = workload.name;
    println!("{name:<28} {moments:>8} {states:>10} {:>8} {seconds:>8.1}", failures.len());
    failures.iter().for_each(|failure| println!("{failure}"));
    failures.is_empty()
}

fn one(name: &str, place: &str) -> Result<bool, String> {
    let workload = named(name)?;
    let place: Place = place.parse().map_err(|error| format!("{error}"))?;
    let begun = Instant::now();
    let summary = explore_one(workload, &place).map_err(|error| format!("{name}: {error}"))?;
    Ok(told(workload, &summary, begun.elapsed().as_secs_f64()))
}

fn all(wanted: u64, workloads: &[Workload]) -> Result<bool, String> {
    let begun = Instant::now();
    let mut recoveries = 0;
    for workload in workloads {
        let (states, of_recovery) =
            survey(workload).map_err(|error| format!("{}: {error}", workload.name))?;
        recoveries += states * of_recovery;
    }
    // Rounded down, so that it is rather more than was asked for.
    let one_in = (recoveries / wanted.max(1)).max(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan { threads, ..Plan::long(one_in, &TRIED) };
    println!("about {recoveries} states of recoveries, of which one in {one_in} is tried");
    println!("{:<28} {:>8} {:>10} {:>8} {:>8}", "workload", "moments", "states", "failures", "s");
    let done = AtomicBool::new(false);
    let good = std::thread::scope(|scope| {
        let progress = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::park_timeout(PROGRESS);
                let states = TRIED.load(Ordering::Relaxed);
                println!("  {states} states, {:.0} s", begun.elapsed().as_secs_f64());
            }
        });
        let mut good = Ok(true);
        for workload in workloads {
            let since = Instant::now();
            match explore(workload, &plan) {
                Ok(summary) => {
                    let came_through = told(workload, &summary, since.elapsed().as_secs_f64());
                    good = good.map(|good| good && came_through);
                }
                Err(error) => good = Err(format!("{}: {error}", workload.name)),
            }
        }
        done.store(true, Ordering::Relaxed);
        progress.thread().unpark();
        good
    });
    let (states, seconds) = (TRIED.load(Ordering::Relaxed), begun.elapsed().as_secs_f64());
    println!("{states} states in {seconds:.0} s");
    good
}
