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
//! | 480..512 | | zero |
//!
//! Bytes 64..96 are for people to read; nothing is decided by them. Magic, version and checksum keep their
//! places in all versions to come.
//!
//! # Segments ahead
//! Invariant: the log writes to a segment only when the superblock durably names it, as newest or ahead; and a file that the
//! superblock names keeps its name until a superblock without it is durable. So each of these files must be there at
//! an open, used or not, and the log cannot have gone on in any other.
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
use super::disk::{Access, Disk, DiskFile, read_exact_at, write_all_at};
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

/// How many segments ahead a superblock can name.
const AHEAD: usize = 22;

/// Where these are in a copy.
const AHEAD_BEGIN: usize = 128;

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
        match disk.remove(&temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::io("remove", &temporary, error)),
        }
        let file = disk.create(&temporary).map_err(|e| OpenError::io("create", &temporary, e))?;
        let file = take(file, dir, &temporary)?;
        let mut pages = vec![0; 2 * PAGE as usize];
        pages[..COPY].copy_from_slice(&state.encode());
        pages[PAGE as usize..][..COPY].copy_from_slice(&state.encode());
        write_all_at(&*file, &pages, 0)
            .and_then(|()| file.sync_all())
            .map_err(|e| OpenError::io("write", &temporary, e))?;
        disk.rename(&temporary, &path).map_err(|e| OpenError::io("rename", &temporary, e))?;
        disk.sync_dir(dir).map_err(|e| OpenError::io("sync", dir, e))?;
        Ok(SuperblockFile { file, state, newest_copy: 0, damaged: None, agree: true })
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
        Ok(Some(SuperblockFile { file, state, newest_copy, damaged: damaged_copy, agree }))
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
        for turn in 0..2 {
            let target = 1 - self.newest_copy;
            write_all_at(&*self.file, &state.encode(), target * PAGE)?;
            if turn == 1 || !is_active(Mutant::OverwriteBothCopies) {
                self.file.sync_data()?;
            }
            self.newest_copy = target;
        }
        self.state = state;
        self.agree = true;
        Ok(())
    }
}

impl Register for Mutex<SuperblockFile> {
    fn note(
        &self,
        ready: Option<SegmentTag>,
        dropped: &[SegmentTag],
        reached: Option<(SegmentTag, Lsn)>,
    ) -> io::Result<bool> {
        let mut file = self.lock();
        let mut state = *file.state();
        if let Some((newest, durable)) = reached {
            state.reach(Some(newest), durable);
        }
        state.ahead.retain(|tag| !dropped.contains(&tag));
        let noted = ready.is_none_or(|ready| state.ahead.insert(ready));
        if noted && state != *file.state() {
            file.update(state)?;
        }
        Ok(noted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::RealDisk;

    fn example() -> Superblock {
        let mut ahead = Ahead::default();
        assert!(ahead.insert(SegmentTag { id: SegmentId(44), salt: 0xa4 }));
        assert!(ahead.insert(SegmentTag { id: SegmentId(43), salt: 0xa3 }));
        Superblock {
            version: FORMAT_VERSION,
            store: *b"0123456789abcdef",
            generation: 7,
            segment_size: 64 << 20,
            root: Lsn(0x0123_4567_89ab_cdef),
            root_salt: 0x0807_0605_0403_0201,
            newest: Some(SegmentTag { id: SegmentId(42), salt: 0xa2 }),
            durable: Lsn(0x0123_4567_89ab_ceff),
            ahead,
            written: Some(Timestamp(0x0000_0198_7654_3210)),
            compacted: Compacted { segments: 0x1122, messages: 0x3344_5566, bytes: 0x77_8899_aabb },
        }
    }

    fn flip(dir: &Path, offset: u64) {
        let file = RealDisk.open(&SuperblockFile::path(dir), Access::ReadWrite).unwrap();
        let mut byte = [0];
        read_exact_at(&*file, &mut byte, offset).unwrap();
        write_all_at(&*file, &[byte[0] ^ 1], offset).unwrap();
    }

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let bytes = example().encode();
        let mut expected = Vec::new();
        expected.extend_from_slice(b"HAYPILE\0\x04\0\0\0\xb2\x7f\xef\x540123456789abcdef");
        expected.extend_from_slice(b"\x07\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0");
        expected.extend_from_slice(b"\xef\xcd\xab\x89\x67\x45\x23\x01\x2a\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x10\x32\x54\x76\x98\x01\0\0\x22\x11\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x66\x55\x44\x33\0\0\0\0\xbb\xaa\x99\x88\x77\0\0\0");
        expected.extend_from_slice(b"\x01\x02\x03\x04\x05\x06\x07\x08\xa2\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\xff\xce\xab\x89\x67\x45\x23\x01\x02\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x2b\0\0\0\0\0\0\0\xa3\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x2c\0\0\0\0\0\0\0\xa4\0\0\0\0\0\0\0");
        expected.resize(512, 0);
        assert_eq!(bytes[..160], expected[..160], "{:02x?}", &bytes[12..16]);
        assert_eq!(bytes[160..], expected[160..]);
        assert_eq!(Superblock::decode(&bytes), Ok(example()));
    }

    #[test]
    fn a_superblock_of_version_3_is_read_and_the_next_update_writes_version_4() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(b"HAYPILE\0\x03\0\0\0\xe5\xf1\x76\x2b0123456789abcdef");
        bytes.extend_from_slice(b"\x07\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0");
        bytes.extend_from_slice(b"\xef\xcd\xab\x89\x67\x45\x23\x01\x2a\0\0\0\0\0\0\0");
        bytes.resize(PAGE as usize, 0);
        bytes.extend_from_within(..);
        let dir = tempfile::tempdir().unwrap();
        let path = SuperblockFile::path(dir.path());
        let file = RealDisk.create(&path).unwrap();
        write_all_at(&*file, &bytes, 0).unwrap();
        drop(file);
        let open = || SuperblockFile::open(&RealDisk, dir.path(), Access::ReadWrite);
        let mut file = open().unwrap().unwrap();
        let expected = Superblock {
            version: 3,
            root_salt: 0,
            newest: Some(SegmentTag { id: SegmentId(42), salt: 0 }),
            durable: Lsn::ZERO,
            ahead: Ahead::default(),
            written: None,
            compacted: Compacted::default(),
            ..example()
        };
        assert_eq!(*file.state(), expected);
        assert!(!expected.tells_histories());
        file.update(expected).unwrap();
        drop(file);
        let state = *open().unwrap().unwrap().state();
        assert_eq!(state, Superblock { version: 4, generation: 8, ..expected });
        assert!(state.tells_histories());
    }

    #[test]
    fn segments_ahead_are_ascending_and_end_with_the_newest() {
        let tag = |id| SegmentTag { id: SegmentId(id), salt: id };
        let mut state = Superblock { ahead: Ahead::default(), ..example() };
        for id in (43..43 + AHEAD as u64).rev() {
            assert!(state.ahead.insert(tag(id)));
        }
        assert!(state.ahead.iter().map(|tag| tag.id.0).eq(43..43 + AHEAD as u64));
        assert!(!state.clone().ahead.insert(tag(100)), "there is no room");
        assert!(
            state.ahead.insert(SegmentTag { salt: 1, ..tag(50) }),
            "it takes the place of another"
        );
        state.reach(Some(tag(60)), Lsn(5));
        assert_eq!((state.newest, state.durable), (Some(tag(60)), example().durable));
        assert_eq!(state.ahead.iter().next(), Some(tag(61)));
        assert_eq!(state.last_known(), Some(SegmentId(64)));
        state.reach(Some(tag(59)), Lsn::ZERO);
        assert_eq!(state.newest, Some(tag(60)));
    }

    #[test]
    fn either_copy_alone_is_enough() {
        for damaged in [0, PAGE] {
            let dir = tempfile::tempdir().unwrap();
            let mut file = SuperblockFile::create(&RealDisk, dir.path(), example()).unwrap();
            file.update(Superblock { root: Lsn(99), ..example() }).unwrap();
            drop(file);
            flip(dir.path(), damaged + 33);
            let read = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap().unwrap();
            assert_eq!(read.state().root, Lsn(99));
            assert_eq!(read.state().generation, 8);
        }
    }

    #[test]
    fn two_damaged_copies_are_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        SuperblockFile::create(&RealDisk, dir.path(), example()).unwrap();
        flip(dir.path(), 20);
        flip(dir.path(), PAGE + 20);
        let error = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap_err();
        assert!(error.to_string().contains("superblock is damaged"), "{error}");
    }

    /// With checksums that are right: only a defect writes that, and nothing is to be calculated with it.
    #[test]
    fn what_cannot_be_is_refused_although_its_checksum_is_right() {
        let cannot_be = [
            Superblock { generation: u64::MAX, ..example() },
            Superblock { segment_size: 0, ..example() },
            Superblock { segment_size: 4096, ..example() },
            Superblock { segment_size: 1 << 33, ..example() },
            Superblock { root: Lsn(1 << 62), ..example() },
            Superblock {
                newest: Some(SegmentTag { id: SegmentId(u64::MAX), salt: 1 }),
                ..example()
            },
            Superblock { durable: Lsn(1 << 62), ..example() },
        ];
        for state in cannot_be {
            let dir = tempfile::tempdir().unwrap();
            SuperblockFile::create(&RealDisk, dir.path(), state).unwrap();
            let error = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap_err();
            assert!(error.to_string().contains("makes no sense"), "{error}");
        }
    }

    #[test]
    fn no_update_writes_a_generation_that_would_be_refused() {
        let dir = tempfile::tempdir().unwrap();
        let last = Superblock { generation: u64::MAX - 1, ..example() };
        let mut file = SuperblockFile::create(&RealDisk, dir.path(), last).unwrap();
        file.update(Superblock { root: Lsn(99), ..last }).unwrap_err();
        drop(file);
        let read = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap().unwrap();
        assert_eq!(*read.state(), last);
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        SuperblockFile::create(&RealDisk, dir.path(), example()).unwrap();
        let file = RealDisk.open(&SuperblockFile::path(dir.path()), Access::ReadWrite).unwrap();
        let mut copy = example().encode();
        copy[8] = 9;
        let sum = checksum(&copy);
        copy[12..16].copy_from_slice(&sum.to_le_bytes());
        write_all_at(&*file, &copy, 0).unwrap();
        let error = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap_err();
        assert!(matches!(error, OpenError::Format { found: 9, .. }), "{error}");
    }
}
