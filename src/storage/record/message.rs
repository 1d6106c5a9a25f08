//! A message, stored once whatever the number of queues it went to.

use bytes::Bytes;

use super::Malformed;
use super::cursor::Cursor;
use super::{ChunkEntry, Record, RecordKind};
use crate::storage::draft::Draft;
use crate::storage::message::Message;
use crate::storage::units::{Lsn, QueueId, Sequence};

/// A message's place in one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) queue: QueueId,
    pub(crate) sequence: Sequence,
}

/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..4 | references | how many queues the message went to, `n` |
/// | 4..8 | header length | bytes of the header, `h` |
/// | 8..8+16n | | for each queue: its number (8 bytes), the message's place in it (8 bytes) |
/// | ..+h | header | as the layer above gave it |
/// | .. | body | the rest of the record |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageRecord<'a> {
    references: &'a [u8],
    header: &'a [u8],
    body: &'a [u8],
}

const FIXED: usize = 8;
const REFERENCE: usize = 16;

/// Bytes of the payload for a message with this many references.
pub(crate) fn encoded_size(message: Draft<'_>, references: usize) -> usize {
    FIXED + references * REFERENCE + message.size()
}

fn put_references(buffer: &mut Vec<u8>, references: &[Reference]) {
    for reference in references {
        buffer.extend_from_slice(&reference.queue.0.to_le_bytes());
        buffer.extend_from_slice(&reference.sequence.0.to_le_bytes());
    }
}

impl<'a> MessageRecord<'a> {
    /// Appends the payload to `buffer`.
    pub(crate) fn encode(buffer: &mut Vec<u8>, message: Draft<'_>, references: &[Reference]) {
        buffer.extend_from_slice(&(references.len() as u32).to_le_bytes());
        buffer.extend_from_slice(&(message.header_len() as u32).to_le_bytes());
        put_references(buffer, references);
        message.put(buffer);
    }

    /// Appends the payload of a record with the same message and other `references` to `buffer`.
    pub(crate) fn encode_for(&self, buffer: &mut Vec<u8>, references: &[Reference]) {
        buffer.extend_from_slice(&(references.len() as u32).to_le_bytes());
        buffer.extend_from_slice(&(self.header.len() as u32).to_le_bytes());
        put_references(buffer, references);
        buffer.extend_from_slice(self.header);
        buffer.extend_from_slice(self.body);
    }

    /// Bytes of the payload that [`encode_for`](Self::encode_for) gives for so many references.
    pub(crate) fn encoded_size_for(&self, references: usize) -> usize {
        FIXED + references * REFERENCE + self.header.len() + self.body.len()
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Result<MessageRecord<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (references, header) = (cursor.u32()? as usize, cursor.u32()? as usize);
        let length = references.checked_mul(REFERENCE).ok_or(Malformed("too many references"))?;
        let record = MessageRecord {
            references: cursor.take(length)?,
            header: cursor.take(header)?,
            body: cursor.rest(),
        };
        if record.references().any(|reference| reference.sequence >= Sequence::LIMIT) {
            return Err(Malformed("a place that no queue has"));
        }
        Ok(record)
    }

    /// The queues that the message went to.
    pub(crate) fn references(&self) -> impl ExactSizeIterator<Item = Reference> + use<'a> {
        self.references.chunks_exact(REFERENCE).map(|bytes| {
            let number = |half: &[u8]| {
                u64::from_le_bytes(half.try_into().expect("half a reference is eight bytes"))
            };
            let (queue, sequence) = bytes.split_at(8);
            Reference { queue: QueueId(number(queue)), sequence: Sequence(number(sequence)) }
        })
    }

    /// The message itself, copied out in one allocation.
    pub(crate) fn message(&self) -> Message {
        let mut bytes = Vec::with_capacity(self.header.len() + self.body.len());
        bytes.extend_from_slice(self.header);
        bytes.extend_from_slice(self.body);
        let mut header = Bytes::from(bytes);
        let body = header.split_off(self.header.len());
        Message { header, body: body.into() }
    }

    /// The message itself, as parts of `whole`, which this was decoded from: they keep all of it in memory.
    pub(crate) fn within(&self, whole: &Bytes) -> Message {
        Message { header: whole.slice_ref(self.header), body: whole.slice_ref(self.body).into() }
    }
}

/// A message that compaction has copied from where it was, with the places that it is still in.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..8 | from | the LSN of the record that this one replaces |
/// | 8..12 | length | bytes of that record |
/// | 12..14 | sharers | by how many its bytes were divided to get a queue's share of them |
/// | 14..16 | | zero |
/// | 16.. | | as in [`MessageRecord`], with the references that are left |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MovedRecord<'a> {
    pub(crate) from: ChunkEntry,
    pub(crate) message: MessageRecord<'a>,
}

const MOVED: usize = 16;

impl<'a> MovedRecord<'a> {
    /// Bytes of the payload for `message` with so many references left.
    pub(crate) fn encoded_size(message: &MessageRecord<'_>, references: usize) -> usize {
        MOVED + message.encoded_size_for(references)
    }

    /// Appends the payload to `buffer`.
    pub(crate) fn encode(
        buffer: &mut Vec<u8>,
        from: ChunkEntry,
        message: &MessageRecord<'_>,
        references: &[Reference],
    ) {
        buffer.extend_from_slice(&from.lsn.0.to_le_bytes());
        buffer.extend_from_slice(&from.length.to_le_bytes());
        buffer.extend_from_slice(&from.sharers.to_le_bytes());
        buffer.extend_from_slice(&[0; 2]);
        message.encode_for(buffer, references);
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Result<MovedRecord<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (lsn, length) = (Lsn(cursor.u64()?), cursor.u32()?);
        let rest = cursor.u32()?;
        let sharers =
            u16::try_from(rest).map_err(|_| Malformed("has no zeros where they belong"))?;
        let from = ChunkEntry { lsn, length, sharers };
        from.check()?;
        Ok(MovedRecord { from, message: MessageRecord::decode(cursor.rest())? })
    }
}

/// The message of a record of one of the kinds that hold one.
pub(crate) fn message_of<'a>(record: &Record<'a>) -> Result<Option<MessageRecord<'a>>, Malformed> {
    Ok(match record.kind {
        RecordKind::Message | RecordKind::Transient => Some(MessageRecord::decode(record.payload)?),
        RecordKind::Moved => Some(MovedRecord::decode(record.payload)?.message),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::message::Body;

    fn references() -> [Reference; 2] {
        [(1, 0x0a), (2, 0x0b0c)]
            .map(|(q, s)| Reference { queue: QueueId(q), sequence: Sequence(s) })
    }

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let body = Body::from_parts(vec![Bytes::from_static(b"bo"), Bytes::from_static(b"dy")]);
        let message = Arc::new(Message { header: Bytes::from_static(b"head"), body });
        let mut payload = Vec::new();
        MessageRecord::encode(&mut payload, Draft::from(&message), &references());
        let expected = b"\x02\0\0\0\x04\0\0\0\
            \x01\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x0c\x0b\0\0\0\0\0\0headbody";
        assert_eq!(payload, expected);
        assert_eq!(payload.len(), encoded_size(Draft::from(&message), 2));
        let record = MessageRecord::decode(&payload).unwrap();
        assert!(record.references().eq(references()));
        assert_eq!(record.message(), *message);
        let whole = Bytes::from(payload);
        let record = MessageRecord::decode(&whole).unwrap();
        assert_eq!(record.within(&whole), *message);
    }

    #[test]
    fn the_bytes_of_a_moved_message_do_not_change_by_accident() {
        let mut payload = Vec::new();
        let body = Body::from(Bytes::from_static(b"body"));
        let message = Arc::new(Message { header: Bytes::from_static(b"head"), body });
        MessageRecord::encode(&mut payload, Draft::from(&message), &references());
        let record = MessageRecord::decode(&payload).unwrap();
        let from = ChunkEntry { lsn: Lsn(0x1234), length: 0x56, sharers: 2 };
        let mut moved = Vec::new();
        MovedRecord::encode(&mut moved, from, &record, &references()[1..]);
        let expected = b"\x34\x12\0\0\0\0\0\0\x56\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\
            \x02\0\0\0\0\0\0\0\x0c\x0b\0\0\0\0\0\0headbody";
        assert_eq!(moved, expected);
        assert_eq!(moved.len(), MovedRecord::encoded_size(&record, 1));
        let back = MovedRecord::decode(&moved).unwrap();
        assert_eq!((back.from, back.message.message()), (from, (*message).clone()));
        assert!(back.message.references().eq(references().into_iter().skip(1)));
    }

    /// Whoever counted on from such a place got to zero. Found by fuzzing.
    #[test]
    fn a_place_that_no_queue_has_is_refused() {
        let message = Arc::new(Message::new("head", "body"));
        for (sequence, fine) in [(0, true), ((1 << 62) - 1, true), (1 << 62, false), (!0, false)] {
            let reference = Reference { queue: QueueId(1), sequence: Sequence(sequence) };
            let mut payload = Vec::new();
            MessageRecord::encode(&mut payload, Draft::from(&message), &[reference]);
            assert_eq!(MessageRecord::decode(&payload).is_ok(), fine, "{sequence:#x}");
            let mut moved = vec![0; 16];
            moved.extend_from_slice(&payload);
            assert_eq!(MovedRecord::decode(&moved).is_ok(), fine, "{sequence:#x}");
            moved[7] = 0x40; // Where it was.
            assert!(MovedRecord::decode(&moved).is_err());
        }
    }

    #[test]
    fn lengths_that_lead_beyond_the_record_are_refused() {
        for payload in
            [&b"\x01\0\0\0\0\0\0\0"[..], b"\0\0\0\0\x01\0\0\0", b"\xff\xff\xff\xff\0\0\0\0"]
        {
            assert!(MessageRecord::decode(payload).is_err());
        }
    }
}
