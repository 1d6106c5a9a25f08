//! The superblock: where the last checkpoint is, and how far the log is known to reach.
//!
//! The file `superblock` has two copies, at bytes 0 and 4,096. A new state is written to the copy that is not the
//! newest, synced, and then to the other one, synced again: at every moment at least one copy is whole and tells
//! the truth, and the only whole one is never written over. One sector holds all of a copy, so it does not tear.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..8 | magic | `HAYPILE\0` |
//! | 8..12 | version | format version of the whole store, little-endian like all numbers; now 4 |
//! | 12..16 | checksum | CRC-32 of bytes 0..12 and 16..512 |
//! | 16..32 | store | the store's identity, random |
//! | 32..40 | generation | grows by one with every state written; the larger of two whole copies counts |
//! | 40..48 | segment size | bytes of a slot of the log |
//! | 48..56 | root | LSN of the last checkpoint's root record; 0: there is none yet |
//! | 56..64 | newest | number of the newest segment known to hold durable records; 0: none yet |
//! | 64..72 | written | when that root was written, in milliseconds of Unix time; 0: not known |
//! | 72..80 | compacted segments | segments that compaction had gone through by then since the store was created |
//! | 80..88 | compacted messages | messages that it had appended anew |
//! | 88..96 | compacted bytes | bytes of log that this took |
//! | 96..104 | root's salt | salt of the segment that the root is in |
//! | 104..112 | newest's salt | salt of the newest segment |
//! | 112..120 | durable | the log was durable up to here |
//! | 120..128 | ahead | how many segments follow, 22 at most |
//! | 128..480 | | number and salt (8 each) of segments that the log may go on in, ascending; zero behind them |
//! | 480..512 | openings | the salts of the first segments of the last four opens that returned, the last one first; 0: none |
//!
//! Bytes 64..96 are for people to read; nothing is decided by them. Magic, version and checksum keep their
//! places in all versions to come.
//!
//! # Segments ahead
//! Invariant: the log writes to a segment only when the superblock durably names it, as newest or ahead; and a file that the
//! superblock names keeps its name until a superblock without it is durable. So each of these files must be there at
//! an open, used or not, and the log cannot have gone on in any other.
//!
//! # Copies made of hard links
//! A copy of the store that was made of hard links (`cp -al`) has the same file. An [update](SuperblockFile::update) leaves that
//! file to the copy, and renames a new one into its place: so a copy stays what it was.
//!
//! # Version 3
//! Bytes 96..512 were zero. Such a superblock is read, and the first [update](SuperblockFile::update) writes version 4: one copy
//! after the other, so that a crash leaves one or the other.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::checksum::StoreId;
use super::clock::Timestamp;
use super::compaction::Compacted;
use super::disk::{Access, Disk, DiskFile, is_out_of_descriptors, read_exact_at, write_all_at};
use super::error::{Damage, OpenError};
use super::mutant::{Mutant, is_active};
use super::segment::{PAGE, Register, is_segment_size};
use super::units::{Lsn, SegmentId, SegmentTag};

/// The store's format version.
pub(crate) const FORMAT_VERSION: u32 = 4;

/// The oldest version that is read, and brought up to date.
const OLDEST_VERSION: u32 = 3;

/// The first version that tells histories of a store apart.
const TELLS_HISTORIES: u32 = 4;

/// The number of segments ahead that a superblock can name.
const AHEAD: usize = 22;

/// The place of these in a copy.
const AHEAD_BEGIN: usize = 128;

/// The number of openings that a superblock can name.
pub(crate) const OPENINGS: usize = 4;

/// The place of these in a copy.
const OPENINGS_BEGIN: usize = 480;

const MAGIC: [u8; 8] = *b"HAYPILE\0";
const COPY: usize = 512;
const FILE_NAME: &str = "superblock";
const NEW_FILE_NAME: &str = "superblock.new";

/// What the superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// The format version of what was read; [`FORMAT_VERSION`] is written.
    pub(crate) version: u32,
    pub(crate) store: StoreId,
    pub(crate) generation: u64,
    pub(crate) segment_size: u64,
    pub(crate) root: Lsn,
    /// The salt of the segment that the root is in; 0: unknown.
    pub(crate) root_salt: u64,
    pub(crate) newest: Option<SegmentTag>,
    /// The log was durable up to here.
    pub(crate) durable: Lsn,
    pub(crate) ahead: Ahead,
    /// The salts of the first segments that the last opens have gone to, the last one first; 0:
    /// none.
    pub(crate) openings: [u64; OPENINGS],
    /// When the root was written, if that is known.
    pub(crate) written: Option<Timestamp>,
    /// What compaction had done by then since the store was created.
    pub(crate) compacted: Compacted,
}

/// Segments that the log may go on in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead([Option<SegmentTag>; AHEAD]);

impl Ahead {
    /// Ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = SegmentTag> {
        self.0.iter().flatten().copied()
    }

    /// Adds a segment, in place of one with its number. Returns `false` if there is no room for it.
    pub(crate) fn insert(&mut self, tag: SegmentTag) -> bool {
        self.retain(|other| other.id != tag.id);
        let Some(free) = self.0.iter_mut().find(|place| place.is_none()) else { return false };
        *free = Some(tag);
        self.sort();
        true
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(SegmentTag) -> bool) {
        for place in &mut self.0 {
            *place = place.filter(|tag| keep(*tag));
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.0.sort_unstable_by_key(|place| place.map_or(u64::MAX, |tag| tag.id.0));
    }
}

/// Why a copy cannot be believed.
#[derive(Debug, PartialEq, Eq)]
enum CopyFault {
    Checksum,
    Version(u32),
}

impl Superblock {
    /// Whether it says which history of the store the segments must be of.
    pub(crate) fn tells_histories(&self) -> bool {
        self.version >= TELLS_HISTORIES
    }

    /// The number of the last segment that the log can have gone on in.
    pub(crate) fn last_known(&self) -> Option<SegmentId> {
        let ahead = self.ahead.iter().next_back();
        ahead.into_iter().chain(self.newest).map(|tag| tag.id).max()
    }

    /// Notes how far the log is known to be durable. Segments up to the newest are ahead no more.
    pub(crate) fn reach(&mut self, newest: Option<SegmentTag>, durable: Lsn) {
        self.durable = self.durable.max(durable);
        let Some(newest) = newest.filter(|tag| self.newest.is_none_or(|old| old.id <= tag.id))
        else {
            return;
        };
        self.newest = Some(newest);
        self.ahead.retain(|tag| tag.id > newest.id);
    }

    /// Notes the open that goes on in a first segment with this salt.
    pub(crate) fn note_opening(&mut self, first_salt: u64) {
        if self.openings[0] != first_salt {
            self.openings.rotate_right(1);
            self.openings[0] = first_salt;
        }
    }

    pub(crate) fn encode(&self) -> [u8; COPY] {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        copy[16..32].copy_from_slice(&self.store);
        copy[32..40].copy_from_slice(&self.generation.to_le_bytes());
        copy[40..48].copy_from_slice(&self.segment_size.to_le_bytes());
        copy[48..56].copy_from_slice(&self.root.0.to_le_bytes());
        copy[56..64].copy_from_slice(&self.newest.map_or(0, |newest| newest.id.0).to_le_bytes());
        copy[64..72].copy_from_slice(&self.written.map_or(0, Timestamp::unix_millis).to_le_bytes());
        copy[72..80].copy_from_slice(&self.compacted.segments.to_le_bytes());
        copy[80..88].copy_from_slice(&self.compacted.messages.to_le_bytes());
        copy[88..96].copy_from_slice(&self.compacted.bytes.to_le_bytes());
        copy[96..104].copy_from_slice(&self.root_salt.to_le_bytes());
        copy[104..112].copy_from_slice(&self.newest.map_or(0, |newest| newest.salt).to_le_bytes());
        copy[112..120].copy_from_slice(&self.durable.0.to_le_bytes());
        copy[120..128].copy_from_slice(&(self.ahead.iter().count() as u64).to_le_bytes());
        for (tag, place) in self.ahead.iter().zip(copy[AHEAD_BEGIN..].chunks_exact_mut(16)) {
            place[..8].copy_from_slice(&tag.id.0.to_le_bytes());
            place[8..].copy_from_slice(&tag.salt.to_le_bytes());
        }
        for (salt, place) in self.openings.iter().zip(copy[OPENINGS_BEGIN..].chunks_exact_mut(8)) {
            place.copy_from_slice(&salt.to_le_bytes());
        }
        let checksum = checksum(&copy);
        copy[12..16].copy_from_slice(&checksum.to_le_bytes());
        copy
    }

    fn decode(copy: &[u8; COPY]) -> Result<Superblock, CopyFault> {
        let u64_at = |at: usize| {
            u64::from_le_bytes(copy[at..at + 8].try_into().expect("eight bytes were sliced"))
        };
        let u32_at = |at: usize| {
            u32::from_le_bytes(copy[at..at + 4].try_into().expect("four bytes were sliced"))
        };
        if copy[..8] != MAGIC || u32_at(12) != checksum(copy) {
            return Err(CopyFault::Checksum);
        }
        let version = u32_at(8);
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&version) {
            return Err(CopyFault::Version(version));
        }
        let u64_of_4 = |at| if version < TELLS_HISTORIES { 0 } else { u64_at(at) };
        let mut ahead = Ahead::default();
        for number in 0..u64_of_4(120).min(AHEAD as u64) as usize {
            let at = AHEAD_BEGIN + 16 * number;
            ahead.0[number] = Some(SegmentTag { id: SegmentId(u64_at(at)), salt: u64_at(at + 8) });
        }
        ahead.sort();
        let newest = SegmentTag { id: SegmentId(u64_at(56)), salt: u64_of_4(104) };
        Ok(Superblock {
            version,
            store: copy[16..32].try_into().expect("sixteen bytes were sliced"),
            generation: u64_at(32),
            segment_size: u64_at(40),
            root: Lsn(u64_at(48)),
            root_salt: u64_of_4(96),
            newest: Some(newest).filter(|newest| newest.id.0 != 0),
            durable: Lsn(u64_of_4(112)),
            ahead,
            openings: std::array::from_fn(|number| u64_of_4(OPENINGS_BEGIN + 8 * number)),
            written: Some(Timestamp(u64_at(64))).filter(|written| written.0 != 0),
            compacted: Compacted { segments: u64_at(72), messages: u64_at(80), bytes: u64_at(88) },
        })
    }
}

fn checksum(copy: &[u8; COPY]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&copy[..12]);
    hasher.update(&copy[16..]);
    hasher.finalize()
}

/// Takes the file for this process. The directory is locked as well; but a copy of it that was made of hard links is another
/// directory, and has the same files.
fn take(file: Arc<dyn DiskFile>, dir: &Path, path: &Path) -> Result<LockedFile, OpenError> {
    match file.try_lock() {
        Ok(true) => Ok(LockedFile(file)),
        Ok(false) => Err(OpenError::Shared(dir.to_owned())),
        Err(error) => Err(OpenError::io("lock", path, error)),
    }
}

/// A file that is locked until this is dropped.
#[derive(Debug)]
struct LockedFile(Arc<dyn DiskFile>);

impl Deref for LockedFile {
    type Target = dyn DiskFile;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// The open file, and the state that is in it. It is locked for as long as it is open.
#[derive(Debug)]
pub(crate) struct SuperblockFile {
    file: LockedFile,
    state: Superblock,
    /// Which of the copies holds the newest state.
    newest_copy: u64,
    /// Where in the file there was a copy that cannot be believed, in bytes; the next update writes it anew.
    damaged: Option<u64>,
    /// Both copies are whole, and say the same.
    agree: bool,
    /// Where a file that is shared with a copy of the store is replaced. `None`: it never is.
    home: Option<(Arc<dyn Disk>, PathBuf)>,
}

impl SuperblockFile {
    /// Where the superblock of a store is.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE_NAME)
    }

    /// Creates the superblock of a new store. Until the rename in here is durable there is no store.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        state: Superblock,
    ) -> Result<SuperblockFile, OpenError> {
        let (path, temporary) = (Self::path(dir), dir.join(NEW_FILE_NAME));
        let file = write_new(disk, &temporary, &state)
            .map_err(|e| OpenError::io("write", &temporary, e))?;
        file.sync_all().map_err(|e| OpenError::io("sync", &temporary, e))?;
        let file = take(file, dir, &temporary)?;
        disk.rename(&temporary, &path).map_err(|e| OpenError::io("rename", &temporary, e))?;
        disk.sync_dir(dir).map_err(|e| OpenError::io("sync", dir, e))?;
        Ok(SuperblockFile { file, state, newest_copy: 0, damaged: None, agree: true, home: None })
    }

    /// Opens and reads the superblock; `None` where there is none.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        access: Access,
    ) -> Result<Option<SuperblockFile>, OpenError> {
        let path = Self::path(dir);
        let file = match disk.open(&path, access) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io("open", &path, error)),
        };
        let file = take(file, dir, &path)?;
        if access == Access::ReadWrite && !is_active(Mutant::TrustCachedSuperblock) {
            // What is read next must not be taken away by a second crash.
            file.sync_all().map_err(|e| OpenError::io("sync", &path, e))?;
        }
        let damaged = |offset, what: &str| {
            OpenError::Damaged(Damage {
                file: path.clone(),
                offset,
                what: what.to_owned(),
                affected: "the last checkpoint cannot be found, so the store cannot be opened; \
                           the messages themselves are in the segment files"
                    .to_owned(),
            })
        };
        let size = file.size().map_err(|e| OpenError::io("examine", &path, e))?;
        if size < PAGE + COPY as u64 {
            return Err(damaged(size, "the file ends too early"));
        }
        let mut best: Option<(u64, Superblock)> = None;
        let mut version = None;
        let mut damaged_copy = None;
        let mut agree = true;
        for index in 0..2 {
            let mut copy = [0; COPY];
            read_exact_at(&*file, &mut copy, index * PAGE)
                .map_err(|e| OpenError::io("read", &path, e))?;
            match Superblock::decode(&copy) {
                Ok(state) => {
                    agree &= best.is_none_or(|(_, other)| other == state);
                    if best.is_none_or(|(_, other)| other.generation < state.generation) {
                        best = Some((index, state));
                    }
                }
                Err(CopyFault::Checksum) => damaged_copy = Some(index * PAGE),
                Err(CopyFault::Version(found)) => version = Some(found),
            }
        }
        if let Some(found) = version {
            return Err(OpenError::Format { file: path, found, supported: FORMAT_VERSION });
        }
        let (newest_copy, state) =
            best.ok_or_else(|| damaged(0, "neither of its two copies passes its checksum"))?;
        if !is_segment_size(state.segment_size) {
            return Err(damaged(40, "the segment size makes no sense"));
        }
        // The number behind it has to be larger, or the state that has it would not count.
        if state.generation == u64::MAX {
            return Err(damaged(32, "the generation makes no sense"));
        }
        if state.root >= Lsn::LIMIT {
            return Err(damaged(48, "the place of the last checkpoint makes no sense"));
        }
        if state.newest.is_some_and(|newest| !newest.id.can_be(1, state.segment_size)) {
            return Err(damaged(56, "the number of the newest segment makes no sense"));
        }
        if state.durable >= Lsn::LIMIT {
            return Err(damaged(112, "the end of the log makes no sense"));
        }
        if state.ahead.iter().any(|tag| !tag.id.can_be(1, state.segment_size)) {
            return Err(damaged(120, "the number of a segment ahead makes no sense"));
        }
        agree &= damaged_copy.is_none();
        let damaged = damaged_copy;
        Ok(Some(SuperblockFile { file, state, newest_copy, damaged, agree, home: None }))
    }

    /// From now on an update leaves a file that is shared with a copy of the store to that copy.
    pub(crate) fn leave_to_copies(&mut self, disk: Arc<dyn Disk>, dir: &Path) {
        self.home = Some((disk, dir.to_owned()));
    }

    /// Where in the file there was a damaged copy when it was opened, in bytes.
    pub(crate) fn damaged_copy(&self) -> Option<u64> {
        self.damaged
    }

    /// Whether both copies say the same. If they do not, an update was cut short, or its sync failed: the newer copy is what a
    /// reader sees, and need not be what the disk has. An [update](Self::update) makes it so.
    pub(crate) fn copies_agree(&self) -> bool {
        self.agree
    }

    pub(crate) fn state(&self) -> &Superblock {
        &self.state
    }

    /// Writes a new state, with a generation of its own, to both copies in turn. On return it is durable, whichever copy is
    /// read. An error leaves it open which state a restart will find.
    pub(crate) fn update(&mut self, state: Superblock) -> io::Result<()> {
        let generation = self.state.generation + 1;
        if generation == u64::MAX {
            // It could be written, and would be refused from then on.
            return Err(io::Error::other("the superblock's generations are used up"));
        }
        let state = Superblock { generation, version: FORMAT_VERSION, ..state };
        if !self.replace(&state)? {
            self.write_over(&state)?;
        }
        self.state = state;
        self.agree = true;
        Ok(())
    }

    fn write_over(&mut self, state: &Superblock) -> io::Result<()> {
        for turn in 0..2 {
            let target = 1 - self.newest_copy;
            write_all_at(&*self.file, &state.encode(), target * PAGE)?;
            if turn == 1 || !is_active(Mutant::OverwriteBothCopies) {
                self.file.sync_data()?;
            }
            self.newest_copy = target;
        }
        Ok(())
    }

    /// Puts a new file with this state into the place of one that a copy of the store has as well. Returns `false` if no copy
    /// has it, or if there is no room for another file: a full disk is no reason to stop.
    fn replace(&mut self, state: &Superblock) -> io::Result<bool> {
        let Some((disk, dir)) = &self.home else { return Ok(false) };
        if self.file.links()? <= 1 {
            return Ok(false);
        }
        let (path, temporary) = (Self::path(dir), dir.join(NEW_FILE_NAME));
        let no_room = |error: io::Error| {
            if !is_lack_of_room(&error) {
                return Err(error);
            }
            tracing::warn!(
                file = %path.display(),
                "a copy of the store that was made of hard links can no longer be opened, because there is no room \
                 for a superblock of its own: {error}"
            );
            if let Err(error) = disk.remove(&temporary) {
                tracing::debug!(%error, file = %temporary.display(), "left behind");
            }
            Ok(false)
        };
        let file = match write_new(&**disk, &temporary, state) {
            Ok(file) => file,
            Err(error) => return no_room(error),
        };
        // A sync that fails is final, whatever the reason.
        file.sync_all()?;
        if !file.try_lock()? {
            return Err(io::Error::other("another process has locked the new superblock"));
        }
        let file = LockedFile(file);
        if let Err(error) = disk.rename(&temporary, &path) {
            return no_room(error);
        }
        self.file = file;
        disk.sync_dir(dir)?;
        self.newest_copy = 0;
        tracing::info!(
            file = %path.display(),
            "a copy of the store that was made of hard links keeps the files it shares; new ones take their place here"
        );
        Ok(true)
    }
}

/// Writes a new file with two copies of a state under a passing name. It is not synced yet.
fn write_new(
    disk: &dyn Disk,
    temporary: &Path,
    state: &Superblock,
) -> io::Result<Arc<dyn DiskFile>> {
    match disk.remove(temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = disk.create(temporary)?;
    let mut pages = vec![0; 2 * PAGE as usize];
    pages[..COPY].copy_from_slice(&state.encode());
    pages[PAGE as usize..][..COPY].copy_from_slice(&state.encode());
    write_all_at(&*file, &pages, 0)?;
    Ok(file)
}

/// Whether creating, writing or renaming a file failed because the disk, the quota or the table of descriptors is full.
fn is_lack_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || is_out_of_descriptors(error)
}

impl Register for Mutex<SuperblockFile> {
    fn note(
        &self,
        ready: &[SegmentTag],
        dropped: &[SegmentTag],
        reached: Option<(SegmentTag, Lsn)>,
    ) -> io::Result<usize> {
        let mut file = self.lock();
        let mut state = *file.state();
        if let Some((newest, durable)) = reached {
            state.reach(Some(newest), durable);
        }
        state.ahead.retain(|tag| !dropped.contains(&tag));
        let added = ready.iter().take_while(|ready| state.ahead.insert(**ready)).count();
        // A list that is full stays as it is, for the caller to ask again when the log has gone on.
        let is_refused = added == 0 && !ready.is_empty();
        if !is_refused && state != *file.state() {
            file.update(state)?;
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests;
