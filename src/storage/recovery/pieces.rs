//! Reading a segment in pieces: in bounded memory, whatever the size of the segment, of a group in it, or of a record.
//!
//! A group of one piece at most is read once, and kept while it is checked and applied. A larger one is read twice: once to
//! check all of it, and again, checked again, to apply it. Of a message that is larger than a piece only the front is
//! kept, which says where the message belongs.

use std::io;
use std::sync::Arc;

use super::replay::Meaning;
use super::walk::Tail;
use crate::storage::disk::read_exact_at;
use crate::storage::log::group::{GROUP_HEADER, GroupFault, GroupHeader};
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::record::{self, FRAME, Part, RecordCheck, RecordFault, RecordKind};
use crate::storage::segment::{PAGE, Segment};
use crate::storage::units::Lsn;

/// Bytes of a file that are read at a time at most, unless a single record needs more.
pub(super) const PIECE: u64 = 4 << 20;

/// So much of a large message is kept for the places that it is in; more only if that does not have all of them.
const FRONT: usize = 1 << 20;

/// Why records could not be given to the caller.
#[derive(Debug)]
pub(super) enum ScanError<E> {
    /// The disk refused to read.
    Disk(io::Error),
    /// The group does not pass its checks.
    Group(GroupFault),
    /// The caller refused a record.
    Refused(E),
}

impl<E> From<io::Error> for ScanError<E> {
    fn from(error: io::Error) -> ScanError<E> {
        ScanError::Disk(error)
    }
}

impl<E> From<GroupFault> for ScanError<E> {
    fn from(fault: GroupFault) -> ScanError<E> {
        ScanError::Group(fault)
    }
}

/// A caller that takes records of a group, each of which has passed its own check.
type Take<'t, E> = &'t mut dyn FnMut(Lsn, &Part<'_>) -> Result<(), E>;

/// A segment of which a piece is in memory.
pub(super) struct Pieces {
    segment: Arc<Segment>,
    /// The LSN of the first byte.
    start: Lsn,
    /// Bytes of the file that count.
    size: u64,
    /// The offset of the piece in the file.
    at: u64,
    piece: Vec<u8>,
    /// The bytes to read at the next miss: little at first, because many callers look at the first group alone.
    ahead: u64,
}

impl Pieces {
    /// A segment of which `size` bytes count.
    pub(super) fn new(segment: Arc<Segment>, segment_size: u64, size: u64) -> Pieces {
        let start = segment.id().start(segment_size);
        Pieces { segment, start, size, at: 0, piece: Vec::new(), ahead: PAGE }
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Returns the offset of a place of the log in the file.
    pub(super) fn offset(&self, lsn: Lsn) -> u64 {
        lsn.since(self.start)
    }

    /// Bytes of the file that count.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// So many bytes from `at` on, or all up to the end of the file.
    pub(super) fn bytes(&mut self, at: u64, length: u64) -> io::Result<&[u8]> {
        let at = at.min(self.size);
        let end = self.size.min(at.saturating_add(length));
        if at < self.at || end > self.at + self.piece.len() as u64 {
            let read = self.ahead.max(end - at).min(self.size - at);
            self.ahead = (2 * self.ahead).min(PIECE);
            self.piece.clear();
            // A record that was larger than a piece leaves no more than that behind.
            self.piece.shrink_to(PIECE as usize);
            self.piece.reserve_exact(read as usize);
            self.piece.resize(read as usize, 0);
            self.at = at;
            let file = self.segment.file().expect("a segment that was found has a file");
            let outcome = read_exact_at(&**file, &mut self.piece, at);
            if !is_active(Mutant::IgnoreReadError)
                && let Err(error) = outcome
            {
                self.piece.clear();
                return Err(error);
            }
        }
        Ok(&self.piece[(at - self.at) as usize..(end - self.at) as usize])
    }

    /// The header of the group at `at`.
    pub(super) fn header(&mut self, at: u64) -> io::Result<Result<GroupHeader, GroupFault>> {
        let (lsn, seed) = (self.start.plus(at), self.segment.seed);
        Ok(GroupHeader::decode(self.bytes(at, GROUP_HEADER as u64)?, lsn, seed))
    }

    /// Checks the group at `at`, header and every record.
    pub(super) fn check(&mut self, at: u64) -> Result<Checked, ScanError<io::Error>> {
        let header = self.header(at)??;
        let length = GROUP_HEADER as u64 + u64::from(header.length);
        let mut records = Vec::new();
        if length > PIECE || at + length > self.size {
            self.scan(at, &header, None)?;
            return Ok(Checked { header, content: Content::OnDisk });
        }
        // With the whole group in one piece, what is kept is what was checked.
        self.bytes(at, length)?;
        let begin = header.lsn;
        self.scan(
            at,
            &header,
            Some(&mut |lsn: Lsn, part: &Part<'_>| {
                records.push((part.kind, lsn.since(begin) as u32, part.size() as u32));
                Ok(())
            }),
        )?;
        let bytes = self.bytes(at, length)?.to_vec();
        Ok(Checked { header, content: Content::Memory { bytes, records } })
    }

    /// Goes through the records of the group at `at`. `take` gets each of them when it has passed its own check; whether the
    /// whole group passes is known at the end.
    fn scan<E>(
        &mut self,
        at: u64,
        header: &GroupHeader,
        mut take: Option<Take<'_, E>>,
    ) -> Result<(), ScanError<E>> {
        let end = at + GROUP_HEADER as u64 + u64::from(header.length);
        if end > self.size {
            return Err(GroupFault::Length.into());
        }
        let (mut next, mut records) = (at + GROUP_HEADER as u64, 0);
        while next < end {
            let lsn = self.start.plus(next);
            let fault = |fault| GroupFault::Record(fault, lsn);
            let frame = self.bytes(next, (FRAME as u64).min(end - next))?;
            let length = record::announced_size(frame).ok_or(fault(RecordFault::Length))?;
            if is_active(Mutant::TrustLength) {
                let _trusted = &self.bytes(next, (end - next).min(PIECE))?[..length as usize];
            }
            if length > end - next {
                return Err(fault(RecordFault::Length).into());
            }
            if length <= PIECE {
                let seed = self.segment.seed;
                let record = record::open(self.bytes(next, length)?, lsn, seed).map_err(fault)?;
                if let Some(take) = &mut take {
                    take(lsn, &Part::whole(&record)).map_err(ScanError::Refused)?;
                }
            } else {
                self.large(next, length, &mut take)?;
            }
            next += length;
            records += 1;
        }
        if records == header.records { Ok(()) } else { Err(GroupFault::Length.into()) }
    }

    /// Checks a record that is larger than a piece.
    fn large<E>(
        &mut self,
        at: u64,
        length: u64,
        take: &mut Option<Take<'_, E>>,
    ) -> Result<(), ScanError<E>> {
        let (lsn, seed) = (self.start.plus(at), self.segment.seed);
        let fault = |fault| ScanError::Group(GroupFault::Record(fault, lsn));
        let mut check = RecordCheck::new(self.bytes(at, FRAME as u64)?);
        let (mut next, end) = (at + FRAME as u64, at + length);
        let mut front = Vec::new();
        while next < end {
            let bytes = self.bytes(next, (end - next).min(PIECE))?;
            if take.is_some() && front.is_empty() {
                front.extend_from_slice(&bytes[..bytes.len().min(FRONT)]);
            }
            check.update(bytes);
            next += bytes.len() as u64;
        }
        let kind = check.finish(lsn, seed).map_err(fault)?;
        let Some(take) = take else { return Ok(()) };
        let missing = length as usize - FRAME - front.len();
        let mut part = Part { kind, payload: &front, missing };
        let whole;
        if Meaning::of(&part).is_err() {
            whole = self.bytes(at, length)?;
            part = Part::whole(&record::open(whole, lsn, seed).map_err(fault)?);
        }
        take(lsn, &part).map_err(ScanError::Refused)
    }
}

/// A group that has passed its checks.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) header: GroupHeader,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// The bytes that were checked, with kind, offset and size of the records in them.
    Memory { bytes: Vec<u8>, records: Vec<(RecordKind, u32, u32)> },
    /// Too large for that: it is read, and checked, once more.
    OnDisk,
}

impl Checked {
    /// Gives each record of the group to `take`. `segment`: the one that the group is in.
    pub(super) fn records<E>(
        &self,
        segment: &Arc<Segment>,
        segment_size: u64,
        mut take: impl FnMut(Lsn, &Part<'_>) -> Result<(), E>,
    ) -> Result<(), ScanError<E>> {
        let begin = self.header.lsn;
        match &self.content {
            Content::Memory { bytes, records } => {
                for &(kind, offset, size) in records {
                    let record = &bytes[offset as usize..][..size as usize];
                    let part = Part { kind, payload: &record[FRAME..], missing: 0 };
                    take(begin.plus(u64::from(offset)), &part).map_err(ScanError::Refused)?;
                }
                Ok(())
            }
            Content::OnDisk => {
                let size = u64::from(segment.header.slots) * segment_size;
                let mut pieces = Pieces::new(segment.clone(), segment_size, size);
                pieces.scan(pieces.offset(begin), &self.header, Some(&mut take))
            }
        }
    }
}

impl Tail {
    /// Adds the payload of one of the records to `buffer`, zeros if it cannot be read any more.
    pub(super) fn put_payload(
        &self,
        (lsn, kind, size): (Lsn, RecordKind, u32),
        segment_size: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), String> {
        let offset = lsn.since(self.group.header.lsn) as usize + FRAME;
        if let Content::Memory { bytes, .. } = &self.group.content {
            buffer.extend_from_slice(&bytes[offset..offset + size as usize]);
            return Ok(());
        }
        let begin = buffer.len();
        buffer.resize(begin + size as usize, 0);
        let at = lsn.since(self.segment.id().start(segment_size));
        let file = self.segment.file().expect("a segment that was found has a file");
        let mut frame = [0; FRAME];
        let payload = &mut buffer[begin..];
        let read = read_exact_at(&**file, &mut frame, at)
            .and_then(|()| read_exact_at(&**file, payload, at + FRAME as u64));
        let mut check = RecordCheck::new(&frame);
        check.update(payload);
        let same = record::announced_size(&frame) == Some(FRAME as u64 + u64::from(size));
        let found = read
            .map_err(|error| error.to_string())
            .and_then(|()| check.finish(lsn, self.segment.seed).map_err(|fault| fault.to_string()));
        match found {
            Ok(found) if same && found == kind => Ok(()),
            Ok(_) => Err("another record than a moment ago is there".to_owned()),
            Err(reason) => Err(reason),
        }
    }
}

#[cfg(test)]
#[path = "pieces/tests.rs"]
mod tests;
