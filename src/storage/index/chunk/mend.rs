//! Putting a chunk right whose record, or a message of which, is damaged.

use super::{Chunk, Content, Entry};
use crate::storage::index::Released;
use crate::storage::index::places::Places;
use crate::storage::record::{ChunkEntry, ChunkRecord};
use crate::storage::units::{SegmentId, Sequence};

impl Chunk {
    /// Where its places end.
    pub(in crate::storage::index) fn end(&self) -> Sequence {
        Sequence(self.base.0 + u64::from(self.places))
    }

    /// Whether a place holds a live message.
    pub(in crate::storage::index) fn is_live(&self, sequence: Sequence) -> bool {
        self.live_place(sequence).is_some()
    }

    /// Whether this place is in the chunk, or can be while it is in memory.
    pub(in crate::storage::index) fn has_room_for(&self, sequence: Sequence) -> bool {
        let end = if self.is_resident() { self.places.max(self.limit) } else { self.places };
        self.base <= sequence && sequence.since(self.base) < u64::from(end)
    }

    /// Puts a message into a place that holds nothing, if the chunk is in memory and [has room](Self::has_room_for) for it;
    /// false: it is not, or the place is taken.
    pub(in crate::storage::index) fn put(
        &mut self,
        sequence: Sequence,
        stored: ChunkEntry,
    ) -> bool {
        if !self.is_resident() || !self.has_room_for(sequence) || self.is_live(sequence) {
            return false;
        }
        while self.end() <= sequence {
            self.push_gone();
        }
        let place = sequence.since(self.base) as u32;
        self.gone.remove(place);
        if let Content::Resident(entries) = &mut self.content {
            entries[place as usize] = Entry::at(stored);
        }
        self.live += 1;
        self.bytes += stored.share();
        self.page_places = 0;
        self.changed = true;
        true
    }

    /// What the record of a chunk that is not in memory, and what has happened since, say of the live places.
    pub(in crate::storage::index) fn listed(
        &self,
        record: &ChunkRecord,
    ) -> Vec<(Sequence, Option<ChunkEntry>)> {
        let Content::InLog(log) = &self.content else { return Vec::new() };
        let live = self.live_places().into_iter();
        live.map(|sequence| {
            let place = sequence.since(self.base) as u16;
            (sequence, log.moved_to(place).or_else(|| record.entry(place)))
        })
        .collect()
    }

    /// Gives a chunk whose record is lost its places, as they have been `found`; the others are gone. What it needed
    /// is released; what it needs now is returned.
    pub(in crate::storage::index) fn rebuild(
        &mut self,
        found: impl Fn(Sequence) -> Option<ChunkEntry>,
        segment_size: u64,
        released: &mut Released,
    ) -> Vec<ChunkEntry> {
        let Content::InLog(log) = &mut self.content else { return Vec::new() };
        let mut log = std::mem::take(log);
        let mut needed = Vec::new();
        let mut entries = vec![Entry::nothing(); self.places as usize];
        (self.live, self.bytes) = (0, 0);
        for (place, entry) in (0..self.places).zip(&mut entries) {
            if self.gone.contains(place) {
                continue;
            }
            match found(Sequence(self.base.0 + u64::from(place))) {
                Some(stored) => {
                    *entry = Entry::at(stored);
                    self.live += 1;
                    self.bytes += stored.share();
                    needed.push(stored);
                }
                None => {
                    self.gone.insert(place);
                }
            }
        }
        for (place, count) in &log.deliveries {
            if let Some(entry) = entries.get_mut(usize::from(*place)) {
                entry.deliveries = *count;
            }
        }
        log.release_all(0, released);
        self.content = Content::Resident(entries);
        self.release_page(segment_size, released);
        self.changed = true;
        needed
    }

    /// Counts what the live places of a chunk that is not in memory need, as its record says and what has happened since. What
    /// it was thought to need is released; what it needs is returned.
    pub(in crate::storage::index) fn recount(
        &mut self,
        record: &ChunkRecord,
        segment_size: u64,
        released: &mut Released,
    ) -> Vec<ChunkEntry> {
        let listed = self.listed(record).into_iter();
        let needed: Vec<ChunkEntry> = listed.filter_map(|(_, entry)| entry).collect();
        let mut shares = Released::default();
        for entry in &needed {
            shares.segment(SegmentId::holding(entry.lsn, segment_size), 1, entry.share());
        }
        let Content::InLog(log) = &mut self.content else { return Vec::new() };
        log.shares.iter().for_each(|s| released.segment(s.segment, s.references, s.bytes));
        log.shares = shares.merged();
        log.unsettled = Places::default();
        log.moved.retain(|(place, _)| !self.gone.contains(u32::from(*place)));
        self.bytes = log.bytes_of(self.live);
        self.changed = true;
        needed
    }

    /// The segments that a chunk that is not in memory needs for its messages.
    pub(in crate::storage::index) fn needed_segments(&self) -> Vec<SegmentId> {
        match &self.content {
            Content::Resident(_) => Vec::new(),
            Content::InLog(log) => log.shares.iter().map(|share| share.segment).collect(),
        }
    }
}
