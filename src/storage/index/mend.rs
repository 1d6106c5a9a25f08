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

    /// Counts anew what the live messages of a chunk need that is not in memory. What it was thought to need is released; what
    /// it needs now is returned, for the caller to count.
    pub(crate) fn recount(
        &mut self,
        missing: NotResident,
        record: &ChunkRecord,
        released: &mut Released,
    ) -> Vec<ChunkEntry> {
        let Some(chunk) = self.chunks.get_mut(&missing.base) else { return Vec::new() };
        let bytes = chunk.bytes();
        let needed = chunk.recount(record, self.segment_size, released);
        self.bytes = self.bytes.saturating_sub(bytes) + chunk.bytes();
        needed
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::record::{ChunkState, PageRef, SegmentShare, check_chunks};
    use crate::storage::units::QueueId;

    const SIZE: u64 = 64 << 10;

    fn entry(segment: u64) -> ChunkEntry {
        let lsn = SegmentId(segment).start(SIZE).plus(8192);
        ChunkEntry { lsn, length: 100, sharers: 1 }
    }

    fn share(segment: u64, references: u32) -> SegmentShare {
        let bytes = u64::from(references) * 100;
        SegmentShare { segment: SegmentId(segment), references, bytes }
    }

    fn states(index: &mut QueueIndex) -> Vec<ChunkState> {
        let mut released = Released::default();
        index.snapshot(&mut released, |_, _, _| Err(())).unwrap()
    }

    /// A repaired store was refused: "more is needed of segments than the chunk can have there".
    #[test]
    fn a_list_that_lacks_earlier_moves_is_counted_anew() {
        let page = PageRef { lsn: SegmentId(2).start(SIZE).plus(8192), length: 50 };
        let state = ChunkState {
            base: Sequence(0),
            places: 2,
            page,
            gone: Vec::new(),
            deliveries: Vec::new(),
            shares: vec![share(1, 2)],
            unsettled: Vec::new(),
            moved: Vec::new(),
        };
        let mut index = QueueIndex::restore(Sequence(2), vec![state], Vec::new(), SIZE);
        let mut released = Released::default();
        for (place, from, to) in [(0, 5, 10), (0, 10, 11), (1, 6, 12)] {
            index.replay_relocation(Sequence(place), entry(from), entry(to), &mut released);
        }
        assert!(check_chunks(&states(&mut index)).is_err());

        let entries = vec![(0, entry(1)), (1, entry(1))];
        let record = ChunkRecord { queue: QueueId(1), base: Sequence(0), places: 2, entries };
        let missing = NotResident { base: Sequence(0), page };
        let mut released = Released::default();
        let needed = index.recount(missing, &record, &mut released);
        assert_eq!(needed, [entry(11), entry(12)]);
        assert_eq!(released.merged(), [share(1, 2), share(11, 1), share(12, 1)]);
        let states = states(&mut index);
        assert_eq!(check_chunks(&states), Ok(()));
        assert_eq!(states[0].shares, [share(11, 1), share(12, 1)]);
    }
}
