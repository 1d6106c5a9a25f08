//! What is measured.

use crate::arguments::Step;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// One writer, each message durable before the next.
    AppendOne,
    /// One writer, a hundred messages a time.
    AppendHundred,
    /// One writer, a thousand messages a time.
    AppendThousand,
    /// 64 writers, each of which waits for its own message.
    AppendMany,
    /// A backlog is fetched and acknowledged in order, a hundred a time.
    Drain,
    /// One thread appends, another fetches and acknowledges, a hundred a time each.
    Mixed,
    /// Opening a store with a backlog after it was killed, up to the first message.
    ReopenKilled,
    /// The same after it was closed.
    ReopenClosed,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 8] = [
        Scenario::AppendOne,
        Scenario::AppendHundred,
        Scenario::AppendThousand,
        Scenario::AppendMany,
        Scenario::Drain,
        Scenario::Mixed,
        Scenario::ReopenKilled,
        Scenario::ReopenClosed,
    ];

    /// What a table is headed with.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Scenario::AppendOne => "append: 1 writer, 1 message a commit",
            Scenario::AppendHundred => "append: 1 writer, 100 messages a commit",
            Scenario::AppendThousand => "append: 1 writer, 1,000 messages a commit",
            Scenario::AppendMany => "append: 64 writers, each waiting for its own message",
            Scenario::Drain => "fetch and acknowledge in order, 100 a commit",
            Scenario::Mixed => "append, and fetch and acknowledge, at once, 100 a commit",
            Scenario::ReopenKilled => "open after kill -9, to the first message of a backlog",
            Scenario::ReopenClosed => "open after a clean close, to the first message of a backlog",
        }
    }

    /// How many messages there are at full scale: as many as take the quicker stores about a second.
    pub(crate) fn messages(self) -> u64 {
        match self {
            Scenario::AppendOne => 2_000,
            Scenario::AppendHundred => 40_000,
            Scenario::AppendThousand => 100_000,
            Scenario::AppendMany => 32_000,
            Scenario::Drain | Scenario::Mixed => 50_000,
            Scenario::ReopenKilled | Scenario::ReopenClosed => 100_000,
        }
    }

    /// What its process does; the reopening is done by several.
    pub(crate) fn step(self) -> Step {
        match self {
            Scenario::AppendOne => Step::AppendOne,
            Scenario::AppendHundred => Step::AppendHundred,
            Scenario::AppendThousand => Step::AppendThousand,
            Scenario::AppendMany => Step::AppendMany,
            Scenario::Drain => Step::Drain,
            Scenario::Mixed => Step::Mixed,
            Scenario::ReopenKilled | Scenario::ReopenClosed => Step::Reopen,
        }
    }

    /// Whether its time is a figure by itself, rather than what a rate is calculated from.
    pub(crate) fn is_a_time(self) -> bool {
        self.step() == Step::Reopen
    }
}
