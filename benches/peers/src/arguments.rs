//! What the program is told.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::scenario::Scenario;
use crate::stores::Kind;

/// Compares haypile::storage with other embedded stores at the work of a durable queue.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Compares these only (default: all).
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    pub(crate) peers: Vec<Kind>,
    /// Runs these only (default: all).
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    pub(crate) scenarios: Vec<Scenario>,
    /// How often everything is measured; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub(crate) size: usize,
    /// Percent of the messages that a scenario is meant for.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) scale: u64,
    /// Where to make the directory to work in, instead of the system's place for temporary files.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Prints one JSON document instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// What the program does as its own child.
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// One measurement in a process of its own, which prints its figures as a line of JSON.
    #[command(hide = true)]
    Measure(One),
}

/// One measurement.
#[derive(Clone, Debug, Args)]
pub(crate) struct One {
    #[arg(long)]
    pub(crate) peer: Kind,
    #[arg(long)]
    pub(crate) step: Step,
    /// A directory for the store alone.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) messages: u64,
    #[arg(long)]
    pub(crate) size: usize,
}

/// What the process of a measurement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Step {
    AppendOne,
    AppendHundred,
    AppendThousand,
    AppendMany,
    Drain,
    Mixed,
    /// Fills the queue, says so, and waits to be killed.
    Fill,
    /// Opens the store that is there, up to its first message.
    Reopen,
}
