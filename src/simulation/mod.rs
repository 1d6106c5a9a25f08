//! A disk that is worse than any real one, and what the engine is put through on it.
//!
//! What lives here: the [simulated disk](SimulatedDisk) with its [fault model](image); an [oracle](ledger) that knows what a
//! store may be after a restart; [workloads], all of whose crash points are [explored](explorer), and all of whose operations
//! [fail](faults) in turn; [random runs](runs) of workloads and faults; [bit rot](bit_rot); and [the engine's rules](Mutant),
//! to be broken. With an injected disk and injected randomness, and
//! all work done in the caller's thread, a run is the same every time, to the byte. It may use the engine's public interface and
//! its switches, and must never be used by the engine. Only with the feature `simulation`: for the project's own tests, and for
//! programs that embed the engine and want to know what becomes of *their* data.
//!
//! ```
//! use std::sync::Arc;
//! use haypile::simulation::{Driver, Fate, Ledger, Random, SimulatedDisk};
//! use haypile::storage::{Background, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = |disk: &SimulatedDisk| Options {
//!     segment_size: 16 << 10,
//!     background: Background::Caller,
//!     disk: Arc::new(disk.clone()),
//!     entropy: Arc::new(Random::new(1)),
//!     ..Options::default()
//! };
//! let disk = SimulatedDisk::new();
//! let mut driver = Driver::open("/store", options(&disk), Ledger::new())?;
//! let queue = driver.create_queue(b"orders")?;
//! driver.publish("a bale of hay", &[&queue])?;
//! driver.confirm()?;
//! driver.publish("never confirmed", &[&queue])?;
//!
//! // The power goes off, and of what was not synced nothing was written.
//! let after = SimulatedDisk::of(disk.image().after_power_cut(|_, _| Fate::Dropped));
//! Driver::open("/store", options(&after), driver.into_ledger())?;
//! # Ok(())
//! # }
//! ```

pub mod bit_rot;
mod breaking;
pub mod disk;
mod driver;
pub mod explorer;
pub mod faults;
pub mod image;
pub mod judge;
pub mod ledger;
mod random;
pub mod scene;
pub mod workloads;

pub use crate::storage::mutant::Mutant;
pub use breaking::with_mutant;
pub mod runs;
pub mod statement;

pub use disk::{Operation, OperationKind, SimulatedDisk, Verdict};
pub use driver::{Driver, ReopenError};
pub use image::{Fate, Image, Pending};
pub use ledger::{Content, Ledger, Position};
pub use random::Random;
