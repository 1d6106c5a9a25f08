//! What the fuzz targets of the front end do with their input: see `fuzz/README.md`.
//!
//! What lives here: the target of the codec, and that of a whole [connection](super::connection), with the script that
//! a client follows in it. They may use all of the front end, and the engine's disk in memory; nothing but the crate's
//! `fuzzing` module may use them, and no product has them: they are behind a feature.

mod connection;
mod frames;
mod script;

pub(crate) use self::connection::{connection, seeds as connection_seeds};
pub(crate) use self::frames::{frames, seeds as frame_seeds};
#[cfg(feature = "benchmarks")]
pub(super) use self::script::handshake;
