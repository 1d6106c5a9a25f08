//! The places in the log of a run of a queue's messages.

use serde::{Deserialize, Serialize};

use super::Malformed;
use super::cursor::{Cursor, put_varint, unzigzag, zigzag};
use crate::storage::units::{Lsn, QueueId, Sequence};

/// Where one message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkEntry {
    /// Its record.
    pub(crate) lsn: Lsn,
    /// Bytes of the whole record.
    pub(crate) length: u32,
    /// How many queues share the record.
    pub(crate) sharers: u16,
}

impl ChunkEntry {
    /// Whether it is in a place where something can be.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if self.lsn >= Lsn::LIMIT { Err(Malformed("a place that no log has")) } else { Ok(()) }
    }

    /// A queue's share of the record's bytes.
    pub(crate) fn share(&self) -> u64 {
        u64::from(self.length / u32::from(self.sharers.max(1)))
    }
}

/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..8 | queue | |
/// | 8..16 | base | the place of the first entry |
/// | 16..20 | places | how many places the chunk has, 65,536 at most |
/// | .. | | for each place that holds something: varint, how many places before it hold nothing; varint `sharers`; zigzag varint of the LSN's distance from the LSN of the entry before (from 0 for the first); varint length |
///
/// A full chunk's record does not change any more, unless compaction moves its messages; what is acknowledged in it is
/// said by the queue's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRecord {
    pub(crate) queue: QueueId,
    pub(crate) base: Sequence,
    pub(crate) places: u32,
    /// Places, counted from the base, in ascending order.
    pub(crate) entries: Vec<(u16, ChunkEntry)>,
}

impl ChunkRecord {
    /// The most places that a chunk can have.
    pub(super) const LIMIT: u32 = 1 << 16;

    pub(crate) fn encode(
        buffer: &mut Vec<u8>,
        queue: QueueId,
        base: Sequence,
        places: u32,
        entries: impl Iterator<Item = (u16, ChunkEntry)>,
    ) {
        buffer.extend_from_slice(&queue.0.to_le_bytes());
        buffer.extend_from_slice(&base.0.to_le_bytes());
        buffer.extend_from_slice(&places.to_le_bytes());
        let (mut next, mut previous) = (0, 0);
        for (place, entry) in entries {
            put_varint(buffer, u64::from(place) - next);
            put_varint(buffer, u64::from(entry.sharers));
            put_varint(buffer, zigzag(entry.lsn.0.wrapping_sub(previous) as i64));
            put_varint(buffer, u64::from(entry.length));
            next = u64::from(place) + 1;
            previous = entry.lsn.0;
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<ChunkRecord, Malformed> {
        let mut cursor = Cursor::new(payload);
        let queue = QueueId(cursor.u64()?);
        let base = Sequence(cursor.u64()?);
        let places = cursor.u32()?;
        if places > Self::LIMIT {
            return Err(Malformed("too many places"));
        }
        if base >= Sequence::LIMIT {
            return Err(Malformed("a place that no queue has"));
        }
        let mut entries = Vec::with_capacity((places as usize).min(cursor.at_most(4)));
        let (mut next, mut previous) = (0u64, 0u64);
        while !cursor.is_empty() {
            let place = next.saturating_add(cursor.varint()?);
            if place >= u64::from(places) {
                return Err(Malformed("a place is beyond the chunk"));
            }
            let sharers = cursor.varint()?;
            if sharers == 0 {
                return Err(Malformed("an entry that nobody shares"));
            }
            previous = previous.wrapping_add(unzigzag(cursor.varint()?) as u64);
            let entry = ChunkEntry {
                lsn: Lsn(previous),
                length: cursor
                    .varint()?
                    .try_into()
                    .map_err(|_| Malformed("a length is too large"))?,
                sharers: sharers.try_into().map_err(|_| Malformed("too many sharers"))?,
            };
            entry.check()?;
            entries.push((place as u16, entry));
            next = place + 1;
        }
        Ok(ChunkRecord { queue, base, places, entries })
    }

    /// What is in a place.
    pub(crate) fn entry(&self, place: u16) -> Option<ChunkEntry> {
        let at = self.entries.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(self.entries[at].1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let entry = |lsn, length, sharers| ChunkEntry { lsn: Lsn(lsn), length, sharers };
        let entries =
            vec![(0, entry(0x1000, 100, 1)), (2, entry(0x1064, 300, 2)), (3, entry(0x0fff, 1, 1))];
        let mut payload = Vec::new();
        ChunkRecord::encode(&mut payload, QueueId(3), Sequence(9), 5, entries.iter().copied());
        let expected = b"\x03\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x05\0\0\0\
            \x00\x01\x80\x40\x64\x01\x02\xc8\x01\xac\x02\x00\x01\xc9\x01\x01";
        assert_eq!(payload, expected, "{payload:02x?}");
        let record = ChunkRecord { queue: QueueId(3), base: Sequence(9), places: 5, entries };
        assert_eq!(record.entry(2), Some(entry(0x1064, 300, 2)));
        assert_eq!(record.entry(1), None);
        assert_eq!(ChunkRecord::decode(&payload), Ok(record));
    }

    quickcheck! {
        fn any_chunk_comes_back(entries: BTreeMap<u16, (u64, u32, u16)>) -> bool {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(place, (lsn, length, sharers))| {
                    let lsn = Lsn(lsn % Lsn::LIMIT.0);
                    (place, ChunkEntry { lsn, length, sharers: sharers.max(1) })
                })
                .collect();
            let mut payload = Vec::new();
            let all = entries.iter().copied();
            ChunkRecord::encode(&mut payload, QueueId(1), Sequence(2), 1 << 16, all);
            ChunkRecord::decode(&payload).unwrap().entries == entries
        }

        fn any_bytes_are_decoded_or_refused_without_a_panic(payload: Vec<u8>) -> bool {
            ChunkRecord::decode(&payload).is_ok() || ChunkRecord::decode(&payload).is_err()
        }
    }

    #[test]
    fn a_count_that_cannot_be_is_refused() {
        let mut payload = vec![0; 16];
        payload.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(ChunkRecord::decode(&payload).is_err());
    }
}
