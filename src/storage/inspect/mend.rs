//! Putting the indexes of a store right before it goes on: what was found again in its place, without what is lost.
//!
//! All of it happens in memory. A checkpoint makes it hold, or nothing of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::verify::{Finding, LostMessage};
use crate::storage::disk::write_all_at;
use crate::storage::error::OpenError;
use crate::storage::index::Released;
use crate::storage::queue::QueueCore;
use crate::storage::reader;
use crate::storage::record::ChunkEntry;
use crate::storage::recovery::Recovered;
use crate::storage::segment::SegmentSet;
use crate::storage::units::{Lsn, SegmentId, Sequence, SequenceRange};

/// The zeros that are written at a time, in bytes.
const FILLED: u64 = 1 << 20;

/// Puts right what the findings say is damaged. `readable` has all segments that messages may have been found in.
pub(super) fn mend(
    recovered: &Recovered,
    readable: &SegmentSet,
    findings: &[Finding],
) -> Result<(), OpenError> {
    let mend = Mend { recovered, readable };
    for finding in findings {
        let Some(first) = finding.messages.first() else { continue };
        if finding.list {
            if let Some(queue) = recovered.catalog.queue(first.queue) {
                mend.list(queue, first.sequence, &finding.messages)?;
            }
            continue;
        }
        for lost in &finding.messages {
            if let Some(queue) = recovered.catalog.queue(lost.queue) {
                mend.message(queue, lost)?;
            }
        }
    }
    mend.recount()
}

/// Gives the files of segments in use the length that they were made with: an open refuses them otherwise. What is missing
/// of a file is filled with zeros, in which nothing validates; what it has beyond its end was never a part of it.
pub(super) fn restore_sizes(recovered: &Recovered) -> Result<(), OpenError> {
    let segment_size = recovered.segments.segment_size();
    for segment in recovered.segments.all() {
        let io = |error| OpenError::io("restore the length of", &segment.path, error);
        let file = segment.file().expect("a segment that was found has a file");
        let (size, whole) =
            (file.size().map_err(io)?, u64::from(segment.header.slots) * segment_size);
        if size == whole {
            continue;
        }
        if size > whole {
            file.truncate(whole).map_err(io)?;
        }
        let zeros = vec![0; FILLED.min(whole.saturating_sub(size)) as usize];
        let mut at = size;
        while at < whole {
            let piece = &zeros[..FILLED.min(whole - at) as usize];
            write_all_at(&**file, piece, at).map_err(io)?;
            at += piece.len() as u64;
        }
        file.sync_all().map_err(io)?;
    }
    Ok(())
}

struct Mend<'a> {
    recovered: &'a Recovered,
    readable: &'a SegmentSet,
}

impl Mend<'_> {
    /// Gives the messages of a damaged list their places again.
    fn list(
        &self,
        queue: &QueueCore,
        first: Sequence,
        messages: &[LostMessage],
    ) -> Result<(), OpenError> {
        let found: BTreeMap<Sequence, ChunkEntry> = messages
            .iter()
            .filter_map(|lost| Some((lost.sequence, lost.record?.entry())))
            .collect();
        let mut released = Released::default();
        let mut state = queue.state.lock();
        state.changed = true;
        let needed = if state.index.covers(first) {
            let found = |sequence| found.get(&sequence).copied();
            state.index.rebuild(first, found, &mut released)
        } else {
            // Of a directory that is lost nothing else is known.
            let brought = found.into_iter();
            brought
                .filter(|(place, e)| state.index.bring_back(*place, *e))
                .map(|(_, e)| e)
                .collect()
        };
        drop(state);
        self.give_back(&released);
        needed.iter().try_for_each(|entry| self.count(*entry))
    }

    /// Points to where a message was found, or takes it out.
    fn message(&self, queue: &QueueCore, lost: &LostMessage) -> Result<(), OpenError> {
        let mut released = Released::default();
        let mut state = queue.state.lock();
        state.changed = true;
        match lost.record {
            Some(record) => {
                let nowhere = ChunkEntry { lsn: Lsn::ZERO, length: 0, sharers: 1 };
                let from = match state.index.find(lost.sequence) {
                    Ok(from) => from,
                    Err(missing) => reader::read_chunk(&self.recovered.segments, missing.page)?
                        .entry(lost.sequence.since(missing.base) as u16),
                };
                let from = from.unwrap_or(nowhere);
                state.index.relocate(lost.sequence, from, record.entry(), &mut released);
                drop(state);
                self.count(record.entry())?;
            }
            None => state.index.acknowledge(SequenceRange::one(lost.sequence), &mut released),
        }
        self.give_back(&released);
        Ok(())
    }

    /// Counts anew what the lists that are in the log need of segments. A damaged log may lack moves and acknowledgements, or
    /// have some of another history: what was counted by them is not to be believed, and an open refuses what cannot be.
    fn recount(&self) -> Result<(), OpenError> {
        for queue in self.recovered.catalog.queues.iter() {
            let missing = queue.state.lock().index.not_resident();
            for chunk in missing {
                let record = reader::read_chunk(&self.recovered.segments, chunk.page)?;
                let mut released = Released::default();
                let needed = {
                    let mut state = queue.state.lock();
                    state.changed = true;
                    state.index.recount(chunk, &record, &mut released)
                };
                // Before anything is given back, so that no count falls below zero on the way.
                needed.iter().try_for_each(|entry| self.count(*entry))?;
                self.give_back(&released);
            }
        }
        Ok(())
    }

    /// Counts what a message needs of its segment, which nothing may have needed any more.
    fn count(&self, entry: ChunkEntry) -> Result<(), OpenError> {
        let segments = &self.recovered.segments;
        let id = SegmentId::holding(entry.lsn, segments.segment_size());
        if segments.get(id).is_none()
            && let Some(segment) = self.readable.get(id)
        {
            let file = segment.file().expect("a segment that was found has a file");
            file.sync_all().map_err(|e| OpenError::io("sync", &segment.path, e))?;
            segments.insert(Arc::clone(&segment));
        }
        segments.add(id, 1, entry.share());
        Ok(())
    }

    fn give_back(&self, released: &Released) {
        for share in &released.shares {
            self.recovered.segments.remove_live(share.segment, share.references, share.bytes);
        }
    }
}
