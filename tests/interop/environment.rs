//! Where the clients are put: under the target directory, pinned, and kept there for as long as the pins stay the same.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Making one environment, the download included.
const ENVIRONMENT: Duration = Duration::from_secs(240);

/// A virtual environment with exactly `requirements` in it. Gives its Python.
pub(crate) fn virtual_environment(requirements: &str) -> Result<PathBuf, String> {
    let wanted = super::sources().join(requirements);
    let version = capture(
        Command::new("python3").args(["-c", "import sys; print(sys.executable, sys.version)"]),
        "there is no Python 3",
    )?;
    let fingerprint = format!("{version}\n{}", pins(&wanted)?);
    let directory = kept(&format!("venv-{requirements}"), &fingerprint, |directory| {
        capture(
            Command::new("python3").args(["-m", "venv"]).arg(directory),
            "Python has no working `venv` (on Debian it is the package python3-venv)",
        )?;
        let mut install = Command::new(directory.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--no-input"]);
        install.args(["--disable-pip-version-check", "--no-deps", "--require-hashes"]);
        install.arg("--requirement").arg(&wanted);
        capture(&mut install, "pip cannot install the pinned client").map(drop)
    })?;
    Ok(directory.join("bin/python"))
}

/// The source distributions of exactly `requirements`, packed as they come. Gives the directory with them. The Python is one with
/// pip: that of a virtual environment has it, also where the machine's has none.
pub(crate) fn source_distributions(python: &Path, requirements: &str) -> Result<PathBuf, String> {
    let wanted = super::sources().join(requirements);
    let name = format!("source-distributions-{}", requirements.replace('/', "-"));
    kept(&name, &pins(&wanted)?, |directory| {
        let mut download = Command::new(python);
        download.args(["-m", "pip", "download", "--quiet", "--no-input"]);
        download.args(["--disable-pip-version-check", "--no-deps", "--require-hashes"]);
        download.args(["--no-binary", ":all:", "--dest"]).arg(directory);
        download.arg("--requirement").arg(&wanted);
        capture(&mut download, "pip cannot download the pinned sources").map(drop)
    })
}

/// What the lock file in the directory `sources` says, for Node. Gives the directory with the modules.
pub(crate) fn node_modules(sources: &str) -> Result<PathBuf, String> {
    let wanted = super::sources().join(sources);
    let version = capture(
        Command::new("node").arg("--version"),
        "there is no Node.js (on Debian it is the package nodejs)",
    )?;
    let fingerprint = format!("{version}\n{}", pins(&wanted.join("package-lock.json"))?);
    let directory = kept(&format!("node-{sources}"), &fingerprint, |directory| {
        fs::create_dir(directory).map_err(|error| describe(directory, &error))?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(wanted.join(file), directory.join(file))
                .map_err(|error| describe(&wanted.join(file), &error))?;
        }
        let mut install = Command::new("npm");
        install.args(["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
        install.current_dir(directory);
        capture(&mut install, "npm cannot install the pinned client (it is the package npm)")
            .map(drop)
    })?;
    Ok(directory.join("node_modules"))
}

/// Whether rabbitmq-c's tools are installed.
pub(crate) fn amqp_tools() -> Result<(), String> {
    let complaint = "there is no amqp-publish (on Debian it is the package amqp-tools)";
    capture(Command::new("amqp-publish").arg("--help"), complaint).map(drop)
}

/// Whether Go and the sources of its client are installed.
pub(crate) fn go_client() -> Result<(), String> {
    let complaint = "there is no Go (on Debian it is the package golang-go)";
    capture(Command::new("go").arg("version"), complaint)?;
    let sources = Path::new("/usr/share/gocode/src/github.com/rabbitmq/amqp091-go");
    if sources.join("integration_test.go").exists() {
        return Ok(());
    }
    Err(format!(
        "there is no {} (on Debian it is the package golang-github-rabbitmq-amqp091-go-dev)",
        sources.display()
    ))
}

/// Whether Ruby has its client.
pub(crate) fn bunny() -> Result<(), String> {
    let complaint = "Ruby has no bunny (on Debian it is the package ruby-bunny)";
    capture(Command::new("ruby").args(["-e", "require 'bunny'"]), complaint).map(drop)
}

/// Checks that Debian's amqplib is installed. That of PyPI is for Python 2.
pub(crate) fn amqplib_of_debian() -> Result<(), String> {
    let package = Path::new("/usr/lib/python3/dist-packages/amqplib");
    if package.exists() {
        return Ok(());
    }
    Err(format!("there is no {} (on Debian it is the package python3-amqplib)", package.display()))
}

/// The text of the file that pins a client.
fn pins(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| describe(file, &error))
}

/// The directory `name`, made with `make` and kept over runs for as long as the fingerprint is the same.
fn kept(
    name: &str,
    fingerprint: &str,
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let describe = |error: io::Error| describe(&directory, &error);
    // Another run of the tests may be making it: the lock goes with the file handle.
    let lock = File::create(directory.with_extension("lock")).map_err(describe)?;
    lock.lock().map_err(describe)?;

    // Written last: an environment that was left half made does not have it.
    let stamp = directory.join("made-for");
    if fs::read_to_string(&stamp).is_ok_and(|made_for| made_for == fingerprint) {
        return Ok(directory);
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(describe(error)),
        _ => {}
    }
    make(&directory)?;
    fs::write(&stamp, fingerprint).map_err(describe)?;
    Ok(directory)
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
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
