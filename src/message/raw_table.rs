//! Field tables as they were received: validated once, then looked into without allocating.

use super::reader::{DecodeError, Reader};
use super::table::{FieldTable, Value};

/// A field table (AMQP 0-9-1, section 4.2.5.5) in its received bytes, without the length in front.
///
/// Whoever holds one knows that it is well-formed: it can only be had from [`Reader::table`] and
/// from [`RawTable::parse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawTable<'a> {
    bytes: &'a [u8],
}

/// One field's value in its received bytes.
///
/// Two are equal when type and content are the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawValue<'a> {
    tag: u8,
    bytes: &'a [u8],
}

impl<'a> RawTable<'a> {
    /// A table without entries.
    pub const EMPTY: RawTable<'static> = RawTable { bytes: &[] };

    /// Checks `bytes`, a table's entries without the length in front.
    ///
    /// # Errors
    /// [`DecodeError`], when they are not well-formed entries.
    pub fn parse(bytes: &'a [u8]) -> Result<RawTable<'a>, DecodeError> {
        check_table(bytes)?;
        Ok(RawTable { bytes })
    }

    /// `bytes` must have passed [`check_table`].
    pub(crate) fn from_checked(bytes: &'a [u8]) -> RawTable<'a> {
        RawTable { bytes }
    }

    /// The entries as received, without the length in front.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The entries in their order, repeated names included.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries { reader: Reader::new(self.bytes) }
    }

    /// The value of the first entry of that name. Linear in the size of the table.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<RawValue<'a>> {
        self.entries().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// Unpacks a copy that does not borrow the received bytes.
    #[must_use]
    pub fn to_table(&self) -> FieldTable {
        FieldTable::decode(self.bytes).expect("a RawTable has been checked when it was made")
    }
}

impl<'a> RawValue<'a> {
    /// The type's tag, such as `b'S'`.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// The value's encoded bytes after the tag (a string's length included).
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The content of a long string (`S`), or nothing for every other type.
    #[must_use]
    pub fn as_long_str(&self) -> Option<&'a [u8]> {
        if self.tag == b'S' { self.bytes.get(4..) } else { None }
    }

    /// The content of a long string (`S`) or of a byte array (`x`), or nothing for every other type.
    #[must_use]
    pub fn as_octets(&self) -> Option<&'a [u8]> {
        if matches!(self.tag, b'S' | b'x') { self.bytes.get(4..) } else { None }
    }

    /// The value as a number of 64 bits, for the floating-point types; nothing for every other type.
    #[must_use]
    pub fn as_real(&self) -> Option<f64> {
        match self.tag {
            b'f' => Some(f32::from_be_bytes(self.bytes.try_into().ok()?).into()),
            b'd' => Some(f64::from_be_bytes(self.bytes.try_into().ok()?)),
            _ => None,
        }
    }

    /// The value as a signed number, for the integer types; nothing for every other type.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self.tag {
            b'b' | b'B' | b's' | b'U' | b'u' | b'I' | b'i' | b'l' | b'L' => {
                self.to_value().as_integer()
            }
            _ => None,
        }
    }

    /// The elements of an array (`A`) in their order, or nothing for every other type.
    #[must_use]
    pub fn elements(&self) -> Option<Elements<'a>> {
        let bytes = if self.tag == b'A' { self.bytes.get(4..)? } else { return None };
        Some(Elements { reader: Reader::new(bytes) })
    }

    /// The entries of a table (`F`), or nothing for every other type.
    #[must_use]
    pub fn as_table(&self) -> Option<RawTable<'a>> {
        let bytes = if self.tag == b'F' { self.bytes.get(4..)? } else { return None };
        Some(RawTable { bytes })
    }

    /// Unpacks a copy that does not borrow the received bytes.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut reader = Reader::new(self.bytes);
        Value::decode(self.tag, &mut reader, 1).expect("a RawValue's table has been checked")
    }
}

/// Iterator over a [`RawTable`]'s entries.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], RawValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let name = self.reader.short_str().ok()?;
        Some((name, next_value(&mut self.reader)?))
    }
}

/// Iterator over the elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = RawValue<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() { None } else { next_value(&mut self.reader) }
    }
}

/// Takes a value with its tag in front from the reader.
fn next_value<'a>(reader: &mut Reader<'a>) -> Option<RawValue<'a>> {
    let tag = reader.u8().ok()?;
    let length = value_length(tag, *reader).ok()?;
    Some(RawValue { tag, bytes: reader.octets(length).ok()? })
}

/// How many bytes the value at `reader` takes, from its tag and, for strings, tables and arrays,
/// their announced length.
fn value_length(tag: u8, mut reader: Reader<'_>) -> Result<usize, DecodeError> {
    Ok(match tag {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' | b'U' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' | b'F' | b'A' => 4 + reader.u32()? as usize,
        unknown => return Err(DecodeError::UnknownFieldType(unknown)),
    })
}

/// Checks a table's entries, and all that is nested in them. Takes time in proportion to the bytes, however deep they nest, and
/// no stack: what is open around the innermost table or array is kept in a list, unless nothing follows in it.
pub(super) fn check_table(bytes: &[u8]) -> Result<(), DecodeError> {
    let (mut reader, mut is_table) = (Reader::new(bytes), true);
    let mut around = Vec::new();
    loop {
        if reader.is_empty() {
            let Some(next) = around.pop() else { return Ok(()) };
            (reader, is_table) = next;
            continue;
        }
        if is_table {
            reader.short_str()?;
        }
        let tag = reader.u8()?;
        let content = reader.octets(value_length(tag, reader)?)?;
        if matches!(tag, b'F' | b'A') {
            if !reader.is_empty() {
                around.push((reader, is_table));
            }
            (reader, is_table) = (Reader::new(&content[4..]), tag == b'F');
        }
    }
}
