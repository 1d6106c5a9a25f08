//! Reading a segment from front to back, whatever its state.

use std::io;
use std::sync::Arc;

use super::verify::{Finding, Findings};
use crate::storage::error::OpenError;
use crate::storage::log::RECORD_LIMIT;
use crate::storage::log::group::{GROUP_HEADER, GroupFault, GroupHeader};
use crate::storage::record::{FRAME, Part, Search};
use crate::storage::recovery::{End, Pieces, ScanError};
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

/// One segment.
pub(super) struct Sweep {
    segment: Arc<Segment>,
    start: Lsn,
    end: End,
    pieces: Pieces,
    /// Where something is damaged that lies before this; behind it, it may be a torn tail.
    proven: Lsn,
}

impl Sweep {
    pub(super) fn new(
        segment: &Arc<Segment>,
        segment_size: u64,
        end: End,
    ) -> Result<Sweep, OpenError> {
        let pieces = Pieces::of_file(segment.clone(), segment_size)
            .map_err(|error| OpenError::io("read", &segment.path, error))?;
        let start = segment.id().start(segment_size);
        let proven = Lsn(u64::MAX);
        let mut sweep = Sweep { segment: segment.clone(), start, end, pieces, proven };
        if let End::Unknown = end {
            let durable = sweep.pieces.durable();
            sweep.proven = sweep.read(durable)?;
        }
        Ok(sweep)
    }

    /// Where what counts for certain ends, and what may be part of a torn tail begins.
    pub(super) fn proven(&self) -> Lsn {
        self.proven
    }

    /// Reads of the segment's file.
    fn read<T>(&self, outcome: io::Result<T>) -> Result<T, OpenError> {
        outcome.map_err(|error| OpenError::io("read", &self.segment.path, error))
    }

    /// Notes everything that is damaged, and gives every whole record to `take`.
    pub(super) fn run(
        &mut self,
        counts: &mut Counts,
        findings: &mut Findings,
        mut take: impl FnMut(Lsn, &Part<'_>),
    ) -> Result<(), OpenError> {
        counts.segments += 1;
        counts.bytes += self.pieces.filled();
        let mut at = PAGE;
        while let Some((next, header)) = self.next_group(at)? {
            if next > at {
                let what = "no group header passes its checksum there".to_owned();
                self.found(findings, at, next - at, what);
            }
            counts.groups += 1;
            self.group(next, &header, counts, findings, &mut take)?;
            at = next + header.span();
        }
        if let End::At(end) = self.end
            && self.start.plus(at) < end
        {
            let what = "no group header passes its checksum there".to_owned();
            self.found(findings, at, end.since(self.start.plus(at)), what);
        }
        Ok(())
    }

    /// The first group header from `at` on that is valid. A torn tail has none behind it that counts.
    fn next_group(&mut self, at: u64) -> Result<Option<(u64, GroupHeader)>, OpenError> {
        for offset in (at..self.pieces.filled()).step_by(PAGE as usize) {
            let lsn = self.start.plus(offset);
            if matches!(self.end, End::At(end) if lsn >= end) {
                break;
            }
            let header = self.pieces.header(offset);
            if let Ok(header) = self.read(header)? {
                return Ok(Some((offset, header)));
            }
        }
        Ok(None)
    }

    fn group(
        &mut self,
        offset: u64,
        header: &GroupHeader,
        counts: &mut Counts,
        findings: &mut Findings,
        take: &mut impl FnMut(Lsn, &Part<'_>),
    ) -> Result<(), OpenError> {
        let begin = offset + GROUP_HEADER as u64;
        let end = begin + u64::from(header.length);
        // A lost end of a file is as good as zeros, which a repair puts there.
        let fits = u64::from(header.length) <= RECORD_LIMIT && end <= self.pieces.size();
        if end > self.pieces.filled() && !fits {
            let what = "the group is longer than its segment".to_owned();
            self.found(findings, offset, self.pieces.filled() - offset, what);
            return Ok(());
        }
        let mut search = Search::new(end - begin);
        let mut at = begin;
        while at < end {
            let mut take = |lsn: Lsn, part: &Part<'_>| {
                take(lsn, part);
                Ok(())
            };
            match self.pieces.record::<io::Error>(at, end, &mut Some(&mut take)) {
                Ok(size) => {
                    counts.records += 1;
                    at += size;
                }
                Err(ScanError::Group(fault)) => {
                    // The damaged record's own length may be wrong: what comes next is found by trying.
                    let next = self.pieces.search(&mut search, at + FRAME as u64, end);
                    let next = self.read(next)?.unwrap_or(end);
                    let mut what = match fault {
                        GroupFault::Record(fault, _) => fault.to_string(),
                        fault => fault.to_string(),
                    };
                    if search.has_given_up() {
                        what += "; it was too much work to search the rest of the group";
                    }
                    self.found(findings, at, next - at, what);
                    at = next;
                }
                Err(ScanError::Disk(error) | ScanError::Refused(error)) => {
                    return self.read(Err(error));
                }
            }
        }
        Ok(())
    }

    fn found(&self, findings: &mut Findings, offset: u64, bytes: u64, what: String) {
        if self.start.plus(offset) >= self.proven {
            return;
        }
        let file = self.segment.path.clone();
        findings.add(Finding { file, offset, bytes, what, ..Finding::default() });
    }
}
