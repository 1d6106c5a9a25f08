//! A durable exchange, as an entry of the store's metadata.
//!
//! ```text
//! key    b'X'                      value  version    u8   1
//!        virtual host  short str          type       u8   1 direct, 2 fanout, 3 topic, 4 headers
//!        name          short str          flags      u8   bit 0 auto-delete, bit 1 internal
//!                                         arguments  field table
//! ```

use super::{RecordError, check_version, name, put_name};
use crate::broker::routing::ExchangeKind;
use crate::message::{FieldTable, Reader, ShortStr};

const WHAT: &str = "exchange";
const VERSION: u8 = 1;
const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 2;

/// Where an exchange's record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct ExchangeKey {
    pub(in crate::broker) virtual_host: ShortStr,
    pub(in crate::broker) name: ShortStr,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct ExchangeRecord {
    pub(in crate::broker) kind: ExchangeKind,
    pub(in crate::broker) auto_delete: bool,
    pub(in crate::broker) internal: bool,
    pub(in crate::broker) arguments: FieldTable,
}

impl ExchangeKey {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'X';

    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::PREFIX];
        put_name(&mut out, &self.virtual_host);
        put_name(&mut out, &self.name);
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(key: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(key);
        let mut read = || {
            reader.u8()?;
            let key = Self { virtual_host: name(&mut reader)?, name: name(&mut reader)? };
            reader.finish()?;
            Ok(key)
        };
        read().map_err(RecordError::malformed(WHAT))
    }
}

impl ExchangeRecord {
    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let flags = if self.auto_delete { AUTO_DELETE } else { 0 }
            | if self.internal { INTERNAL } else { 0 };
        let mut out = vec![VERSION, code(self.kind), flags];
        self.arguments.encode(&mut out);
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let malformed = RecordError::malformed(WHAT);
        let mut reader = Reader::new(value);
        check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
        let kind = reader.u8().map_err(&malformed)?;
        let kind = ExchangeKind::ALL
            .iter()
            .map(|(kind, _)| *kind)
            .find(|known| code(*known) == kind)
            .ok_or(RecordError::Unknown { what: WHAT, field: "type", value: kind })?;
        let flags = reader.u8().map_err(&malformed)?;
        let arguments = reader.table().map_err(&malformed)?.to_table();
        reader.finish().map_err(&malformed)?;
        Ok(Self {
            kind,
            auto_delete: flags & AUTO_DELETE != 0,
            internal: flags & INTERNAL != 0,
            arguments,
        })
    }
}

/// Numbers of the types: stored, never to be changed.
fn code(kind: ExchangeKind) -> u8 {
    match kind {
        ExchangeKind::Direct => 1,
        ExchangeKind::Fanout => 2,
        ExchangeKind::Topic => 3,
        ExchangeKind::Headers => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_table;
    use super::*;

    #[test]
    fn an_exchange_record_has_these_bytes() {
        let key = ExchangeKey {
            virtual_host: ShortStr::from_static("/"),
            name: ShortStr::from_static("logs"),
        };
        assert_eq!(key.encode(), b"X\x01/\x04logs");
        assert_eq!(ExchangeKey::decode(&key.encode()), Ok(key));
        let record = ExchangeRecord {
            kind: ExchangeKind::Topic,
            auto_delete: true,
            internal: true,
            arguments: sample_table(),
        };
        assert_eq!(record.encode(), b"\x01\x03\x03\0\0\0\x07\x01kI\0\0\0\x01");
        assert_eq!(ExchangeRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(matches!(
            ExchangeRecord::decode(b"\x02\x03\0\0\0\0\0"),
            Err(RecordError::Version { found: 2, .. })
        ));
        assert!(matches!(
            ExchangeRecord::decode(b"\x01\x09\0\0\0\0\0"),
            Err(RecordError::Unknown { value: 9, .. })
        ));
        assert!(matches!(ExchangeRecord::decode(b"\x01"), Err(RecordError::Malformed { .. })));
        assert!(ExchangeRecord::decode(b"\x01\x03\0\0\0\0\0x").is_err());
    }
}
