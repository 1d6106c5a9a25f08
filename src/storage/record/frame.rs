//! The frame around every record.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..4 | checksum | CRC-32 of the payload, bytes 4..12, the record's LSN and the segment's seed |
//! | 4..8 | length | bytes of the payload |
//! | 8 | kind | what the payload is; 0 is never used, so zeros are no record |
//! | 9..12 | | zero |
//! | 12.. | payload | |
//!
//! Records follow each other without gaps inside a sync group.

use crc32fast::Hasher;
use thiserror::Error;

use crate::storage::checksum::Seed;
use crate::storage::units::Lsn;

/// Bytes of the frame in front of a payload.
pub(crate) const FRAME: usize = 12;

/// What a record's payload is. The numbers are on disk and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// A message and the queues that it went to.
    Message = 1,
    /// Messages of a queue that are done with.
    Acknowledge = 2,
    /// Messages of a queue that were handed out.
    Delivered = 3,
    /// Queues and metadata that came, changed or went.
    Topology = 4,
    /// The log was opened; what lies between the end of the group before and here is void.
    Opened = 5,
    /// Checkpoint: the places of a chunk of a queue's messages.
    Chunk = 6,
    /// Checkpoint: the state of some queues.
    QueuePage = 7,
    /// Checkpoint: some of the metadata.
    MetadataPage = 8,
    /// Checkpoint: where all the rest of it is.
    Root = 9,
    /// A message that does not survive a restart, put here because memory is short.
    Transient = 10,
    /// A message that compaction has taken out of an old segment, and the places that it is still in.
    Moved = 11,
    /// Checkpoint: the states of some of a deep queue's chunks.
    Directory = 12,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<RecordKind> {
        use RecordKind::*;
        Some(match byte {
            1 => Message,
            2 => Acknowledge,
            3 => Delivered,
            4 => Topology,
            5 => Opened,
            6 => Chunk,
            7 => QueuePage,
            8 => MetadataPage,
            9 => Root,
            10 => Transient,
            11 => Moved,
            12 => Directory,
            _ => return None,
        })
    }
}

/// A record that passed its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes of the whole record, frame included.
    pub(crate) fn size(&self) -> usize {
        FRAME + self.payload.len()
    }
}

/// Why bytes are not the record that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RecordFault {
    /// The length, which is checked before anything relies on it, leads beyond what there is.
    #[error("the record's length leads beyond its segment")]
    Length,
    #[error("the record does not pass its checksum")]
    Checksum,
    #[error("the record is of kind {0}, which this version does not know")]
    Kind(u8),
}

/// A record that passed its check, with the front of its payload at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) kind: RecordKind,
    /// The payload, or its front.
    pub(crate) payload: &'a [u8],
    /// Bytes of the payload that follow.
    pub(crate) missing: usize,
}

impl<'a> Part<'a> {
    pub(crate) fn whole(record: &Record<'a>) -> Part<'a> {
        Part { kind: record.kind, payload: record.payload, missing: 0 }
    }

    /// Bytes of the whole record, frame included.
    pub(crate) fn size(&self) -> usize {
        FRAME + self.payload.len() + self.missing
    }
}

/// Completes a record whose payload begins at [`FRAME`] in `record`.
pub(crate) fn seal(record: &mut [u8], kind: RecordKind, lsn: Lsn, seed: Seed) {
    let (frame, payload) = record.split_at_mut(FRAME);
    let length = u32::try_from(payload.len()).expect("the log refuses larger records");
    let [l0, l1, l2, l3] = length.to_le_bytes();
    let more = [l0, l1, l2, l3, kind as u8, 0, 0, 0];
    let checksum = seed.checksum(lsn, payload, &more);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
    frame[4..].copy_from_slice(&more);
}

/// The size of the record that begins with these bytes, frame included, as it says itself. It is not to be believed before the
/// record has been checked. `None`: there is no whole frame.
pub(crate) fn announced_size(bytes: &[u8]) -> Option<u64> {
    let length = bytes.get(4..FRAME)?.first_chunk()?;
    Some(FRAME as u64 + u64::from(u32::from_le_bytes(*length)))
}

/// The check of a record whose payload is read in pieces.
pub(crate) struct RecordCheck {
    frame: [u8; FRAME],
    hasher: Hasher,
}

impl RecordCheck {
    /// `frame`: the first bytes of the record.
    pub(crate) fn new(frame: &[u8]) -> RecordCheck {
        let mut own = [0; FRAME];
        let length = frame.len().min(FRAME);
        own[..length].copy_from_slice(&frame[..length]);
        RecordCheck { frame: own, hasher: Hasher::new() }
    }

    /// Adds the next bytes of the payload.
    pub(crate) fn update(&mut self, payload: &[u8]) {
        self.hasher.update(payload);
    }

    /// Whether all of it is the record at `lsn`, and of which kind it is.
    pub(crate) fn finish(self, lsn: Lsn, seed: Seed) -> Result<RecordKind, RecordFault> {
        let [c0, c1, c2, c3, more @ ..] = self.frame;
        if u32::from_le_bytes([c0, c1, c2, c3]) != seed.complete(self.hasher, lsn, &more) {
            return Err(RecordFault::Checksum);
        }
        let kind = self.frame[8];
        RecordKind::from_byte(kind).ok_or(RecordFault::Kind(kind))
    }
}

/// Checks the record at the front of `bytes`, which may go on behind it.
pub(crate) fn open(bytes: &[u8], lsn: Lsn, seed: Seed) -> Result<Record<'_>, RecordFault> {
    let (frame, rest) = bytes.split_first_chunk::<FRAME>().ok_or(RecordFault::Length)?;
    let [c0, c1, c2, c3, more @ ..] = frame;
    let [l0, l1, l2, l3, kind, ..] = *more;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let payload = rest.get(..length).ok_or(RecordFault::Length)?;
    if u32::from_le_bytes([*c0, *c1, *c2, *c3]) != seed.checksum(lsn, payload, more) {
        return Err(RecordFault::Checksum);
    }
    let kind = RecordKind::from_byte(kind).ok_or(RecordFault::Kind(kind))?;
    Ok(Record { kind, payload })
}

/// Whether a record may begin with `bytes`, as far as its frame tells without its checksum: gives the size of the whole record.
/// `room` bytes may belong to it, of which `bytes` are the first.
pub(crate) fn plausible_within(bytes: &[u8], room: u64) -> Option<u64> {
    let frame = bytes.get(..FRAME)?;
    let size = announced_size(frame).filter(|size| *size <= room)?;
    (frame[9..] == [0; 3] && RecordKind::from_byte(frame[8]).is_some()).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::units::SegmentId;

    fn seed() -> Seed {
        Seed::new(b"0123456789abcdef", SegmentId(3), 7)
    }

    fn example() -> Vec<u8> {
        let mut record = vec![0; FRAME];
        record.extend_from_slice(b"hay");
        seal(&mut record, RecordKind::Message, Lsn(0x3040), seed());
        record
    }

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        assert_eq!(example(), b"\xb5\x01\xb5\x63\x03\0\0\0\x01\0\0\0hay", "{:02x?}", example());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut record = example();
        for bit in 0..record.len() * 8 {
            record[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&record, Lsn(0x3040), seed()).is_err(), "bit {bit}");
            record[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(open(&record, Lsn(0x3040), seed()).unwrap().payload, b"hay");
    }

    #[test]
    fn a_record_counts_only_in_its_own_place() {
        assert_eq!(open(&example(), Lsn(0x3041), seed()), Err(RecordFault::Checksum));
        let salted_anew = Seed::new(b"0123456789abcdef", SegmentId(3), 8);
        assert_eq!(open(&example(), Lsn(0x3040), salted_anew), Err(RecordFault::Checksum));
    }

    #[test]
    fn zeros_are_no_record_and_a_giant_length_is_not_followed() {
        assert!(open(&[0; 4096], Lsn(0x3040), seed()).is_err());
        let mut record = example();
        record[4..8].fill(0xff);
        assert_eq!(open(&record, Lsn(0x3040), seed()), Err(RecordFault::Length));
        assert_eq!(open(&record[..5], Lsn(0x3040), seed()), Err(RecordFault::Length));
    }
}
