//! `haypile torture`: crash-recovery torture of a disk, a file system, and this program on them.
//!
//! Rounds of the same kind: a child process works, is ended (by SIGKILL mostly), is now and then killed again while it
//! recovers, and what it gives back is judged by the oracle. What lives here: the command, and what both kinds of rounds share.
//! The rest of the command line must know no more of it than the command.
//!
//! | file | what it is |
//! |---|---|
//! | `oracle`, `defect` | what is right, and what is not; no sockets, no processes |
//! | `stamp`, `plan` | what a message says of itself; what a seed stands for |
//! | `broker`, `peers`, `look`, `client` | torture of the broker, through AMQP |
//! | `store`, `store_child`, `note`, `store_check` | torture of the engine alone, what its child tells, and what is left |
//! | `child`, `process`, `ending`, `faults` | the process that is killed, how it ends, disks that fail |
//! | `report` | the figures |

mod broker;
mod child;
mod client;
mod defect;
mod ending;
mod faults;
mod look;
mod note;
mod oracle;
mod peers;
mod plan;
mod process;
mod report;
mod stamp;
mod store;
mod store_check;
mod store_child;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::broker::TorturedBroker;
pub(super) use self::child::TortureChild;
use self::ending::Bounds;
use self::oracle::Oracle;
use self::plan::{LARGEST, Plan, Round};
use self::report::{Report, RoundResult};
use self::stamp::QueueSet;
use self::store::TorturedStore;
use super::workplace::{Workplace, WorkplaceError};
use super::{COULD_NOT_RUN, DONE, FAILED, complain, interrupt};
use crate::cli::output;

/// How long a start may take until the program is ready.
const READY: Duration = Duration::from_secs(120);

/// After so many rounds the store is verified, and another one begun with segments of another size.
const ROUNDS_PER_STORE: u64 = 50;

/// The least that the files of a store may take: some segments, and what lies between two checkpoints.
const LEAST_DISK: u64 = 512;

/// Kill the broker again and again while it works on this disk, and check that nothing confirmed is lost.
///
/// Starts `haypile serve` on a fresh directory below DIR, publishes and consumes through AMQP, kills it with SIGKILL
/// at a random moment, starts it again (and kills it while it recovers, now and then), and compares what it gives
/// back with what it had confirmed. Then again, until the time is over. Some rounds end differently: by SIGTERM, by
/// a sync that fails, with a disk that is full; those last two are simulated between the program and the real disk.
///
/// It checks that every message that was confirmed and not acknowledged is there, whole, once, and in order; that
/// others are there whole or not at all; that an acknowledged message stays away once a later one was confirmed; that
/// what was handed out before comes back with the redelivered flag; and that a program whose sync has failed
/// confirms nothing more, ends, and says why.
///
/// What this can show: mistakes of this program, and of the file system, that need no power cut. What it cannot show: a
/// SIGKILL ends the program and not the machine, and whatever was written is still in the page cache, synced or
/// not. A disk that loses synced data when the power goes looks fine here, and so would a sync that is missing in
/// this program. The project's own tests simulate power cuts; to try your disk, cut its power.
///
/// Ctrl-C ends it after the round, with the report. Exit code 0: nothing is wrong. 1: something is, each defect is
/// listed with its round and the seed, and the directory is kept. 2: it could not run.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Torture {
    /// Where to work: on the disk that is to be tortured. Made if it is not there; a subdirectory torture-N is used, and removed if nothing was wrong.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Torture the engine alone: a child that embeds it and works with many threads on very small segments, so that
    /// files are recycled, compacted and checkpointed many times a second.
    #[arg(long)]
    store: bool,
    /// How long, in minutes; fractions are fine. The last round may take a little longer.
    #[arg(long, value_name = "N", default_value_t = 5.0, allow_hyphen_values = true)]
    minutes: f64,
    /// Stop after so many rounds, if the time is not over before.
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Repeat a run's messages, kill moments and faults. Timing is not repeated: the scheduler's and the disk's part of it. Default: a random one, which the report names.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many publish at the same time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    publishers: u16,
    /// How many consume at the same time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    consumers: u16,
    /// How many queues there are; a fan-out exchange goes to all of them.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    queues: u8,
    /// How much disk space the store may take, in MiB; 512 at least. A round that goes beyond is ended.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(LEAST_DISK..=1 << 40))]
    disk_limit: u64,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    /// Have the child of --store tell that messages are durable without waiting for it: for the tests, which have to see
    /// that the torture finds it.
    #[arg(long, hide = true)]
    sabotage: bool,
}

/// Why a torture could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum TortureError {
    #[error("--minutes {0}: give a time above zero, such as 0.5")]
    Minutes(f64),
    #[error(transparent)]
    Directory(#[from] WorkplaceError),
    #[error(
        "there is no room left in {}: free some, or torture a larger disk; nothing can be said of the round that met it",
        .0.display()
    )]
    NoRoom(PathBuf),
    #[error("cannot find this program's own file: {0}")]
    NoProgram(io::Error),
    #[error("cannot start {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot control the process under torture: {0}")]
    Control(io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("cannot begin a store: {0}")]
    Begin(#[from] crate::storage::OpenError),
    #[error("cannot begin a store: {0}")]
    BeginClose(#[from] crate::storage::StoreError),
}

/// What is tortured.
trait Victim {
    /// One round: it works, is ended, recovers, and is judged.
    fn round(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
        report: &mut Report,
    ) -> Result<RoundResult, TortureError>;

    /// The last look: a clean end, and every record verified.
    fn finish(&mut self) -> Result<(), TortureError>;

    fn oracle(&self) -> &Mutex<Oracle>;

    fn workplace(&self) -> &Workplace;

    /// The last that the program said on standard error.
    fn last_words(&self) -> String;
}

impl Torture {
    pub(super) fn run(&self) -> u8 {
        match self.torture() {
            Ok(report) => {
                if self.json {
                    output::json(&report.as_json());
                } else {
                    report.print();
                }
                if report.failed() { FAILED } else { DONE }
            }
            Err(error) => {
                complain(&error);
                COULD_NOT_RUN
            }
        }
    }

    fn torture(&self) -> Result<Report, TortureError> {
        let minutes = Duration::try_from_secs_f64(self.minutes * 60.0)
            .ok()
            .filter(|time| !time.is_zero())
            .and_then(|time| Instant::now().checked_add(time));
        let deadline = minutes.ok_or(TortureError::Minutes(self.minutes))?;
        let interrupted = interrupt::watch().map_err(TortureError::Signals)?;
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
        let bounds = Bounds { interrupted, deadline, disk_limit: self.disk_limit << 20 };
        let plan = Plan {
            seed,
            queues: self.queues.min(QueueSet::MOST),
            publishers: self.publishers,
            consumers: self.consumers,
            largest: LARGEST,
        };
        let workplace = Workplace::fresh(&self.dir, "torture")?;
        let mut report = Report::new(if self.store { "store" } else { "broker" }, seed);
        let mut victim: Box<dyn Victim> = if self.store {
            Box::new(TorturedStore::new(plan, workplace, self.sabotage)?)
        } else {
            Box::new(TorturedBroker::new(plan, workplace)?)
        };
        let mut number = 0;
        while bounds.goes_on() && !report.failed() && self.rounds.is_none_or(|most| number < most) {
            number += 1;
            let result = victim.round(&mut plan.round(number), &bounds, &mut report)?;
            report.round(number, &result, &victim.oracle().lock());
            report.take(number, &victim.oracle().lock(), &victim.last_words());
        }
        if !report.failed() {
            victim.finish()?;
            report.take(number, &victim.oracle().lock(), &victim.last_words());
        }
        report.line.end();
        report.interrupted = bounds.interrupted.load(Ordering::Relaxed);
        if report.failed() {
            report.kept = Some(victim.workplace().dir().to_owned());
        } else {
            victim.workplace().clear()?;
        }
        Ok(report)
    }
}
