//! Short strings: names of exchanges, queues, routing keys, consumer tags.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// An AMQP short string (0-9-1, section 4.2.5.3): at most 255 bytes of anything.
///
/// Cloning is cheap (a reference count). Compared, ordered and hashed as bytes, and usable as a map key
/// that is looked up with a plain `&[u8]`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortStr(Bytes);

/// A string that does not fit into a short string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a short string holds at most 255 bytes, this one has {length}")]
pub struct TooLong {
    /// The refused string's length in bytes.
    pub length: usize,
}

impl ShortStr {
    /// The most bytes that a short string can hold.
    pub const MAX_LEN: usize = 255;

    /// The empty string.
    pub const EMPTY: ShortStr = ShortStr(Bytes::new());

    /// Wraps `bytes` without copying them.
    ///
    /// # Errors
    /// [`TooLong`] for more than [`ShortStr::MAX_LEN`] bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Result<ShortStr, TooLong> {
        let bytes = bytes.into();
        if bytes.len() > Self::MAX_LEN {
            return Err(TooLong { length: bytes.len() });
        }
        Ok(ShortStr(bytes))
    }

    /// Copies at most the first 255 bytes of `bytes`.
    ///
    /// For what was read as a short string (then nothing is cut off), and for texts that are
    /// better cut than refused.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> ShortStr {
        ShortStr(Bytes::copy_from_slice(&bytes[..bytes.len().min(Self::MAX_LEN)]))
    }

    /// A constant name, such as `amq.direct`. Longer than 255 bytes is a mistake in this program,
    /// refused when the constant is evaluated.
    #[must_use]
    pub const fn from_static(text: &'static str) -> ShortStr {
        assert!(text.len() <= Self::MAX_LEN, "a short string holds at most 255 bytes");
        ShortStr(Bytes::from_static(text.as_bytes()))
    }

    /// The bytes of the string.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for ShortStr {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ShortStr {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for ShortStr {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for ShortStr {
    type Error = TooLong;

    fn try_from(bytes: &[u8]) -> Result<ShortStr, TooLong> {
        ShortStr::new(Bytes::copy_from_slice(bytes))
    }
}

impl TryFrom<&str> for ShortStr {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<ShortStr, TooLong> {
        ShortStr::try_from(text.as_bytes())
    }
}

impl PartialEq<[u8]> for ShortStr {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

impl PartialEq<str> for ShortStr {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortStr {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// For texts that people read; what is not UTF-8 is shown as U+FFFD.
impl fmt::Display for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

impl fmt::Debug for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_string_holds_255_bytes_of_anything_and_no_more() {
        assert_eq!(ShortStr::new(vec![0xff; 255]).unwrap().len(), 255);
        assert_eq!(ShortStr::new(vec![0; 256]), Err(TooLong { length: 256 }));
        assert_eq!(ShortStr::copy_of(&[7; 300]).len(), 255);
    }

    #[test]
    fn bytes_that_are_not_text_are_shown_but_kept() {
        let name = ShortStr::copy_of(b"a\xffb");
        assert_eq!(name.to_string(), "a\u{fffd}b");
        assert_eq!(name.as_bytes(), b"a\xffb");
    }
}
