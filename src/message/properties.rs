//! The basic class's content properties (AMQP 0-9-1, section 1.8 of the reference; the layout is
//! section 4.2.6.1 of the specification).
//!
//! ```text
//! flags  u16   bit 15 = content-type, bit 14 = content-encoding, … bit 2 = cluster-id; bits 1 and 0 are 0
//! values       of the properties whose flag is set, in the order of the flags
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::raw_table::RawTable;
use super::reader::{DecodeError, Reader};
use super::short_str::ShortStr;
use super::table::{FieldTable, Value, put_long_str, put_short_str};

/// What `delivery-mode` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Mode 1, absent, or anything but 2: the message need not survive a restart.
    Transient,
    /// Mode 2: the message survives a restart if its queue does.
    Persistent,
}

/// How a property's value is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ShortStr,
    Table,
    Octet,
    Timestamp,
}

/// The 14 properties' layouts in the order of their flags, bit 15 first.
const KINDS: [Kind; 14] = [
    Kind::ShortStr,  // content-type
    Kind::ShortStr,  // content-encoding
    Kind::Table,     // headers
    Kind::Octet,     // delivery-mode
    Kind::Octet,     // priority
    Kind::ShortStr,  // correlation-id
    Kind::ShortStr,  // reply-to
    Kind::ShortStr,  // expiration
    Kind::ShortStr,  // message-id
    Kind::Timestamp, // timestamp
    Kind::ShortStr,  // type
    Kind::ShortStr,  // user-id
    Kind::ShortStr,  // app-id
    Kind::ShortStr,  // cluster-id
];

/// Flag bits that stand for no property: bit 1, and bit 0 for "another word of flags follows".
const NOT_PROPERTIES: u16 = 0b11;

/// The place of the headers in [`KINDS`].
const HEADERS: usize = 2;

const fn flag(index: usize) -> u16 {
    0x8000 >> index
}

/// The properties that these flags stand for, each with its place in [`KINDS`], in the order of their values. Most messages have
/// one or two of the fourteen, so only those are looked at.
fn present(mut flags: u16) -> impl Iterator<Item = (usize, Kind)> {
    std::iter::from_fn(move || {
        let index = flags.leading_zeros() as usize;
        let kind = *KINDS.get(index)?;
        flags &= !flag(index);
        Some((index, kind))
    })
}

fn skip(kind: Kind, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match kind {
        Kind::ShortStr => reader.short_str().map(|_| ()),
        Kind::Table => reader.long_str().map(|_| ()),
        Kind::Octet => reader.u8().map(|_| ()),
        Kind::Timestamp => reader.u64().map(|_| ()),
    }
}

/// Properties in their received bytes: checked once, passed on byte for byte, looked up without
/// allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawProperties<'a> {
    flags: u16,
    /// Flags and values, as on the wire.
    bytes: &'a [u8],
}

impl<'a> RawProperties<'a> {
    /// No properties at all.
    pub const NONE: RawProperties<'static> = RawProperties { flags: 0, bytes: &[0, 0] };

    /// Checks flags and values, which must be all of `bytes`; headers are checked to their depths.
    ///
    /// # Errors
    /// [`DecodeError`], when they are not well-formed.
    pub fn parse(bytes: &'a [u8]) -> Result<RawProperties<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u16()?;
        if flags & NOT_PROPERTIES != 0 {
            return Err(DecodeError::UnknownPropertyFlags(flags & NOT_PROPERTIES));
        }
        for (_, kind) in present(flags) {
            if kind == Kind::Table {
                reader.table()?;
            } else {
                skip(kind, &mut reader)?;
            }
        }
        reader.finish()?;
        Ok(RawProperties { flags, bytes })
    }

    /// For bytes that passed [`RawProperties::parse`] before. What does not parse after all reads
    /// as absent.
    pub(crate) fn from_checked(bytes: &'a [u8]) -> RawProperties<'a> {
        match Reader::new(bytes).u16() {
            Ok(flags) => RawProperties { flags, bytes },
            Err(_) => RawProperties::NONE,
        }
    }

    /// Flags and values, as on the wire after the body size of a content header.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A reader at the value of the property with that place in [`KINDS`], if it is present.
    fn find(&self, wanted: usize) -> Option<Reader<'a>> {
        if self.flags & flag(wanted) == 0 {
            return None;
        }
        let mut reader = Reader::new(self.bytes.get(2..)?);
        for (_, kind) in present(self.flags).take_while(|(index, _)| *index < wanted) {
            skip(kind, &mut reader).ok()?;
        }
        Some(reader)
    }

    fn short_str(&self, index: usize) -> Option<&'a [u8]> {
        self.find(index)?.short_str().ok()
    }

    /// `content-type`: a MIME type.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.short_str(0)
    }

    /// `content-encoding`.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&'a [u8]> {
        self.short_str(1)
    }

    /// `headers`: the application's own fields, and what headers exchanges look at.
    #[must_use]
    pub fn headers(&self) -> Option<RawTable<'a>> {
        self.find(HEADERS)?.long_str().ok().map(RawTable::from_checked)
    }

    /// `delivery-mode`, taken as RabbitMQ takes it: 2 is persistent, everything else is not.
    #[must_use]
    pub fn delivery_mode(&self) -> DeliveryMode {
        match self.delivery_mode_octet() {
            Some(2) => DeliveryMode::Persistent,
            _ => DeliveryMode::Transient,
        }
    }

    /// `delivery-mode` as it was received, which may be a number without a meaning.
    #[must_use]
    pub fn delivery_mode_octet(&self) -> Option<u8> {
        self.find(3)?.u8().ok()
    }

    /// `priority`.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.find(4)?.u8().ok()
    }

    /// `correlation-id`.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&'a [u8]> {
        self.short_str(5)
    }

    /// `reply-to`: usually a queue's name.
    #[must_use]
    pub fn reply_to(&self) -> Option<&'a [u8]> {
        self.short_str(6)
    }

    /// `expiration`: milliseconds, as decimal digits.
    #[must_use]
    pub fn expiration(&self) -> Option<&'a [u8]> {
        self.short_str(7)
    }

    /// `message-id`.
    #[must_use]
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.short_str(8)
    }

    /// `timestamp`: seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.find(9)?.u64().ok()
    }

    /// `type`: the application's own kind of message.
    #[must_use]
    pub fn kind(&self) -> Option<&'a [u8]> {
        self.short_str(10)
    }

    /// `user-id`: who says to have published it; checked against the connection's user.
    #[must_use]
    pub fn user_id(&self) -> Option<&'a [u8]> {
        self.short_str(11)
    }

    /// `app-id`.
    #[must_use]
    pub fn app_id(&self) -> Option<&'a [u8]> {
        self.short_str(12)
    }

    /// `cluster-id`: deprecated, passed on like the others.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&'a [u8]> {
        self.short_str(13)
    }

    /// A copy whose headers have no entry of that name. All else is the same bytes; a table that loses its last entry
    /// stays, empty.
    #[must_use]
    pub fn without_header(&self, name: &[u8]) -> Bytes {
        let Some(headers) = self.headers() else { return Bytes::copy_from_slice(self.bytes) };
        let mut entries = BytesMut::with_capacity(headers.as_bytes().len());
        for (other, value) in headers.entries().filter(|(other, _)| *other != name) {
            put_short_str(&mut entries, other);
            entries.put_u8(value.tag());
            entries.put_slice(value.as_bytes());
        }
        // The table's length is in the four bytes in front of it.
        let before = self.bytes.len() - self.find(HEADERS).map_or(0, |reader| reader.rest().len());
        let after = before + 4 + headers.as_bytes().len();
        let mut out = BytesMut::with_capacity(self.bytes.len());
        out.put_slice(&self.bytes[..before]);
        put_long_str(&mut out, &entries);
        out.put_slice(&self.bytes[after..]);
        out.freeze()
    }

    /// A copy whose headers have that entry at their end, and no other of that name. All else is the same bytes.
    #[must_use]
    pub fn with_header(&self, name: &ShortStr, value: &Value) -> Bytes {
        let mut entries = BytesMut::new();
        let headers = self.headers().unwrap_or_default();
        for (other, value) in headers.entries().filter(|(other, _)| *other != name.as_bytes()) {
            put_short_str(&mut entries, other);
            entries.put_u8(value.tag());
            entries.put_slice(value.as_bytes());
        }
        put_short_str(&mut entries, name);
        value.encode(&mut entries);
        // In front of the headers are the flags, and the values of the first two properties.
        let values = self.bytes.get(2..).unwrap_or_default();
        let mut reader = Reader::new(values);
        for (index, kind) in KINDS.into_iter().enumerate().take(HEADERS) {
            if self.flags & flag(index) != 0 && skip(kind, &mut reader).is_err() {
                return Bytes::copy_from_slice(self.bytes);
            }
        }
        let before = values.len() - reader.rest().len();
        let present = self.flags & flag(HEADERS) != 0;
        let after = before + if present { 4 + headers.as_bytes().len() } else { 0 };
        let mut out = BytesMut::with_capacity(self.bytes.len() + 4 + entries.len());
        out.put_u16(self.flags | flag(HEADERS));
        out.put_slice(&values[..before]);
        put_long_str(&mut out, &entries);
        out.put_slice(&values[after..]);
        out.freeze()
    }

    /// A copy with another `reply-to`, if there is one. All else is the same bytes.
    #[must_use]
    pub fn with_reply_to(&self, address: &ShortStr) -> Bytes {
        let (Some(reader), Some(current)) = (self.find(6), self.reply_to()) else {
            return Bytes::copy_from_slice(self.bytes);
        };
        let before = self.bytes.len() - reader.rest().len();
        let mut out = BytesMut::with_capacity(self.bytes.len() + address.len());
        out.put_slice(&self.bytes[..before]);
        put_short_str(&mut out, address);
        out.put_slice(&self.bytes[before + 1 + current.len()..]);
        out.freeze()
    }

    /// Unpacks a copy that does not borrow the received bytes.
    #[must_use]
    pub fn to_properties(&self) -> Properties {
        let owned = |text: Option<&[u8]>| text.map(ShortStr::copy_of);
        Properties {
            content_type: owned(self.content_type()),
            content_encoding: owned(self.content_encoding()),
            headers: self.headers().map(|headers| headers.to_table()),
            delivery_mode: self.delivery_mode_octet(),
            priority: self.priority(),
            correlation_id: owned(self.correlation_id()),
            reply_to: owned(self.reply_to()),
            expiration: owned(self.expiration()),
            message_id: owned(self.message_id()),
            timestamp: self.timestamp(),
            kind: owned(self.kind()),
            user_id: owned(self.user_id()),
            app_id: owned(self.app_id()),
            cluster_id: owned(self.cluster_id()),
        }
    }
}

/// Properties as owned data, for building and changing them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// `content-type`: a MIME type.
    pub content_type: Option<ShortStr>,
    /// `content-encoding`.
    pub content_encoding: Option<ShortStr>,
    /// `headers`: the application's own fields.
    pub headers: Option<FieldTable>,
    /// `delivery-mode`: 1 transient, 2 persistent; other values are passed on.
    pub delivery_mode: Option<u8>,
    /// `priority`.
    pub priority: Option<u8>,
    /// `correlation-id`.
    pub correlation_id: Option<ShortStr>,
    /// `reply-to`: usually a queue's name.
    pub reply_to: Option<ShortStr>,
    /// `expiration`: milliseconds, as decimal digits.
    pub expiration: Option<ShortStr>,
    /// `message-id`.
    pub message_id: Option<ShortStr>,
    /// `timestamp`: seconds since 1970-01-01 UTC.
    pub timestamp: Option<u64>,
    /// `type`: the application's own kind of message.
    pub kind: Option<ShortStr>,
    /// `user-id`: who says to have published it.
    pub user_id: Option<ShortStr>,
    /// `app-id`.
    pub app_id: Option<ShortStr>,
    /// `cluster-id`: deprecated, passed on like the others.
    pub cluster_id: Option<ShortStr>,
}

impl Properties {
    /// Flags and values, as [`RawProperties::parse`] takes them.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut flags = 0;
        let mut values = BytesMut::new();
        let strings = |index: usize| match index {
            0 => &self.content_type,
            1 => &self.content_encoding,
            5 => &self.correlation_id,
            6 => &self.reply_to,
            7 => &self.expiration,
            8 => &self.message_id,
            10 => &self.kind,
            11 => &self.user_id,
            12 => &self.app_id,
            _ => &self.cluster_id,
        };
        for (index, kind) in KINDS.into_iter().enumerate() {
            let octet = if index == 3 { self.delivery_mode } else { self.priority };
            let present = match kind {
                Kind::ShortStr => {
                    strings(index).as_ref().map(|text| put_short_str(&mut values, text))
                }
                Kind::Table => self.headers.as_ref().map(|table| table.encode(&mut values)),
                Kind::Octet => octet.map(|octet| values.put_u8(octet)),
                Kind::Timestamp => self.timestamp.map(|seconds| values.put_u64(seconds)),
            };
            if present.is_some() {
                flags |= flag(index);
            }
        }
        let mut out = BytesMut::with_capacity(2 + values.len());
        out.put_u16(flags);
        out.put_slice(&values);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    #[test]
    fn all_fourteen_properties_have_their_published_bytes() {
        let name = |text: &'static str| Some(ShortStr::from_static(text));
        let properties = Properties {
            content_type: name("ct"),
            content_encoding: name("ce"),
            headers: Some([(ShortStr::from_static("h"), Value::U8(7))].into_iter().collect()),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: name("co"),
            reply_to: name("re"),
            expiration: name("60"),
            message_id: name("id"),
            timestamp: Some(0x0102_0304_0506_0708),
            kind: name("ty"),
            user_id: name("us"),
            app_id: name("ap"),
            cluster_id: name("cl"),
        };
        let expected = [
            &b"\xff\xfc\x02ct\x02ce\x00\x00\x00\x04\x01hB\x07\x02\x09\x02co\x02re\x0260\x02id"[..],
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x02ty\x02us\x02ap\x02cl",
        ]
        .concat();
        assert_eq!(properties.to_bytes(), expected);
        let raw = RawProperties::parse(&expected).unwrap();
        assert_eq!(raw.to_properties(), properties);
        assert_eq!(raw.delivery_mode(), DeliveryMode::Persistent);
        assert_eq!(raw.cluster_id(), Some(&b"cl"[..]));
        for end in 0..expected.len() {
            assert!(RawProperties::parse(&expected[..end]).is_err());
        }
    }

    #[test]
    fn no_properties_are_two_octets_of_zero() {
        assert_eq!(Properties::default().to_bytes(), RawProperties::NONE.as_bytes());
        assert_eq!(RawProperties::parse(&[0, 0]).unwrap(), RawProperties::NONE);
        assert_eq!(RawProperties::NONE.delivery_mode(), DeliveryMode::Transient);
    }

    #[test]
    fn a_header_goes_without_changing_a_byte_of_anything_else() {
        let without = |bytes: &[u8]| RawProperties::parse(bytes).unwrap().without_header(b"BCC");
        let table = b"\x01ab\x01\x03BCCV\x03bccU\x00\x07";
        let with = [&b"\xb0\x00\x02ct\x00\x00\x00\x10"[..], table, b"\x02"].concat();
        assert_eq!(
            &without(&with)[..],
            b"\xb0\x00\x02ct\x00\x00\x00\x0b\x01ab\x01\x03bccU\x00\x07\x02"
        );
        let only = b"\x30\x00\x00\x00\x00\x0a\x03BCCV\x03BCCV\x01";
        assert_eq!(&without(only)[..], b"\x30\x00\x00\x00\x00\x00\x01", "each of that name");
        for other in [&b"\x30\x00\x00\x00\x00\x03\x01xV\x01"[..], b"\x10\x00\x02", b"\x00\x00"] {
            assert_eq!(&without(other)[..], other);
        }
    }

    #[test]
    fn flags_that_no_property_has_are_refused() {
        assert_eq!(RawProperties::parse(&[0x80, 1, 0]), Err(DecodeError::UnknownPropertyFlags(1)));
        assert_eq!(RawProperties::parse(&[0, 2]), Err(DecodeError::UnknownPropertyFlags(2)));
        assert_eq!(RawProperties::parse(&[0, 0, 9]), Err(DecodeError::Trailing(1)));
    }

    impl Arbitrary for Properties {
        fn arbitrary(g: &mut Gen) -> Properties {
            Properties {
                content_type: Arbitrary::arbitrary(g),
                content_encoding: Arbitrary::arbitrary(g),
                headers: Arbitrary::arbitrary(g),
                delivery_mode: Arbitrary::arbitrary(g),
                priority: Arbitrary::arbitrary(g),
                correlation_id: Arbitrary::arbitrary(g),
                reply_to: Arbitrary::arbitrary(g),
                expiration: Arbitrary::arbitrary(g),
                message_id: Arbitrary::arbitrary(g),
                timestamp: Arbitrary::arbitrary(g),
                kind: Arbitrary::arbitrary(g),
                user_id: Arbitrary::arbitrary(g),
                app_id: Arbitrary::arbitrary(g),
                cluster_id: Arbitrary::arbitrary(g),
            }
        }
    }

    quickcheck! {
        fn any_properties_come_back_byte_for_byte(properties: Properties) -> bool {
            let bytes = properties.to_bytes();
            let back = RawProperties::parse(&bytes).unwrap().to_properties();
            back == properties && back.to_bytes() == bytes
        }

        fn another_reply_to_is_all_that_changes(properties: Properties, address: ShortStr) -> bool {
            let bytes = properties.to_bytes();
            let reply_to = properties.reply_to.is_some().then(|| address.clone());
            RawProperties::parse(&bytes).unwrap().with_reply_to(&address)
                == Properties { reply_to, ..properties }.to_bytes()
        }

        fn a_header_that_is_added_goes_again(properties: Properties, place: usize) -> bool {
            let Some(headers) = &properties.headers else { return true };
            let bytes = properties.to_bytes();
            let place = place % (headers.entries().count() + 1);
            let mut entries: Vec<_> =
                headers.entries().map(|(name, value)| (name.clone(), value.clone())).collect();
            let keys = Value::Array(vec![Value::text("key")]);
            entries.insert(place, (ShortStr::from_static("a name of its own"), keys));
            let headers = Some(entries.into_iter().collect());
            let added = Properties { headers, ..properties.clone() }.to_bytes();
            RawProperties::parse(&added).unwrap().without_header(b"a name of its own") == bytes
        }

        fn a_header_that_is_set_is_the_last_and_all_else_stays(properties: Properties) -> bool {
            let name = ShortStr::from_static("x-delivery-count");
            let bytes = properties.to_bytes();
            let entry = (name.clone(), Value::I64(7));
            let set = RawProperties::parse(&bytes).unwrap().with_header(&name, &entry.1);
            let again = RawProperties::parse(&set).unwrap().with_header(&name, &entry.1);
            let others = properties.headers.iter().flat_map(FieldTable::entries);
            let others = others.map(|(name, value)| (name.clone(), value.clone()));
            let headers = Some(others.chain([entry]).collect());
            set == again && set == Properties { headers, ..properties }.to_bytes()
        }

        fn any_bytes_parse_or_are_refused_without_a_panic(bytes: Vec<u8>) -> bool {
            match RawProperties::parse(&bytes) {
                Ok(raw) => RawProperties::parse(&raw.to_properties().to_bytes()).is_ok(),
                Err(_) => true,
            }
        }
    }
}
