//! The directories that repairs have made, and the damage that they have dealt with.
//!
//! A repair leaves what it took out in `repair-<n>` in the data directory. Its file `places` says which damage it has dealt with:
//! a line for each place, with the number of the segment, its salt in hexadecimal, and the offset in bytes. The salt
//! makes sure that nothing in a later use of the file is taken for it. Of all that is in these directories, the engine reads this
//! file alone.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{Display, Formatter, Result as FmtResult};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::storage::disk::{Access, Disk, read_exact_at};
use crate::storage::error::OpenError;
use crate::storage::segment::Segment;
use crate::storage::units::SegmentId;

/// The name of the file with the places.
pub(crate) const PLACES: &str = "places";

/// The longest file of places that a repair writes, in bytes. A longer one is not read: damage that was dealt with is told
/// again.
const PLACES_LIMIT: u64 = 64 << 20;

/// A place in one use of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    segment: SegmentId,
    salt: u64,
    offset: u64,
}

impl Place {
    pub(crate) fn new(segment: &Segment, offset: u64) -> Place {
        Place { segment: segment.id(), salt: segment.header.salt, offset }
    }

    /// Whether this is a place in the segment, and in this use of its file.
    pub(super) fn is_in(&self, segment: &Segment) -> bool {
        (self.segment, self.salt) == (segment.id(), segment.header.salt)
    }

    fn parse(line: &str) -> Option<Place> {
        let mut fields = line.split(' ');
        let segment = SegmentId(fields.next()?.parse().ok()?);
        let salt = u64::from_str_radix(fields.next()?, 16).ok()?;
        let offset = fields.next()?.parse().ok()?;
        Some(Place { segment, salt, offset })
    }
}

/// A line of the file of places.
impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let Place { segment, salt, offset } = self;
        write!(f, "{segment} {salt:016x} {offset}")
    }
}

/// The name of the directory of a repair.
pub(crate) fn directory_name(number: u64) -> String {
    format!("repair-{number}")
}

/// The number of a repair, if that is its directory's name. There is always a number behind the largest of them.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number: u64 = name.strip_prefix("repair-")?.parse().ok()?;
    (number < u64::MAX && directory_name(number) == name).then_some(number)
}

/// The directories of earlier repairs, by number.
pub(crate) fn repairs(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<u64, PathBuf>, OpenError> {
    let names = disk.list(dir).map_err(|e| OpenError::io("list", dir, e))?;
    Ok(names.iter().filter_map(|name| Some((number_of(name)?, dir.join(name)))).collect())
}

/// The damaged places that earlier repairs have dealt with.
pub(crate) fn known_places(disk: &dyn Disk, dir: &Path) -> Result<HashSet<Place>, OpenError> {
    let mut known = HashSet::new();
    for repair in repairs(disk, dir)?.into_values() {
        let path = repair.join(PLACES);
        let file = match disk.open(&path, Access::Read) {
            Ok(file) => file,
            // A repair that was interrupted, or tidied up by somebody.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
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
