//! Says that the store has had its first users, as an entry of the store's metadata.
//!
//! ```text
//! key    b'F'               value  version      u8   1
//! ```
//!
//! A store without it is empty, or of a version in which the user of the settings was not stored.

use super::{RecordError, check_version};
use crate::message::Reader;

const WHAT: &str = "founding";
const VERSION: u8 = 1;

/// The key of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct FoundingKey;

impl FoundingKey {
    /// The only byte of the key.
    pub(in crate::broker) const PREFIX: u8 = b'F';

    /// The stored form.
    pub(in crate::broker) fn encode() -> Vec<u8> {
        vec![Self::PREFIX]
    }
}

/// The stored form of the record.
pub(in crate::broker) fn encode_founding() -> Vec<u8> {
    vec![VERSION]
}

/// Checks the stored form.
pub(in crate::broker) fn decode_founding(value: &[u8]) -> Result<(), RecordError> {
    let mut reader = Reader::new(value);
    let malformed = RecordError::malformed(WHAT);
    check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
    reader.finish().map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_founding_record_has_these_bytes() {
        assert_eq!((FoundingKey::encode(), encode_founding()), (b"F".to_vec(), b"\x01".to_vec()));
        assert_eq!(decode_founding(b"\x01"), Ok(()));
        assert!(decode_founding(b"\x02").is_err() && decode_founding(b"\x01\0").is_err());
    }
}
