//! Looking at a store that is not open: what is in it ([`inspect`]), and whether all of it can be read ([`verify`]); and
//! making a damaged one whole again ([`repair`]).
//!
//! Nothing is ever changed here, but by a repair that is told to. The directory is locked meanwhile, so a store that is in
//! use is refused. What lives here: reading segments and messages, looking for what is not where it should be,
//! keeping what is taken out and putting right what is left. It may use all of the
//! engine; it must never take for true what nothing whole says.

mod keep;
mod lost_list;
mod mend;
mod messages;
mod repair;
mod search;
mod sweep;
mod verify;

use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use self::repair::{Applied, Repair, RepairError, repair};
pub use self::search::WholeRecord;
pub use self::verify::{Finding, LogHole, LostMessage, LostPlaces, Verification, verify};
use super::disk::Disk;
use super::error::OpenError;
pub use super::recovery::Extent;
use super::recovery::{self, RecoveryReport};
use super::segment::{Segment, file_name};
use super::superblock::FORMAT_VERSION;
use super::units::{Lsn, QueueId, SegmentId, Sequence};

/// What is in a store.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The version of the format on disk.
    pub format: u32,
    /// The store's identity.
    pub store: [u8; 16],
    /// Bytes of a slot of the log.
    pub segment_size: u64,
    /// The root record of the last checkpoint; [`Lsn::ZERO`]: there is none.
    pub checkpoint: Lsn,
    /// Where an open replays the log from.
    pub replayed_from: Lsn,
    /// What an open would find.
    pub recovery: RecoveryReport,
    /// The segments that hold records, in the order of the log.
    pub segments: Vec<SegmentView>,
    /// Files that an open would recycle.
    pub unused: Vec<PathBuf>,
    /// The durable queues, by number.
    pub queues: Vec<QueueView>,
    /// The metadata, in no particular order.
    pub entries: Vec<(Bytes, Bytes)>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// Its number.
    pub id: SegmentId,
    /// Its file.
    pub file: PathBuf,
    /// The size of the file in bytes.
    pub size: u64,
    /// How many messages (one for each queue they are in) and parts of the checkpoint in it are needed.
    pub live_references: u64,
    /// What these take, in bytes.
    pub live_bytes: u64,
    /// Nothing needs it, and the log has left it: the next checkpoint frees it to be recycled.
    pub dead: bool,
}

/// A durable queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Its number.
    pub id: QueueId,
    /// What its creator gave.
    pub attributes: Bytes,
    /// Live messages.
    pub messages: u64,
    /// What they take in the log, in bytes.
    pub bytes: u64,
    /// The place that the next message gets.
    pub next: Sequence,
}

/// Reads what an open would read, and describes it.
pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Inspection, OpenError> {
    let (_lock, superblock, recovered) = recovery::read(disk, dir)?;
    let end = |segment: &Segment| {
        segment.id().plus(u64::from(segment.header.slots)).start(superblock.segment_size)
    };
    let segments = recovered
        .segments
        .all()
        .iter()
        .map(|segment| SegmentView {
            id: segment.id(),
            file: segment.path.clone(),
            size: superblock.segment_size * u64::from(segment.header.slots),
            live_references: segment.live.references(),
            live_bytes: segment.live.bytes(),
            dead: segment.live.references() == 0 && end(segment) <= recovered.end,
        })
        .collect();
    let mut queues: Vec<QueueView> = recovered
        .catalog
        .queues
        .iter()
        .map(|queue| {
            let state = queue.state.lock();
            QueueView {
                id: queue.id(),
                attributes: queue.attributes().clone(),
                messages: state.index.live(),
                bytes: state.index.bytes(),
                next: state.index.next(),
            }
        })
        .collect();
    queues.sort_by_key(|queue| queue.id);
    Ok(Inspection {
        format: FORMAT_VERSION,
        store: superblock.store,
        segment_size: superblock.segment_size,
        checkpoint: superblock.root,
        replayed_from: recovered.replayed_from,
        segments,
        unused: recovered.unused.iter().map(|id| dir.join(file_name(*id))).collect(),
        queues,
        entries: recovered.catalog.entries.iter().cloned().collect(),
        recovery: recovered.report,
    })
}
