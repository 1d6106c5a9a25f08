//! Following the log of a damaged store: over its holes, to whatever can be read behind them.
//!
//! [`walk`](super::walk) refuses a log with a hole in what was durable, and so does every open. Here the hole is noted and
//! the walk goes on, so that it can be told what is lost, and what a repair would keep. Applied is
//!
//! - every whole group, in the order of the log, unless a later one says that it is void;
//! - every whole record of a damaged group, and of a part of the log that no group header leads to, where something
//!   valid says that it was durable;
//! - the copy that compaction has made of a message whose first record is lost in a hole.
//!
//! The tail behind the last of these was never confirmed, and is left out, as ever.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::accounts::{Accounts, HoleIndex};
use super::directory::Directory;
use super::pieces::{Pieces, ScanError};
use super::replay::Replay;
use super::walk::{ApplyError, Walked};
use crate::storage::error::OpenError;
use crate::storage::log::group::{GROUP_HEADER, GroupFault, GroupHeader};
use crate::storage::record::{
    ChunkEntry, FRAME, MessageRecord, MovedRecord, Part, RecordKind, Search, message_at_front,
};
use crate::storage::segment::{PAGE, Segment, SegmentSet};
use crate::storage::superblock::Superblock;
use crate::storage::units::{Lsn, QueueId, SegmentId, SequenceRange};

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The file.
    pub file: PathBuf,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
}

/// A part of the log that was on stable storage, and that cannot be read, or not as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: Lsn,
    pub(crate) to: Lsn,
    pub(crate) what: String,
    /// What there is of it on disk.
    pub(crate) extents: Vec<Extent>,
    /// Whole records that were found in it.
    pub(crate) found: u64,
    /// What lies between these, without the padding of a group: from where to where.
    pub(crate) unread: Vec<(Lsn, Lsn)>,
    /// Places of queues that no record was found for: the messages that were lost. Transient messages leave such gaps,
    /// too.
    pub(crate) unaccounted: Vec<(QueueId, SequenceRange)>,
    /// Messages behind it whose queue is not known: it was deleted, or what created it is lost in the hole.
    pub(crate) strays: u64,
}

/// A group whose header is valid.
#[derive(Debug)]
struct Spot {
    segment: Arc<Segment>,
    header: GroupHeader,
    whole: bool,
}

/// Follows the log from `from` on, and replays what can be read.
pub(super) fn walk(
    directory: &Directory<'_>,
    superblock: &Superblock,
    segments: &SegmentSet,
    from: Lsn,
    replay: &mut Replay<'_>,
) -> Result<(Walked, Vec<Hole>), OpenError> {
    // An earlier move may be lost without a hole that shows it: with a segment of another history, say.
    replay.expect_missing_moves();
    let mut salvage = Salvage {
        directory,
        superblock,
        segments,
        replay,
        pieces: None,
        candidates: Vec::new(),
        holes: Vec::new(),
        accounts: Accounts::default(),
        totals: Walked {
            end: from,
            tail: None,
            reached: None,
            next_segment: SegmentId::FIRST,
            groups: 0,
            records: 0,
            bytes: 0,
            torn: false,
        },
    };
    salvage.run(from)?;
    Ok((salvage.totals, salvage.holes))
}

struct Salvage<'a, 'r> {
    directory: &'a Directory<'a>,
    superblock: &'a Superblock,
    segments: &'a SegmentSet,
    replay: &'a mut Replay<'r>,
    /// The segment that was read last.
    pieces: Option<Pieces>,
    /// The segments that can be read, in the order of the log.
    candidates: Vec<Arc<Segment>>,
    holes: Vec<Hole>,
    accounts: Accounts,
    totals: Walked,
}

impl Salvage<'_, '_> {
    fn run(&mut self, from: Lsn) -> Result<(), OpenError> {
        self.find_candidates(from)?;
        let mut spots = Vec::new();
        for segment in self.candidates.clone() {
            spots.extend(self.spots(&segment, from)?);
        }
        self.leave_out_provisional(&mut spots);
        let known = self.known_durable(&spots);

        // From the back: a group that begins behind the end of the one before a later one was cut off, and is void.
        let mut limit = Lsn(u64::MAX);
        spots.retain(|spot| spot.header.lsn >= from);
        let mut kept = Vec::new();
        for spot in spots.into_iter().rev().filter(|spot| spot.whole || spot.header.lsn < known) {
            if spot.header.lsn < limit {
                limit = spot.header.previous;
                kept.push(spot);
            }
        }

        let mut position = from;
        for spot in kept.into_iter().rev() {
            if spot.header.previous > position {
                let (from, to) = (position, spot.header.previous);
                self.hole(from, to, to, "no sync group can be read there")?;
            }
            self.segments.insert(spot.segment.clone());
            if spot.whole {
                self.group(&spot)?;
            } else {
                let GroupHeader { lsn, length, .. } = spot.header;
                let records_end = lsn.plus(GROUP_HEADER as u64 + u64::from(length));
                self.hole(lsn, spot.header.end(), records_end, "the sync group is damaged")?;
            }
            position = spot.header.end();
        }
        if known > position {
            let what = "no sync group can be read there, and the log was durable beyond";
            self.hole(position, known, known, what)?;
            position = known;
        }
        let accounts = std::mem::take(&mut self.accounts);
        for (hole, queue, places) in accounts.settle(|queue| self.replay.next_of(queue)) {
            self.holes[hole].unaccounted.push((queue, places));
        }
        self.totals.end = position;
        let highest = self.candidates.iter().map(|s| s.id().plus(u64::from(s.header.slots))).max();
        let named = self.directory.segments().map(|(id, _)| id.plus(1)).max();
        let named = named.max(self.superblock.last_known().map(|id| id.plus(1)));
        let behind = SegmentId::holding(position, self.superblock.segment_size).plus(1);
        self.totals.next_segment = highest.max(named).max(Some(behind)).unwrap_or(behind);
        Ok(())
    }

    /// The segments that the log may go on in from `from`.
    fn find_candidates(&mut self, from: Lsn) -> Result<(), OpenError> {
        let size = self.superblock.segment_size;
        let first = SegmentId::holding(from, size);
        let earlier = self.segments.all().into_iter().rfind(|segment| segment.id() < first);
        self.candidates.extend(earlier.filter(|segment| segment.contains(from, size)));
        for (id, _) in self.directory.segments().filter(|(id, _)| *id >= first) {
            let segment = match self.segments.get(id) {
                Some(known) => known,
                None => match self.directory.open_segment(&self.superblock.store, id, true)? {
                    Ok(segment) => Arc::new(segment),
                    // The log has a hole there.
                    Err(_) => continue,
                },
            };
            self.candidates.push(segment);
        }
        Ok(())
    }

    /// The pieces of a segment.
    fn take_pieces(&mut self, segment: &Arc<Segment>) -> Result<Pieces, OpenError> {
        match self.pieces.take().filter(|pieces| pieces.segment().id() == segment.id()) {
            Some(pieces) => Ok(pieces),
            None => pieces_of(segment, self.superblock.segment_size),
        }
    }

    fn start(&self, segment: &Segment) -> Lsn {
        segment.id().start(self.superblock.segment_size)
    }

    /// The groups of a segment from `from` on.
    fn spots(&mut self, segment: &Arc<Segment>, from: Lsn) -> Result<Vec<Spot>, OpenError> {
        let start = self.start(segment);
        let io = |error| OpenError::io("read", &segment.path, error);
        let mut pieces = self.take_pieces(segment)?;
        let mut at = from.0.saturating_sub(start.0).max(PAGE);
        let mut spots = Vec::new();
        while at < pieces.size() {
            let Ok(header) = pieces.header(at).map_err(io)? else {
                at += PAGE;
                continue;
            };
            let whole = pieces.passes(at, &header).map_err(io)?;
            spots.push(Spot { segment: segment.clone(), header, whole });
            at += header.span();
        }
        self.pieces = Some(pieces);
        Ok(spots)
    }

    /// Leaves out the segments at the end of the log that have nothing but provisional groups, of
    /// which the superblock does not say that they were durable. Their groups void the last group
    /// before them, which counts then.
    fn leave_out_provisional(&mut self, spots: &mut Vec<Spot>) {
        if !self.superblock.tells_histories() {
            return;
        }
        let noted = self.superblock.durable.max(self.superblock.root);
        while let Some(last) = spots.last().map(|spot| spot.segment.clone()) {
            let is_noted = noted > self.start(&last).plus(PAGE);
            let first = spots.partition_point(|spot| spot.segment.id() < last.id());
            if is_noted || !spots[first..].iter().all(|spot| spot.header.provisional) {
                break;
            }
            spots.truncate(first);
            self.candidates.retain(|candidate| candidate.id() != last.id());
        }
    }

    /// How far the log was durable, as anything valid says.
    fn known_durable(&self, spots: &[Spot]) -> Lsn {
        let size = self.superblock.segment_size;
        let said = spots.iter().map(|spot| spot.header.durable).max().unwrap_or_default();
        let root = self.superblock.root;
        let root = if root == Lsn::ZERO { root } else { root.plus(1) };
        let newest = self.superblock.newest;
        let newest = newest.map_or(Lsn::ZERO, |newest| newest.id.start(size).plus(PAGE + 1));
        said.max(root).max(newest).max(self.superblock.durable)
    }

    fn group(&mut self, spot: &Spot) -> Result<(), OpenError> {
        let mut pieces = self.take_pieces(&spot.segment)?;
        self.totals.groups += 1;
        self.totals.bytes += spot.header.span();
        let begin = pieces.offset(spot.header.lsn);
        let (mut at, end) = (
            begin + GROUP_HEADER as u64,
            begin + GROUP_HEADER as u64 + u64::from(spot.header.length),
        );
        while at < end {
            let taken = pieces.record(at, end, &mut Some(&mut |lsn, part| self.record(lsn, part)));
            at += refused(taken, &spot.segment)?.map_err(|fault| {
                let what = format!("{fault}; a moment ago the group passed its checks");
                OpenError::io("read", &spot.segment.path, io::Error::other(what))
            })?;
        }
        self.pieces = Some(pieces);
        Ok(())
    }

    /// Notes a hole, and applies the records in it that are whole. Behind `records_end` there is only padding.
    fn hole(&mut self, from: Lsn, to: Lsn, records_end: Lsn, what: &str) -> Result<(), OpenError> {
        let size = self.superblock.segment_size;
        self.holes.push(Hole {
            from,
            to,
            what: what.to_owned(),
            extents: Vec::new(),
            found: 0,
            unread: Vec::new(),
            unaccounted: Vec::new(),
            strays: 0,
        });
        let index = self.holes.len() - 1;
        self.accounts.hole(index);
        for segment in self.candidates.clone() {
            let start = self.start(&segment);
            let end = segment.id().plus(u64::from(segment.header.slots)).start(size);
            let (first, last) = (from.max(start), to.min(end));
            if first >= last {
                continue;
            }
            self.segments.insert(segment.clone());
            self.holes[index].extents.push(Extent {
                file: segment.path.clone(),
                offset: first.since(start),
                bytes: last.since(first),
            });
            self.records_within(&segment, index, (first, last), records_end)?;
        }
        // Files in it that cannot be read as segments.
        for (id, file) in self.directory.segments().collect::<Vec<_>>() {
            let inside = id.start(size) < to && id.plus(1).start(size) > from;
            if inside && !self.candidates.iter().any(|candidate| candidate.id() == id) {
                let what = &mut self.holes[index].what;
                *what = format!("{what}; segment {id} is damaged, or of another history");
                self.holes[index].extents.push(Extent { file, offset: 0, bytes: size });
                self.holes[index].unread.push((from, to));
            }
        }
        if self.holes[index].extents.is_empty() {
            let missing = self.directory.missing(SegmentId::holding(to, size));
            let hole = &mut self.holes[index];
            hole.what = format!("{}; {}", hole.what, missing.what);
            hole.extents.push(Extent { file: missing.file, offset: 0, bytes: 0 });
            hole.unread.push((from, to));
        }
        Ok(())
    }

    fn records_within(
        &mut self,
        segment: &Arc<Segment>,
        hole: HoleIndex,
        (first, last): (Lsn, Lsn),
        records_end: Lsn,
    ) -> Result<(), OpenError> {
        let start = self.start(segment);
        let io = |error| OpenError::io("read", &segment.path, error);
        let mut pieces = self.take_pieces(segment)?;
        let end = pieces.size().min(last.since(start));
        let begin = first.since(start).max(PAGE).min(end);
        let mut search = Search::new(end - begin);
        // Records follow the header without gaps; a damaged one is the usual reason to search.
        let mut at = begin + (GROUP_HEADER as u64).min(end - begin);
        loop {
            let next = pieces.search(&mut search, at, end).map_err(io)?;
            if next != Some(at) {
                // From here on each queue's next message shows again what is missing of it.
                self.accounts.hole(hole);
                let claim = |message: &MessageRecord<'_>| self.claim(hole, message);
                pieces.seeming_message(at, end, claim).map_err(io)?;
                let from = start.plus(at);
                let to = next.map_or(records_end.min(last), |next| start.plus(next));
                if from < to {
                    self.holes[hole].unread.push((from, to));
                }
            }
            let Some(next) = next else { break };
            at = next + FRAME as u64;
            let taken =
                pieces.record(next, end, &mut Some(&mut |lsn, part| self.record(lsn, part)));
            if let Ok(size) = refused(taken, segment)? {
                self.holes[hole].found += 1;
                at = next + size;
            }
        }
        if search.has_given_up() {
            let what = &mut self.holes[hole].what;
            *what = format!("{what}; it was too much work to search all of it for whole records");
        }
        self.pieces = Some(pieces);
        Ok(())
    }

    fn record(&mut self, lsn: Lsn, record: &Part<'_>) -> Result<(), OpenError> {
        self.account(record);
        match self.replay.apply(lsn, record) {
            Ok(()) => {
                self.totals.records += 1;
                self.bring_back(lsn, record);
            }
            Err(ApplyError::Malformed(lsn, malformed)) => {
                let end = lsn.plus(record.size() as u64);
                let located = self.segments.locate(lsn);
                let extents = located.map(|(segment, offset)| Extent {
                    file: segment.path.clone(),
                    offset,
                    bytes: record.size() as u64,
                });
                self.holes.push(Hole {
                    from: lsn,
                    to: end,
                    what: malformed.to_string(),
                    extents: extents.into_iter().collect(),
                    found: 0,
                    unread: vec![(lsn, end)],
                    unaccounted: Vec::new(),
                    strays: 0,
                });
            }
        }
        Ok(())
    }

    /// Notes which places a message shows to be missing, or not to be.
    fn account(&mut self, record: &Part<'_>) {
        let transient = match record.kind {
            RecordKind::Message => false,
            RecordKind::Transient => true,
            _ => return,
        };
        let Ok(Some(message)) = message_at_front(record) else { return };
        for reference in message.references().filter(|reference| !reference.queue.is_volatile()) {
            match (self.replay.next_of(reference.queue), self.accounts.newest_hole()) {
                (Some(next), _) if transient => self.accounts.transient(reference, next),
                (Some(next), _) => self.accounts.message(reference, next),
                (None, Some(hole)) if !transient => self.holes[hole].strays += 1,
                (None, _) => {}
            }
        }
    }

    fn is_in_hole(&self, lsn: Lsn) -> bool {
        self.holes.iter().any(|hole| hole.from <= lsn && lsn < hole.to)
    }

    /// Takes a message from where compaction has moved it to, if its record before that is lost in a hole. It was live when
    /// it was moved, so nothing in front of this says that it is gone.
    fn bring_back(&mut self, lsn: Lsn, record: &Part<'_>) {
        if record.kind != RecordKind::Moved {
            return;
        }
        let moved = MovedRecord::decode_front(record.payload, record.missing);
        let Ok(MovedRecord { from, message }) = moved else { return };
        // A message of which nothing is lost has been replayed, or was acknowledged.
        let mut in_hole = None;
        let references = message.references();
        let sharers = u16::try_from(references.len()).unwrap_or(u16::MAX);
        let entry = ChunkEntry { lsn, length: record.size() as u32, sharers };
        for reference in references {
            if reference.queue.is_volatile() || self.replay.is_live(reference) {
                continue;
            }
            if !*in_hole.get_or_insert_with(|| self.is_in_hole(from.lsn)) {
                return;
            }
            match (self.replay.next_of(reference.queue), self.accounts.newest_hole()) {
                (Some(next), _) if next <= reference.sequence => {
                    self.accounts.moved(reference, next);
                    self.replay.bring_back(reference, entry);
                }
                (Some(_), _) => {
                    if self.accounts.take(reference) {
                        self.replay.bring_back(reference, entry);
                    }
                }
                (None, Some(hole)) => self.holes[hole].strays += 1,
                (None, None) => {}
            }
        }
    }

    /// Notes which message a damaged record seems to be.
    fn claim(&mut self, hole: HoleIndex, message: &MessageRecord<'_>) {
        for reference in message.references() {
            if self.replay.next_of(reference.queue).is_some_and(|next| next <= reference.sequence) {
                self.accounts.claim(hole, reference);
            }
        }
    }
}

/// The pieces of a segment as far as its file goes. What a longer file has behind its end is none of ours.
fn pieces_of(segment: &Arc<Segment>, segment_size: u64) -> Result<Pieces, OpenError> {
    let io = |error| OpenError::io("read", &segment.path, error);
    let file = segment.file().expect("a segment that was found has a file");
    let whole = u64::from(segment.header.slots) * segment_size;
    let size = file.size().map_err(io)?.min(whole);
    Ok(Pieces::new(segment.clone(), segment_size, size))
}

/// Tells a record that does not pass its check from a failure.
fn refused(
    outcome: Result<u64, ScanError<OpenError>>,
    segment: &Segment,
) -> Result<Result<u64, GroupFault>, OpenError> {
    match outcome {
        Ok(size) => Ok(Ok(size)),
        Err(ScanError::Group(fault)) => Ok(Err(fault)),
        Err(ScanError::Disk(error)) => Err(OpenError::io("read", &segment.path, error)),
        Err(ScanError::Refused(error)) => Err(error),
    }
}

/// The roots of checkpoints that can be found by searching every segment, ascending.
pub(super) fn roots(
    directory: &Directory<'_>,
    superblock: &Superblock,
) -> Result<Vec<Lsn>, OpenError> {
    let mut roots = Vec::new();
    for (id, path) in directory.segments() {
        let Ok(Ok(segment)) = directory.open_segment(&superblock.store, id, false) else {
            continue;
        };
        let io = |error| OpenError::io("read", &path, error);
        let mut pieces = pieces_of(&Arc::new(segment), superblock.segment_size)?;
        let mut at = PAGE;
        while at < pieces.size() {
            let Ok(header) = pieces.header(at).map_err(io)? else {
                at += PAGE;
                continue;
            };
            let mut found = Vec::new();
            let passes = pieces.passes_with(at, &header, &mut |lsn, part| {
                found.extend((part.kind == RecordKind::Root).then_some(lsn));
            });
            if passes.map_err(io)? {
                roots.extend(found);
                at += header.span();
            } else {
                at += PAGE;
            }
        }
    }
    roots.sort_unstable();
    Ok(roots)
}
