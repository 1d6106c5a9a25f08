//! Going through a segment from front to back, for [compaction](super): what is live in it is appended to the log anew.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Pace;
use crate::storage::disk::{DiskFile, read_exact_at};
use crate::storage::error::StoreError;
use crate::storage::index::{NotResident, Released};
use crate::storage::log::group::{GROUP_HEADER, GroupHeader};
use crate::storage::queue::QueueCore;
use crate::storage::record::{
    self, ChunkEntry, ChunkRecord, Directory, FRAME, Malformed, MessageRecord, MovedRecord,
    PageRef, Record, RecordKind, Reference, message_of,
};
use crate::storage::segment::{PAGE, Segment};
use crate::storage::store::Shared;
use crate::storage::units::{Lsn, QueueId, Sequence};

/// How much of a segment is read at a time, in bytes.
const STEP: u64 = 1 << 20;

/// How many chunks are kept in memory while segments are gone through.
const CHUNKS: usize = 64;

/// What the record of a chunk that is not in memory says of a place.
struct Read {
    page: PageRef,
    entry: Option<ChunkEntry>,
}

/// One pass over some segments.
pub(super) struct Sweep<'a> {
    shared: &'a Shared,
    /// Chunks that were read to see which of their messages are where.
    chunks: HashMap<(QueueId, Sequence), (PageRef, ChunkRecord)>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(shared: &'a Shared) -> Sweep<'a> {
        Sweep { shared, chunks: HashMap::new() }
    }

    /// Appends anew what is live in a segment; false: `pace` said to stop.
    pub(super) fn segment(
        &mut self,
        segment: &Segment,
        pace: Pace<'_>,
    ) -> Result<bool, StoreError> {
        let Some(file) = segment.file() else { return Ok(true) };
        let size = self.shared.segments.segment_size();
        let start = segment.id().start(size);
        let mut window = Window { file: &**file, size, start: 0, buffer: Vec::new() };
        let mut paced = 0;
        let mut at = PAGE;
        while segment.live.references() > 0
            && let Some(header) = window.group(segment, start, at)
        {
            let mut next = at + GROUP_HEADER as u64;
            let end = next + u64::from(header.length);
            while next < end {
                if next - paced >= STEP {
                    paced = next;
                    if !pace()? {
                        return Ok(false);
                    }
                    if let Some(lsn) = self.shared.log.congested() {
                        self.shared.log.wait(lsn)?;
                    }
                }
                let lsn = start.plus(next);
                // What is damaged stays where it is; the segment is not emptied then.
                let Some(record) = window.record(segment, lsn, next, end) else { break };
                next += record.size() as u64;
                self.record(lsn, &record)?;
            }
            at += header.span();
        }
        self.shared.compaction.count_segment();
        Ok(true)
    }

    fn record(&mut self, lsn: Lsn, record: &Record<'_>) -> Result<(), StoreError> {
        // A record that makes no sense is damage like any other.
        match record.kind {
            RecordKind::Message | RecordKind::Transient | RecordKind::Moved => {
                if let Ok(Some(message)) = message_of(record) {
                    // What ends with the process must say so in its new place as well: whoever looks for lost messages
                    // there would bring it back.
                    let transient = record.kind == RecordKind::Transient;
                    self.message(lsn, &message, transient)?;
                }
            }
            RecordKind::Chunk => {
                if let Ok(chunk) = ChunkRecord::decode(record.payload) {
                    let page = PageRef { lsn, length: record.size() as u32 };
                    self.chunk(page, &chunk)?;
                }
            }
            RecordKind::Directory => {
                let directory: Result<Directory, Malformed> = Directory::decode(record.payload);
                if let Ok(directory) = directory {
                    self.directory(lsn, &directory);
                }
            }
            RecordKind::QueuePage | RecordKind::MetadataPage => {
                self.shared.moving_pages.lock().insert(lsn);
            }
            // The next checkpoint writes another root in any case.
            RecordKind::Root
            | RecordKind::Acknowledge
            | RecordKind::Delivered
            | RecordKind::Topology
            | RecordKind::Opened => {}
        }
        Ok(())
    }

    fn message(
        &mut self,
        lsn: Lsn,
        message: &MessageRecord<'_>,
        transient: bool,
    ) -> Result<(), StoreError> {
        let cores: SmallVec<[(Reference, Arc<QueueCore>); 4]> = {
            let catalog = self.shared.catalog.lock();
            let references = message.references();
            references.filter_map(|r| Some((r, catalog.any_queue(r.queue)?))).collect()
        };
        // In ascending order, as the references are: the order in which everybody locks queues.
        debug_assert!(cores.is_sorted_by(|a, b| a.0.queue < b.0.queue), "each queue once");
        let mut read: SmallVec<[Option<Read>; 4]> = cores.iter().map(|_| None).collect();
        while let Err(missing) = self.move_message(lsn, message, transient, &cores, &read)? {
            // One queue at a time, and nothing but its place is kept: there may be many.
            for ((reference, core), read) in cores.iter().zip(&mut read).skip(missing) {
                *read = self.read_place(*reference, core)?;
            }
        }
        Ok(())
    }

    /// Reads where a message of a chunk that is not in memory is; `None`: the chunk is in memory, or cannot be read.
    fn read_place(
        &mut self,
        reference: Reference,
        core: &QueueCore,
    ) -> Result<Option<Read>, StoreError> {
        let Err(missing) = core.state.lock().index.find(reference.sequence) else {
            return Ok(None);
        };
        let known = self.chunk_read(core, missing).is_some();
        if !known {
            match self.shared.read_chunk(missing.page)? {
                Ok(record) => {
                    if self.chunks.len() >= CHUNKS {
                        self.chunks.clear();
                    }
                    self.chunks.insert((core.id(), missing.base), (missing.page, record));
                }
                Err(error) => {
                    let mut state = core.state.lock();
                    self.shared.set_chunk_aside(core, &mut state, missing, &error);
                    return Ok(None);
                }
            }
        }
        Ok(self.chunk_read(core, missing).map(|chunk| Read {
            page: missing.page,
            entry: chunk.entry(reference.sequence.since(missing.base) as u16),
        }))
    }

    /// A chunk's record, if it has been read.
    fn chunk_read(&self, core: &QueueCore, missing: NotResident) -> Option<&ChunkRecord> {
        let (page, chunk) = self.chunks.get(&(core.id(), missing.base))?;
        (*page == missing.page).then_some(chunk)
    }

    /// Appends a message anew for the queues that have it at `lsn`. The inner error: the record of this queue's chunk has to
    /// be `read` first.
    fn move_message(
        &mut self,
        lsn: Lsn,
        message: &MessageRecord<'_>,
        transient: bool,
        cores: &[(Reference, Arc<QueueCore>)],
        read: &[Option<Read>],
    ) -> Result<Result<(), usize>, StoreError> {
        let mut states: SmallVec<[_; 4]> =
            cores.iter().map(|(_, core)| core.state.lock()).collect();
        let mut from: Option<ChunkEntry> = None;
        let mut live: SmallVec<[usize; 4]> = SmallVec::new();
        for (at, ((reference, core), state)) in cores.iter().zip(&states).enumerate() {
            let found = match state.index.find(reference.sequence) {
                Ok(found) => found,
                Err(missing) => match (&read[at], self.chunk_read(core, missing)) {
                    (Some(read), _) if read.page == missing.page => read.entry,
                    (_, Some(chunk)) => chunk.entry(reference.sequence.since(missing.base) as u16),
                    _ => return Ok(Err(at)),
                },
            };
            if let Some(entry) = found.filter(|entry| entry.lsn == lsn) {
                from = Some(entry);
                live.push(at);
            }
        }
        let Some(from) = from else { return Ok(Ok(())) };
        let references: SmallVec<[Reference; 4]> = live.iter().map(|at| cores[*at].0).collect();
        let count = references.len();
        let (kind, size) = if transient {
            (RecordKind::Transient, message.encoded_size_for(&references))
        } else {
            (RecordKind::Moved, MovedRecord::encoded_size(message, &references))
        };
        let appended = self.shared.log.append(kind, size, count as u32, |buffer| {
            if transient {
                message.encode_for(buffer, &references);
            } else {
                MovedRecord::encode(buffer, from, message, &references);
            }
        });
        let placed = match appended {
            // It was the largest that can be, and this record has more to say. It stays.
            Err(StoreError::TooLarge { .. }) => return Ok(Ok(())),
            placed => placed?,
        };
        let sharers = u16::try_from(references.len()).unwrap_or(u16::MAX);
        let to = ChunkEntry { lsn: placed.lsn, length: placed.length, sharers };
        let mut released = Released::default();
        for at in live {
            let state = &mut states[at];
            state.index.relocate(cores[at].0.sequence, from, to, &mut released);
            state.changed |= cores[at].1.is_durable();
        }
        drop(states);
        self.shared.give_back(&released);
        self.shared.compaction.count_message(u64::from(placed.length));
        Ok(Ok(()))
    }

    fn chunk(&mut self, page: PageRef, chunk: &ChunkRecord) -> Result<(), StoreError> {
        let Some(core) = self.shared.catalog.lock().any_queue(chunk.queue) else { return Ok(()) };
        let missing = NotResident { base: chunk.base, page };
        let mut released = Released::default();
        let mut state = core.state.lock();
        if let Some((places, entries)) = state.index.rewritten(missing, chunk, &mut released) {
            let page = self.shared.save_chunk(core.id(), chunk.base, places, &entries)?;
            state.index.saved(chunk.base, page, &mut released);
            self.shared.compaction.count_bytes(u64::from(page.length));
        }
        state.changed |= core.is_durable() && !released.shares.is_empty();
        drop(state);
        self.shared.give_back(&released);
        Ok(())
    }

    fn directory(&self, lsn: Lsn, directory: &Directory) {
        let Some(core) = self.shared.catalog.lock().any_queue(directory.queue) else { return };
        let mut state = core.state.lock();
        if state.index.outdate_directory(directory.number, lsn) {
            state.changed = true;
        }
    }
}

/// A part of a segment in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    size: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl Window<'_> {
    /// So many bytes of the file.
    fn bytes(&mut self, at: u64, length: u64) -> Option<&[u8]> {
        let end = at.checked_add(length).filter(|end| *end <= self.size)?;
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            let read = length.max(STEP).min(self.size - at);
            self.buffer.resize(read as usize, 0);
            self.start = at;
            if let Err(error) = read_exact_at(self.file, &mut self.buffer, at) {
                tracing::warn!("cannot read a segment to compact it: {error}");
                self.buffer.clear();
                return None;
            }
        }
        self.buffer.get((at - self.start) as usize..(end - self.start) as usize)
    }

    fn group(&mut self, segment: &Segment, start: Lsn, at: u64) -> Option<GroupHeader> {
        let bytes = self.bytes(at, GROUP_HEADER as u64)?;
        let header = GroupHeader::decode(bytes, start.plus(at), segment.seed).ok()?;
        (at + header.span() <= self.size).then_some(header)
    }

    /// The record at `at`, which must not reach beyond `end`.
    fn record(&mut self, segment: &Segment, lsn: Lsn, at: u64, end: u64) -> Option<Record<'_>> {
        let frame = self.bytes(at, FRAME as u64)?;
        let payload = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let length = FRAME as u64 + u64::from(payload);
        let bytes = self.bytes(at, length).filter(|_| at + length <= end)?;
        record::open(bytes, lsn, segment.seed).ok()
    }
}
