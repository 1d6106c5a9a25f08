//! The other end of the inspection socket: what `haypile inspect` does when a server has the directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::{Report, SOCKET};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a running server could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is nobody at the socket.
    #[error(
        "{} is in use, and whoever has it answers no inspections at {}: {error}. A server that is starting or \
         stopping does not; one that could not make the socket has said so in its log. Wait, or stop it and inspect \
         again; `fuser -v {}` shows who it is", .dir.display(), .dir.join(SOCKET).display(), .dir.display()
    )]
    Nobody {
        /// The data directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The server does not answer, or not to the end.
    #[error(
        "the server that runs on {} was asked at {} and did not answer: {error}. It may be busy, or hang; try again",
        .dir.display(), .dir.join(SOCKET).display()
    )]
    NoAnswer {
        /// The data directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The answer is none that this program knows.
    #[error(
        "the server that runs on {} answered with something else than expected: {error}. Use the `haypile` of the server's \
         version", .dir.display()
    )]
    Unknown {
        /// The data directory.
        dir: PathBuf,
        /// Where it is not as expected.
        error: serde_json::Error,
    },
}

/// Asks the server that runs on the data directory `dir` for a report.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(dir: &Path) -> Result<Report, AskError> {
    let owned = || dir.to_owned();
    let mut stream = UnixStream::connect(dir.join(SOCKET))
        .await
        .map_err(|error| AskError::Nobody { dir: owned(), error })?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    match read {
        Ok(Ok(0)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has hung up")),
        Ok(read) => read,
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {PATIENCE:?}")))
        }
    }
    .map_err(|error| AskError::NoAnswer { dir: owned(), error })?;
    let mut report: Report = serde_json::from_slice(&answer)
        .map_err(|error| AskError::Unknown { dir: owned(), error })?;
    report.seen_from(dir);
    Ok(report)
}
