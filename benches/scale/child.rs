//! `haypile serve` as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;

/// How long a server may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(300);

/// A server that is ready. Killed, as by `kill -9`, when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// From its start to the line that says that it is ready.
    pub(crate) ready_after: Duration,
}

/// Memory in bytes, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Server {
    /// Starts a server on a data directory and waits until it is ready.
    pub(crate) fn start(directory: &Path) -> Outcome<Server> {
        let begin = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_haypile"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory)
            .env("HAYPILE_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take();
        // From here on it is killed whatever happens.
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server { child, address, ready_after: Duration::ZERO };
        let (said, line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            if let Some(output) = output {
                BufReader::new(output).read_line(&mut line).ok();
            }
            said.send(line).ok();
        });
        let line = line.recv_timeout(PATIENCE)?;
        server.ready_after = begin.elapsed();
        let address = line.trim_end().strip_prefix("ready ").ok_or("the server did not start")?;
        server.address = address.parse()?;
        Ok(server)
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Has it end cleanly.
    pub(crate) fn stop(mut self) -> Outcome {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > PATIENCE {
                return Err("the server did not stop".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// How much memory it has.
    pub(crate) fn memory(&self) -> Outcome<Memory> {
        memory_of(&self.child.id().to_string())
    }
}

/// How much memory a process has; `self` is this one.
pub(crate) fn memory_of(process: &str) -> Outcome<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Outcome<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next());
        Ok(kibibytes.ok_or("no memory in /proc/<pid>/status")?.parse::<u64>()? << 10)
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
