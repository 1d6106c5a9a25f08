//! Checkpoints: the state of the store, written into the log a part at a time while appending goes on.
//!
//! 1. Settle what has gone of chunks that are not in memory. Note which segments nothing needs then, and where the log
//!    stands: everything below is in what is written next.
//! 2. Write what has changed: records of chunks, pages of queues, pages of metadata; then the root.
//! 3. When the root is durable, point the superblock to it, one copy after the other.
//! 4. Only then recycle the segments noted in step 1.
//!
//! The parts are not of one moment. They need not be: every record of the log means the same applied once or twice,
//! and recovery applies all of them from step 1 on. What lives here: that order of things. It may use everything below
//! the store; it must never hold two queues' locks, or one while it waits for the disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::catalog::Catalog;
use super::clock::Timestamp;
use super::error::StoreError;
use super::index::Released;
use super::log::Log;
use super::mutant::{Mutant, is_active};
use super::queue::QueueCore;
use super::record::{
    ChunkEntry, Directory, MetadataPage, PageRef, QueuePage, QueueState, RecordKind, Root,
};
use super::segment::{FreeFile, SegmentSet};
use super::store::Shared;
use super::superblock::{Superblock, SuperblockFile};
use super::units::{Lsn, SegmentId, SegmentTag};

/// A segment of which less than this part is live is nearly empty.
const NEARLY_EMPTY: u64 = 8;

/// The parts of the last checkpoint, to find again what has not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) root: Option<PageRef>,
    pub(crate) queue_pages: Vec<Option<PageRef>>,
    pub(crate) metadata_pages: Vec<Option<PageRef>>,
}

/// What there is to tell of the last checkpoint while the next one is being written: kept apart from the [`Checkpointer`],
/// which is taken for as long as that takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastCheckpoint {
    /// [`Lsn::ZERO`]: there is none yet.
    pub(crate) root: Lsn,
    pub(crate) written: Option<Timestamp>,
    pub(crate) replay_from: Lsn,
    /// The next one is being written.
    pub(crate) under_way: bool,
}

impl LastCheckpoint {
    pub(crate) fn new(superblock: &Superblock, replay_from: Lsn) -> LastCheckpoint {
        let Superblock { root, written, .. } = *superblock;
        LastCheckpoint { root, written, replay_from, under_way: false }
    }

    /// How much log a recovery would have to replay, in bytes of LSN.
    pub(crate) fn distance(&self, log: &Log) -> u64 {
        log.durable().get().saturating_sub(self.replay_from.get())
    }
}

/// A checkpoint that is durable, and that the superblock does not point to yet.
struct Written {
    root: Lsn,
    replay_from: Lsn,
    /// Segments that nothing needed before it was written.
    dead: Vec<SegmentId>,
}

/// Writes checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    superblock: Arc<Mutex<SuperblockFile>>,
    parts: Parts,
}

impl Checkpointer {
    pub(crate) fn new(superblock: Arc<Mutex<SuperblockFile>>, parts: Parts) -> Checkpointer {
        Checkpointer { superblock, parts }
    }

    /// Notes in the superblock that all that is durable of the log is so.
    pub(crate) fn note_durable(&mut self, log: &Log) -> Result<(), StoreError> {
        let (newest, durable) = (log.newest_tag(), log.durable());
        if self.superblock.lock().state().durable < durable {
            self.update_superblock(log, |state| state.reach(newest, durable))?;
        }
        Ok(())
    }

    /// Notes in the superblock how far the log reaches, so that a segment that is missing is missed.
    pub(crate) fn note_newest(&mut self, log: &Log) -> Result<(), StoreError> {
        let (newest, durable) = (log.newest_tag(), log.durable());
        let known = self.superblock.lock().state().newest;
        if newest.map(|tag| tag.id) > known.map(|tag| tag.id) {
            self.update_superblock(log, |state| state.reach(newest, durable))?;
        }
        Ok(())
    }

    /// Takes the segments ahead off the superblock, of a log that has ended and is durable: they hold nothing.
    pub(crate) fn forget_ahead(&mut self, log: &Log) -> Result<(), StoreError> {
        let (newest, durable) = (log.newest_tag(), log.durable());
        self.update_superblock(log, |state| {
            state.reach(newest, durable);
            state.ahead.retain(|_| false);
        })?;
        Ok(())
    }

    /// Writes a checkpoint, and recycles the segments that it makes free.
    pub(crate) fn checkpoint(&mut self, shared: &Shared) -> Result<(), StoreError> {
        shared.last_checkpoint.lock().under_way = true;
        // All hand-outs so far are in what is written next.
        let unrecorded = shared.unrecorded.swap(false, Ordering::AcqRel);
        let written = self.write(shared);
        let outcome = written.and_then(|written| self.publish(shared, &written));
        if outcome.is_err() && unrecorded {
            shared.unrecorded.store(true, Ordering::Release);
        }
        shared.last_checkpoint.lock().under_way = false;
        outcome
    }

    /// Writes a checkpoint that the superblock is never pointed to: the next one finds what is live out of the segments where
    /// it was, and can free these. For opening the store on a full disk.
    pub(crate) fn draft(&mut self, shared: &Shared) -> Result<(), StoreError> {
        self.write(shared).map(drop)
    }

    /// Writes the parts of a checkpoint, and waits until they are durable.
    fn write(&mut self, shared: &Shared) -> Result<Written, StoreError> {
        let log = &*shared.log;
        // Of queues too that no page has, or no new one: so that what they need no more is dead.
        shared.settle_all()?;
        let replay_from = log.end_of_groups();
        let (dead, needed) = sort_segments(&shared.segments, replay_from);
        if is_active(Mutant::RecycleEarly) {
            retire(shared, &dead);
        }
        let mut moving = std::mem::take(&mut *shared.moving_pages.lock());
        if shared.is_short_of_space() {
            moving.extend(self.pinning(shared, replay_from));
        }
        let queues = self.write_queue_pages(shared, &moving);
        let written = queues.and_then(|()| self.write_metadata_pages(shared, &moving));
        if written.is_err() {
            shared.moving_pages.lock().extend(moving);
        }
        written?;
        let root = Root {
            replay_from,
            next_queue: shared.catalog.lock().next_queue(),
            segments: needed,
            queue_pages: self.parts.queue_pages.clone(),
            metadata_pages: self.parts.metadata_pages.clone(),
        };
        let mut payload = Vec::new();
        root.encode(&mut payload);
        let root = append_page(log, RecordKind::Root, &payload)?;
        replace(shared, &mut self.parts.root, Some(root));

        if !is_active(Mutant::PointEarly) {
            log.wait(root.lsn.plus(u64::from(root.length)))?;
        }
        let bytes = root.lsn.plus(u64::from(root.length)).get() - replay_from.get();
        shared.checkpoint_bytes.store(bytes, Ordering::Relaxed);
        Ok(Written { root: root.lsn, replay_from, dead })
    }

    /// Points the superblock to a checkpoint, and recycles the segments that were dead before it was written.
    fn publish(&self, shared: &Shared, written: &Written) -> Result<(), StoreError> {
        let Written { root, replay_from, dead } = written;
        let log = &*shared.log;
        let (newest, durable) = (log.newest_tag(), log.durable());
        let home = shared.segments.locate(*root);
        let state = self.update_superblock(log, |state| {
            state.reach(newest, durable);
            state.root = *root;
            state.root_salt = home.map_or(0, |(home, _)| home.header.salt);
            state.written = Some(shared.clock.now());
            state.compacted = shared.compaction.since_created();
        })?;
        *shared.last_checkpoint.lock() = LastCheckpoint::new(&state, *replay_from);
        retire(shared, dead);
        Ok(())
    }

    /// The pages that alone keep a segment from being free, or nearly alone.
    fn pinning(&self, shared: &Shared, replay_from: Lsn) -> Vec<Lsn> {
        let size = shared.segments.segment_size();
        let current = SegmentId::holding(replay_from, size);
        let pages = self.parts.queue_pages.iter().chain(&self.parts.metadata_pages).flatten();
        let pins = |page: &&PageRef| {
            let segment = shared.segments.get(SegmentId::holding(page.lsn, size));
            segment.is_some_and(|segment| {
                segment.id() < current && segment.live.bytes() <= size / NEARLY_EMPTY
            })
        };
        pages.filter(pins).map(|page| page.lsn).collect()
    }

    /// The superblock is locked for the update alone: the log waits for it when a segment is made ready, and a checkpoint
    /// waits for the log.
    fn update_superblock(
        &self,
        log: &Log,
        change: impl FnOnce(&mut Superblock),
    ) -> Result<Superblock, StoreError> {
        let mut superblock = self.superblock.lock();
        let mut state = *superblock.state();
        change(&mut state);
        state.note_opening(log.first_salt());
        superblock
            .update(state)
            .map_err(|error| log.fail(&format!("cannot write the superblock: {error}")))?;
        Ok(state)
    }

    fn write_queue_pages(
        &mut self,
        shared: &Shared,
        moving: &BTreeSet<Lsn>,
    ) -> Result<(), StoreError> {
        let (mut changed, pages) = {
            let mut catalog = shared.catalog.lock();
            (catalog.queues.take_changed(), catalog.queues.pages())
        };
        self.parts.queue_pages.resize(pages.max(self.parts.queue_pages.len()), None);
        for page in 0..pages {
            let queues: Vec<_> = shared.catalog.lock().queues.page(page).cloned().collect();
            let dirty = changed.contains(&page)
                || is_moving(self.parts.queue_pages[page], moving)
                || queues.iter().any(|queue| queue.state.lock().changed);
            if !dirty {
                continue;
            }
            if let Err(error) = self.write_queue_page(shared, page, &queues) {
                // There was no room, say: nothing of what has changed may be forgotten over that. Of this page some queues
                // have been looked at, and do not say any more that they have changed.
                changed.insert(page);
                shared.catalog.lock().queues.put_back_changed(changed);
                return Err(error);
            }
            changed.remove(&page);
        }
        Ok(())
    }

    fn write_queue_page(
        &mut self,
        shared: &Shared,
        page: usize,
        queues: &[Arc<QueueCore>],
    ) -> Result<(), StoreError> {
        let mut content = QueuePage::default();
        for queue in queues {
            content.queues.push(queue_state(shared, queue)?);
        }
        let mut payload = Vec::new();
        content.encode(&mut payload);
        let written = (!content.queues.is_empty())
            .then(|| append_page(&shared.log, RecordKind::QueuePage, &payload))
            .transpose()?;
        replace(shared, &mut self.parts.queue_pages[page], written);
        Ok(())
    }

    fn write_metadata_pages(
        &mut self,
        shared: &Shared,
        moving: &BTreeSet<Lsn>,
    ) -> Result<(), StoreError> {
        let pages = self.parts.metadata_pages.iter();
        let moving = (0..).zip(pages).filter(|(_, page)| is_moving(**page, moving));
        let moving: BTreeSet<usize> = moving.map(|(number, _)| number).collect();
        let take = |catalog: &mut Catalog| -> Vec<(usize, MetadataPage)> {
            let mut changed = catalog.entries.take_changed();
            changed.extend(&moving);
            let content = |page| MetadataPage {
                entries: catalog
                    .entries
                    .page(page)
                    .map(|(key, value)| (key.to_vec(), value.to_vec()))
                    .collect(),
            };
            changed.into_iter().map(|page| (page, content(page))).collect()
        };
        let changed = take(&mut shared.catalog.lock());
        for (page, content) in changed {
            let pages = self.parts.metadata_pages.len().max(page + 1);
            self.parts.metadata_pages.resize(pages, None);
            let mut payload = Vec::new();
            content.encode(&mut payload);
            let written = (!content.entries.is_empty())
                .then(|| append_page(&shared.log, RecordKind::MetadataPage, &payload))
                .transpose()?;
            replace(shared, &mut self.parts.metadata_pages[page], written);
        }
        Ok(())
    }
}

fn is_moving(page: Option<PageRef>, moving: &BTreeSet<Lsn>) -> bool {
    page.is_some_and(|page| moving.contains(&page.lsn))
}

/// Writes what has changed of a queue's chunks, and gives its state.
fn queue_state(shared: &Shared, queue: &QueueCore) -> Result<QueueState, StoreError> {
    settle(shared, queue)?;
    let save = |base, places, entries: Vec<(u16, ChunkEntry)>| {
        shared.save_chunk(queue.id(), base, places, &entries)
    };
    let mut released = Released::default();
    let mut state = queue.state.lock();
    state.changed = false;
    state.index.tidy(&mut released);
    // Before any chunk is looked at: what comes later than this is replayed, unless a chunk has it.
    let next = state.index.next();
    let chunks = if state.index.is_shallow() {
        state.index.snapshot(&mut released, save)?
    } else {
        for number in state.index.changed_directories() {
            let chunks = state.index.snapshot_directory(number, &mut released, save)?;
            let page = if chunks.is_empty() {
                None
            } else {
                let directory = Directory { queue: queue.id(), number, chunks };
                let mut payload = Vec::new();
                directory.encode(&mut payload);
                Some(append_page(&shared.log, RecordKind::Directory, &payload)?)
            };
            state.index.directory_saved(number, page, &mut released);
            drop(state); // Nobody has to wait for a whole deep queue.
            state = queue.state.lock();
        }
        Vec::new()
    };
    let directories = state.index.directories();
    drop(state);
    shared.give_back(&released);
    Ok(QueueState {
        id: queue.id(),
        attributes: queue.attributes().to_vec(),
        next,
        chunks,
        directories,
    })
}

/// Finds out what has gone of chunks that are not in memory, so that the shares of segments are exact.
pub(super) fn settle(shared: &Shared, queue: &QueueCore) -> Result<(), StoreError> {
    let unsettled = queue.state.lock().index.unsettled();
    for missing in unsettled {
        let record = shared.read_chunk(missing.page)?;
        let mut released = Released::default();
        let mut state = queue.state.lock();
        match record {
            Ok(record) => {
                if let Some((places, entries)) = state.index.settle(missing, &record, &mut released)
                {
                    let page = shared.save_chunk(queue.id(), missing.base, places, &entries)?;
                    state.index.saved(missing.base, page, &mut released);
                }
            }
            Err(error) => shared.set_chunk_aside(queue, &mut state, missing, &error),
        }
        // The last checkpoint needs what is let go of here.
        state.changed |= queue.is_durable() && !released.shares.is_empty();
        drop(state);
        shared.give_back(&released);
    }
    Ok(())
}

/// The segments behind which the log has gone and of which nothing is live, and all the others up to `replay_from`.
///
/// This has to come before any part of the checkpoint is written: what is dead now is dead in every part, and in
/// whatever is replayed on top.
fn sort_segments(segments: &SegmentSet, replay_from: Lsn) -> (Vec<SegmentId>, Vec<SegmentTag>) {
    let size = segments.segment_size();
    let (mut dead, mut needed) = (Vec::new(), Vec::new());
    for segment in segments.all() {
        let end = segment.id().plus(u64::from(segment.header.slots)).start(size);
        if end <= replay_from && segment.live.references() == 0 {
            dead.push(segment.id());
        } else if segment.id().start(size) < replay_from {
            needed.push(segment.tag());
        }
    }
    (dead, needed)
}

/// Hands the files of dead segments to the pool. What fails here costs disk space and nothing else.
fn retire(shared: &Shared, dead: &[SegmentId]) {
    for id in dead {
        let Some(segment) = shared.segments.remove(*id) else { continue };
        let Some(file) = segment.file().cloned() else { continue };
        let path = segment.path.clone();
        if let Err(error) = shared.pool.recycle(FreeFile { path, file }) {
            tracing::warn!(file = %segment.path.display(), "cannot remove a dead segment: {error}");
        }
    }
}

/// Appends a record of the checkpoint; it is live until it is replaced.
fn append_page(log: &Log, kind: RecordKind, payload: &[u8]) -> Result<PageRef, StoreError> {
    let placed = log.append(kind, payload.len(), 1, |buffer| buffer.extend_from_slice(payload))?;
    Ok(PageRef { lsn: placed.lsn, length: placed.length })
}

fn replace(shared: &Shared, part: &mut Option<PageRef>, new: Option<PageRef>) {
    if let Some(old) = std::mem::replace(part, new) {
        let segment = SegmentId::holding(old.lsn, shared.segments.segment_size());
        shared.segments.remove_live(segment, 1, u64::from(old.length));
    }
}

#[cfg(test)]
mod tests;
