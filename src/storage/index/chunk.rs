//! A run of a queue's places.

mod mend;

use super::in_log::InLog;
use super::messages::Messages;
use super::places::Places;
use super::{Found, Missing, MissingMessage, NotResident, Released};
use crate::storage::message::Message;
use crate::storage::record::{ChunkEntry, ChunkRecord, ChunkState, PageRef};
use crate::storage::units::{Lsn, SegmentId, Sequence, SequenceRange};

/// How many places a chunk has when it is full, unless something else was asked for.
pub(super) const PLACES: u32 = 2048;

/// Resident places are counted in steps of so many.
const COUNTED: u32 = 64;

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
    /// It does not survive a restart, record or not.
    pub(crate) transient: bool,
    /// It could not be read, and waits for somebody to look at it.
    pub(crate) aside: bool,
}

impl Entry {
    /// Whether there is a record of it.
    pub(crate) fn is_in_log(&self) -> bool {
        self.lsn != Lsn::ZERO
    }

    /// Whether a restart brings it back.
    pub(crate) fn survives(&self) -> bool {
        self.is_in_log() && !self.transient
    }

    pub(crate) fn stored(&self) -> ChunkEntry {
        ChunkEntry { lsn: self.lsn, length: self.length, sharers: self.sharers }
    }

    /// The message in a place of the chunk that begins at `base`, to be read.
    fn missing(&self, base: Sequence, place: u32) -> MissingMessage {
        let Entry { lsn, length, sharers, .. } = *self;
        MissingMessage { sequence: Sequence(base.0 + u64::from(place)), lsn, length, sharers }
    }

    /// The queue's share of the bytes.
    pub(crate) fn share(&self) -> u64 {
        self.stored().share()
    }

    /// What an index holds of a record that the log has.
    pub(crate) fn at(stored: ChunkEntry) -> Entry {
        let ChunkEntry { lsn, length, sharers } = stored;
        Entry { lsn, length, sharers, deliveries: 0, transient: false, aside: false }
    }

    /// What stands in a place that holds nothing; it is gone, so it is never looked at.
    fn nothing() -> Entry {
        Entry::at(ChunkEntry { lsn: Lsn::ZERO, length: 0, sharers: 1 })
    }
}

/// A run of places, `base` to `base + places`.
#[derive(Debug)]
pub(crate) struct Chunk {
    base: Sequence,
    places: u32,
    /// It takes no more places than this.
    limit: u32,
    live: u32,
    /// The live messages' share, in bytes; an estimate while there are places that are not settled.
    bytes: u64,
    gone: Places,
    content: Content,
    /// Of a chunk that is resident.
    messages: Messages,
    /// The record with the places.
    page: Option<PageRef>,
    /// How many places that record has; 0: what it has is not true any more.
    page_places: u32,
    /// The last checkpoint does not have it as it is now.
    changed: bool,
    /// The record with the places could not be read: its messages wait for somebody to look at it.
    aside: bool,
}

#[derive(Debug)]
enum Content {
    Resident(Vec<Entry>),
    /// Only in the log, with what has to be known without reading it.
    InLog(Box<InLog>),
}

impl Chunk {
    pub(super) fn new(base: Sequence, limit: u32) -> Chunk {
        Chunk {
            base,
            places: 0,
            limit,
            live: 0,
            bytes: 0,
            gone: Places::default(),
            content: Content::Resident(Vec::new()),
            messages: Messages::default(),
            page: None,
            page_places: 0,
            changed: true,
            aside: false,
        }
    }

    pub(super) fn restore(state: ChunkState) -> Chunk {
        let gone = Places::from_words(state.gone);
        let live = state.places - gone.count(state.places).min(state.places);
        let log = InLog {
            deliveries: state.deliveries,
            shares: state.shares,
            unsettled: Places::from_words(state.unsettled),
            moved: state.moved,
            transient: Places::default(),
        };
        Chunk {
            base: state.base,
            places: state.places,
            limit: state.places,
            live,
            bytes: log.bytes_of(live),
            gone,
            content: Content::InLog(Box::new(log)),
            messages: Messages::default(),
            page: Some(state.page),
            page_places: state.places,
            changed: false,
            aside: false,
        }
    }

    pub(super) fn base(&self) -> Sequence {
        self.base
    }

    pub(super) fn places(&self) -> u32 {
        self.places
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    pub(super) fn is_resident(&self) -> bool {
        matches!(self.content, Content::Resident(_))
    }

    /// How many places it has in memory, as they are counted.
    pub(super) fn resident(&self) -> u32 {
        if self.is_resident() { self.places.next_multiple_of(COUNTED) } else { 0 }
    }

    /// Nothing can be added any more.
    pub(super) fn is_full(&self) -> bool {
        self.places >= self.limit || !self.is_resident()
    }

    /// The next message can be added here.
    pub(super) fn accepts(&self, sequence: Sequence) -> bool {
        !self.is_full() && self.base.0 + u64::from(self.places) == sequence.0
    }

    pub(super) fn push(&mut self, entry: Entry, message: Option<Message>) {
        if let Some(message) = message {
            self.messages.insert(self.places, message);
        }
        self.changed = true;
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
        self.push(Entry::nothing(), None);
        self.live -= 1;
    }

    /// The places of `range` within this chunk, as an interval.
    fn overlap(&self, range: SequenceRange) -> (u32, u32) {
        let within =
            |sequence: u64| sequence.saturating_sub(self.base.0).min(u64::from(self.places));
        (within(range.first.0) as u32, within(range.last.0.saturating_add(1)) as u32)
    }

    /// How many live messages there are between two places.
    fn live_within(&self, first: u32, end: u32) -> u32 {
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
        if self.live == 0 || first >= end {
            return 0;
        }
        let resident = self.is_resident();
        if !resident && self.live_within(first, end) == self.live {
            return self.release_all(segment_size, released);
        }
        let mut went = 0;
        let mut place = first;
        while let Some(next) = self.gone.next_absent(place, end) {
            self.gone.insert(next);
            match &mut self.content {
                Content::Resident(entries) => {
                    let entry = &entries[next as usize];
                    released.entry(entry, segment_size);
                    released.cached += self.messages.drop_at(next);
                    self.bytes -= entry.share();
                }
                // Which segment gets its share back is found out when the record is next read.
                Content::InLog(log) => log.take_out(next, released),
            }
            went += 1;
            place = next + 1;
        }
        if went > 0 {
            if !resident {
                self.bytes -= self.bytes / u64::from(self.live) * u64::from(went);
            }
            self.live -= went;
            self.changed = true;
        }
        went
    }

    /// Lets go of every live message.
    pub(super) fn release_all(&mut self, segment_size: u64, released: &mut Released) -> u32 {
        match &mut self.content {
            Content::Resident(entries) => {
                for (entry, place) in entries.iter().zip(0..) {
                    if self.gone.insert(place) {
                        released.entry(entry, segment_size);
                    }
                }
                released.cached += self.messages.clear();
            }
            Content::InLog(log) => {
                log.release_all(self.live, released);
                (0..self.places).for_each(|place| {
                    self.gone.insert(place);
                });
            }
        }
        self.changed = true;
        self.bytes = 0;
        std::mem::take(&mut self.live)
    }

    /// Lets go of the chunk's record.
    pub(super) fn release_page(&mut self, segment_size: u64, released: &mut Released) {
        self.page_places = 0;
        if let Some(page) = self.page.take() {
            released.page(page, segment_size);
        }
    }

    fn place_of(&self, sequence: Sequence) -> Option<u32> {
        let place = sequence.0.checked_sub(self.base.0)?;
        (place < u64::from(self.places)).then_some(place as u32)
    }

    /// The place of a live message.
    fn live_place(&self, sequence: Sequence) -> Option<u32> {
        self.place_of(sequence).filter(|place| !self.gone.contains(*place))
    }

    /// The entry of a live message whose place is in memory.
    fn entry_mut(&mut self, sequence: Sequence) -> Option<&mut Entry> {
        let place = self.live_place(sequence)?;
        match &mut self.content {
            Content::Resident(entries) => entries.get_mut(place as usize),
            Content::InLog(_) => None,
        }
    }

    pub(super) fn set_deliveries(&mut self, sequence: Sequence, count: u16) {
        let Some(place) = self.live_place(sequence) else { return };
        self.changed = true;
        match &mut self.content {
            Content::Resident(entries) => entries[place as usize].deliveries = count,
            Content::InLog(log) => log.set_deliveries(place as u16, count),
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
            let Content::Resident(entries) = &self.content else { return false };
            let entry = &entries[next as usize];
            place = next + 1;
            if entry.aside {
                continue;
            }
            // What the log has too leaves the memory.
            let in_log = entry.is_in_log();
            let message =
                if in_log { self.messages.take(next) } else { self.messages.get(next).cloned() };
            let Some(message) = message else { return false };
            let uncached = if in_log { message.footprint() } else { 0 };
            let sequence = Sequence(self.base.0 + u64::from(next));
            found(Found { sequence, message, deliveries: entry.deliveries, uncached });
            *left -= 1;
        }
        true
    }

    /// See [`QueueIndex::is_loaded`](super::QueueIndex::is_loaded). Takes what it finds from `left`.
    pub(super) fn is_loaded(&self, from: Sequence, left: &mut usize) -> bool {
        if self.live == 0 || self.aside {
            return true;
        }
        let mut place = from.0.saturating_sub(self.base.0).min(u64::from(self.places)) as u32;
        while *left > 0
            && let Some(next) = self.gone.next_absent(place, self.places)
        {
            let Content::Resident(entries) = &self.content else { return false };
            let entry = &entries[next as usize];
            place = next + 1;
            if entry.aside {
                continue;
            }
            if !self.messages.contains(next) {
                return false;
            }
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
            if entry.aside || self.messages.contains(next) {
                if list.is_empty() {
                    continue;
                }
                break;
            }
            if !list.is_empty() && (list.len() >= messages || u64::from(entry.length) > left) {
                break;
            }
            left = left.saturating_sub(u64::from(entry.length));
            list.push(entry.missing(self.base, next));
        }
        if list.is_empty() { Missing::Nothing } else { Missing::Messages(list) }
    }

    pub(super) fn not_resident(&self) -> Option<NotResident> {
        match (&self.content, &self.page) {
            (Content::InLog(_), Some(page)) => Some(NotResident { base: self.base, page: *page }),
            _ => None,
        }
    }

    /// A chunk whose record has to be read, and [settled](Self::settle), for its shares to be exact.
    pub(super) fn unsettled(&self) -> Option<NotResident> {
        match &self.content {
            Content::InLog(log) if !self.aside && !log.is_settled() => self.not_resident(),
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

    /// Takes the places as the record at `page` has them, with what has happened to them since.
    pub(super) fn install(
        &mut self,
        page: PageRef,
        record: &ChunkRecord,
        segment_size: u64,
        released: &mut Released,
    ) {
        let Content::InLog(log) = &mut self.content else { return };
        if self.page != Some(page) {
            return; // There is a newer record.
        }
        self.changed |= !log.is_settled();
        log.settle(record, segment_size, released);
        let mut entries = vec![Entry::nothing(); self.places as usize];
        for (place, stored) in record.entries.iter().chain(&log.moved) {
            if let Some(entry) = entries.get_mut(usize::from(*place)) {
                *entry = Entry::at(*stored);
            }
        }
        for (place, count) in &log.deliveries {
            if let Some(entry) = entries.get_mut(usize::from(*place)) {
                entry.deliveries = *count;
            }
        }
        for place in log.transient.iter() {
            if let Some(entry) = entries.get_mut(place as usize) {
                entry.transient = true;
            }
        }
        if !log.moved.is_empty() {
            self.page_places = 0;
        }
        self.content = Content::Resident(entries);
        self.bytes = self.live_entries().map(|(_, entry)| entry.share()).sum();
    }

    /// Makes the shares of a chunk that is not in memory exact; with the moves in it, the record is not true any more.
    /// True: a new one should be [saved](Self::saved).
    pub(super) fn settle(
        &mut self,
        page: PageRef,
        record: &ChunkRecord,
        segment_size: u64,
        released: &mut Released,
    ) -> bool {
        let Content::InLog(log) = &mut self.content else { return false };
        if self.page != Some(page) {
            return false;
        }
        log.settle(record, segment_size, released);
        log.moved.retain(|(place, _)| !self.gone.contains(u32::from(*place)));
        self.bytes = log.bytes_of(self.live);
        self.changed = true;
        !log.moved.is_empty()
    }

    /// What a new record of a chunk that is not in memory has to have, as `record` and what has happened since say.
    pub(super) fn rewritten(&self, record: &ChunkRecord) -> Vec<(u16, ChunkEntry)> {
        let Content::InLog(log) = &self.content else { return Vec::new() };
        let live = |place: &u16| !self.gone.contains(u32::from(*place));
        let entries = record.entries.iter().filter(|(place, _)| live(place));
        entries.map(|(place, stored)| (*place, log.moved_to(*place).unwrap_or(*stored))).collect()
    }

    /// Has a new record, with all that [`rewritten`](Self::rewritten) or [`stored`](Self::stored) gave.
    pub(super) fn saved(&mut self, page: PageRef, segment_size: u64, released: &mut Released) {
        self.release_page(segment_size, released);
        self.page = Some(page);
        self.page_places = self.places;
        self.changed = true;
        if let Content::InLog(log) = &mut self.content {
            log.moved = Vec::new();
        }
    }

    /// Whether the chunk's record has all that there is.
    pub(super) fn is_saved(&self) -> bool {
        self.page.is_some() && self.page_places == self.places
    }

    pub(super) fn page(&self) -> Option<PageRef> {
        self.page
    }

    /// What a record of a chunk that is in memory has to have.
    pub(super) fn stored(&self) -> impl Iterator<Item = (u16, ChunkEntry)> {
        self.live_entries()
            .filter(|(_, entry)| entry.is_in_log())
            .map(|(place, entry)| (place as u16, entry.stored()))
    }

    /// The messages that are in memory only.
    pub(super) fn in_memory(&self) -> Vec<(Sequence, Message)> {
        self.live_entries()
            .filter(|(_, entry)| !entry.is_in_log())
            .filter_map(|(place, _)| {
                let message = self.messages.get(place)?.clone();
                Some((Sequence(self.base.0 + u64::from(place)), message))
            })
            .collect()
    }

    /// Drops the messages that the log has too. Returns their bytes of the memory budget.
    pub(super) fn evict(&mut self) -> u64 {
        let Content::Resident(entries) = &self.content else { return 0 };
        self.messages.evict(|place| entries[place as usize].is_in_log())
    }

    /// A message that was in memory only is in the log as well now.
    pub(super) fn written(&mut self, sequence: Sequence, stored: ChunkEntry) {
        let Some(entry) = self.entry_mut(sequence) else { return };
        let before = entry.share();
        (entry.lsn, entry.length, entry.sharers) = (stored.lsn, stored.length, stored.sharers);
        self.bytes = self.bytes - before + stored.share();
        self.page_places = 0;
        self.changed = true;
    }

    /// Leaves the places to the record, which has them all; false: something in here has to stay in memory.
    pub(super) fn spill(&mut self, segment_size: u64, released: &mut Released) -> bool {
        let Content::Resident(_) = &self.content else { return false };
        let stays = |(_, entry): (u32, &Entry)| entry.aside || !entry.is_in_log();
        if !self.is_saved() || self.live_entries().any(stays) {
            return false;
        }
        let mut log = InLog::default();
        let mut shares = Released::default();
        for (place, entry) in self.live_entries() {
            shares.entry(entry, segment_size);
            if entry.deliveries > 0 {
                log.deliveries.push((place as u16, entry.deliveries));
            }
            if entry.transient {
                log.transient.insert(place);
            }
        }
        log.shares = shares.merged();
        log.deliveries.shrink_to_fit();
        released.cached += self.messages.clear();
        self.content = Content::InLog(Box::new(log));
        true
    }

    pub(super) fn install_message(
        &mut self,
        sequence: Sequence,
        lsn: Lsn,
        message: Message,
    ) -> bool {
        let Some(place) = self.live_place(sequence) else { return false };
        let Content::Resident(entries) = &self.content else { return false };
        let wanted = entries[place as usize].lsn == lsn && !self.messages.contains(place);
        if wanted {
            self.messages.insert(place, message);
        }
        wanted
    }

    /// The place of a live message that is not in memory, and could be.
    pub(super) fn lacking(&self, sequence: Sequence) -> Option<u32> {
        let place = self.live_place(sequence)?;
        (self.is_resident() && !self.messages.contains(place)).then_some(place)
    }

    /// Puts a message into a place that [lacks](Self::lacking) it.
    pub(super) fn keep(&mut self, place: u32, message: Message) {
        self.messages.insert(place, message);
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

    /// Where the record of a live message is; `Err`: the chunk's record has to be read to tell.
    pub(super) fn find(&self, sequence: Sequence) -> Result<Option<ChunkEntry>, NotResident> {
        let Some(place) = self.live_place(sequence) else { return Ok(None) };
        match &self.content {
            Content::Resident(entries) => Ok(entries
                .get(place as usize)
                .filter(|entry| entry.is_in_log() && !entry.aside)
                .map(Entry::stored)),
            Content::InLog(_) if self.aside => Ok(None),
            Content::InLog(log) => match (log.moved_to(place as u16), self.not_resident()) {
                (Some(moved), _) => Ok(Some(moved)),
                (None, Some(missing)) => Err(missing),
                (None, None) => Ok(None),
            },
        }
    }

    /// Notes that the record of a live message is somewhere else now. `from` is where it was.
    pub(super) fn relocate(
        &mut self,
        sequence: Sequence,
        from: ChunkEntry,
        to: ChunkEntry,
        segment_size: u64,
        released: &mut Released,
    ) {
        let Some(place) = self.live_place(sequence) else { return };
        let left = match &mut self.content {
            Content::Resident(entries) => {
                let entry = &mut entries[place as usize];
                let left = entry.stored();
                (entry.lsn, entry.length, entry.sharers) = (to.lsn, to.length, to.sharers);
                self.page_places = 0;
                Some(left)
            }
            Content::InLog(log) => log.relocate(place as u16, from, to, segment_size),
        };
        // Nothing but what was counted: in a damaged log an earlier move may be missing.
        if let Some(left) = left {
            released.segment(SegmentId::holding(left.lsn, segment_size), 1, left.share());
        }
        self.bytes = (self.bytes + to.share()).saturating_sub(from.share());
        self.changed = true;
    }

    /// Whether what happened to the place at `lsn` is in the chunk already: its record is younger.
    pub(super) fn knows(&self, sequence: Sequence, lsn: Lsn) -> bool {
        let Some(place) = self.live_place(sequence) else { return true };
        match &self.content {
            Content::Resident(entries) => entries[place as usize].lsn >= lsn,
            Content::InLog(log) => {
                let moved = log.moved_to(place as u16).map(|moved| moved.lsn);
                moved.or(self.page.map(|page| page.lsn)).is_some_and(|known| known >= lsn)
            }
        }
    }

    /// The live entries with their places, as far as they are in memory.
    fn live_entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        let entries = match &self.content {
            Content::Resident(entries) => entries.as_slice(),
            Content::InLog(_) => &[],
        };
        (0..).zip(entries).filter(|(place, _)| !self.gone.contains(*place))
    }

    pub(super) fn live_places(&self) -> Vec<Sequence> {
        let live = (0..self.places).filter(|place| !self.gone.contains(*place));
        live.map(|place| Sequence(self.base.0 + u64::from(place))).collect()
    }

    pub(super) fn stored_messages(&self) -> impl Iterator<Item = MissingMessage> {
        let stored = self.live_entries().filter(|(_, entry)| entry.is_in_log());
        stored.map(|(place, entry)| entry.missing(self.base, place))
    }

    /// Whether a restart brings anything in here back.
    pub(super) fn survives(&self) -> bool {
        match &self.content {
            Content::Resident(_) => self.live_entries().any(|(_, entry)| entry.survives()),
            Content::InLog(log) => log.survivors(self.live, &self.gone) > 0,
        }
    }

    /// The state for a checkpoint; the chunk has to be [saved](Self::is_saved), unless it is not in memory.
    pub(super) fn state(&mut self, segment_size: u64) -> Option<ChunkState> {
        self.changed = false;
        let page = self.page.filter(|_| self.survives())?;
        let mut gone = self.gone.clone();
        let (deliveries, shares, unsettled, moved) = match &self.content {
            Content::Resident(_) => {
                let mut shares = Released::default();
                let mut deliveries = Vec::new();
                for (place, entry) in self.live_entries() {
                    if !entry.survives() {
                        gone.insert(place);
                        continue;
                    }
                    shares.entry(entry, segment_size);
                    if entry.deliveries > 0 {
                        deliveries.push((place as u16, entry.deliveries));
                    }
                }
                (deliveries, shares.merged(), Places::default(), Vec::new())
            }
            Content::InLog(log) => {
                // What is transient is gone after a restart, and the shares have it until somebody looks.
                let mut unsettled = log.unsettled.clone();
                for place in log.transient.iter().filter(|place| gone.insert(*place)) {
                    unsettled.insert(place);
                }
                (log.deliveries.clone(), log.shares.clone(), unsettled, log.moved.clone())
            }
        };
        Some(ChunkState {
            base: self.base,
            places: self.places,
            page,
            gone: gone.words().to_vec(),
            deliveries,
            shares,
            unsettled: unsettled.words().to_vec(),
            moved,
        })
    }
}
