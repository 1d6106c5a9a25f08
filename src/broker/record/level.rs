//! A level of a durable queue with priorities, apart from that of priority 0: the attributes of the engine's queue.
//!
//! ```text
//! kind          u8   'l': it tells this record from that of a queue, which begins with its version
//! version       u8   1
//! priority      u8   which messages it holds; not 0
//! queue         u64  big-endian: number of the engine's queue that holds the messages of priority 0, and the queue's record
//! virtual host  short str
//! name          short str, the queue's, as is its virtual host: for whoever looks at this one alone
//! ```

use super::{RecordError, check_version, name, put_name};
use crate::message::{Reader, ShortStr};
use crate::storage::QueueId;

const WHAT: &str = "queue level";
const VERSION: u8 = 1;

/// What the record begins with.
pub(super) const KIND: u8 = b'l';

/// What is stored of a level, apart from its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct LevelRecord {
    pub(in crate::broker) priority: u8,
    /// The level with the queue's record.
    pub(in crate::broker) base: QueueId,
    pub(in crate::broker) virtual_host: ShortStr,
    pub(in crate::broker) name: ShortStr,
}

impl LevelRecord {
    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![KIND, VERSION, self.priority];
        out.extend_from_slice(&self.base.get().to_be_bytes());
        put_name(&mut out, &self.virtual_host);
        put_name(&mut out, &self.name);
        out
    }

    /// Reads the stored form, of which the kind has been looked at.
    pub(super) fn decode(attributes: &[u8]) -> Result<Self, RecordError> {
        let malformed = RecordError::malformed(WHAT);
        let mut reader = Reader::new(attributes);
        reader.u8().map_err(&malformed)?;
        check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
        let mut read = || {
            let record = Self {
                priority: reader.u8()?,
                base: QueueId::new(reader.u64()?),
                virtual_host: name(&mut reader)?,
                name: name(&mut reader)?,
            };
            reader.finish()?;
            Ok(record)
        };
        read().map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_record_has_these_bytes() {
        let record = LevelRecord {
            priority: 9,
            base: QueueId::new(300),
            virtual_host: ShortStr::from_static("/"),
            name: ShortStr::from_static("tasks"),
        };
        assert_eq!(record.encode(), b"l\x01\x09\0\0\0\0\0\0\x01\x2c\x01/\x05tasks");
        assert_eq!(LevelRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        assert!(matches!(
            LevelRecord::decode(b"l\x02\x09\0\0\0\0\0\0\x01\x2c\x01/\x05tasks"),
            Err(RecordError::Version { found: 2, .. })
        ));
        assert!(LevelRecord::decode(b"l\x01\x09\0\0\0\0\0\0\x01\x2c\x01/\x06tasks").is_err());
        assert!(LevelRecord::decode(b"l\x01\x09\0\0\0\0\0\0\x01\x2c\x01/\x05tasks!").is_err());
    }
}
