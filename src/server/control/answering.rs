//! The server's end of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{LARGEST_REQUEST, Outcome, Request, SOCKET, perform};
use crate::broker::Broker;
use crate::server::inspection::{listen, told_to_stop};
use crate::storage::disk::{Disk, RealDisk};

/// So many are answered at the same time; others wait for their turn, where the kernel keeps them.
const AT_ONCE: usize = 4;

/// Who takes longer than this to ask is not heard, and who takes longer to read the answer does not get the rest of it.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long to leave it when a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket that operators' requests come to. It is there from when this is made.
#[derive(Debug)]
pub(in crate::server) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket in the directory of a store that is open: whatever socket is there, nobody listens on it. Where it
    /// cannot be made the server runs without, and says so.
    pub(in crate::server) fn open(dir: &Path) -> Option<ControlSocket> {
        let path = dir.join(SOCKET);
        match listen(&path) {
            Ok(listener) => Some(ControlSocket { listener, path }),
            Err(error) => {
                tracing::warn!(
                    socket = %path.display(),
                    "users, policies and definitions of this server cannot be changed while it runs: {error}"
                );
                None
            }
        }
    }

    /// Answers until it is told to stop, and the last answer is under way no more; then removes the socket. The store must
    /// still be open then, or the socket may be another server's by now.
    pub(in crate::server) async fn answer(self, broker: Broker, stopped: watch::Receiver<bool>) {
        let mut answering = JoinSet::new();
        let mut told = stopped.clone();
        loop {
            tokio::select! {
                () = told_to_stop(&mut told) => break,
                _ = answering.join_next(), if !answering.is_empty() => {}
                accepted = self.listener.accept(), if answering.len() < AT_ONCE => match accepted {
                    Ok((stream, _)) => {
                        answering.spawn(serve(stream, broker.clone(), stopped.clone()));
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept an operator's request: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
        while answering.join_next().await.is_some() {}
        drop(self.listener);
        if let Err(error) = RealDisk.remove(&self.path) {
            tracing::warn!(socket = %self.path.display(), "left behind: {error}");
        }
    }
}

/// Answers one request.
async fn serve(mut stream: UnixStream, broker: Broker, mut stopped: watch::Receiver<bool>) {
    let asked = tokio::select! {
        asked = read(&mut stream) => asked,
        () = told_to_stop(&mut stopped) => return,
    };
    let outcome = match asked {
        Ok(asked) => match serde_json::from_slice::<Request>(&asked) {
            Ok(request) => {
                // To its end, also when the server stops: half of it would be worse.
                match tokio::task::spawn_blocking(move || perform(&broker, request)).await {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Refused(vec![format!("it was not done: {error}")]),
                }
            }
            Err(error) => {
                let why = format!("this server does not know the request: {error}");
                Outcome::Refused(vec![why])
            }
        },
        Err(error) => return tracing::debug!("an operator's request did not arrive: {error}"),
    };
    let sent = match serde_json::to_vec(&outcome) {
        Ok(answer) => timeout(DEADLINE, stream.write_all(&answer)).await,
        Err(error) => return tracing::error!("cannot write an answer: {error}"),
    };
    if !matches!(sent, Ok(Ok(()))) {
        tracing::debug!("an answer to an operator was not read to its end");
    }
}

async fn read(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut asked = Vec::new();
    let most = LARGEST_REQUEST as u64 + 1;
    let reading = stream.take(most);
    tokio::pin!(reading);
    timeout(DEADLINE, reading.read_to_end(&mut asked)).await??;
    if asked.len() > LARGEST_REQUEST {
        return Err(io::Error::other(format!("it has more than {LARGEST_REQUEST} bytes")));
    }
    Ok(asked)
}
