//! Reading a segment in pieces: in bounded memory, whatever the size of the segment, of a group in it, or of a record.
//!
//! A group of one piece at most is read once, and kept while it is checked and applied. A larger one is read twice: once to
//! check all of it, and again, checked again, to apply it. Of a message that is larger than a piece only the front is
//! kept, which says where the message belongs. Of a part of a segment that is damaged, records are searched for in the same
//! way.

use std::io;
use std::sync::Arc;

use super::replay::Meaning;
use super::walk::Tail;
use crate::storage::disk::read_exact_at;
use crate::storage::log::group::{GROUP_HEADER, GroupFault, GroupHeader};
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::record::{
    self, FRAME, MessageRecord, Part, RecordCheck, RecordFault, RecordKind, Search,
    message_at_front,
};
use crate::storage::segment::{PAGE, Segment};
use crate::storage::units::Lsn;

/// Bytes of a file that are read at a time at most, unless a single record needs more.
pub(crate) const PIECE: u64 = 4 << 20;

/// So much of a large message is kept for the places that it is in; more only if that does not have all of them.
const FRONT: usize = 1 << 20;

/// Bytes that a record is searched for in at a time.
const WINDOW: u64 = 64 << 10;

/// Why records could not be given to the caller.
#[derive(Debug)]
pub(crate) enum ScanError<E> {
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
pub(crate) struct Pieces {
    segment: Arc<Segment>,
    /// The LSN of the first byte.
    start: Lsn,
    /// Bytes of the file that count.
    size: u64,
    /// Bytes of them that the file has; zeros follow.
    filled: u64,
    /// Records of checkpoints are given to the caller whole, whatever their size.
    pages: bool,
    /// The offset of the piece in the file.
    at: u64,
    piece: Vec<u8>,
    /// The bytes to read at the next miss: little at first, because many callers look at the first group alone.
    ahead: u64,
}

impl Pieces {
    /// A segment of which `size` bytes count.
    pub(crate) fn new(segment: Arc<Segment>, segment_size: u64, size: u64) -> Pieces {
        let start = segment.id().start(segment_size);
        let (filled, pages) = (size, false);
        Pieces { segment, start, size, filled, pages, at: 0, piece: Vec::new(), ahead: PAGE }
    }

    /// A segment, to look for what is whole in it: as far as its file goes, and zeros up to the length that it was made with.
    /// Records of checkpoints are given to the caller whole.
    pub(crate) fn of_file(segment: Arc<Segment>, segment_size: u64) -> io::Result<Pieces> {
        let file = segment.file().expect("a segment that was found has a file");
        let whole = u64::from(segment.header.slots) * segment_size;
        let filled = file.size()?.min(whole);
        Ok(Pieces { filled, pages: true, ..Pieces::new(segment, segment_size, whole) })
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Returns the offset of a place of the log in the file.
    pub(crate) fn offset(&self, lsn: Lsn) -> u64 {
        lsn.since(self.start)
    }

    /// The same of a place that may lie in front of the segment: 0 then.
    pub(crate) fn offset_within(&self, lsn: Lsn) -> u64 {
        lsn.max(self.start).since(self.start)
    }

    /// Bytes of the file that count.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that the file has, as far as they count.
    pub(crate) fn filled(&self) -> u64 {
        self.filled
    }

    /// So many bytes from `at` on, or all up to the end of the file.
    pub(crate) fn bytes(&mut self, at: u64, length: u64) -> io::Result<&[u8]> {
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
            let filled = self.filled.saturating_sub(at).min(read) as usize;
            let outcome = read_exact_at(&**file, &mut self.piece[..filled], at);
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
    pub(crate) fn header(&mut self, at: u64) -> io::Result<Result<GroupHeader, GroupFault>> {
        let (lsn, seed) = (self.start.plus(at), self.segment.seed);
        Ok(GroupHeader::decode(self.bytes(at, GROUP_HEADER as u64)?, lsn, seed))
    }

    /// How far the segment's groups say that the log was durable. Behind that there may be a torn tail.
    pub(crate) fn durable(&mut self) -> io::Result<Lsn> {
        let (mut at, mut durable) = (PAGE, Lsn::ZERO);
        while at < self.filled {
            let header = self.header(at)?.ok();
            durable = durable.max(header.as_ref().map_or(Lsn::ZERO, |header| header.durable));
            at += header.map_or(PAGE, |header| header.span());
        }
        Ok(durable)
    }

    /// Checks the group at `at`, header and every record.
    pub(crate) fn check(&mut self, at: u64) -> Result<Checked, ScanError<io::Error>> {
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
            if is_active(Mutant::TrustLength) {
                let frame = self.bytes(next, FRAME as u64)?;
                let length = record::announced_size(frame).unwrap_or_default();
                let _trusted = &self.bytes(next, (end - next).min(PIECE))?[..length as usize];
            }
            let length = self.record(next, end, &mut take)?;
            next += length;
            records += 1;
        }
        if records == header.records { Ok(()) } else { Err(GroupFault::Length.into()) }
    }

    /// Checks the record at `at`, which ends at `end` at the latest, and gives it to `take`. Returns its size.
    pub(crate) fn record<E>(
        &mut self,
        at: u64,
        end: u64,
        take: &mut Option<Take<'_, E>>,
    ) -> Result<u64, ScanError<E>> {
        let (lsn, seed) = (self.start.plus(at), self.segment.seed);
        let fault = |fault| GroupFault::Record(fault, lsn);
        let frame = self.bytes(at, (FRAME as u64).min(end - at))?;
        let length = record::announced_size(frame).ok_or(fault(RecordFault::Length))?;
        if length > end - at {
            return Err(fault(RecordFault::Length).into());
        }
        if length > PIECE {
            self.large(at, length, take)?;
            return Ok(length);
        }
        let record = record::open(self.bytes(at, length)?, lsn, seed).map_err(fault)?;
        if let Some(take) = take {
            take(lsn, &Part::whole(&record)).map_err(ScanError::Refused)?;
        }
        Ok(length)
    }

    /// Whether the group at `at` passes its check, header and every record.
    pub(crate) fn passes(&mut self, at: u64, header: &GroupHeader) -> io::Result<bool> {
        self.passes_with(at, header, &mut |_, _| {})
    }

    /// The same; `take` gets each of the records that passes its own check.
    pub(crate) fn passes_with(
        &mut self,
        at: u64,
        header: &GroupHeader,
        take: &mut dyn FnMut(Lsn, &Part<'_>),
    ) -> io::Result<bool> {
        let mut take = |lsn: Lsn, part: &Part<'_>| {
            take(lsn, part);
            Ok(())
        };
        match self.scan::<io::Error>(at, header, Some(&mut take)) {
            Ok(()) => Ok(true),
            Err(ScanError::Group(_)) => Ok(false),
            Err(ScanError::Disk(error) | ScanError::Refused(error)) => Err(error),
        }
    }

    /// The first place from `from` on where a record passes its check that ends at `end` at the latest.
    pub(crate) fn search(
        &mut self,
        search: &mut Search,
        from: u64,
        end: u64,
    ) -> io::Result<Option<u64>> {
        let mut at = from;
        while at + FRAME as u64 <= end {
            let bytes = self.bytes(at, (end - at).min(WINDOW))?;
            let Some((skipped, _)) = search.next(bytes, end - at) else {
                if search.has_given_up() {
                    break;
                }
                // A frame may begin in these bytes and end in the next ones.
                at += (bytes.len() - (FRAME - 1)) as u64;
                continue;
            };
            at += skipped as u64;
            match self.record::<io::Error>(at, end, &mut None) {
                Ok(_) => return Ok(Some(at)),
                Err(ScanError::Group(_)) => at += 1,
                Err(ScanError::Disk(error) | ScanError::Refused(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The message that a damaged record at `at` seems to have been.
    pub(crate) fn seeming_message<T>(
        &mut self,
        at: u64,
        end: u64,
        take: impl FnOnce(&MessageRecord<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let room = end.saturating_sub(at);
        let bytes = self.bytes(at, room.min((FRAME + FRONT) as u64))?;
        let size = record::plausible_within(bytes, room);
        let Some(size) = size.filter(|_| bytes[8] == RecordKind::Message as u8) else {
            return Ok(None);
        };
        let payload = &bytes[FRAME..bytes.len().min(size as usize)];
        let missing = size as usize - FRAME - payload.len();
        Ok(MessageRecord::decode_front(payload, missing).ok().as_ref().map(take))
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
        let is_page = !matches!(message_at_front(&part), Ok(Some(_)));
        if Meaning::of(&part).is_err() || self.pages && is_page {
            whole = self.bytes(at, length)?;
            part = Part::whole(&record::open(whole, lsn, seed).map_err(fault)?);
        }
        take(lsn, &part).map_err(ScanError::Refused)
    }
}

/// A group that has passed its checks.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) header: GroupHeader,
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
    pub(crate) fn records<E>(
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
    pub(crate) fn put_payload(
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
