//! The `haypile` command.

use std::process::ExitCode;

/// Messages are allocated by the thread of the publisher's connection and freed by that of the consumer's, and most are
/// larger than what the system's allocator keeps per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    haypile::cli::run()
}
