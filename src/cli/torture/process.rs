//! The program under torture, as a process of its own.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::TortureError;

/// So much of what it says on standard error is kept: the last of it.
const LAST_WORDS: usize = 16 << 10;

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

/// A child; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    last_words: Arc<Mutex<VecDeque<u8>>>,
}

/// This program itself, with the hidden command that becomes the program under torture.
pub(super) fn child_command(what: &str, data: &Path) -> Result<Command, TortureError> {
    let program = std::env::current_exe().map_err(TortureError::NoProgram)?;
    let mut command = Command::new(program);
    command.arg("torture-child").arg(what).arg("--data-dir").arg(data);
    Ok(command)
}

impl Process {
    /// Starts it; `on_line` gets each whole line that it prints. To be called by a thread that outlives it: the child
    /// dies with the thread that has started it.
    pub(super) fn start(
        mut command: Command,
        mut on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Process, TortureError> {
        // In a group of its own: Ctrl-C on the terminal is for the torture alone.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = PathBuf::from(command.get_program());
        let mut child =
            command.spawn().map_err(|source| TortureError::Start { program, source })?;
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            readers.push(thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                // A line without its end was cut off by the kill.
                while output.read_until(b'\n', &mut line).is_ok() && line.pop() == Some(b'\n') {
                    on_line(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }));
        }
        if let Some(errors) = child.stderr.take() {
            let last_words = last_words.clone();
            readers.push(thread::spawn(move || keep_end(errors, &last_words)));
        }
        Ok(Process { child, readers, last_words })
    }

    /// Ends it with SIGKILL; returns when it is gone and everything that it has printed was read.
    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.join();
        Ok(status)
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// How it has ended, if it has; then everything that it printed was read.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.join();
        }
        Ok(status)
    }

    /// Waits for its end for as long as `goes_on` says.
    pub(super) fn wait_while(
        &mut self,
        mut goes_on: impl FnMut() -> bool,
    ) -> io::Result<Option<ExitStatus>> {
        loop {
            let status = self.ended()?;
            if status.is_some() || !goes_on() {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits for its end for so long.
    pub(super) fn wait_for(&mut self, time: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + time;
        self.wait_while(|| Instant::now() < until)
    }

    /// The last of what it said on standard error.
    pub(super) fn last_words(&self) -> String {
        let words: Vec<u8> = self.last_words.lock().iter().copied().collect();
        String::from_utf8_lossy(&words).trim().to_owned()
    }

    fn join(&mut self) {
        for reader in self.readers.drain(..) {
            if reader.join().is_err() {
                tracing::error!("a thread that reads the child's output panicked");
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell otherwise.
        self.kill().ok();
    }
}

fn keep_end(mut errors: impl Read, kept: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = errors.read(&mut buffer) {
        let mut kept = kept.lock();
        kept.extend(buffer.iter().take(read));
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }
}

/// How a process ended, for a person.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}
