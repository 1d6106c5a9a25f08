//! What is not in memory, and has to be read from the log.

use super::NotResident;
use crate::storage::units::{Lsn, Sequence, SequenceRange};

/// What has to be read from the log before messages from some place on can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    Chunk(NotResident),
    /// Messages, by their places.
    Messages(Vec<MissingMessage>),
}

/// A message that is in the log, and not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MissingMessage {
    pub(crate) sequence: Sequence,
    /// Its record.
    pub(crate) lsn: Lsn,
    /// Bytes of the whole record.
    pub(crate) length: u32,
    /// How many queues share the record.
    pub(crate) sharers: u16,
}

/// A record that is shared by so many queues or more is read, and its message kept in memory, once for all of them.
const MANY: u16 = 8;

impl MissingMessage {
    /// Whether many queues share the record.
    pub(crate) fn is_of_many(&self) -> bool {
        self.sharers >= MANY
    }

    /// The LSN behind the record.
    pub(crate) fn end(&self) -> Lsn {
        self.lsn.plus(u64::from(self.length))
    }
}

impl Missing {
    /// From the first to the last of the messages.
    pub(crate) fn range(&self) -> Option<SequenceRange> {
        let Missing::Messages(messages) = self else { return None };
        let (first, last) = messages.first().zip(messages.last())?;
        SequenceRange::new(first.sequence, last.sequence)
    }
}
