//! The configuration: what can be set, and where from.
//!
//! What lives here: the one [`table`] of settings, which parsing, `haypile config` and docs/configuration.md are made of, and
//! [`sources`], which puts file, environment and flags on top of one another. It knows what a server can be started with, and
//! must never know what the server does with it.

mod addresses;
#[cfg(test)]
mod documentation;
mod file;
mod kind;
mod rabbitmq;
mod settings;
mod show;
mod sources;
mod suggestion;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod units;

use std::fmt;
use std::path::PathBuf;

pub(super) use show::Show;
pub(super) use sources::{Sources, variables};

/// Where a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// Nowhere.
    Default,
    /// On that line of the file, counted from one.
    File(PathBuf, usize),
    /// In the environment variable of that name.
    Variable(String),
    /// In that flag.
    Flag(&'static str),
}

impl Origin {
    /// The line of the file; 0: it is not in the file.
    fn line(&self) -> usize {
        if let Origin::File(_, line) = self { *line } else { 0 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Origin::Variable(name) => write!(f, "variable {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Something wrong with the configuration. There may be several, and an operator wants to see all of them at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: String },
    /// The file is not TOML.
    #[error("{}, line {line}: this is not TOML: {error}", path.display())]
    Syntax { path: PathBuf, line: usize, error: String },
    /// The file is RabbitMQ's.
    #[error(
        "{} is a configuration of RabbitMQ, and Haypile reads TOML. A file with the same meaning:",
        path.display()
    )]
    RabbitMq {
        path: PathBuf,
        /// The file with the same meaning, of several lines.
        toml: String,
    },
    /// There is no such setting.
    #[error("{origin}: unknown key `{key}`{}", hint(*meant))]
    Unknown { origin: Origin, key: String, meant: Option<&'static str> },
    /// A section's name with something else than settings in it.
    #[error(
        "{origin}: `{key}` is a section: write `[{key}]` on a line of its own, and its settings below"
    )]
    Section { origin: Origin, key: String },
    /// The setting cannot have that value.
    #[error("{origin}: `{key}` {wrong}")]
    Value { origin: Origin, key: &'static str, wrong: String },
    /// Flags say it more than once.
    #[error("`{0}` is set by two flags: leave one of them out")]
    Twice(&'static str),
    /// Two values that make no sense together.
    #[error("`{}` = {} ({}) and `{}` = {} ({}) make no sense together: {why}", one.key, one.value, one.origin, other.key, other.value, other.origin)]
    Contradiction { one: Stated, other: Stated, why: &'static str },
}

impl Problem {
    /// The line of the file that it is on; 0: on none.
    fn line(&self) -> usize {
        match self {
            Problem::Syntax { line, .. } => *line,
            Problem::Unknown { origin, .. }
            | Problem::Section { origin, .. }
            | Problem::Value { origin, .. } => origin.line(),
            Problem::Unreadable { .. }
            | Problem::RabbitMq { .. }
            | Problem::Twice(_)
            | Problem::Contradiction { .. } => 0,
        }
    }
}

/// A value, where it comes from, and of which setting.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stated {
    key: &'static str,
    value: String,
    origin: Origin,
}

fn hint(meant: Option<&str>) -> String {
    match meant {
        Some(key) => format!(": did you mean `{key}`?"),
        None => ": `haypile config` shows all that there are".to_owned(),
    }
}
