//! `haypile bench store`: the engine on somebody's disk, beside what that disk can do.
//!
//! What lives here: the command and its scenarios, one file each. Everything happens in a new directory, which is removed at the
//! end. A scenario uses the engine's public interface and no more, as a program that embeds it does.
//!
//! | file | what it is |
//! |---|---|
//! | `scenario` | what can be measured |
//! | `session` | what all scenarios run with: the directory, the time, the report |
//! | `disk` | the disk itself |
//! | `append`, `acknowledge`, `queues`, `drain`, `recovery`, `compaction` | the scenarios of the engine |
//! | `engine`, `load`, `backlog` | a store to be measured, writers for it, a deep queue in it |
//! | `beside` | measuring the engine and the disk in turn |

mod acknowledge;
mod append;
mod backlog;
mod beside;
mod compaction;
mod disk;
mod drain;
mod engine;
mod load;
mod queues;
mod recovery;
mod scenario;
mod session;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use self::load::Waiting;
use self::scenario::Scenario;
use self::session::Session;
use super::report::Report;
use super::{Output, conclude, seconds};
use crate::cli::DONE;
use crate::cli::output::say;
use crate::cli::workplace::WorkplaceError;
use crate::storage::{OpenError, StoreError};

/// Measure the engine on a disk, and the disk itself: every rate is shown as a share of what the disk can do.
///
/// Works in a new directory bench-N in DIR, which is removed at the end; nothing else in DIR is touched. Ctrl-C ends it with what
/// was measured until then. Exit code 0: done. 1: something that was stored did not come back, or the plot could not be written.
/// 2: it could not run.
#[derive(Debug, clap::Args)]
pub(super) struct BenchStore {
    /// Where to work: on the disk that is to be measured. Made if it is not there.
    #[arg(value_name = "DIR", required_unless_present = "list")]
    dir: Option<PathBuf>,
    /// Measure these alone, in the given order; may be repeated. Default: all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// How long each measurement takes, in seconds; fractions are fine. Default: 3; with --quick 0.4.
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Measure less, and each for a shorter time: half a minute in all.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    chosen: Chosen,
    /// Say what can be measured, and end.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    output: Output,
}

/// What appends, and what is appended.
#[derive(Clone, Debug, clap::Args)]
struct Chosen {
    /// How many threads append. Of all these lists `append` measures every combination; other scenarios take the first of each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1024))]
    writers: Vec<u64>,
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(0..=1 << 24))]
    size: Vec<u64>,
    /// How many messages are appended before they are waited for together.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: Vec<u64>,
    /// Whether a writer waits: for each batch, for the oldest of a window, or (lazy) not at all.
    #[arg(long, value_name = "MODE,…", value_delimiter = ',')]
    sync: Vec<Waiting>,
    /// How many messages of a writer are not durable at most, with --sync window.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,
    /// Messages a second, of all writers together, in the scenario `rate`.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Vec<u64>,
    /// How many messages a deep backlog has. Default: 2,000,000; with --quick 200,000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=1_000_000_000))]
    backlog: Option<u64>,
    /// The size of a segment file.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    segment: u64,
}

impl Chosen {
    /// Whether nothing was chosen of what `append` measures.
    fn is_default(&self) -> bool {
        self.writers.is_empty()
            && self.size.is_empty()
            && self.batch.is_empty()
            && self.sync.is_empty()
    }
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Output(#[from] super::OutputError),
    #[error(transparent)]
    Directory(#[from] WorkplaceError),
    #[error(
        "this needs {} in {} and there are {}: free some, choose another directory, or measure less \
         (--quick, --scenario)", crate::cli::text::bytes(*needed), dir.display(), crate::cli::text::bytes(*free)
    )]
    NoRoom { dir: PathBuf, needed: u64, free: u64 },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("a store that was opened again has lost its queue")]
    NoQueue,
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BenchStore {
    pub(super) fn run(&self) -> u8 {
        let Some(dir) = self.dir.as_ref().filter(|_| !self.list) else {
            let all = Scenario::value_variants().iter();
            all.for_each(|one| say!("{:<12} {}", one.name(), one.about()));
            return DONE;
        };
        conclude(self.measure(dir), &self.output)
    }

    fn measure(&self, dir: &std::path::Path) -> Result<Report, BenchError> {
        self.output.check()?;
        let mut session = Session::begin(dir, self)?;
        let all =
            if self.scenario.is_empty() { Scenario::value_variants() } else { &self.scenario };
        let mut outcome = Ok(());
        for scenario in all {
            if outcome.is_ok() && session.goes_on() {
                session.say(&scenario.name());
                outcome = scenario.run(&mut session);
            }
        }
        session.end(outcome)
    }
}
