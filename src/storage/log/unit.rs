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
        if let Some(record) = unit.iter().find(|record| record.length() as u64 > RECORD_LIMIT) {
            let bytes = record.length() as u64;
            return Err(StoreError::TooLarge { bytes, limit: RECORD_LIMIT });
        }
        let mut core = self.open_for_appending()?;
        let oversized = self.make_room(&mut core, length_of(unit));
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

    /// Whether a unit fits into a segment, or has one message that does not, like any that is larger. In a segment of several
    /// slots a record that somebody looks for begins in the first of them; and one with several would be kept as a whole by
    /// the smallest that is left.
    pub(crate) fn check_unit(&self, unit: &[Outline]) -> Result<(), StoreError> {
        let limit = self.segments.segment_size() - PAGE - GROUP_HEADER as u64;
        let limit = limit.min(RECORD_LIMIT);
        let mut messages = unit.iter().filter(|record| record.is_message());
        let alone = match (messages.next(), messages.next()) {
            (Some(only), None) => only.length(),
            _ => 0,
        };
        let bytes = length_of(unit) as u64;
        if bytes <= limit || alone > 0 && bytes - (alone as u64) < limit {
            return Ok(());
        }
        Err(StoreError::TooLarge { bytes, limit })
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
