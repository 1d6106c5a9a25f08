//! The first page of a segment.

use crate::storage::checksum::{Seed, StoreId};
use crate::storage::units::SegmentId;

/// What a segment says of itself. It is durable before the segment's first record is written, and does not change
/// until the file is recycled.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..8 | magic | `HAYSEGMT` |
/// | 8..12 | checksum | CRC-32 of bytes 0..8 and 12..64 |
/// | 12..16 | slots | how many slots of the log the file takes; more than 1 only for an oversized message |
/// | 16..32 | store | the identity of the store it belongs to |
/// | 32..40 | number | the segment's number; the file's name says the same |
/// | 40..48 | salt | drawn anew whenever the file is taken into use; part of every checksum in it |
/// | 48..64 | | zero |
///
/// All of it is in one sector, so taking over an old file happens whole or not at all. The rest of the page is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: StoreId,
    pub(crate) id: SegmentId,
    pub(crate) slots: u32,
    pub(crate) salt: u64,
}

/// Why a header cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    TooShort,
    Slots,
    Checksum,
    OtherStore,
    OtherSegment(SegmentId),
    OtherHistory,
    Untied,
}

impl HeaderFault {
    pub(crate) fn describe(self) -> String {
        match self {
            HeaderFault::TooShort => "the file ends within the segment's header".to_owned(),
            HeaderFault::Slots => "the segment's header says a size that cannot be".to_owned(),
            HeaderFault::Checksum => "the segment's header does not pass its checksum".to_owned(),
            HeaderFault::OtherStore => "the file belongs to another store".to_owned(),
            HeaderFault::OtherSegment(id) => {
                format!("the file says that it is segment {id}: it was renamed or swapped")
            }
            HeaderFault::OtherHistory => {
                "the file is of another history of this store than the others: files of two backups, or of a backup \
                 and of today, were mixed; put back the file that belongs to the others, or all files of one backup"
                    .to_owned()
            }
            HeaderFault::Untied => {
                "nothing ties the file to this history of the store, and it may be of another history: files of two \
                 backups, or of a backup and of today, may have been mixed"
                    .to_owned()
            }
        }
    }
}

const MAGIC: [u8; 8] = *b"HAYSEGMT";

impl SegmentHeader {
    pub(crate) const SIZE: usize = 64;

    pub(crate) fn seed(&self) -> Seed {
        Seed::new(&self.store, self.id, self.salt)
    }

    pub(crate) fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[12..16].copy_from_slice(&self.slots.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store);
        bytes[32..40].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = checksum(&bytes);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of the file that is named for segment `id` of `store`.
    pub(crate) fn decode(
        bytes: &[u8; Self::SIZE],
        store: &StoreId,
        id: SegmentId,
    ) -> Result<SegmentHeader, HeaderFault> {
        let u64_at = |at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
        };
        let u32_at = |at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
        };
        if bytes[..8] != MAGIC || u32_at(8) != checksum(bytes) {
            return Err(HeaderFault::Checksum);
        }
        if bytes[16..32] != store[..] {
            return Err(HeaderFault::OtherStore);
        }
        let found = SegmentId(u64_at(32));
        if found != id {
            return Err(HeaderFault::OtherSegment(found));
        }
        Ok(SegmentHeader { store: *store, id, slots: u32_at(12).max(1), salt: u64_at(40) })
    }
}

fn checksum(bytes: &[u8; SegmentHeader::SIZE]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..8]);
    hasher.update(&bytes[12..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = *b"0123456789abcdef";

    fn example() -> SegmentHeader {
        SegmentHeader { store: STORE, id: SegmentId(3), slots: 1, salt: 0x1122_3344_5566_7788 }
    }

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let expected = b"HAYSEGMT\x36\x6c\x87\x00\x01\0\0\x000123456789abcdef\
            \x03\0\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let bytes = example().encode();
        assert_eq!(&bytes, expected, "{:02x?}", &bytes[8..12]);
        assert_eq!(SegmentHeader::decode(&bytes, &STORE, SegmentId(3)), Ok(example()));
    }

    #[test]
    fn a_header_of_another_place_is_told_apart_from_a_damaged_one() {
        let mut bytes = example().encode();
        let decode = |bytes: &_, store, id| SegmentHeader::decode(bytes, store, SegmentId(id));
        assert_eq!(decode(&bytes, b"fedcba9876543210", 3), Err(HeaderFault::OtherStore));
        assert_eq!(decode(&bytes, &STORE, 4), Err(HeaderFault::OtherSegment(SegmentId(3))));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes, &STORE, 3), Err(HeaderFault::Checksum), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
