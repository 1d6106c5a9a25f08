//! What a repair keeps: copies of all that it takes out, in a directory of their own.
//!
//! `repair-<n>` in the data directory has, for every damaged part of a file, a file `<name>.<offset>-<end>` with its bytes
//! as they were; segments that cannot be told to be segments, whole and by their names; `report.txt`, for a person; and `places`, by which the damage is known to have been dealt with: a line for
//! each place, with the number of the segment, its salt in hexadecimal, and the offset in bytes. The salt makes sure that
//! nothing in a later use of the file is taken for it. The engine reads none of it, but for `places`, and never removes it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Extent;
use crate::storage::disk::{Access, Disk, DiskFile, read_exact_at, write_all_at};
use crate::storage::error::OpenError;
use crate::storage::segment::Segment;
use crate::storage::units::SegmentId;

const PLACES: &str = "places";
const REPORT: &str = "report.txt";

/// A file of places that is longer is none that a repair has written, in bytes. Without it, damage that was dealt with is told
/// again, and no more.
const PLACES_LIMIT: u64 = 64 << 20;

/// Bytes copied at a time.
const PIECE: u64 = 1 << 20;

/// A place in one use of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    segment: SegmentId,
    salt: u64,
    offset: u64,
}

impl Place {
    pub(super) fn new(segment: &Segment, offset: u64) -> Place {
        Place { segment: segment.id(), salt: segment.header.salt, offset }
    }

    fn parse(line: &str) -> Option<Place> {
        let mut fields = line.split(' ');
        let segment = SegmentId(fields.next()?.parse().ok()?);
        let salt = u64::from_str_radix(fields.next()?, 16).ok()?;
        let offset = fields.next()?.parse().ok()?;
        Some(Place { segment, salt, offset })
    }
}

fn directory_name(number: u64) -> String {
    format!("repair-{number}")
}

/// The directories of earlier repairs, by number.
fn repairs(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<u64, PathBuf>, OpenError> {
    let names = disk.list(dir).map_err(|e| OpenError::io("list", dir, e))?;
    // Of names that are ours; there is always a number behind the largest of them.
    let number = |name: &String| {
        let number: u64 = name.strip_prefix("repair-")?.parse().ok()?;
        (number < u64::MAX && directory_name(number) == *name).then_some(number)
    };
    Ok(names.iter().filter_map(|name| Some((number(name)?, dir.join(name)))).collect())
}

/// The damaged places that earlier repairs have dealt with.
pub(super) fn known_places(disk: &dyn Disk, dir: &Path) -> Result<HashSet<Place>, OpenError> {
    let mut known = HashSet::new();
    for repair in repairs(disk, dir)?.into_values() {
        let path = repair.join(PLACES);
        let file = match disk.open(&path, Access::Read) {
            Ok(file) => file,
            // A repair that was interrupted, or tidied up by somebody.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(error) => return Err(OpenError::io("open", &path, error)),
        };
        let io = |error| OpenError::io("read", &path, error);
        let size = file.size().map_err(io)?;
        if size > PLACES_LIMIT {
            continue;
        }
        let mut content = vec![0; size as usize];
        read_exact_at(&*file, &mut content, 0).map_err(io)?;
        known.extend(String::from_utf8_lossy(&content).lines().filter_map(Place::parse));
    }
    Ok(known)
}

/// Copies the parts of files, the places and the report into a new directory; on return all of it is durable.
pub(super) fn keep(
    disk: &dyn Disk,
    dir: &Path,
    extents: &[Extent],
    places: &[Place],
    report: &str,
) -> Result<PathBuf, OpenError> {
    let earlier = repairs(disk, dir)?;
    let newest = earlier.keys().max().map_or(0, |newest| *newest);
    // Somebody may have made a directory with the highest number that there is.
    let number = newest.checked_add(1).or_else(|| (1..newest).find(|n| !earlier.contains_key(n)));
    let number = number.expect("no directory has 2^64 entries");
    let target = dir.join(format!("repair-{number}"));
    disk.create_dir_all(&target).map_err(|e| OpenError::io("create", &target, e))?;
    let mut copied = HashSet::new();
    for extent in extents {
        copy(disk, extent, &target, &mut copied)?;
    }
    write(disk, &target.join(REPORT), report.as_bytes())?;
    let lines: String = places
        .iter()
        .map(|Place { segment, salt, offset }| format!("{segment} {salt:016x} {offset}\n"))
        .collect();
    write(disk, &target.join(PLACES), lines.as_bytes())?;
    for path in [&target, dir] {
        disk.sync_dir(path).map_err(|e| OpenError::io("sync", path, e))?;
    }
    Ok(target)
}

/// Puts a file away whole that is of no use any more.
pub(super) fn put_away(disk: &dyn Disk, file: &Path, kept: &Path) -> Result<(), OpenError> {
    let target = kept.join(file.file_name().unwrap_or_default());
    disk.rename(file, &target).map_err(|e| OpenError::io("rename", file, e))?;
    disk.sync_dir(kept).map_err(|e| OpenError::io("sync", kept, e))
}

/// Copies a part of a file, as far as the file goes. `copied`: the copies that there are already; of a file that is too short
/// several parts may have become the same.
fn copy(
    disk: &dyn Disk,
    extent: &Extent,
    target: &Path,
    copied: &mut HashSet<PathBuf>,
) -> Result<(), OpenError> {
    let file = match disk.open(&extent.file, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::io("open", &extent.file, error)),
    };
    let size = file.size().map_err(|e| OpenError::io("examine", &extent.file, e))?;
    let end = size.min(extent.offset.saturating_add(extent.bytes));
    if extent.offset >= end {
        return Ok(());
    }
    let name = extent.file.file_name().unwrap_or_default().to_string_lossy();
    let path = target.join(format!("{name}.{}-{end}", extent.offset));
    if !copied.insert(path.clone()) {
        return Ok(());
    }
    let copy = disk.create(&path).map_err(|e| OpenError::io("create", &path, e))?;
    let mut at = extent.offset;
    while at < end {
        let mut piece = vec![0; PIECE.min(end - at) as usize];
        read_exact_at(&*file, &mut piece, at)
            .map_err(|e| OpenError::io("read", &extent.file, e))?;
        write_all_at(&*copy, &piece, at - extent.offset)
            .map_err(|e| OpenError::io("write", &path, e))?;
        at += piece.len() as u64;
    }
    sync(&*copy, &path)
}

fn write(disk: &dyn Disk, path: &Path, content: &[u8]) -> Result<(), OpenError> {
    let file = disk.create(path).map_err(|e| OpenError::io("create", path, e))?;
    write_all_at(&*file, content, 0).map_err(|e| OpenError::io("write", path, e))?;
    sync(&*file, path)
}

fn sync(file: &dyn DiskFile, path: &Path) -> Result<(), OpenError> {
    file.sync_all().map_err(|e| OpenError::io("sync", path, e))
}
