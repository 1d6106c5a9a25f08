//! What the store and the broker need when there is much of something: messages, queues, garbage.
//!
//! `cargo bench --bench scale -- <scenario>` prints a table and asserts nothing. One scenario is one file here. Everything
//! happens in a fresh directory, which is removed at the end, and with processes that were started here.

// A benchmark looks at files from outside the engine, and is there to print.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod amplification;
mod child;
mod client;
mod compaction;
mod drain;
mod engine;
mod memory;
mod queues;
mod random;
mod reclaim;
mod restart;
mod steady;
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tempfile::TempDir;

/// Whatever stops a scenario; it is printed and nothing else.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Measures what grows with the number of messages and queues.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    scenario: Scenario,
    /// How many messages stand for a million: every scenario is that much smaller. Queues are a twentieth of it.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    messages: u64,
    /// Where to make the directory to work in, instead of the system's place for temporary files.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON object per row instead of a table.
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// Resident memory of a server that holds queued messages.
    Memory,
    /// How long a killed server takes to be ready again.
    Restart,
    /// How soon the disk space of acknowledged messages comes back.
    Reclaim,
    /// A queue in use for long, a hundredth of which stays for ever.
    Steady,
    /// How fast is published while segments are compacted.
    Compaction,
    /// Bytes written for each byte accepted.
    Amplification,
    /// How fast a backlog is read from the disk, against from memory.
    Drain,
    /// Many queues: declaring them, their memory, starting with them, publishing to them.
    Queues,
}

/// What a scenario runs with.
struct Bench {
    dir: TempDir,
    /// How many messages stand for a million.
    million: u64,
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What the engine complains about in this process.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:?} did not come to its end: {error}", arguments.scenario);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let mut builder = tempfile::Builder::new();
    builder.prefix("haypile-scale-");
    let dir = match &arguments.dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    };
    let bench = Bench { dir, million: arguments.messages.max(1000), json: arguments.json };
    match arguments.scenario {
        Scenario::Memory => memory::run(&bench),
        Scenario::Restart => restart::run(&bench),
        Scenario::Reclaim => reclaim::run(&bench),
        Scenario::Steady => steady::run(&bench),
        Scenario::Compaction => compaction::run(&bench),
        Scenario::Amplification => amplification::run(&bench),
        Scenario::Drain => drain::run(&bench),
        Scenario::Queues => queues::run(&bench),
    }
}
