//! The main jobs of a broker, done by the clients that people use: Python programs with `pika`
//! against the real binary. `tests/interop/README.md` says what is there.
//!
//! Each test runs one Python program in a virtual environment of its own making, with the pinned
//! client. Where there is no Python 3, or no environment can be made, it says so loudly on standard
//! error and passes; with `HAYPILE_REQUIRE_INTEROP=1` that is a failure.

#![cfg(feature = "broker")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the rule that only the engine's disk trait touches files is for the product"
)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a quick scenario may take. The Python side has tighter bounds of its own, and explains
/// what it was waiting for; this is for the case that it cannot.
const SCENARIO: Duration = Duration::from_secs(300);

/// The same for the kill rounds, many times what they need.
const KILL_ROUNDS: Duration = Duration::from_secs(900);

/// Making one virtual environment, the download included.
const ENVIRONMENT: Duration = Duration::from_secs(240);

mod current_pika {
    use super::{KILL_ROUNDS, Pika, SCENARIO, run};

    #[test]
    fn the_oracle_of_the_kill_rounds_notices_every_fault() {
        run(Pika::Current, "test_oracle.py", SCENARIO);
    }

    #[test]
    fn hello_world_arrives() {
        run(Pika::Current, "test_hello.py", SCENARIO);
    }

    #[test]
    fn workers_share_a_work_queue() {
        run(Pika::Current, "test_work_queue.py", SCENARIO);
    }

    #[test]
    fn messages_alternate_between_workers_without_prefetch() {
        run(Pika::Current, "test_round_robin.py", SCENARIO);
    }

    #[test]
    fn a_killed_workers_task_goes_to_another_at_once() {
        run(Pika::Current, "test_acknowledgement.py", SCENARIO);
    }

    #[test]
    fn a_slow_worker_gets_no_task_while_a_fast_one_is_idle() {
        run(Pika::Current, "test_fair_dispatch.py", SCENARIO);
    }

    #[test]
    fn three_threads_share_ten_thousand_messages() {
        run(Pika::Current, "test_threads.py", SCENARIO);
    }

    #[test]
    fn what_an_exchange_routes_nowhere_is_kept_by_its_alternate() {
        run(Pika::Current, "test_alternate_exchange.py", SCENARIO);
    }

    #[test]
    fn copies_go_to_several_queues_and_blind_ones_are_not_told_of() {
        run(Pika::Current, "test_copies.py", SCENARIO);
    }

    #[test]
    fn calls_are_answered_directly() {
        run(Pika::Current, "test_direct_reply_to.py", SCENARIO);
    }

    #[test]
    fn what_a_publisher_saw_confirmed_survives_kill_nine() {
        run(Pika::Current, "test_confirms.py", SCENARIO);
    }

    #[test]
    fn confirmed_messages_survive_twenty_rounds_of_kill_nine() {
        run(Pika::Current, "test_durability.py", KILL_ROUNDS);
    }
}

mod classic_pika {
    use super::{Pika, SCENARIO, run};

    #[test]
    fn hello_world_arrives() {
        run(Pika::Classic, "test_hello.py", SCENARIO);
    }

    #[test]
    fn workers_share_a_work_queue() {
        run(Pika::Classic, "test_work_queue.py", SCENARIO);
    }

    #[test]
    fn messages_alternate_between_workers_without_prefetch() {
        run(Pika::Classic, "test_round_robin.py", SCENARIO);
    }

    #[test]
    fn a_killed_workers_task_goes_to_another_at_once() {
        run(Pika::Classic, "test_acknowledgement.py", SCENARIO);
    }

    #[test]
    fn a_slow_worker_gets_no_task_while_a_fast_one_is_idle() {
        run(Pika::Classic, "test_fair_dispatch.py", SCENARIO);
    }

    #[test]
    fn three_threads_share_ten_thousand_messages() {
        run(Pika::Classic, "test_threads.py", SCENARIO);
    }

    #[test]
    fn what_an_exchange_routes_nowhere_is_kept_by_its_alternate() {
        run(Pika::Classic, "test_alternate_exchange.py", SCENARIO);
    }

    #[test]
    fn copies_go_to_several_queues_and_blind_ones_are_not_told_of() {
        run(Pika::Classic, "test_copies.py", SCENARIO);
    }

    #[test]
    fn calls_are_answered_directly() {
        run(Pika::Classic, "test_direct_reply_to.py", SCENARIO);
    }

    #[test]
    fn what_a_publisher_saw_confirmed_survives_kill_nine() {
        run(Pika::Classic, "test_confirms.py", SCENARIO);
    }
}

/// A pinned client, in its virtual environment.
#[derive(Clone, Copy)]
enum Pika {
    /// The current release.
    Current,
    /// The last one with the 0.x interface.
    Classic,
}

impl Pika {
    fn requirements(self) -> &'static str {
        match self {
            Pika::Current => "requirements.txt",
            Pika::Classic => "requirements-0x.txt",
        }
    }

    /// The environment's Python, made once per run of the tests; or why there is none.
    fn python(self) -> Result<PathBuf, String> {
        static CURRENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static CLASSIC: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let made = match self {
            Pika::Current => &CURRENT,
            Pika::Classic => &CLASSIC,
        };
        made.get_or_init(|| virtual_environment(self.requirements())).clone()
    }
}

/// Runs one Python program to its end; fails with what it printed.
fn run(pika: Pika, program: &str, limit: Duration) {
    let python = match pika.python() {
        Ok(python) => python,
        Err(reason) => return skip(program, &reason),
    };
    let mut command = Command::new(python);
    command
        .arg(sources().join(program))
        .env("HAYPILE_BIN", env!("CARGO_BIN_EXE_haypile"))
        .env("INTEROP_SCRATCH", env!("CARGO_TARGET_TMPDIR"))
        .env_remove("INTEROP_BROKER")
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    if matches!(pika, Pika::Classic) {
        command.env("PYTHONPATH", sources().join("python310"));
    }
    let (status, output) = bounded(&mut command, limit)
        .unwrap_or_else(|error| (None, format!("cannot run {program}: {error}")));
    // For `cargo test -- --nocapture`, and for a failure.
    eprintln!("--- {program}\n{output}");
    assert!(
        status.is_some_and(|status| status.success()),
        "{program} failed ({}); its output is above",
        status.map_or_else(|| "no exit status".to_owned(), |status| status.to_string()),
    );
}

/// Says on the real standard error, which the test harness does not capture, that nothing was tested.
fn skip(program: &str, reason: &str) {
    let required = std::env::var("HAYPILE_REQUIRE_INTEROP").is_ok_and(|value| value == "1");
    assert!(!required, "HAYPILE_REQUIRE_INTEROP=1, but {program} cannot run: {reason}");
    let line = format!("\n!!! SKIPPED tests/interop/{program}: {reason}\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error takes a line");
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// A virtual environment with exactly `requirements` in it, kept over runs for as long as neither
/// they nor the Python change. Gives its Python.
fn virtual_environment(requirements: &str) -> Result<PathBuf, String> {
    let wanted = sources().join(requirements);
    let pins =
        fs::read_to_string(&wanted).map_err(|error| format!("{}: {error}", wanted.display()))?;
    let version = capture(
        Command::new("python3").args(["-c", "import sys; print(sys.executable, sys.version)"]),
        "there is no Python 3",
    )?;
    let fingerprint = format!("{version}\n{pins}");

    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("venv-{requirements}"));
    let python = directory.join("bin/python");
    // Another run of the tests may be making it: the lock goes with the file handle.
    let describe = |error: io::Error| format!("{}: {error}", directory.display());
    let lock = File::create(directory.with_extension("lock")).map_err(describe)?;
    lock.lock().map_err(describe)?;

    // Written last: an environment that was left half made does not have it.
    let stamp = directory.join("made-for");
    if fs::read_to_string(&stamp).is_ok_and(|made_for| made_for == fingerprint) {
        return Ok(python);
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(describe(error)),
        _ => {}
    }
    capture(
        Command::new("python3").args(["-m", "venv"]).arg(&directory),
        "Python has no working `venv` (on Debian it is the package python3-venv)",
    )?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    install.args(["--no-deps", "--require-hashes", "--requirement"]).arg(&wanted);
    capture(&mut install, "pip cannot install the pinned client")?;
    fs::write(&stamp, fingerprint).map_err(describe)?;
    Ok(python)
}

/// Standard output and error of a command that must succeed; else `complaint` and what it printed.
fn capture(command: &mut Command, complaint: &str) -> Result<String, String> {
    match bounded(command, ENVIRONMENT) {
        Ok((Some(status), output)) if status.success() => Ok(output),
        Ok((_, output)) => Err(format!("{complaint}: {}", output.trim_end())),
        Err(error) => Err(format!("{complaint}: {error}")),
    }
}

/// Runs a command to its end, or to `limit`: then it is killed with every process that it started.
/// Gives its exit status, unless it was killed, and all that it printed.
fn bounded(command: &mut Command, limit: Duration) -> io::Result<(Option<ExitStatus>, String)> {
    // To a file, not a pipe: a process that outlives its parent must not hold us up.
    let (output, mut printed) = (tempfile::NamedTempFile::new()?, String::new());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(output.reopen()?)
        .process_group(0)
        .spawn()?;
    let status = wait(&mut child, limit)?;
    if status.is_none() {
        // The whole process group; the shell always has a `kill`.
        let group = format!("kill -s KILL -- -{}", child.id());
        let killed = Command::new("sh").args(["-c", &group]).status()?;
        printed = format!("KILLED after {limit:?} ({killed})\n");
        child.wait()?;
    }
    printed.insert_str(0, &String::from_utf8_lossy(&fs::read(output.path())?));
    Ok((status, printed))
}

/// The exit status of the child, or `None` if it still runs after `limit`.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            status => return Ok(status),
        }
    }
}
