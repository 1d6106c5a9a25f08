//! What can be measured.

use clap::ValueEnum;

use super::session::Session;
use super::{BenchError, append, disk};

/// A scenario; its name is what `--scenario` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// The disk itself: groups of pages, each written and synced, in a file that was written before.
    Disk,
    /// Writers that append, with and without waiting for the disk.
    Append,
    /// Writers that append at a given rate; times count from when a message was due.
    Rate,
}

impl Scenario {
    pub(super) const ALL: [Scenario; 3] = [Scenario::Disk, Scenario::Append, Scenario::Rate];

    pub(super) fn name(self) -> &'static str {
        match self {
            Scenario::Disk => "disk",
            Scenario::Append => "append",
            Scenario::Rate => "rate",
        }
    }

    /// What it does, in a line.
    pub(super) fn about(self) -> String {
        let value = self.to_possible_value();
        let help = value.as_ref().and_then(|value| value.get_help());
        help.map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn run(self, session: &mut Session) -> Result<(), BenchError> {
        match self {
            Scenario::Disk => disk::run(session),
            Scenario::Append => append::run(session),
            Scenario::Rate => append::run_rated(session),
        }
    }
}
