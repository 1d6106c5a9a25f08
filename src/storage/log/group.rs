//! Sync groups: what is written and synced in one go.

use std::sync::Arc;

use thiserror::Error;

use crate::storage::checksum::Seed;
use crate::storage::disk::PageBuffer;
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::record::RecordFault;
use crate::storage::segment::{PAGE, Segment};
use crate::storage::units::Lsn;

/// Bytes of the header in front of a group's records.
pub(crate) const GROUP_HEADER: usize = 64;

const MAGIC: [u8; 4] = *b"HAYG";

/// A sync group begins on a 4 KiB boundary with this header; its records follow without gaps, and zeros up to the
/// next boundary. So no page that holds synced bytes is ever written again.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..4 | checksum | CRC-32 of bytes 4..64, the group's LSN and the segment's seed |
/// | 4..8 | magic | `HAYG` |
/// | 8..16 | LSN | where the group begins |
/// | 16..24 | previous | where the group before it ends, in this segment or in an earlier one |
/// | 24..32 | durable | the log was durable up to here when the group was written |
/// | 32..36 | length | bytes of the records |
/// | 36..40 | records | how many |
/// | 40..48 | previous salt | the salt of the segment that `previous` lies in; 0: unknown, or none |
/// | 48 | provisional | 1: counts only if something says that it was durable; 0: any other group |
/// | 49..56 | | zero |
/// | 56..64 | opening | the salt of the first segment that this open has gone to; 0: unknown |
///
/// `previous` chains the groups, and commits a segment to the end of the one before it; `durable` tells a torn tail
/// from a hole: what lies below the `durable` of any valid group has been on stable storage. The previous salt ties a
/// segment to the one before it, so that none of another history of the store can be in its place.
/// The opening does so where the next segment is lost: the superblock names the last ones, and
/// histories part only when a store is opened.
///
/// A *provisional* group counts only if the superblock says that the log was durable behind it, or if a group behind it is
/// there that is not provisional. Nothing is promised of one before the superblock says so. Such are all groups that an open
/// writes before it returns, and those that are larger than a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) lsn: Lsn,
    pub(crate) previous: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) length: u32,
    pub(crate) records: u32,
    pub(crate) previous_salt: u64,
    /// It counts only if something says that it was durable.
    pub(crate) provisional: bool,
    /// The salt of the first segment that the log went to since the store was opened; 0: unknown.
    pub(crate) opening: u64,
}

/// Why there is no valid group in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum GroupFault {
    #[error("no group header passes its checksum there")]
    Header,
    #[error("{0} (at {1})")]
    Record(RecordFault, Lsn),
    #[error("the group's records do not add up to its length")]
    Length,
}

impl GroupHeader {
    pub(crate) fn encode(&self, seed: Seed) -> [u8; GROUP_HEADER] {
        let mut bytes = [0; GROUP_HEADER];
        bytes[4..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.previous.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.length.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.records.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_salt.to_le_bytes());
        bytes[48] = u8::from(self.provisional);
        bytes[56..64].copy_from_slice(&self.opening.to_le_bytes());
        let checksum = seed.checksum(self.lsn, &bytes[4..], &[]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of a group that begins at `lsn`.
    pub(crate) fn decode(bytes: &[u8], lsn: Lsn, seed: Seed) -> Result<GroupHeader, GroupFault> {
        let bytes: &[u8; GROUP_HEADER] = bytes
            .get(..GROUP_HEADER)
            .and_then(|header| header.try_into().ok())
            .ok_or(GroupFault::Header)?;
        if bytes[4..8] != MAGIC {
            return Err(GroupFault::Header);
        }
        let u64_at =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let u32_at =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if u32_at(0) != seed.checksum(lsn, &bytes[4..], &[]) || u64_at(8) != lsn.0 {
            return Err(GroupFault::Header);
        }
        let (previous, durable) = (Lsn(u64_at(16)), Lsn(u64_at(24)));
        // Nothing but a defect writes that, and what is behind a group is not for it to say.
        if previous > lsn || durable > lsn {
            return Err(GroupFault::Header);
        }
        Ok(GroupHeader {
            lsn,
            previous,
            durable,
            length: u32_at(32),
            records: u32_at(36),
            previous_salt: u64_at(40),
            provisional: bytes[48] != 0,
            opening: u64_at(56),
        })
    }

    /// Bytes from the start of the group to the start of the next one.
    pub(crate) fn span(&self) -> u64 {
        span(GROUP_HEADER + self.length as usize)
    }

    /// Where the group ends, padding included.
    pub(crate) fn end(&self) -> Lsn {
        self.lsn.plus(self.span())
    }
}

/// The bytes that a group of `length` bytes takes, up to the next 4 KiB boundary.
pub(super) fn span(length: usize) -> u64 {
    if is_active(Mutant::ShareSectors) {
        (length as u64).next_multiple_of(64)
    } else {
        padded(length)
    }
}

/// The same without a question: this is asked for each record.
fn padded(length: usize) -> u64 {
    (length as u64).next_multiple_of(PAGE)
}

/// A group that is being filled, or waits to be written.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) segment: Arc<Segment>,
    pub(super) lsn: Lsn,
    pub(super) previous: Lsn,
    /// The salt of the segment that `previous` lies in.
    pub(super) previous_salt: u64,
    pub(super) records: u32,
    /// Room for the header, then the records.
    pub(super) buffer: PageBuffer,
}

impl Group {
    pub(super) fn new(
        segment: Arc<Segment>,
        lsn: Lsn,
        previous: Lsn,
        previous_salt: u64,
        mut buffer: PageBuffer,
    ) -> Group {
        buffer.clear();
        buffer.pad(GROUP_HEADER);
        Group { segment, lsn, previous, previous_salt, records: 0, buffer }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Begins with new memory, and returns what it had; for an empty group.
    pub(super) fn release(&mut self) -> PageBuffer {
        let mut buffer = PageBuffer::default();
        buffer.pad(GROUP_HEADER);
        std::mem::replace(&mut self.buffer, buffer)
    }

    /// The LSN of the next record.
    pub(super) fn position(&self) -> Lsn {
        self.lsn.plus(self.buffer.len() as u64)
    }

    /// Where the log ends if this is its last group: behind the padding, or where the group before ended.
    pub(super) fn end_of_log(&self) -> Lsn {
        if self.is_empty() { self.previous } else { self.lsn.plus(span(self.buffer.len())) }
    }

    /// The salt of the segment that [`end_of_log`](Self::end_of_log) lies in.
    pub(super) fn salt_at_end(&self) -> u64 {
        if self.is_empty() { self.previous_salt } else { self.segment.header.salt }
    }

    /// Where the group ends if it gets `more` bytes.
    pub(super) fn end_with(&self, more: usize) -> Lsn {
        self.lsn.plus(padded(self.buffer.len() + more))
    }

    /// Completes the group for writing: header in front, zeros behind.
    pub(super) fn seal(&mut self, durable: Lsn, provisional: bool, opening: u64) {
        let header = GroupHeader {
            lsn: self.lsn,
            previous: self.previous,
            durable,
            length: (self.buffer.len() - GROUP_HEADER) as u32,
            records: self.records,
            previous_salt: self.previous_salt,
            provisional,
            opening,
        };
        self.buffer.as_mut_slice()[..GROUP_HEADER]
            .copy_from_slice(&header.encode(self.segment.seed));
        self.buffer.pad(header.span() as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::log::checked_group::CheckedGroup;
    use crate::storage::record::{self, FRAME, RecordKind};
    use crate::storage::units::SegmentId;

    fn seed() -> Seed {
        Seed::new(b"0123456789abcdef", SegmentId(3), 7)
    }

    fn example() -> GroupHeader {
        GroupHeader {
            lsn: Lsn(0x3000),
            previous: Lsn(0x2000),
            durable: Lsn(0x1000),
            length: 15,
            records: 1,
            previous_salt: 0x0807_0605_0403_0201,
            provisional: true,
            opening: 0x1817_1615_1413_1211,
        }
    }

    fn whole_group() -> Vec<u8> {
        let mut group = example().encode(seed()).to_vec();
        let mut record = vec![0; FRAME];
        record.extend_from_slice(b"hay");
        record::seal(&mut record, RecordKind::Message, Lsn(0x3040), seed());
        group.extend_from_slice(&record);
        group.resize(4096, 0);
        group
    }

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let bytes = example().encode(seed());
        let expected = b"\xc5\xe5\x9d\x2cHAYG\0\x30\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\
            \0\x10\0\0\0\0\0\0\x0f\0\0\0\x01\0\0\0\
            \x01\x02\x03\x04\x05\x06\x07\x08\x01\0\0\0\0\0\0\0\x11\x12\x13\x14\x15\x16\x17\x18";
        assert_eq!(&bytes, expected, "{:02x?}", &bytes[..4]);
        assert_eq!(GroupHeader::decode(&bytes, Lsn(0x3000), seed()), Ok(example()));
        assert_eq!(example().end(), Lsn(0x4000));
    }

    #[test]
    fn a_whole_group_passes_and_any_flipped_bit_of_it_does_not() {
        let mut group = whole_group();
        let checked = CheckedGroup::check(&group, Lsn(0x3000), seed()).unwrap();
        assert_eq!(checked.records[0].0, Lsn(0x3040));
        assert_eq!(checked.records[0].1.payload, b"hay");
        for bit in 0..(GROUP_HEADER + 15) * 8 {
            group[bit / 8] ^= 1 << (bit % 8);
            assert!(CheckedGroup::check(&group, Lsn(0x3000), seed()).is_err(), "bit {bit}");
            group[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_group_that_speaks_of_what_is_behind_it_does_not_pass() {
        let behind = Lsn(0x3001);
        for header in [
            GroupHeader { previous: behind, ..example() },
            GroupHeader { durable: behind, ..example() },
        ] {
            let bytes = header.encode(seed());
            let outcome = GroupHeader::decode(&bytes, Lsn(0x3000), seed());
            assert_eq!(outcome, Err(GroupFault::Header));
        }
        let whole = GroupHeader { previous: Lsn(0x3000), durable: Lsn(0x3000), ..example() };
        assert_eq!(GroupHeader::decode(&whole.encode(seed()), Lsn(0x3000), seed()), Ok(whole));
    }

    #[test]
    fn a_group_cut_anywhere_does_not_pass() {
        let group = whole_group();
        for length in 0..GROUP_HEADER + 15 {
            assert!(CheckedGroup::check(&group[..length], Lsn(0x3000), seed()).is_err());
        }
    }
}
