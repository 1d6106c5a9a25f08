//! A message on its way into the store, wherever its bytes lie.

use std::sync::Arc;

use bytes::Bytes;

use super::message::{Body, MESSAGE_OVERHEAD, Message};

/// A message to be [appended](super::Store::append).
///
/// Most messages of a busy store go into the log and are not needed in memory: those are copied there once, from
/// wherever they are, and nothing is allocated for them.
#[derive(Clone, Copy, Debug)]
pub enum Draft<'a> {
    /// In memory of its own, which is shared by all who need it.
    Whole(&'a Arc<Message>),
    /// In pieces, in memory that is the caller's; copied where the message has to stay in memory.
    Pieces {
        /// The pieces of the header, in order.
        header: &'a [&'a [u8]],
        /// The payload.
        body: &'a [u8],
    },
}

impl<'a> From<&'a Arc<Message>> for Draft<'a> {
    fn from(message: &'a Arc<Message>) -> Draft<'a> {
        Draft::Whole(message)
    }
}

impl Draft<'_> {
    /// Bytes of the header.
    pub(crate) fn header_len(&self) -> usize {
        match self {
            Draft::Whole(message) => message.header.len(),
            Draft::Pieces { header, .. } => header.iter().map(|piece| piece.len()).sum(),
        }
    }

    /// Header and body together, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Draft::Whole(message) => message.size(),
            Draft::Pieces { body, .. } => self.header_len() + body.len(),
        }
    }

    /// What it takes of the memory budget if it stays in memory.
    pub(crate) fn footprint(&self) -> u64 {
        self.size() as u64 + MESSAGE_OVERHEAD
    }

    /// Appends header and body to `buffer`.
    pub(crate) fn put(&self, buffer: &mut Vec<u8>) {
        match self {
            Draft::Whole(message) => {
                buffer.extend_from_slice(&message.header);
                message.body.parts().for_each(|part| buffer.extend_from_slice(part));
            }
            Draft::Pieces { header, body } => {
                header.iter().for_each(|piece| buffer.extend_from_slice(piece));
                buffer.extend_from_slice(body);
            }
        }
    }

    /// The message in memory of its own: a copy, unless it is there already.
    #[must_use]
    pub fn to_message(self) -> Arc<Message> {
        match self {
            Draft::Whole(message) => Arc::clone(message),
            Draft::Pieces { .. } => {
                // Exactly as large as it has to be: what is left over would cost another allocation.
                let mut bytes = Vec::with_capacity(self.size());
                self.put(&mut bytes);
                let mut header = Bytes::from(bytes);
                let body = header.split_off(self.header_len());
                Arc::new(Message { header, body: Body::from(body) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_in_pieces_and_whole() {
        let body = Body::from_parts(vec![Bytes::from_static(b"bo"), Bytes::from_static(b"dy")]);
        let message = Arc::new(Message { header: Bytes::from_static(b"head"), body });
        let whole = Draft::from(&message);
        let pieces = Draft::Pieces { header: &[b"he", b"", b"ad"], body: b"body" };
        for draft in [whole, pieces] {
            assert_eq!((draft.header_len(), draft.size()), (4, 8));
            assert_eq!(draft.to_message(), message);
            let mut put = Vec::new();
            draft.put(&mut put);
            assert_eq!(put, b"headbody");
        }
        assert!(Arc::ptr_eq(&whole.to_message(), &message));
    }
}
