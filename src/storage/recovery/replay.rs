//! The meaning of the log's records: what each of them does to the state.
//!
//! The state may have seen a record already, because a checkpoint is not of one moment: so each of them means the same
//! applied twice.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::walk::ApplyError;
use crate::storage::catalog::Catalog;
use crate::storage::index::{Entry, QueueIndex, Released};
use crate::storage::queue::QueueCore;
use crate::storage::reader;
use crate::storage::record::{
    AcknowledgeRecord, ChunkEntry, ChunkRecord, DeliveredRecord, Malformed, MessageRecord,
    MovedRecord, PageRef, Part, RecordKind, Reference, StoredChange, TopologyRecord,
};
use crate::storage::segment::SegmentSet;
use crate::storage::units::{Lsn, QueueId, SegmentId, Sequence};

/// What a record says.
#[derive(Debug)]
pub(super) enum Meaning<'a> {
    Message(MessageRecord<'a>),
    Acknowledge(AcknowledgeRecord<'a>),
    Delivered(DeliveredRecord<'a>),
    Topology(TopologyRecord),
    Moved(MovedRecord<'a>),
    /// Nothing to the state: what is transient ends with the process; parts of checkpoints count only where a root points
    /// to them.
    Nothing,
}

impl<'a> Meaning<'a> {
    /// Of a message the front may do; everything else has to be whole.
    pub(super) fn of(part: &Part<'a>) -> Result<Meaning<'a>, Malformed> {
        let Part { kind, payload, missing } = *part;
        Ok(match kind {
            RecordKind::Message => Meaning::Message(MessageRecord::decode_front(payload, missing)?),
            RecordKind::Moved => Meaning::Moved(MovedRecord::decode_front(payload, missing)?),
            RecordKind::Acknowledge | RecordKind::Delivered | RecordKind::Topology
                if missing > 0 =>
            {
                return Err(Malformed("ends too early"));
            }
            RecordKind::Acknowledge => Meaning::Acknowledge(AcknowledgeRecord::decode(payload)?),
            RecordKind::Delivered => Meaning::Delivered(DeliveredRecord::decode(payload)?),
            RecordKind::Topology => Meaning::Topology(TopologyRecord::decode(payload)?),
            RecordKind::Opened
            | RecordKind::Transient
            | RecordKind::Directory
            | RecordKind::Chunk
            | RecordKind::QueuePage
            | RecordKind::MetadataPage
            | RecordKind::Root => Meaning::Nothing,
        })
    }
}

/// Applies records.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    segments: &'a SegmentSet,
    catalog: Catalog,
    /// An earlier move of the message may be lost, so that it is not known to have been where the next move says.
    moves_missing: bool,
    /// The list of messages that was read last: compaction moves messages in the order of their places.
    last_chunk: RefCell<Option<(PageRef, ChunkRecord)>>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(segments: &'a SegmentSet, catalog: Catalog) -> Replay<'a> {
        Replay { segments, catalog, moves_missing: false, last_chunk: RefCell::default() }
    }

    /// Applies moves from now on to where the index has the message, which may have to be read, and not to where they say that
    /// it was.
    pub(super) fn expect_missing_moves(&mut self) {
        self.moves_missing = true;
    }

    /// The place that the next message of a queue gets.
    pub(super) fn next_of(&self, queue: QueueId) -> Option<Sequence> {
        self.catalog.queue(queue).map(|queue| queue.state.lock().index.next())
    }

    /// Whether a place holds a live message.
    pub(super) fn is_live(&self, reference: Reference) -> bool {
        let queue = self.catalog.queue(reference.queue);
        queue.is_some_and(|queue| queue.state.lock().index.is_live(reference.sequence))
    }

    /// Puts a message into a place that nothing was found for so far.
    pub(super) fn bring_back(&self, reference: Reference, entry: ChunkEntry) {
        let Some(queue) = self.catalog.queue(reference.queue) else { return };
        let mut state = queue.state.lock();
        if state.index.bring_back(reference.sequence, entry) {
            state.changed = true;
            let segment = SegmentId::holding(entry.lsn, self.segments.segment_size());
            self.segments.add(segment, 1, entry.share());
        }
    }

    pub(super) fn finish(self) -> Catalog {
        self.catalog
    }

    pub(super) fn apply(&mut self, lsn: Lsn, record: &Part<'_>) -> Result<(), ApplyError> {
        let meaning =
            Meaning::of(record).map_err(|malformed| ApplyError::Malformed(lsn, malformed))?;
        let length = record.size() as u32;
        match meaning {
            Meaning::Message(message) => self.message(lsn, length, &message),
            Meaning::Acknowledge(acknowledged) => self.acknowledge(&acknowledged),
            Meaning::Delivered(delivered) => self.delivered(&delivered),
            Meaning::Topology(topology) => {
                topology.changes.into_iter().for_each(|change| self.topology(change));
            }
            Meaning::Moved(moved) => self.moved(lsn, length, &moved),
            Meaning::Nothing => {}
        }
        Ok(())
    }

    fn message(&self, lsn: Lsn, length: u32, message: &MessageRecord<'_>) {
        let references = message.references();
        let sharers = u16::try_from(references.len()).unwrap_or(u16::MAX);
        for reference in references {
            let Some(queue) = self.catalog.queue(reference.queue) else { continue };
            let entry = Entry::at(ChunkEntry { lsn, length, sharers });
            let share = entry.share();
            let mut state = queue.state.lock();
            if state.index.replay(reference.sequence, entry) {
                state.changed = true;
                let segment = SegmentId::holding(lsn, self.segments.segment_size());
                self.segments.add(segment, 1, share);
            }
        }
    }

    fn moved(&self, lsn: Lsn, length: u32, moved: &MovedRecord<'_>) {
        let references = moved.message.references();
        let sharers = u16::try_from(references.len()).unwrap_or(u16::MAX);
        let to = ChunkEntry { lsn, length, sharers };
        for reference in references {
            let Some(queue) = self.catalog.queue(reference.queue) else { continue };
            let mut released = Released::default();
            let mut state = queue.state.lock();
            let place = reference.sequence;
            let found = if self.moves_missing { self.find(&state.index, place) } else { None };
            let from = found.unwrap_or(moved.from);
            if state.index.replay_relocation(place, from, to, &mut released) {
                state.changed = true;
                let segment = SegmentId::holding(lsn, self.segments.segment_size());
                self.segments.add(segment, 1, to.share());
                self.give_back(&released);
            }
        }
    }

    /// The record that the index has for a place, if that can be read.
    fn find(&self, index: &QueueIndex, place: Sequence) -> Option<ChunkEntry> {
        match index.find(place) {
            Ok(found) => found,
            Err(missing) => {
                let mut last = self.last_chunk.borrow_mut();
                if last.as_ref().is_none_or(|(page, _)| *page != missing.page) {
                    let chunk = reader::read_chunk(self.segments, missing.page).ok()?;
                    *last = Some((missing.page, chunk));
                }
                last.as_ref()?.1.entry(place.since(missing.base) as u16)
            }
        }
    }

    fn acknowledge(&self, acknowledged: &AcknowledgeRecord<'_>) {
        let Some(queue) = self.catalog.queue(acknowledged.queue) else { return };
        let mut state = queue.state.lock();
        let mut released = Released::default();
        for range in acknowledged.ranges() {
            state.index.acknowledge(range, &mut released);
        }
        state.changed |= released.messages > 0;
        self.give_back(&released);
    }

    fn delivered(&self, delivered: &DeliveredRecord<'_>) {
        let Some(queue) = self.catalog.queue(delivered.queue) else { return };
        let mut state = queue.state.lock();
        let end = state.index.next().get();
        for range in delivered.ranges() {
            for place in range.range.first.get()..end.min(range.range.last.get().saturating_add(1))
            {
                state.index.set_deliveries(Sequence::new(place), range.deliveries);
            }
        }
        state.changed = true;
    }

    fn topology(&mut self, change: StoredChange) {
        match change {
            StoredChange::CreateQueue { id, attributes } => {
                let index = QueueIndex::new(self.segments.segment_size());
                let queue = QueueCore::new(id, attributes.into(), index);
                self.catalog.insert_queue(Arc::new(queue));
            }
            StoredChange::DeleteQueue { id } => {
                if let Some(queue) = self.catalog.remove_queue(id) {
                    let mut released = Released::default();
                    queue.state.lock().index.clear(&mut released);
                    self.give_back(&released);
                }
            }
            StoredChange::Put { key, value } => {
                self.catalog.put(Bytes::from(key), Bytes::from(value));
            }
            StoredChange::Remove { key } => self.catalog.remove(&key),
        }
    }

    fn give_back(&self, released: &Released) {
        for share in &released.shares {
            self.segments.remove_live(share.segment, share.references, share.bytes);
        }
    }
}
