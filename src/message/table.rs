//! Field tables and values as owned data: for building them, and for keeping them.

use bytes::{BufMut, Bytes, BytesMut};

use super::raw_table::{RawTable, check_table};
use super::reader::{DecodeError, MAX_DEPTH, Reader};
use super::short_str::ShortStr;

/// A field value (AMQP 0-9-1, section 4.2.5.5, with the type tags that RabbitMQ and its clients
/// really use, which differ from the specification's grammar for `s`, `l` and `L`).
///
/// Two values are equal when type and content are equal; floating-point numbers are compared by
/// their bits.
#[derive(Clone, Debug)]
pub enum Value {
    /// `t`: a boolean. Received octets other than 0 are true, and are written as 1.
    Bool(bool),
    /// `b`: signed 8 bits.
    I8(i8),
    /// `B`: unsigned 8 bits.
    U8(u8),
    /// `s`: signed 16 bits.
    I16(i16),
    /// `U`: signed 16 bits, as the specification's grammar tags them.
    ShortInt(i16),
    /// `u`: unsigned 16 bits.
    U16(u16),
    /// `I`: signed 32 bits.
    I32(i32),
    /// `i`: unsigned 32 bits.
    U32(u32),
    /// `l`: signed 64 bits.
    I64(i64),
    /// `L`: signed 64 bits, as py-amqp tags them.
    LongLong(i64),
    /// `f`: 32-bit floating point.
    F32(f32),
    /// `d`: 64-bit floating point.
    F64(f64),
    /// `D`: a decimal number, `value` × 10^-`scale`.
    Decimal {
        /// Digits after the decimal point.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`: a string of any bytes.
    LongStr(Bytes),
    /// `T`: seconds since 1970-01-01 UTC.
    Timestamp(u64),
    /// `A`: a list of values.
    Array(Vec<Value>),
    /// `F`: a nested table.
    Table(FieldTable),
    /// `x`: a byte array.
    Bytes(Bytes),
    /// `V`: nothing.
    Void,
    /// `A` or `F`: a list or a table that is nested deeper than [`MAX_DEPTH`], as it was received. Its content has been checked.
    Packed {
        /// The type's tag.
        tag: u8,
        /// The elements or entries, without the length in front.
        content: Bytes,
    },
}

/// A field table: names and values, in the order in which they were received.
///
/// Order and repeated names are kept, so that what is decoded encodes to the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldTable {
    entries: Vec<(ShortStr, Value)>,
}

impl FieldTable {
    /// A table without entries.
    #[must_use]
    pub const fn new() -> FieldTable {
        FieldTable { entries: Vec::new() }
    }

    /// Unpacks a table's entries, without the length in front. Copies strings.
    ///
    /// # Errors
    /// [`DecodeError`], when they are not well-formed entries.
    pub fn decode(bytes: &[u8]) -> Result<FieldTable, DecodeError> {
        check_table(bytes)?;
        FieldTable::decode_at(bytes, 1)
    }

    /// Unpacks entries that have been checked.
    fn decode_at(bytes: &[u8], depth: usize) -> Result<FieldTable, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut entries = Vec::new();
        while !reader.is_empty() {
            let name = ShortStr::copy_of(reader.short_str()?);
            let tag = reader.u8()?;
            entries.push((name, Value::decode(tag, &mut reader, depth)?));
        }
        Ok(FieldTable { entries })
    }

    /// The entries in their order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&ShortStr, &Value)> {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    /// The value of the first entry of that name. Linear in the number of entries.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Value> {
        self.entries().find(|(candidate, _)| candidate.as_bytes() == name).map(|(_, value)| value)
    }

    /// Appends an entry.
    pub fn push(&mut self, name: ShortStr, value: Value) {
        self.entries.push((name, value));
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The memory that the entries take, in bytes.
    #[must_use]
    pub fn memory_size(&self) -> usize {
        let entries = self.entries.iter();
        entries
            .map(|(name, value)| size_of::<(ShortStr, Value)>() + name.len() + value.memory_size())
            .sum()
    }

    /// Appends the entries' bytes, without the length in front.
    pub fn encode_entries(&self, out: &mut impl BufMut) {
        for (name, value) in &self.entries {
            put_short_str(out, name);
            value.encode(out);
        }
    }

    /// The entries' bytes, without the length in front: what [`FieldTable::decode`] takes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode_entries(&mut out);
        out.freeze()
    }

    /// Appends the table as a field of a method or of properties: length, then entries.
    pub fn encode(&self, out: &mut impl BufMut) {
        put_long_str(out, &self.to_bytes());
    }
}

impl FromIterator<(ShortStr, Value)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (ShortStr, Value)>>(entries: I) -> FieldTable {
        FieldTable { entries: entries.into_iter().collect() }
    }
}

impl From<RawTable<'_>> for FieldTable {
    fn from(table: RawTable<'_>) -> FieldTable {
        table.to_table()
    }
}

impl Value {
    /// A long string (`S`).
    #[must_use]
    pub fn text(text: &str) -> Value {
        Value::LongStr(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The type's tag on the wire.
    #[must_use]
    pub fn tag(&self) -> u8 {
        match self {
            Value::Bool(_) => b't',
            Value::I8(_) => b'b',
            Value::U8(_) => b'B',
            Value::I16(_) => b's',
            Value::ShortInt(_) => b'U',
            Value::U16(_) => b'u',
            Value::I32(_) => b'I',
            Value::U32(_) => b'i',
            Value::I64(_) => b'l',
            Value::LongLong(_) => b'L',
            Value::F32(_) => b'f',
            Value::F64(_) => b'd',
            Value::Decimal { .. } => b'D',
            Value::LongStr(_) => b'S',
            Value::Timestamp(_) => b'T',
            Value::Array(_) => b'A',
            Value::Table(_) => b'F',
            Value::Bytes(_) => b'x',
            Value::Void => b'V',
            Value::Packed { tag, .. } => *tag,
        }
    }

    /// The value as a signed number, for the integer types whose value fits.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Value::I8(n) => Some(n.into()),
            Value::U8(n) => Some(n.into()),
            Value::I16(n) | Value::ShortInt(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::I32(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::I64(n) | Value::LongLong(n) => Some(n),
            _ => None,
        }
    }

    /// The memory that the value takes besides its own size, in bytes.
    fn memory_size(&self) -> usize {
        match self {
            Value::LongStr(bytes) | Value::Bytes(bytes) => bytes.len(),
            Value::Array(values) => {
                values.iter().map(|value| size_of::<Value>() + value.memory_size()).sum()
            }
            Value::Table(table) => table.memory_size(),
            _ => 0,
        }
    }

    /// The content of a long string (`S`), or nothing for every other type.
    #[must_use]
    pub fn as_long_str(&self) -> Option<&Bytes> {
        if let Value::LongStr(text) = self { Some(text) } else { None }
    }

    /// Reads the value that follows its `tag`, inside a table or array at `depth`. What is nested in it has been checked.
    pub(super) fn decode(
        tag: u8,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<Value, DecodeError> {
        Ok(match tag {
            b't' => Value::Bool(reader.u8()? != 0),
            b'b' => Value::I8(reader.u8()?.cast_signed()),
            b'B' => Value::U8(reader.u8()?),
            b's' => Value::I16(reader.u16()?.cast_signed()),
            b'U' => Value::ShortInt(reader.u16()?.cast_signed()),
            b'u' => Value::U16(reader.u16()?),
            b'I' => Value::I32(reader.u32()?.cast_signed()),
            b'i' => Value::U32(reader.u32()?),
            b'l' => Value::I64(reader.u64()?.cast_signed()),
            b'L' => Value::LongLong(reader.u64()?.cast_signed()),
            b'f' => Value::F32(f32::from_bits(reader.u32()?)),
            b'd' => Value::F64(f64::from_bits(reader.u64()?)),
            b'D' => Value::Decimal { scale: reader.u8()?, value: reader.u32()? },
            b'S' => Value::LongStr(Bytes::copy_from_slice(reader.long_str()?)),
            b'T' => Value::Timestamp(reader.u64()?),
            b'A' | b'F' if depth >= MAX_DEPTH => {
                Value::Packed { tag, content: Bytes::copy_from_slice(reader.long_str()?) }
            }
            b'A' => Value::Array(decode_array(reader.long_str()?, depth + 1)?),
            b'F' => Value::Table(FieldTable::decode_at(reader.long_str()?, depth + 1)?),
            b'x' => Value::Bytes(Bytes::copy_from_slice(reader.long_str()?)),
            b'V' => Value::Void,
            unknown => return Err(DecodeError::UnknownFieldType(unknown)),
        })
    }

    /// The tag and the value.
    fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Appends the tag and the value.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(self.tag());
        match self {
            Value::Bool(b) => out.put_u8((*b).into()),
            Value::I8(n) => out.put_i8(*n),
            Value::U8(n) => out.put_u8(*n),
            Value::I16(n) | Value::ShortInt(n) => out.put_i16(*n),
            Value::U16(n) => out.put_u16(*n),
            Value::I32(n) => out.put_i32(*n),
            Value::U32(n) => out.put_u32(*n),
            Value::I64(n) | Value::LongLong(n) => out.put_i64(*n),
            Value::F32(n) => out.put_u32(n.to_bits()),
            Value::F64(n) => out.put_u64(n.to_bits()),
            Value::Decimal { scale, value } => {
                out.put_u8(*scale);
                out.put_u32(*value);
            }
            Value::LongStr(bytes) | Value::Bytes(bytes) | Value::Packed { content: bytes, .. } => {
                put_long_str(out, bytes);
            }
            Value::Timestamp(seconds) => out.put_u64(*seconds),
            Value::Array(values) => {
                // Built aside because its length comes first. Not `impl BufMut` all the way
                // down either: nesting would instantiate this function without end.
                let mut nested = BytesMut::new();
                for value in values {
                    value.encode(&mut nested);
                }
                put_long_str(out, &nested);
            }
            Value::Table(table) => table.encode(out),
            Value::Void => {}
        }
    }
}

fn decode_array(bytes: &[u8], depth: usize) -> Result<Vec<Value>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.is_empty() {
        let tag = reader.u8()?;
        values.push(Value::decode(tag, &mut reader, depth)?);
    }
    Ok(values)
}

/// Appends a short string; what is beyond its 255 bytes is cut off.
pub(crate) fn put_short_str(out: &mut impl BufMut, text: &[u8]) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.put_u8(length);
    out.put_slice(&text[..usize::from(length)]);
}

/// Appends a long string.
pub(crate) fn put_long_str(out: &mut impl BufMut, text: &[u8]) {
    let length = u32::try_from(text.len()).expect("fields come from frames, far below 4 GiB");
    out.put_u32(length);
    out.put_slice(text);
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        use Value::*;
        match (self, other) {
            (Bool(a), Bool(b)) => a == b,
            (I8(a), I8(b)) => a == b,
            (U8(a), U8(b)) => a == b,
            (I16(a), I16(b)) | (ShortInt(a), ShortInt(b)) => a == b,
            (U16(a), U16(b)) => a == b,
            (I32(a), I32(b)) => a == b,
            (U32(a), U32(b)) => a == b,
            (I64(a), I64(b)) | (LongLong(a), LongLong(b)) => a == b,
            (F32(a), F32(b)) => a.to_bits() == b.to_bits(),
            (F64(a), F64(b)) => a.to_bits() == b.to_bits(),
            (Decimal { scale: s, value: a }, Decimal { scale: t, value: b }) => s == t && a == b,
            (LongStr(a), LongStr(b)) | (Bytes(a), Bytes(b)) => a == b,
            (Timestamp(a), Timestamp(b)) => a == b,
            (Array(a), Array(b)) => a == b,
            (Table(a), Table(b)) => a == b,
            (Void, Void) => true,
            // Whether a value is packed depends on where it was found.
            (Packed { .. }, _) | (_, Packed { .. }) => self.to_bytes() == other.to_bytes(),
            _ => false,
        }
    }
}

impl Eq for Value {}

#[cfg(test)]
mod tests;
