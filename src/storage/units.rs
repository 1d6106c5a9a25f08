//! The engine's units: a bare `u64` never crosses a boundary.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A position in the log, in bytes. It only grows, over the whole life of a store.
///
/// The log is one endless address space cut into slots of [`segment_size`](super::Options::segment_size)
/// bytes; slot `n` is where the segment with [`SegmentId`] `n` lives. Slot 0 is never used, so that
/// [`Lsn::ZERO`] lies below everything that can be written.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Lsn(pub(crate) u64);

impl Lsn {
    /// Below every record: always durable.
    pub const ZERO: Lsn = Lsn(0);

    /// Above every record.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// No log gets so far: what lies behind this was never written. Below it no sum of a position and a length overflows.
    pub(crate) const LIMIT: Lsn = Lsn(1 << 62);

    /// The position as a number of bytes.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Saturates: a file's name, or a record that makes no sense, may speak of places beyond any log.
    pub(crate) fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` up to here.
    pub(crate) fn since(self, earlier: Lsn) -> u64 {
        debug_assert!(self >= earlier, "{self} is not behind {earlier}");
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The number of a slot of the log, and of the segment that begins in it. Numbers only grow and are
/// never used twice; the *files* behind them are recycled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub(crate) u64);

impl SegmentId {
    /// The first segment of every store.
    pub const FIRST: SegmentId = SegmentId(1);

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Whether a log can have so many slots from this one on. Nothing is to be calculated with numbers that are not.
    pub(crate) fn can_be(self, slots: u32, segment_size: u64) -> bool {
        let end =
            self.0.checked_add(u64::from(slots)).and_then(|end| end.checked_mul(segment_size));
        end.is_some_and(|end| end <= Lsn::LIMIT.0)
    }

    /// The slot that holds `lsn`.
    pub(crate) fn holding(lsn: Lsn, segment_size: u64) -> SegmentId {
        SegmentId(lsn.0 / segment_size)
    }

    /// The first byte of the slot: the segment's header. Saturates like [`Lsn::plus`].
    pub(crate) fn start(self, segment_size: u64) -> Lsn {
        Lsn(self.0.saturating_mul(segment_size))
    }

    pub(crate) fn plus(self, slots: u64) -> SegmentId {
        SegmentId(self.0.saturating_add(slots))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One use of a segment's file: its number, and the salt that was drawn for this use. Two histories of a store, as a backup that
/// was put back and went on has them, may both have a segment with some number; they differ in its salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentTag {
    pub(crate) id: SegmentId,
    /// 0 means unknown: formats up to 3 did not say.
    pub(crate) salt: u64,
}

/// Identifies a queue for the life of the store; never used again after the queue was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub(crate) u64);

impl QueueId {
    /// Numbers from here on belong to queues that are not durable. Records may name them; recovery knows none of them.
    pub(crate) const FIRST_VOLATILE: QueueId = QueueId(1 << 63);

    /// Whether it is the number of a queue that is not durable.
    pub(crate) fn is_volatile(self) -> bool {
        self >= QueueId::FIRST_VOLATILE
    }

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The queue with this number.
    pub fn new(number: u64) -> QueueId {
        QueueId(number)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A message's place in its queue. Places are given out in order and never again: a message that is
/// requeued goes back to the place that it had.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Sequence(pub(crate) u64);

impl Sequence {
    /// The place of a queue's first message.
    pub const FIRST: Sequence = Sequence(0);

    /// No queue gets so far: nobody was given a place from here on.
    pub(crate) const LIMIT: Sequence = Sequence(1 << 62);

    /// The number itself, counted from zero.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The place with this number.
    pub fn new(number: u64) -> Sequence {
        Sequence(number)
    }

    /// The place right behind this one. The last number has none, and gives itself: no queue comes near it.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0.saturating_add(1))
    }

    /// Places from `earlier` up to here.
    pub(crate) fn since(self, earlier: Sequence) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The place right before this one; `None`: this is the first.
    pub fn previous(self) -> Option<Sequence> {
        self.0.checked_sub(1).map(Sequence)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The places from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceRange {
    /// The lowest place.
    pub first: Sequence,
    /// The highest place; not below `first`.
    pub last: Sequence,
}

impl SequenceRange {
    /// The range that holds one place.
    pub fn one(sequence: Sequence) -> SequenceRange {
        SequenceRange { first: sequence, last: sequence }
    }

    /// The range of `first` to `last`, or nothing where `last` lies below `first`.
    pub fn new(first: Sequence, last: Sequence) -> Option<SequenceRange> {
        (first <= last).then_some(SequenceRange { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_saturate_at_their_last_number() {
        let last = Sequence(u64::MAX);
        assert_eq!((last.next(), last.previous()), (last, Some(Sequence(u64::MAX - 1))));
        assert_eq!((Sequence::FIRST.previous(), Sequence::FIRST.since(last)), (None, 0));
        assert_eq!((Lsn::MAX.plus(1), Lsn::MAX.plus(u64::MAX)), (Lsn::MAX, Lsn::MAX));
        assert_eq!(SegmentId(u64::MAX).plus(1).start(4096), Lsn::MAX);
    }

    #[test]
    fn numbers_that_no_log_comes_to_are_told() {
        let size = 64 << 20;
        assert!(SegmentId((1 << 36) - 1).can_be(1, size));
        assert!(!SegmentId((1 << 36) - 1).can_be(2, size));
        assert!(!SegmentId(1 << 36).can_be(1, size));
        assert!(!SegmentId(u64::MAX).can_be(1, 4096));
    }
}
