//! Looking through all segments for messages that are not to be had where they should be.
//!
//! Compaction leaves the record of a message that it moves behind, for as long as the segment's file is not used again: so a
//! damaged record may have a whole double. And where a queue's list of places is damaged, the messages say themselves
//! which places they have. A place is given once, so whatever record has it is the right one; but for what a torn tail has
//! left, which was never confirmed, and whose places were given again. That is void, and is not taken for a message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::lost_list::LostList;
use super::sweep::{Counts, Sweep};
use super::verify::{Findings, LostMessage};
use crate::storage::error::OpenError;
use crate::storage::record::{ChunkEntry, Part, RecordKind, message_at_front};
use crate::storage::recovery::{Examined, Recovered, end_of};
use crate::storage::segment::Segment;
use crate::storage::units::{Lsn, QueueId, SegmentId, Sequence};

/// Where a message is found that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeRecord {
    /// Its record.
    pub lsn: Lsn,
    /// The record's length in bytes.
    pub bytes: u32,
    /// How many queues share it.
    pub(super) sharers: u16,
}

impl WholeRecord {
    /// What an index has of it.
    pub(super) fn entry(&self) -> ChunkEntry {
        ChunkEntry { lsn: self.lsn, length: self.bytes, sharers: self.sharers }
    }
}

/// Looks for the messages that the findings call lost, and for those of directories that cannot be read, which are added to
/// the findings. Gives the segments that anything was found in.
pub(super) fn find(
    examined: &Examined,
    recovered: &Recovered,
    findings: &mut Findings,
) -> Result<BTreeSet<SegmentId>, OpenError> {
    let mut wanted = Wanted::default();
    for finding in findings.list() {
        let trusted: Rc<[SegmentId]> = match finding.messages.first() {
            Some(first) if finding.list => needed_segments(recovered, first).into(),
            _ => Rc::new([]),
        };
        wanted.add(&finding.messages, &trusted);
    }
    let mut lists: Vec<LostList<'_>> = examined
        .lost_directories
        .iter()
        .map(|lost| LostList::new(examined, recovered, lost))
        .collect();
    if wanted.0.is_empty() && lists.is_empty() {
        return Ok(BTreeSet::new());
    }
    let size = recovered.segments.segment_size();
    let segments = examined.readable.all();
    for (index, segment) in segments.iter().enumerate() {
        let end = end_of(segment, &segments[index + 1..], size, Some(recovered.end));
        let mut sweep = Sweep::new(segment, size, end)?;
        let proven = sweep.proven();
        sweep.run(&mut Counts::default(), &mut Findings::default(), |lsn, record| {
            wanted.take(segment, lsn < proven, lsn, record);
            lists.iter_mut().for_each(|list| list.take(lsn < proven, lsn, record));
        })?;
    }
    for finding in findings.list_mut() {
        for lost in &mut finding.messages {
            lost.record = wanted.found(lost);
        }
    }
    lists.into_iter().for_each(|list| findings.add(list.finding(recovered)));
    let all = findings.list().iter().flat_map(|finding| &finding.messages);
    let records = all.filter_map(|lost| lost.record);
    Ok(records.map(|record| SegmentId::holding(record.lsn, size)).collect())
}

/// The segments that the messages of a damaged list are in, as the checkpoint says.
fn needed_segments(recovered: &Recovered, first: &LostMessage) -> Vec<SegmentId> {
    let queue = recovered.catalog.queue(first.queue);
    queue.map(|q| q.state.lock().index.needed_segments(first.sequence)).unwrap_or_default()
}

/// Notes where a message is, as a record of it says.
pub(super) fn whole_record(lsn: Lsn, record: &Part<'_>, references: usize) -> WholeRecord {
    let sharers = u16::try_from(references).unwrap_or(u16::MAX);
    WholeRecord { lsn, bytes: record.size() as u32, sharers }
}

/// Places whose messages are looked for.
#[derive(Debug, Default)]
struct Wanted(HashMap<(QueueId, Sequence), Place>);

/// One of them.
#[derive(Debug)]
struct Place {
    /// The segments in which a record counts although it may be void: the checkpoint says that messages of the same list
    /// are there.
    trusted: Rc<[SegmentId]>,
    found: Option<WholeRecord>,
}

impl Wanted {
    fn add(&mut self, messages: &[LostMessage], trusted: &Rc<[SegmentId]>) {
        let places = messages.iter().map(|lost| (lost.queue, lost.sequence));
        let place = || Place { trusted: trusted.clone(), found: None };
        self.0.extend(places.map(|at| (at, place())));
    }

    fn take(&mut self, segment: &Arc<Segment>, proven: bool, lsn: Lsn, record: &Part<'_>) {
        // What was transient is not live, and its place may have been given again.
        if !matches!(record.kind, RecordKind::Message | RecordKind::Moved) || self.0.is_empty() {
            return;
        }
        let Ok(Some(message)) = message_at_front(record) else { return };
        let references = message.references();
        let whole = whole_record(lsn, record, references.len());
        for reference in references {
            if let Some(place) = self.0.get_mut(&(reference.queue, reference.sequence))
                && (proven || place.trusted.contains(&segment.id()))
            {
                // The segments come in the order of the log: the last place that a message was moved to counts.
                place.found = Some(whole);
            }
        }
    }

    fn found(&self, lost: &LostMessage) -> Option<WholeRecord> {
        self.0.get(&(lost.queue, lost.sequence)).and_then(|place| place.found)
    }
}

/// Which of a queue's messages are found, by place.
pub(super) type Found = BTreeMap<Sequence, WholeRecord>;
