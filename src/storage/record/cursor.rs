//! Reading fixed-size little-endian numbers and varints off the front of a slice, with every length checked.

use super::Malformed;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    /// A number of `LEB128` form: seven bits a byte, the lowest first.
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed("a number is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One number, one form: what is read can be written again, byte for byte.
                let shortest = byte != 0 || shift == 0;
                return shortest.then_some(value).ok_or(Malformed("a number is padded"));
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// Passes over so many varints, whatever they are.
    pub(super) fn skip_varints(&mut self, count: usize) -> Result<(), Malformed> {
        const LAST: u64 = u64::from_le_bytes([0x80; 8]);
        let mut left = count;
        while left >= 8
            && let Some((bytes, rest)) = self.0.split_first_chunk()
        {
            // The highest bit of a number's last byte is clear.
            left -= (!u64::from_le_bytes(*bytes) & LAST).count_ones() as usize;
            self.0 = rest;
        }
        while left > 0 {
            left -= usize::from(self.take(1)?[0] & 0x80 == 0);
        }
        Ok(())
    }

    /// A varint that counts something in memory.
    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.varint()?).map_err(|_| Malformed("a length is too large"))
    }

    /// How many items of `size` bytes can still follow: a bound for what is allocated ahead.
    pub(super) fn at_most(&self, size: usize) -> usize {
        self.0.len() / size
    }
}

#[inline]
pub(super) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

/// Bytes of a varint.
#[inline]
pub(super) fn varint_size(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Small numbers of either sign as small numbers: 0, -1, 1, -2 … become 0, 1, 2, 3 …
#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn a_varint_comes_back(value: u64, shift: u8) -> bool {
            let value = value >> (shift % 64);
            let mut buffer = Vec::new();
            put_varint(&mut buffer, value);
            assert_eq!(buffer.len(), varint_size(value));
            let mut cursor = Cursor::new(&buffer);
            cursor.varint() == Ok(value) && cursor.is_empty()
        }

        fn varints_are_passed_over(values: Vec<(u64, u8)>) -> bool {
            let mut buffer = Vec::new();
            values.iter().for_each(|(value, shift)| put_varint(&mut buffer, value >> (shift % 64)));
            buffer.extend_from_slice(b"rest");
            let mut cursor = Cursor::new(&buffer);
            cursor.skip_varints(values.len()).unwrap();
            let too_many = Cursor::new(&buffer).skip_varints(values.len() + 5);
            cursor.rest() == b"rest" && too_many.is_err()
        }

        fn a_zigzag_number_comes_back(value: i64) -> bool {
            unzigzag(zigzag(value)) == value
        }
    }

    #[test]
    fn an_endless_or_oversized_varint_is_refused() {
        assert!(Cursor::new(&[0x80; 11]).varint().is_err());
        assert!(Cursor::new(&[0x80; 3]).varint().is_err());
        let mut eleven = [0xff; 10];
        eleven[9] = 0x7f;
        assert!(Cursor::new(&eleven).varint().is_err());
        assert!(Cursor::new(&[0x81, 0x80, 0]).varint().is_err());
    }
}
