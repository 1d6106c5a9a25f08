//! What the engine is put through on a disk that is worse than any real one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests")]
#![expect(clippy::print_stdout, reason = "what was tried is counted, and shown by `--nocapture`")]

mod bit_rot;
mod failed_syncs;
mod full_disk;
mod lies;
mod power_cuts;
mod runs;
mod voided;
