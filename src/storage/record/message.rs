//! A message, stored once whatever the number of queues it went to.

use bytes::Bytes;

use super::Malformed;
use super::cursor::{Cursor, put_varint, unzigzag, varint_size, zigzag};
use super::{ChunkEntry, Part, Record, RecordKind};
use crate::storage::draft::MeasuredDraft;
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
/// | .. | references | varint: how many queues the message went to |
/// | .. | header length | varint: bytes of the header |
/// | .. | | for each queue: zigzag varint of its number's distance from the number of the queue before (from 0 for the first); varint, the message's place in it |
/// | .. | header | as the layer above gave it |
/// | .. | body | the rest of the record |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageRecord<'a> {
    count: usize,
    /// The references, checked.
    references: &'a [u8],
    content: MessageContent<'a>,
}

/// The message in a record, without the queues that it went to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageContent<'a> {
    /// Bytes of the header.
    header: usize,
    /// Header and body.
    bytes: &'a [u8],
}

/// A reference has so many numbers, and takes so many bytes at least.
const REFERENCE: usize = 2;

/// Bytes of the payload for a message with these references.
pub(crate) fn encoded_size<'a>(
    message: impl Into<MeasuredDraft<'a>>,
    references: &[Reference],
) -> usize {
    let message = message.into();
    front_size(message.header_len(), references) + message.size()
}

/// The numbers that say where the next of a row of references is.
#[inline]
fn steps(references: &[Reference]) -> impl Iterator<Item = (u64, u64)> {
    let mut before = 0;
    references.iter().map(move |reference| {
        let queue = zigzag(reference.queue.0.wrapping_sub(before) as i64);
        before = reference.queue.0;
        (queue, reference.sequence.0)
    })
}

/// Bytes of all that comes before the header.
#[inline]
fn front_size(header: usize, references: &[Reference]) -> usize {
    let steps = steps(references).map(|(queue, place)| varint_size(queue) + varint_size(place));
    varint_size(references.len() as u64) + varint_size(header as u64) + steps.sum::<usize>()
}

#[inline]
fn put_front(buffer: &mut Vec<u8>, header: usize, references: &[Reference]) {
    put_varint(buffer, references.len() as u64);
    put_varint(buffer, header as u64);
    for (queue, place) in steps(references) {
        put_varint(buffer, queue);
        put_varint(buffer, place);
    }
}

/// Reads how many references there are, and the bytes of the header.
fn lengths(cursor: &mut Cursor<'_>) -> Result<(usize, usize), Malformed> {
    let (count, header) = (cursor.length()?, cursor.length()?);
    if count > cursor.at_most(REFERENCE) {
        return Err(Malformed("too many references"));
    }
    Ok((count, header))
}

/// Reads references, without end.
struct References<'a> {
    cursor: Cursor<'a>,
    queue: u64,
}

impl<'a> References<'a> {
    fn new(cursor: Cursor<'a>) -> References<'a> {
        References { cursor, queue: 0 }
    }

    fn read(&mut self) -> Result<Reference, Malformed> {
        self.queue = self.queue.wrapping_add(unzigzag(self.cursor.varint()?) as u64);
        let sequence = Sequence(self.cursor.varint()?);
        if sequence >= Sequence::LIMIT {
            return Err(Malformed("a place that no queue has"));
        }
        Ok(Reference { queue: QueueId(self.queue), sequence })
    }
}

impl<'a> MessageRecord<'a> {
    /// Appends the payload to `buffer`.
    #[inline]
    pub(crate) fn encode<'d>(
        buffer: &mut Vec<u8>,
        message: impl Into<MeasuredDraft<'d>>,
        references: &[Reference],
    ) {
        let message = message.into();
        put_front(buffer, message.header_len(), references);
        message.put(buffer);
    }

    /// Appends the payload of a record with the same message and other `references` to `buffer`.
    pub(crate) fn encode_for(&self, buffer: &mut Vec<u8>, references: &[Reference]) {
        put_front(buffer, self.content.header, references);
        buffer.extend_from_slice(self.content.bytes);
    }

    /// Bytes of the payload that [`encode_for`](Self::encode_for) gives for these references.
    pub(crate) fn encoded_size_for(&self, references: &[Reference]) -> usize {
        front_size(self.content.header, references) + self.content.size()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn decode(payload: &'a [u8]) -> Result<MessageRecord<'a>, Malformed> {
        Self::decode_front(payload, 0)
    }

    /// The same for a payload of which so many bytes are `missing` at the end: for its references, which must be there.
    pub(crate) fn decode_front(
        payload: &'a [u8],
        missing: usize,
    ) -> Result<MessageRecord<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (count, header) = lengths(&mut cursor)?;
        let begin = cursor.rest();
        let mut references = References::new(cursor);
        for _ in 0..count {
            references.read()?;
        }
        let content = MessageContent::checked(header, references.cursor, missing)?;
        let references = &begin[..begin.len() - content.size()];
        Ok(MessageRecord { count, references, content })
    }

    /// The queues that the message went to.
    pub(crate) fn references(&self) -> impl ExactSizeIterator<Item = Reference> + use<'a> {
        let mut references = References::new(Cursor::new(self.references));
        (0..self.count).map(move |_| references.read().expect("they have been checked"))
    }

    /// The message itself, copied out.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn message(&self) -> Message {
        self.content.message()
    }
}

impl<'a> MessageContent<'a> {
    /// Reads the payload of a message's record. The places of the queues are passed over, without a look at what they are: there may be
    /// thousands, and the reader knows its own.
    pub(crate) fn decode(payload: &'a [u8]) -> Result<MessageContent<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (count, header) = lengths(&mut cursor)?;
        cursor.skip_varints(count * REFERENCE)?;
        MessageContent::checked(header, cursor, 0)
    }

    fn checked(header: usize, cursor: Cursor<'a>, missing: usize) -> Result<Self, Malformed> {
        let bytes = cursor.rest();
        if header > bytes.len() + missing {
            return Err(Malformed("a header that ends behind the record"));
        }
        Ok(MessageContent { header, bytes })
    }

    /// Bytes of header and body.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The message itself, copied out.
    pub(crate) fn message(&self) -> Message {
        Message::joined(self.bytes.to_vec(), self.header)
    }

    /// The message itself, as a part of `whole`, which this was decoded from: it keeps all of that in memory.
    pub(crate) fn within(&self, whole: &Bytes) -> Message {
        Message::joined(whole.slice_ref(self.bytes), self.header)
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
    /// Bytes of the payload for `message` with these references left.
    pub(crate) fn encoded_size(message: &MessageRecord<'_>, references: &[Reference]) -> usize {
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

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn decode(payload: &'a [u8]) -> Result<MovedRecord<'a>, Malformed> {
        Self::decode_front(payload, 0)
    }

    /// As [`MessageContent::decode`].
    fn content_of(payload: &'a [u8]) -> Result<MessageContent<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        cursor.take(MOVED)?;
        MessageContent::decode(cursor.rest())
    }

    /// As [`MessageRecord::decode_front`].
    pub(crate) fn decode_front(
        payload: &'a [u8],
        missing: usize,
    ) -> Result<MovedRecord<'a>, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (lsn, length) = (Lsn(cursor.u64()?), cursor.u32()?);
        let rest = cursor.u32()?;
        let sharers =
            u16::try_from(rest).map_err(|_| Malformed("has no zeros where they belong"))?;
        let from = ChunkEntry { lsn, length, sharers };
        from.check()?;
        Ok(MovedRecord { from, message: MessageRecord::decode_front(cursor.rest(), missing)? })
    }
}

/// The message of a record of one of the kinds that hold one.
pub(crate) fn message_of<'a>(record: &Record<'a>) -> Result<Option<MessageRecord<'a>>, Malformed> {
    message_at_front(&Part::whole(record))
}

/// The message of such a record without the queues that it went to.
pub(crate) fn content_of<'a>(record: &Record<'a>) -> Result<Option<MessageContent<'a>>, Malformed> {
    Ok(match record.kind {
        RecordKind::Message | RecordKind::Transient => {
            Some(MessageContent::decode(record.payload)?)
        }
        RecordKind::Moved => Some(MovedRecord::content_of(record.payload)?),
        _ => None,
    })
}

/// The message of a record of which the front is known: for the references of the message.
pub(crate) fn message_at_front<'a>(
    part: &Part<'a>,
) -> Result<Option<MessageRecord<'a>>, Malformed> {
    let Part { kind, payload, missing } = *part;
    Ok(match kind {
        RecordKind::Message | RecordKind::Transient => {
            Some(MessageRecord::decode_front(payload, missing)?)
        }
        RecordKind::Moved => Some(MovedRecord::decode_front(payload, missing)?.message),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::draft::Draft;

    fn references() -> [Reference; 2] {
        [(1, 0x0a), (2, 0x0b0c)]
            .map(|(q, s)| Reference { queue: QueueId(q), sequence: Sequence(s) })
    }

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let body = vec![Bytes::from_static(b"bo"), Bytes::from_static(b"dy")];
        let message = Message::from_parts(Bytes::from_static(b"head"), body);
        let mut payload = Vec::new();
        MessageRecord::encode(&mut payload, Draft::from(&message), &references());
        let expected = b"\x02\x04\x02\x0a\x02\x8c\x16headbody";
        assert_eq!(payload, expected);
        assert_eq!(payload.len(), encoded_size(Draft::from(&message), &references()));
        let record = MessageRecord::decode(&payload).unwrap();
        assert!(record.references().eq(references()));
        assert_eq!(record.message(), message);
        let whole = Bytes::from(payload);
        let content = MessageContent::decode(&whole).unwrap();
        assert_eq!(content.within(&whole), message);
    }

    #[test]
    fn the_bytes_of_a_moved_message_do_not_change_by_accident() {
        let mut payload = Vec::new();
        let message = Message::new("head", "body");
        MessageRecord::encode(&mut payload, Draft::from(&message), &references());
        let record = MessageRecord::decode(&payload).unwrap();
        let from = ChunkEntry { lsn: Lsn(0x1234), length: 0x56, sharers: 2 };
        let mut moved = Vec::new();
        MovedRecord::encode(&mut moved, from, &record, &references()[1..]);
        let expected = b"\x34\x12\0\0\0\0\0\0\x56\0\0\0\x02\0\0\0\x01\x04\x04\x8c\x16headbody";
        assert_eq!(moved, expected);
        assert_eq!(moved.len(), MovedRecord::encoded_size(&record, &references()[1..]));
        let back = MovedRecord::decode(&moved).unwrap();
        assert_eq!((back.from, back.message.message()), (from, message.clone()));
        assert_eq!(MovedRecord::content_of(&moved).unwrap().message(), message);
        assert!(back.message.references().eq(references().into_iter().skip(1)));
    }

    /// Whoever counted on from such a place got to zero. Found by fuzzing.
    #[test]
    fn a_place_that_no_queue_has_is_refused() {
        let message = Message::new("head", "body");
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
        let long = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let huge = [&long[..], b"\0"].concat();
        let header = [b"\0", &long[..]].concat();
        for payload in [&b"\x01\0"[..], b"\x01\0\x02", b"\0\x01", &huge, &header] {
            assert!(MessageRecord::decode(payload).is_err());
            assert!(MessageContent::decode(payload).is_err());
        }
    }
}
