//! A message as the engine sees it: two runs of bytes.

use bytes::Bytes;

/// What a message in memory takes besides its own bytes, roughly: the message, its pieces, their allocations.
pub(crate) const MESSAGE_OVERHEAD: u64 = 160;

/// A message: a header that means something to the layer above, and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Opaque to the engine; stored and given back as it is.
    pub header: Bytes,
    /// The payload.
    pub body: Body,
}

impl Message {
    /// A message of a header and a body in one piece.
    pub fn new(header: impl Into<Bytes>, body: impl Into<Bytes>) -> Message {
        Message { header: header.into(), body: Body::from(body.into()) }
    }

    /// Header and body together, in bytes.
    pub fn size(&self) -> usize {
        self.header.len() + self.body.len()
    }
}

/// A payload in one or more pieces, as they came off the wire; none of them is ever copied to join them.
#[derive(Clone, Debug, Default)]
pub struct Body {
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Body {
    /// A payload of several pieces, in order.
    pub fn from_parts(mut parts: Vec<Bytes>) -> Body {
        if parts.is_empty() {
            return Body::default();
        }
        let first = parts.remove(0);
        Body { first, rest: parts }
    }

    /// The pieces in order; an empty payload has one empty piece.
    pub fn parts(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// All pieces together, in bytes.
    pub fn len(&self) -> usize {
        self.parts().map(Bytes::len).sum()
    }

    /// Whether there are no bytes in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload in one piece: a copy where it has several.
    pub fn to_bytes(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        let mut joined = Vec::with_capacity(self.len());
        self.parts().for_each(|part| joined.extend_from_slice(part));
        joined.into()
    }
}

impl From<Bytes> for Body {
    fn from(first: Bytes) -> Body {
        Body { first, rest: Vec::new() }
    }
}

/// Two payloads are the same when their bytes are, however they are cut.
impl PartialEq for Body {
    fn eq(&self, other: &Body) -> bool {
        self.len() == other.len()
            && self.parts().flat_map(|part| part.iter()).eq(other.parts().flat_map(|p| p.iter()))
    }
}

impl Eq for Body {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_its_bytes_however_it_is_cut() {
        let whole = Body::from(Bytes::from_static(b"abcdef"));
        let cut = Body::from_parts(vec![
            Bytes::from_static(b"ab"),
            Bytes::new(),
            Bytes::from_static(b"cdef"),
        ]);
        assert_eq!(whole, cut);
        assert_eq!(cut.len(), 6);
        assert_eq!(cut.to_bytes(), whole.to_bytes());
        assert_ne!(whole, Body::from(Bytes::from_static(b"abcdeX")));
        assert!(Body::from_parts(Vec::new()).is_empty());
    }
}
