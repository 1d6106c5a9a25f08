//! Who does what an operator asks for.

use std::io;
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::broker::{Broker, StartError};
use crate::cli::data_directory::DataDirectory;
use crate::server::control::{self, Answer, AskError, Outcome, Request};
use crate::storage::{OpenError, Options, Store, StoreError};

/// The broker that is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    #[command(flatten)]
    directory: DataDirectory,
}

/// Why nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error("there is no data directory {}: say which one with --data-dir", .0.display())]
    Missing(PathBuf),
    #[error("{} is a file, not a data directory: give the directory with --data-dir", .0.display())]
    NotDirectory(PathBuf),
    #[error(
        "no server answers on {}, so it has no connections: {ask}. Start one with `haypile serve`, or name its \
         directory with --data-dir", dir.display()
    )]
    NoServer { dir: PathBuf, ask: AskError },
    #[error(transparent)]
    Ask(AskError),
    #[error(
        "{} is in use, and {ask}. A server that is starting or stopping does not answer; one that could not make the \
         socket has said so in its log", dir.display()
    )]
    InUse { dir: PathBuf, ask: AskError },
    #[error("{}: {error}", dir.display())]
    Open { dir: PathBuf, error: OpenError },
    #[error("{}: {error}", dir.display())]
    Start { dir: PathBuf, error: StartError },
    #[error("it was done, and the store was not closed cleanly: {0}")]
    Close(StoreError),
    #[error("cannot ask: {0}")]
    Runtime(#[from] io::Error),
}

impl Target {
    /// Has the server that runs on the data directory do it. Without a server that is an error.
    pub(super) fn perform_on_server(&self, request: &Request) -> Result<Answer, CommandError> {
        let dir = self.directory.path();
        check_directory(&dir)?;
        match ask(&dir, request).map_err(TargetError::Runtime)? {
            Err(ask @ AskError::Nobody { .. }) => Err(TargetError::NoServer { dir, ask }.into()),
            asked => answer(asked.map_err(TargetError::Ask)?),
        }
    }

    /// Has the server that runs on the data directory do it, or does it where nobody has the directory.
    pub(super) fn perform(&self, request: &Request) -> Result<Answer, CommandError> {
        answer(perform(&self.directory.path(), request)?)
    }
}

fn answer(outcome: Outcome) -> Result<Answer, CommandError> {
    match outcome {
        Outcome::Done(answer) => Ok(answer),
        Outcome::Refused(lines) => Err(CommandError::Refused(lines)),
    }
}

fn check_directory(dir: &Path) -> Result<(), TargetError> {
    if dir.is_dir() {
        Ok(())
    } else if dir.exists() {
        Err(TargetError::NotDirectory(dir.to_owned()))
    } else {
        Err(TargetError::Missing(dir.to_owned()))
    }
}

fn perform(dir: &Path, request: &Request) -> Result<Outcome, TargetError> {
    check_directory(dir)?;
    let ask = match ask(dir, request)? {
        Err(nobody @ AskError::Nobody { .. }) => nobody,
        asked => return asked.map_err(TargetError::Ask),
    };
    match Store::open(dir, Options::default()) {
        Ok(store) => perform_alone(dir, store, request),
        // It may have started between the two.
        Err(OpenError::Locked(_)) => match self::ask(dir, request)? {
            Err(AskError::Nobody { .. }) => Err(TargetError::InUse { dir: dir.to_owned(), ask }),
            asked => asked.map_err(TargetError::Ask),
        },
        Err(error) => Err(TargetError::Open { dir: dir.to_owned(), error }),
    }
}

fn ask(dir: &Path, request: &Request) -> io::Result<Result<Outcome, AskError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(control::ask(dir, request)))
}

fn perform_alone(dir: &Path, store: Store, request: &Request) -> Result<Outcome, TargetError> {
    let broker = Broker::open(store.clone())
        .map_err(|error| TargetError::Start { dir: dir.to_owned(), error })?;
    // The users that are stored are all that there are.
    broker.accounts().appoint(Vec::new());
    let outcome = control::perform(&broker, request.clone());
    drop(broker);
    store.close().map_err(TargetError::Close)?;
    Ok(outcome)
}
