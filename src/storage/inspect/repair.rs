//! Making a damaged store whole again, without what cannot be read.
//!
//! 1. Read all of it, as [`verify`](super::verify()) does, over its holes.
//! 2. [Keep](super::keep) copies of every damaged part, durably. Nothing has been changed up to here.
//! 3. Go on with what was read, in a fresh segment. In memory, [put right](super::mend) what is damaged: messages of damaged
//!    lists, or with damaged records, that are found whole elsewhere keep their places; those that are not are taken out.
//! 4. Write a checkpoint, behind every hole. From then on an open finds a whole store. A crash before that leaves the
//!    damaged one; the repair is run again.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::keep;
use super::verify::{self, Finding, LostMessage, LostPlaces, Verification};
use super::{Extent, mend, verify as verified};
use crate::storage::disk::{Access, Descriptors, Disk, MOST_OPEN_TO_LOOK};
use crate::storage::error::{Damage, OpenError};
use crate::storage::options::{Background, Options};
use crate::storage::recovery::{self, Examined, OpenedStore, Place};
use crate::storage::store::Store;
use crate::storage::units::SequenceRange;

/// What is, or was, to be repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What was found before.
    pub found: Verification,
    /// Messages that cannot be had where they should be, because a list of messages or their own record is damaged, and that
    /// are found whole somewhere else: they keep their places.
    pub restored: u64,
    /// Damaged messages, which are taken out. What the holes of the log have cost is not among them.
    pub lost: u64,
    /// What was done; `None`: nothing, there was nothing to do or it was not asked for.
    pub applied: Option<Applied>,
}

/// What a repair has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where the copies of what was taken out are, with a report.
    pub kept: PathBuf,
    /// What the store is like now.
    pub after: Verification,
}

/// Why a store was not repaired.
#[derive(Debug, Error)]
pub enum RepairError {
    /// It could not be read, or the copies could not be made: nothing was changed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Too much is missing: nothing was changed.
    #[error(
        "no checkpoint of the store can be read, so it cannot be told which messages are live, and nothing was \
         changed: restore a backup. The damage: {0}"
    )]
    NoCheckpoint(Box<Damage>),
    /// It was not finished. The copies are there; the store is as damaged as it was, or less.
    #[error("the repair was not finished, run it again: {0}")]
    Unfinished(Box<OpenError>),
}

/// Says what a repair of the store in `dir` would do, and does it if it is to `apply` it. `progress` is told the share of
/// the segments that have been read.
///
/// # Errors
/// See [`RepairError`].
pub fn repair(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    apply: bool,
    mut progress: impl FnMut(f64),
) -> Result<Repair, RepairError> {
    let disk: &Arc<dyn Disk> = &bounded(disk);
    let access = if apply { Access::ReadWrite } else { Access::Read };
    let examined = match recovery::examine(&**disk, dir, access) {
        Err(OpenError::Damaged(damage)) => return Err(RepairError::NoCheckpoint(damage.into())),
        other => other?,
    };
    let found = verify::look(&**disk, dir, &examined, &mut progress)?;
    if let (Some(damage), None) = (&found.refusal, &examined.recovered) {
        return Err(RepairError::NoCheckpoint(damage.clone().into()));
    }
    let lost = found.damage.iter().flat_map(|finding| &finding.messages);
    let (restored, lost): (Vec<_>, Vec<_>) = lost.partition(|lost| lost.record.is_some());
    let (restored, lost) = (restored.len() as u64, lost.len() as u64);
    let mut repair = Repair { found, restored, lost, applied: None };
    if apply && !repair.found.is_whole() {
        let unreadable: Vec<PathBuf> =
            examined.unreadable.iter().map(|damage| damage.file.clone()).collect();
        let kept = keep_copies(&**disk, dir, &examined, &repair)?;
        rewrite(disk, dir, examined, &repair.found)
            .and_then(|()| put_away(&**disk, dir, &unreadable, &kept))
            .map_err(|error| RepairError::Unfinished(error.into()))?;
        let after = verified(disk, dir, progress)?;
        repair.applied = Some(Applied { kept, after });
    }
    Ok(repair)
}

/// A disk of which few files are open at a time, however many segments there are.
fn bounded(disk: &Arc<dyn Disk>) -> Arc<dyn Disk> {
    Arc::new(Descriptors::new(disk.clone(), MOST_OPEN_TO_LOOK))
}

/// Puts segments that cannot be read away: nothing needs them any more.
fn put_away(disk: &dyn Disk, dir: &Path, files: &[PathBuf], kept: &Path) -> Result<(), OpenError> {
    files.iter().try_for_each(|file| keep::put_away(disk, file, kept))?;
    disk.sync_dir(dir).map_err(|e| OpenError::io("sync", dir, e))
}

/// Copies everything that is damaged, but for segments that cannot be read at all: these are put away whole.
fn keep_copies(
    disk: &dyn Disk,
    dir: &Path,
    examined: &Examined,
    repair: &Repair,
) -> Result<PathBuf, OpenError> {
    let found = &repair.found;
    let of_finding = |finding: &Finding| Extent {
        file: finding.file.clone(),
        offset: finding.offset,
        bytes: finding.bytes,
    };
    let mut seen = HashSet::new();
    let extents: Vec<Extent> = found
        .damage
        .iter()
        .map(of_finding)
        .chain(found.holes.iter().flat_map(|hole| hole.extents.iter().cloned()))
        .filter(|extent| !examined.unreadable.iter().any(|whole| whole.file == extent.file))
        .filter(|extent| seen.insert((extent.file.clone(), extent.offset, extent.bytes)))
        .collect();
    let segments: BTreeMap<PathBuf, _> =
        examined.readable.all().into_iter().map(|s| (s.path.clone(), s)).collect();
    let places: Vec<Place> = extents
        .iter()
        .filter_map(|extent| Some(Place::new(segments.get(&extent.file)?, extent.offset)))
        .collect();
    keep::keep(disk, dir, &extents, &places, &report(repair))
}

/// What was found and what becomes of it, for a person.
fn report(repair: &Repair) -> String {
    let found = &repair.found;
    let mut lines = vec![
        "What a repair took out of this store. Beside this are copies of the damaged bytes, and \
         segments that cannot be read."
            .to_owned(),
    ];
    if let Some(damage) = &found.refusal {
        lines.push(format!("\nThe store did not open: {damage}"));
    }
    if let Some(lsn) = found.older_checkpoint {
        lines.push(format!("\nThe last checkpoint could not be read; that at {lsn} was used."));
    }
    for hole in &found.holes {
        lines.push(format!("\nThe log from {} to {}: {}", hole.from, hole.to, hole.what));
        for Extent { file, offset, bytes } in &hole.extents {
            lines.push(format!("  {} at byte {offset}, {bytes} bytes", file.display()));
        }
        lines.push(format!("  {} whole records were found in it, and used", hole.records));
        if hole.strays > 0 {
            lines.push(format!("  {} messages of unknown queues behind it", hole.strays));
        }
        for LostPlaces { queue, attributes, places } in &hole.places {
            let (name, SequenceRange { first, last }) = (readable(attributes), places);
            lines.push(format!("  lost: places {first} to {last} of queue {queue} ({name})"));
        }
    }
    for finding in &found.damage {
        let Finding { file, offset, bytes, what, .. } = finding;
        lines.push(format!("\n{} at byte {offset}, {bytes} bytes: {what}", file.display()));
        if finding.uncertain {
            lines.push("  some of these messages may have been acknowledged".to_owned());
        }
        for LostMessage { queue, attributes, sequence, record } in &finding.messages {
            let what = if record.is_some() { "found again, and kept" } else { "lost" };
            let name = readable(attributes);
            lines.push(format!("  {what}: place {sequence} of queue {queue} ({name})"));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A queue's attributes mean something to the layer above only; there is mostly a name in them.
fn readable(attributes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(attributes))
}

/// Writes what can be read as a whole store.
fn rewrite(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    mut examined: Examined,
    found: &Verification,
) -> Result<(), OpenError> {
    examined.superblock.leave_to_copies(disk.clone(), dir);
    let recovered = examined.recovered.expect("a store without a checkpoint was refused before");
    mend::mend(&recovered, &examined.readable, &found.damage)?;
    mend::restore_sizes(&recovered)?;
    let opened = OpenedStore {
        lock: examined.lock,
        superblock: examined.superblock,
        recovered,
        // Files are left to the next open: until the checkpoint is durable, none may be recycled.
        free: Vec::new(),
        upgraded_from: None,
    };
    recovery::remove_unfinished(&**disk, dir, opened.superblock.state().segment_size)?;
    let options =
        Options { disk: disk.clone(), background: Background::Caller, ..Options::default() };
    Store::start(dir, &options, opened)?.close()?;
    Ok(())
}
