//! The real binary as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use haypile::storage::{Options, Store};

use super::{Client, PATIENCE};

/// `haypile serve`, ready. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// Everything that it printed on standard output before it was ready, without the line's end.
    pub(crate) ready: String,
    errors: Option<ChildStderr>,
}

/// The `haypile` command with these arguments.
pub(crate) fn haypile(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haypile"));
    command.args(arguments).stdin(Stdio::null());
    without_settings(&mut command);
    command
}

/// Whatever is set for the tests is not for what they start.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HAYPILE_") {
            command.env_remove(name);
        }
    }
}

/// Makes an empty store with small segments, which are made and looked through faster.
pub(crate) fn prepare(directory: &Path) {
    let options = Options { segment_size: 1 << 20, ..Options::default() };
    Store::open(directory, options).unwrap().close().unwrap();
}

/// Runs a command that is expected to end by itself, and to do so soon.
pub(crate) fn run(command: Command) -> Output {
    run_for(PATIENCE, command)
}

/// Runs a command that is expected to end by itself within this time.
pub(crate) fn run_for(patience: Duration, mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output().unwrap()).ok());
    outcome.recv_timeout(patience).unwrap_or_else(|_| {
        signal(id, "KILL");
        panic!("{command:?} still ran after {patience:?}");
    })
}

/// Sends a signal, such as `TERM`, to a process.
pub(crate) fn signal(id: u32, name: &str) {
    Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status().unwrap();
}

impl Process {
    /// Starts a server on free ports of the loopback addresses and waits until it is ready.
    pub(crate) fn serve(directory: &Path) -> Process {
        Process::serve_with(directory, &["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn serve_with(directory: &Path, arguments: &[&str]) -> Process {
        let mut command = haypile(&["serve", "--data-dir", directory.to_str().unwrap()]);
        command.args(arguments);
        Process::start(command)
    }

    /// A server for [`Process::fail_writes`].
    pub(crate) fn serve_to_fail(directory: &Path) -> Process {
        // Without this, a write beyond the limit would be the end by a signal instead of an error.
        Process::serve_with_signals("--ignore-signal=XFSZ", directory)
    }

    /// A server that begins with a signal ignored, or not, whatever the tests were started with: an option of `env`.
    pub(crate) fn serve_with_signals(option: &str, directory: &Path) -> Process {
        Process::serve_by(&["env", option], directory)
    }

    /// A server that may have so many files open.
    pub(crate) fn serve_with_open_files(directory: &Path, most: u32) -> Process {
        let limit = format!("ulimit -n {most}; exec \"$@\"");
        Process::serve_by(&["sh", "-c", &limit, "sh"], directory)
    }

    /// A server that is started by a program, which takes the command as its last arguments.
    fn serve_by(program: &[&str], directory: &Path) -> Process {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .arg(env!("CARGO_BIN_EXE_haypile"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory)
            .stdin(Stdio::null());
        without_settings(&mut command);
        Process::start(command)
    }

    /// From now on every write to a file fails (`EFBIG`).
    pub(crate) fn fail_writes(&self) {
        let mut limit = Command::new("prlimit");
        limit.args(["--fsize=1", "--pid", &self.id().to_string()]);
        assert!(limit.status().unwrap().success());
    }

    /// Starts `haypile serve` and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Process {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let errors = child.stderr.take();
        let mut process = Process { child, ready: String::new(), errors };
        let (said, line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).ok();
            said.send(line).ok();
        });
        let line = line.recv_timeout(PATIENCE).expect("the server says nothing");
        process.ready = line.trim_end().to_owned();
        assert!(process.ready.starts_with("ready "), "{:?}, {}", line, process.rest_of_errors());
        process
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The addresses that it says it listens on.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.ready.split(' ').skip(1).map(|address| address.parse().unwrap()).collect()
    }

    /// A connection with channel 1 open.
    pub(crate) fn open_channel(&self) -> Client {
        let mut client = Client::new(self.addresses()[0]);
        client.open_connection(2047, 131_072, 0);
        client.open_channel(1);
        client
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end; how it ended, and what it wrote on standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "the server did not end within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(5));
        };
        (status, self.rest_of_errors())
    }

    /// Reads nothing of what it writes on standard error any more.
    pub(crate) fn hang_up(&mut self) {
        self.errors = None;
    }

    fn rest_of_errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut errors) = self.errors.take() {
            self.child.kill().ok();
            errors.read_to_string(&mut text).ok();
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
