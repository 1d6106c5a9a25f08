//! The places in the log of a run of a queue's messages.

use super::Malformed;
use super::cursor::{Cursor, put_varint, unzigzag, zigzag};
use crate::storage::units::{Lsn, QueueId, Sequence};

/// Where one message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    /// Its record.
    pub(crate) lsn: Lsn,
    /// Bytes of the whole record.
    pub(crate) length: u32,
    /// How many queues share the record.
    pub(crate) sharers: u16,
}

/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..8 | queue | |
/// | 8..16 | base | the place of the first entry |
/// | 16..20 | count | how many places, `n` |
/// | .. | | for each place: varint `sharers` (0: nothing is stored for this place, and no more follows for it); zigzag varint of the LSN's distance from the LSN of the entry before (from 0 for the first); varint length |
///
/// A full chunk's record does not change any more; what is acknowledged in it is said by the queue's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRecord {
    pub(crate) queue: QueueId,
    pub(crate) base: Sequence,
    pub(crate) entries: Vec<Option<ChunkEntry>>,
}

impl ChunkRecord {
    pub(crate) fn encode(
        buffer: &mut Vec<u8>,
        queue: QueueId,
        base: Sequence,
        entries: impl ExactSizeIterator<Item = Option<ChunkEntry>>,
    ) {
        buffer.extend_from_slice(&queue.0.to_le_bytes());
        buffer.extend_from_slice(&base.0.to_le_bytes());
        buffer.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        let mut previous = 0;
        for entry in entries {
            let Some(entry) = entry else {
                put_varint(buffer, 0);
                continue;
            };
            put_varint(buffer, u64::from(entry.sharers));
            put_varint(buffer, zigzag(entry.lsn.0.wrapping_sub(previous) as i64));
            put_varint(buffer, u64::from(entry.length));
            previous = entry.lsn.0;
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<ChunkRecord, Malformed> {
        let mut cursor = Cursor::new(payload);
        let queue = QueueId(cursor.u64()?);
        let base = Sequence(cursor.u64()?);
        let count = cursor.u32()? as usize;
        let mut entries = Vec::with_capacity(count.min(cursor.at_most(1)));
        let mut previous = 0u64;
        for _ in 0..count {
            let sharers = cursor.varint()?;
            if sharers == 0 {
                entries.push(None);
                continue;
            }
            previous = previous.wrapping_add(unzigzag(cursor.varint()?) as u64);
            entries.push(Some(ChunkEntry {
                lsn: Lsn(previous),
                length: cursor
                    .varint()?
                    .try_into()
                    .map_err(|_| Malformed("a length is too large"))?,
                sharers: sharers.try_into().map_err(|_| Malformed("too many sharers"))?,
            }));
        }
        cursor.end()?;
        Ok(ChunkRecord { queue, base, entries })
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let entry = |lsn, length, sharers| Some(ChunkEntry { lsn: Lsn(lsn), length, sharers });
        let entries = vec![entry(0x1000, 100, 1), None, entry(0x1064, 300, 2), entry(0x0fff, 1, 1)];
        let mut payload = Vec::new();
        ChunkRecord::encode(&mut payload, QueueId(3), Sequence(9), entries.iter().copied());
        let expected = b"\x03\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x04\0\0\0\
            \x01\x80\x40\x64\x00\x02\xc8\x01\xac\x02\x01\xc9\x01\x01";
        assert_eq!(payload, expected, "{payload:02x?}");
        let record = ChunkRecord { queue: QueueId(3), base: Sequence(9), entries };
        assert_eq!(ChunkRecord::decode(&payload), Ok(record));
    }

    quickcheck! {
        fn any_chunk_comes_back(entries: Vec<Option<(u64, u32, u16)>>) -> bool {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|e| e.map(|(lsn, length, sharers)| ChunkEntry {
                    lsn: Lsn(lsn), length, sharers: sharers.max(1),
                }))
                .collect();
            let mut payload = Vec::new();
            ChunkRecord::encode(&mut payload, QueueId(1), Sequence(2), entries.iter().copied());
            ChunkRecord::decode(&payload).unwrap().entries == entries
        }

        fn any_bytes_are_decoded_or_refused_without_a_panic(payload: Vec<u8>) -> bool {
            ChunkRecord::decode(&payload).is_ok() || ChunkRecord::decode(&payload).is_err()
        }
    }

    #[test]
    fn nothing_is_allocated_for_an_announced_count() {
        let mut payload = vec![0; 16];
        payload.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(ChunkRecord::decode(&payload).is_err());
    }
}
