//! A virtual host, as an entry of the store's metadata. The one that there always is need not have one.
//!
//! ```text
//! key    b'V'               value  version      u8   1
//!        name  short str           description  long str
//!                                  tags         u16, then so many short strs
//!                                  limits       u8   bit 0 connections, bit 1 queues
//!                                               u64 each, of those that there are
//! ```

use super::{RecordError, check_version, name, names, put_long, put_name, put_names, text};
use crate::broker::hosts::{HostDescription, HostLimits};
use crate::message::{Reader, ShortStr};

const WHAT: &str = "virtual host";
const VERSION: u8 = 1;
const CONNECTIONS: u8 = 1;
const QUEUES: u8 = 2;

/// Where a virtual host's record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct VirtualHostKey(pub(in crate::broker) ShortStr);

impl VirtualHostKey {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'V';

    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::PREFIX];
        put_name(&mut out, &self.0);
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(key: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(key);
        let mut read = || {
            reader.u8()?;
            let key = Self(name(&mut reader)?);
            reader.finish()?;
            Ok(key)
        };
        read().map_err(RecordError::malformed(WHAT))
    }
}

/// The stored form of what is said of a virtual host.
pub(in crate::broker) fn encode_virtual_host(host: &HostDescription) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_long(&mut out, host.description.as_bytes());
    put_names(&mut out, &host.tags);
    let limits = [(CONNECTIONS, host.limits.max_connections), (QUEUES, host.limits.max_queues)];
    out.push(limits.iter().filter(|(_, limit)| limit.is_some()).map(|(flag, _)| flag).sum());
    for limit in limits.into_iter().filter_map(|(_, limit)| limit) {
        out.extend_from_slice(&limit.to_be_bytes());
    }
    out
}

/// Reads the stored form.
pub(in crate::broker) fn decode_virtual_host(value: &[u8]) -> Result<HostDescription, RecordError> {
    let malformed = RecordError::malformed(WHAT);
    let mut reader = Reader::new(value);
    check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
    let mut read = || {
        let description = text(reader.long_str()?);
        let tags = names(&mut reader)?;
        let flags = reader.u8()?;
        let mut limit = |flag| if flags & flag == 0 { Ok(None) } else { reader.u64().map(Some) };
        let limits =
            HostLimits { max_connections: limit(CONNECTIONS)?, max_queues: limit(QUEUES)? };
        reader.finish()?;
        Ok(HostDescription { description, tags, limits })
    };
    read().map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_virtual_host_has_these_bytes() {
        let key = VirtualHostKey(ShortStr::from_static("orders"));
        assert_eq!(key.encode(), b"V\x06orders");
        assert_eq!(VirtualHostKey::decode(&key.encode()), Ok(key));
        let host = HostDescription {
            description: "what is sold".to_owned(),
            tags: vec![ShortStr::from_static("eu"), ShortStr::from_static("live")],
            limits: HostLimits { max_connections: Some(258), max_queues: None },
        };
        let bytes = encode_virtual_host(&host);
        let expected = b"\x01\0\0\0\x0cwhat is sold\0\x02\x02eu\x04live\x01\0\0\0\0\0\0\x01\x02";
        assert_eq!(bytes, expected);
        assert_eq!(decode_virtual_host(&bytes), Ok(host));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(matches!(decode_virtual_host(b"\x02"), Err(RecordError::Version { found: 2, .. })));
        assert!(decode_virtual_host(b"\x01\0\0\0\0\0\0").is_err());
        assert!(decode_virtual_host(b"\x01\0\0\0\0\0\0\x02\0").is_err());
        assert!(VirtualHostKey::decode(b"V\x03ab").is_err());
    }
}
