//! Messages of one queue that are done with.

use super::Malformed;
use super::cursor::Cursor;
use crate::storage::units::{QueueId, Sequence, SequenceRange};

/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..8 | queue | |
/// | 8.. | | for each range: its first place (8 bytes), how many places behind that one (4 bytes) |
///
/// Acknowledging twice is acknowledging once, so a replay may begin anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcknowledgeRecord<'a> {
    pub(crate) queue: QueueId,
    ranges: &'a [u8],
}

const RANGE: usize = 12;

impl<'a> AcknowledgeRecord<'a> {
    /// Bytes of the payload for these ranges.
    pub(crate) fn encoded_size(ranges: &[SequenceRange]) -> usize {
        let pieces = |range: &SequenceRange| 1 + (range.last.0 - range.first.0) / (1 << 32);
        8 + RANGE * ranges.iter().map(pieces).sum::<u64>() as usize
    }

    pub(crate) fn encode(buffer: &mut Vec<u8>, queue: QueueId, ranges: &[SequenceRange]) {
        buffer.extend_from_slice(&queue.0.to_le_bytes());
        for range in ranges {
            for first in (range.first.0..=range.last.0).step_by(1 << 32) {
                let more = (range.last.0 - first).min(u64::from(u32::MAX)) as u32;
                buffer.extend_from_slice(&first.to_le_bytes());
                buffer.extend_from_slice(&more.to_le_bytes());
            }
        }
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Result<AcknowledgeRecord<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let queue = QueueId(cursor.u64()?);
        let ranges = cursor.rest();
        if !ranges.len().is_multiple_of(RANGE) {
            return Err(Malformed("a range is cut short"));
        }
        Ok(AcknowledgeRecord { queue, ranges })
    }

    pub(crate) fn ranges(&self) -> impl ExactSizeIterator<Item = SequenceRange> + use<'a> {
        self.ranges.chunks_exact(RANGE).map(|bytes| {
            let (first, more) = bytes.split_at(8);
            let first = u64::from_le_bytes(first.try_into().expect("eight bytes were split off"));
            let more = u32::from_le_bytes(more.try_into().expect("four bytes are left of twelve"));
            let last = first.saturating_add(u64::from(more));
            SequenceRange { first: Sequence(first), last: Sequence(last) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let ranges = [(5, 5), (7, 0x109)]
            .map(|(first, last)| SequenceRange { first: Sequence(first), last: Sequence(last) });
        let mut payload = Vec::new();
        AcknowledgeRecord::encode(&mut payload, QueueId(3), &ranges);
        let expected = b"\x03\0\0\0\0\0\0\0\
            \x05\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x02\x01\0\0";
        assert_eq!(payload, expected);
        assert_eq!(payload.len(), AcknowledgeRecord::encoded_size(&ranges));
        let record = AcknowledgeRecord::decode(&payload).unwrap();
        assert_eq!(record.queue, QueueId(3));
        assert!(record.ranges().eq(ranges));
        assert!(AcknowledgeRecord::decode(&payload[..payload.len() - 1]).is_err());
    }

    #[test]
    fn a_range_of_more_than_four_billion_places_is_cut_without_gap_or_overlap() {
        let mut payload = Vec::new();
        let range = SequenceRange { first: Sequence(1), last: Sequence(1 << 33) };
        AcknowledgeRecord::encode(&mut payload, QueueId(3), &[range]);
        let mut expected_first = 1;
        for range in AcknowledgeRecord::decode(&payload).unwrap().ranges() {
            assert_eq!(range.first, Sequence(expected_first));
            expected_first = range.last.0 + 1;
        }
        assert_eq!(expected_first, (1 << 33) + 1);
        assert_eq!(payload.len(), AcknowledgeRecord::encoded_size(&[range]));
    }
}
