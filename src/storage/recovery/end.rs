//! Where the log left a segment. Nothing behind that counts: it may be left over from a torn write, or never written.

use std::sync::Arc;

use crate::storage::disk::read_exact_at;
use crate::storage::log::group::{GROUP_HEADER, GroupHeader};
use crate::storage::segment::{PAGE, Segment};
use crate::storage::units::Lsn;

/// Where the log left a segment, or ended in it: what lies behind is void.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Right there: groups reach up to it.
    At(Lsn),
    /// What would tell is gone: the segment that the log went on to was freed, and this one was not. It may have left a torn
    /// tail here, so only what a group of the segment says was durable counts as damaged. Behind that nothing is missed: a
    /// live message is looked for in its place besides.
    Unknown,
}

/// Where the log left a segment, as the next one that it went to says; or where it ended, at `end`.
pub(crate) fn end_of(
    segment: &Segment,
    later: &[Arc<Segment>],
    segment_size: u64,
    end: Option<Lsn>,
) -> End {
    let previous = |later: &Arc<Segment>| {
        let mut header = [0; GROUP_HEADER];
        read_exact_at(&**later.file()?, &mut header, PAGE).ok()?;
        let lsn = later.id().start(segment_size).plus(PAGE);
        Some(GroupHeader::decode(&header, lsn, later.seed).ok()?.previous)
    };
    match later.iter().find_map(previous).or(end) {
        Some(end) if segment.contains(end, segment_size) => End::At(end),
        // The log never got there, or nothing in it counts.
        Some(end) if end <= segment.id().start(segment_size) => End::At(end),
        _ => End::Unknown,
    }
}
