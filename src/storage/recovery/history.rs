//! Which history of the store each segment must be of.
//!
//! A backup that was put back and went on is another history of the same store: its identity is the same, and so are numbers
//! of segments; salts differ. A file of one history in a directory of another looks whole, and has other messages. So each
//! segment is tied to the next one, and all of them to the superblock:
//!
//! - the superblock names the newest segment, those ahead of it, and the one that the root is in, with their salts;
//! - the root names all segments that it needs, up to where replay begins;
//! - the first group of each segment names the salt of the segment that the log came from.
//!
//! From the superblock backwards this gives the salt that each segment must have. Formats up to 3 say nothing of it, and
//! what they have left is taken as it is.
//!
//! Where a segment is missing, the chain is broken, and the segments before it are tied in another
//! way: histories part only when a store is opened, so all segments of one opening are of one
//! history. Each group names its opening, and the superblock names the last ones.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::directory::Directory;
use super::load::damaged;
use super::pieces::Pieces;
use crate::storage::disk::read_exact_at;
use crate::storage::error::OpenError;
use crate::storage::log::group::{GROUP_HEADER, GroupHeader};
use crate::storage::reader;
use crate::storage::record::{RecordKind, Root};
use crate::storage::segment::{PAGE, SegmentSet};
use crate::storage::superblock::Superblock;
use crate::storage::units::{Lsn, SegmentId, SegmentTag};

/// Has the directory refuse segments of another history from now on.
///
/// # Errors
/// The first thing that could not be read, so that some segments are not tied to the others. All the others are.
pub(super) fn learn(
    directory: &mut Directory<'_>,
    superblock: &Superblock,
) -> Result<(), OpenError> {
    if !superblock.tells_histories() {
        return Ok(());
    }
    let size = superblock.segment_size;
    let home = SegmentId::holding(superblock.root, size);
    directory.expect(SegmentTag { id: home, salt: superblock.root_salt });
    superblock.newest.into_iter().chain(superblock.ahead.iter()).for_each(|t| directory.expect(t));
    let mut tail = SegmentId::FIRST;
    let mut learned = Ok(());
    match read_root(directory, superblock, home) {
        Ok(Some(root)) => {
            root.segments.iter().for_each(|tag| directory.expect(*tag));
            tail = SegmentId::holding(root.replay_from, size);
        }
        Ok(None) => {}
        Err(error) => learned = Err(error),
    }
    let behind_tail: Vec<SegmentId> =
        directory.segments().map(|(id, _)| id).filter(|id| *id > tail).collect();
    for id in behind_tail.into_iter().rev() {
        if !directory.is_expected(id) {
            continue;
        }
        match predecessor(directory, superblock, id) {
            Ok(Some(tag)) => directory.expect(tag),
            Ok(None) => {}
            Err(error) => learned = learned.and(Err(error)),
        }
    }
    learned
}

/// The root, if there is one.
fn read_root(
    directory: &Directory<'_>,
    superblock: &Superblock,
    home: SegmentId,
) -> Result<Option<Root>, OpenError> {
    if superblock.root == Lsn::ZERO {
        return Ok(None);
    }
    let segments = SegmentSet::new(superblock.segment_size);
    segments.insert(directory.needed_segment(&superblock.store, home, false)?.into());
    let lsn = superblock.root;
    let mut buffer = Vec::new();
    let root = reader::read_length(&segments, lsn)
        .and_then(|length| {
            reader::read_record(&segments, lsn, length, RecordKind::Root, &mut buffer)
        })
        .and_then(|record| {
            let malformed = |malformed| reader::unreadable(&segments, lsn, &malformed);
            Root::decode(record.payload).map_err(malformed)
        });
    root.map(Some).map_err(|error| damaged(directory.dir(), &error))
}

/// Has the directory refuse each segment that is tied to this history neither by its salt nor by
/// its opening. An open does not need this, because it uses no segment that is not tied by its
/// salt.
///
/// A segment without a group that says its opening has nothing that counts, or is of format 3.
pub(super) fn refuse_untied(
    directory: &mut Directory<'_>,
    superblock: &Superblock,
) -> Result<(), OpenError> {
    if !superblock.tells_histories() {
        return Ok(());
    }
    let mut ours: BTreeSet<u64> = superblock.openings.into_iter().filter(|o| *o != 0).collect();
    let mut openings = Vec::new();
    for (id, _) in directory.segments() {
        let opening = opening_of(directory, superblock, id)?;
        ours.extend(opening.filter(|_| directory.is_expected(id)));
        openings.push((id, opening));
    }
    // A tied segment ties the one before it, and that one ties all segments of its opening, which
    // lie before it.
    for &(id, opening) in openings.iter().rev() {
        if !directory.is_expected(id) {
            let Some(opening) = opening else { continue };
            if !ours.contains(&opening) {
                directory.refuse(id);
                continue;
            }
        }
        if let Some(tag) = predecessor(directory, superblock, id)? {
            directory.expect(tag);
            ours.extend(opening_of(directory, superblock, tag.id)?);
        }
    }
    Ok(())
}

/// Returns the opening that a segment was written in, as the first group with a valid header says.
fn opening_of(
    directory: &Directory<'_>,
    superblock: &Superblock,
    id: SegmentId,
) -> Result<Option<u64>, OpenError> {
    let Ok(segment) = directory.open_segment(&superblock.store, id, false)? else {
        return Ok(None);
    };
    let segment = Arc::new(segment);
    let io = |error| OpenError::io("examine", &segment.path, error);
    let mut pieces = Pieces::of_file(segment.clone(), superblock.segment_size).map_err(io)?;
    // A tied segment is only asked to tie others.
    let end = if directory.is_expected(id) { 2 * PAGE } else { pieces.filled() };
    for at in (PAGE..end.min(pieces.filled())).step_by(PAGE as usize) {
        match pieces.header(at) {
            Ok(Ok(header)) => return Ok(Some(header.opening).filter(|opening| *opening != 0)),
            Ok(Err(_)) => {}
            // The segment may not be needed. The error is told when its records are read.
            Err(_) => break,
        }
    }
    Ok(None)
}

/// Returns the segment that the log came from to the one with this number, which must be of this
/// history itself.
fn predecessor(
    directory: &Directory<'_>,
    superblock: &Superblock,
    id: SegmentId,
) -> Result<Option<SegmentTag>, OpenError> {
    let Ok(segment) = directory.open_segment(&superblock.store, id, false)? else {
        return Ok(None);
    };
    let mut bytes = [0; GROUP_HEADER];
    let file = segment.file().expect("a segment that was found has a file");
    match read_exact_at(&**file, &mut bytes, PAGE) {
        Ok(()) => {}
        // Not the disk's failure: the file has lost its end.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(OpenError::io("read", &segment.path, error)),
    }
    let size = superblock.segment_size;
    let Ok(first) = GroupHeader::decode(&bytes, id.start(size).plus(PAGE), segment.seed) else {
        return Ok(None);
    };
    let before = directory.segments().map(|(id, _)| id);
    let Some(before) = before.take_while(|id| id.start(size) < first.previous).last() else {
        return Ok(None);
    };
    // It may have several slots; and if it does not reach so far, the right one is missing.
    let reaches = before.plus(1).start(size) >= first.previous
        || directory
            .open_segment(&superblock.store, before, false)?
            .is_ok_and(|segment| segment.contains(first.previous, size));
    Ok(reaches.then_some(SegmentTag { id: before, salt: first.previous_salt }))
}
