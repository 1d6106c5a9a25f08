//! Records: what the log is made of.
//!
//! What lives here: the frame around every record, and one file for each kind of record with its layout, its encoder
//! and its decoder. It may use the units and the checksums; it must never know where records come from or what
//! becomes of them. Hot records are laid out by hand, little-endian; the rare ones go through [`structured`].

mod acknowledge;
mod checkpoint;
mod chunk;
mod cursor;
mod delivered;
mod frame;
mod message;
mod search;
pub(crate) mod structured;
mod topology;

pub(crate) use acknowledge::AcknowledgeRecord;
pub(crate) use checkpoint::{
    ChunkState, Directory, MetadataPage, PageRef, QueuePage, QueueState, Root, SegmentShare,
};
pub(crate) use checkpoint::{ENTRIES_PER_PAGE, QUEUES_PER_PAGE, check_chunks};
pub(crate) use chunk::{ChunkEntry, ChunkRecord};
pub(crate) use delivered::DeliveredRecord;
pub(crate) use frame::{
    FRAME, Part, Record, RecordCheck, RecordFault, RecordKind, announced_size, open,
    plausible_within, seal,
};
pub(crate) use message::{
    MessageContent, MessageRecord, MovedRecord, Reference, content_of,
    encoded_size as message_size, message_at_front, message_of,
};
pub(crate) use search::Search;
pub(crate) use topology::{StoredChange, TopologyRecord};

use thiserror::Error;

use super::units::QueueId;

/// A record that passed its checksum and still makes no sense: written by a defect, or by a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the record is whole, but its content is not as this version writes it ({0})")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Whether these can be the numbers of durable queues.
fn check_queues(ids: impl IntoIterator<Item = QueueId>) -> Result<(), Malformed> {
    if ids.into_iter().all(|id| id < QueueId::FIRST_VOLATILE) {
        Ok(())
    } else {
        Err(Malformed("a number that no durable queue has"))
    }
}
