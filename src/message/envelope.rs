//! The stored envelope: what the engine keeps as a message's opaque header.
//!
//! ```text
//! version      u8            1, or 2 with a time
//! time         u64           only in version 2: milliseconds of Unix time, big-endian
//! exchange     u8 + bytes    the exchange it was published to
//! routing key  u8 + bytes
//! properties   to the end    flags and values as received
//! ```
//!
//! Most messages never expire, and nothing depends on their time: those have none.

use bytes::{BufMut, Bytes, BytesMut};

use super::properties::RawProperties;
use super::reader::{DecodeError, Reader};
use super::table::put_short_str;

/// The layout without a time.
const TIMELESS: u8 = 1;
/// The layout with one.
const TIMED: u8 = 2;

/// A view of a stored message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The exchange that the message was published to; empty for the default exchange.
    pub exchange: &'a [u8],
    /// The routing key that it was published with.
    pub routing_key: &'a [u8],
    /// Its properties.
    pub properties: RawProperties<'a>,
    /// When it was published, in milliseconds of Unix time: for messages that may expire.
    pub published_at: Option<u64>,
}

/// Why stored bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The layout is another program version's.
    #[error(
        "message envelope of version {0}, this program reads versions {TIMELESS} and {TIMED}: upgrade it"
    )]
    Version(u8),
    /// The bytes end too early.
    #[error("message envelope is damaged: {0}")]
    Damaged(#[from] DecodeError),
}

impl<'a> Envelope<'a> {
    /// Reads a stored header. Allocates nothing, and does not check the properties again.
    ///
    /// # Errors
    /// [`EnvelopeError`], when it was not written by [`Envelope::to_bytes`] of this version.
    pub fn parse(header: &'a [u8]) -> Result<Envelope<'a>, EnvelopeError> {
        let mut reader = Reader::new(header);
        let published_at = match reader.u8()? {
            TIMELESS => None,
            TIMED => Some(reader.u64()?),
            other => return Err(EnvelopeError::Version(other)),
        };
        let exchange = reader.short_str()?;
        let routing_key = reader.short_str()?;
        let properties = RawProperties::from_checked(reader.rest());
        Ok(Envelope { exchange, routing_key, properties, published_at })
    }

    /// Whether a stored header has a time, told by its first byte.
    #[must_use]
    pub fn is_timed(header: &[u8]) -> bool {
        header.first() == Some(&TIMED)
    }

    /// The stored form in pieces, which lie partly in `scratch`.
    pub(crate) fn pieces<'p>(&'p self, scratch: &'p mut Scratch) -> [&'p [u8]; 5] {
        let length =
            |name: &[u8]| u8::try_from(name.len()).expect("names came with a length of one octet");
        let bytes = &mut scratch.0;
        let start = match self.published_at {
            None => {
                bytes[0] = TIMELESS;
                1
            }
            Some(time) => {
                bytes[0] = TIMED;
                bytes[1..9].copy_from_slice(&time.to_be_bytes());
                9
            }
        };
        bytes[start] = length(self.exchange);
        bytes[start + 1] = length(self.routing_key);
        let (start, key) = (&bytes[..=start], &bytes[start + 1..start + 2]);
        [start, self.exchange, key, self.routing_key, self.properties.as_bytes()]
    }

    /// Bytes that [`Envelope::encode`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let time = if self.published_at.is_some() { 8 } else { 0 };
        3 + time + self.exchange.len() + self.routing_key.len() + self.properties.as_bytes().len()
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self.published_at {
            None => out.put_u8(TIMELESS),
            Some(time) => {
                out.put_u8(TIMED);
                out.put_u64(time);
            }
        }
        put_short_str(out, self.exchange);
        put_short_str(out, self.routing_key);
        out.put_slice(self.properties.as_bytes());
    }

    /// The stored form, in an allocation of its own.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out.freeze()
    }
}

/// Room for those pieces of an envelope's stored form that lie nowhere else.
#[derive(Debug, Default)]
pub(crate) struct Scratch([u8; 11]);

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::message::{Properties, ShortStr};

    #[test]
    fn an_envelope_has_its_documented_bytes() {
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
        let envelope = Envelope {
            exchange: b"ex",
            routing_key: b"key",
            properties: RawProperties::parse(&properties).unwrap(),
            published_at: None,
        };
        let timed = Envelope { published_at: Some(0x0102_0304_0506_0708), ..envelope };
        let expected = [
            (envelope, &b"\x01\x02ex\x03key\x10\x00\x02"[..]),
            (timed, b"\x02\x01\x02\x03\x04\x05\x06\x07\x08\x02ex\x03key\x10\x00\x02"),
        ];
        for (envelope, expected) in expected {
            let bytes = envelope.to_bytes();
            assert_eq!(&bytes[..], expected);
            assert_eq!(Envelope::parse(&bytes).unwrap(), envelope);
            assert_eq!(Envelope::is_timed(&bytes), envelope.published_at.is_some());
            assert_eq!(bytes.len(), envelope.encoded_len());
            assert_eq!(envelope.pieces(&mut Scratch::default()).concat(), bytes);
        }
    }

    #[test]
    fn another_version_and_damage_are_told_apart() {
        assert_eq!(Envelope::parse(b"\x03"), Err(EnvelopeError::Version(3)));
        assert!(matches!(Envelope::parse(b"\x02\0\0\0"), Err(EnvelopeError::Damaged(_))));
        assert!(matches!(Envelope::parse(b"\x01\x05ab"), Err(EnvelopeError::Damaged(_))));
        assert!(matches!(Envelope::parse(b""), Err(EnvelopeError::Damaged(_))));
    }

    quickcheck! {
        fn any_envelope_comes_back(
            exchange: ShortStr,
            key: ShortStr,
            properties: Properties,
            published_at: Option<u64>
        ) -> bool {
            let properties = properties.to_bytes();
            let envelope = Envelope {
                exchange: &exchange,
                routing_key: &key,
                properties: RawProperties::parse(&properties).unwrap(),
                published_at,
            };
            Envelope::parse(&envelope.to_bytes()).unwrap() == envelope
        }

        fn any_bytes_are_an_envelope_or_refused_without_a_panic(bytes: Vec<u8>) -> bool {
            match Envelope::parse(&bytes) {
                Ok(envelope) => envelope.properties.to_properties().to_bytes().len() >= 2,
                Err(_) => true,
            }
        }
    }
}
