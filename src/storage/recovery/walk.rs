//! Following the log, group by group, to where it ends.
//!
//! A group is followed by the one that begins where it ends, or, when the log went on to another segment, by the first
//! group of that segment, which says where its predecessor ended: what lies behind that is void, whatever it is. The chain
//! ends at a place `E` behind which there is neither. Then, either
//!
//! - nothing that is valid says that the log was durable beyond `E`: whatever lies there was never confirmed. It is a
//!   torn tail, and is cut off; or
//! - a valid group says so, or the superblock knows of a later segment, or of a checkpoint behind `E`: then something
//!   that was on stable storage is damaged or gone. That is never passed over.
//!
//! # The last group
//! Each group says that all groups before it were durable. Of the last one nobody says so: its sync may have succeeded,
//! or the process may have ended before it, or *because it failed*. After a failed sync the kernel goes on showing the bytes, as
//! clean ones that no later sync will write. A reader cannot tell. So an open for writing does not rely on the last group
//! where it is: the group is a [`Tail`] then, which the log takes up anew, and the place that it had is cut off. Writing it once
//! more where it is would do for the kernel, and would put at risk what may have been confirmed.
//!
//! # Provisional groups
//! Groups that an open has written before it returned, and groups larger than a segment, are
//! [provisional](crate::storage::log::group::GroupHeader). Where the log ends with such groups, and nothing says that they were
//! durable, they are left out, as if they had not been written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::Directory;
use super::pieces::{Checked, Pieces, ScanError};
use super::replay::Meaning;
use crate::storage::error::{Damage, OpenError};
use crate::storage::log::group::{GroupFault, GroupHeader};
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::record::{FRAME, Malformed, Part, RecordKind};
use crate::storage::segment::{PAGE, Segment, SegmentSet};
use crate::storage::superblock::Superblock;
use crate::storage::units::{Lsn, SegmentId, SegmentTag};

/// Where the log ends, and what was met on the way.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) end: Lsn,
    /// The last group, if it was not applied.
    pub(super) tail: Option<Tail>,
    /// The segment that the log was followed to.
    pub(super) reached: Option<SegmentTag>,
    /// A number that no segment on disk has had.
    pub(super) next_segment: SegmentId,
    pub(super) groups: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) torn: bool,
}

/// The last group of the log, when nothing proves that it was durable: its records are to be appended anew.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// Where the groups before it end: the log goes on behind there.
    pub(crate) previous: Lsn,
    /// Place, kind and bytes of the payload of the records that mean something to the state.
    pub(crate) records: Vec<(Lsn, RecordKind, u32)>,
    pub(super) segment: Arc<Segment>,
    pub(super) group: Checked,
}

/// Whether the last group is applied where it is, when nothing proves that it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastGroup {
    /// By those who only look.
    AsItIs,
    /// By those who go on behind it.
    Anew,
}

/// Why a whole group could not be applied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ApplyError {
    Malformed(Lsn, Malformed),
}

/// Follows the log from `from` on, and gives every record to `apply`. Segments that are reached are added to the set.
pub(super) fn walk(
    directory: &Directory<'_>,
    superblock: &Superblock,
    segments: &SegmentSet,
    from: Lsn,
    last_group: LastGroup,
    apply: Apply<'_>,
) -> Result<Walked, OpenError> {
    let held = None;
    let (totals, proven) = (Totals::default(), superblock.durable);
    let mut walk = Walk { directory, superblock, segments, apply, held, proven, totals };
    let mut candidates = walk.candidates(from)?;
    walk.leave_out_provisional(&mut candidates)?;
    let home = candidates.iter().find(|c| c.contains(from, superblock.segment_size));
    let later = home.map_or(0, |home| 1 + candidates.partition_point(|c| c.id() < home.id()));
    let (limit, steps) = walk.steps(&candidates[later..])?;
    let mut position = from;
    let mut reached: Option<SegmentTag> = None;

    // The rest of the segment that `from` is in.
    let mut last = match home {
        Some(home) => {
            reached = Some(home.tag());
            let mut pieces = walk.pieces(home)?;
            position = walk.follow(&mut pieces, from, limit)?;
            Some(pieces)
        }
        None => None,
    };
    // Then from segment to segment.
    for (candidate, step) in candidates[later..].iter().zip(steps) {
        match step {
            // The log goes on in a segment only when the superblock names it.
            Step::On { .. }
                if superblock.tells_histories()
                    && superblock.last_known().is_none_or(|last| last < candidate.id()) =>
            {
                return Err(OpenError::Damaged(unknown(candidate)));
            }
            Step::On { first, limit } if first.previous == position => {
                // One piece of one segment at a time.
                drop(last.take());
                let mut pieces = walk.pieces(candidate)?;
                segments.insert(candidate.clone());
                reached = Some(candidate.tag());
                position = walk.follow(&mut pieces, first.lsn, limit)?;
                last = Some(pieces);
                if position == first.lsn {
                    return Err(OpenError::Damaged(walk.unsteady(position, last.as_mut())));
                }
            }
            Step::On { first, .. } => {
                let witness = (first, candidate.path.as_path());
                return Err(OpenError::Damaged(walk.hole(position, witness, last.as_mut())));
            }
            // It never counted, and its file is free.
            Step::Void { provisional: true } => {}
            // It is needed by nobody, and freed by the next checkpoint.
            Step::Void { provisional: false } => segments.insert(candidate.clone()),
            // A torn group in it may say that groups before it were durable which have been taken up anew since.
            Step::PassedOver => {}
            Step::NotUsed => {
                // Never used, or torn at its very beginning. Nothing in it may say that it was more than that.
                let mut pieces = walk.pieces(candidate)?;
                if let Some(witness) = walk.evidence(&mut pieces, PAGE, position)? {
                    let witness = (witness, candidate.path.as_path());
                    return Err(OpenError::Damaged(walk.hole(position, witness, last.as_mut())));
                }
            }
        }
    }
    let mut torn = false;
    if let Some(pieces) = &mut last {
        let offset = pieces.offset(position);
        if let Some(witness) = walk.evidence(pieces, offset, position)? {
            let path = pieces.segment().path.clone();
            return Err(OpenError::Damaged(walk.hole(position, (witness, &path), Some(pieces))));
        }
        let header = pieces.header(offset);
        torn = read(pieces.segment(), header)?.is_ok();
    }
    let behind = |newest: &SegmentTag| reached.is_none_or(|reached| reached.id < newest.id);
    if let Some(newest) = superblock.newest.filter(behind) {
        return Err(OpenError::Damaged(walk.lost_segment(newest.id, position, last.as_mut())));
    }
    if superblock.root != Lsn::ZERO && position <= superblock.root {
        return Err(OpenError::Damaged(walk.before_root(position, last.as_mut())));
    }
    if position < superblock.durable {
        return Err(OpenError::Damaged(walk.before_durable(position, last.as_mut())));
    }
    let tail = walk.settle_last(last_group)?;
    let highest = candidates.iter().map(|c| c.id().plus(u64::from(c.header.slots))).max();
    let named = directory.segments().map(|(id, _)| id.plus(1)).max();
    let named = named.max(superblock.last_known().map(|id| id.plus(1)));
    Ok(Walked {
        end: tail.as_ref().map_or(position, |tail| tail.previous),
        tail,
        reached,
        next_segment: highest.max(named).unwrap_or(SegmentId::FIRST),
        groups: walk.totals.groups,
        records: walk.totals.records,
        bytes: walk.totals.bytes,
        torn,
    })
}

/// The meaning of a group that does not pass its checks any more.
const UNSTEADY: &str = "the group there was whole when it was read a moment ago: the disk does not give the same bytes each \
                        time, so it cannot be told where the log ends";

/// The damage where the log goes on in a segment that the superblock does not know of.
fn unknown(segment: &Segment) -> Damage {
    Damage {
        file: segment.path.clone(),
        offset: PAGE,
        what: format!("the log goes on in segment {}, of which the superblock does not know", segment.id()),
        affected: "the superblock is older than this file, or of another history of the store, as when a backup was copied \
                   over a newer directory: it cannot be told which messages are live; put back all files of one \
                   backup, or the superblock that belongs to the others"
            .to_owned(),
    }
}

/// What a segment behind the one where the log begins is to the log.
enum Step {
    /// The log went on in it, from this group up to the limit.
    On { first: GroupHeader, limit: Lsn },
    /// It did, and then once more from an earlier place.
    Void { provisional: bool },
    /// No group begins it.
    NotUsed,
    /// No group begins it, and the log went on behind it from a place in front of it.
    PassedOver,
}

/// A group that nothing is known of that comes behind it.
struct Held {
    segment: Arc<Segment>,
    group: Checked,
}

#[derive(Debug, Default)]
struct Totals {
    groups: u64,
    records: u64,
    bytes: u64,
}

struct Walk<'a> {
    directory: &'a Directory<'a>,
    superblock: &'a Superblock,
    segments: &'a SegmentSet,
    apply: Apply<'a>,
    held: Option<Held>,
    /// The log was durable up to here, as groups say that do not belong to it.
    proven: Lsn,
    totals: Totals,
}

type Apply<'a> = &'a mut dyn FnMut(Lsn, &Part<'_>) -> Result<(), ApplyError>;

type Last<'a> = Option<&'a mut Pieces>;

impl Walk<'_> {
    /// The segments that the log may go on in from `from`, ascending.
    fn candidates(&self, from: Lsn) -> Result<Vec<Arc<Segment>>, OpenError> {
        let size = self.superblock.segment_size;
        let first = SegmentId::holding(from, size);
        // An oversized segment has slots that no file is named after.
        let earlier = self.segments.all().into_iter().rfind(|segment| segment.id() < first);
        let mut candidates: Vec<_> =
            earlier.filter(|s| s.contains(from, size)).into_iter().collect();
        for (id, _) in self.directory.segments().filter(|(id, _)| *id >= first) {
            let segment = match self.segments.get(id) {
                Some(known) => known,
                None => {
                    Arc::new(self.directory.needed_segment(&self.superblock.store, id, true)?)
                }
            };
            candidates.push(segment);
        }
        Ok(candidates)
    }

    /// Leaves out the segments at the end of the log that have nothing but provisional groups, of which nothing says that they
    /// were durable. Their files are free then: so an open that is cut off takes no file away from the next one.
    ///
    /// Invariant: nothing is promised of a provisional group before the superblock says that it is durable. Of the groups that an
    /// open writes before it returns, all that is in them is also where it was taken from.
    fn leave_out_provisional(&self, candidates: &mut Vec<Arc<Segment>>) -> Result<(), OpenError> {
        while let Some((place, first)) = self.last_used(candidates)? {
            if !self.is_provisional(&candidates[place..], &first)? {
                break;
            }
            candidates.remove(place);
        }
        Ok(())
    }

    /// The last segment that the log has come to, and its first group.
    fn last_used(
        &self,
        candidates: &[Arc<Segment>],
    ) -> Result<Option<(usize, GroupHeader)>, OpenError> {
        for (place, candidate) in candidates.iter().enumerate().rev() {
            if let Some(first) = self.first_group(candidate)? {
                return Ok(Some((place, first)));
            }
        }
        Ok(None)
    }

    /// Whether the first of these segments has nothing but provisional groups, from the `first` one on, and nothing says
    /// that this one was durable.
    fn is_provisional(
        &self,
        segments: &[Arc<Segment>],
        first: &GroupHeader,
    ) -> Result<bool, OpenError> {
        let superblock = self.superblock;
        let is_noted = first.lsn < superblock.root || first.end() <= superblock.durable;
        let counts = !first.provisional || is_noted || is_active(Mutant::CountProvisional);
        if counts || !superblock.tells_histories() {
            return Ok(false);
        }
        // Even a torn group was written only when those before it counted.
        let mut offset = PAGE + first.span();
        for segment in segments {
            let mut pieces = self.pieces(segment)?;
            for at in (offset..pieces.size()).step_by(PAGE as usize) {
                let header = pieces.header(at);
                if read(segment, header)?.is_ok_and(|header| !header.provisional) {
                    return Ok(false);
                }
            }
            offset = PAGE;
        }
        Ok(true)
    }

    /// A segment to be read, whose file is whole.
    fn pieces(&self, segment: &Arc<Segment>) -> Result<Pieces, OpenError> {
        let file = segment.file().expect("a segment that was found has a file");
        let slots = u64::from(segment.header.slots);
        let expected = slots * self.superblock.segment_size;
        let size = read(segment, file.size())?;
        if size != expected {
            return Err(OpenError::Damaged(Damage {
                file: segment.path.clone(),
                offset: size.min(expected),
                what: format!("the file has {size} bytes instead of {expected}"),
                affected: "messages in this segment may be lost".to_owned(),
            }));
        }
        Ok(Pieces::new(segment.clone(), self.superblock.segment_size, size))
    }

    /// What the log did in segments behind the first, and up to where it went in that: seen from the last one, because a
    /// segment says from where the log went on to it.
    fn steps(&self, candidates: &[Arc<Segment>]) -> Result<(Lsn, Vec<Step>), OpenError> {
        let mut limit = Lsn(u64::MAX);
        let mut steps = Vec::with_capacity(candidates.len());
        for candidate in candidates.iter().rev() {
            steps.push(match self.first_group(candidate)? {
                Some(first) if first.lsn < limit => {
                    Step::On { first, limit: std::mem::replace(&mut limit, first.previous) }
                }
                Some(first) => Step::Void { provisional: first.provisional },
                None if candidate.id().start(self.superblock.segment_size) >= limit => {
                    Step::PassedOver
                }
                None => Step::NotUsed,
            });
        }
        steps.reverse();
        Ok((limit, steps))
    }

    /// The header of the group that begins a segment, if the whole group passes its checks.
    fn first_group(&self, segment: &Arc<Segment>) -> Result<Option<GroupHeader>, OpenError> {
        let file = segment.file().expect("a segment that was found has a file");
        let room = (u64::from(segment.header.slots) * self.superblock.segment_size)
            .min(read(segment, file.size())?);
        let mut pieces = Pieces::new(segment.clone(), self.superblock.segment_size, room);
        let Ok(header) = read(segment, pieces.header(PAGE))? else { return Ok(None) };
        if PAGE + header.span() > room {
            return Ok(None);
        }
        Ok(check(&mut pieces, PAGE)?.ok().map(|group| group.header))
    }

    /// Applies the groups of a segment from `position` on, up to `limit`; gives the end of the last one, which is held until
    /// it is known what comes behind it.
    fn follow(
        &mut self,
        pieces: &mut Pieces,
        mut position: Lsn,
        limit: Lsn,
    ) -> Result<Lsn, OpenError> {
        while position < limit {
            let Ok(group) = check(pieces, pieces.offset(position))? else { break };
            self.apply_held()?;
            position = group.header.end();
            self.held = Some(Held { segment: pieces.segment().clone(), group });
        }
        Ok(position)
    }

    fn apply_held(&mut self) -> Result<(), OpenError> {
        let Some(Held { segment, group }) = self.held.take() else { return Ok(()) };
        let size = self.superblock.segment_size;
        let applied = group.records(&segment, size, &mut *self.apply);
        applied.map_err(|error| self.not_applied(&segment, group.header.lsn, error))?;
        self.totals.groups += 1;
        self.totals.records += u64::from(group.header.records);
        self.totals.bytes += group.header.span();
        Ok(())
    }

    /// Applies the last group of all where it is, or gives it back.
    fn settle_last(&mut self, last_group: LastGroup) -> Result<Option<Tail>, OpenError> {
        let Some(Held { group, .. }) = &self.held else { return Ok(None) };
        // The superblock points to a checkpoint when all of it is durable.
        let header = group.header;
        let proven = header.lsn < self.superblock.root || header.end() <= self.proven;
        if last_group == LastGroup::AsItIs || proven {
            return self.apply_held().map(|()| None);
        }
        let Some(Held { segment, group }) = self.held.take() else { return Ok(None) };
        let mut records = Vec::new();
        let looked = group.records(&segment, self.superblock.segment_size, |lsn, record| {
            // A record that makes no sense is to be told while nothing has been changed.
            let meaning =
                Meaning::of(record).map_err(|malformed| ApplyError::Malformed(lsn, malformed))?;
            if !matches!(meaning, Meaning::Nothing) {
                records.push((lsn, record.kind, (record.size() - FRAME) as u32));
            }
            Ok(())
        });
        looked.map_err(|error| self.not_applied(&segment, header.lsn, error))?;
        Ok(Some(Tail { previous: header.previous, records, segment, group }))
    }

    /// A group behind `offset` that says that `position` is not the end of the log: there was more.
    fn evidence(
        &mut self,
        pieces: &mut Pieces,
        offset: u64,
        position: Lsn,
    ) -> Result<Option<GroupHeader>, OpenError> {
        let first = offset.next_multiple_of(PAGE);
        for at in (first..pieces.size()).step_by(PAGE as usize) {
            let header = pieces.header(at);
            let Ok(header) = read(pieces.segment(), header)? else { continue };
            // Also that of a torn group was written when the groups before it were durable.
            self.proven = self.proven.max(header.durable);
            if header.durable > position {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// The damage where the chain of groups breaks off although the log went on.
    fn hole(&self, position: Lsn, witness: (GroupHeader, &Path), last: Last<'_>) -> Damage {
        let (witness, witness_file) = witness;
        let size = self.superblock.segment_size;
        let before = SegmentId::holding(Lsn(witness.previous.0.saturating_sub(1)), size);
        if before < SegmentId::holding(witness.lsn, size) && !self.directory.contains(before) {
            return self.directory.missing(before);
        }
        let witness = witness.lsn;
        let (file, offset, what) = self.break_at(position, last);
        Damage {
            file,
            offset,
            what,
            affected: format!(
                "records between {position} and {witness} were on stable storage, confirmed messages maybe among \
                 them, and cannot be read; a later sync group ({}) says so",
                witness_file.display()
            ),
        }
    }

    fn lost_segment(&self, newest: SegmentId, position: Lsn, last: Last<'_>) -> Damage {
        if !self.directory.contains(newest) {
            return self.directory.missing(newest);
        }
        let (file, offset, what) = self.break_at(position, last);
        Damage {
            file,
            offset,
            what,
            affected: format!(
                "the log breaks off at {position}, and it went on at least to segment {newest}: records in between \
                 were on stable storage, confirmed messages maybe among them, and cannot be reached"
            ),
        }
    }

    fn before_durable(&self, position: Lsn, last: Last<'_>) -> Damage {
        let (file, offset, what) = self.break_at(position, last);
        let durable = self.superblock.durable;
        Damage {
            file,
            offset,
            what,
            affected: format!(
                "the log breaks off at {position}, and the superblock says that it was durable up to {durable}: records \
                 in between were on stable storage, confirmed messages maybe among them, and cannot be reached"
            ),
        }
    }

    fn unsteady(&self, position: Lsn, last: Last<'_>) -> Damage {
        let (file, offset, what) = self.break_at(position, last);
        Damage { file, offset, what, affected: UNSTEADY.to_owned() }
    }

    fn before_root(&self, position: Lsn, last: Last<'_>) -> Damage {
        let (file, offset, what) = self.break_at(position, last);
        let root = self.superblock.root;
        Damage {
            file,
            offset,
            what,
            affected: format!(
                "the log breaks off at {position}, and there is a checkpoint behind it, at {root}: records in between \
                 were on stable storage, confirmed messages maybe among them, and cannot be reached"
            ),
        }
    }

    /// What is wrong in the place where the chain breaks off.
    fn break_at(&self, position: Lsn, last: Last<'_>) -> (PathBuf, u64, String) {
        let Some(pieces) = last else {
            let path = self.directory.path(SegmentId::FIRST);
            return (path, PAGE, "the log has no beginning".to_owned());
        };
        let (offset, path) = (pieces.offset(position), pieces.segment().path.clone());
        let what = match pieces.check(offset) {
            Ok(_) => "the next segment does not continue it".to_owned(),
            Err(ScanError::Group(GroupFault::Record(fault, at))) => {
                return (path, pieces.offset(at), fault.to_string());
            }
            Err(ScanError::Group(fault)) => fault.to_string(),
            Err(ScanError::Disk(error) | ScanError::Refused(error)) => error.to_string(),
        };
        (path, offset, what)
    }

    fn not_applied(
        &self,
        segment: &Segment,
        group: Lsn,
        error: ScanError<ApplyError>,
    ) -> OpenError {
        let (lsn, what, affected) = match error {
            ScanError::Disk(error) => return OpenError::io("read", &segment.path, error),
            ScanError::Refused(ApplyError::Malformed(lsn, malformed)) => {
                let affected = "it cannot be told what this record did";
                (lsn, malformed.to_string(), affected)
            }
            ScanError::Group(fault) => (group, fault.to_string(), UNSTEADY),
        };
        OpenError::Damaged(Damage {
            file: segment.path.clone(),
            offset: lsn.since(segment.id().start(self.superblock.segment_size)),
            what,
            affected: affected.to_owned(),
        })
    }
}

/// An answer of the disk about a segment.
fn read<T>(segment: &Segment, answer: io::Result<T>) -> Result<T, OpenError> {
    answer.map_err(|error| OpenError::io("read", &segment.path, error))
}

/// Checks the group at `at`; whether the disk could be read is another question.
fn check(pieces: &mut Pieces, at: u64) -> Result<Result<Checked, GroupFault>, OpenError> {
    match pieces.check(at) {
        Ok(group) => Ok(Ok(group)),
        Err(ScanError::Group(fault)) => Ok(Err(fault)),
        Err(ScanError::Disk(error) | ScanError::Refused(error)) => {
            Err(OpenError::io("read", &pieces.segment().path, error))
        }
    }
}
