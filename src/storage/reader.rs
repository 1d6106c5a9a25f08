//! Reading records back, each of them checked.

use std::sync::Arc;

use super::disk::read_exact_at;
use super::error::StoreError;
use super::record::{self, ChunkRecord, FRAME, PageRef, Record, RecordKind, message_of};
use super::segment::{Segment, SegmentSet};
use super::units::{Lsn, Sequence};

/// Records that lie closer together than this are read in one go, in bytes.
const GAP: u64 = 64 << 10;

/// A run of records is not read beyond this, in bytes, unless one record alone is larger.
const RUN: u64 = 1 << 20;

/// Reads the record at `lsn`, of `length` bytes frame included, into `buffer`, and checks it.
pub(crate) fn read_record<'a>(
    segments: &SegmentSet,
    lsn: Lsn,
    length: u32,
    kind: RecordKind,
    buffer: &'a mut Vec<u8>,
) -> Result<Record<'a>, StoreError> {
    let (segment, offset) = locate(segments, lsn)?;
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

/// Reads messages in the order of their places, neighbours in one go, and gives each of them (or why it could not be
/// had) to `take`.
pub(crate) fn read_messages(
    segments: &SegmentSet,
    wanted: &[(Sequence, Lsn, u32)],
    mut take: impl FnMut(Sequence, Lsn, Result<super::Message, StoreError>),
) {
    let mut buffer = Vec::new();
    let mut rest = wanted;
    while let Some(&(sequence, first, length)) = rest.first() {
        let (segment, offset) = match locate(segments, first) {
            Ok(found) => found,
            Err(error) => {
                take(sequence, first, Err(error));
                rest = &rest[1..];
                continue;
            }
        };
        let mut end = first.plus(u64::from(length));
        let run = 1 + rest[1..]
            .iter()
            .take_while(|(_, lsn, length)| {
                let near = *lsn >= end && lsn.since(end) <= GAP;
                let next_end = lsn.plus(u64::from(*length));
                let fits = near
                    && next_end.since(first) <= RUN
                    && locate(segments, *lsn).is_ok_and(|(other, _)| other.id() == segment.id());
                if fits {
                    end = next_end;
                }
                fits
            })
            .count();
        buffer.clear();
        buffer.resize(end.since(first) as usize, 0);
        let whole = read(segments, &segment, &mut buffer, offset, first);
        for &(sequence, lsn, length) in &rest[..run] {
            let bytes = &buffer[lsn.since(first) as usize..][..length as usize];
            let message =
                whole.clone().and_then(|()| message(segments, &segment, bytes, lsn, length));
            take(sequence, lsn, message);
        }
        rest = &rest[run..];
    }
}

fn message(
    segments: &SegmentSet,
    segment: &Segment,
    bytes: &[u8],
    lsn: Lsn,
    length: u32,
) -> Result<super::Message, StoreError> {
    let record = record::open(bytes, lsn, segment.seed)
        .map_err(|fault| unreadable(segments, lsn, &fault))?;
    if record.size() == length as usize
        && let Some(message) =
            message_of(&record).map_err(|malformed| unreadable(segments, lsn, &malformed))?
    {
        return Ok(message.message());
    }
    Err(unreadable(segments, lsn, &"another record than expected is there"))
}

fn locate(segments: &SegmentSet, lsn: Lsn) -> Result<(Arc<Segment>, u64), StoreError> {
    segments.locate(lsn).ok_or_else(|| unreadable(segments, lsn, &"there is no segment for it"))
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
    let (segment, offset) = locate(segments, lsn)?;
    let mut frame = [0; FRAME];
    read(segments, &segment, &mut frame, offset, lsn)?;
    let payload = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let room = (u64::from(segment.header.slots) * segments.segment_size()).saturating_sub(offset);
    let length = FRAME as u64 + u64::from(payload);
    if length > room {
        let fault = record::RecordFault::Length;
        return Err(unreadable(segments, lsn, &fault));
    }
    Ok(length as u32)
}
