//! Holes in the files of segments: parts that the file system has no data for, where the log has written some.
//!
//! An open reads neither the segments that replay does not need nor their messages. But the file system knows, without reading,
//! where a file has holes, and somebody or something may have punched one where messages are. A hole is a hint and no more:
//! some file systems, and some copies, make holes of zeros that were written. So the groups that a hole touches
//! are read, and their checksums decide.

use std::ops::Range;
use std::sync::Arc;

use super::directory::Directory;
use super::end::{End, end_of};
use super::pieces::Pieces;
use super::repairs::{Place, known_places};
use crate::storage::error::{Damage, OpenError};
use crate::storage::segment::{PAGE, Segment, SegmentSet};
use crate::storage::units::{Lsn, SegmentId};

/// Refuses a store of which a segment has lost what was written to it: what lies before `replay_from`, since replay reads
/// the rest. A segment that a repair has dealt with may have holes: nothing needs what was there.
pub(super) fn check(
    directory: &Directory<'_>,
    segments: &SegmentSet,
    replay_from: Lsn,
) -> Result<(), OpenError> {
    let segment_size = segments.segment_size();
    let replayed = SegmentId::holding(replay_from, segment_size);
    let all = segments.all();
    let mut known = None;
    for (index, segment) in all.iter().enumerate().filter(|(_, s)| s.id() <= replayed) {
        let end = || end_of(segment, &all[index + 1..], segment_size, Some(replay_from));
        let found = find(segment, segment_size, end);
        let Some(hole) = found.map_err(|e| OpenError::io("examine", &segment.path, e))? else {
            continue;
        };
        let places = match &known {
            Some(places) => places,
            None => known.insert(known_places(directory.disk(), directory.dir())?),
        };
        if places.iter().any(|place: &Place| place.is_in(segment)) {
            continue;
        }
        return Err(OpenError::Damaged(Damage {
            file: segment.path.clone(),
            offset: hole.start,
            what: format!(
                "the file has a hole of {} bytes where the log has written",
                hole.end - hole.start
            ),
            affected: "messages in this segment may be lost".to_owned(),
        }));
    }
    Ok(())
}

/// The first hole in front of the end of a segment that has cost something.
fn find(
    segment: &Arc<Segment>,
    segment_size: u64,
    end: impl Fn() -> End,
) -> std::io::Result<Option<Range<u64>>> {
    let file = segment.file().expect("a segment that was found has a file");
    let mut holes = Vec::new();
    let mut at = 0;
    while let Some(hole) = file.next_hole(at)? {
        at = hole.end;
        holes.push(hole);
    }
    if holes.is_empty() {
        return Ok(None);
    }
    // Room that was set aside and is not used yet is a hole too, and mostly the only one.
    let size = file.size()?;
    let live = segment.live.bytes();
    let is_room = |hole: &Range<u64>| hole.end == size && live <= hole.start;
    let mut pieces = Pieces::new(segment.clone(), segment_size, size);
    let written = match end() {
        End::At(end) => pieces.offset_within(end),
        End::Unknown if holes.iter().all(is_room) => return Ok(None),
        End::Unknown => {
            let durable = pieces.durable()?;
            pieces.offset_within(durable)
        }
    };
    holes.retain(|hole| hole.start < written);
    let touched = |range: Range<u64>| {
        let first = holes.partition_point(|hole| hole.end <= range.start);
        holes.get(first).filter(|hole| hole.start < range.end).cloned()
    };
    let mut at = PAGE;
    while at < written && holes.last().is_some_and(|last| at < last.end) {
        let header = pieces.header(at)?.ok();
        let length = header.map_or(PAGE, |header| header.span());
        if let Some(hole) = touched(at..at + length) {
            let is_whole = match &header {
                Some(header) => pieces.passes(at, header)?,
                None => false,
            };
            if !is_whole {
                return Ok(Some(hole));
            }
        }
        at += length;
    }
    Ok(None)
}
