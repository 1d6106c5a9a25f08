//! Recovery: from what is on disk to a store that works.
//!
//! 1. Take the directory; sync what will be read, so that nothing is believed that a second crash takes away.
//! 2. Superblock, root, pages: the [last checkpoint](load). Segments whose files have another length, or [holes] where the log
//!    has written, are refused.
//! 3. [Walk](walk) the log from there, group by group, each one checked before any of it is [applied](replay); where the
//!    chain of groups ends, tell a torn tail (cut off) from a hole below what was durable (refused).
//! 4. Go on in a fresh segment. Its first group has the records of the [last one](walk#the-last-group) again, and says where
//!    the groups before that ended; when it is durable, so are those records and the cut.
//!
//! Until step 4 nothing is written, so an open that is refused changes nothing, and a crash during recovery leaves the
//! same state for the next one. What lives here: those steps; and for a damaged store, [what can be read](salvage) of it
//! all the same, for those who look at it or repair it. It may use everything below the store; it must never repair,
//! guess or remove anything.

mod accounts;
mod directory;
mod end;
mod history;
mod holes;
mod load;
mod pieces;
mod repairs;
mod replay;
mod salvage;
mod walk;

use std::io;
use std::path::Path;

use smallvec::SmallVec;

use self::directory::Directory;
pub(crate) use self::end::{End, end_of};
pub(crate) use self::load::LostDirectory;
use self::load::Noted;
pub(crate) use self::pieces::{Pieces, ScanError};
pub(crate) use self::repairs::{PLACES, Place, directory_name, known_places, repairs};
use self::replay::Replay;
pub use self::salvage::Extent;
pub(crate) use self::salvage::Hole;
pub(crate) use self::walk::Tail;
use self::walk::{LastGroup, Walked};
use super::catalog::Catalog;
use super::checkpoint::Parts;
use super::checksum::StoreId;
use super::compaction::Compacted;
use super::disk::{Access, DirectoryLock, Disk};
use super::entropy::Entropy;
use super::error::{Damage, OpenError, StoreError};
use super::log::{Log, Outline};
use super::mutant::{Mutant, is_active};
use super::options::Options;
use super::reader;
use super::record::RecordKind;
use super::segment::{FreeFile, SegmentSet};
use super::superblock::{Ahead, FORMAT_VERSION, OPENINGS, Superblock, SuperblockFile};
use super::units::{Lsn, SegmentId, SegmentTag};

/// What opening a store found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The store was created by this open.
    pub created: bool,
    /// Sync groups that were replayed on top of the checkpoint.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of log that were replayed.
    pub bytes: u64,
    /// Durable queues.
    pub queues: u64,
    /// Live messages in them.
    pub messages: u64,
    /// Where the log ended.
    pub end: Lsn,
    /// There was something behind the end that had not been synced when the process or the machine stopped. Nothing in
    /// it had been confirmed. False where not even the header of a group is left of it: what lies there may as well be from an
    /// earlier use of the file.
    pub torn: bool,
}

impl RecoveryReport {
    /// Counts what there is.
    pub(crate) fn count(&mut self, catalog: &Catalog) {
        self.queues = catalog.queues.iter().count() as u64;
        self.messages = catalog.queues.iter().map(|queue| queue.state.lock().index.live()).sum();
    }
}

/// Everything that is known when a store has been read.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: SegmentSet,
    pub(crate) catalog: Catalog,
    pub(crate) checkpoint: Parts,
    pub(crate) replayed_from: Lsn,
    pub(crate) end: Lsn,
    /// The last group, which lies behind `end` and is to be taken up anew.
    pub(crate) tail: Option<Tail>,
    pub(crate) next_segment: SegmentId,
    /// The segment that the log was followed to, up to its last group.
    pub(crate) reached: Option<SegmentTag>,
    /// Segment files that nothing needs.
    pub(crate) unused: Vec<SegmentId>,
    pub(crate) report: RecoveryReport,
}

/// A store that was opened to be used.
#[derive(Debug)]
pub(crate) struct OpenedStore {
    pub(crate) lock: Box<dyn DirectoryLock>,
    pub(crate) superblock: SuperblockFile,
    pub(crate) recovered: Recovered,
    /// The files of [`Recovered::unused`], to be recycled.
    pub(crate) free: Vec<FreeFile>,
    /// The store's format before this open, if it was an older one.
    pub(crate) upgraded_from: Option<u32>,
}

/// Opens the store in `dir` for writing, and creates it where there is none.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<OpenedStore, OpenError> {
    let disk = &*options.disk;
    disk.create_dir_all(dir).map_err(|e| OpenError::making(dir, e))?;
    let lock = take(disk, dir)?;
    if !is_active(Mutant::TrustCachedDirectory) {
        disk.sync_dir(dir).map_err(|e| OpenError::io("sync", dir, e))?;
    }
    let mut created = false;
    let mut superblock = match SuperblockFile::open(disk, dir, Access::ReadWrite)? {
        Some(superblock) => superblock,
        None => {
            created = true;
            create(disk, dir, options)?
        }
    };
    let size = superblock.state().segment_size;
    let mut directory = Directory::read(disk, dir, Access::ReadWrite, size)?;
    history::learn(&mut directory, superblock.state())?;
    let mut recovered = recover(&directory, superblock.state(), LastGroup::Anew)?;
    recovered.report.created = created;
    superblock.leave_to_copies(options.disk.clone(), dir);
    // From here on the store is accepted, and may be changed. First what the superblock says is made to hold: of its newer
    // copy it is not known whether it ever got to the disk, and what only the older one needs is about to be recycled. A
    // file that it names keeps its name until it does so no more.
    let version = superblock.state().version;
    let state = recovered.noted(*superblock.state());
    if !superblock.copies_agree() || state != *superblock.state() || version != FORMAT_VERSION {
        superblock
            .update(state)
            .map_err(|e| OpenError::io("write", &SuperblockFile::path(dir), e))?;
    }
    let upgraded_from = Some(version).filter(|version| *version != FORMAT_VERSION);
    directory.restrict();
    let free = directory.reuse(&recovered.unused, size)?;
    directory.remove_unfinished()?;
    Ok(OpenedStore { lock, superblock, recovered, free, upgraded_from })
}

/// Reads the store in `dir` without changing anything. The caller must hold the lock and the superblock, which is locked as
/// well, for as long as it uses the result.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<(Box<dyn DirectoryLock>, SuperblockFile, Recovered), OpenError> {
    let lock = match take(disk, dir) {
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NoStore(dir.to_owned()));
        }
        other => other?,
    };
    let superblock = SuperblockFile::open(disk, dir, Access::Read)?
        .ok_or_else(|| OpenError::NoStore(dir.to_owned()))?;
    let size = superblock.state().segment_size;
    let mut directory = Directory::read(disk, dir, Access::Read, size)?;
    history::learn(&mut directory, superblock.state())?;
    let recovered = recover(&directory, superblock.state(), LastGroup::AsItIs)?;
    Ok((lock, superblock, recovered))
}

fn take(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirectoryLock>, OpenError> {
    disk.lock_dir(dir)
        .map_err(|e| OpenError::io("lock", dir, e))?
        .ok_or_else(|| OpenError::Locked(dir.to_owned()))
}

/// Makes an empty store of an empty directory.
fn create(disk: &dyn Disk, dir: &Path, options: &Options) -> Result<SuperblockFile, OpenError> {
    let directory = Directory::read(disk, dir, Access::Read, options.segment_size)?;
    if let Some((id, _)) = directory.segments().next() {
        return Err(OpenError::Damaged(super::Damage {
            file: SuperblockFile::path(dir),
            offset: 0,
            what: format!("the file is missing, and there are segments ({id} and maybe more)"),
            affected: "the last checkpoint cannot be found, so the store cannot be opened; the messages themselves \
                       are in the segment files"
                .to_owned(),
        }));
    }
    if !is_active(Mutant::SkipParentSync) {
        sync_path(disk, dir)?;
    }
    let state = Superblock {
        version: FORMAT_VERSION,
        store: store_id(&*options.entropy),
        generation: 1,
        segment_size: options.segment_size,
        root: Lsn::ZERO,
        root_salt: 0,
        newest: None,
        durable: Lsn::ZERO,
        ahead: Ahead::default(),
        openings: [0; OPENINGS],
        written: None,
        compacted: Compacted::default(),
    };
    SuperblockFile::create(disk, dir, state)
}

/// Makes the names that lead to `dir` durable: any of them may have been made just now.
fn sync_path(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    for (level, parent) in dir.ancestors().skip(1).enumerate() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            // Nothing was made in a directory that is closed to us, or that cannot change.
            Err(error)
                if level > 0
                    && matches!(
                        error.kind(),
                        PermissionDenied | ReadOnlyFilesystem | InvalidInput
                    ) => {}
            outcome => outcome.map_err(|e| OpenError::io("sync", parent, e))?,
        }
    }
    Ok(())
}

fn store_id(entropy: &dyn Entropy) -> StoreId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&entropy.number().to_le_bytes());
    id[8..].copy_from_slice(&entropy.number().to_le_bytes());
    id
}

/// Reads checkpoint and log.
fn recover(
    directory: &Directory<'_>,
    superblock: &Superblock,
    last_group: LastGroup,
) -> Result<Recovered, OpenError> {
    let loaded = load::checkpoint(directory, superblock, None)?;
    directory.check_sizes(&loaded.segments)?;
    holes::check(directory, &loaded.segments, loaded.replay_from)?;
    let mut replay = Replay::new(&loaded.segments, loaded.catalog);
    let walked = walk::walk(
        directory,
        superblock,
        &loaded.segments,
        loaded.replay_from,
        last_group,
        &mut |lsn, record| replay.apply(lsn, record),
    )?;
    directory.check_ahead(superblock)?;
    let catalog = replay.finish();
    Ok(Recovered::new(
        directory,
        Checkpoint {
            segments: loaded.segments,
            parts: loaded.parts,
            replay_from: loaded.replay_from,
        },
        catalog,
        walked,
    ))
}

/// Appends the records of the last group to a log that goes on in front of it, and applies them where they are then.
pub(crate) fn take_up(
    tail: &Tail,
    log: &Log,
    segments: &SegmentSet,
    catalog: Catalog,
) -> Result<Catalog, StoreError> {
    // Applying them counts what is live of them.
    let outline = |&(_, kind, size): &(Lsn, RecordKind, u32)| Outline {
        kind,
        size: size as usize,
        references: 0,
    };
    // The group may have been a unit, or several, and be larger than a segment: it is one group again.
    let unit: Vec<Outline> = tail.records.iter().map(outline).collect();
    let mut placed = SmallVec::new();
    if !unit.is_empty() {
        let mut failure = None;
        placed = log.append_unit(&unit, |number, buffer| {
            // Straight from where it is to where it goes: a group is not in memory twice.
            let record = tail.records[number];
            if let Err(reason) = tail.put_payload(record, segments.segment_size(), buffer) {
                failure.get_or_insert((record.0, reason));
            }
        })?;
        // Nothing has been written as yet, and nothing will be: the log ends with this open.
        if let Some((lsn, reason)) = failure {
            return Err(reader::unreadable(segments, lsn, &reason));
        }
    }
    let mut replay = Replay::new(segments, catalog);
    let mut old = tail.records.iter().zip(placed).peekable();
    let applied =
        tail.group.records(&tail.segment, segments.segment_size(), |lsn, record| {
            match old.next_if(|((other, ..), _)| *other == lsn) {
                Some((_, placed)) => replay.apply(placed.lsn, record),
                None => Ok(()),
            }
        });
    applied.map_err(|error| {
        let reason = format!("the group was whole when it was read a moment ago ({error:?})");
        reader::unreadable(segments, tail.group.header.lsn, &reason)
    })?;
    Ok(replay.finish())
}

/// What a checkpoint leaves to the store, but for its catalog.
struct Checkpoint {
    segments: SegmentSet,
    parts: Parts,
    replay_from: Lsn,
}

impl Recovered {
    fn new(
        directory: &Directory<'_>,
        checkpoint: Checkpoint,
        catalog: Catalog,
        walked: Walked,
    ) -> Recovered {
        let Checkpoint { segments, parts, replay_from } = checkpoint;
        let mut report = RecoveryReport {
            groups: walked.groups,
            records: walked.records,
            bytes: walked.bytes,
            end: walked.end,
            torn: walked.torn,
            ..RecoveryReport::default()
        };
        report.count(&catalog);
        let unused = directory
            .segments()
            .map(|(id, _)| id)
            .filter(|id| segments.get(*id).is_none())
            .collect();
        Recovered {
            segments,
            catalog,
            checkpoint: parts,
            replayed_from: replay_from,
            end: walked.end,
            tail: walked.tail,
            next_segment: walked.next_segment,
            reached: walked.reached,
            unused,
            report,
        }
    }

    /// What the superblock says when the log goes on behind what was read: the segments ahead that it has not come to are
    /// given up. The last group may be in a segment of its own, and is needed until it is durable in its new place.
    fn noted(&self, mut state: Superblock) -> Superblock {
        let newest = self.segments.ending_at(self.end).map(|newest| newest.tag());
        state.reach(newest, self.end);
        state.ahead.retain(|_| false);
        let behind = |reached: &SegmentTag| state.newest.is_none_or(|n| n.id < reached.id);
        if let Some(reached) = self.reached.filter(behind) {
            state.ahead.insert(reached);
        }
        state
    }
}

/// A store that was read as far as it can be.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) lock: Box<dyn DirectoryLock>,
    pub(crate) superblock: SuperblockFile,
    /// Why an open would refuse the store.
    pub(crate) refusal: Option<Damage>,
    /// What can be had of it. `None`: no checkpoint can be read.
    pub(crate) recovered: Option<Recovered>,
    /// Parts of the log that were durable and cannot be read.
    pub(crate) holes: Vec<Hole>,
    /// Segments that messages are needed of, and that are not there.
    pub(crate) lost_segments: Vec<Damage>,
    /// Directories of deep queues that cannot be read: what was in them has to be looked for.
    pub(crate) lost_directories: Vec<LostDirectory>,
    /// Every segment of this history whose header is valid, whether the log needs it or not.
    pub(crate) readable: SegmentSet,
    /// Segment files whose header is not.
    pub(crate) unreadable: Vec<Damage>,
    /// The root that was used.
    pub(crate) root: Lsn,
}

/// Reads the store in `dir`, over whatever is damaged, without changing anything.
///
/// # Errors
/// What an open says, where that is not damage, or where it is the superblock's.
pub(crate) fn examine(disk: &dyn Disk, dir: &Path, access: Access) -> Result<Examined, OpenError> {
    let lock = match take(disk, dir) {
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NoStore(dir.to_owned()));
        }
        other => other?,
    };
    let superblock = SuperblockFile::open(disk, dir, access)?
        .ok_or_else(|| OpenError::NoStore(dir.to_owned()))?;
    let mut directory = Directory::read(disk, dir, access, superblock.state().segment_size)?;
    let learned = history::learn(&mut directory, superblock.state());
    let (readable, unreadable) = directory.all_segments(superblock.state())?;
    let mut examined = Examined {
        lock,
        refusal: None,
        recovered: None,
        holes: Vec::new(),
        lost_segments: Vec::new(),
        lost_directories: Vec::new(),
        readable,
        unreadable,
        root: superblock.state().root,
        superblock,
    };
    match recover(&directory, examined.superblock.state(), LastGroup::AsItIs) {
        Ok(recovered) => {
            learned?;
            examined.recovered = Some(recovered);
            // Messages are looked for in segments that the log does not need.
            history::refuse_untied(&mut directory, examined.superblock.state())?;
            (examined.readable, _) = directory.all_segments(examined.superblock.state())?;
        }
        Err(OpenError::Damaged(damage)) => {
            examined.refusal = Some(damage);
            history::refuse_untied(&mut directory, examined.superblock.state())?;
            (examined.readable, examined.unreadable) =
                directory.all_segments(examined.superblock.state())?;
            examined.salvage(&directory)?;
        }
        Err(error) => return Err(error),
    }
    Ok(examined)
}

/// Removes what interrupted preparations of segments have left behind, as an open does: their names are used again.
pub(crate) fn remove_unfinished(
    disk: &dyn Disk,
    dir: &Path,
    segment_size: u64,
) -> Result<(), OpenError> {
    Directory::read(disk, dir, Access::ReadWrite, segment_size)?.remove_unfinished()
}

impl Examined {
    /// Reads what can be read: from the last checkpoint; or from the newest older one that is whole, if the log from there
    /// on is; or from the last one without the directories that cannot be read; or from that older one all the same.
    fn salvage(&mut self, directory: &Directory<'_>) -> Result<(), OpenError> {
        let root = self.superblock.state().root;
        let mut salvaged = self.salvage_from(directory, root, None)?;
        if salvaged.is_none() {
            let partial = self.salvage_from(directory, root, Some(Vec::new()))?;
            let older = self.older(directory, root)?;
            salvaged = match (partial, older) {
                (Some(partial), Some(older)) if older.lacks_nothing_but(&partial) => Some(older),
                (partial, older) => partial.or(older),
            };
        }
        if let Some(Salvaged { root, recovered, holes, noted }) = salvaged {
            self.root = root;
            self.recovered = Some(recovered);
            self.holes = holes;
            self.lost_segments = noted.segments;
            self.lost_directories = noted.directories.unwrap_or_default();
        }
        Ok(())
    }

    /// The newest checkpoint before `root` that can be read.
    fn older(&self, directory: &Directory<'_>, root: Lsn) -> Result<Option<Salvaged>, OpenError> {
        let mut roots = salvage::roots(directory, self.superblock.state())?;
        roots.retain(|other| *other < root);
        // The beginning of the log, if it is still there, needs no checkpoint.
        let superblock = self.superblock.state();
        let first = SegmentId::FIRST;
        if directory.contains(first)
            && directory.open_segment(&superblock.store, first, false)?.is_ok()
        {
            roots.insert(0, Lsn::ZERO);
        }
        for root in roots.into_iter().rev() {
            if let Some(salvaged) = self.salvage_from(directory, root, None)? {
                return Ok(Some(salvaged));
            }
        }
        Ok(None)
    }

    /// Reads the checkpoint at `root` and the log from there on; `None`: the checkpoint cannot be read.
    fn salvage_from(
        &self,
        directory: &Directory<'_>,
        root: Lsn,
        directories: Option<Vec<LostDirectory>>,
    ) -> Result<Option<Salvaged>, OpenError> {
        let superblock = *self.superblock.state();
        let mut noted = Noted { segments: Vec::new(), directories };
        let from = Superblock { root, ..superblock };
        let loaded = match load::checkpoint(directory, &from, Some(&mut noted)) {
            Ok(loaded) => loaded,
            Err(OpenError::Damaged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut replay = Replay::new(&loaded.segments, loaded.catalog);
        let replay_from = loaded.replay_from;
        let (walked, holes) =
            salvage::walk(directory, &superblock, &loaded.segments, replay_from, &mut replay)?;
        let catalog = replay.finish();
        let checkpoint = Checkpoint { segments: loaded.segments, parts: loaded.parts, replay_from };
        let recovered = Recovered::new(directory, checkpoint, catalog, walked);
        Ok(Some(Salvaged { root, recovered, holes, noted }))
    }
}

/// What was had from one checkpoint on.
struct Salvaged {
    root: Lsn,
    recovered: Recovered,
    holes: Vec<Hole>,
    noted: Noted,
}

impl Salvaged {
    /// Whether this is all that a `later` checkpoint had: of the log up to there nothing is missing but the directories that
    /// cannot be read, and these change nothing when the log is replayed.
    fn lacks_nothing_but(&self, later: &Salvaged) -> bool {
        let lost = later.noted.directories.as_deref().unwrap_or_default();
        let is_directory = |(from, to): &(Lsn, Lsn)| {
            let end = |lost: &LostDirectory| lost.page.lsn.plus(u64::from(lost.page.length));
            lost.iter().any(|lost| lost.page.lsn <= *from && *to <= end(lost))
        };
        let costs_nothing =
            |hole: &Hole| hole.from > later.root || hole.unread.iter().all(is_directory);
        self.noted.segments.is_empty() && self.holes.iter().all(costs_nothing)
    }
}
