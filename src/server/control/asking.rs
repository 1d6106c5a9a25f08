//! The other end of the control socket: what the commands do when a server has the directory.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{LARGEST_REQUEST, Outcome, Request, SOCKET};

/// Why a running server was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is nobody at the socket.
    #[error("nobody answers at {}: {error}", .socket.display())]
    Nobody {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No server would take it.
    #[error(
        "a running server takes {LARGEST_REQUEST} bytes at once, and this is {0}: stop the server, and do it without"
    )]
    TooLarge(usize),
    /// The server does not answer, or not to the end. What was asked for may have been done.
    #[error(
        "the server was asked at {} and did not answer: {error}. What was asked for may have been done: look before \
         asking again", .socket.display()
    )]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The answer is none that this program knows.
    #[error(
        "the server answered with something else than expected: {0}. Use the `haypile` of the server's version"
    )]
    Unknown(serde_json::Error),
}

/// Asks the server that runs on the data directory `dir`.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(dir: &Path, request: &Request) -> Result<Outcome, AskError> {
    let socket = dir.join(SOCKET);
    let mut stream = UnixStream::connect(&socket)
        .await
        .map_err(|error| AskError::Nobody { socket: socket.clone(), error })?;
    let asked = serde_json::to_vec(request).map_err(AskError::Unknown)?;
    if asked.len() > LARGEST_REQUEST {
        return Err(AskError::TooLarge(asked.len()));
    }
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(&asked).await?;
        stream.shutdown().await?;
        match stream.read_to_end(&mut answer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has hung up")),
            _ => Ok(()),
        }
    };
    exchange.await.map_err(|error| AskError::NoAnswer { socket, error })?;
    serde_json::from_slice(&answer).map_err(AskError::Unknown)
}
