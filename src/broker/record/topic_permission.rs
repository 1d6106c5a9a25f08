//! A user's permissions for the routing keys of one exchange, as an entry of the store's metadata.
//!
//! ```text
//! key    b'T'                      value  version  u8   1
//!        user          short str          write    long str   the patterns
//!        virtual host  short str          read     long str
//!        exchange      short str
//! ```

use super::{RecordError, check_version, name, put_long, put_name, text};
use crate::broker::access::TopicPermissions;
use crate::message::{Reader, ShortStr};

const WHAT: &str = "topic permissions";
const VERSION: u8 = 1;

/// Where the record of permissions for routing keys is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::broker) struct TopicPermissionKey {
    pub(in crate::broker) user: ShortStr,
    pub(in crate::broker) virtual_host: ShortStr,
    pub(in crate::broker) exchange: ShortStr,
}

impl TopicPermissionKey {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'T';

    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::PREFIX];
        put_name(&mut out, &self.user);
        put_name(&mut out, &self.virtual_host);
        put_name(&mut out, &self.exchange);
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(key: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(key);
        let mut read = || {
            reader.u8()?;
            let key = Self {
                user: name(&mut reader)?,
                virtual_host: name(&mut reader)?,
                exchange: name(&mut reader)?,
            };
            reader.finish()?;
            Ok(key)
        };
        read().map_err(RecordError::malformed(WHAT))
    }
}

/// The stored form of permissions for routing keys.
pub(in crate::broker) fn encode_topic_permissions(permissions: &TopicPermissions) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_long(&mut out, permissions.write().as_bytes());
    put_long(&mut out, permissions.read().as_bytes());
    out
}

/// Reads the stored form.
pub(in crate::broker) fn decode_topic_permissions(
    key: &TopicPermissionKey,
    value: &[u8],
) -> Result<TopicPermissions, RecordError> {
    let malformed = RecordError::malformed(WHAT);
    let mut reader = Reader::new(value);
    check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
    let mut read = || {
        let patterns = (reader.long_str()?, reader.long_str()?);
        reader.finish()?;
        Ok(patterns)
    };
    let (write, read) = read().map_err(malformed)?;
    TopicPermissions::new(&key.user, &key.virtual_host, &text(write), &text(read))
        .map_err(|error| RecordError::unusable(WHAT, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TopicPermissionKey {
        TopicPermissionKey {
            user: ShortStr::from_static("shop"),
            virtual_host: ShortStr::from_static("/"),
            exchange: ShortStr::from_static("events"),
        }
    }

    #[test]
    fn a_record_of_topic_permissions_has_these_bytes() {
        let key = key();
        assert_eq!(key.encode(), b"T\x04shop\x01/\x06events");
        assert_eq!(TopicPermissionKey::decode(&key.encode()), Ok(key.clone()));
        let (user, host) = (&key.user, &key.virtual_host);
        let permissions = TopicPermissions::new(user, host, "^{username}", "").unwrap();
        let bytes = encode_topic_permissions(&permissions);
        assert_eq!(bytes, b"\x01\0\0\0\x0b^{username}\0\0\0\0");
        assert_eq!(decode_topic_permissions(&key, &bytes), Ok(permissions));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let decode = |value: &[u8]| decode_topic_permissions(&key(), value);
        assert!(matches!(decode(b"\x02"), Err(RecordError::Version { found: 2, .. })));
        assert!(decode(b"\x01\0\0\0\0").is_err());
        let unclosed = decode(b"\x01\0\0\0\x01(\0\0\0\0").unwrap_err();
        assert!(unclosed.to_string().contains("unclosed group"));
        assert!(TopicPermissionKey::decode(b"T\x04shop\x01/").is_err());
    }
}
