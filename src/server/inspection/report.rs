//! What an inspection says, to be printed or sent as JSON. Other people's scripts read it: a name that is there stays and
//! keeps its meaning.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answering::Identity;
use crate::broker::StoredQueue;
use crate::server::watermarks::Levels;
use crate::storage::inspect::{
    CompactionView, Inspection, OpenView, QueueView, Replay, SegmentView,
};
use crate::storage::{Compacted, CompactionActivity, CompactionEnd, Timestamp};

/// What is in a data directory, and what the server that runs on it is doing, if one does. Sizes are in bytes, LSNs positions
/// in the log, moments in milliseconds of Unix time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the format on disk.
    pub format: u32,
    /// The store's identity, in hexadecimal digits.
    pub store: String,
    /// The size of a segment.
    pub segment_size: u64,
    /// When this was found.
    pub inspected_unix_ms: u64,
    /// The running server; `None`: nobody has the store open.
    pub running: Option<Running>,
    /// The last checkpoint's root; 0: there is none.
    pub checkpoint_lsn: u64,
    /// The rest about it.
    pub checkpoint: CheckpointReport,
    /// What a start would replay.
    pub replay: ReplayReport,
    /// The segments that hold records, in the order of the log.
    pub segments: Vec<SegmentReport>,
    /// What they take.
    pub bytes: u64,
    /// What is live in them.
    pub live_bytes: u64,
    /// What is not, but for the newest segment.
    pub reclaimable_bytes: u64,
    /// Files that are ready for use.
    pub unused_files: Vec<String>,
    /// Whether compaction is due, and what it does.
    pub compaction: CompactionReport,
    /// The durable queues, by number.
    pub queues: Vec<QueueReport>,
    /// Entries of exchanges and bindings.
    pub entries: u64,
}

/// A running server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The addresses that it listens on.
    pub addresses: Vec<String>,
    /// Since when it has been ready.
    pub since_unix_ms: u64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// There is no room for all the segments that are to be ready: publishers are held back.
    pub disk_full: bool,
    /// Space that is left on the data directory's file system; `None`: that is not known.
    pub disk_free_bytes: Option<u64>,
    /// Where publishers are held back for want of it.
    pub disk_free_limit_bytes: u64,
    /// Publishers are held back for want of it.
    pub low_on_disk: bool,
    /// Memory in use by the process; `None`: that is not known.
    pub memory_bytes: Option<u64>,
    /// Where publishers are held back because of it; `None`: nowhere, as it is not known how much there is.
    pub memory_limit_bytes: Option<u64>,
    /// Publishers are held back because of it.
    pub low_on_memory: bool,
    /// Segments ready for the log to go on to.
    pub segments_ready: u64,
    /// Segments that are to be ready and are not yet.
    pub segments_wanted: u64,
    /// Dead files kept for recycling.
    pub spare_files: u64,
    /// Messages that were damaged when they were to be read, and were set aside, since it was started.
    pub messages_set_aside: u64,
    /// What messages take in memory.
    pub cached_bytes: u64,
    /// Places of the queues' indexes in memory.
    pub resident_places: u64,
    /// What the log has written since it was started.
    pub log: Written,
    /// What compaction has done since then.
    pub compacted: Moved,
    /// Queues that are gone after a restart.
    pub volatile_queues: u64,
    /// Messages in them.
    pub volatile_messages: u64,
    /// What these take in the log or in memory.
    pub volatile_bytes: u64,
}

/// What the log has written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Sync groups, each with one sync.
    pub groups: u64,
    /// Their size.
    pub bytes: u64,
}

/// About the last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// When it was written; `None`: that was not noted.
    pub written_unix_ms: Option<u64>,
    /// How long ago that was, in milliseconds.
    pub age_ms: Option<u64>,
    /// The next one is being written.
    pub under_way: bool,
}

/// What a start would replay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// From where in the log.
    pub from_lsn: u64,
    /// Up to where.
    pub end_lsn: u64,
    /// Sync groups; `None`, of a running server: nobody has counted them.
    pub groups: Option<u64>,
    /// Records in them; the same.
    pub records: Option<u64>,
    /// Their size.
    pub bytes: u64,
    /// The tail behind the end is torn, and will be cut off.
    pub torn_tail: bool,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentReport {
    /// Its number.
    pub id: u64,
    /// Its file.
    pub file: String,
    /// The file's size.
    pub bytes: u64,
    /// How many messages, and parts of the checkpoint, are needed of it.
    pub live_references: u64,
    /// What these take.
    pub live_bytes: u64,
    /// Nothing needs it: it is free with the next checkpoint.
    pub dead: bool,
    /// Compaction empties it next, when that is due, or is doing so.
    pub next_victim: bool,
    /// Compaction could not empty it, because of damage.
    pub stuck: bool,
}

/// How compaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompactionReport {
    /// What it is doing.
    pub activity: Activity,
    /// Why it last ended, since the server was started.
    pub last_end: Option<End>,
    /// When that was.
    pub last_end_unix_ms: Option<u64>,
    /// More is dead than is borne.
    pub due: bool,
    /// More is dead than is borne when nothing has been written for a while.
    pub due_when_quiet: bool,
    /// Dead bytes in segments that are partly live and that compaction may empty.
    pub dead_bytes: u64,
    /// Live bytes in these.
    pub live_bytes: u64,
    /// Dead bytes that are borne when nothing has been written for a while, and on a full disk.
    pub borne_bytes: u64,
    /// Dead bytes that are borne while the server is in use.
    pub borne_in_use_bytes: u64,
    /// Dead bytes beyond `borne_bytes`.
    pub excess_bytes: u64,
    /// What it has done since the store was created, as of the last checkpoint if no server runs.
    pub total: Moved,
}

/// What compaction is doing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Activity {
    /// Nothing.
    Idle,
    /// It goes through a segment.
    Moving {
        /// Its number.
        segment: u64,
        /// Which one of this round's segments that is, from 1.
        number: u64,
        /// How many segments this round has.
        of: u64,
        /// What this round has done so far.
        moved: Moved,
    },
    /// It has the checkpoint written that frees the segments it has gone through.
    Freeing {
        /// How many these are.
        of: u64,
        /// What this round has done.
        moved: Moved,
    },
}

/// Why compaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// No more was dead than is borne.
    Done,
    /// A round had gained too little for another one.
    LittleGain,
    /// All segments were too full, or could not be emptied.
    NothingToMove,
    /// It was told to.
    Stopped,
}

/// What compaction has done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Segments that it has gone through.
    pub segments: u64,
    /// Messages that it has appended anew.
    pub messages: u64,
    /// Bytes of log that this took.
    pub bytes: u64,
}

/// A durable queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its number in the store.
    pub id: u64,
    /// Its name, as a person reads it.
    pub name: String,
    /// Live messages.
    pub messages: u64,
    /// What they take in the log.
    pub bytes: u64,
    /// The place that the next message gets: how many there have ever been. In a queue with priorities each of these has its own
    /// places; this is their sum.
    pub next_sequence: u64,
}

impl Report {
    /// The report of an inspection that was made at the moment `now`, of a store that is not open.
    #[must_use]
    pub fn of_stopped(inspection: &Inspection, now: Timestamp) -> Report {
        Report::new(inspection, now, None)
    }

    pub(super) fn new(inspection: &Inspection, now: Timestamp, running: Option<Running>) -> Report {
        let checkpoint = &inspection.checkpoint;
        let segments = &inspection.segments;
        // In the newest segment there is room that the log has yet to use.
        let left = segments.split_last().map_or(&[][..], |(_, left)| left);
        let path = |path: &Path| path.display().to_string();
        Report {
            format: inspection.format,
            store: inspection.store.iter().map(|byte| format!("{byte:02x}")).collect(),
            segment_size: inspection.segment_size,
            inspected_unix_ms: now.unix_millis(),
            running,
            checkpoint_lsn: checkpoint.root.get(),
            checkpoint: CheckpointReport {
                written_unix_ms: checkpoint.written.map(Timestamp::unix_millis),
                age_ms: checkpoint.written.map(|written| millis(written, now)),
                under_way: inspection.open.is_some_and(|open| open.checkpoint_under_way),
            },
            replay: replay(&inspection.replay),
            segments: segments.iter().map(segment).collect(),
            bytes: segments.iter().map(|segment| segment.size).sum(),
            live_bytes: segments.iter().map(|segment| segment.live_bytes).sum(),
            reclaimable_bytes: left.iter().map(|s| s.size.saturating_sub(s.live_bytes)).sum(),
            unused_files: inspection.unused.iter().map(|file| path(file)).collect(),
            compaction: compaction(&inspection.compaction),
            queues: queues(&inspection.queues),
            entries: inspection.entries.len() as u64,
        }
    }

    /// Names the files as seen by somebody to whom the data directory is `dir`: the server may know it by a path from its own
    /// current directory.
    pub(super) fn seen_from(&mut self, dir: &Path) {
        let files = self.segments.iter_mut().map(|segment| &mut segment.file);
        for file in files.chain(&mut self.unused_files) {
            if let Some(name) = Path::new(file).file_name() {
                *file = dir.join(name).display().to_string();
            }
        }
    }
}

impl Running {
    pub(super) fn new(
        open: &OpenView,
        identity: &Identity,
        levels: &Levels,
        now: Timestamp,
    ) -> Running {
        Running {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: identity.addresses.iter().map(ToString::to_string).collect(),
            since_unix_ms: identity.since.unix_millis(),
            for_ms: millis(identity.since, now),
            disk_full: open.is_full,
            disk_free_bytes: levels.disk_free,
            disk_free_limit_bytes: levels.disk_free_limit,
            low_on_disk: levels.low_on_disk,
            memory_bytes: levels.memory,
            memory_limit_bytes: levels.memory_limit,
            low_on_memory: levels.low_on_memory,
            segments_ready: open.segments_ready,
            segments_wanted: open.segments_wanted,
            spare_files: open.spare_files,
            messages_set_aside: open.set_aside,
            cached_bytes: open.cached_bytes,
            resident_places: open.resident_places,
            log: Written { groups: open.log.groups, bytes: open.log.bytes },
            compacted: open.compacted.into(),
            volatile_queues: open.volatile.queues,
            volatile_messages: open.volatile.messages,
            volatile_bytes: open.volatile.bytes,
        }
    }
}

/// The broker's queues, by number: one with priorities is several to the engine.
fn queues(views: &[QueueView]) -> Vec<QueueReport> {
    let mut queues: BTreeMap<u64, QueueReport> = BTreeMap::new();
    for queue in views {
        let part = StoredQueue::read(&queue.attributes).and_then(|stored| stored.part);
        let name = StoredQueue::describe(queue.id, &queue.attributes);
        let id = part.map_or(queue.id, |part| part.of).get();
        let empty =
            QueueReport { id, name: String::new(), messages: 0, bytes: 0, next_sequence: 0 };
        let report = queues.entry(id).or_insert(empty);
        if part.is_none() || report.name.is_empty() {
            report.name = name;
        }
        report.messages += queue.messages;
        report.bytes += queue.bytes;
        report.next_sequence += queue.next.get();
    }
    queues.into_values().collect()
}

/// How long ago something was, in milliseconds.
fn millis(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(then.age(now).as_millis()).unwrap_or(u64::MAX)
}

fn replay(replay: &Replay) -> ReplayReport {
    ReplayReport {
        from_lsn: replay.from.get(),
        end_lsn: replay.end.get(),
        groups: replay.groups,
        records: replay.records,
        bytes: replay.bytes,
        torn_tail: replay.torn,
    }
}

fn segment(segment: &SegmentView) -> SegmentReport {
    SegmentReport {
        id: segment.id.get(),
        file: segment.file.display().to_string(),
        bytes: segment.size,
        live_references: segment.live_references,
        live_bytes: segment.live_bytes,
        dead: segment.dead,
        next_victim: segment.victim,
        stuck: segment.stuck,
    }
}

fn compaction(compaction: &CompactionView) -> CompactionReport {
    let activity = match compaction.activity {
        CompactionActivity::Idle => Activity::Idle,
        CompactionActivity::Moving { segment, number, of, moved } => {
            Activity::Moving { segment: segment.get(), number, of, moved: moved.into() }
        }
        CompactionActivity::Freeing { segments, moved } => {
            Activity::Freeing { of: segments, moved: moved.into() }
        }
    };
    let end = |end| match end {
        CompactionEnd::Done => End::Done,
        CompactionEnd::LittleGain => End::LittleGain,
        CompactionEnd::NothingToMove => End::NothingToMove,
        CompactionEnd::Stopped => End::Stopped,
    };
    CompactionReport {
        activity,
        last_end: compaction.ended.map(|(why, _)| end(why)),
        last_end_unix_ms: compaction.ended.map(|(_, at)| at.unix_millis()),
        due: compaction.due,
        due_when_quiet: compaction.due_when_quiet,
        dead_bytes: compaction.dead,
        live_bytes: compaction.live,
        borne_bytes: compaction.borne,
        borne_in_use_bytes: compaction.borne_in_use,
        excess_bytes: compaction.dead.saturating_sub(compaction.borne),
        total: compaction.total.into(),
    }
}

impl From<Compacted> for Moved {
    fn from(compacted: Compacted) -> Moved {
        let Compacted { segments, messages, bytes } = compacted;
        Moved { segments, messages, bytes }
    }
}
