//! Measures how costs grow: `cargo bench --bench growth`.
//!
//! Each cost is paid at four sizes, each twice the one before, by a server of its own. The table has the server's processor time of one
//! unit of work at each size, by how much that grew with each doubling (the geometric mean), and the longest time that a confirmed
//! message of another client took meanwhile. A cost that grows with its work and no faster has a growth of 1.0. More than
//! [`MOST_GROWTH`] is marked. Nothing of time is asserted.
//!
//! - `costs`: one function each. `other`: the client that looks on.

// A benchmark looks at files from outside the engine, and is there to print.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod costs;
mod other;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use self::costs::{COSTS, Cost};
use self::support::Outcome;
use self::support::server::working_directory;

/// The growth of a unit's cost with each doubling beyond which it is marked.
const MOST_GROWTH: f64 = 1.3;

/// Measures what a unit of work costs at four sizes.
#[derive(Debug, Parser)]
struct Arguments {
    /// The costs, by name; all of them if none is given.
    costs: Vec<String>,
    /// The program to start instead of this build's `haypile`: for figures before and after a change.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// A share of each size, in percent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
    /// The parent of the working directory, instead of the system's place for temporary files.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The cost at one size, as measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paid {
    /// The server's processor time.
    pub(crate) processor: Duration,
    /// The units of work that were done.
    pub(crate) units: u64,
    /// The longest time of another client's message.
    pub(crate) longest: Duration,
}

impl Paid {
    fn of_a_unit(&self) -> f64 {
        self.processor.as_secs_f64() / self.units.max(1) as f64
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

fn chosen(names: &[String]) -> Outcome<Vec<&'static Cost>> {
    if names.is_empty() {
        return Ok(COSTS.iter().collect());
    }
    let find = |name: &String| {
        let known = || COSTS.iter().map(|cost| cost.name).collect::<Vec<_>>().join(", ");
        COSTS
            .iter()
            .find(|cost| cost.name == name)
            .ok_or_else(|| format!("unknown cost '{name}': known are {}", known()).into())
    };
    names.iter().map(find).collect()
}

fn run(arguments: &Arguments) -> Outcome {
    let ours = Path::new(env!("CARGO_BIN_EXE_haypile"));
    let binary = arguments.binary.as_deref().unwrap_or(ours);
    println!("| cost | of | sizes | µs of a unit | growth | longest ms of others |");
    println!("|---|---|---|---|---:|---|");
    for cost in chosen(&arguments.costs)? {
        let mut all = Vec::new();
        let sizes = [1, 2, 4, 8].map(|times| times * cost.size * arguments.percent / 100);
        for size in sizes {
            let directory = working_directory(arguments.dir.as_deref())?;
            all.push((cost.pay)(binary, directory.path(), size)?);
        }
        println!("{}", row(cost, sizes, &all));
    }
    Ok(())
}

fn row(cost: &Cost, sizes: [u32; 4], all: &[Paid]) -> String {
    let list = |texts: Vec<String>| texts.join(" / ");
    let each = list(sizes.iter().map(u32::to_string).collect());
    let units = list(all.iter().map(|paid| format!("{:.2}", paid.of_a_unit() * 1e6)).collect());
    let longest = all.iter().map(|paid| format!("{:.0}", paid.longest.as_secs_f64() * 1e3));
    let longest = list(longest.collect());
    let (first, last) = (all[0].of_a_unit(), all[all.len() - 1].of_a_unit());
    let growth = (last / first).powf(1.0 / (all.len() - 1) as f64);
    let mark = if growth > MOST_GROWTH { " **grows**" } else { "" };
    format!("| {} | {} | {each} | {units} | {growth:.2}{mark} | {longest} |", cost.name, cost.of)
}
