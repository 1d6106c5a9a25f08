//! A user's permissions in one virtual host, as an entry of the store's metadata.
//!
//! ```text
//! key    b'P'                      value  version    u8   1
//!        user          short str          configure  long str   the patterns
//!        virtual host  short str          write      long str
//!                                         read       long str
//! ```

use super::{RecordError, check_version, name, put_long, put_name, text};
use crate::broker::access::{Permissions, Right};
use crate::message::{Reader, ShortStr};

const WHAT: &str = "permissions";
const VERSION: u8 = 1;

/// Where the record of permissions is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::broker) struct PermissionKey {
    pub(in crate::broker) user: ShortStr,
    pub(in crate::broker) virtual_host: ShortStr,
}

impl PermissionKey {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'P';

    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::PREFIX];
        put_name(&mut out, &self.user);
        put_name(&mut out, &self.virtual_host);
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(key: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(key);
        let mut read = || {
            reader.u8()?;
            let key = Self { user: name(&mut reader)?, virtual_host: name(&mut reader)? };
            reader.finish()?;
            Ok(key)
        };
        read().map_err(RecordError::malformed(WHAT))
    }
}

/// The stored form of permissions.
pub(in crate::broker) fn encode_permissions(permissions: &Permissions) -> Vec<u8> {
    let mut out = vec![VERSION];
    for right in [Right::Configure, Right::Write, Right::Read] {
        put_long(&mut out, permissions.pattern(right).as_bytes());
    }
    out
}

/// Reads the stored form.
pub(in crate::broker) fn decode_permissions(value: &[u8]) -> Result<Permissions, RecordError> {
    let malformed = RecordError::malformed(WHAT);
    let mut reader = Reader::new(value);
    check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
    let mut read = || {
        let patterns = (reader.long_str()?, reader.long_str()?, reader.long_str()?);
        reader.finish()?;
        Ok(patterns)
    };
    let (configure, write, read) = read().map_err(malformed)?;
    Permissions::new(&text(configure), &text(write), &text(read))
        .map_err(|error| RecordError::unusable(WHAT, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_permissions_has_these_bytes() {
        let key = PermissionKey {
            user: ShortStr::from_static("shop"),
            virtual_host: ShortStr::from_static("/"),
        };
        assert_eq!(key.encode(), b"P\x04shop\x01/");
        assert_eq!(PermissionKey::decode(&key.encode()), Ok(key));
        let permissions = Permissions::new("", "^a", ".*").unwrap();
        let bytes = encode_permissions(&permissions);
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\0\x02^a\0\0\0\x02.*");
        assert_eq!(decode_permissions(&bytes), Ok(permissions));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(matches!(decode_permissions(b"\x02"), Err(RecordError::Version { found: 2, .. })));
        assert!(decode_permissions(b"\x01\0\0\0\0").is_err());
        let unclosed = decode_permissions(b"\x01\0\0\0\x01(\0\0\0\0\0\0\0\0").unwrap_err();
        assert!(unclosed.to_string().contains("unclosed group"));
    }
}
