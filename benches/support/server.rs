//! A server that a benchmark starts, in a process of its own.
#![allow(clippy::disallowed_methods, reason = "a benchmark looks at files from outside the engine")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::Outcome;

/// A virtual host for those who only look on.
pub(crate) const OTHER: &str = "canary";

/// A new directory in `parent`, or in the system's place for temporary files.
pub(crate) fn working_directory(parent: Option<&Path>) -> Outcome<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("haypile-bench-");
    Ok(parent.map_or_else(|| builder.tempdir(), |parent| builder.tempdir_in(parent))?)
}

/// A server that was started here. Killed when it is dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Server {
    /// Starts a server on a new directory, with the virtual host [`OTHER`].
    pub(crate) fn start(binary: &Path, directory: &Path) -> Outcome<(Server, SocketAddr)> {
        let added = Command::new(binary)
            .args(["vhosts", "add", OTHER, "--data-dir"])
            .arg(directory)
            .output()?;
        if !added.status.success() {
            return Err(String::from_utf8_lossy(&added.stderr).into_owned().into());
        }
        Server::restart(binary, directory)
    }

    /// Starts a server on a directory that a server had before.
    pub(crate) fn restart(binary: &Path, directory: &Path) -> Outcome<(Server, SocketAddr)> {
        let child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory)
            .env("HAYPILE_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        // From here on it is killed in any case.
        let mut server = Server(child);
        let mut line = String::new();
        let output = server.0.stdout.take().ok_or("the server has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("ready ").ok_or("the server did not start")?;
        Ok((server, address.parse()?))
    }

    /// The processor time of the server's threads so far, of those that have not ended.
    pub(crate) fn processor_time(&self) -> Outcome<Duration> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            // A thread may have ended meanwhile.
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let nanoseconds: Option<u64> =
                text.split(' ').next().and_then(|first| first.parse().ok());
            sum += nanoseconds.unwrap_or(0);
        }
        Ok(Duration::from_nanos(sum))
    }
}
