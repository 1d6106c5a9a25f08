//! The command line: `haypile serve`, `config`, `inspect`, `definitions`, `users`, `vhosts`, `policies`, `connections`, `verify`, `repair`, `torture`, `bench`.
//!
//! What lives here: arguments, what is printed, exit codes. Results go to standard output, everything else to standard
//! error. It may use all of the library; nothing in the library may know of it.
#![expect(clippy::print_stdout, reason = "what a command prints on standard output is its result")]

mod bench;
mod client;
mod config;
mod damage;
mod inspect;
mod interrupt;
mod operating;
mod repair;
mod serve;
mod status_line;
mod text;
mod torture;
mod verify;
mod workplace;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// It did what it was asked for.
const DONE: u8 = 0;
/// It failed; of `verify` and `repair`: there is damage.
const FAILED: u8 = 1;
/// It could not begin.
const COULD_NOT_RUN: u8 = 2;

/// A durable message broker: a publisher confirm means that the message is on stable storage.
#[derive(Debug, Parser)]
#[command(name = "haypile", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Config(config::Show),
    Inspect(inspect::Inspect),
    Definitions(operating::Definitions),
    Users(operating::Users),
    Vhosts(operating::VirtualHosts),
    Policies(operating::Policies),
    Connections(operating::Connections),
    Verify(verify::Verify),
    Repair(repair::Repair),
    Torture(torture::Torture),
    Bench(bench::Bench),
    #[command(hide = true)]
    TortureChild(torture::TortureChild),
}

/// The directory of a store.
#[derive(Debug, clap::Args)]
struct StoreDirectory {
    /// The data directory; while a server is running on it, `inspect` alone works.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Print long lists in full; with --json they are anyway.
    #[arg(long)]
    all: bool,
}

/// Shows a person how far a command is.
#[derive(Debug)]
struct Progress {
    what: &'static str,
    shown: bool,
}

impl Progress {
    fn new(what: &'static str) -> Progress {
        Progress { what, shown: io::stderr().is_terminal() }
    }

    fn show(&self, share: f64) {
        if self.shown {
            eprint!("\r{} {:>3.0} %", self.what, share * 100.0);
        }
    }

    fn end(&self) {
        if self.shown {
            eprintln!();
        }
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Config(show) => show.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Definitions(definitions) => definitions.run(),
        Command::Users(users) => users.run(),
        Command::Vhosts(hosts) => hosts.run(),
        Command::Policies(policies) => policies.run(),
        Command::Connections(connections) => connections.run(),
        Command::Verify(verify) => verify.run(),
        Command::Repair(repair) => repair.run(),
        Command::Torture(torture) => torture.run(),
        Command::Bench(bench) => bench.run(),
        Command::TortureChild(child) => child.run(),
    };
    ExitCode::from(code)
}

/// Says on standard error why a command did not do what it was to do.
fn complain(error: &dyn std::fmt::Display) {
    eprintln!("haypile: {error}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_needs_no_arguments() {
        assert!(Arguments::try_parse_from(["haypile", "serve"]).is_ok());
        assert!(Arguments::try_parse_from(["haypile", "serve", "--listen", "nonsense"]).is_err());
        assert!(Arguments::try_parse_from(["haypile", "inspect"]).is_err());
    }
}
