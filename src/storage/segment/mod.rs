//! Segments: the files that the log is cut into.
//!
//! A segment is a file of [`segment_size`](super::Options::segment_size) bytes, named after its number
//! (`0000000000000001.segment`). It is written full of zeros, or taken over from a dead one, before the log needs
//! it, so that appending never makes a file grow. Its first page is the [header](SegmentHeader); sync groups
//! follow, each from one 4 KiB boundary to the next. A record never spans two segments: one that is larger than a
//! segment gets a file of several slots, alone or behind what is acknowledged together with it.
//!
//! What lives here: the header, the set of segments in use with their share of live data ([`SegmentSet`]) and the
//! making and recycling of files ([`SegmentPool`]). It may use the disk and the checksums; it must never know of
//! queues, nor decide when a segment is dead.

mod header;
mod pool;
mod set;

pub(crate) use header::{HeaderFault, SegmentHeader};
pub(crate) use pool::{FreeFile, PoolConfig, Prepared, Register, SegmentPool};
pub(crate) use set::{Segment, SegmentSet};

use std::ops::RangeInclusive;

use super::units::SegmentId;

/// The unit in which the log is laid out, in bytes. A page that holds synced bytes is never written again.
pub(crate) const PAGE: u64 = 4096;

/// The smallest and the largest slot of a log, in bytes.
pub(crate) const SLOT_SIZES: RangeInclusive<u64> = 4 * PAGE..=1 << 32;

/// Whether a log can be cut into slots of so many bytes.
pub(crate) fn is_segment_size(bytes: u64) -> bool {
    bytes.is_multiple_of(PAGE) && SLOT_SIZES.contains(&bytes)
}

const SUFFIX: &str = ".segment";

/// The name of a segment's file.
pub(crate) fn file_name(id: SegmentId) -> String {
    format!("{:016x}{SUFFIX}", id.0)
}

/// The segment that a file of this name belongs to; `None`: not a segment's name.
pub(crate) fn parse_file_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(SUFFIX)?;
    let id = SegmentId(u64::from_str_radix(digits, 16).ok()?);
    (file_name(id) == name && id.0 != 0).then_some(id)
}

/// The name of a file that is being made into a segment. One that is found at start-up was never in use.
pub(crate) fn unfinished_file_name(id: SegmentId) -> String {
    format!("{:016x}.unfinished", id.0)
}

/// Whether a file of this name is the remainder of an interrupted preparation.
pub(crate) fn is_unfinished(name: &str) -> bool {
    let id = |digits| u64::from_str_radix(digits, 16).ok().map(SegmentId);
    name.strip_suffix(".unfinished").and_then(id).is_some_and(|id| unfinished_file_name(id) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_segments() {
        assert_eq!(file_name(SegmentId(0x2a)), "000000000000002a.segment");
        assert_eq!(parse_file_name("000000000000002a.segment"), Some(SegmentId(0x2a)));
        for other in
            ["2a.segment", "000000000000002A.segment", "superblock", "0000000000000000.segment"]
        {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
        assert!(is_unfinished(&unfinished_file_name(SegmentId(5))));
        for other in ["notes.unfinished", "beef.unfinished", "+000000000000005.unfinished"] {
            assert!(!is_unfinished(other), "{other}");
        }
    }
}
