//! A message on its way into the store, wherever its bytes lie.

use bytes::BufMut;

use super::memory::MessageMemory;
use super::message::{MESSAGE_OVERHEAD, Message};

/// A message to be [appended](super::Store::append).
///
/// Most messages of a busy store go into the log and are not needed in memory: those are copied there once, from
/// wherever they are, and nothing is allocated for them.
#[derive(Clone, Copy, Debug)]
pub enum Draft<'a> {
    /// In memory of its own, which is shared by all who need it.
    Whole(&'a Message),
    /// In pieces, in memory that is the caller's; copied where the message has to stay in memory.
    Pieces {
        /// The pieces of the header, in order.
        header: &'a [&'a [u8]],
        /// The payload.
        body: &'a [u8],
        /// Where it is copied to.
        memory: &'a MessageMemory,
    },
}

impl<'a> From<&'a Message> for Draft<'a> {
    fn from(message: &'a Message) -> Draft<'a> {
        Draft::Whole(message)
    }
}

impl<'a> Draft<'a> {
    /// Adds up its pieces.
    pub(crate) fn measure(self) -> MeasuredDraft<'a> {
        let (header, body) = match self {
            Draft::Whole(message) => (message.header().len(), message.body_len()),
            Draft::Pieces { header, body, .. } => {
                (header.iter().map(|piece| piece.len()).sum(), body.len())
            }
        };
        MeasuredDraft { draft: self, header, body }
    }

    /// Bytes of the body.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match self {
            Draft::Whole(message) => message.body_len(),
            Draft::Pieces { body, .. } => body.len(),
        }
    }

    /// The message in memory that stays: a copy, unless it is there already.
    #[must_use]
    pub fn to_message(self) -> Message {
        self.measure().to_message()
    }
}

/// A draft and its lengths. A header has a dozen pieces, and their sum is needed for the record's size, for the record, for the memory
/// budget and for the copy in memory: so it is computed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeasuredDraft<'a> {
    draft: Draft<'a>,
    header: usize,
    body: usize,
}

impl<'a> From<Draft<'a>> for MeasuredDraft<'a> {
    fn from(draft: Draft<'a>) -> MeasuredDraft<'a> {
        draft.measure()
    }
}

impl MeasuredDraft<'_> {
    /// Bytes of the header.
    pub(crate) fn header_len(&self) -> usize {
        self.header
    }

    /// Header and body together, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.header + self.body
    }

    /// What it takes of the memory budget if it stays in memory.
    pub(crate) fn footprint(&self) -> u64 {
        self.size() as u64 + MESSAGE_OVERHEAD
    }

    /// Appends header and body to `buffer`.
    pub(crate) fn put(&self, buffer: &mut impl BufMut) {
        match self.draft {
            Draft::Whole(message) => {
                buffer.put_slice(message.header());
                message.pieces().for_each(|piece| buffer.put_slice(piece.bytes()));
            }
            Draft::Pieces { header, body, .. } => {
                header.iter().for_each(|piece| buffer.put_slice(piece));
                buffer.put_slice(body);
            }
        }
    }

    /// As [`Draft::to_message`].
    pub(crate) fn to_message(self) -> Message {
        match self.draft {
            Draft::Whole(message) => message.clone(),
            Draft::Pieces { memory, .. } => {
                let bytes = memory.copy(self.size(), |buffer| self.put(buffer));
                Message::joined(bytes, self.header)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_message_is_the_same_in_pieces_and_whole() {
        let body = vec![Bytes::from_static(b"bo"), Bytes::from_static(b"dy")];
        let message = Message::from_parts(Bytes::from_static(b"head"), body);
        let whole = Draft::from(&message);
        let memory = MessageMemory::default();
        let pieces = Draft::Pieces { header: &[b"he", b"", b"ad"], body: b"body", memory: &memory };
        for draft in [whole, pieces].map(Draft::measure) {
            assert_eq!((draft.header_len(), draft.size()), (4, 8));
            assert_eq!(draft.to_message(), message);
            let mut put = Vec::new();
            draft.put(&mut put);
            assert_eq!(put, b"headbody");
        }
    }
}
