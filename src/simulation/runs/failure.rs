//! What a run may find, and how it is told.

use std::any::Any;
use std::fmt;

use super::plan::Plan;

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind of thing: a plan that is shortened has to fail with the same.
    pub kind: FailureKind,
    /// The number of the action, counted from 0; one past the last: the end of the run.
    pub action: usize,
    /// What was found.
    pub what: String,
}

/// The kinds of what must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// A store that is in order does not open.
    NotOpened,
    /// A restart has brought back what it may not, or has not what it must.
    Mismatch,
    /// Something else is in the store than was put there.
    Differs,
    /// Something was refused without a reason.
    Refused,
    /// A write, a sync or a read failed, and nobody was told.
    PassedOver,
    /// After a failure something was taken, confirmed or written.
    GoesOn,
    /// An open that was refused changed files.
    Changed,
    /// Damage was passed over silently, or came out wrong.
    Silent,
    /// The engine panicked.
    Panic,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, what: impl Into<String>) -> Failure {
        Failure { kind, action: 0, what: what.into() }
    }

    pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Failure {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Failure::new(FailureKind::Panic, text.unwrap_or("without a word"))
    }

    pub(super) fn at(self, action: usize) -> Failure {
        Failure { action, ..self }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureKind::NotOpened => "a store that is in order does not open",
            FailureKind::Mismatch => "a restart brought back what it may not",
            FailureKind::Differs => "the store holds something else than was put there",
            FailureKind::Refused => "something was refused without a reason",
            FailureKind::PassedOver => "the disk failed, and nobody was told",
            FailureKind::GoesOn => "a failed store goes on",
            FailureKind::Changed => "a refused open changed files",
            FailureKind::Silent => "damage was passed over silently",
            FailureKind::Panic => "the engine panicked",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, with action {}: {}", self.kind, self.action + 1, self.what)
    }
}

/// A failure with the plan that leads to it, as short as it could be made.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// How many actions its plan has.
    pub actions: usize,
    /// The shortest plan that was found to fail the same way.
    pub plan: Plan,
    /// How that one fails.
    pub failure: Failure,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, all, left) = (self.seed, self.actions, self.plan.actions.len());
        writeln!(f, "seed {seed} fails. Of {all} actions {left} are enough:")?;
        write!(f, "{}{}", self.plan, self.failure)
    }
}
