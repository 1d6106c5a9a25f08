//! A run of a queue's places.

use std::sync::Arc;

use super::places::Places;
use super::{Found, Missing, NotResident, Released};
use crate::storage::message::Message;
use crate::storage::record::{ChunkEntry, ChunkState, PageRef, SegmentShare};
use crate::storage::units::{Lsn, SegmentId, Sequence, SequenceRange};

/// How many places a chunk has when it is full.
pub(crate) const PLACES: u32 = 2048;

/// One message in the index.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its record; [`Lsn::ZERO`]: it is in memory only.
    pub(crate) lsn: Lsn,
    /// Bytes of its record, or of the message where it has none.
    pub(crate) length: u32,
    /// How many queues share the record.
    pub(crate) sharers: u16,
    /// How often it has been handed out.
    pub(crate) deliveries: u16,
    /// It could not be read, and waits for somebody to look at it.
    pub(crate) aside: bool,
    /// The message itself, while it is in memory.
    pub(crate) message: Option<Arc<Message>>,
}

impl Entry {
    pub(crate) fn is_durable(&self) -> bool {
        self.lsn != Lsn::ZERO
    }

    /// The queue's share of the bytes.
    pub(crate) fn share(&self) -> u64 {
        u64::from(self.length / u32::from(self.sharers.max(1)))
    }

    /// Bytes that the cache holds for it: transient messages are memory, but not cache.
    pub(super) fn cached(&self) -> u64 {
        match &self.message {
            Some(message) if self.is_durable() => message.size() as u64,
            _ => 0,
        }
    }

    fn from_record(entry: Option<ChunkEntry>) -> Entry {
        // A place without an entry is gone, so what it holds is never looked at.
        let ChunkEntry { lsn, length, sharers } =
            entry.unwrap_or(ChunkEntry { lsn: Lsn::ZERO, length: 0, sharers: 1 });
        Entry { lsn, length, sharers, deliveries: 0, aside: false, message: None }
    }
}

/// A run of places, `base` to `base + places`.
#[derive(Debug)]
pub(crate) struct Chunk {
    base: Sequence,
    places: u32,
    live: u32,
    /// The live messages' share, in bytes.
    bytes: u64,
    gone: Places,
    content: Content,
    /// The record with the places, and how many of them it has.
    page: Option<(PageRef, u32)>,
    /// What the last checkpoint says, while that is still so.
    state: Option<ChunkState>,
    /// The record with the places could not be read: its messages wait for somebody to look at it.
    aside: bool,
}

#[derive(Debug)]
enum Content {
    Resident(Vec<Entry>),
    /// Only in the log, with what has to be known without reading it.
    InLog {
        deliveries: Vec<(u16, u16)>,
        shares: Vec<SegmentShare>,
    },
}

impl Chunk {
    pub(super) fn new(base: Sequence) -> Chunk {
        Chunk {
            base,
            places: 0,
            live: 0,
            bytes: 0,
            gone: Places::default(),
            content: Content::Resident(Vec::new()),
            page: None,
            state: None,
            aside: false,
        }
    }

    pub(super) fn restore(state: ChunkState) -> Chunk {
        let gone = Places::from_words(state.gone.clone());
        Chunk {
            base: state.base,
            places: state.places,
            live: state.places - gone.count(state.places).min(state.places),
            bytes: state.shares.iter().map(|share| share.bytes).sum(),
            gone,
            content: Content::InLog {
                deliveries: state.deliveries.clone(),
                shares: state.shares.clone(),
            },
            page: Some((state.page, state.places)),
            state: Some(state),
            aside: false,
        }
    }

    pub(super) fn base(&self) -> Sequence {
        self.base
    }

    pub(super) fn places(&self) -> u32 {
        self.places
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Nothing can be added any more.
    pub(super) fn is_full(&self) -> bool {
        self.places >= PLACES || matches!(self.content, Content::InLog { .. })
    }

    /// The next message can be added here.
    pub(super) fn accepts(&self, sequence: Sequence) -> bool {
        !self.is_full() && self.base.0 + u64::from(self.places) == sequence.0
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.state = None;
        self.live += 1;
        self.bytes += entry.share();
        self.places += 1;
        if let Content::Resident(entries) = &mut self.content {
            entries.push(entry);
        }
    }

    /// Adds a place that nothing is in.
    pub(super) fn push_gone(&mut self) {
        self.gone.insert(self.places);
        self.push(Entry::from_record(None));
        self.live -= 1;
    }

    /// The places of `range` within this chunk, as an interval.
    fn overlap(&self, range: SequenceRange) -> (u32, u32) {
        let within =
            |sequence: u64| sequence.saturating_sub(self.base.0).min(u64::from(self.places));
        (within(range.first.0) as u32, within(range.last.0.saturating_add(1)) as u32)
    }

    /// Where a range takes some of the live messages and not others, and the places are needed to tell which.
    pub(super) fn cut_by(&self, range: SequenceRange) -> Option<NotResident> {
        let taken = self.live_within(range);
        self.not_resident().filter(|_| !self.aside && taken > 0 && taken < self.live)
    }

    /// How many live messages a range takes.
    fn live_within(&self, range: SequenceRange) -> u32 {
        let (first, end) = self.overlap(range);
        end.saturating_sub(first) - (self.gone.count(end) - self.gone.count(first.min(end)))
    }

    /// Marks places as gone; see [`QueueIndex::acknowledge`](super::QueueIndex::acknowledge).
    pub(super) fn acknowledge(
        &mut self,
        range: SequenceRange,
        segment_size: u64,
        released: &mut Released,
    ) -> u32 {
        let (first, end) = self.overlap(range);
        let whole = self.live > 0 && self.live_within(range) == self.live;
        let Content::Resident(entries) = &mut self.content else {
            return if whole { self.release_all(segment_size, released) } else { 0 };
        };
        let mut went = 0;
        let mut place = first;
        while let Some(next) = self.gone.next_absent(place, end) {
            self.gone.insert(next);
            let entry = &mut entries[next as usize];
            released.entry(entry, segment_size);
            entry.message = None;
            self.bytes -= entry.share();
            went += 1;
            place = next + 1;
        }
        if went > 0 {
            self.live -= went;
            self.state = None;
        }
        went
    }

    /// Lets go of every live message.
    pub(super) fn release_all(&mut self, segment_size: u64, released: &mut Released) -> u32 {
        match &mut self.content {
            Content::Resident(entries) => {
                for (entry, place) in entries.iter_mut().zip(0..) {
                    if self.gone.insert(place) {
                        released.entry(entry, segment_size);
                        entry.message = None;
                    }
                }
            }
            Content::InLog { deliveries, shares } => {
                shares.iter().for_each(|s| released.segment(s.segment, s.references, s.bytes));
                shares.clear();
                deliveries.clear();
                (0..self.places).for_each(|place| {
                    self.gone.insert(place);
                });
            }
        }
        self.state = None;
        self.bytes = 0;
        std::mem::take(&mut self.live)
    }

    /// Lets go of the chunk's record.
    pub(super) fn release_page(&mut self, segment_size: u64, released: &mut Released) {
        if let Some((page, _)) = self.page.take() {
            let segment = SegmentId::holding(page.lsn, segment_size);
            released.segment(segment, 1, u64::from(page.length));
        }
    }

    fn place_of(&self, sequence: Sequence) -> Option<u32> {
        let place = sequence.0.checked_sub(self.base.0)?;
        (place < u64::from(self.places)).then_some(place as u32)
    }

    /// The entry of a live message whose place is in memory.
    fn entry_mut(&mut self, sequence: Sequence) -> Option<&mut Entry> {
        let place = self.place_of(sequence).filter(|place| !self.gone.contains(*place))?;
        match &mut self.content {
            Content::Resident(entries) => entries.get_mut(place as usize),
            Content::InLog { .. } => None,
        }
    }

    pub(super) fn set_deliveries(&mut self, sequence: Sequence, count: u16) {
        let Some(place) = self.place_of(sequence).filter(|place| !self.gone.contains(*place))
        else {
            return;
        };
        self.state = None;
        match &mut self.content {
            Content::Resident(entries) => entries[place as usize].deliveries = count,
            Content::InLog { deliveries, .. } => {
                let place = place as u16;
                match deliveries.binary_search_by_key(&place, |(other, _)| *other) {
                    Ok(at) => deliveries[at].1 = count,
                    Err(at) => deliveries.insert(at, (place, count)),
                }
            }
        }
    }

    /// See [`QueueIndex::fetch`](super::QueueIndex::fetch).
    pub(super) fn fetch(
        &mut self,
        from: Sequence,
        left: &mut usize,
        found: &mut impl FnMut(Found),
    ) -> bool {
        if self.live == 0 || self.aside {
            return true;
        }
        let mut place = from.0.saturating_sub(self.base.0).min(u64::from(self.places)) as u32;
        while let Some(next) = self.gone.next_absent(place, self.places) {
            if *left == 0 {
                return true;
            }
            let Content::Resident(entries) = &mut self.content else { return false };
            let entry = &mut entries[next as usize];
            place = next + 1;
            if entry.aside {
                continue;
            }
            let uncached = entry.cached();
            let message =
                if entry.is_durable() { entry.message.take() } else { entry.message.clone() };
            let Some(message) = message else { return false };
            let sequence = Sequence(self.base.0 + u64::from(next));
            found(Found { sequence, message, deliveries: entry.deliveries, uncached });
            *left -= 1;
        }
        true
    }

    /// See [`QueueIndex::missing`](super::QueueIndex::missing).
    pub(super) fn missing(&self, from: Sequence, messages: usize, bytes: u64) -> Missing {
        if self.aside {
            return Missing::Nothing;
        }
        let mut place = from.0.saturating_sub(self.base.0).min(u64::from(self.places)) as u32;
        let mut list = Vec::new();
        let mut left = bytes;
        while let Some(next) = self.gone.next_absent(place, self.places) {
            let Content::Resident(entries) = &self.content else {
                return self.not_resident().map_or(Missing::Nothing, Missing::Chunk);
            };
            let entry = &entries[next as usize];
            place = next + 1;
            if entry.aside || entry.message.is_some() {
                if list.is_empty() {
                    continue;
                }
                break;
            }
            if !list.is_empty() && (list.len() >= messages || u64::from(entry.length) > left) {
                break;
            }
            left = left.saturating_sub(u64::from(entry.length));
            list.push((Sequence(self.base.0 + u64::from(next)), entry.lsn, entry.length));
        }
        if list.is_empty() { Missing::Nothing } else { Missing::Messages(list) }
    }

    pub(super) fn not_resident(&self) -> Option<NotResident> {
        match (&self.content, &self.page) {
            (Content::InLog { .. }, Some((page, _))) => {
                Some(NotResident { base: self.base, page: *page })
            }
            _ => None,
        }
    }

    /// Sets all the chunk's messages aside, if it still needs that record; gives their number.
    pub(super) fn set_chunk_aside(&mut self, page: PageRef) -> u32 {
        let needed = self.not_resident().is_some_and(|missing| missing.page == page);
        if !needed || self.aside {
            return 0;
        }
        self.aside = true;
        self.live
    }

    /// Takes the places as its record has them, with what has happened to them since.
    pub(super) fn install(&mut self, record: Vec<Option<ChunkEntry>>) {
        let Content::InLog { deliveries, .. } = &self.content else { return };
        let mut entries: Vec<Entry> = record.into_iter().map(Entry::from_record).collect();
        for (place, count) in deliveries {
            if let Some(entry) = entries.get_mut(usize::from(*place)) {
                entry.deliveries = *count;
            }
        }
        for (place, entry) in (0..).zip(&entries) {
            debug_assert!(
                entry.is_durable() || self.gone.contains(place),
                "a place without a record"
            );
        }
        self.content = Content::Resident(entries);
    }

    pub(super) fn install_message(
        &mut self,
        sequence: Sequence,
        lsn: Lsn,
        message: Arc<Message>,
    ) -> bool {
        match self.entry_mut(sequence) {
            Some(entry) if entry.lsn == lsn && entry.message.is_none() => {
                entry.message = Some(message);
                true
            }
            _ => false,
        }
    }

    pub(super) fn set_aside(&mut self, sequence: Sequence, lsn: Lsn) -> bool {
        match self.entry_mut(sequence) {
            Some(entry) if entry.lsn == lsn && !entry.aside => {
                entry.aside = true;
                true
            }
            _ => false,
        }
    }

    /// The live entries with their places, as far as they are in memory.
    fn live_entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        let entries = match &self.content {
            Content::Resident(entries) => entries.as_slice(),
            Content::InLog { .. } => &[],
        };
        (0..).zip(entries).filter(|(place, _)| !self.gone.contains(*place))
    }

    pub(super) fn live_places(&self) -> Vec<Sequence> {
        let live = (0..self.places).filter(|place| !self.gone.contains(*place));
        live.map(|place| Sequence(self.base.0 + u64::from(place))).collect()
    }

    pub(super) fn durable_messages(&self) -> impl Iterator<Item = (Sequence, Lsn, u32)> {
        self.live_entries().filter(|(_, entry)| entry.is_durable()).map(|(place, entry)| {
            (Sequence(self.base.0 + u64::from(place)), entry.lsn, entry.length)
        })
    }

    /// What the live messages need of each segment.
    fn shares(&self, segment_size: u64) -> Vec<SegmentShare> {
        match &self.content {
            Content::InLog { shares, .. } => shares.clone(),
            Content::Resident(_) => {
                let mut needed = Released::default();
                for (_, entry) in self.live_entries() {
                    needed.entry(entry, segment_size);
                }
                needed.shares
            }
        }
    }

    /// The state for a checkpoint; `None`: nothing in here would survive a restart.
    pub(super) fn snapshot<E>(
        &mut self,
        segment_size: u64,
        released: &mut Released,
        save: &mut impl FnMut(
            Sequence,
            &mut dyn ExactSizeIterator<Item = Option<ChunkEntry>>,
        ) -> Result<PageRef, E>,
    ) -> Result<Option<ChunkState>, E> {
        if let Some(state) = &self.state {
            return Ok(Some(state.clone()));
        }
        let (deliveries, shares, gone) = match &self.content {
            Content::InLog { deliveries, shares } => {
                (deliveries.clone(), shares.clone(), self.gone.clone())
            }
            Content::Resident(_) => {
                let deliveries = self
                    .live_entries()
                    .filter(|(_, entry)| entry.deliveries > 0)
                    .map(|(place, entry)| (place as u16, entry.deliveries))
                    .collect();
                (deliveries, self.shares(segment_size), self.gone_after_restart())
            }
        };
        if shares.is_empty() {
            self.release_page(segment_size, released);
            return Ok(None);
        }
        let page = match (&self.page, &self.content) {
            (Some((page, places)), _) if *places == self.places => *page,
            (_, Content::Resident(entries)) => {
                let mut places = entries.iter().enumerate().map(|(place, entry)| {
                    (!gone.contains(place as u32)).then_some(ChunkEntry {
                        lsn: entry.lsn,
                        length: entry.length,
                        sharers: entry.sharers,
                    })
                });
                let page = save(self.base, &mut places)?;
                self.release_page(segment_size, released);
                self.page = Some((page, self.places));
                page
            }
            (_, Content::InLog { .. }) => {
                unreachable!("places that are only in the log have a record with all of them")
            }
        };
        let state = ChunkState {
            base: self.base,
            places: self.places,
            page,
            gone: gone.words().to_vec(),
            deliveries,
            shares,
        };
        self.state = Some(state.clone());
        Ok(Some(state))
    }

    /// What is gone by now, and what a restart takes away: the messages that are in memory only.
    fn gone_after_restart(&self) -> Places {
        let mut gone = self.gone.clone();
        for (place, entry) in self.live_entries() {
            if !entry.is_durable() {
                gone.insert(place);
            }
        }
        gone
    }
}
