//! `haypile bench`: benchmarks that people run on their own machines, and the report that they share.
//!
//! What lives here: the command, and what all benchmarks need. A benchmark uses the library as any other program would, and says
//! nothing about a figure that it has not measured. Nothing else in the command line may know of it.
//!
//! | file | what it is |
//! |---|---|
//! | `store` | the engine on a disk, beside what the disk itself can do |
//! | `amqp` | any AMQP broker, or several beside each other |
//! | `report` | measurements, and showing them as tables, JSON and a plot |
//! | `schedule`, `cpu` | when something that has a rate is due; what it costs the processor |

mod amqp;
mod cpu;
mod report;
mod schedule;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;

use self::report::Report;
use super::{COULD_NOT_RUN, DONE, FAILED, complain};
use crate::cli::output;

/// Measure, with latency percentiles, as tables, JSON and a plot.
#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Store(store::BenchStore),
    Amqp(amqp::BenchAmqp),
}

impl Bench {
    pub(super) fn run(&self) -> u8 {
        match &self.what {
            What::Store(store) => store.run(),
            What::Amqp(amqp) => amqp.run(),
        }
    }
}

/// A time above zero, such as `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.filter(|time| !time.is_zero() && *time <= Duration::from_secs(86_400));
    time.ok_or_else(|| "give a time in seconds, above zero and up to a day, such as 0.5".to_owned())
}

/// How the result is shown.
#[derive(Debug, clap::Args)]
struct Output {
    /// Print one JSON object instead of tables (docs/benchmarks.md says what is in it).
    #[arg(long)]
    json: bool,
    /// Draw the result besides: bars of the rates, and the percentiles beside them.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Why there is no plot.
#[derive(Debug, thiserror::Error)]
enum OutputError {
    #[error("--svg {}: there is no directory {}; make it, or name another file", file.display(), parent.display())]
    NoDirectory { file: PathBuf, parent: PathBuf },
    #[error("cannot write the plot to {}: {source}; the figures are above", file.display())]
    Plot { file: PathBuf, source: io::Error },
}

impl Output {
    /// Whether the result can be shown, as far as that can be known before it is there: a benchmark takes long.
    fn check(&self) -> Result<(), OutputError> {
        let Some(file) = &self.svg else { return Ok(()) };
        let parent = file.parent().filter(|parent| *parent != Path::new(""));
        match parent.filter(|parent| !parent.is_dir()) {
            Some(parent) => {
                Err(OutputError::NoDirectory { file: file.clone(), parent: parent.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Shows the result on standard output, and draws it. Gives the exit code.
    fn show(&self, report: &Report) -> u8 {
        if self.json {
            output::json(&report.as_json());
        } else {
            output::text(report.as_table().as_bytes());
        }
        let drawn = self.svg.as_ref().map_or(Ok(()), |file| draw(report, file));
        match drawn {
            Ok(()) if report.is_wrong() => FAILED,
            Ok(()) => DONE,
            Err(error) => {
                complain(&error);
                FAILED
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a plot is nothing of a store's")]
fn draw(report: &Report, file: &Path) -> Result<(), OutputError> {
    std::fs::write(file, report.as_plot())
        .map_err(|source| OutputError::Plot { file: file.to_owned(), source })
}

/// Shows what a benchmark has come to, or says why it could not run. Gives the exit code.
fn conclude(outcome: Result<Report, impl std::fmt::Display>, output: &Output) -> u8 {
    match outcome {
        Ok(report) => output.show(&report),
        Err(error) => {
            complain(&error);
            COULD_NOT_RUN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_above_zero_and_no_more_than_a_day() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("86400"), Ok(Duration::from_secs(86_400)));
        for text in ["0", "-1", "x", "", "86400.1", "1e300", "nan", "inf"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_plot_that_could_not_be_written_is_refused_before_anything_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let to = |file: PathBuf| Output { json: false, svg: Some(file) };
        assert!(to(dir.path().join("plot.svg")).check().is_ok());
        assert!(to(PathBuf::from("plot.svg")).check().is_ok());
        let error = to(dir.path().join("nowhere/plot.svg")).check().unwrap_err().to_string();
        assert!(error.contains("there is no directory") && error.contains("nowhere"), "{error}");
    }
}
