//! The fuzz targets: for each of them a function that takes bytes, and panics when a promise is broken.
//!
//! **Not part of the API**: it is behind the feature `fuzzing`, for the crate in `fuzz/` and for the tests that run the
//! targets over their corpora, and changes without notice. What the targets do lives beside what they try.

use crate::storage::fuzzing as storage;
#[cfg(feature = "broker")]
use crate::{amqp::fuzzing as amqp, message::fuzzing as message};

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, as of its program, its seeds and its regressions.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]),
    /// Makes inputs to begin with, and their names.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "records", run: records, seeds: storage::record_seeds },
    Target { name: "recovery", run: recovery, seeds: storage::recovery_seeds },
    #[cfg(feature = "broker")]
    Target { name: "frames", run: frames, seeds: amqp::frame_seeds },
    #[cfg(feature = "broker")]
    Target { name: "tables", run: tables, seeds: message::seeds },
    #[cfg(feature = "broker")]
    Target { name: "connection", run: connection, seeds: amqp::connection_seeds },
];

/// Records, groups, segment headers and superblocks, decoded.
pub fn records(bytes: &[u8]) {
    storage::records(bytes);
}

/// A damaged store, opened, looked at and repaired.
pub fn recovery(bytes: &[u8]) {
    storage::recovery(bytes);
}

/// AMQP frames, methods and content headers, decoded.
#[cfg(feature = "broker")]
pub fn frames(bytes: &[u8]) {
    amqp::frames(bytes);
}

/// Field tables, decoded and encoded.
#[cfg(feature = "broker")]
pub fn tables(bytes: &[u8]) {
    message::tables(bytes);
}

/// A whole connection to a broker with a store in memory.
#[cfg(feature = "broker")]
pub fn connection(bytes: &[u8]) {
    amqp::connection(bytes);
}
