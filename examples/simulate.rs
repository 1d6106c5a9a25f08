//! Random simulation and bit rot, for as long as one likes.
//!
//! `cargo run --release --features simulation --example simulate -- --minutes 20` runs seed after seed; `--seed 7 --seeds 1` runs
//! one. A failure ends it: the seed and the shortest trace that fails the same way are printed, and the exit code is 1.
//! `-- --bit-rot` damages every bit and every sector of a small store instead. Ctrl-C ends either, with the summary.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use haypile::simulation::bit_rot::{Extent, Specimen};
use haypile::simulation::runs::{Found, Rig, Summary, run};
use parking_lot::Mutex;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(30);

/// Puts the engine through what a disk can do to it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Stops after so many minutes; without this, and without --seeds, after one.
    #[arg(long)]
    minutes: Option<f64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Stops after so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// How many seeds are run at once.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Damages every bit and every sector of a small store instead of running seeds.
    #[arg(long)]
    bit_rot: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stopped = Arc::new(AtomicBool::new(false));
    stop_at_interrupt(stopped.clone());
    if arguments.bit_rot { bit_rot(&arguments, &stopped) } else { simulate(&arguments, &stopped) }
}

/// Has a Ctrl-C end what goes on; the second one ends it at once.
fn stop_at_interrupt(stopped: Arc<AtomicBool>) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if stopped.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            });
        }
    });
}

fn simulate(arguments: &Arguments, stopped: &AtomicBool) -> ExitCode {
    let began = Instant::now();
    let minutes = arguments.minutes.or(arguments.seeds.is_none().then_some(1.0));
    let deadline = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let end = arguments.seeds.map_or(u64::MAX, |seeds| arguments.seed.saturating_add(seeds));
    let next = AtomicU64::new(arguments.seed);
    let sum = Mutex::new(Summary::default());
    let found: Mutex<Option<Box<Found>>> = Mutex::default();
    let told = Mutex::new(began);
    // What panics is told by the trace that leads to it.
    std::panic::set_hook(Box::new(|_| {}));
    let over = || {
        stopped.load(Ordering::Relaxed) || deadline.is_some_and(|limit| began.elapsed() >= limit)
    };
    thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                while !over() && found.lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match run(seed, &Rig::default()) {
                        Ok(summary) => sum.lock().add(&summary),
                        Err(failure) => {
                            found.lock().get_or_insert(failure);
                        }
                    }
                    let mut told = told.lock();
                    if told.elapsed() >= PROGRESS {
                        *told = Instant::now();
                        let seconds = began.elapsed().as_secs();
                        println!("{} seeds in {seconds} s, at seed {seed}", sum.lock().seeds);
                    }
                }
            });
        }
    });
    println!("{}\n{:.0} s", sum.lock(), began.elapsed().as_secs_f64());
    let found = found.into_inner();
    match found {
        None => ExitCode::SUCCESS,
        Some(found) => {
            println!("\n{found}");
            ExitCode::FAILURE
        }
    }
}

fn bit_rot(arguments: &Arguments, stopped: &AtomicBool) -> ExitCode {
    let mut failed = false;
    for closed in [false, true] {
        let began = Instant::now();
        println!(
            "a store whose {}",
            if closed { "last act was to be closed" } else { "process ended" }
        );
        let specimen = match Specimen::make(closed) {
            Ok(specimen) => specimen,
            Err(error) => {
                println!("it could not be made: {error}");
                return ExitCode::FAILURE;
            }
        };
        let cases = specimen.cases(Extent::Everything);
        let told = Mutex::new(began);
        let report = specimen.sweep(&cases, arguments.threads.max(1), &|tried| {
            let mut told = told.lock();
            if told.elapsed() >= PROGRESS {
                *told = Instant::now();
                println!("{tried} of {} cases", cases.len());
            }
            !stopped.load(Ordering::Relaxed)
        });
        println!("{report}\n{:.0} s", began.elapsed().as_secs_f64());
        report.failures.iter().for_each(|failure| println!("{failure}"));
        failed |= !report.failures.is_empty();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
