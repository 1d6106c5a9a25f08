//! Checksums that a stale, moved or swapped byte cannot pass.
//!
//! Every segment has a [`Seed`] of its own, made of the store's identity, the segment's number and a salt that is
//! drawn anew each time its file is taken into use. A checksum covers the seed and the record's LSN besides the
//! bytes themselves, so what another store, another segment, another place, or an earlier life of the same file
//! wrote never validates.

use crc32fast::Hasher;

use super::units::{Lsn, SegmentId};

/// Identifies a store: 16 random bytes, drawn when it is created.
pub(crate) type StoreId = [u8; 16];

/// What all checksums of one segment begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(store: &StoreId, segment: SegmentId, salt: u64) -> Seed {
        let mut hasher = Hasher::new();
        hasher.update(store);
        hasher.update(&segment.0.to_le_bytes());
        hasher.update(&salt.to_le_bytes());
        Seed(hasher.finalize())
    }

    /// The checksum of `bytes`, and of eight at most that follow, at `lsn` in this segment.
    ///
    /// The bytes come first and place and seed last: a CRC tells the same from either end. What is short is put together first,
    /// because each piece costs as much as some hundred bytes more. The compiler knows how many bytes follow, so that it copies them
    /// without a call.
    pub(crate) fn checksum<const MORE: usize>(
        self,
        lsn: Lsn,
        bytes: &[u8],
        more: &[u8; MORE],
    ) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        self.complete(hasher, lsn, more)
    }

    /// The [checksum](Self::checksum) of bytes that `hasher` has seen in pieces.
    #[inline]
    pub(crate) fn complete<const MORE: usize>(
        self,
        mut hasher: Hasher,
        lsn: Lsn,
        more: &[u8; MORE],
    ) -> u32 {
        let mut rest = [0; 8 + 12];
        rest[..MORE].copy_from_slice(more);
        rest[MORE..MORE + 8].copy_from_slice(&lsn.0.to_le_bytes());
        rest[MORE + 8..MORE + 12].copy_from_slice(&self.0.to_le_bytes());
        hasher.update(&rest[..MORE + 12]);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_store_segment_and_salt_all_change_the_checksum() {
        let of = |store: u8, segment, salt, lsn| {
            Seed::new(&[store; 16], SegmentId(segment), salt).checksum(Lsn(lsn), b"hay", &[])
        };
        let original = of(1, 2, 3, 4);
        assert_eq!(original, of(1, 2, 3, 4));
        for other in [of(9, 2, 3, 4), of(1, 9, 3, 4), of(1, 2, 9, 4), of(1, 2, 3, 9)] {
            assert_ne!(original, other);
        }
    }
}
