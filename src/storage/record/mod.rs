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
pub(crate) mod structured;
mod topology;

pub(crate) use acknowledge::AcknowledgeRecord;
pub(crate) use checkpoint::{
    ChunkState, Directory, MetadataPage, PageRef, QueuePage, QueueState, Root, SegmentShare,
};
pub(crate) use chunk::{ChunkEntry, ChunkRecord};
pub(crate) use delivered::DeliveredRecord;
pub(crate) use frame::{FRAME, Record, RecordFault, RecordKind, open, seal};
pub(crate) use message::{
    MessageRecord, MovedRecord, Reference, encoded_size as message_size, message_of,
};
pub(crate) use topology::{StoredChange, TopologyRecord};

use thiserror::Error;

/// A record that passed its checksum and still makes no sense: written by a defect, or by a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the record is whole, but its content is not as this version writes it ({0})")]
pub(crate) struct Malformed(pub(crate) &'static str);
