//! What can be measured.

use clap::ValueEnum;

use super::session::Session;
use super::{BenchError, acknowledge, append, compaction, disk, drain, queues, recovery};

/// A scenario; its name is what `--scenario` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// The disk itself: groups of pages, each written and synced, in a file that was written before.
    Disk,
    /// Writers that append, with and without waiting for the disk.
    Append,
    /// Writers that append at a given rate; times count from when a message was due.
    Rate,
    /// Consumers that acknowledge, one message at a time and many.
    Ack,
    /// Appending to one queue, to a hundred, to ten thousand; creating them.
    Queues,
    /// Taking a deep backlog out, from memory and from the disk.
    Drain,
    /// Opening a store that has a deep backlog, after a kill and after a clean end.
    Recovery,
    /// Appending while one message in a hundred stays for ever and segments are compacted.
    Compaction,
}

impl Scenario {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
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
            Scenario::Ack => acknowledge::run(session),
            Scenario::Queues => queues::run(session),
            Scenario::Drain => drain::run(session),
            Scenario::Recovery => recovery::run(session),
            Scenario::Compaction => compaction::run(session),
        }
    }
}
