//! Where the clients are put: under the target directory, pinned, and kept there for as long as the pins stay the same.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Making one environment, the download included.
const ENVIRONMENT: Duration = Duration::from_secs(240);

/// A virtual environment with exactly `requirements` in it, kept over runs for as long as neither
/// they nor the Python change. Gives its Python.
pub(crate) fn virtual_environment(requirements: &str) -> Result<PathBuf, String> {
    let wanted = super::sources().join(requirements);
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
pub(crate) fn bounded(
    command: &mut Command,
    limit: Duration,
) -> io::Result<(Option<ExitStatus>, String)> {
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
