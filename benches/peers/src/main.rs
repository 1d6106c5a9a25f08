//! The same durable queue on `haypile::storage` and on other embedded stores, side by side.
//!
//! `cargo run --release` runs every scenario on every peer, in turn, several rounds of it, and prints medians and ratios. See
//! README.md for what is measured and how each peer is set up.

mod arguments;
mod combiner;
#[cfg(test)]
mod conformance;
mod measure;
mod peer;
mod report;
mod rounds;
mod scenario;
mod stores;

use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Task};

/// Whatever stops a measurement; it is printed and nothing else.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.task {
        Some(Task::Measure(one)) => measure::print(one),
        None => rounds::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the comparison did not come to its end: {error}");
            ExitCode::FAILURE
        }
    }
}
