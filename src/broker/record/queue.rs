//! A durable queue: the attributes of the engine's queue.
//!
//! ```text
//! version       u8   1
//! flags         u8   bit 0 auto-delete
//! virtual host  short str
//! name          short str
//! arguments     field table
//! ```

use super::{RecordError, check_version, name, put_name};
use crate::message::{FieldTable, Reader, ShortStr};

const WHAT: &str = "queue";
const VERSION: u8 = 1;
const AUTO_DELETE: u8 = 1;

/// What is stored of a queue, apart from its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct QueueRecord {
    pub(in crate::broker) virtual_host: ShortStr,
    pub(in crate::broker) name: ShortStr,
    pub(in crate::broker) auto_delete: bool,
    pub(in crate::broker) arguments: FieldTable,
}

impl QueueRecord {
    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, if self.auto_delete { AUTO_DELETE } else { 0 }];
        put_name(&mut out, &self.virtual_host);
        put_name(&mut out, &self.name);
        self.arguments.encode(&mut out);
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(attributes: &[u8]) -> Result<Self, RecordError> {
        let malformed = RecordError::malformed(WHAT);
        let mut reader = Reader::new(attributes);
        check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
        let mut read = || {
            let flags = reader.u8()?;
            let record = Self {
                virtual_host: name(&mut reader)?,
                name: name(&mut reader)?,
                auto_delete: flags & AUTO_DELETE != 0,
                arguments: reader.table()?.to_table(),
            };
            reader.finish()?;
            Ok(record)
        };
        read().map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_table;
    use super::*;

    #[test]
    fn a_queue_record_has_these_bytes() {
        let record = QueueRecord {
            virtual_host: ShortStr::from_static("/"),
            name: ShortStr::from_static("task_queue"),
            auto_delete: true,
            arguments: sample_table(),
        };
        assert_eq!(record.encode(), b"\x01\x01\x01/\x0atask_queue\0\0\0\x07\x01kI\0\0\0\x01");
        assert_eq!(QueueRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        assert!(matches!(
            QueueRecord::decode(b"\x07\0\x01/\x01q\0\0\0\0"),
            Err(RecordError::Version { found: 7, .. })
        ));
        assert!(QueueRecord::decode(b"\x01\0\x01/\x09q\0\0\0\0").is_err());
        assert!(QueueRecord::decode(b"").is_err());
    }
}
