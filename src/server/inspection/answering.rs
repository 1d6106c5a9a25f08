//! The server's end of the inspection socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Report, Running, SOCKET};
use crate::server::watermarks::Levels;
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::{Clock, Store, Timestamp};

/// So many are answered at the same time; others wait for their turn, where the kernel keeps them.
const AT_ONCE: usize = 4;

/// So many may wait there.
const BACKLOG: u32 = 16;

/// Who takes longer than this to read a report does not get the rest of it.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long to leave it when a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What a server says of itself.
#[derive(Debug)]
pub(in crate::server) struct Identity {
    pub(in crate::server) addresses: Vec<SocketAddr>,
    pub(in crate::server) since: Timestamp,
}

/// What is inspected. It holds the store open.
#[derive(Debug)]
pub(in crate::server) struct Inspected {
    pub(in crate::server) store: Store,
    pub(in crate::server) clock: Arc<dyn Clock>,
    pub(in crate::server) identity: Identity,
    pub(in crate::server) levels: Arc<Mutex<Levels>>,
}

impl Inspected {
    /// The report as it is sent. It takes the longer the more queues there are.
    fn report(&self) -> Result<Vec<u8>, serde_json::Error> {
        let now = self.clock.now();
        let inspection = self.store.inspect();
        let levels = *self.levels.lock();
        let running = inspection.open.map(|open| Running::new(&open, &self.identity, &levels, now));
        serde_json::to_vec(&Report::new(&inspection, now, running))
    }
}

/// The socket that inspections are asked for on. It is there from when this is made.
#[derive(Debug)]
pub(in crate::server) struct InspectionSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl InspectionSocket {
    /// Makes the socket in the directory of a store that is open: whatever socket is there, nobody listens on it. Where it
    /// cannot be made the server runs without, and says so.
    pub(in crate::server) fn open(dir: &Path) -> Option<InspectionSocket> {
        let path = dir.join(SOCKET);
        match listen(&path) {
            Ok(listener) => Some(InspectionSocket { listener, path }),
            Err(error) => {
                tracing::warn!(
                    socket = %path.display(),
                    "`haypile inspect` cannot look at this server while it runs: {error}"
                );
                None
            }
        }
    }

    /// Answers until it is told to stop, and the last answer is under way no more; then removes the socket. The store must
    /// still be open then, or the socket may be another server's by now.
    pub(in crate::server) async fn answer(
        self,
        inspected: Inspected,
        stopped: watch::Receiver<bool>,
    ) {
        let inspected = Arc::new(inspected);
        let mut answering = JoinSet::new();
        let mut told = stopped.clone();
        loop {
            tokio::select! {
                () = told_to_stop(&mut told) => break,
                _ = answering.join_next(), if !answering.is_empty() => {}
                accepted = self.listener.accept(), if answering.len() < AT_ONCE => match accepted {
                    Ok((stream, _)) => {
                        answering.spawn(send(stream, Arc::clone(&inspected), stopped.clone()));
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept an inspection: {error}");
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

pub(in crate::server) async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error: nobody is left who could say so, which is the same.
    stopped.wait_for(|stopped| *stopped).await.ok();
}

/// Listens on a socket at `path`, in place of one that is there.
pub(in crate::server) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => RealDisk.remove(path)?,
        Ok(_) => {
            return Err(io::Error::other("there is something of that name, and it is no socket"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = UnixSocket::new_stream()?;
    only_for_its_owner(&socket)?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

/// Has the file that the socket is going to be bound to made with mode 0600. Afterwards would be too late: somebody may have
/// connected.
fn only_for_its_owner(socket: &UnixSocket) -> io::Result<()> {
    #[expect(
        clippy::disallowed_types,
        reason = "it is the way to a descriptor's mode, and no file"
    )]
    let descriptor = std::fs::File::from(socket.as_fd().try_clone_to_owned()?);
    descriptor.set_permissions(PermissionsExt::from_mode(0o600))
}

/// Answers one inspection.
async fn send(
    mut stream: UnixStream,
    inspected: Arc<Inspected>,
    mut stopped: watch::Receiver<bool>,
) {
    let report = tokio::task::spawn_blocking(move || inspected.report()).await;
    let report = match report.map_err(io::Error::from).and_then(|report| Ok(report?)) {
        Ok(report) => report,
        Err(error) => {
            tracing::error!("cannot make the report of an inspection: {error}");
            return;
        }
    };
    let sent = tokio::select! {
        sent = tokio::time::timeout(DEADLINE, stream.write_all(&report)) => sent,
        () = told_to_stop(&mut stopped) => return,
    };
    match sent {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("an inspection was not read to its end: {error}"),
        Err(_) => tracing::warn!("an inspection was not read within {DEADLINE:?}"),
    }
}
