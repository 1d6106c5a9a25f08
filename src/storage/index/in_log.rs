//! What has to be known of a chunk whose places are only in the log.

use super::Released;
use super::places::Places;
use crate::storage::record::{ChunkEntry, ChunkRecord, SegmentShare};
use crate::storage::units::SegmentId;

/// What has happened to places since the chunk's record was written, and what they need.
///
/// An acknowledgement never reads the record: it marks the place, and which segment gets its share back is found out
/// when the record is next read, by a checkpoint at the latest. Until then the shares say too much, never too little.
#[derive(Debug, Default)]
pub(super) struct InLog {
    /// How often places have been handed out, ascending.
    pub(super) deliveries: Vec<(u16, u16)>,
    /// What the live places need of each segment, and the unsettled ones.
    pub(super) shares: Vec<SegmentShare>,
    /// Gone, and not yet taken out of the shares.
    pub(super) unsettled: Places,
    /// Where compaction has moved places to, ascending.
    pub(super) moved: Vec<(u16, ChunkEntry)>,
    /// Places of messages that do not survive a restart.
    pub(super) transient: Places,
}

impl InLog {
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty() && self.moved.is_empty()
    }

    /// A live place is gone now.
    pub(super) fn take_out(&mut self, place: u32, released: &mut Released) {
        self.unsettled.insert(place);
        if let Ok(at) = self.deliveries.binary_search_by_key(&(place as u16), |(other, _)| *other) {
            self.deliveries.remove(at);
        }
        if !self.transient.contains(place) {
            released.stored += 1;
        }
    }

    /// All `live` places are gone now.
    pub(super) fn release_all(&mut self, live: u32, released: &mut Released) {
        released.stored += u64::from(live);
        self.shares.iter().for_each(|s| released.segment(s.segment, s.references, s.bytes));
        *self = InLog::default();
    }

    /// What `live` places take, as far as the shares tell.
    pub(super) fn bytes_of(&self, live: u32) -> u64 {
        let bytes: u64 = self.shares.iter().map(|share| share.bytes).sum();
        let places: u64 = self.shares.iter().map(|share| u64::from(share.references)).sum();
        match places {
            0 => 0,
            places if places == u64::from(live) => bytes,
            places => (bytes / places) * u64::from(live),
        }
    }

    pub(super) fn set_deliveries(&mut self, place: u16, count: u16) {
        match self.deliveries.binary_search_by_key(&place, |(other, _)| *other) {
            Ok(at) => self.deliveries[at].1 = count,
            Err(at) => self.deliveries.insert(at, (place, count)),
        }
    }

    /// Where a place has been moved to, if it has.
    pub(super) fn moved_to(&self, place: u16) -> Option<ChunkEntry> {
        let at = self.moved.binary_search_by_key(&place, |(other, _)| *other).ok()?;
        Some(self.moved[at].1)
    }

    /// Notes that the record of a live place is somewhere else now. Returns the record that it had before, if the shares count
    /// one in that segment.
    pub(super) fn relocate(
        &mut self,
        place: u16,
        from: ChunkEntry,
        to: ChunkEntry,
        segment_size: u64,
    ) -> Option<ChunkEntry> {
        let left = self.moved_to(place).unwrap_or(from);
        let left = self.forget(left, segment_size).then_some(left);
        let segment = SegmentId::holding(to.lsn, segment_size);
        match self.shares.iter_mut().find(|share| share.segment == segment) {
            Some(share) => {
                share.references += 1;
                share.bytes += to.share();
            }
            None => {
                self.shares.push(SegmentShare { segment, references: 1, bytes: to.share() });
            }
        }
        match self.moved.binary_search_by_key(&place, |(other, _)| *other) {
            Ok(at) => self.moved[at].1 = to,
            Err(at) => self.moved.insert(at, (place, to)),
        }
        left
    }

    /// Takes what is gone out of the shares, as the chunk's record tells where it was.
    pub(super) fn settle(
        &mut self,
        record: &ChunkRecord,
        segment_size: u64,
        released: &mut Released,
    ) {
        let unsettled = std::mem::take(&mut self.unsettled);
        for place in unsettled.iter().map(|place| place as u16) {
            if let Some(entry) = self.moved_to(place).or_else(|| record.entry(place))
                && self.forget(entry, segment_size)
            {
                let segment = SegmentId::holding(entry.lsn, segment_size);
                released.segment(segment, 1, entry.share());
            }
        }
    }

    /// Takes a record out of the shares. Returns `false` if they count none in its segment.
    fn forget(&mut self, entry: ChunkEntry, segment_size: u64) -> bool {
        let segment = SegmentId::holding(entry.lsn, segment_size);
        let Some(at) = self.shares.iter().position(|share| share.segment == segment) else {
            return false;
        };
        let share = &mut self.shares[at];
        share.references = share.references.saturating_sub(1);
        share.bytes = share.bytes.saturating_sub(entry.share());
        if share.references == 0 {
            self.shares.remove(at);
        }
        true
    }

    /// How many of `live` places a restart brings back.
    pub(super) fn survivors(&self, live: u32, gone: &Places) -> u32 {
        let transient = self.transient.iter().filter(|place| !gone.contains(*place)).count();
        live.saturating_sub(transient as u32)
    }
}
