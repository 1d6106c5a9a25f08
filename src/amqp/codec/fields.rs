//! Method fields: the primitive types, with consecutive bits packed into octets.

use bytes::{BufMut, BytesMut};

use crate::message::{DecodeError, RawTable, Reader, put_long_str, put_short_str};

/// Reads a method's fields in order. The methods are named after the protocol's field types.
pub(super) struct FieldReader<'a> {
    reader: Reader<'a>,
    /// The octet of bits being read, and how many of its bits have been.
    bits: Option<(u8, u8)>,
}

impl<'a> FieldReader<'a> {
    pub(super) fn new(reader: Reader<'a>) -> FieldReader<'a> {
        FieldReader { reader, bits: None }
    }

    fn plain(&mut self) -> &mut Reader<'a> {
        self.bits = None;
        &mut self.reader
    }

    pub(super) fn bit(&mut self) -> Result<bool, DecodeError> {
        let (octet, taken) = match self.bits {
            Some((octet, taken)) if taken < 8 => (octet, taken),
            _ => (self.reader.u8()?, 0),
        };
        self.bits = Some((octet, taken + 1));
        Ok(octet >> taken & 1 == 1)
    }

    pub(super) fn octet(&mut self) -> Result<u8, DecodeError> {
        self.plain().u8()
    }

    pub(super) fn short(&mut self) -> Result<u16, DecodeError> {
        self.plain().u16()
    }

    pub(super) fn long(&mut self) -> Result<u32, DecodeError> {
        self.plain().u32()
    }

    pub(super) fn longlong(&mut self) -> Result<u64, DecodeError> {
        self.plain().u64()
    }

    pub(super) fn shortstr(&mut self) -> Result<&'a [u8], DecodeError> {
        self.plain().short_str()
    }

    pub(super) fn longstr(&mut self) -> Result<&'a [u8], DecodeError> {
        self.plain().long_str()
    }

    pub(super) fn table(&mut self) -> Result<RawTable<'a>, DecodeError> {
        self.plain().table()
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        self.reader.finish()
    }
}

/// Writes a method's fields in order.
pub(super) struct FieldWriter<'a> {
    out: &'a mut BytesMut,
    /// Bits used of the octet of bits that ends `out`; 0 when it does not end in one.
    bits: u8,
}

impl<'a> FieldWriter<'a> {
    pub(super) fn new(out: &'a mut BytesMut) -> FieldWriter<'a> {
        FieldWriter { out, bits: 0 }
    }

    fn plain(&mut self) -> &mut BytesMut {
        self.bits = 0;
        self.out
    }

    pub(super) fn bit(&mut self, bit: bool) {
        if self.bits.is_multiple_of(8) {
            self.out.put_u8(0);
            self.bits = 0;
        }
        if let Some(last) = self.out.last_mut() {
            *last |= u8::from(bit) << self.bits;
        }
        self.bits += 1;
    }

    pub(super) fn octet(&mut self, value: u8) {
        self.plain().put_u8(value);
    }

    pub(super) fn short(&mut self, value: u16) {
        self.plain().put_u16(value);
    }

    pub(super) fn long(&mut self, value: u32) {
        self.plain().put_u32(value);
    }

    pub(super) fn longlong(&mut self, value: u64) {
        self.plain().put_u64(value);
    }

    pub(super) fn shortstr(&mut self, value: &[u8]) {
        put_short_str(self.plain(), value);
    }

    pub(super) fn longstr(&mut self, value: &[u8]) {
        put_long_str(self.plain(), value);
    }

    pub(super) fn table(&mut self, value: RawTable<'_>) {
        put_long_str(self.plain(), value.as_bytes());
    }
}
