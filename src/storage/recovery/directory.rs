//! What is in a data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::repairs::number_of;
use crate::storage::checksum::StoreId;
use crate::storage::disk::{Access, Disk, DiskFile, read_exact_at};
use crate::storage::error::{Damage, OpenError};
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::segment::{
    FreeFile, HeaderFault, Segment, SegmentHeader, SegmentSet, file_name, is_unfinished,
    parse_file_name,
};
use crate::storage::superblock::{Superblock, SuperblockFile};
use crate::storage::units::{SegmentId, SegmentTag};

/// The files of a store, by name.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    access: Access,
    segment_size: u64,
    segments: BTreeSet<SegmentId>,
    unfinished: Vec<String>,
    /// Directories that repairs have made.
    repairs: Vec<String>,
    /// The salts that segments must have.
    expected: BTreeMap<SegmentId, u64>,
    /// Segments that nothing ties to this history of the store.
    untied: BTreeSet<SegmentId>,
}

impl<'a> Directory<'a> {
    /// Lists a directory. A file with a number that no log comes to is none of ours, whatever it is called.
    pub(super) fn read(
        disk: &'a dyn Disk,
        dir: &'a Path,
        access: Access,
        segment_size: u64,
    ) -> Result<Directory<'a>, OpenError> {
        let names = disk.list(dir).map_err(|e| OpenError::io("list", dir, e))?;
        // What has a number that no segment can have is not ours.
        let segments = names
            .iter()
            .filter_map(|name| parse_file_name(name))
            .filter(|id| id.can_be(1, segment_size))
            .collect();
        let named = |is_ours: fn(&str) -> bool| {
            names.iter().filter(|name| is_ours(name)).cloned().collect::<Vec<_>>()
        };
        let repairs = named(|name| number_of(name).is_some());
        let unfinished = named(is_unfinished);
        Ok(Directory {
            disk,
            dir,
            access,
            segment_size,
            segments,
            unfinished,
            repairs,
            expected: BTreeMap::new(),
            untied: BTreeSet::new(),
        })
    }

    /// The numbers of the segment files, ascending, with their paths.
    pub(super) fn segments(&self) -> impl Iterator<Item = (SegmentId, PathBuf)> {
        self.segments.iter().map(|id| (*id, self.path(*id)))
    }

    pub(super) fn contains(&self, id: SegmentId) -> bool {
        self.segments.contains(&id)
    }

    pub(super) fn path(&self, id: SegmentId) -> PathBuf {
        self.dir.join(file_name(id))
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir
    }

    /// From now on a segment with this number must have this salt, unless another one was expected before.
    pub(super) fn expect(&mut self, tag: SegmentTag) {
        if tag.salt != 0 {
            self.expected.entry(tag.id).or_insert(tag.salt);
        }
    }

    pub(super) fn is_expected(&self, id: SegmentId) -> bool {
        self.expected.contains_key(&id)
    }

    /// Refuses a segment from now on, because nothing ties it to this history of the store.
    pub(super) fn refuse(&mut self, id: SegmentId) {
        self.untied.insert(id);
    }

    /// Opens a segment and reads its header. `sync`: what it holds may not have been synced, and is to be believed.
    pub(super) fn open_segment(
        &self,
        store: &StoreId,
        id: SegmentId,
        sync: bool,
    ) -> Result<Result<Segment, HeaderFault>, OpenError> {
        let path = self.path(id);
        let file = self.open(&path)?;
        if sync && self.access == Access::ReadWrite && !is_active(Mutant::TrustCachedTail) {
            file.sync_all().map_err(|e| OpenError::io("sync", &path, e))?;
        }
        let mut bytes = [0; SegmentHeader::SIZE];
        match read_exact_at(&*file, &mut bytes, 0) {
            Ok(()) => {}
            // Not the disk's failure: the file has lost its end.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Err(HeaderFault::TooShort));
            }
            Err(error) => return Err(OpenError::io("read", &path, error)),
        }
        Ok(match SegmentHeader::decode(&bytes, store, id) {
            Ok(header) if !id.can_be(header.slots, self.segment_size) => Err(HeaderFault::Slots),
            Ok(header) if self.expected.get(&id).is_some_and(|salt| *salt != header.salt) => {
                Err(HeaderFault::OtherHistory)
            }
            Ok(_) if self.untied.contains(&id) => Err(HeaderFault::Untied),
            Ok(header) => Ok(Segment::found(header, self.dir, file)),
            Err(fault) => Err(fault),
        })
    }

    /// Opens a segment that is needed.
    pub(super) fn needed_segment(
        &self,
        store: &StoreId,
        id: SegmentId,
        sync: bool,
    ) -> Result<Segment, OpenError> {
        if !self.contains(id) {
            return Err(OpenError::Damaged(self.missing(id)));
        }
        let opened = self.open_segment(store, id, sync)?;
        opened.map_err(|fault| OpenError::Damaged(self.refused(id, fault)))
    }

    /// The damage of a segment whose header cannot be believed.
    fn refused(&self, id: SegmentId, fault: HeaderFault) -> Damage {
        Damage {
            file: self.path(id),
            offset: 0,
            what: fault.describe(),
            affected: "the messages in this segment cannot be read".to_owned(),
        }
    }

    /// Opens a segment that a root needs, with the salt that the root names; 0: unknown. The salts
    /// of the last root are expected anyway, and those of an older one are not.
    pub(super) fn segment_with(
        &self,
        store: &StoreId,
        id: SegmentId,
        salt: u64,
        sync: bool,
    ) -> Result<Segment, OpenError> {
        let segment = self.needed_segment(store, id, sync)?;
        if salt == 0 || segment.header.salt == salt {
            return Ok(segment);
        }
        Err(OpenError::Damaged(self.refused(id, HeaderFault::OtherHistory)))
    }

    /// Refuses a store of which a segment is not as long as it was made: what is cut off is needed, or may be.
    pub(super) fn check_sizes(&self, segments: &SegmentSet) -> Result<(), OpenError> {
        segments.all().iter().try_for_each(|segment| {
            match wrong_size(segment, self.segment_size)? {
                None => Ok(()),
                Some(damage) => Err(OpenError::Damaged(damage)),
            }
        })
    }

    /// Refuses a store without one of the segments that the log may have gone on in.
    pub(super) fn check_ahead(&self, superblock: &Superblock) -> Result<(), OpenError> {
        match superblock.ahead.iter().find(|tag| !self.contains(tag.id)) {
            None => Ok(()),
            Some(tag) => Err(OpenError::Damaged(Damage {
                affected: "the file was ready, and the log may have gone on in it: messages that were confirmed last may \
                           be lost unless the file is put back"
                    .to_owned(),
                ..self.missing(tag.id)
            })),
        }
    }

    /// Opens every segment there is; those whose headers cannot be believed are told apart.
    pub(super) fn all_segments(
        &self,
        superblock: &Superblock,
    ) -> Result<(SegmentSet, Vec<Damage>), OpenError> {
        let (readable, mut unreadable) = (SegmentSet::new(superblock.segment_size), Vec::new());
        for (id, _) in self.segments() {
            match self.open_segment(&superblock.store, id, false)? {
                Ok(segment) => readable.insert(Arc::new(segment)),
                Err(fault) => unreadable.push(self.refused(id, fault)),
            }
        }
        Ok((readable, unreadable))
    }

    /// What it means that there is no file for a segment.
    pub(super) fn missing(&self, id: SegmentId) -> Damage {
        Damage {
            file: self.path(id),
            offset: 0,
            what: format!("the file of segment {id} is missing"),
            affected: "the messages in this segment are lost unless the file is put back"
                .to_owned(),
        }
    }

    /// Opens segments that nothing needs, to be recycled. A file of another size than most, made for an oversized
    /// record, is of no use and removed.
    pub(super) fn reuse(
        &self,
        ids: &[SegmentId],
        segment_size: u64,
    ) -> Result<Vec<FreeFile>, OpenError> {
        let mut free = Vec::with_capacity(ids.len());
        for path in ids.iter().map(|id| self.path(*id)) {
            let file = self.open(&path)?;
            if file.size().map_err(|e| OpenError::io("examine", &path, e))? == segment_size {
                free.push(FreeFile { path, file });
            } else {
                self.disk.remove(&path).map_err(|e| OpenError::io("remove", &path, e))?;
            }
        }
        Ok(free)
    }

    /// Takes the permissions of other users away from the directory and the files of the store: an earlier version, or a
    /// copy, may have left some. A failure is told and is not an error, because the store itself works as well.
    pub(super) fn restrict(&self) {
        let segments = self.segments().map(|(_, path)| path);
        let repairs = self.repairs.iter().map(|name| self.dir.join(name));
        let paths = [self.dir.to_owned(), SuperblockFile::path(self.dir)];
        let (mut restricted, mut former) = (0, 0);
        for path in paths.into_iter().chain(segments).chain(repairs) {
            match self.disk.restrict(&path) {
                Ok(None) => {}
                Ok(Some(mode)) => {
                    restricted += 1;
                    former |= mode;
                }
                Err(error) => tracing::warn!(
                    path = %path.display(),
                    "other users of the machine may be able to read stored messages: the permissions cannot be \
                     changed: {error}"
                ),
            }
        }
        if restricted > 0 {
            tracing::warn!(
                directory = %self.dir.display(),
                files = restricted,
                former = %format_args!("{former:03o}"),
                "other users of the machine were able to read stored messages; their permissions have been removed"
            );
        }
    }

    /// Removes what interrupted preparations have left behind. It was never in use.
    pub(super) fn remove_unfinished(&self) -> Result<(), OpenError> {
        for name in &self.unfinished {
            let path = self.dir.join(name);
            self.disk.remove(&path).map_err(|e| OpenError::io("remove", &path, e))?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, OpenError> {
        self.disk.open(path, self.access).map_err(|e| OpenError::io("open", path, e))
    }
}

/// The damage of a segment whose file is longer or shorter than it was made.
pub(super) fn wrong_size(
    segment: &Segment,
    segment_size: u64,
) -> Result<Option<Damage>, OpenError> {
    let io = |error| OpenError::io("examine", &segment.path, error);
    let file = segment.file().expect("a segment that was found has a file");
    let (size, expected) =
        (file.size().map_err(io)?, u64::from(segment.header.slots) * segment_size);
    Ok((size != expected).then(|| Damage {
        file: segment.path.clone(),
        offset: size.min(expected),
        what: format!("the file has {size} bytes instead of {expected}"),
        affected: "messages in this segment may be lost".to_owned(),
    }))
}
