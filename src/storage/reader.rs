//! Reading records back, each of them checked.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::disk::{PageBuffer, read_exact_at};
use super::error::StoreError;
use super::index::MissingMessage;
use super::record::{
    self, ChunkRecord, FRAME, MessageContent, PageRef, Record, RecordKind, content_of,
};
use super::segment::{PAGE, Segment, SegmentSet};
use super::units::Lsn;

/// Records that lie closer together than this are read in one go, in bytes.
const GAP: u64 = 64 << 10;

/// A run of records is not read beyond this, in bytes, unless one record alone is larger.
const RUN: u64 = 2 << 20;

/// The messages of a run share memory in blocks of so many bytes, unless one alone is larger: the last one of them that is left
/// keeps so much.
const BLOCK: u64 = 64 << 10;

/// So much is worth going past the page cache for, in bytes: it takes opening the file once more.
const DIRECT: u64 = 64 << 10;

/// Reads the record at `lsn`, of `length` bytes frame included, into `buffer`, and checks it.
pub(crate) fn read_record<'a>(
    segments: &SegmentSet,
    lsn: Lsn,
    length: u32,
    kind: RecordKind,
    buffer: &'a mut Vec<u8>,
) -> Result<Record<'a>, StoreError> {
    let (segment, offset) = locate(segments, lsn, length)?;
    buffer.clear();
    buffer.resize(length as usize, 0);
    read(segments, &segment, buffer, offset, lsn)?;
    check(segments, &segment, buffer, lsn, length, kind)
}

/// Reads the places of a chunk.
pub(crate) fn read_chunk(segments: &SegmentSet, page: PageRef) -> Result<ChunkRecord, StoreError> {
    let mut buffer = Vec::new();
    let record = read_record(segments, page.lsn, page.length, RecordKind::Chunk, &mut buffer)?;
    ChunkRecord::decode(record.payload)
        .map_err(|malformed| unreadable(segments, page.lsn, &malformed))
}

/// Memory to read into, kept for the next time: memory that is new costs more than reading does.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffers(Mutex<Vec<PageBuffer>>);

/// So many buffers are kept, each of no more than a few times [`RUN`].
const KEPT: usize = 2;

impl ReadBuffers {
    pub(crate) fn take(&self) -> PageBuffer {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Gives up the buffers that nothing is read into.
    pub(crate) fn release(&self) {
        drop(std::mem::take(&mut *self.0.lock()));
    }

    pub(crate) fn give_back(&self, buffer: PageBuffer) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT && buffer.capacity() as u64 <= 4 * RUN {
            kept.push(buffer);
        }
    }
}

/// A message that was to be read, and what came of it.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) wanted: MissingMessage,
    pub(crate) outcome: Result<super::Message, StoreError>,
}

/// Reads messages in the order of their places, neighbours in one go by way of `buffer`, and gives each such run to `take`, which
/// empties it.
pub(crate) fn read_messages(
    segments: &SegmentSet,
    buffer: &mut PageBuffer,
    wanted: &[MissingMessage],
    mut take: impl FnMut(&mut Vec<Read>),
) {
    let mut run = Vec::new();
    let mut rest = wanted;
    while let Some(&wanted) = rest.first() {
        let first = wanted.lsn;
        let (segment, offset) = match locate(segments, first, wanted.length) {
            Ok(found) => found,
            Err(error) => {
                run.push(Read { wanted, outcome: Err(error) });
                take(&mut run);
                rest = &rest[1..];
                continue;
            }
        };
        let size = u64::from(segment.header.slots) * segments.segment_size();
        let segment_end = segment.id().start(segments.segment_size()).plus(size);
        let mut end = wanted.end();
        let count = 1 + rest[1..]
            .iter()
            .take_while(|next| {
                let fits = next.lsn >= end
                    && next.lsn.since(end) <= GAP
                    && next.end().since(first) <= RUN
                    && next.end() <= segment_end;
                if fits {
                    end = next.end();
                }
                fits
            })
            .count();
        let whole = read_run(segments, &segment, offset, end.since(first), first, buffer);
        let mut messages = &rest[..count];
        while let Some(&MissingMessage { lsn: start, .. }) = messages.first() {
            let block = block(messages);
            let end = messages[block - 1].end();
            let used: u64 = messages[..block].iter().map(|one| u64::from(one.length)).sum();
            // Much that nobody wants is not to be kept with the few that somebody does.
            let dense = used * 2 >= end.since(start);
            let bytes = whole.as_ref().map(|bytes| {
                Bytes::copy_from_slice(
                    &bytes[start.since(first) as usize..end.since(first) as usize],
                )
            });
            run.extend(messages[..block].iter().map(|&wanted| {
                let MissingMessage { lsn, length, .. } = wanted;
                // The places of many queues would stay in memory with each message.
                let within = dense && !wanted.is_of_many();
                let outcome = bytes.as_ref().map_err(|error| (*error).clone()).and_then(|bytes| {
                    let record = &bytes[lsn.since(start) as usize..][..length as usize];
                    let content = content(segments, &segment, record, lsn, length)?;
                    Ok(if within { content.within(bytes) } else { content.message() })
                });
                Read { wanted, outcome }
            }));
            messages = &messages[block..];
        }
        take(&mut run);
        run.clear();
        rest = &rest[count..];
    }
}

fn content<'a>(
    segments: &SegmentSet,
    segment: &Segment,
    bytes: &'a [u8],
    lsn: Lsn,
    length: u32,
) -> Result<MessageContent<'a>, StoreError> {
    let record = record::open(bytes, lsn, segment.seed)
        .map_err(|fault| unreadable(segments, lsn, &fault))?;
    if record.size() == length as usize
        && let Some(content) =
            content_of(&record).map_err(|malformed| unreadable(segments, lsn, &malformed))?
    {
        return Ok(content);
    }
    Err(unreadable(segments, lsn, &"another record than expected is there"))
}

/// Where a record of `length` bytes is. A length that leads beyond the segment is refused before anything is allocated for
/// it.
fn locate(segments: &SegmentSet, lsn: Lsn, length: u32) -> Result<(Arc<Segment>, u64), StoreError> {
    let located = segments.locate(lsn);
    let (segment, offset) =
        located.ok_or_else(|| unreadable(segments, lsn, &"there is no segment for it"))?;
    if u64::from(length) > room(segments, &segment, offset) {
        return Err(unreadable(segments, lsn, &record::RecordFault::Length));
    }
    Ok((segment, offset))
}

/// Bytes of a segment from `offset` on.
fn room(segments: &SegmentSet, segment: &Segment, offset: u64) -> u64 {
    (u64::from(segment.header.slots) * segments.segment_size()).saturating_sub(offset)
}

fn read(
    segments: &SegmentSet,
    segment: &Segment,
    buffer: &mut [u8],
    offset: u64,
    lsn: Lsn,
) -> Result<(), StoreError> {
    let file =
        segment.file().ok_or_else(|| unreadable(segments, lsn, &"its segment has no file yet"))?;
    read_exact_at(&**file, buffer, offset).map_err(|error| unreadable(segments, lsn, &error))
}

/// How many of these messages, one at least, share a block.
fn block(messages: &[MissingMessage]) -> usize {
    let fits = |one: &&MissingMessage| one.end().since(messages[0].lsn) <= BLOCK;
    messages.iter().take_while(fits).count().max(1)
}

/// Reads so many bytes into `buffer`: many of them past the page cache, where that is possible. What comes from there is
/// delivered, and not read again.
fn read_run<'a>(
    segments: &SegmentSet,
    segment: &Segment,
    offset: u64,
    length: u64,
    lsn: Lsn,
    buffer: &'a mut PageBuffer,
) -> Result<&'a [u8], StoreError> {
    let start = offset - offset % PAGE;
    let pages = ((offset + length).next_multiple_of(PAGE) - start) as usize;
    if buffer.len() < pages {
        buffer.pad(pages);
    }
    if length >= DIRECT
        && let Some(file) = segment.file().and_then(|file| file.for_pages())
        // A file that was cut off may still have the bytes, if not the pages.
        && read_exact_at(&*file, &mut buffer.as_mut_slice()[..pages], start).is_ok()
    {
        return Ok(&buffer.as_slice()[(offset - start) as usize..][..length as usize]);
    }
    let bytes = &mut buffer.as_mut_slice()[..length as usize];
    read(segments, segment, bytes, offset, lsn)?;
    Ok(bytes)
}

fn check<'a>(
    segments: &SegmentSet,
    segment: &Segment,
    bytes: &'a [u8],
    lsn: Lsn,
    length: u32,
    kind: RecordKind,
) -> Result<Record<'a>, StoreError> {
    let record = record::open(bytes, lsn, segment.seed)
        .map_err(|fault| unreadable(segments, lsn, &fault))?;
    if record.kind != kind || record.size() != length as usize {
        return Err(unreadable(segments, lsn, &"another record than expected is there"));
    }
    Ok(record)
}

/// The error of a record that cannot be had.
pub(crate) fn unreadable(
    segments: &SegmentSet,
    lsn: Lsn,
    reason: &dyn std::fmt::Display,
) -> StoreError {
    let (file, offset) = segments
        .locate(lsn)
        .map(|(segment, offset)| (segment.path.clone(), offset))
        .unwrap_or_default();
    StoreError::Unreadable { lsn, file, offset, reason: reason.to_string().into() }
}

/// Reads the length of the record at `lsn`, for a record that nothing else tells the length of. It is not to be
/// believed before the whole record has been checked; it is bounded by the segment.
pub(crate) fn read_length(segments: &SegmentSet, lsn: Lsn) -> Result<u32, StoreError> {
    let (segment, offset) = locate(segments, lsn, FRAME as u32)?;
    let mut frame = [0; FRAME];
    read(segments, &segment, &mut frame, offset, lsn)?;
    let payload = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let length = FRAME as u64 + u64::from(payload);
    if length > room(segments, &segment, offset) {
        return Err(unreadable(segments, lsn, &record::RecordFault::Length));
    }
    Ok(length as u32)
}
