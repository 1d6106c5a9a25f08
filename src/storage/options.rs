//! How a store is to work.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, SystemClock};
use super::disk::{Disk, RealDisk};
use super::entropy::{Entropy, SystemEntropy};
use super::error::OpenError;
use super::segment::{PAGE, SLOT_SIZES};

/// How many segments can be made ready ahead of need. Fewer than the superblock can name, because it also names those that the
/// log has gone through without a sync so far.
const MOST_AHEAD: usize = 16;

/// What a program that embeds the engine can choose. The defaults are meant for production.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of a segment file in bytes, a multiple of 4,096. Fixed when the store is created; later opens
    /// take it from the store. Default: 64 MiB.
    pub segment_size: u64,
    /// How many segments are made ready ahead of need. When the disk turns out to be full, the last four of those that
    /// are ready are a reserve (see [`Store::is_full`](super::Store::is_full)), so there should be one more. From 1 to
    /// 16, because the superblock names them. Default: 5.
    pub segments_ahead: usize,
    /// How many dead segments beyond these are kept for recycling, until the store has been quiet for a while: checkpoints free
    /// several at a time, and making a new one costs as much as writing it. Default: 8.
    pub segments_spare: usize,
    /// A checkpoint is written when the log has grown by this many bytes since the last one, which bounds what
    /// recovery has to replay. Default: 128 MiB.
    pub checkpoint_distance: u64,
    /// How long a record that nobody waits for (an acknowledgement, say) may stay unsynced. Default: 10 ms.
    pub lazy_sync: Duration,
    /// How much unsynced data may pile up before [`Store::congested`](super::Store::congested) says so, in bytes.
    /// Default: 16 MiB.
    pub unsynced_limit: u64,
    /// How many bytes of messages are kept in memory for queues that have yet to deliver them. Beyond it messages are
    /// read back from the log, and those that need not survive a restart go there too. A quarter of it more is for messages that were fetched
    /// and may be [given back](super::Allowance), and another for those that were. Default: 64 MiB.
    pub cache: u64,
    /// How many bytes the indexes of all queues may take before parts of them are left to the log. What does not
    /// depend on messages that wait comes on top. Default: 16 MiB.
    pub index: u64,
    /// How many messages of a queue share a part of its index: what is read and written of an index at a time. From 16
    /// to 32,768. Default: 2,048.
    pub chunk_places: u16,
    /// Who does the background work.
    pub background: Background,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The source of salts and identities.
    pub entropy: Arc<dyn Entropy>,
    /// What says when checkpoints were written. Nothing is decided by it.
    pub clock: Arc<dyn Clock>,
}

/// Who writes the log, makes segments ready and writes checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Threads of the store's own.
    Threads,
    /// The caller's thread: whoever waits for an LSN does the writing first. With an injected disk, injected
    /// randomness and an injected clock a single-threaded run is then the same every time.
    Caller,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_size: 64 << 20,
            segments_ahead: 5,
            segments_spare: 8,
            checkpoint_distance: 128 << 20,
            lazy_sync: Duration::from_millis(10),
            unsynced_limit: 16 << 20,
            cache: 64 << 20,
            index: 16 << 20,
            chunk_places: 2048,
            background: Background::Threads,
            disk: Arc::new(RealDisk),
            entropy: Arc::new(SystemEntropy),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let wrong = |option, reason| Err(OpenError::Option { option, reason });
        if !self.segment_size.is_multiple_of(PAGE) || self.segment_size < *SLOT_SIZES.start() {
            return wrong("segment_size", "must be a multiple of 4,096 bytes, and 16,384 at least");
        }
        if self.segment_size > *SLOT_SIZES.end() {
            return wrong("segment_size", "must not exceed 4 GiB");
        }
        if !(16..=32_768).contains(&self.chunk_places) {
            return wrong("chunk_places", "must be from 16 to 32,768");
        }
        if self.segments_ahead == 0 {
            return wrong("segments_ahead", "must be 1 at least: the log needs a place to go");
        }
        if self.segments_ahead > MOST_AHEAD {
            return wrong(
                "segments_ahead",
                "must not exceed 16, because the superblock names them",
            );
        }
        Ok(())
    }
}
