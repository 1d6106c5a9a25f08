//! Messages of one queue that were handed out, so that they are marked as redelivered when they are handed out again,
//! be it by another process.

use super::Malformed;
use super::cursor::Cursor;
use crate::storage::units::{QueueId, Sequence, SequenceRange};

/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..8 | queue | |
/// | 8.. | | for each range: its first place (8 bytes), how many places behind that one (2 bytes), how often each of them has been handed out by now (2 bytes) |
///
/// The counts are absolute, so that a replay may begin anywhere; beyond 65,535 they stay there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeliveredRecord<'a> {
    pub(crate) queue: QueueId,
    ranges: &'a [u8],
}

/// Places that have been handed out equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeliveredRange {
    pub(crate) range: SequenceRange,
    pub(crate) deliveries: u16,
}

const RANGE: usize = 12;

impl<'a> DeliveredRecord<'a> {
    /// Appends the payload for messages in ascending order of place, with their counts.
    pub(crate) fn encode(buffer: &mut Vec<u8>, queue: QueueId, delivered: &[(Sequence, u32)]) {
        buffer.extend_from_slice(&queue.0.to_le_bytes());
        let count = |deliveries: u32| deliveries.min(u32::from(u16::MAX)) as u16;
        let mut rest = delivered;
        while let Some(&(first, deliveries)) = rest.first() {
            let run = rest
                .iter()
                .zip(first.0..=u64::MAX)
                .take(usize::from(u16::MAX))
                .take_while(|((sequence, other), expected)| {
                    sequence.0 == *expected && count(*other) == count(deliveries)
                })
                .count();
            buffer.extend_from_slice(&first.0.to_le_bytes());
            buffer.extend_from_slice(&((run - 1) as u16).to_le_bytes());
            buffer.extend_from_slice(&count(deliveries).to_le_bytes());
            rest = &rest[run..];
        }
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Result<DeliveredRecord<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let queue = QueueId(cursor.u64()?);
        let ranges = cursor.rest();
        if !ranges.len().is_multiple_of(RANGE) {
            return Err(Malformed("a range is cut short"));
        }
        Ok(DeliveredRecord { queue, ranges })
    }

    pub(crate) fn ranges(&self) -> impl Iterator<Item = DeliveredRange> + use<'a> {
        self.ranges.chunks_exact(RANGE).map(|bytes| {
            let first = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            let more = u16::from_le_bytes(bytes[8..10].try_into().expect("two bytes"));
            let deliveries = u16::from_le_bytes(bytes[10..].try_into().expect("two bytes"));
            let last = first.saturating_add(u64::from(more));
            let range = SequenceRange { first: Sequence(first), last: Sequence(last) };
            DeliveredRange { range, deliveries }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let delivered = [(5, 1), (6, 1), (7, 2), (9, 2), (10, 99_999)]
            .map(|(sequence, count)| (Sequence(sequence), count));
        let mut payload = Vec::new();
        DeliveredRecord::encode(&mut payload, QueueId(3), &delivered);
        let expected = b"\x03\0\0\0\0\0\0\0\
            \x05\0\0\0\0\0\0\0\x01\0\x01\0\
            \x07\0\0\0\0\0\0\0\0\0\x02\0\
            \x09\0\0\0\0\0\0\0\0\0\x02\0\
            \x0a\0\0\0\0\0\0\0\0\0\xff\xff";
        assert_eq!(payload, expected);
        let record = DeliveredRecord::decode(&payload).unwrap();
        let counts: Vec<_> =
            record.ranges().map(|r| (r.range.first.0, r.range.last.0, r.deliveries)).collect();
        assert_eq!(counts, [(5, 6, 1), (7, 7, 2), (9, 9, 2), (10, 10, u16::MAX)]);
        assert!(DeliveredRecord::decode(&payload[..9]).is_err());
    }

    #[test]
    fn a_run_longer_than_a_range_can_say_is_cut() {
        let delivered: Vec<_> = (0..70_000).map(|n| (Sequence(n), 1)).collect();
        let mut payload = Vec::new();
        DeliveredRecord::encode(&mut payload, QueueId(3), &delivered);
        let total: u64 = DeliveredRecord::decode(&payload)
            .unwrap()
            .ranges()
            .map(|r| r.range.last.0 - r.range.first.0 + 1)
            .sum();
        assert_eq!(total, 70_000);
    }
}
