//! Reading a segment from front to back, whatever its state.

use std::sync::Arc;

use super::verify::{Finding, Findings};
use crate::storage::disk::read_exact_at;
use crate::storage::error::OpenError;
use crate::storage::log::RECORD_LIMIT;
use crate::storage::log::group::{GROUP_HEADER, GroupHeader};
use crate::storage::record::{self, FRAME, Record, Search};
use crate::storage::segment::{PAGE, Segment};
use crate::storage::units::Lsn;

/// How much was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) segments: u64,
    pub(super) groups: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// Where the log left a segment, or ended in it: what lies behind is void.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Right there: groups reach up to it.
    At(Lsn),
    /// What would tell is gone: the segment that the log went on to was freed, and this one was not. It may have left a torn
    /// tail here, so only what a group of the segment says was durable counts as damaged. Behind that nothing is missed: a
    /// live message is looked for in its place besides.
    Unknown,
}

/// One segment.
#[derive(Debug)]
pub(super) struct Sweep<'a> {
    segment: &'a Segment,
    start: Lsn,
    end: End,
    image: Vec<u8>,
    /// Where something is damaged that lies before this; behind it, it may be a torn tail.
    proven: Lsn,
    /// The length that the file was made with, in bytes.
    whole: u64,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        segment: &'a Segment,
        segment_size: u64,
        end: End,
    ) -> Result<Sweep<'a>, OpenError> {
        let io = |error| OpenError::io("read", &segment.path, error);
        let file = segment.file().expect("a segment that was found has a file");
        let whole = u64::from(segment.header.slots) * segment_size;
        let mut image = vec![0; file.size().map_err(io)?.min(whole) as usize];
        read_exact_at(&**file, &mut image, 0).map_err(io)?;
        let start = segment.id().start(segment_size);
        let proven = Lsn(u64::MAX);
        let mut sweep = Sweep { segment, start, end, image, proven, whole };
        if let End::Unknown = end {
            sweep.proven = sweep.durable();
        }
        Ok(sweep)
    }

    /// Whether what is at `lsn` counts for certain, and is not part of a torn tail.
    pub(super) fn is_proven(&self, lsn: Lsn) -> bool {
        lsn < self.proven
    }

    /// What is known to have been durable, as far as the segment's groups tell.
    fn durable(&self) -> Lsn {
        let (mut at, mut durable) = (PAGE, Lsn::ZERO);
        while let Some((next, header)) = self.next_group(at) {
            durable = durable.max(header.durable);
            at = next + header.span();
        }
        durable
    }

    /// Notes everything that is damaged, and gives every whole record to `take`.
    pub(super) fn run(
        &self,
        counts: &mut Counts,
        findings: &mut Findings,
        mut take: impl FnMut(Lsn, &Record<'_>),
    ) {
        counts.segments += 1;
        counts.bytes += self.image.len() as u64;
        let mut at = PAGE;
        while let Some((next, header)) = self.next_group(at) {
            if next > at {
                let what = "no group header passes its checksum there".to_owned();
                self.found(findings, at, next - at, what);
            }
            counts.groups += 1;
            self.group(next, &header, counts, findings, &mut take);
            at = next + header.span();
        }
        if let End::At(end) = self.end
            && self.start.plus(at) < end
        {
            let what = "no group header passes its checksum there".to_owned();
            self.found(findings, at, end.since(self.start.plus(at)), what);
        }
    }

    /// The first group header from `at` on that is valid. A torn tail has none behind it that counts.
    fn next_group(&self, at: u64) -> Option<(u64, GroupHeader)> {
        let pages = self.image.get(at as usize..)?.chunks(PAGE as usize);
        for (page, offset) in pages.zip((at..).step_by(PAGE as usize)) {
            let lsn = self.start.plus(offset);
            if matches!(self.end, End::At(end) if lsn >= end) {
                return None;
            }
            if let Ok(header) = GroupHeader::decode(page, lsn, self.segment.seed) {
                return Some((offset, header));
            }
        }
        None
    }

    fn group(
        &self,
        offset: u64,
        header: &GroupHeader,
        counts: &mut Counts,
        findings: &mut Findings,
        take: &mut impl FnMut(Lsn, &Record<'_>),
    ) {
        let begin = offset as usize + GROUP_HEADER;
        let length = header.length as usize;
        // A lost end of a file is as good as zeros, which a repair puts there.
        let mut padded = Vec::new();
        if begin + length > self.image.len() && self.fits(begin, length) {
            padded.extend_from_slice(self.image.get(begin..).unwrap_or_default());
            padded.resize(length, 0);
        }
        let whole = Some(&padded[..]).filter(|padded| !padded.is_empty());
        let Some(records) = whole.or_else(|| self.image.get(begin..begin + length)) else {
            let what = "the group is longer than its segment".to_owned();
            self.found(findings, offset, self.image.len() as u64 - offset, what);
            return;
        };
        let start = self.start.plus(begin as u64);
        let mut search = Search::new(records.len());
        let mut at = 0;
        while at < records.len() {
            let lsn = start.plus(at as u64);
            match record::open(&records[at..], lsn, self.segment.seed) {
                Ok(record) => {
                    counts.records += 1;
                    take(lsn, &record);
                    at += record.size();
                }
                Err(fault) => {
                    // The damaged record's own length may be wrong: what comes next is found by trying.
                    let next = search.next(records, at + FRAME, start, self.segment.seed);
                    let end = next.unwrap_or(records.len());
                    let mut what = fault.to_string();
                    if search.has_given_up() {
                        what += "; it was too much work to search the rest of the group";
                    }
                    self.found(findings, (begin + at) as u64, (end - at) as u64, what);
                    at = end;
                }
            }
        }
    }

    /// Whether a group can be so long in this segment.
    fn fits(&self, begin: usize, length: usize) -> bool {
        length as u64 <= RECORD_LIMIT && (begin + length) as u64 <= self.whole
    }

    fn found(&self, findings: &mut Findings, offset: u64, bytes: u64, what: String) {
        if self.start.plus(offset) >= self.proven {
            return;
        }
        let file = self.segment.path.clone();
        findings.add(Finding { file, offset, bytes, what, ..Finding::default() });
    }
}

/// Where the log left a segment, as the next one that it went to says; or where it ended, at `end`.
pub(super) fn end_of(
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
