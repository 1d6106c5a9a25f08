//! Measures how long other clients wait while one attacks: attack × canary, in milliseconds.
//!
//! `cargo bench --bench canary` prints a table and asserts nothing of time. Two canaries in another virtual host publish and consume
//! a message each 100 ms, a third logs in as often. A canary that loses a message, or gets one out of order, ends the program with an
//! error, and so does an attack whose operations are not answered.
//!
//! - `birds`: the canaries. `attacks`: one function each.

// A benchmark looks at files from outside the engine, and is there to print.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod attacks;
mod birds;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use self::attacks::{Attack, Sizes};
use self::support::Outcome;
use self::support::client::Place;
use self::support::server::{OTHER, Server, working_directory};

/// Measures how long others wait while a client attacks the server.
#[derive(Debug, Parser)]
struct Arguments {
    /// The attacks, by name; all of them if none is given.
    attacks: Vec<String>,
    /// The program to start instead of this build's `haypile`: for figures before and after a change.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// A server that runs already, with the virtual host `canary` and the user `guest`, instead of one that is started.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "binary")]
    address: Option<SocketAddr>,
    /// The time of the attacks that have no end of their own, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// A share of each attack's size, in percent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
    /// The parent of the working directory, instead of the system's place for temporary files.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn sizes(&self) -> Sizes {
        let share = |full: u32| (u64::from(full) * u64::from(self.percent)).div_ceil(100) as u32;
        Sizes {
            topics: share(5000),
            bindings: share(150_000),
            headers: share(2000),
            consumers: share(8),
            passwords: share(60),
            silent: share(500),
            halves: share(20),
            half: 8 << 20,
            flood: share(4000),
            arguments: share(300),
            messages: share(1_000_000),
            time: Duration::from_secs(self.seconds),
        }
    }

    fn chosen(&self) -> Outcome<Vec<Attack>> {
        if self.attacks.is_empty() {
            return Ok(Attack::EACH.to_vec());
        }
        let find = |name: &String| {
            let found = Attack::EACH.into_iter().find(|attack| attack.name() == name);
            found.ok_or_else(|| {
                let known: Vec<_> = Attack::EACH.iter().map(|attack| attack.name()).collect();
                format!("unknown attack '{name}': known are {}", known.join(", ")).into()
            })
        };
        self.attacks.iter().map(find).collect()
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let attacks = arguments.chosen()?;
    println!(
        "| attack | took s | answered | messages | p50 ms | p99 ms | max ms | login p50 ms | login max ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for attack in attacks {
        if let Some(address) = arguments.address {
            measure(attack, address, arguments.sizes())?;
            continue;
        }
        let directory = working_directory(arguments.dir.as_deref())?;
        let ours = Path::new(env!("CARGO_BIN_EXE_haypile"));
        let binary = arguments.binary.as_deref().unwrap_or(ours);
        let (server, address) = Server::start(binary, directory.path())?;
        measure(attack, address, arguments.sizes())?;
        drop(server);
    }
    Ok(())
}

/// Runs one attack beside the canaries and prints a row.
fn measure(attack: Attack, address: SocketAddr, sizes: Sizes) -> Outcome {
    let place = Place { address, virtual_host: OTHER };
    let stop = &AtomicBool::new(false);
    let joined = "a canary panicked";
    let (answered, took, mut times, (mut logins, refused)) = thread::scope(|scope| {
        let sing = |queue: &'static str| {
            scope.spawn(move || birds::sing(place, queue, stop).map_err(|error| error.to_string()))
        };
        let birds = [sing("canary.1"), sing("canary.2")];
        let logins = scope.spawn(move || birds::log_in(place, stop));
        // Their messages before the attack belong to no row.
        thread::sleep(5 * birds::PERIOD);
        let begun = Instant::now();
        let answered = attack.run(Place { address, virtual_host: "/" }, sizes);
        let took = begun.elapsed();
        stop.store(true, Relaxed);
        let mut times = Vec::new();
        for bird in birds {
            times.extend(bird.join().map_err(|_| joined)??);
        }
        let logins = logins.join().map_err(|_| joined)?;
        Ok::<_, Box<dyn Error>>((answered?, took, times, logins))
    })?;
    times.sort_unstable();
    logins.sort_unstable();
    println!(
        "| {} | {:.1} | {answered} | {} | {} | {} | {} | {} | {} | {refused} |",
        attack.name(),
        took.as_secs_f64(),
        times.len(),
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        quantile(&times, 1.0),
        quantile(&logins, 0.5),
        quantile(&logins, 1.0),
    );
    Ok(())
}

/// A quantile of sorted times, in milliseconds.
fn quantile(sorted: &[Duration], share: f64) -> String {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    let found = sorted.get(place.saturating_sub(1));
    found.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
}
