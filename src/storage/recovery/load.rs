//! The last checkpoint, read back.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::directory::Directory as DataDirectory;
use crate::storage::catalog::Catalog;
use crate::storage::checkpoint::Parts;
use crate::storage::error::{Damage, OpenError, StoreError};
use crate::storage::index::QueueIndex;
use crate::storage::queue::QueueCore;
use crate::storage::reader;
use crate::storage::record::{
    Directory, Malformed, MetadataPage, PageRef, QueuePage, RecordKind, Root, check_chunks,
};
use crate::storage::segment::SegmentSet;
use crate::storage::superblock::{Superblock, SuperblockFile};
use crate::storage::units::{Lsn, QueueId, SegmentId, SegmentTag, Sequence};

/// The state of the last checkpoint.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) segments: SegmentSet,
    pub(super) catalog: Catalog,
    pub(super) parts: Parts,
    /// Where the log has to be replayed from; [`Lsn::ZERO`]: from its beginning.
    pub(super) replay_from: Lsn,
}

/// What a checkpoint was read without.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Segments that only messages are needed of.
    pub(super) segments: Vec<Damage>,
    /// Directories of deep queues; `None`: without them it is not to be read.
    pub(super) directories: Option<Vec<LostDirectory>>,
}

/// A directory of a deep queue that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostDirectory {
    pub(crate) queue: QueueId,
    /// Its number in the queue.
    pub(crate) number: u64,
    /// The place that the queue's next message got: from there on the log is replayed.
    pub(crate) next: Sequence,
    pub(crate) page: PageRef,
    pub(crate) damage: Damage,
}

/// Reads the checkpoint that the superblock points to. What is missing of it is an error, unless it can be `noted`.
pub(super) fn checkpoint(
    directory: &DataDirectory<'_>,
    superblock: &Superblock,
    mut noted: Option<&mut Noted>,
) -> Result<Loaded, OpenError> {
    let size = superblock.segment_size;
    let segments = SegmentSet::new(size);
    let mut catalog = Catalog::new();
    if superblock.root == Lsn::ZERO {
        return Ok(Loaded { segments, catalog, parts: Parts::default(), replay_from: Lsn::ZERO });
    }

    let home = SegmentId::holding(superblock.root, size);
    segments.insert(Arc::new(directory.needed_segment(&superblock.store, home, true)?));
    let length = reader::read_length(&segments, superblock.root)
        .map_err(|e| damaged(directory.dir(), &e))?;
    let root_page = PageRef { lsn: superblock.root, length };
    let root = page(directory, &segments, root_page, RecordKind::Root, Root::decode)?;

    let tail = SegmentId::holding(root.replay_from, size);
    for SegmentTag { id, salt } in &root.segments {
        if segments.get(*id).is_none() {
            let sync = *id >= tail;
            let needed = directory.segment_with(&superblock.store, *id, *salt, sync);
            match (needed, &mut noted) {
                (Ok(segment), _) => segments.insert(Arc::new(segment)),
                (Err(OpenError::Damaged(damage)), Some(noted)) => noted.segments.push(damage),
                (Err(error), _) => return Err(error),
            }
        }
    }
    // The checkpoint's own records may lie in segments that the log has only reached while writing it.
    // Which of these it has records in is not known yet: what is wrong with one is damage if it has.
    let after = SegmentId(root.segments.last().map_or(0, |last| last.id.0));
    for (id, _) in directory.segments().filter(|(id, _)| *id > after && *id < home) {
        if let Ok(segment) = directory.open_segment(&superblock.store, id, true)? {
            segments.insert(Arc::new(segment));
        }
    }

    let missing = RefCell::new(BTreeSet::new());
    let count = |page: PageRef| {
        let id = SegmentId::holding(page.lsn, size);
        segments.add(id, 1, u64::from(page.length));
        if segments.get(id).is_none() {
            missing.borrow_mut().insert(id);
        }
    };
    count(root_page);
    for (number, reference) in root.queue_pages.iter().enumerate() {
        let Some(reference) = reference else { continue };
        count(*reference);
        let content =
            page(directory, &segments, *reference, RecordKind::QueuePage, QueuePage::decode)?;
        let mut queues = Vec::with_capacity(content.queues.len());
        for queue in content.queues {
            let mut chunks = queue.chunks;
            let mut outdated = Vec::new();
            for (number, reference) in &queue.directories {
                count(*reference);
                let read = page(
                    directory,
                    &segments,
                    *reference,
                    RecordKind::Directory,
                    Directory::decode,
                );
                let lost = noted.as_mut().and_then(|noted| noted.directories.as_mut());
                match (read, lost) {
                    (Ok(directory), _) => chunks.extend(directory.chunks),
                    (Err(OpenError::Damaged(damage)), Some(lost)) => {
                        outdated.push((*number, *reference));
                        lost.push(LostDirectory {
                            queue: queue.id,
                            number: *number,
                            next: queue.next,
                            page: *reference,
                            damage,
                        });
                    }
                    (Err(error), _) => return Err(error),
                }
            }
            check_chunks(&chunks).map_err(|malformed| {
                damaged(directory.dir(), &reader::unreadable(&segments, reference.lsn, &malformed))
            })?;
            for chunk in &chunks {
                count(chunk.page);
                chunk.shares.iter().for_each(|s| segments.add(s.segment, s.references, s.bytes));
            }
            let mut index = QueueIndex::restore(queue.next, chunks, queue.directories, size);
            for (number, page) in &outdated {
                index.outdate_directory(*number, page.lsn);
            }
            let core = Arc::new(QueueCore::new(queue.id, queue.attributes.into(), index));
            core.state.lock().changed |= !outdated.is_empty();
            queues.push(core);
        }
        catalog.restore_queue_page(number, queues);
    }
    for (number, reference) in root.metadata_pages.iter().enumerate() {
        let Some(reference) = reference else { continue };
        count(*reference);
        let content =
            page(directory, &segments, *reference, RecordKind::MetadataPage, MetadataPage::decode)?;
        let entries =
            content.entries.into_iter().map(|(k, v)| (Bytes::from(k), Bytes::from(v))).collect();
        catalog.restore_metadata_page(number, entries);
    }
    catalog.restore_next_queue(root.next_queue);
    // Lists of messages are not read yet. To go on without one would be to give up its segment, and the list with it; also where
    // the segment's header is read right the next time that it is looked at.
    for id in missing.into_inner() {
        let tag = root.segments.iter().find(|tag| tag.id == id);
        let salt = tag.map_or(0, |tag| tag.salt);
        let needed = directory.segment_with(&superblock.store, id, salt, true);
        match (needed, &mut noted) {
            (Err(OpenError::Damaged(damage)), Some(noted)) => {
                if !noted.segments.contains(&damage) {
                    noted.segments.push(damage);
                }
            }
            (Err(error), _) => return Err(error),
            (Ok(_), _) => {
                let what = "the segment's header was read wrong once, and right the second time";
                return Err(OpenError::io("read", &directory.path(id), io::Error::other(what)));
            }
        }
    }

    let parts = Parts {
        root: Some(root_page),
        queue_pages: root.queue_pages,
        metadata_pages: root.metadata_pages,
    };
    Ok(Loaded { segments, catalog, parts, replay_from: root.replay_from })
}

/// Reads and decodes a record of the checkpoint.
fn page<T>(
    directory: &DataDirectory<'_>,
    segments: &SegmentSet,
    reference: PageRef,
    kind: RecordKind,
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<T, OpenError> {
    let mut buffer = Vec::new();
    let record = reader::read_record(segments, reference.lsn, reference.length, kind, &mut buffer)
        .map_err(|error| damaged(directory.dir(), &error))?;
    decode(record.payload).map_err(|malformed| {
        damaged(directory.dir(), &reader::unreadable(segments, reference.lsn, &malformed))
    })
}

/// What it means that a record of the checkpoint cannot be read.
pub(super) fn damaged(dir: &Path, error: &StoreError) -> OpenError {
    let (file, offset, what) = match error {
        StoreError::Unreadable { lsn, file, offset, reason } => {
            let what = format!("{reason}; the checkpoint has a record there, at {lsn}");
            (file.clone(), *offset, what)
        }
        other => (SuperblockFile::path(dir), 0, other.to_string()),
    };
    OpenError::Damaged(Damage {
        file,
        offset,
        what,
        affected: "the list of queues, or of their messages, is incomplete, so the store cannot be opened; the \
                   messages themselves are in the segment files"
            .to_owned(),
    })
}
