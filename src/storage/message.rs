//! A message as the engine sees it: two runs of bytes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What a message in memory takes besides its own bytes, roughly: the handles of it, its share of their allocations.
pub(crate) const MESSAGE_OVERHEAD: u64 = 64;

/// A message: a header that means something to the layer above, and a body. Cheap to clone: the bytes are shared.
///
/// Most have header and body in one piece of memory. A large body may be in several, as they came off the wire: these are never
/// copied to join them.
#[derive(Clone)]
pub struct Message {
    /// The header, and the body behind it; or the first piece of the body.
    bytes: Bytes,
    /// Bytes of the header.
    header: u32,
    /// What follows of the body.
    rest: Option<Arc<[Bytes]>>,
}

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    bytes: &'a [u8],
    /// The memory that it is part of.
    memory: &'a Bytes,
}

impl Message {
    /// A message with these bytes, which are copied.
    ///
    /// # Panics
    /// If the header has 4 GiB or more: four times what a record can hold.
    pub fn new(header: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Message {
        let (header, body) = (header.as_ref(), body.as_ref());
        Message::joined([header, body].concat(), header.len())
    }

    /// A message whose first `header` bytes are its header; the body is the rest.
    ///
    /// # Panics
    /// If there are not so many bytes, or 4 GiB of them in the header.
    pub fn joined(bytes: impl Into<Bytes>, header: usize) -> Message {
        let bytes = bytes.into();
        assert!(header <= bytes.len(), "the header is a part of the bytes");
        let header = u32::try_from(header).expect("a header has less than 4 GiB");
        Message { bytes, header, rest: None }
    }

    /// A message with a body of several pieces, in order.
    ///
    /// # Panics
    /// If the header has 4 GiB or more.
    pub fn from_parts(header: Bytes, body: Vec<Bytes>) -> Message {
        let length = header.len();
        let mut message = Message::joined(header, length);
        message.rest = (!body.is_empty()).then(|| body.into());
        message
    }

    /// The same body under another header; the body's bytes are shared.
    #[must_use]
    pub fn with_header(&self, header: Bytes) -> Message {
        Message::from_parts(header, self.pieces().map(Piece::to_bytes).collect())
    }

    /// Opaque to the engine; stored and given back as it is.
    pub fn header(&self) -> &[u8] {
        &self.bytes[..self.header as usize]
    }

    /// The pieces of the body, in order. None of them is empty, so an empty body has none.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let first = Piece { bytes: &self.bytes[self.header as usize..], memory: &self.bytes };
        let rest = self.rest.as_deref().unwrap_or_default().iter();
        std::iter::once(first)
            .chain(rest.map(|memory| Piece { bytes: memory, memory }))
            .filter(|piece| !piece.bytes.is_empty())
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> usize {
        self.size() - self.header as usize
    }

    /// The body in one piece: a copy where it has several.
    pub fn body(&self) -> Bytes {
        let mut pieces = self.pieces();
        match (pieces.next(), pieces.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.to_bytes(),
            _ => self.pieces().flat_map(|piece| piece.bytes).copied().collect(),
        }
    }

    /// Header and body together, in bytes.
    pub fn size(&self) -> usize {
        let rest = self.rest.as_deref().unwrap_or_default();
        self.bytes.len() + rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// What it takes of the memory budget, in bytes.
    pub(crate) fn footprint(&self) -> u64 {
        self.size() as u64 + MESSAGE_OVERHEAD
    }
}

/// Two messages are the same when their bytes are, however they are cut.
impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.header() == other.header() && self.body() == other.body()
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("header", &Bytes::copy_from_slice(self.header()))
            .field("body", &self.body())
            .finish()
    }
}

impl<'a> Piece<'a> {
    /// The bytes themselves.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes, without copying them: all the memory that they are part of is kept.
    pub fn to_bytes(self) -> Bytes {
        self.memory.slice_ref(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_bytes_however_they_are_cut() {
        let whole = Message::new("head", "abcdef");
        let pieces = [&b"ab"[..], b"", b"cdef"].map(Bytes::from_static);
        let cut = Message::from_parts(Bytes::from_static(b"head"), pieces.to_vec());
        assert_eq!(whole, cut);
        for message in [&whole, &cut] {
            assert_eq!(message.header(), b"head");
            assert_eq!((message.body_len(), message.size()), (6, 10));
            assert_eq!(message.body(), &b"abcdef"[..]);
            let other = message.with_header(Bytes::from_static(b"other"));
            assert_eq!(other, Message::new("other", "abcdef"));
        }
        assert_eq!(whole.pieces().count(), 1);
        assert_eq!(cut.pieces().map(|piece| piece.bytes().len()).collect::<Vec<_>>(), [2, 4]);
        assert_ne!(whole, Message::new("head", "abcdeX"));
        assert_ne!(whole, Message::new("heaX", "abcdef"));
        assert_ne!(whole, Message::new("heada", "bcdef"));
    }

    #[test]
    fn an_empty_body_has_no_pieces() {
        for message in [Message::new("head", ""), Message::from_parts("head".into(), Vec::new())] {
            assert_eq!((message.pieces().count(), message.body_len()), (0, 0));
            assert!(message.body().is_empty());
        }
    }

    #[test]
    fn a_piece_is_not_copied() {
        let message = Message::new("head", "body");
        let piece = message.pieces().next().unwrap().to_bytes();
        assert_eq!(piece.as_ptr(), message.bytes[4..].as_ptr());
    }
}
