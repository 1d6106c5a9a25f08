//! What a durable queue has to know after a restart besides how it was declared: an entry of the store's metadata, for the few
//! queues that have anything to know.
//!
//! ```text
//! key    b'N'                 value  version  u8   1
//!        queue  u64                  flags    u8   bit 0: has had messages that expire by themselves
//!                                    used     u64  when the queue was last in use, in milliseconds of Unix time; 0: not told
//! ```
//! Numbers are big-endian.

use super::{RecordError, check_version};
use crate::message::Reader;
use crate::storage::{QueueId, Timestamp};

const WHAT: &str = "queue note";
const VERSION: u8 = 1;
const TIMED: u8 = 1;

/// What is noted of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::broker) struct QueueNote {
    /// There may be messages in it with an expiration of their own.
    pub(in crate::broker) timed: bool,
    /// When it was last in use.
    pub(in crate::broker) used_at: Option<Timestamp>,
}

impl QueueNote {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'N';

    /// Where the note of a queue is.
    pub(in crate::broker) fn key(queue: QueueId) -> Vec<u8> {
        let mut key = vec![Self::PREFIX];
        key.extend_from_slice(&queue.get().to_be_bytes());
        key
    }

    /// The number of the queue that a note with that key is of.
    pub(in crate::broker) fn queue(key: &[u8]) -> Result<u64, RecordError> {
        let mut reader = Reader::new(key);
        let mut read = || {
            reader.u8()?;
            let queue = reader.u64()?;
            reader.finish()?;
            Ok(queue)
        };
        read().map_err(RecordError::malformed(WHAT))
    }

    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, if self.timed { TIMED } else { 0 }];
        let used_at = self.used_at.map_or(0, Timestamp::unix_millis);
        out.extend_from_slice(&used_at.to_be_bytes());
        out
    }

    /// Reads the stored form.
    pub(in crate::broker) fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let malformed = RecordError::malformed(WHAT);
        let mut reader = Reader::new(value);
        check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
        let mut read = || {
            let (flags, used_at) = (reader.u8()?, reader.u64()?);
            reader.finish()?;
            let used_at = (used_at > 0).then(|| Timestamp::from_unix_millis(used_at));
            Ok(Self { timed: flags & TIMED != 0, used_at })
        };
        read().map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_these_bytes() {
        let used_at = Some(Timestamp::from_unix_millis(0x0102_0304_0506_0708));
        let note = QueueNote { timed: true, used_at };
        assert_eq!(note.encode(), b"\x01\x01\x01\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!(QueueNote::default().encode(), b"\x01\0\0\0\0\0\0\0\0\0");
        for note in [note, QueueNote::default()] {
            assert_eq!(QueueNote::decode(&note.encode()), Ok(note));
        }
        let key = b"N\0\0\0\0\0\0\x01\x02";
        assert_eq!(QueueNote::queue(key), Ok(0x0102));
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        let newer = QueueNote::decode(b"\x02\0\0\0\0\0\0\0\0\0");
        assert!(matches!(newer, Err(RecordError::Version { found: 2, .. })));
        assert!(QueueNote::decode(b"\x01\0").is_err());
        assert!(QueueNote::decode(b"").is_err());
        assert!(QueueNote::queue(b"N\0").is_err());
    }
}
