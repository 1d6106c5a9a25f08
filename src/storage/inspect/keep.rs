//! What a repair keeps: copies of all that it takes out, in a directory of their own.
//!
//! A [directory of its own](crate::storage::recovery) has, for every damaged part of a file, a file `<name>.<offset>-<end>` with its
//! bytes as they were; segments that cannot be told to be segments, whole and by their names; `report.txt`, for a person; and `places`,
//! by which an open and the next repair know that this damage has been dealt with. The engine never removes any of it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::Extent;
use crate::storage::disk::{Access, Disk, DiskFile, read_exact_at, write_all_at};
use crate::storage::error::OpenError;
use crate::storage::recovery::{PLACES, Place, directory_name, repairs};

const REPORT: &str = "report.txt";

/// Bytes copied at a time.
const PIECE: u64 = 1 << 20;

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
    let target = dir.join(directory_name(number));
    disk.create_dir_all(&target).map_err(|e| OpenError::io("create", &target, e))?;
    let mut copied = HashSet::new();
    for extent in extents {
        copy(disk, extent, &target, &mut copied)?;
    }
    write(disk, &target.join(REPORT), report.as_bytes())?;
    let lines: String = places.iter().map(|place| format!("{place}\n")).collect();
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
