//! Budgets: how far each kind of record may go into the last segments that are ready on a full disk.
//!
//! Four ready segments behind the open one are the *reserve*. New data leaves all of them alone. Hand-outs leave three,
//! so that no number of them takes what the others need. Acknowledgements and deletions are always taken: they are few,
//! because nothing new comes, and each roll to another segment is followed by a checkpoint that frees the one before.
//! What compaction moves leaves two, and those are for opening the store: an open takes one, and its checkpoint gives back
//! the one that the open before took.

use std::sync::Arc;

use super::group::{GROUP_HEADER, span};
use super::{Core, Log, RECORD_LIMIT};
use crate::storage::error::StoreError;
use crate::storage::record::FRAME;
use crate::storage::segment::{PAGE, Segment};

/// The ready segments that new data leaves alone on a full disk.
pub(crate) const RESERVE: usize = 4;

/// The ready segments that hand-outs leave alone on a full disk.
const KEPT_BY_HAND_OUTS: usize = 3;

/// The ready segments that a store which is not in use keeps, while the disk has room for more.
pub(super) const KEPT_IDLE: usize = 3;

/// The ready segments that compaction leaves alone on a full disk, if it has a choice.
const KEPT_BY_MOVES: usize = 2;

/// The segments that an open on a full disk leaves to the next one, if it can.
pub(crate) const KEPT_FOR_OPENS: usize = 2;

/// The ready segments that acknowledgements and deletions leave alone on a full disk, by writing a checkpoint first.
const KEPT_BY_ACKNOWLEDGEMENTS: usize = 1;

impl Log {
    /// Whether there is room for a record of `size` payload bytes that brings something new. On a full disk there is,
    /// for as long as [`RESERVE`] ready segments are left behind it. A record that is larger than a segment gets its file
    /// here, because no reserve holds one; making it takes its time.
    ///
    /// Another record may come between this question and the record that it was asked for: the reserve is then shorter by
    /// that much.
    pub(crate) fn admit(&self, size: usize) -> Result<(), StoreError> {
        let length = FRAME + size;
        // What is too large is told so by whoever appends it.
        if length as u64 > RECORD_LIMIT { Ok(()) } else { self.admit_bytes(length) }
    }

    /// The same for so many bytes of records that go into one group.
    pub(super) fn admit_bytes(&self, length: usize) -> Result<(), StoreError> {
        let segment_size = self.segments.segment_size();
        // A segment has whole pages, so that padding makes no difference to whether it has room.
        let is_oversized = (GROUP_HEADER + length) as u64 > segment_size - PAGE;
        if !self.pool.is_full() && !is_oversized {
            return Ok(());
        }
        // Room would not help a log that has failed.
        self.check()?;
        if self.pool.is_full() && (is_oversized || !self.leaves_ready(length, RESERVE)) {
            return Err(StoreError::Full);
        }
        if is_oversized {
            let slots = (PAGE + span(GROUP_HEADER + length)).div_ceil(segment_size) as u32;
            if !self.pool.reserve_large(slots).map_err(|reason| self.fail(&reason))? {
                return Err(StoreError::NoRoom { bytes: u64::from(slots) * segment_size });
            }
        }
        Ok(())
    }

    /// Whether there is room for a record of a hand-out with `size` payload bytes.
    pub(crate) fn admits_hand_out(&self, size: usize) -> bool {
        !self.pool.is_full() || self.leaves_ready(FRAME + size, self.level(KEPT_BY_HAND_OUTS))
    }

    /// The bytes that compaction may append on a full disk, besides a checkpoint of so many. `Err` has the same with the
    /// last segment but one for the next open: where nothing else helps.
    pub(crate) fn room_for_moves(&self, checkpoint: u64) -> (u64, u64) {
        let core = self.core.lock();
        let segment_size = self.segments.segment_size();
        let Some(ready) = core.ready() else { return (0, 0) };
        let end = core.open.segment.id().start(segment_size).plus(segment_size);
        let rest = end.get().saturating_sub(core.open.end_with(0).get());
        // A group is padded to a page, and the last record of a segment may not fit.
        let spare = checkpoint + 2 * PAGE;
        let beyond = |kept: usize| {
            let segments = ready.saturating_sub(kept) as u64;
            (rest + segments * (segment_size - 2 * PAGE)).saturating_sub(spare)
        };
        (beyond(self.level(KEPT_BY_MOVES)), beyond(self.level(KEPT_BY_MOVES - 1)))
    }

    /// Whether a checkpoint has to come before a record of an acknowledgement or a deletion with `size` payload bytes, because
    /// that would take the last ready segment.
    pub(crate) fn is_short_for_acknowledgement(&self, size: usize) -> bool {
        self.pool.is_full()
            && !self.is_writers_thread()
            && !self.leaves_ready(FRAME + size, self.level(KEPT_BY_ACKNOWLEDGEMENTS))
    }

    /// The number of ready segments behind the open one.
    pub(crate) fn ready_segments(&self) -> usize {
        self.core.lock().ready().unwrap_or(0)
    }

    /// Bytes of the open segment that are still free.
    pub(crate) fn rest_of_segment(&self) -> u64 {
        let core = self.core.lock();
        let segment_size = self.segments.segment_size();
        let end = core.open.segment.id().start(segment_size).plus(segment_size);
        end.get().saturating_sub(core.open.end_with(0).get())
    }

    /// Whether fewer segments are ready than hand-outs leave alone, or just as many.
    pub(crate) fn is_low_on_segments(&self) -> bool {
        self.core.lock().ready().unwrap_or(0) <= self.level(KEPT_BY_HAND_OUTS)
    }

    /// A level of the reserve, where fewer segments may be made ready than the reserve has.
    fn level(&self, level: usize) -> usize {
        level.min((self.config.segments_ahead + level).saturating_sub(RESERVE))
    }

    /// Whether so many segments are ready behind a group that gets `length` bytes more.
    fn leaves_ready(&self, length: usize, level: usize) -> bool {
        let core = self.core.lock();
        let segment_size = self.segments.segment_size();
        let segment_end = core.open.segment.id().start(segment_size).plus(segment_size);
        let rolls = core.open.end_with(length) > segment_end;
        core.ready().is_some_and(|ready| ready >= level + usize::from(rolls))
    }
}

impl Core {
    /// The number of ready segments behind the open one; `None`: the open one is not ready itself.
    fn ready(&self) -> Option<usize> {
        let is_ready = |segment: &&Arc<Segment>| segment.file().is_some();
        self.open.segment.file()?;
        Some(self.planned.iter().take_while(is_ready).count())
    }
}
