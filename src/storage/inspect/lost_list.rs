//! A directory of a deep queue that cannot be read: which messages were in it has to be found out from the log.
//!
//! Whole records of messages say which places they have. Which of these are gone is said by acknowledgements, by older
//! states of the queue's chunks and by the records of chunks, as far as they are still there: each of them is true for
//! ever, because a place is given once. An acknowledgement whose record was in a segment that is used for something else
//! by now is not known any more, and its message comes back, if that is still there.

use super::search::{Found, WholeRecord, whole_record};
use super::verify::{Finding, LostMessage};
use crate::storage::index::{DIRECTORY_PLACES, Places};
use crate::storage::record::{
    AcknowledgeRecord, ChunkRecord, ChunkState, Directory, Part, QueuePage, RecordKind,
    message_at_front,
};
use crate::storage::recovery::{Examined, LostDirectory, Recovered};
use crate::storage::units::{Lsn, Sequence, SequenceRange};

/// The most places that a chunk can have: so far the last chunk of a directory reaches into the next one.
const OVERHANG: u64 = 1 << 16;

/// What is known of a directory's places.
#[derive(Debug)]
pub(super) struct LostList<'a> {
    lost: &'a LostDirectory,
    first: Sequence,
    /// One past the last place that may have been in it.
    end: Sequence,
    found: Found,
    /// Counted from the first.
    gone: Places,
    /// The record of a chunk says that there was a message.
    listed: Places,
}

impl<'a> LostList<'a> {
    pub(super) fn new(
        examined: &Examined,
        recovered: &Recovered,
        lost: &'a LostDirectory,
    ) -> LostList<'a> {
        let first = Sequence::new(lost.number.saturating_mul(DIRECTORY_PLACES));
        let border = Sequence::new(first.get().saturating_add(DIRECTORY_PLACES));
        // A chunk that begins before the border may lie across it, up to where the next one begins.
        let mut end = Sequence::new(border.get().saturating_add(OVERHANG));
        let queue = recovered.catalog.queue(lost.queue);
        if let Some(next) =
            queue.and_then(|queue| queue.state.lock().index.first_chunk_from(border))
        {
            end = end.min(next);
        }
        let others = examined.lost_directories.iter().filter(|other| other.queue == lost.queue);
        if others.clone().any(|other| other.number == lost.number.saturating_add(1)) {
            end = border;
        }
        // What was appended later has been replayed.
        let end = end.min(lost.next);
        LostList {
            lost,
            first,
            end,
            found: Found::new(),
            gone: Places::default(),
            listed: Places::default(),
        }
    }

    /// Looks at a record. `proven`: it is not part of a torn tail.
    pub(super) fn take(&mut self, proven: bool, lsn: Lsn, record: &Part<'_>) {
        match record.kind {
            RecordKind::Message | RecordKind::Moved | RecordKind::Transient => {
                let Ok(Some(message)) = message_at_front(record) else { return };
                let references = message.references();
                let whole = whole_record(lsn, record, references.len());
                for reference in references.filter(|r| r.queue == self.lost.queue) {
                    let place = reference.sequence;
                    if record.kind == RecordKind::Transient {
                        self.gone(SequenceRange::one(place), proven);
                    } else if self.first <= place && place < self.end {
                        self.found.insert(place, whole);
                    }
                }
            }
            RecordKind::Acknowledge => {
                let acknowledged = AcknowledgeRecord::decode(record.payload).ok();
                if let Some(acknowledged) = acknowledged.filter(|a| a.queue == self.lost.queue) {
                    acknowledged.ranges().for_each(|range| self.gone(range, proven));
                }
            }
            RecordKind::Chunk => {
                let chunk = ChunkRecord::decode(record.payload).ok();
                if let Some(chunk) = chunk.filter(|chunk| chunk.queue == self.lost.queue) {
                    self.chunk(&chunk, proven);
                }
            }
            RecordKind::Directory => {
                let directory = Directory::decode(record.payload).ok();
                if let Some(directory) = directory.filter(|d| d.queue == self.lost.queue) {
                    directory.chunks.iter().for_each(|chunk| self.state(chunk, proven));
                }
            }
            RecordKind::QueuePage => {
                let queues = QueuePage::decode(record.payload).map(|page| page.queues);
                let queues = queues.into_iter().flatten().filter(|q| q.id == self.lost.queue);
                queues.for_each(|queue| queue.chunks.iter().for_each(|c| self.state(c, proven)));
            }
            RecordKind::Delivered
            | RecordKind::Topology
            | RecordKind::Opened
            | RecordKind::MetadataPage
            | RecordKind::Root => {}
        }
    }

    /// The record of a chunk has every message that was live when it was written, and none else.
    fn chunk(&mut self, chunk: &ChunkRecord, proven: bool) {
        let mut next = chunk.base;
        for (place, _) in &chunk.entries {
            let place = Sequence::new(chunk.base.get().saturating_add(u64::from(*place)));
            if let Some(before) = place.previous().and_then(|p| SequenceRange::new(next, p)) {
                self.gone(before, proven);
            }
            next = Sequence::new(place.get().saturating_add(1));
            if let Some(place) = self.counted(place) {
                self.listed.insert(place);
            }
        }
        let end = Sequence::new(chunk.base.get().saturating_add(u64::from(chunk.places)));
        if let Some(rest) = end.previous().and_then(|last| SequenceRange::new(next, last)) {
            self.gone(rest, proven);
        }
    }

    fn state(&mut self, chunk: &ChunkState, proven: bool) {
        let places = u64::try_from(chunk.gone.len()).unwrap_or(u64::MAX).saturating_mul(64);
        for place in 0..places.min(u64::from(chunk.places)) {
            if chunk.gone[place as usize / 64] >> (place % 64) & 1 == 1 {
                let place = Sequence::new(chunk.base.get().saturating_add(place));
                self.gone(SequenceRange::one(place), proven);
            }
        }
    }

    fn gone(&mut self, range: SequenceRange, proven: bool) {
        let first = range.first.max(self.first);
        if proven && first < self.end {
            let end = self.end.min(Sequence::new(range.last.get().saturating_add(1)));
            (first.get()..end.get()).for_each(|place| {
                self.gone.insert((place - self.first.get()) as u32);
            });
        }
    }

    fn counted(&self, place: Sequence) -> Option<u32> {
        (self.first <= place && place < self.end).then(|| place.since(self.first) as u32)
    }

    /// What was found out. Places of chunks that are known otherwise are not this directory's.
    pub(super) fn finding(self, recovered: &Recovered) -> Finding {
        let LostDirectory { damage, page, .. } = self.lost;
        let mut finding = Finding {
            file: damage.file.clone(),
            offset: damage.offset,
            bytes: u64::from(page.length),
            what: damage.what.clone(),
            needed: true,
            list: true,
            uncertain: true,
            ..Finding::default()
        };
        let Some(queue) = recovered.catalog.queue(self.lost.queue) else { return finding };
        let state = queue.state.lock();
        let mut places: Vec<(Sequence, Option<WholeRecord>)> =
            self.found.iter().map(|(place, record)| (*place, Some(*record))).collect();
        let listed = self.listed.iter().map(|n| Sequence::new(self.first.get() + u64::from(n)));
        places.extend(listed.filter(|p| !self.found.contains_key(p)).map(|place| (place, None)));
        places.retain(|(place, _)| {
            let gone = self.counted(*place).is_none_or(|place| self.gone.contains(place));
            !gone && !state.index.covers(*place)
        });
        places.sort_unstable_by_key(|(place, _)| *place);
        let messages = places.into_iter().map(|(sequence, record)| LostMessage {
            queue: queue.id(),
            attributes: queue.attributes().clone(),
            sequence,
            record,
        });
        finding.messages = messages.collect();
        finding
    }
}
