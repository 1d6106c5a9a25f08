//! The command line: `haypile serve`, `config`, `inspect`, `definitions`, `users`, `vhosts`, `policies`, `connections`, `verify`, `repair`, `torture`, `bench`.
//!
//! What lives here: arguments, what is printed, exit codes. Results go to standard output, everything else to standard
//! error. It may use all of the library; nothing in the library may know of it.

mod bench;
mod client;
mod config;
mod damage;
mod data_directory;
mod escape;
mod hints;
mod inspect;
mod interrupt;
mod logging;
mod operating;
mod output;
mod repair;
mod serve;
mod status_line;
mod text;
mod torture;
mod verify;
mod workplace;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use crate::cli::output::remark;
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
            output::glimpse(format_args!("\r{} {:>3.0} %", self.what, share * 100.0));
        }
    }

    fn end(&self) {
        if self.shown {
            remark!();
        }
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    crate::server::raise_limit_of_open_files();
    let arguments = Arguments::try_parse().unwrap_or_else(|error| hints::with_tips(error).exit());
    let code = match arguments.command {
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
    ExitCode::from(output::end(code))
}

/// Says on standard error why a command did not do what it was to do.
fn complain(error: &dyn std::fmt::Display) {
    remark!("haypile: {error}");
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
    }

    #[test]
    fn the_commands_on_a_directory_take_it_with_the_flag_of_the_others_too() {
        for command in ["inspect", "verify", "repair"] {
            let parse = |arguments: &[&str]| {
                let given = ["haypile", command].into_iter().chain(arguments.iter().copied());
                Arguments::try_parse_from(given)
            };
            assert!(parse(&[]).is_ok());
            assert!(parse(&["somewhere"]).is_ok());
            assert!(parse(&["--data-dir", "somewhere"]).is_ok());
            assert!(parse(&["somewhere", "--data-dir", "elsewhere"]).is_err());
        }
    }
}
