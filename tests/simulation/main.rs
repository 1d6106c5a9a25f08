//! What the engine is put through on a disk that is worse than any real one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests")]
#![expect(clippy::print_stdout, reason = "figures, for whoever asks to see them: `--nocapture`")]

mod bit_rot;
#[cfg(feature = "broker")]
mod broker;
mod exhaustive;
mod failed_syncs;
mod faults;
#[path = "../common/fixtures.rs"]
mod fixtures;
mod full_disk;
mod hard_links;
mod lies;
mod mutants;
mod power_cuts;
mod progress;
mod runs;
mod upgrade;
mod voided;
