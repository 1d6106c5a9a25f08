//! The `haypile` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    haypile::cli::run()
}
