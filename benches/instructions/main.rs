//! How many instructions the hot parts take: `cargo bench --bench instructions [-- --update]`.
//!
//! Time tells little on a machine that others use as well; instructions are the same every time. Each part is run so many
//! times by this program under `valgrind --tool=callgrind`, which counts what happens in [`measured`] alone. The counts
//! are compared with [those that were expected](EXPECTED), and written there with `--update`. They are those of one compiler
//! and of one kind of processor; elsewhere they are a few percent off, and only their changes mean something.

// A benchmark is there to print, and looks at files from outside the engine.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use haypile::benchmarks::{Benchmark, Part, all};

/// The parts that are counted, and how many instructions one operation of each took when that was last noted.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/expected.json");

/// How much a count may differ from that, in percent. A change elsewhere moves what the compiler inlines here, which has been
/// worth up to 3 %.
const TOLERANCE: f64 = 5.0;

/// How often a part is run before it is counted: buffers have their size then.
const WARM_UP: u32 = 4;

/// How often a part is run while it is counted.
const RUNS: u32 = 16;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Counts the instructions of the hot parts, and compares them with what was expected.
#[derive(Debug, Parser)]
struct Arguments {
    /// Writes down the counts as what is expected from now on.
    #[arg(long)]
    update: bool,
    /// Runs one part, to be counted.
    #[arg(long, hide = true, value_name = "PART")]
    run: Option<String>,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.run {
        Some(name) => run(name).map(|()| true),
        None => compare(arguments.update),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions could not be counted: {error}");
            ExitCode::FAILURE
        }
    }
}

fn full_name(benchmark: &Benchmark) -> String {
    format!("{}: {}", benchmark.group, benchmark.name)
}

fn find(name: &str) -> Outcome<&'static Benchmark> {
    let found = all().find(|benchmark| full_name(benchmark) == name);
    found.ok_or_else(|| format!("there is no part with the name {name:?}").into())
}

fn run(name: &str) -> Outcome<()> {
    let mut part = (find(name)?.make)();
    for _ in 0..WARM_UP {
        part.prepare();
        part.run();
    }
    for _ in 0..RUNS {
        part.prepare();
        measured(black_box(&mut *part));
    }
    Ok(())
}

/// What is counted: callgrind knows it by its name.
#[inline(never)]
fn measured(part: &mut dyn Part) {
    part.run();
    // The call is not the last thing that happens here, or it would be a jump, and be counted as what it jumps to.
    black_box(());
}

/// Prints all counts; whether they are what was expected, or are so from now on.
fn compare(update: bool) -> Outcome<bool> {
    let mut expected: BTreeMap<String, f64> =
        serde_json::from_str(&std::fs::read_to_string(EXPECTED)?)?;
    let mut fine = true;
    println!("| instructions of one operation | expected | counted | change |");
    println!("|---|---:|---:|---:|");
    for (name, expected) in &mut expected {
        let counted = count(name)?;
        let change = (counted / *expected - 1.0) * 100.0;
        fine &= change.abs() <= TOLERANCE;
        println!("| {name} | {expected:.1} | {counted:.1} | {change:+.2} % |");
        if update {
            *expected = (counted * 10.0).round() / 10.0;
        }
    }
    if update {
        std::fs::write(EXPECTED, serde_json::to_string_pretty(&expected)? + "\n")?;
        return Ok(true);
    }
    if !fine {
        println!(
            "\nMore than {TOLERANCE} % off. If that is meant to be so: cargo bench --bench instructions -- --update"
        );
    }
    Ok(fine)
}

/// Instructions of one operation of a part.
fn count(name: &str) -> Outcome<f64> {
    let operations = find(name)?.operations * u64::from(RUNS);
    let dir = tempfile::tempdir()?;
    let output = dir.path().join("callgrind");
    let valgrind = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*instructions*measured*",
        ])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(std::env::current_exe()?)
        .args(["--run", name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}; Debian's package has its name"))?;
    if !valgrind.status.success() {
        return Err(String::from_utf8_lossy(&valgrind.stderr).into_owned().into());
    }
    Ok(total(&output)? as f64 / operations as f64)
}

/// What callgrind says it has counted in all.
fn total(output: &Path) -> Outcome<u64> {
    let text = std::fs::read_to_string(output)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    match total.map(str::parse) {
        Some(Ok(total)) if total > 0 => Ok(total),
        _ => Err("callgrind has counted nothing: it does not find `measured`".into()),
    }
}
