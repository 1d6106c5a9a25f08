//! The index of a queue: which of its messages are live, and where each of them is.
//!
//! Places are kept in [chunks](chunk::Chunk) of 2,048. A full chunk does not change any more but for what is gone from
//! it; its record in the log is then all that memory need not hold. What lives here: chunks and the operations on
//! them. It may use records for their layout; it must never read or write the log, nor know of other queues.

mod chunk;
mod places;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use self::chunk::{Chunk, Entry, PLACES};
use super::message::Message;
use super::record::{ChunkEntry, ChunkRecord, ChunkState, PageRef, SegmentShare};
use super::units::{Lsn, SegmentId, Sequence, SequenceRange};

/// The index of one queue.
#[derive(Debug)]
pub(crate) struct QueueIndex {
    /// To tell which segment a record is in.
    segment_size: u64,
    chunks: BTreeMap<Sequence, Chunk>,
    next: Sequence,
    live: u64,
    bytes: u64,
}

/// What is not needed any more after an operation: for the caller to give back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    /// Parts of segments, neighbours of one segment added up.
    pub(crate) shares: Vec<SegmentShare>,
    /// Bytes of cached messages.
    pub(crate) cached: u64,
    /// How many messages went.
    pub(crate) messages: u64,
}

impl Released {
    fn entry(&mut self, entry: &Entry, segment_size: u64) {
        self.cached += entry.cached();
        if entry.is_durable() {
            self.segment(SegmentId::holding(entry.lsn, segment_size), 1, entry.share());
        }
    }

    fn segment(&mut self, segment: SegmentId, references: u32, bytes: u64) {
        match self.shares.last_mut() {
            Some(share) if share.segment == segment => {
                share.references += references;
                share.bytes += bytes;
            }
            _ => self.shares.push(SegmentShare { segment, references, bytes }),
        }
    }
}

/// A chunk whose places are only in the log: it has to be [installed](QueueIndex::install_chunk) first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotResident {
    pub(crate) base: Sequence,
    pub(crate) page: PageRef,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) sequence: Sequence,
    pub(crate) message: Arc<Message>,
    pub(crate) deliveries: u16,
    /// Its bytes in the cache, if it left it.
    pub(crate) uncached: u64,
}

/// What has to be read from the log before messages from some place on can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    Chunk(NotResident),
    /// The places, LSNs and record lengths of messages.
    Messages(Vec<(Sequence, Lsn, u32)>),
}

impl QueueIndex {
    /// The index of a new queue.
    pub(crate) fn new(segment_size: u64) -> QueueIndex {
        QueueIndex {
            segment_size,
            chunks: BTreeMap::new(),
            next: Sequence::FIRST,
            live: 0,
            bytes: 0,
        }
    }

    /// An index as a checkpoint has it.
    pub(crate) fn restore(
        next: Sequence,
        chunks: Vec<ChunkState>,
        segment_size: u64,
    ) -> QueueIndex {
        let mut index = QueueIndex { next, ..QueueIndex::new(segment_size) };
        for state in chunks {
            let chunk = Chunk::restore(state);
            index.live += u64::from(chunk.live());
            index.bytes += chunk.bytes();
            index.chunks.insert(chunk.base(), chunk);
        }
        index
    }

    /// The place that the next message gets.
    pub(crate) fn next(&self) -> Sequence {
        self.next
    }

    /// Live messages.
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    /// The live messages' share of the log (or of memory), in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a message at the end.
    pub(crate) fn push(&mut self, entry: Entry) -> Sequence {
        let sequence = self.next;
        self.live += 1;
        self.bytes += entry.share();
        let tail = self.chunks.last_entry().filter(|tail| tail.get().accepts(sequence));
        match tail {
            Some(mut tail) => tail.get_mut().push(entry),
            None => {
                let mut chunk = Chunk::new(sequence);
                chunk.push(entry);
                self.chunks.insert(sequence, chunk);
            }
        }
        self.next = sequence.next();
        sequence
    }

    /// Adds a message in the place that it had, as the log says; false: that place is taken or gone already.
    pub(crate) fn replay(&mut self, sequence: Sequence, entry: Entry) -> bool {
        if sequence < self.next {
            return false;
        }
        // Places in between belonged to transient messages. A few are filled up, many begin a new chunk.
        let gap = sequence.0 - self.next.0;
        match self.chunks.last_entry().filter(|tail| tail.get().accepts(self.next)) {
            Some(mut tail) if gap + u64::from(tail.get().places()) < u64::from(PLACES) => {
                (0..gap).for_each(|_| tail.get_mut().push_gone());
            }
            _ => {
                if gap > 0 || !self.chunks.is_empty() {
                    self.chunks.insert(sequence, Chunk::new(sequence));
                }
            }
        }
        self.next = sequence;
        self.push(entry);
        true
    }

    /// A chunk that has to be [installed](Self::install_chunk) before `range` can be acknowledged, if there is one.
    pub(crate) fn cut_by(&self, range: SequenceRange) -> Option<NotResident> {
        let from = self.chunk_at(range.first).unwrap_or(range.first);
        if from > range.last {
            return None;
        }
        self.chunks.range(from..=range.last).find_map(|(_, chunk)| chunk.cut_by(range))
    }

    /// Marks places as gone; those that are gone already, or were never taken, are passed over. No chunk may be
    /// [cut](Self::cut_by) by the range, unless it was set aside: that keeps what it has.
    pub(crate) fn acknowledge(&mut self, range: SequenceRange, released: &mut Released) {
        let mut from = self.chunk_at(range.first).unwrap_or(range.first);
        while from <= range.last
            && let Some((&base, chunk)) = self.chunks.range_mut(from..=range.last).next()
        {
            let bytes = chunk.bytes();
            let went = u64::from(chunk.acknowledge(range, self.segment_size, released));
            self.bytes -= bytes - chunk.bytes();
            self.live -= went;
            released.messages += went;
            if chunk.live() == 0 && chunk.is_full() {
                chunk.release_page(self.segment_size, released);
                self.chunks.remove(&base);
            }
            from = base.next();
        }
    }

    /// Lets go of everything, for a queue that is deleted.
    pub(crate) fn clear(&mut self, released: &mut Released) {
        for chunk in self.chunks.values_mut() {
            released.messages += u64::from(chunk.release_all(self.segment_size, released));
            chunk.release_page(self.segment_size, released);
        }
        self.chunks.clear();
        self.bytes = 0;
        self.live = 0;
    }

    /// Notes how often a message has been handed out.
    pub(crate) fn set_deliveries(&mut self, sequence: Sequence, deliveries: u16) {
        if let Some(chunk) = self.chunk_of_mut(sequence) {
            chunk.set_deliveries(sequence, deliveries);
        }
    }

    /// Live messages from `from` on, `limit` at most. True: all that there are, up to the limit. False: the next one
    /// is not in memory.
    pub(crate) fn fetch(
        &mut self,
        from: Sequence,
        limit: usize,
        mut found: impl FnMut(Found),
    ) -> bool {
        let mut left = limit;
        let start = self.chunk_at(from).unwrap_or(from);
        for chunk in self.chunks.range_mut(start..).map(|(_, chunk)| chunk) {
            if left == 0 {
                return true;
            }
            if !chunk.fetch(from, &mut left, &mut found) {
                return false;
            }
        }
        true
    }

    /// What is missing for a fetch from `from` on: at most so many messages or bytes of one chunk, but one at least.
    pub(crate) fn missing(&self, from: Sequence, messages: usize, bytes: u64) -> Missing {
        let start = self.chunk_at(from).unwrap_or(from);
        for chunk in self.chunks.range(start..).map(|(_, chunk)| chunk) {
            match chunk.missing(from, messages, bytes) {
                Missing::Nothing => {}
                missing => return missing,
            }
        }
        Missing::Nothing
    }

    /// Gives a chunk its places, as read from its record.
    pub(crate) fn install_chunk(&mut self, record: ChunkRecord) {
        if let Some(chunk) = self.chunks.get_mut(&record.base) {
            chunk.install(record.entries);
        }
    }

    /// Sets all messages of a chunk aside whose record cannot be read, if it is still needed; gives their number.
    pub(crate) fn set_chunk_aside(&mut self, missing: NotResident) -> u32 {
        let chunk = self.chunks.get_mut(&missing.base);
        chunk.map_or(0, |chunk| chunk.set_chunk_aside(missing.page))
    }

    /// Gives a message to its place, if it is still live and still at `lsn`; false: it is not.
    pub(crate) fn install_message(
        &mut self,
        sequence: Sequence,
        lsn: Lsn,
        message: Arc<Message>,
    ) -> bool {
        self.chunk_of_mut(sequence)
            .is_some_and(|chunk| chunk.install_message(sequence, lsn, message))
    }

    /// Sets a message aside that cannot be read, if it is still live and still at `lsn`; false: it is not.
    pub(crate) fn set_aside(&mut self, sequence: Sequence, lsn: Lsn) -> bool {
        self.chunk_of_mut(sequence).is_some_and(|chunk| chunk.set_aside(sequence, lsn))
    }

    /// Chunks whose places are only in the log, with all of them installed nothing is missing.
    pub(crate) fn not_resident(&self) -> Vec<NotResident> {
        self.chunks.values().filter_map(Chunk::not_resident).collect()
    }

    /// The places of the live messages of the chunk that begins at `base`, resident or not.
    pub(crate) fn live_places(&self, base: Sequence) -> Vec<Sequence> {
        self.chunks.get(&base).map(Chunk::live_places).unwrap_or_default()
    }

    /// Every live durable message: place, LSN, record length. Chunks that are not resident are left out.
    pub(crate) fn durable_messages(&self) -> impl Iterator<Item = (Sequence, Lsn, u32)> {
        self.chunks.values().flat_map(Chunk::durable_messages)
    }

    /// The state for a checkpoint. `save` writes the record of a chunk whose places are not in the log yet, and says
    /// where it is; records that are superseded are released.
    pub(crate) fn snapshot<E>(
        &mut self,
        released: &mut Released,
        mut save: impl FnMut(
            Sequence,
            &mut dyn ExactSizeIterator<Item = Option<ChunkEntry>>,
        ) -> Result<PageRef, E>,
    ) -> Result<Vec<ChunkState>, E> {
        if self.live == 0 {
            // An idle queue keeps no chunk; the next message begins a new one.
            self.clear(released);
        }
        let mut states = Vec::with_capacity(self.chunks.len());
        for chunk in self.chunks.values_mut() {
            states.extend(chunk.snapshot(self.segment_size, released, &mut save)?);
        }
        Ok(states)
    }

    /// The base of the last chunk that begins at or before `sequence`.
    fn chunk_at(&self, sequence: Sequence) -> Option<Sequence> {
        self.chunks.range(..=sequence).next_back().map(|(&base, _)| base)
    }

    fn chunk_of_mut(&mut self, sequence: Sequence) -> Option<&mut Chunk> {
        self.chunks.range_mut(..=sequence).next_back().map(|(_, chunk)| chunk)
    }
}
