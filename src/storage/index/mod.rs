//! The index of a queue: which of its messages are live, and where each of them is.
//!
//! Places are kept in [chunks](chunk::Chunk) of 2,048. A full chunk does not change any more but for what is gone from
//! it, and where compaction moves it; its record in the log is then all that memory need not hold. What lives here:
//! chunks and the operations on them. It may use records for their layout; it must never read or write the log, nor
//! know of other queues.

mod chunk;
mod in_log;
mod mend;
mod messages;
mod missing;
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

pub(crate) use self::chunk::Entry;
use self::chunk::{Chunk, PLACES};
pub(crate) use self::missing::{Missing, MissingMessage};
pub(crate) use self::places::Places;
use super::message::Message;
use super::mutant::{Mutant, is_active};
use super::record::{ChunkEntry, ChunkRecord, ChunkState, PageRef, SegmentShare};
use super::units::{Lsn, SegmentId, Sequence, SequenceRange};

/// A queue of no more chunks than this has them in its own state; more are in directories.
const INLINE_CHUNKS: usize = 8;

/// So many chunks at the front of a queue stay in memory, when others have to leave it.
const FRONT_CHUNKS: usize = 2;

/// The index of one queue.
#[derive(Debug)]
pub(crate) struct QueueIndex {
    /// To tell which segment a record is in.
    segment_size: u64,
    chunks: BTreeMap<Sequence, Chunk>,
    next: Sequence,
    live: u64,
    bytes: u64,
    /// Where the last checkpoint has the chunks, by the number of the directory.
    directories: BTreeMap<u64, PageRef>,
    /// Directories to be written anew although no chunk of theirs says so.
    outdated: BTreeSet<u64>,
    /// How many places a new chunk takes.
    chunk_places: u32,
}

/// So many places of a queue belong to one directory: that of the chunk which they are in, as its first place says.
pub(crate) const DIRECTORY_PLACES: u64 = 1 << 17;

/// The directory that a chunk is in.
pub(crate) fn directory_of(base: Sequence) -> u64 {
    base.0 / DIRECTORY_PLACES
}

/// What is not needed any more after an operation: for the caller to give back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    /// Parts of segments, neighbours of one segment added up.
    pub(crate) shares: Vec<SegmentShare>,
    /// Bytes of the memory budget.
    pub(crate) cached: u64,
    /// Places of the index that left memory (or, below zero, came into it).
    pub(crate) places: i64,
    /// How many messages went.
    pub(crate) messages: u64,
    /// How many of these a restart would bring back if the log did not say that they went.
    pub(crate) stored: u64,
}

impl Released {
    fn entry(&mut self, entry: &Entry, segment_size: u64) {
        if entry.is_in_log() {
            self.segment(SegmentId::holding(entry.lsn, segment_size), 1, entry.share());
        }
        self.stored += u64::from(entry.survives());
    }

    fn page(&mut self, page: PageRef, segment_size: u64) {
        self.segment(SegmentId::holding(page.lsn, segment_size), 1, u64::from(page.length));
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

    /// The shares, each segment once, in no more memory than they need.
    fn merged(&mut self) -> Vec<SegmentShare> {
        let mut merged: BTreeMap<SegmentId, (u32, u64)> = BTreeMap::new();
        for share in self.shares.drain(..) {
            let sum = merged.entry(share.segment).or_default();
            *sum = (sum.0 + share.references, sum.1 + share.bytes);
        }
        let shares = merged.into_iter();
        shares
            .map(|(segment, (references, bytes))| SegmentShare { segment, references, bytes })
            .collect()
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
    pub(crate) message: Message,
    pub(crate) deliveries: u16,
    /// Its bytes in the cache, if it left it.
    pub(crate) uncached: u64,
}

/// What adding a message has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// Places that were taken up in memory, as they are counted: in steps.
    pub(crate) places: u32,
    /// The chunk takes no more.
    pub(crate) full: bool,
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
            directories: BTreeMap::new(),
            outdated: BTreeSet::new(),
            chunk_places: PLACES,
        }
    }

    /// Has chunks that begin from now on take so many places.
    pub(crate) fn set_chunk_places(&mut self, places: u32) {
        self.chunk_places = places;
    }

    /// An index as a checkpoint has it.
    pub(crate) fn restore(
        next: Sequence,
        chunks: Vec<ChunkState>,
        directories: Vec<(u64, PageRef)>,
        segment_size: u64,
    ) -> QueueIndex {
        let directories = directories.into_iter().collect();
        let mut index = QueueIndex { next, directories, ..QueueIndex::new(segment_size) };
        for state in chunks {
            let chunk = Chunk::restore(state);
            // The parts of a checkpoint are not of one moment: a chunk may have grown since the queue was looked at.
            index.next = index.next.max(Sequence(chunk.base().0 + u64::from(chunk.places())));
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

    /// Places in memory, as they are counted.
    pub(crate) fn resident(&self) -> u64 {
        self.chunks.values().map(|chunk| u64::from(chunk.resident())).sum()
    }

    /// Adds a message at the end, which may be in memory as well.
    pub(crate) fn push(&mut self, entry: Entry, message: Option<Message>) -> Pushed {
        let sequence = self.next;
        self.live += 1;
        self.bytes += entry.share();
        let tail = self.chunks.last_entry().filter(|tail| tail.get().accepts(sequence));
        let pushed = match tail {
            Some(mut tail) => {
                let chunk = tail.get_mut();
                let before = chunk.resident();
                chunk.push(entry, message);
                Pushed { places: chunk.resident() - before, full: chunk.is_full() }
            }
            None => {
                let mut chunk = Chunk::new(sequence, self.chunk_places);
                chunk.push(entry, message);
                let places = chunk.resident();
                self.chunks.insert(sequence, chunk);
                Pushed { places, full: false }
            }
        };
        self.next = sequence.next();
        pushed
    }

    /// Adds a message in the place that it had, as the log says; false: that place is taken or gone already.
    pub(crate) fn replay(&mut self, sequence: Sequence, entry: Entry) -> bool {
        if sequence < self.next {
            return false;
        }
        // Places in between belonged to transient messages. A few are filled up, many begin a new chunk.
        let gap = sequence.0 - self.next.0;
        match self.chunks.last_entry().filter(|tail| tail.get().accepts(self.next)) {
            Some(mut tail)
                if gap + u64::from(tail.get().places()) < u64::from(tail.get().limit()) =>
            {
                (0..gap).for_each(|_| tail.get_mut().push_gone());
            }
            _ => {
                if gap > 0 || !self.chunks.is_empty() {
                    self.chunks.insert(sequence, Chunk::new(sequence, self.chunk_places));
                }
            }
        }
        self.next = sequence;
        self.push(entry, None);
        true
    }

    /// Marks places as gone; those that are gone already, or were never taken, are passed over. Reads nothing: see
    /// [`unsettled`](Self::unsettled).
    pub(crate) fn acknowledge(&mut self, range: SequenceRange, released: &mut Released) {
        let mut from = self.chunk_at(range.first).unwrap_or(range.first);
        while from <= range.last
            && let Some((&base, chunk)) = self.chunks.range_mut(from..=range.last).next()
        {
            let bytes = chunk.bytes();
            let went = u64::from(chunk.acknowledge(range, self.segment_size, released));
            self.bytes = self.bytes.saturating_sub(bytes - chunk.bytes());
            self.live -= went;
            released.messages += went;
            if chunk.live() == 0
                && (chunk.is_full() || base.0 + u64::from(chunk.places()) < self.next.0)
            {
                released.places += i64::from(chunk.resident());
                chunk.release_page(self.segment_size, released);
                self.chunks.remove(&base);
                self.outdated.insert(directory_of(base));
            }
            from = base.next();
        }
    }

    /// Lets go of everything, for a queue that is deleted.
    pub(crate) fn clear(&mut self, released: &mut Released) {
        for chunk in self.chunks.values_mut() {
            released.messages += u64::from(chunk.release_all(self.segment_size, released));
            released.places += i64::from(chunk.resident());
            chunk.release_page(self.segment_size, released);
        }
        self.chunks.clear();
        self.release_directories(released);
        self.bytes = 0;
        self.live = 0;
    }

    /// Notes how often a message has been handed out.
    pub(crate) fn set_deliveries(&mut self, sequence: Sequence, deliveries: u16) {
        if let Some(chunk) = self.chunk_of_mut(sequence) {
            chunk.set_deliveries(sequence, deliveries);
        }
    }

    /// The same for messages in ascending order of place. Each chunk is looked up once, because a look-up costs more than the note.
    pub(crate) fn set_all_deliveries(&mut self, mut delivered: &[(Sequence, u32)]) {
        while let Some(&(first, _)) = delivered.first() {
            let next = self.chunks.range((Bound::Excluded(first), Bound::Unbounded)).next();
            let next = next.map(|(base, _)| *base);
            let here = delivered.partition_point(|(at, _)| next.is_none_or(|next| *at < next));
            let (of_chunk, others) = delivered.split_at(here);
            if let Some(chunk) = self.chunk_of_mut(first) {
                for (sequence, deliveries) in of_chunk {
                    let deliveries = u16::try_from(*deliveries).unwrap_or(u16::MAX);
                    chunk.set_deliveries(*sequence, deliveries);
                }
            }
            delivered = others;
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

    /// Whether the next `count` live messages from `from` on are in memory, or all that there are.
    pub(crate) fn is_loaded(&self, from: Sequence, count: usize) -> bool {
        let mut left = count;
        let start = self.chunk_at(from).unwrap_or(from);
        let mut chunks = self.chunks.range(start..).map(|(_, chunk)| chunk);
        chunks.all(|chunk| left == 0 || chunk.is_loaded(from, &mut left))
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

    /// Gives a chunk its places, as its record has them that was read from `missing.page`.
    pub(crate) fn install_chunk(
        &mut self,
        missing: NotResident,
        record: &ChunkRecord,
        released: &mut Released,
    ) {
        if let Some(chunk) = self.chunks.get_mut(&missing.base) {
            let (bytes, places) = (chunk.bytes(), chunk.resident());
            chunk.install(missing.page, record, self.segment_size, released);
            self.bytes = self.bytes.saturating_sub(bytes) + chunk.bytes();
            released.places -= i64::from(chunk.resident()) - i64::from(places);
        }
    }

    /// Sets all messages of a chunk aside whose record cannot be read, if it is still needed; gives their number.
    pub(crate) fn set_chunk_aside(&mut self, missing: NotResident) -> u32 {
        let chunk = self.chunks.get_mut(&missing.base);
        chunk.map_or(0, |chunk| chunk.set_chunk_aside(missing.page))
    }

    /// Gives messages of one chunk to their places, those that are still live and still at their LSN; returns how many bytes
    /// of the memory budget they take.
    pub(crate) fn install_messages(
        &mut self,
        messages: impl IntoIterator<Item = (Sequence, Lsn, Message)>,
    ) -> u64 {
        let mut messages = messages.into_iter().peekable();
        let Some(&(first, ..)) = messages.peek() else { return 0 };
        let Some(chunk) = self.chunk_of_mut(first) else { return 0 };
        let installed = messages.map(|(sequence, lsn, message)| {
            let size = message.footprint();
            if chunk.install_message(sequence, lsn, message) { size } else { 0 }
        });
        installed.sum()
    }

    /// Gives a message to its place again that was fetched from it, if it lacks it there; `room` says whether there is room for so
    /// many bytes.
    pub(crate) fn keep(
        &mut self,
        sequence: Sequence,
        message: Message,
        room: impl FnOnce(u64) -> bool,
    ) {
        if let Some(chunk) = self.chunk_of_mut(sequence)
            && let Some(place) = chunk.lacking(sequence)
            && room(message.footprint())
        {
            chunk.keep(place, message);
        }
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

    /// Every live message that has a record. Chunks that are not resident are left out.
    pub(crate) fn stored_messages(&self) -> impl Iterator<Item = MissingMessage> {
        self.chunks.values().flat_map(Chunk::stored_messages)
    }

    /// Chunks whose records have to be read, and [settled](Self::settle), for the shares to be exact.
    pub(crate) fn unsettled(&self) -> Vec<NotResident> {
        self.chunks.values().filter_map(Chunk::unsettled).collect()
    }

    /// Makes the shares of a chunk exact. If it gives anything, the chunk's record should be written anew with that, and
    /// [`saved`](Self::saved).
    pub(crate) fn settle(
        &mut self,
        missing: NotResident,
        record: &ChunkRecord,
        released: &mut Released,
    ) -> Option<(u32, Vec<(u16, ChunkEntry)>)> {
        let chunk = self.chunks.get_mut(&missing.base)?;
        let bytes = chunk.bytes();
        let outdated = chunk.settle(missing.page, record, self.segment_size, released);
        self.bytes = self.bytes.saturating_sub(bytes) + chunk.bytes();
        outdated.then(|| (chunk.places(), chunk.rewritten(record)))
    }

    /// The chunk that begins at `base` has a new record.
    pub(crate) fn saved(&mut self, base: Sequence, page: PageRef, released: &mut Released) {
        if let Some(chunk) = self.chunks.get_mut(&base) {
            chunk.saved(page, self.segment_size, released);
        }
    }

    /// What a record that is to replace the one at `page` has to have, if the chunk is still described by that one.
    /// `record`: what that one has.
    pub(crate) fn rewritten(
        &mut self,
        missing: NotResident,
        record: &ChunkRecord,
        released: &mut Released,
    ) -> Option<(u32, Vec<(u16, ChunkEntry)>)> {
        let chunk =
            self.chunks.get_mut(&missing.base).filter(|c| c.page() == Some(missing.page))?;
        if chunk.is_resident() {
            // The next checkpoint writes it.
            chunk.release_page(self.segment_size, released);
            self.outdated.insert(directory_of(missing.base));
            return None;
        }
        chunk.settle(missing.page, record, self.segment_size, released);
        Some((chunk.places(), chunk.rewritten(record)))
    }

    /// Where the record of a live message is; `Err`: the chunk's record has to be read to tell.
    pub(crate) fn find(&self, sequence: Sequence) -> Result<Option<ChunkEntry>, NotResident> {
        self.chunk_of(sequence).map_or(Ok(None), |chunk| chunk.find(sequence))
    }

    /// Notes that compaction has moved the record of a live message.
    pub(crate) fn relocate(
        &mut self,
        sequence: Sequence,
        from: ChunkEntry,
        to: ChunkEntry,
        released: &mut Released,
    ) {
        let segment_size = self.segment_size;
        if let Some(chunk) = self.chunk_of_mut(sequence) {
            let bytes = chunk.bytes();
            chunk.relocate(sequence, from, to, segment_size, released);
            let now = chunk.bytes();
            self.bytes = self.bytes.saturating_sub(bytes) + now;
        }
    }

    /// The same, as the log says; false: it is in here already, or the message is gone.
    pub(crate) fn replay_relocation(
        &mut self,
        sequence: Sequence,
        from: ChunkEntry,
        to: ChunkEntry,
        released: &mut Released,
    ) -> bool {
        let known = self.chunk_of(sequence).is_none_or(|chunk| chunk.knows(sequence, to.lsn));
        let known = known && !is_active(Mutant::MoveUnchecked);
        if !known {
            self.relocate(sequence, from, to, released);
        }
        !known
    }

    /// The last chunk, if it can leave memory when it is full: there are others in front of it.
    pub(crate) fn spill_candidate(&self) -> Option<Sequence> {
        let (base, _) = self.chunks.last_key_value()?;
        (self.chunks.len() > FRONT_CHUNKS).then_some(*base)
    }

    /// Chunks in memory, from the last to the first, without those at the front unless `all` is to go.
    pub(crate) fn spill_candidates(&self, all: bool) -> Vec<Sequence> {
        let resident = self.chunks.values().filter(|chunk| chunk.is_resident());
        let skipped = if all { 0 } else { FRONT_CHUNKS };
        let mut candidates: Vec<_> = resident.skip(skipped).map(Chunk::base).collect();
        candidates.reverse();
        if !all && candidates.first().is_some_and(|last| !self.chunks[last].is_full()) {
            candidates.remove(0);
        }
        candidates
    }

    /// A full chunk in memory in front of `base`, whose messages have been fetched: where another has to leave for that one.
    pub(crate) fn passed(&self, base: Sequence) -> Option<Sequence> {
        let mut before = self.chunks.range(..base).map(|(_, chunk)| chunk);
        let resident = |chunk: &&Chunk| chunk.is_resident() && chunk.is_full();
        before.rfind(|chunk| resident(chunk) && chunk.is_saved()).map(Chunk::base)
    }

    /// The messages of a chunk that are in memory only.
    pub(crate) fn in_memory(&self, base: Sequence) -> Vec<(Sequence, Message)> {
        self.chunks.get(&base).map(Chunk::in_memory).unwrap_or_default()
    }

    /// The chunks whose places are in memory, the last one first: the front of a queue is needed first.
    pub(crate) fn resident_chunks(&self) -> Vec<Sequence> {
        let resident = self.chunks.values().rev().filter(|chunk| chunk.is_resident());
        resident.map(Chunk::base).collect()
    }

    /// Drops the messages that the log has too. Returns their bytes of the memory budget.
    pub(crate) fn evict(&mut self) -> u64 {
        self.chunks.values_mut().map(Chunk::evict).sum()
    }

    /// A message that was in memory only is in the log now.
    pub(crate) fn written(&mut self, sequence: Sequence, stored: ChunkEntry) {
        if let Some(chunk) = self.chunk_of_mut(sequence) {
            let bytes = chunk.bytes();
            chunk.written(sequence, stored);
            let now = chunk.bytes();
            self.bytes = self.bytes.saturating_sub(bytes) + now;
        }
    }

    /// What a chunk's record has to have before it can [spill](Self::spill); `None`: the one that there is will do.
    pub(crate) fn to_save(&self, base: Sequence) -> Option<(u32, Vec<(u16, ChunkEntry)>)> {
        let chunk = self.chunks.get(&base).filter(|chunk| !chunk.is_saved())?;
        Some((chunk.places(), chunk.stored().collect()))
    }

    /// Leaves the places of a chunk to its record.
    pub(crate) fn spill(&mut self, base: Sequence, released: &mut Released) {
        let Some(chunk) = self.chunks.get_mut(&base) else { return };
        let places = chunk.resident();
        if chunk.live() > 0 && chunk.spill(self.segment_size, released) {
            released.places += i64::from(places);
        }
    }

    /// An idle queue keeps no chunk; the next message begins a new one.
    pub(crate) fn tidy(&mut self, released: &mut Released) {
        if self.live == 0 && !(self.chunks.is_empty() && self.directories.is_empty()) {
            self.clear(released);
        }
    }

    /// Whether the chunks are few enough to be in the queue's own state.
    pub(crate) fn is_shallow(&self) -> bool {
        self.chunks.len() <= INLINE_CHUNKS
    }

    /// The state of all chunks, for a queue that [is shallow](Self::is_shallow). `save` writes the record of a chunk
    /// whose places are not in the log yet, and says where it is; what is superseded is released.
    pub(crate) fn snapshot<E>(
        &mut self,
        released: &mut Released,
        save: impl FnMut(Sequence, u32, Vec<(u16, ChunkEntry)>) -> Result<PageRef, E>,
    ) -> Result<Vec<ChunkState>, E> {
        self.release_directories(released);
        self.snapshot_between(Sequence(0), Sequence(u64::MAX), released, save)
    }

    /// Directories that are not as in the last checkpoint, the last one first: so that what a chunk of a later one says
    /// of the queue's end is true of all chunks before it, which are looked at later.
    pub(crate) fn changed_directories(&self) -> Vec<u64> {
        let mut changed = self.outdated.clone();
        if is_active(Mutant::ForgetDirectory) {
            changed.clear();
        }
        let chunks = self.chunks.values();
        changed.extend(chunks.filter(|c| c.is_changed()).map(|c| directory_of(c.base())));
        // A queue that was shallow has none yet.
        let known = &self.directories;
        let all = self.chunks.keys().map(|base| directory_of(*base));
        changed.extend(all.filter(|number| !known.contains_key(number)));
        changed.into_iter().rev().collect()
    }

    /// The states of a directory's chunks; like [`snapshot`](Self::snapshot).
    pub(crate) fn snapshot_directory<E>(
        &mut self,
        number: u64,
        released: &mut Released,
        save: impl FnMut(Sequence, u32, Vec<(u16, ChunkEntry)>) -> Result<PageRef, E>,
    ) -> Result<Vec<ChunkState>, E> {
        self.outdated.remove(&number);
        let first = Sequence(number * DIRECTORY_PLACES);
        let last = Sequence(first.0 + (DIRECTORY_PLACES - 1));
        self.snapshot_between(first, last, released, save)
    }

    fn snapshot_between<E>(
        &mut self,
        first: Sequence,
        last: Sequence,
        released: &mut Released,
        mut save: impl FnMut(Sequence, u32, Vec<(u16, ChunkEntry)>) -> Result<PageRef, E>,
    ) -> Result<Vec<ChunkState>, E> {
        let mut states = Vec::new();
        for chunk in self.chunks.range_mut(first..=last).map(|(_, chunk)| chunk) {
            if chunk.is_resident() && !chunk.is_saved() && chunk.survives() {
                let page = save(chunk.base(), chunk.places(), chunk.stored().collect())?;
                chunk.saved(page, self.segment_size, released);
            }
            states.extend(chunk.state(self.segment_size));
        }
        Ok(states)
    }

    /// A directory is in a new record now; `None`: in none, it is empty.
    pub(crate) fn directory_saved(
        &mut self,
        number: u64,
        page: Option<PageRef>,
        released: &mut Released,
    ) {
        let old = match page {
            Some(page) => self.directories.insert(number, page),
            None => self.directories.remove(&number),
        };
        if let Some(old) = old {
            released.page(old, self.segment_size);
        }
    }

    /// Where the directories are.
    pub(crate) fn directories(&self) -> Vec<(u64, PageRef)> {
        self.directories.iter().map(|(number, page)| (*number, *page)).collect()
    }

    /// Has a directory written anew if it is the one at `lsn`; false: it is not.
    pub(crate) fn outdate_directory(&mut self, number: u64, lsn: Lsn) -> bool {
        let current = self.directories.get(&number).is_some_and(|page| page.lsn == lsn);
        if current {
            self.outdated.insert(number);
        }
        current
    }

    fn release_directories(&mut self, released: &mut Released) {
        for page in std::mem::take(&mut self.directories).into_values() {
            released.page(page, self.segment_size);
        }
        self.outdated.clear();
    }

    /// The base of the last chunk that begins at or before `sequence`.
    fn chunk_at(&self, sequence: Sequence) -> Option<Sequence> {
        self.chunks.range(..=sequence).next_back().map(|(&base, _)| base)
    }

    fn chunk_of(&self, sequence: Sequence) -> Option<&Chunk> {
        self.chunks.range(..=sequence).next_back().map(|(_, chunk)| chunk)
    }

    fn chunk_of_mut(&mut self, sequence: Sequence) -> Option<&mut Chunk> {
        self.chunks.range_mut(..=sequence).next_back().map(|(_, chunk)| chunk)
    }
}
