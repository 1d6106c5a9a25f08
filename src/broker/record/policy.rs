//! A policy, as an entry of the store's metadata.
//!
//! ```text
//! key    b'L'                      value  version     u8   1
//!        virtual host  short str          priority    u64  two's complement
//!        kind          u8   0 a user's    apply to    u8   0 all, 1 queues, 2 exchanges,
//!                           1 operator's                       3 classic queues, 4 quorum queues
//!                                          pattern     long str
//!        name          short str          definition  field table
//! ```

use super::{RecordError, check_version, name, put_long, put_name, text};
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};
use crate::message::{Reader, ShortStr};

const WHAT: &str = "policy";
const VERSION: u8 = 1;

/// Where a policy's record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct PolicyKey {
    pub(in crate::broker) virtual_host: ShortStr,
    pub(in crate::broker) kind: PolicyKind,
    pub(in crate::broker) name: ShortStr,
}

impl PolicyKey {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'L';

    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::PREFIX];
        put_name(&mut out, &self.virtual_host);
        out.push(match self.kind {
            PolicyKind::User => 0,
            PolicyKind::Operator => 1,
        });
        put_name(&mut out, &self.name);
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(key: &[u8]) -> Result<Self, RecordError> {
        let malformed = RecordError::malformed(WHAT);
        let mut reader = Reader::new(key);
        reader.u8().map_err(&malformed)?;
        let virtual_host = name(&mut reader).map_err(&malformed)?;
        let kind = match reader.u8().map_err(&malformed)? {
            0 => PolicyKind::User,
            1 => PolicyKind::Operator,
            value => return Err(RecordError::Unknown { what: WHAT, field: "kind", value }),
        };
        let name = name(&mut reader).map_err(&malformed)?;
        reader.finish().map_err(malformed)?;
        Ok(Self { virtual_host, kind, name })
    }
}

/// The stored form of a policy, without what its key says.
pub(in crate::broker) fn encode_policy(policy: &Policy) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&policy.priority.to_be_bytes());
    out.push(match policy.apply_to {
        ApplyTo::All => 0,
        ApplyTo::Queues => 1,
        ApplyTo::Exchanges => 2,
        ApplyTo::ClassicQueues => 3,
        ApplyTo::QuorumQueues => 4,
    });
    put_long(&mut out, policy.pattern.as_str().as_bytes());
    policy.definition.encode(&mut out);
    out
}

/// Reads the stored form.
pub(in crate::broker) fn decode_policy(
    key: &PolicyKey,
    value: &[u8],
) -> Result<Policy, RecordError> {
    let malformed = RecordError::malformed(WHAT);
    let mut reader = Reader::new(value);
    check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
    let priority = reader.u64().map_err(&malformed)?.cast_signed();
    let apply_to = match reader.u8().map_err(&malformed)? {
        0 => ApplyTo::All,
        1 => ApplyTo::Queues,
        2 => ApplyTo::Exchanges,
        3 => ApplyTo::ClassicQueues,
        4 => ApplyTo::QuorumQueues,
        value => return Err(RecordError::Unknown { what: WHAT, field: "object", value }),
    };
    let mut read = || {
        let pattern = text(reader.long_str()?);
        let definition = reader.table()?.to_table();
        reader.finish()?;
        Ok((pattern, definition))
    };
    let (pattern, definition) = read().map_err(malformed)?;
    Policy::new(key.kind, key.name.clone(), &pattern, apply_to, priority, definition)
        .map_err(|error| RecordError::unusable(WHAT, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FieldTable, Value};

    fn key(kind: PolicyKind) -> PolicyKey {
        PolicyKey {
            virtual_host: ShortStr::from_static("/"),
            kind,
            name: ShortStr::from_static("short"),
        }
    }

    #[test]
    fn a_policy_record_has_these_bytes() {
        assert_eq!(key(PolicyKind::Operator).encode(), b"L\x01/\x01\x05short");
        let key = key(PolicyKind::User);
        assert_eq!(key.encode(), b"L\x01/\0\x05short");
        assert_eq!(PolicyKey::decode(&key.encode()), Ok(key.clone()));
        let definition: FieldTable =
            [(ShortStr::from_static("max-length"), Value::I64(5))].into_iter().collect();
        let name = key.name.clone();
        let policy =
            Policy::new(PolicyKind::User, name, "^a", ApplyTo::Queues, -1, definition).unwrap();
        let bytes = encode_policy(&policy);
        assert_eq!(
            bytes,
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\x02^a\0\0\0\x14\x0amax-lengthl\0\0\0\0\0\0\0\x05"
        );
        assert_eq!(decode_policy(&key, &bytes), Ok(policy));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let key = key(PolicyKind::User);
        assert!(matches!(decode_policy(&key, b"\x02"), Err(RecordError::Version { found: 2, .. })));
        let object = b"\x01\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0";
        assert!(matches!(decode_policy(&key, object), Err(RecordError::Unknown { value: 9, .. })));
        assert!(PolicyKey::decode(b"L\x01/\x02\x01a").is_err());
        let nothing = decode_policy(&key, b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap_err();
        assert!(nothing.to_string().contains("no policy provided"), "{nothing}");
    }
}
