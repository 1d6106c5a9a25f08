//! What an inspection tells.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::clock::Timestamp;
use crate::storage::compaction::{
    Balance, Compacted, CompactionActivity, CompactionEnd, Load, Progress,
};
use crate::storage::log::LogStatistics;
use crate::storage::queue::QueueCore;
use crate::storage::segment::Segment;
use crate::storage::units::{Lsn, QueueId, SegmentId, Sequence};

/// What is in a store.
///
/// Of a store that is open its parts are not of one moment.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The version of the format on disk.
    pub format: u32,
    /// The store's identity.
    pub store: [u8; 16],
    /// Bytes of a slot of the log.
    pub segment_size: u64,
    /// The last checkpoint.
    pub checkpoint: CheckpointView,
    /// What an open would replay, if the process that has the store ended now.
    pub replay: Replay,
    /// The segments that hold records, in the order of the log.
    pub segments: Vec<SegmentView>,
    /// Segment files that are ready and hold nothing: those that the log goes on to, or, of a store that is not open, that an
    /// open would recycle; and spare ones.
    pub unused: Vec<PathBuf>,
    /// Whether compaction is due, and what it does.
    pub compaction: CompactionView,
    /// The durable queues, by number.
    pub queues: Vec<QueueView>,
    /// The metadata, in no particular order.
    pub entries: Vec<(Bytes, Bytes)>,
    /// What only an open store knows of itself.
    pub open: Option<OpenView>,
}

/// The last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointView {
    /// Its root record; [`Lsn::ZERO`]: there is none.
    pub root: Lsn,
    /// When it was written; `None`: that was not noted.
    pub written: Option<Timestamp>,
}

/// What an open has to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// From where in the log.
    pub from: Lsn,
    /// Up to where.
    pub end: Lsn,
    /// Bytes of log.
    pub bytes: u64,
    /// Sync groups; `None`: nobody has counted them, the store is open.
    pub groups: Option<u64>,
    /// Records in these; the same.
    pub records: Option<u64>,
    /// The log's tail is torn, and will be cut off.
    pub torn: bool,
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
    /// Compaction empties it next, when that is due, or is doing so.
    pub victim: bool,
    /// Compaction has tried, and could not empty it, because of damage. That is forgotten when the store is closed.
    pub stuck: bool,
}

/// How compaction stands. Of a store that is not open: what it would find if it went on with that very log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionView {
    /// What it is doing.
    pub activity: CompactionActivity,
    /// Why and when it last ended, if it has since the store was opened.
    pub ended: Option<(CompactionEnd, Timestamp)>,
    /// Bytes of the segments that it may empty and of which something is live.
    pub sealed: u64,
    /// Live bytes of these.
    pub live: u64,
    /// Dead bytes of these.
    pub dead: u64,
    /// Dead bytes that are borne when nobody uses the store, and on a full disk.
    pub borne: u64,
    /// Dead bytes that are borne while the store is in use.
    pub borne_in_use: u64,
    /// More is dead than is borne just now; of a store that is not open, than would be while it is in use.
    pub due: bool,
    /// More is dead than is borne when nothing has been written for a while.
    pub due_when_quiet: bool,
    /// What it has done since the store was created, as of the last checkpoint if the store is not open. Not counted is what
    /// was done between a checkpoint and the process's sudden end.
    pub total: Compacted,
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

/// What only an open store knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenView {
    /// There is no room for all the segments that are to be ready.
    pub is_full: bool,
    /// Segments ready for the log to go on to.
    pub segments_ready: u64,
    /// Segments that are to be ready and are not yet.
    pub segments_wanted: u64,
    /// Dead files kept for recycling.
    pub spare_files: u64,
    /// A checkpoint is being written.
    pub checkpoint_under_way: bool,
    /// Messages that were damaged when they were to be read, since the store was opened.
    pub set_aside: u64,
    /// What messages take in memory, in bytes.
    pub cached_bytes: u64,
    /// Places of the queues' indexes that are in memory.
    pub resident_places: u64,
    /// What the log has written since the store was opened.
    pub log: LogStatistics,
    /// What compaction has done since then.
    pub compacted: Compacted,
    /// The queues that are not durable.
    pub volatile: VolatileQueues,
}

/// The queues that are gone after a restart, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolatileQueues {
    /// How many there are.
    pub queues: u64,
    /// Live messages in them.
    pub messages: u64,
    /// What these take in the log or in memory, in bytes.
    pub bytes: u64,
}

impl SegmentView {
    /// `end`: how far the log has come.
    pub(super) fn of(segment: &Segment, segment_size: u64, end: Lsn) -> SegmentView {
        let slots = u64::from(segment.header.slots);
        let behind = segment.id().plus(slots).start(segment_size);
        let live_references = segment.live.references();
        SegmentView {
            id: segment.id(),
            file: segment.path.clone(),
            size: segment_size * slots,
            live_references,
            live_bytes: segment.live.bytes(),
            dead: live_references == 0 && behind <= end,
            victim: false,
            stuck: false,
        }
    }
}

/// Marks those segments that compaction takes next, and those that it has given up on.
pub(super) fn mark(
    segments: &mut [SegmentView],
    victims: &BTreeSet<SegmentId>,
    stuck: &BTreeSet<SegmentId>,
) {
    for segment in segments {
        segment.victim = !segment.dead && victims.contains(&segment.id);
        segment.stuck = stuck.contains(&segment.id);
    }
}

impl CompactionView {
    /// `load`: what is borne just now.
    pub(super) fn new(
        balance: &Balance,
        load: Load,
        segment_size: u64,
        progress: &Progress,
    ) -> CompactionView {
        let glimpse = progress.glimpse();
        CompactionView {
            activity: glimpse.activity,
            ended: glimpse.ended,
            sealed: balance.sealed,
            live: balance.live,
            dead: balance.dead_bytes(),
            borne: balance.borne(),
            borne_in_use: balance.borne() + Balance::slack(Load::Busy, segment_size),
            due: balance.is_bad(Balance::slack(load, segment_size)),
            due_when_quiet: balance.is_bad(Balance::slack(Load::Idle, segment_size)),
            total: progress.since_created(),
        }
    }
}

impl QueueView {
    /// Takes the queue's lock for a moment.
    pub(super) fn of(queue: &QueueCore) -> QueueView {
        let state = queue.state.lock();
        QueueView {
            id: queue.id(),
            attributes: queue.attributes().clone(),
            messages: state.index.live(),
            bytes: state.index.bytes(),
            next: state.index.next(),
        }
    }
}

/// The numbers of segments.
pub(super) fn ids(segments: &[Arc<Segment>]) -> BTreeSet<SegmentId> {
    segments.iter().map(|segment| segment.id()).collect()
}
