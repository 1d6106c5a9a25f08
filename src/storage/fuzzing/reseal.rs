//! Making checksums right again, so that damage gets past them: to what only a defect, or a newer version, could have
//! written.

use super::image::SEGMENT;
use crate::storage::checksum::{Seed, StoreId};
use crate::storage::log::group::{GROUP_HEADER, GroupHeader};
use crate::storage::record::FRAME;
use crate::storage::segment::{PAGE, SegmentHeader};
use crate::storage::units::{Lsn, SegmentId};

/// Bytes of a copy of the superblock.
const COPY: usize = 512;

/// What of a segment its checksums need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealing {
    pub(super) start: Lsn,
    pub(super) seed: Seed,
}

impl Sealing {
    /// Of the segment whose file has this content.
    pub(super) fn of(content: &[u8]) -> Option<Sealing> {
        let header: &[u8; SegmentHeader::SIZE] = content.first_chunk()?;
        let store: StoreId = header[16..32].try_into().ok()?;
        let id = SegmentId(u64::from_le_bytes(header[32..40].try_into().ok()?));
        let header = SegmentHeader::decode(header, &store, id).ok()?;
        let start = Lsn(id.0.checked_mul(SEGMENT)?);
        start.0.checked_add(SEGMENT * 16)?;
        Some(Sealing { start, seed: header.seed() })
    }

    /// The groups of the segment, as far as their headers tell: offset and header.
    pub(super) fn groups(self, content: &[u8]) -> Vec<(usize, GroupHeader)> {
        let mut groups = Vec::new();
        let mut at = PAGE as usize;
        while let Some(rest) = content.get(at..).filter(|rest| !rest.is_empty()) {
            match GroupHeader::decode(rest, self.start.plus(at as u64), self.seed) {
                Ok(header) => {
                    groups.push((at, header));
                    at += header.span() as usize;
                }
                Err(_) => at += PAGE as usize,
            }
        }
        groups
    }

    /// Where the records of a group with so many bytes of them are: offset and size.
    pub(super) fn records(content: &[u8], group: usize, length: u32) -> Vec<(usize, usize)> {
        let mut records = Vec::new();
        let mut at = group + GROUP_HEADER;
        let end = content.len().min(at + length as usize);
        while at + FRAME <= end {
            let size = FRAME + length_of(&content[at..]);
            if at + size > end {
                break;
            }
            records.push((at, size));
            at += size;
        }
        records
    }

    /// Makes the checksum of the record at `at` right, as long as it says that it is.
    pub(super) fn record(self, content: &mut [u8], at: usize) {
        let Some(end) = content.get(at..at + FRAME).map(|frame| at + FRAME + length_of(frame))
        else {
            return;
        };
        let Some(payload) = content.get(at + FRAME..end) else { return };
        let Some(more) = content[at + 4..].first_chunk::<{ FRAME - 4 }>() else { return };
        let lsn = self.start.plus(at as u64);
        let checksum = self.seed.checksum(lsn, payload, more);
        content[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Makes the checksum of the group header at `at` right.
    pub(super) fn group(self, content: &mut [u8], at: usize) {
        let lsn = self.start.plus(at as u64);
        let Some(header) = content.get_mut(at..at + GROUP_HEADER) else { return };
        header[4..8].copy_from_slice(b"HAYG");
        header[8..16].copy_from_slice(&lsn.0.to_le_bytes());
        let checksum = self.seed.checksum(lsn, &header[4..], &[]);
        header[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn length_of(frame: &[u8]) -> usize {
    frame.get(4..8).and_then(|length| length.try_into().ok()).map_or(0, u32::from_le_bytes) as usize
}

/// Makes the checksum of a segment's header right.
pub(super) fn segment_header(content: &mut [u8]) {
    let Some(header) = content.first_chunk_mut::<{ SegmentHeader::SIZE }>() else { return };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..8]);
    hasher.update(&header[12..]);
    header[8..12].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// Makes the checksums of both copies of a superblock right.
pub(super) fn superblock(content: &mut [u8]) {
    for start in [0, PAGE as usize] {
        let Some(copy) = content.get_mut(start..start + COPY) else { return };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&copy[..12]);
        hasher.update(&copy[16..]);
        copy[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
}
