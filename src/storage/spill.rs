//! Leaving to the log what memory has no room for: the places of queues' indexes, with whatever of their messages is in
//! memory only.
//!
//! A queue that grows leaves its newest full chunk to the log as soon as the budget is used up: the front of a queue is
//! needed first. Queues that nobody uses are gone through by the store's upkeep. When the process has too little memory, messages
//! leave it before they are fetched ([`Store::evict_messages`](super::Store::evict_messages)).

use super::draft::Draft;
use super::error::StoreError;
use super::index::{Entry, NotResident, Released};
use super::log::Placed;
use super::message::Message;
use super::queue::{QueueCore, QueueState};
use super::reader;
use super::record::{self, ChunkEntry, ChunkRecord, MessageRecord, PageRef, RecordKind, Reference};
use super::store::Shared;
use super::units::{Lsn, QueueId, Sequence};

/// The size of the record that a message gets when it leaves memory for the log, in bytes.
fn written_size(core: &QueueCore, sequence: Sequence, message: &Message) -> usize {
    let reference = [Reference { queue: core.id(), sequence }];
    record::message_size(Draft::from(message), &reference)
}

impl Shared {
    /// Adds a message to a queue's index, and leaves a chunk of it to the log where that is due.
    pub(super) fn push(
        &self,
        core: &QueueCore,
        state: &mut QueueState,
        entry: Entry,
        message: Option<Message>,
    ) -> Result<(), StoreError> {
        let pushed = state.index.push(entry, message);
        state.used = true;
        self.places.take(i64::from(pushed.places));
        if pushed.full
            && self.places.is_short()
            && let Some(base) = state.index.spill_candidate()
        {
            self.spill(core, state, base)?;
        }
        Ok(())
    }

    /// Leaves a chunk to the log; on a full disk only while there is room for it beside the reserve, like anything that is
    /// new: memory is over its budget then, until there is room again.
    pub(super) fn spill(
        &self,
        core: &QueueCore,
        state: &mut QueueState,
        base: Sequence,
    ) -> Result<(), StoreError> {
        let mut released = Released::default();
        let in_memory = state.index.in_memory(base);
        let messages: usize =
            in_memory.iter().map(|(at, message)| written_size(core, *at, message)).sum();
        if self.log.admit(messages).is_err() {
            return Ok(());
        }
        for (sequence, message) in in_memory {
            self.write_out(core, state, sequence, &message)?;
        }
        if let Some((places, entries)) = state.index.to_save(base) {
            let page = self.save_chunk(core.id(), base, places, &entries)?;
            state.index.saved(base, page, &mut released);
            state.changed |= core.is_durable();
        }
        state.index.spill(base, &mut released);
        self.give_back(&released);
        Ok(())
    }

    /// Writes a message to the log that is in memory only.
    fn write_out(
        &self,
        core: &QueueCore,
        state: &mut QueueState,
        sequence: Sequence,
        message: &Message,
    ) -> Result<(), StoreError> {
        let reference = [Reference { queue: core.id(), sequence }];
        let size = record::message_size(Draft::from(message), &reference);
        let Placed { lsn, length, .. } =
            self.log.append(RecordKind::Transient, size, 1, |buffer| {
                MessageRecord::encode(buffer, Draft::from(message), &reference);
            })?;
        state.index.written(sequence, ChunkEntry { lsn, length, sharers: 1 });
        Ok(())
    }

    /// Takes messages out of memory, in all queues: those that are in memory only are written to the log first. Those stay
    /// while there is no room on the disk, or too much waits for it.
    pub(super) fn evict(&self) -> Result<(), StoreError> {
        if self.cache.taken() == 0 {
            return Ok(());
        }
        let queues = self.catalog.lock().all_queues();
        for queue in &queues {
            let mut state = queue.state.lock();
            if state.deleted {
                continue;
            }
            for base in state.index.resident_chunks() {
                for (sequence, message) in state.index.in_memory(base) {
                    let size = written_size(queue, sequence, &message);
                    if self.log.congested().is_some() || self.log.admit(size).is_err() {
                        break;
                    }
                    self.write_out(queue, &mut state, sequence, &message)?;
                }
            }
            self.cache.give_back(state.index.evict());
        }
        Ok(())
    }

    /// Writes the record of a chunk. It is live until it is replaced.
    pub(super) fn save_chunk(
        &self,
        queue: QueueId,
        base: Sequence,
        places: u32,
        entries: &[(u16, ChunkEntry)],
    ) -> Result<PageRef, StoreError> {
        let mut payload = Vec::with_capacity(32 + 8 * entries.len());
        ChunkRecord::encode(&mut payload, queue, base, places, entries.iter().copied());
        let placed = self.log.append(RecordKind::Chunk, payload.len(), 1, |buffer| {
            buffer.extend_from_slice(&payload);
        })?;
        Ok(PageRef { lsn: placed.lsn, length: placed.length })
    }

    /// Reads the record of a chunk, when it has been written. The outer error: it never will be.
    pub(super) fn read_chunk(
        &self,
        page: PageRef,
    ) -> Result<Result<ChunkRecord, StoreError>, StoreError> {
        self.log.wait_to_read(page.lsn.plus(u64::from(page.length)))?;
        Ok(reader::read_chunk(&self.segments, page))
    }

    /// Goes through all queues for places that can leave memory, the unused ones first, while there are too many.
    pub(super) fn relieve(&self) -> Result<(), StoreError> {
        if !self.places.is_far_short() {
            return Ok(());
        }
        let queues = self.catalog.lock().all_queues();
        for unused in [true, false] {
            for queue in &queues {
                if !self.places.is_short() {
                    return Ok(());
                }
                let mut state = queue.state.lock();
                let used = std::mem::replace(&mut state.used, false);
                if state.deleted || (unused && used) {
                    continue;
                }
                for base in state.index.spill_candidates(unused) {
                    self.spill(queue, &mut state, base)?;
                }
            }
        }
        Ok(())
    }

    /// Sets a message aside that cannot be read, unless it was acknowledged or moved meanwhile, and what is gone from the
    /// disk is not needed any more: that is no damage.
    pub(super) fn set_aside(
        &self,
        core: &QueueCore,
        state: &mut QueueState,
        sequence: Sequence,
        lsn: Lsn,
        error: &StoreError,
    ) {
        if state.index.set_aside(sequence, lsn) {
            self.count_set_aside(1);
            tracing::error!(
                queue = core.id().get(),
                place = sequence.get(),
                "a message is damaged and was set aside: {error}"
            );
        }
    }

    /// Sets all messages of a chunk aside, the record of whose places cannot be read.
    pub(super) fn set_chunk_aside(
        &self,
        core: &QueueCore,
        state: &mut QueueState,
        missing: NotResident,
        error: &StoreError,
    ) {
        let messages = state.index.set_chunk_aside(missing);
        if messages > 0 {
            self.count_set_aside(messages.into());
            tracing::error!(
                queue = core.id().get(),
                place = missing.base.get(),
                messages,
                "a list of messages is damaged, and these were set aside: {error}"
            );
        }
    }
}
