//! What compaction has done and is doing, for whoever asks meanwhile.
//!
//! Nothing here is held for longer than it takes to copy it: a round takes seconds, and nobody who asks waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::storage::clock::Timestamp;
use crate::storage::segment::Segment;
use crate::storage::units::SegmentId;

/// What compaction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that it has gone through.
    pub segments: u64,
    /// Messages that it has appended anew.
    pub messages: u64,
    /// Bytes of log that this took.
    pub bytes: u64,
}

impl Compacted {
    /// What was done besides `earlier`.
    pub(crate) fn since(self, earlier: Compacted) -> Compacted {
        Compacted {
            segments: self.segments.saturating_sub(earlier.segments),
            messages: self.messages.saturating_sub(earlier.messages),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Compacted) -> Compacted {
        Compacted {
            segments: self.segments.saturating_add(other.segments),
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// What compaction is doing at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactionActivity {
    /// Nothing.
    #[default]
    Idle,
    /// It goes through a segment.
    Moving {
        /// Which one.
        segment: SegmentId,
        /// Which one of this round's segments that is, counted from 1.
        number: u64,
        /// How many segments this round has.
        of: u64,
        /// What this round has done so far.
        moved: Compacted,
    },
    /// It has gone through its segments, and has the checkpoint written that frees them.
    Freeing {
        /// How many segments this round had.
        segments: u64,
        /// What this round has done.
        moved: Compacted,
    },
}

/// Why compaction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionEnd {
    /// No more dead bytes were left than are borne.
    Done,
    /// A round had gained too little for another one to be worth its while.
    LittleGain,
    /// All segments were too full, or could not be emptied.
    NothingToMove,
    /// The store was being closed, or the one who had it compacted did not want any more.
    Stopped,
}

/// The totals, and the round.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What had been done before the store was opened, as far as checkpoints tell.
    earlier: Compacted,
    segments: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    round: Option<Round>,
    ended: Option<(CompactionEnd, Timestamp)>,
    /// Segments that could not be emptied, because of damage: they are not tried again.
    stuck: BTreeSet<SegmentId>,
}

#[derive(Clone, Debug)]
struct Round {
    victims: Arc<[SegmentId]>,
    /// The one that is gone through; as many as there are: none any more.
    at: usize,
    before: Compacted,
}

/// What there is to say of the round at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Glimpse {
    pub(crate) activity: CompactionActivity,
    /// The segments of this round.
    pub(crate) victims: Arc<[SegmentId]>,
    pub(crate) ended: Option<(CompactionEnd, Timestamp)>,
}

impl Progress {
    pub(crate) fn new(earlier: Compacted) -> Progress {
        Progress {
            earlier,
            segments: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            now: Mutex::default(),
        }
    }

    /// What was done since the store was created.
    pub(crate) fn since_created(&self) -> Compacted {
        self.earlier.plus(self.total())
    }

    /// What was done since the store was opened. While compaction runs, the three need not be of one moment.
    pub(crate) fn total(&self) -> Compacted {
        Compacted {
            segments: self.segments.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn count_message(&self, bytes: u64) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.count_bytes(bytes);
    }

    pub(super) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_segment(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// A round begins; it ends when what this returns is dropped, whatever the reason.
    pub(super) fn begin(&self, victims: &[Arc<Segment>]) -> RoundGuard<'_> {
        let victims = victims.iter().map(|segment| segment.id()).collect();
        let round = Round { victims, at: 0, before: self.total() };
        self.now.lock().round = Some(round);
        RoundGuard(self)
    }

    pub(super) fn end(&self, end: CompactionEnd, at: Timestamp) {
        self.now.lock().ended = Some((end, at));
    }

    pub(super) fn set_stuck(&self, segment: SegmentId) {
        self.now.lock().stuck.insert(segment);
    }

    /// The segments that compaction has given up on.
    pub(crate) fn stuck(&self) -> BTreeSet<SegmentId> {
        self.now.lock().stuck.clone()
    }

    /// What compaction is doing.
    pub(crate) fn glimpse(&self) -> Glimpse {
        let now = self.now.lock();
        let (ended, Some(round)) = (now.ended, now.round.clone()) else {
            return Glimpse { ended: now.ended, ..Glimpse::default() };
        };
        drop(now);
        let moved = self.total().since(round.before);
        let of = round.victims.len() as u64;
        let activity = match round.victims.get(round.at) {
            Some(segment) => CompactionActivity::Moving {
                segment: *segment,
                number: round.at as u64 + 1,
                of,
                moved,
            },
            None => CompactionActivity::Freeing { segments: of, moved },
        };
        Glimpse { activity, victims: round.victims, ended }
    }
}

/// A round that has begun.
pub(super) struct RoundGuard<'a>(&'a Progress);

impl RoundGuard<'_> {
    /// The segment that was gone through is done with.
    pub(super) fn next(&self) {
        if let Some(round) = &mut self.0.now.lock().round {
            round.at += 1;
        }
    }
}

impl Drop for RoundGuard<'_> {
    fn drop(&mut self) {
        self.0.now.lock().round = None;
    }
}
