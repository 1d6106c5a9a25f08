//! What the engine is put through on a disk that is worse than any real one.

#[cfg(feature = "broker")]
mod broker;
mod power_cuts;
