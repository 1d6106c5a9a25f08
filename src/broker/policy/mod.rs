//! Policies: what an operator says of queues and exchanges by their names, also of those that exist.
//!
//! - [`Policy`]: name, pattern, priority, definition. `validation` knows what a definition may say.
//! - `Policies`: all of a virtual host, and which of them is in force for a queue or exchange.
//!
//! A queue or exchange has at most one policy, and at most one operator policy besides. It may use records' types and patterns; what a
//! definition brings about is up to queues and exchanges.

mod policies;
mod validation;

use crate::broker::access::{Pattern, PatternError};
use crate::message::{FieldTable, ShortStr};
use thiserror::Error;

pub(super) use policies::{Object, Policies};

/// Who sets a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// Whoever runs the applications.
    User,
    /// Whoever runs the broker: limits that apply whatever else is said.
    Operator,
}

/// What a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Queues of any type.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Queues of the type `classic`.
    ClassicQueues,
    /// Queues of the type `quorum`.
    QuorumQueues,
}

/// The names of what a policy may apply to.
const APPLY_TO: [(ApplyTo, &str); 5] = [
    (ApplyTo::All, "all"),
    (ApplyTo::Queues, "queues"),
    (ApplyTo::Exchanges, "exchanges"),
    (ApplyTo::ClassicQueues, "classic_queues"),
    (ApplyTo::QuorumQueues, "quorum_queues"),
];

impl ApplyTo {
    /// The name that it has in definitions.
    #[must_use]
    pub fn name(self) -> &'static str {
        APPLY_TO.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    ///
    /// # Errors
    /// [`PolicyError::ApplyTo`].
    pub fn named(name: &str) -> Result<ApplyTo, PolicyError> {
        let found = APPLY_TO.iter().find(|(_, known)| *known == name);
        found.map(|(known, _)| *known).ok_or_else(|| PolicyError::ApplyTo(name.to_owned()))
    }
}

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Who has set it.
    pub kind: PolicyKind,
    /// Its name in the virtual host.
    pub name: ShortStr,
    /// The names of what it applies to.
    pub pattern: Pattern,
    /// What it applies to.
    pub apply_to: ApplyTo,
    /// Of several that match, the one with the highest is in force; among equals the one whose name comes first.
    pub priority: i64,
    /// What it says: keys and values.
    pub definition: FieldTable,
}

/// Why a policy cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// A policy without a name.
    #[error("a policy must have a name")]
    NoName,
    /// Its pattern.
    #[error("pattern should be regular expression but is invalid: {0}")]
    Pattern(#[from] PatternError),
    /// What it applies to.
    #[error(
        "apply-to '{0}' unrecognised; should be 'queues', 'exchanges', 'classic_queues', 'quorum_queues' or 'all'"
    )]
    ApplyTo(String),
    /// It says nothing.
    #[error("no policy provided")]
    Empty,
    /// A key that there is not, or not in an operator's policy.
    #[error("'{0}' is not a recognised policy setting{1}")]
    UnknownKey(String, &'static str),
    /// A value that its key cannot have.
    #[error("{value} is not a valid {what} ('{key}')")]
    Value {
        /// The key.
        key: &'static str,
        /// What it stands for.
        what: &'static str,
        /// The value.
        value: String,
    },
}

impl Policy {
    /// A policy that has been checked.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn new(
        kind: PolicyKind,
        name: ShortStr,
        pattern: &str,
        apply_to: ApplyTo,
        priority: i64,
        definition: FieldTable,
    ) -> Result<Policy, PolicyError> {
        if name.is_empty() {
            return Err(PolicyError::NoName);
        }
        let pattern = Pattern::new(pattern)?;
        validation::check(kind, &definition)?;
        Ok(Policy { kind, name, pattern, apply_to, priority, definition })
    }
}
