//! A durable message store: queues of messages over one write-ahead log.
//!
//! One log holds everything: messages of all queues, acknowledgements, what there is (queues, and metadata that means
//! something to the caller), and checkpoints of all that. One sync makes all of it durable, however many queues it
//! went to. `docs/architecture.md`, `docs/format.md` and `docs/durability.md` tell why and how.
//!
//! ```
//! use std::sync::Arc;
//! use haypile::storage::{Fetch, Message, Options, Persistence, Sequence, SequenceRange, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("store");
//! # let small = Options { segment_size: 1 << 20, ..Options::default() };
//! let store = Store::open(&dir, small.clone())?;
//! let (queue, created) = store.create_queue(b"orders")?;
//!
//! // Appending does not wait for the disk; what was appended is safe once its LSN is durable.
//! let message = Message::new("header", "one bale of hay");
//! let appended = store.append(&message, Persistence::Durable, &[&queue])?;
//! store.wait_durable(appended.durable_at.unwrap_or(created))?;
//! store.close()?;
//! # drop(queue);
//!
//! // Another process, another day.
//! let store = Store::open(&dir, small)?;
//! let queue = &store.queues()[0];
//! let (mut from, mut fetched) = (Sequence::FIRST, Vec::new());
//! loop {
//!     if queue.fetch(from, 100, &mut fetched) == Fetch::NeedsLoad {
//!         queue.load(from)?; // reads ahead from the disk
//!         continue;
//!     }
//!     let Some(last) = fetched.last() else { break }; // there are no more
//!     from = last.sequence.next();
//!     for fetched in fetched.drain(..) {
//!         assert_eq!(fetched.message.body(), "one bale of hay");
//!         queue.acknowledge(&[SequenceRange::one(fetched.sequence)])?;
//!     }
//! }
//! assert!(queue.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! What lives here: the engine. It may use the disk through [`disk::Disk`], and threads. It must never know of AMQP, of
//! sockets, or of an async runtime.
//!
//! | module | what it is |
//! |---|---|
//! | [`disk`] | the file system as a trait |
//! | `segment` | the files of the log, made ready ahead of need and recycled |
//! | `record` | what is written in them |
//! | `log` | sync groups, the one writer, waiting for durability |
//! | `sync` | what the threads of the log and the pool synchronize with |
//! | `index` | which messages of a queue are live, and where they are |
//! | `store`, `append`, `together`, `queue` | what a program uses |
//! | `spill`, `compaction` | what leaves memory for the log, and old segments for new ones |
//! | `upkeep`, `threads` | what a store does by itself, and when |
//! | `checkpoint`, `superblock`, `recovery` | from one life of the store to the next |
//! | `mutant` | the rules above, each of them to be broken on purpose by a test |
//! | [`inspect`] | looking at a store, open or not, verifying and repairing it |

mod allowance;
mod append;
#[cfg(feature = "benchmarks")]
pub(crate) mod benchmarks;
mod cache;
mod catalog;
mod checkpoint;
mod checksum;
mod clock;
mod compaction;
pub mod disk;
mod draft;
mod entropy;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod index;
pub mod inspect;
mod log;
mod memory;
mod message;
#[cfg(not(feature = "simulation"))]
mod mutant;
#[cfg(feature = "simulation")]
pub mod mutant;
mod options;
mod queue;
mod reader;
mod record;
mod recovery;
mod segment;
mod shared_reads;
mod spill;
mod store;
mod superblock;
mod sync;
mod threads;
mod together;
mod units;
mod upkeep;

pub use allowance::Allowance;
pub use append::{Appended, Persistence};
pub use clock::{Clock, SystemClock, Timestamp};
pub use compaction::{Compacted, CompactionActivity, CompactionEnd};
pub use draft::Draft;
pub use entropy::{Entropy, SystemEntropy};
pub use error::{Damage, OpenError, StoreError};
pub use log::{Durable, LogStatistics};
pub use memory::MessageMemory;
pub use message::{Message, Piece};
pub use options::{Background, Options};
pub use queue::{Acknowledged, Fetch, Fetched, MOST_DELIVERIES, Queue};
pub use recovery::RecoveryReport;
pub use store::{Change, Store};
pub use together::{Operation, Together};
pub use units::{Lsn, QueueId, SegmentId, Sequence, SequenceRange};
