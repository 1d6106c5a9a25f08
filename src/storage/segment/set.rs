//! The segments in use, and how much of each is live.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;

use super::{SegmentHeader, file_name};
use crate::storage::checksum::Seed;
use crate::storage::disk::DiskFile;
use crate::storage::sync::OnceLock;
use crate::storage::units::{Lsn, SegmentId, SegmentTag};

/// How much of a segment is still needed. The counts are exact for references, and for bytes as near as dividing a
/// record's length by the queues that share it comes.
///
/// They are added to while the log's lock is held, so that whoever knows that the log has left a segment knows that
/// its counts only fall from then on.
#[derive(Debug, Default)]
pub(crate) struct Live {
    references: AtomicI64,
    bytes: AtomicI64,
}

impl Live {
    pub(crate) fn add(&self, references: u32, bytes: u64) {
        self.references.fetch_add(i64::from(references), Ordering::AcqRel);
        self.bytes.fetch_add(bytes as i64, Ordering::AcqRel);
    }

    pub(crate) fn remove(&self, references: u32, bytes: u64) {
        let before = self.references.fetch_sub(i64::from(references), Ordering::AcqRel);
        debug_assert!(before >= i64::from(references), "more was released than was taken");
        self.bytes.fetch_sub(bytes as i64, Ordering::AcqRel);
    }

    pub(crate) fn references(&self) -> u64 {
        self.references.load(Ordering::Acquire).max(0) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire).max(0) as u64
    }
}

/// A segment that the log has decided on. Its number and its salt are fixed from then on, so that records can be
/// sealed for it; its file may still be in the making.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) seed: Seed,
    pub(crate) live: Live,
    pub(crate) path: PathBuf,
    file: OnceLock<Arc<dyn DiskFile>>,
}

impl Segment {
    /// A segment without a file as yet.
    pub(crate) fn planned(header: SegmentHeader, dir: &Path) -> Segment {
        Segment {
            header,
            seed: header.seed(),
            live: Live::default(),
            path: dir.join(file_name(header.id)),
            file: OnceLock::new(),
        }
    }

    /// A segment that was found on disk.
    pub(crate) fn found(header: SegmentHeader, dir: &Path, file: Arc<dyn DiskFile>) -> Segment {
        Segment { file: OnceLock::from(file), ..Segment::planned(header, dir) }
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.header.id
    }

    pub(crate) fn tag(&self) -> SegmentTag {
        SegmentTag { id: self.header.id, salt: self.header.salt }
    }

    /// Whether `lsn` lies in this segment, its end included: the log may have stopped right there.
    pub(crate) fn contains(&self, lsn: Lsn, segment_size: u64) -> bool {
        let start = self.id().start(segment_size);
        let end = self.id().plus(u64::from(self.header.slots)).start(segment_size);
        start < lsn && lsn <= end
    }

    pub(crate) fn file(&self) -> Option<&Arc<dyn DiskFile>> {
        self.file.get()
    }

    pub(super) fn set_file(&self, file: Arc<dyn DiskFile>) {
        self.file.set(file).expect("a segment is prepared once");
    }
}

/// All segments that records may be in, by number.
#[derive(Debug)]
pub(crate) struct SegmentSet {
    segment_size: u64,
    segments: RwLock<BTreeMap<SegmentId, Arc<Segment>>>,
}

impl SegmentSet {
    pub(crate) fn new(segment_size: u64) -> SegmentSet {
        SegmentSet { segment_size, segments: RwLock::default() }
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size
    }

    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.segments.write().insert(segment.id(), segment);
    }

    pub(crate) fn remove(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.segments.write().remove(&id)
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.segments.read().get(&id).cloned()
    }

    /// The segment that a record at `lsn` is in, and its offset in the file. A record always begins in the first slot
    /// of its segment, so the slot's number is the segment's.
    pub(crate) fn locate(&self, lsn: Lsn) -> Option<(Arc<Segment>, u64)> {
        let id = SegmentId::holding(lsn, self.segment_size);
        Some((self.get(id)?, lsn.since(id.start(self.segment_size))))
    }

    /// The segment that the log is in, or has left, at `end`, as [`Segment::contains`] counts.
    pub(crate) fn ending_at(&self, end: Lsn) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let before = segments.values().rfind(|segment| segment.id().start(self.segment_size) < end);
        before.filter(|segment| segment.contains(end, self.segment_size)).cloned()
    }

    /// Counts what a checkpoint says is live.
    pub(crate) fn add(&self, id: SegmentId, references: u32, bytes: u64) {
        if let Some(segment) = self.segments.read().get(&id) {
            segment.live.add(references, bytes);
        }
    }

    /// Takes back what was counted as live.
    pub(crate) fn remove_live(&self, id: SegmentId, references: u32, bytes: u64) {
        if let Some(segment) = self.segments.read().get(&id) {
            segment.live.remove(references, bytes);
        }
    }

    /// The number of segments that lie wholly below `end` and of which nothing is live: a checkpoint would make their files
    /// free.
    pub(crate) fn dead(&self, end: Lsn) -> usize {
        let segments = self.segments.read();
        let is_dead = |segment: &&Arc<Segment>| {
            let behind = segment.id().plus(u64::from(segment.header.slots));
            behind.start(self.segment_size) <= end && segment.live.references() == 0
        };
        segments.values().filter(is_dead).count()
    }

    /// The segments in the order of the log.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.segments.read().values().cloned().collect()
    }
}
