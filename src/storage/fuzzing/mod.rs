//! What the fuzz targets of the engine do with their input: see `fuzz/README.md`.
//!
//! What lives here: a disk in memory, small stores on it, ways to damage them, and for each target one function that
//! takes bytes and panics when the engine breaks a promise. It may use all of the engine; nothing but the crate's
//! `fuzzing` module may use it, and no product has it: it is behind a feature.

mod damage;
mod disk;
mod image;
mod input;
mod records;
mod recovery;
mod reseal;

#[cfg(any(feature = "broker", feature = "benchmarks"))]
pub(crate) use self::disk::MemoryDisk;
#[cfg(any(feature = "broker", feature = "benchmarks"))]
pub(crate) use self::image::Repeatable;
pub(crate) use self::input::Input;
pub(crate) use self::records::{records, seeds as record_seeds};
pub(crate) use self::recovery::{recovery, seeds as recovery_seeds};
