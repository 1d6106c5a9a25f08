//! What the engine is put through on a disk that is worse than any real one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests")]

#[cfg(feature = "broker")]
mod broker;
mod failed_syncs;
mod power_cuts;
