//! Units: records of which all count, or none.
//!
//! The bytes of a unit say nothing of it, because a [group](super::group) is one already: it is written in one go, counts when
//! the whole of it passes its checks, and nothing ever takes a part of it. No replay begins inside of one, and the last one is
//! [taken up anew](crate::storage::recovery) as a unit in its turn. So all that a unit takes is to be in one group.

use smallvec::SmallVec;

use super::group::GROUP_HEADER;
use super::{Log, Placed, RECORD_LIMIT};
use crate::storage::error::StoreError;
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::record::{FRAME, RecordKind};
use crate::storage::segment::PAGE;

/// A record of a unit, but for its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline {
    pub(crate) kind: RecordKind,
    /// Bytes of the payload.
    pub(crate) size: usize,
    /// As for [`Log::append`].
    pub(crate) references: u32,
}

impl Outline {
    /// Bytes of the whole record.
    fn length(&self) -> usize {
        FRAME + self.size
    }

    fn is_message(&self) -> bool {
        matches!(self.kind, RecordKind::Message | RecordKind::Transient)
    }
}

impl Log {
    /// Appends records as one unit, in this order; `encode` adds the payload of the one with this number to the buffer it is
    /// given. Like [`append`](Self::append) for the rest.
    pub(crate) fn append_unit(
        &self,
        unit: &[Outline],
        mut encode: impl FnMut(usize, &mut Vec<u8>),
    ) -> Result<SmallVec<[Placed; 4]>, StoreError> {
        if is_active(Mutant::DivideUnits) {
            return (0..)
                .zip(unit)
                .map(|(number, Outline { kind, size, references })| {
                    self.append(*kind, *size, *references, |buffer| encode(number, buffer))
                })
                .collect();
        }
        check_records(unit)?;
        let mut core = self.open_for_appending()?;
        let oversized = self.make_room(&mut core, length_of(unit));
        // Of what it takes, and no more: a large unit need not move while it grows.
        core.open.buffer.reserve(length_of(unit) + PAGE as usize);
        let placed: SmallVec<[Placed; 4]> = (0..)
            .zip(unit)
            .map(|(number, record)| {
                let encode = |buffer: &mut Vec<u8>| encode(number, buffer);
                core.put(record.kind, record.length(), record.references, encode)
            })
            .collect();
        let begun = core.open.records as usize == placed.len();
        self.appended(&mut core, oversized, begun);
        Ok(placed)
    }

    /// Whether a unit is small enough.
    pub(crate) fn check_unit(&self, unit: &[Outline]) -> Result<(), StoreError> {
        check(unit, self.segments.segment_size())
    }

    /// Like [`admit`](Self::admit), for a unit.
    pub(crate) fn admit_unit(&self, unit: &[Outline]) -> Result<(), StoreError> {
        self.admit_bytes(length_of(unit))
    }
}

/// Bytes of all records together.
fn length_of(unit: &[Outline]) -> usize {
    unit.iter().map(Outline::length).sum()
}

/// Whether a unit fits into a segment of this size, unless it has a single message, which may be larger as any may. In a
/// segment of several slots a record that somebody looks for begins in the first of them; and the smallest of several messages
/// that is left would keep the whole of it.
fn check(unit: &[Outline], segment_size: u64) -> Result<(), StoreError> {
    check_records(unit)?;
    let limit = RECORD_LIMIT.min(segment_size - PAGE - GROUP_HEADER as u64);
    let bytes = length_of(unit) as u64;
    let mut messages = unit.iter().filter(|record| record.is_message());
    let only = messages.next().filter(|_| messages.next().is_none());
    let begins_in_time = only.is_some_and(|only| bytes - (only.length() as u64) < limit);
    if bytes <= limit || begins_in_time {
        Ok(())
    } else {
        Err(StoreError::TooLarge { bytes, limit })
    }
}

/// Whether each record is small enough.
fn check_records(unit: &[Outline]) -> Result<(), StoreError> {
    let bytes = unit.iter().map(Outline::length).max().unwrap_or_default() as u64;
    if bytes > RECORD_LIMIT {
        return Err(StoreError::TooLarge { bytes, limit: RECORD_LIMIT });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is that large here: what is refused is refused for what it would be.
    #[test]
    fn a_unit_is_measured_before_anything_is_done() {
        let room = (1 << 20) - 4096 - 64;
        let largest = RECORD_LIMIT as usize;
        let record = |kind, length| Outline { kind, size: length - FRAME, references: 1 };
        let message = |length| record(RecordKind::Message, length);
        let transient = |length| record(RecordKind::Transient, length);
        let acknowledge = |length| record(RecordKind::Acknowledge, length);
        let cases: &[(&[Outline], Result<(), usize>)] = &[
            (&[], Ok(())),
            (&[message(room - 100), message(100)], Ok(())),
            (&[message(room - 100), message(101)], Err(room)),
            (&[message(room - 100), transient(101)], Err(room)),
            (&[acknowledge(room)], Ok(())),
            (&[acknowledge(room + 1)], Err(room)),
            (&[message(largest)], Ok(())),
            (&[message(largest + 1)], Err(largest)),
            (&[acknowledge(100), message(largest)], Ok(())),
            (&[acknowledge(100), message(largest), message(12)], Err(room)),
            (&[acknowledge(room - 1), message(largest)], Ok(())),
            (&[acknowledge(room), message(largest)], Err(room)),
            (&[acknowledge(largest + 1), message(12)], Err(largest)),
        ];
        for (unit, expected) in cases {
            let outcome = check(unit, 1 << 20).map_err(|error| match error {
                StoreError::TooLarge { limit, .. } => limit as usize,
                other => panic!("{other}"),
            });
            assert_eq!(outcome, *expected, "{unit:?}");
        }
    }
}
