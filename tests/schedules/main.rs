//! The log's threads under a scheduler that decides on every step of each of them.
//!
//! The sources of the log and of the segment pool are compiled here once more, with [`sync`](storage::sync) in the place of the
//! engine's own: its locks, atomics and threads are those of the `shuttle` crate, which runs one schedule after the other, random
//! ones and such with few switches (PCT), and finds waiting without an end. The disk is one that decides
//! nothing but is slow enough for everybody to come between, and can fail. Their unit tests come along; they take no time.
//!
//! What is not tried: orders of memory accesses that a sequentially consistent machine does not have. Time never passes. A failing
//! run prints its schedule, which `shuttle::replay` repeats. `HAYPILE_SCHEDULES` asks for another number of them, of each kind.
//!
//! | file | what it is |
//! |---|---|
//! | `sync` | the scheduler's primitives under the engine's names, and the rules that can be broken |
//! | `disk` | a disk that knows what is synced |
//! | `rig` | a log with its threads, and the checks that hold whatever happens |
//! | `waiting`, `failing`, `stopping`, `segments`, `units` | what is tried |
//! | `slips` | that each broken rule is noticed |

#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml allows them in `#[test]`s, not in their helpers

mod disk;
mod failing;
mod rig;
mod segments;
mod slips;
mod stopping;
mod units;
mod waiting;

/// The engine's sources, as far as the log needs them. What it comes to use besides has to be listed here.
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the store that uses the rest is not here"
)]
#[path = "../../src/storage"]
mod storage {
    pub(crate) mod checksum;
    pub(crate) mod clock;
    pub(crate) mod disk;
    pub(crate) mod draft;
    pub(crate) mod entropy;
    pub(crate) mod error;
    pub(crate) mod log;
    pub(crate) mod memory;
    pub(crate) mod message;
    pub(crate) mod mutant;
    pub(crate) mod options;
    pub(crate) mod record;
    pub(crate) mod segment;
    #[path = "../../tests/schedules/sync.rs"]
    pub(crate) mod sync;
    pub(crate) mod units;
}
