//! Contents: the header frame in front of a body, and a body cut into frames (AMQP 0-9-1, section 4.2.6).
//!
//! ```text
//! class       u16    60, the basic class
//! weight      u16    0
//! body size   u64
//! properties         flags and values, see `message`
//! ```

use bytes::{BufMut, BytesMut};

use super::frame::{FrameKind, put_frame, put_frame_header};
use crate::message::{DecodeError, RawProperties, Reader};

/// A content header frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class that the content belongs to; only `basic`, 60, has contents.
    pub class: u16,
    /// The announced size of the body in bytes: a claim, not yet a fact.
    pub body_size: u64,
    /// The properties, checked.
    pub properties: RawProperties<'a>,
}

impl<'a> ContentHeader<'a> {
    /// Decodes a content header frame's payload. Allocates nothing.
    ///
    /// # Errors
    /// [`DecodeError`], when it is not well-formed.
    pub fn decode(payload: &'a [u8]) -> Result<ContentHeader<'a>, DecodeError> {
        let mut reader = Reader::new(payload);
        let class = reader.u16()?;
        reader.u16()?; // the weight, which has never had a meaning
        let body_size = reader.u64()?;
        let properties = RawProperties::parse(reader.rest())?;
        Ok(ContentHeader { class, body_size, properties })
    }
}

/// The basic class.
const BASIC: u16 = 60;

/// Appends a content header frame for a body of `body_size` bytes.
pub fn put_content_header(
    out: &mut BytesMut,
    channel: u16,
    body_size: u64,
    properties: RawProperties<'_>,
) {
    put_frame(out, FrameKind::Header, channel, |payload| {
        payload.put_u16(BASIC);
        payload.put_u16(0);
        payload.put_u64(body_size);
        payload.put_slice(properties.as_bytes());
    });
}

/// Appends the beginning of a body frame with a payload of `length` bytes. The payload and [`FRAME_END`](super::FRAME_END)
/// follow, from wherever the payload lies.
pub fn put_body_frame_header(out: &mut BytesMut, channel: u16, length: u32) {
    put_frame_header(out, FrameKind::Body, channel, length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;

    #[test]
    fn a_content_header_has_its_published_bytes() {
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
        let mut out = BytesMut::new();
        put_content_header(&mut out, 1, 300, RawProperties::parse(&properties).unwrap());
        assert_eq!(&out[..], b"\x02\0\x01\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\x01\x2c\x10\0\x02\xce");
        let header = ContentHeader::decode(&out[7..22]).unwrap();
        assert_eq!((header.class, header.body_size), (60, 300));
        assert_eq!(header.properties.as_bytes(), &properties[..]);
        for end in 7..22 {
            assert!(ContentHeader::decode(&out[7..end]).is_err());
        }
    }
}
