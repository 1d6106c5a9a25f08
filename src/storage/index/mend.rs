//! What a repair does to the index of a queue, and what it asks of it.

use super::chunk::{Chunk, Entry};
use super::{NotResident, QueueIndex, Released, directory_of};
use crate::storage::record::{ChunkEntry, ChunkRecord};
use crate::storage::units::{SegmentId, Sequence};

impl QueueIndex {
    /// Whether a place holds a live message.
    pub(crate) fn is_live(&self, sequence: Sequence) -> bool {
        self.chunk_of(sequence).is_some_and(|chunk| chunk.is_live(sequence))
    }

    /// Whether a place is in one of the chunks, live or gone.
    pub(crate) fn covers(&self, sequence: Sequence) -> bool {
        self.chunk_of(sequence).is_some_and(|chunk| sequence < chunk.end())
    }

    /// Puts a message into a place that nothing is known to be in; false: it is taken, or its chunk is only in the log.
    pub(crate) fn bring_back(&mut self, sequence: Sequence, stored: ChunkEntry) -> bool {
        if sequence >= self.next {
            return self.replay(sequence, Entry::at(stored));
        }
        let put = match self.chunk_of_mut(sequence).filter(|chunk| chunk.has_room_for(sequence)) {
            Some(chunk) => chunk.put(sequence, stored),
            None => {
                // Between the chunks, or in front of them: it takes no more places than there are free.
                let behind = self.first_chunk_from(sequence).unwrap_or(self.next);
                let free = u32::try_from(behind.since(sequence)).unwrap_or(u32::MAX);
                let mut chunk = Chunk::new(sequence, free.min(self.chunk_places));
                let put = chunk.put(sequence, stored);
                self.chunks.insert(sequence, chunk);
                put
            }
        };
        if put {
            self.live += 1;
            self.bytes += stored.share();
        }
        put
    }

    /// Where the live messages of a chunk are that is not in memory, as its record that was read says; nothing: it does not
    /// say.
    pub(crate) fn listed(
        &self,
        missing: NotResident,
        record: &ChunkRecord,
    ) -> Vec<(Sequence, Option<ChunkEntry>)> {
        self.chunks.get(&missing.base).map(|chunk| chunk.listed(record)).unwrap_or_default()
    }

    /// The segments that the messages of the chunk with this place are in; none, if it is in memory.
    pub(crate) fn needed_segments(&self, sequence: Sequence) -> Vec<SegmentId> {
        self.chunk_of(sequence).map(Chunk::needed_segments).unwrap_or_default()
    }

    /// Where the first chunk begins that begins at or behind this place.
    pub(crate) fn first_chunk_from(&self, sequence: Sequence) -> Option<Sequence> {
        self.chunks.range(sequence..).next().map(|(base, _)| *base)
    }

    /// Gives the chunk with this place, whose record is lost, its places as they have been `found`; the others are gone. What
    /// it needed is released; what it needs now is returned, for the caller to count.
    pub(crate) fn rebuild(
        &mut self,
        sequence: Sequence,
        found: impl Fn(Sequence) -> Option<ChunkEntry>,
        released: &mut Released,
    ) -> Vec<ChunkEntry> {
        let Some((&base, chunk)) = self.chunks.range_mut(..=sequence).next_back() else {
            return Vec::new();
        };
        let (live, bytes) = (chunk.live(), chunk.bytes());
        let needed = chunk.rebuild(found, self.segment_size, released);
        self.live = self.live - u64::from(live) + u64::from(chunk.live());
        self.bytes = self.bytes.saturating_sub(bytes) + chunk.bytes();
        if chunk.live() == 0 {
            self.chunks.remove(&base);
            self.outdated.insert(directory_of(base));
        }
        needed
    }
}
