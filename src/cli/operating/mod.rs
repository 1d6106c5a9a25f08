//! The commands that change a broker: `haypile definitions`, `users`, `vhosts`, `policies`, `connections`.
//!
//! - `target`: who does what is asked for, the server that runs on the data directory, or this process if there is none.
//! - One file per command. A password never comes from the command line, where everybody on the machine can read it.

mod connections;
mod definitions;
mod password;
mod policies;
mod target;
mod users;
mod virtual_hosts;

use super::{COULD_NOT_RUN, DONE, FAILED, complain, text};

pub(super) use connections::Connections;
pub(super) use definitions::Definitions;
pub(super) use policies::Policies;
pub(super) use users::Users;
pub(super) use virtual_hosts::VirtualHosts;

use crate::cli::output::{self, say};
use crate::server::control::Answer;
use target::TargetError;

/// What a command has come to: an exit code, or what it could not do.
type Ended = Result<u8, CommandError>;

/// Why a command has not done what it was to do.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    /// The broker could not be asked.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It has refused: a line each.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
    /// Something else that was given is of no use.
    #[error("{0}")]
    Argument(String),
    /// The answer was to another question.
    #[error("the server answered to another question: use the `haypile` of its version")]
    OtherAnswer,
}

impl CommandError {
    fn code(&self) -> u8 {
        match self {
            CommandError::Refused(_) => FAILED,
            _ => COULD_NOT_RUN,
        }
    }
}

fn end(ended: Ended) -> u8 {
    ended.unwrap_or_else(|error| {
        match &error {
            CommandError::Refused(reasons) => reasons.iter().for_each(|reason| complain(reason)),
            _ => complain(&error),
        }
        error.code()
    })
}

/// Says that it is so now.
fn say_changed(answer: &Answer, done: &str) -> Ended {
    match answer {
        Answer::Changed(true) => say!("{done}"),
        Answer::Changed(false) => say!("nothing to change"),
        _ => return Err(CommandError::OtherAnswer),
    }
    Ok(DONE)
}

/// Prints the rows of an answer as JSON.
fn print_json(rows: &impl serde::Serialize) -> Ended {
    match serde_json::to_string(rows) {
        Ok(json) => output::json(&json),
        Err(error) => return Err(CommandError::Argument(error.to_string())),
    }
    Ok(DONE)
}

/// `, at most 5 connections`, or nothing.
fn limit(what: &str, limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |limit| format!(", at most {} {what}", text::count(limit)))
}

/// ` [a, b]`, or nothing.
fn tags(tags: &[String]) -> String {
    if tags.is_empty() { String::new() } else { format!(" [{}]", tags.join(", ")) }
}
