//! Reading the protocol's primitive types from received bytes.

use super::raw_table::{RawTable, check_table};

/// The depth to which tables and arrays are unpacked, the outermost table counted as 1.
///
/// The protocol sets no limit to nesting, and neither does anything here. But unpacked values are walked through recursively, and
/// a frame of 100 KiB could exhaust the stack: what nests deeper stays [packed](super::Value::Packed). Clients nest two or three deep.
pub const MAX_DEPTH: usize = 32;

/// Why bytes are not what the protocol says they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A value, or an announced length, reaches beyond the bytes that are there.
    #[error("a value needs {needed} bytes, {available} are left")]
    Truncated {
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are left.
        available: usize,
    },
    /// Bytes are left over after the last field.
    #[error("{0} bytes are left over after the last field")]
    Trailing(usize),
    /// A field table holds a type tag that does not exist.
    #[error("unknown field type {0:#04x} in a table")]
    UnknownFieldType(u8),
    /// A content header sets property flags that the basic class does not have.
    #[error("property flags {0:#06x} are not flags of the basic class")]
    UnknownPropertyFlags(u16),
}

/// A cursor over received bytes. Copying it is cheap and remembers the position.
///
/// All integers are big-endian (AMQP 0-9-1, section 4.2.5.1).
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Succeeds when everything has been read.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] otherwise.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left; so it is for every other reading method.
    pub fn octets(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(DecodeError::Truncated { needed: count, available: self.rest.len() });
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { needed: N, available: self.rest.len() });
        };
        self.rest = rest;
        Ok(*head)
    }

    /// One octet.
    ///
    /// # Errors
    /// See [`Reader::octets`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[octet]| octet)
    }

    /// A `short`: 16 bits.
    ///
    /// # Errors
    /// See [`Reader::octets`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A `long`: 32 bits.
    ///
    /// # Errors
    /// See [`Reader::octets`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A `longlong` or timestamp: 64 bits.
    ///
    /// # Errors
    /// See [`Reader::octets`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string: one octet of length, then the bytes.
    ///
    /// # Errors
    /// See [`Reader::octets`].
    pub fn short_str(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u8()?;
        self.octets(usize::from(length))
    }

    /// A long string: four octets of length, then the bytes.
    ///
    /// # Errors
    /// See [`Reader::octets`].
    pub fn long_str(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()?;
        self.octets(length as usize)
    }

    /// A field table, checked through and through, but not unpacked.
    ///
    /// # Errors
    /// Any of [`DecodeError`] except the one about property flags.
    pub fn table(&mut self) -> Result<RawTable<'a>, DecodeError> {
        let bytes = self.long_str()?;
        check_table(bytes)?;
        Ok(RawTable::from_checked(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_length_beyond_the_bytes_is_an_error_not_an_allocation() {
        let mut reader = Reader::new(b"\xff\xff\xff\xffabc");
        assert_eq!(
            reader.long_str(),
            Err(DecodeError::Truncated { needed: 0xffff_ffff, available: 3 })
        );
        assert_eq!(
            Reader::new(b"\x05abc").short_str(),
            Err(DecodeError::Truncated { needed: 5, available: 3 })
        );
    }

    #[test]
    fn what_is_left_over_is_counted() {
        let mut reader = Reader::new(b"\x01\x02\x03");
        reader.u16().unwrap();
        assert_eq!(reader.finish(), Err(DecodeError::Trailing(1)));
    }
}
