//! The hot parts of the engine and the broker, each to be run by itself: how long it takes is measured by `benches/parts`, how
//! many instructions by `benches/instructions`.
//!
//! **Not part of the API**: it is behind the feature `benchmarks`, for those two, and changes without notice. What a part does
//! lives beside what it measures.

use crate::storage::benchmarks as storage;
#[cfg(feature = "broker")]
use crate::{amqp::benchmarks as amqp, broker::benchmarks as broker};

/// Something to run again and again.
pub trait Part {
    /// Makes ready for the next [run](Self::run). Not measured.
    fn prepare(&mut self);

    /// Does what is measured.
    fn run(&mut self);
}

/// A part, and what a run of it comes to.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark {
    /// What it belongs to.
    pub group: &'static str,
    /// Its name in that group.
    pub name: &'static str,
    /// How many operations a run is.
    pub operations: u64,
    /// How many bytes of messages each of them is about; 0: none.
    pub bytes: u64,
    /// Makes it.
    pub make: fn() -> Box<dyn Part>,
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Benchmark> {
    let parts = [
        storage::PARTS,
        #[cfg(feature = "broker")]
        broker::PARTS,
        #[cfg(feature = "broker")]
        amqp::PARTS,
    ];
    parts.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_part_can_be_run_again_and_again() {
        for benchmark in all() {
            eprintln!("{}: {}", benchmark.group, benchmark.name);
            let mut part = (benchmark.make)();
            for _ in 0..2 {
                part.prepare();
                part.run();
            }
        }
    }

    #[test]
    fn every_part_has_a_name_of_its_own() {
        let names: BTreeSet<_> = all().map(|benchmark| (benchmark.group, benchmark.name)).collect();
        assert_eq!(names.len(), all().count());
    }
}
