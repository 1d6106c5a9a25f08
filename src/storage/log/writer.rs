//! The one writer of the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::group::Group;
use super::{KEPT_FOR_OPENS, Log, RESERVE};
use crate::storage::disk::{DiskFile, PageBuffer, write_all_at};
use crate::storage::error::StoreError;
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::segment::Prepared;
use crate::storage::sync::{Ordering, Slip, breaks};
use crate::storage::units::{Lsn, SegmentId, SegmentTag};

/// The file that groups are written to, for as long as they go to the same segment.
#[derive(Debug)]
pub(super) struct Target {
    segment: SegmentId,
    file: Arc<dyn DiskFile>,
}

/// What the writer takes at a time.
struct Batch {
    number: u64,
    groups: Vec<Group>,
}

impl Log {
    /// Writes groups until [`stop`](Log::stop), then what is left; the body of a thread.
    pub(crate) fn run(&self) -> Result<(), StoreError> {
        self.writer.get_or_init(|| thread::current().id());
        let mut target = self.writing.lock();
        while let Some(batch) = self.wait_for_groups()? {
            self.wait_for_the_reserve(&batch);
            self.write_batch(batch, &mut target)?;
        }
        Ok(())
    }

    /// Waits until enough of the segments to come are ready, or the disk is known to be full: so that the log does not run
    /// into its last segments before anybody knows that there will be no more, and what is new can be refused. In the segment that it
    /// is in those for opens are enough, so that the first message after a start does not wait for the whole reserve.
    fn wait_for_the_reserve(&self, batch: &Batch) {
        let newest = self.newest_segment();
        let goes_on = batch.groups.iter().any(|group| Some(group.segment.id()) != newest);
        let enough = if goes_on { RESERVE } else { KEPT_FOR_OPENS };
        let assured = enough.min(self.config.segments_ahead.saturating_sub(1));
        let to_come = {
            let core = self.core.lock();
            let to_come = core.planned.iter().take(assured);
            if to_come.clone().all(|segment| segment.file().is_some()) {
                return;
            }
            to_come.cloned().collect::<Vec<_>>()
        };
        self.pool.wait_for_answer(&to_come);
    }

    /// Without a thread that does so: writes what there is until `lsn` is durable.
    pub(super) fn write_until(&self, lsn: Lsn) -> Result<(), StoreError> {
        let mut target = self.writing.lock();
        while self.durable() < lsn {
            self.check()?;
            let batch = self.take_groups(&mut self.core.lock());
            assert!(!batch.groups.is_empty(), "waiting for {lsn}, which nobody has appended yet");
            self.write_batch(batch, &mut target)?;
        }
        Ok(())
    }

    /// Sleeps until there is something to write; `None`: nothing will ever be again.
    fn wait_for_groups(&self) -> Result<Option<Batch>, StoreError> {
        let mut core = self.core.lock();
        loop {
            self.check()?;
            if core.writer_has_work(&self.config) {
                return Ok(Some(self.take_groups(&mut core)));
            }
            if core.stopping {
                return Ok(None);
            }
            core.writer_waits = !breaks(Slip::SleepUnannounced);
            let deadline = core.open_since.checked_add(self.config.lazy_sync);
            match deadline.filter(|_| !core.open.is_empty()) {
                None => self.work.wait(&mut core),
                Some(deadline) if deadline > Instant::now() => {
                    self.work.wait_until(&mut core, deadline);
                }
                Some(_) => {}
            }
            core.writer_waits = false;
        }
    }

    /// Takes everything that has been appended, and opens the next group behind it.
    fn take_groups(&self, core: &mut super::Core) -> Batch {
        let mut groups: Vec<Group> = core.sealed.drain(..).collect();
        if !core.open.is_empty() {
            let end = core.open.end_of_log();
            let buffer = std::mem::take(&mut core.spare_buffer);
            let (segment, salt) = (core.open.segment.clone(), core.open.salt_at_end());
            let next = Group::new(segment, end, end, salt, buffer);
            groups.push(std::mem::replace(&mut core.open, next));
        }
        if let Some(last) = groups.last() {
            core.batches += 1;
            core.taken = last.end_of_log();
        }
        core.in_flight = groups.iter().map(|group| group.buffer.len() as u64).sum();
        Batch { number: core.batches, groups }
    }

    /// Writes groups in order, each with a sync of its own, and says so. The first error is the end of the log.
    fn write_batch(&self, batch: Batch, target: &mut Option<Target>) -> Result<(), StoreError> {
        let mut groups = batch.groups.into_iter();
        while let Some(group) = groups.next() {
            let ready = self.has_file(&group);
            if let Ok(false) = ready {
                self.put_back(std::iter::once(group).chain(groups));
                return Err(StoreError::Full);
            }
            if let Err(reason) = ready.and_then(|_| self.write_group(group, batch.number, target)) {
                if is_active(Mutant::GoOnAfterFailure) {
                    return Err(StoreError::Failed(reason));
                }
                return Err(self.fail(&reason));
            }
        }
        Ok(())
    }

    /// Sees to the file that a group goes to; false: there is no room for it. With a thread that does so, it is waited for
    /// instead.
    fn has_file(&self, group: &Group) -> Result<bool, Arc<str>> {
        if self.is_written_by_callers() {
            while group.segment.file().is_none() {
                match self.pool.prepare_next()? {
                    Prepared::NoRoom => return Ok(false),
                    Prepared::One | Prepared::Nothing => {}
                    // All segments before this one are durable, so only a defect leaves no room for it.
                    Prepared::Crowded => {
                        return Err("the superblock has no room for the next segment".into());
                    }
                }
            }
        }
        Ok(true)
    }

    /// Takes back groups that there was no room for, to be written later.
    fn put_back(&self, groups: impl Iterator<Item = Group>) {
        let mut core = self.core.lock();
        let mut sealed: VecDeque<Group> = groups.collect();
        core.taken = sealed.front().map_or(core.taken, |group| group.previous);
        sealed.append(&mut core.sealed);
        core.sealed = sealed;
        core.in_flight = 0;
    }

    fn write_group(
        &self,
        mut group: Group,
        batch: u64,
        target: &mut Option<Target>,
    ) -> Result<(), Arc<str>> {
        let segment = group.segment.clone();
        target.take_if(|target| target.segment != segment.id());
        let file = match target {
            Some(target) => &target.file,
            None => {
                let file = self.pool.wait_ready(&segment)?;
                let file = file.for_pages().unwrap_or(file);
                &target.insert(Target { segment: segment.id(), file }).file
            }
        };
        let is_large = segment.header.slots > 1;
        let is_provisional = is_large || self.opening.load(Ordering::SeqCst);
        group.seal(self.durable(), is_provisional, self.first_salt);
        let start = segment.id().start(self.segments.segment_size());
        write_all_at(&**file, group.buffer.as_slice(), group.lsn.since(start))
            .map_err(|error| format!("cannot write {}: {error}", segment.path.display()))?;
        let end = group.end_of_log();
        if breaks(Slip::DurableBeforeSync) || is_active(Mutant::ConfirmBeforeSync) {
            self.durable.store(end.0, Ordering::Release);
            self.settle(Ok(end));
        }
        let mut synced = file.sync_data();
        if synced.is_err() && is_active(Mutant::RetrySync) {
            synced = file.sync_data();
        }
        synced.map_err(|error| format!("cannot sync {}: {error}", segment.path.display()))?;
        let is_unnoted = is_large && !self.opening.load(Ordering::SeqCst);
        if is_unnoted && !is_active(Mutant::ConfirmUnnoted) {
            // It is provisional, so nobody may be told before the superblock says that it is durable.
            self.pool.note_reached(segment.tag(), end)?;
        }
        self.groups.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(group.buffer.len() as u64, Ordering::Relaxed);
        // Before anybody is told, so that who waited for room finds it.
        self.written(group.buffer);
        self.durable.store(end.0, Ordering::Release);
        self.waiters.settle(Ok(end));
        self.bell(batch).ring();
        let new = self.newest.swap(segment.id().0, Ordering::AcqRel) != segment.id().0;
        // While the store is being opened, what is noted in the superblock would count.
        if new && !self.opening.load(Ordering::SeqCst) {
            self.pool.reached(segment.tag(), end);
        }
        let asked = self.tell.load(Ordering::SeqCst) && self.tell.swap(false, Ordering::SeqCst);
        if (new || asked)
            && let Some(callback) = self.new_segment.get()
        {
            callback.0();
        }
        Ok(())
    }

    /// A group is on disk: it counts as unsynced no more, and its buffer can be used again.
    fn written(&self, buffer: PageBuffer) {
        let mut core = self.core.lock();
        core.in_flight = core.in_flight.saturating_sub(buffer.len() as u64);
        // One that grew to more than groups usually have is not kept for the next group.
        if buffer.capacity() as u64 <= 2 * self.config.unsynced_limit {
            core.spare_buffer = buffer;
        }
    }

    /// Gives up the memory that the next groups would be put into.
    pub(crate) fn release_spare_memory(&self) {
        let mut core = self.core.lock();
        let spare = std::mem::take(&mut core.spare_buffer);
        let open = core.open.is_empty().then(|| core.open.release());
        drop(core);
        drop((spare, open));
    }

    /// The newest segment with something durable in it, since this log was opened, with its salt.
    pub(crate) fn newest_tag(&self) -> Option<SegmentTag> {
        self.segments.get(self.newest_segment()?).map(|newest| newest.tag())
    }

    /// The newest segment with something durable in it, since this log was opened.
    pub(crate) fn newest_segment(&self) -> Option<SegmentId> {
        Some(SegmentId(self.newest.load(Ordering::Acquire))).filter(|id| id.0 != 0)
    }
}
