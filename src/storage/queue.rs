//! Queues, as a program that embeds the engine holds them.

use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::error::StoreError;
use super::index::{Missing, MissingMessage, NotResident, QueueIndex, Released};
use super::message::Message;
use super::mutant::{Mutant, is_active};
use super::reader;
use super::record::{AcknowledgeRecord, DeliveredRecord, RecordKind};
use super::store::Shared;
use super::units::{Lsn, QueueId, Sequence, SequenceRange};

/// The largest number of hand-outs that is counted: [`Queue::mark_delivered`] takes a larger one as this.
pub const MOST_DELIVERIES: u32 = u16::MAX as u32;

/// How many messages one read-ahead takes at most.
const LOAD_MESSAGES: usize = 1024;

/// How many bytes of records one read-ahead takes at most, unless one record alone is larger.
const LOAD_BYTES: u64 = 2 << 20;

/// A queue of the store. Cheap to clone; two handles are equal when they mean the same queue.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(super) shared: Arc<Shared>,
    pub(super) core: Arc<QueueCore>,
}

/// The queue itself.
#[derive(Debug)]
pub(crate) struct QueueCore {
    id: QueueId,
    attributes: Bytes,
    durable: bool,
    /// The store of a volatile queue, which nothing but its handles holds: they let go of what it took there.
    volatile_in: Option<Weak<Shared>>,
    pub(super) state: Mutex<QueueState>,
}

#[derive(Debug)]
pub(super) struct QueueState {
    pub(super) index: QueueIndex,
    pub(super) deleted: bool,
    /// Something has changed since the last checkpoint.
    pub(super) changed: bool,
    /// Somebody has used it since places last had to leave memory.
    pub(super) used: bool,
    /// What is being read ahead.
    reading: Vec<SequenceRange>,
}

impl QueueCore {
    pub(super) fn new(id: QueueId, attributes: Bytes, index: QueueIndex) -> QueueCore {
        let state = Mutex::new(QueueState {
            index,
            deleted: false,
            changed: false,
            used: false,
            reading: Vec::new(),
        });
        QueueCore { id, attributes, durable: true, volatile_in: None, state }
    }

    pub(super) fn volatile(id: QueueId, index: QueueIndex, store: &Arc<Shared>) -> QueueCore {
        let mut core = QueueCore::new(id, Bytes::new(), index);
        core.durable = false;
        core.volatile_in = Some(Arc::downgrade(store));
        core
    }

    pub(crate) fn id(&self) -> QueueId {
        self.id
    }

    pub(crate) fn attributes(&self) -> &Bytes {
        &self.attributes
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }
}

impl QueueState {
    /// As much of these ranges as messages have taken. What is written has to mean the same whenever it is replayed: so it never
    /// speaks of places to come.
    pub(super) fn taken(&self, ranges: &[SequenceRange]) -> SmallVec<[SequenceRange; 8]> {
        let Some(newest) = self.index.next().previous() else { return SmallVec::new() };
        let newest = if is_active(Mutant::AcknowledgeFuture) { Sequence(u64::MAX) } else { newest };
        ranges
            .iter()
            .filter_map(|range| SequenceRange::new(range.first, range.last.min(newest)))
            .collect()
    }

    /// The first place from `from` on that is not being read ahead.
    fn behind_reads(&self, from: Sequence) -> Sequence {
        let mut place = from;
        while let Some(range) =
            self.reading.iter().find(|range| range.first <= place && place <= range.last)
        {
            place = range.last.next();
        }
        place
    }
}

impl Drop for QueueCore {
    fn drop(&mut self) {
        if let Some(shared) = self.volatile_in.take().and_then(|store| store.upgrade()) {
            let mut released = Released::default();
            self.state.get_mut().index.clear(&mut released);
            shared.give_back(&released);
        }
    }
}

/// A message that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its place in the queue.
    pub sequence: Sequence,
    /// The message.
    pub message: Message,
    /// The number of times that it had been handed out before, as far as [`Queue::mark_delivered`] was told, up to [`MOST_DELIVERIES`];
    /// 0: never.
    pub deliveries: u32,
}

/// The end of a [fetch](Queue::fetch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// All live messages were added, up to the limit; none, if there are none.
    Complete,
    /// At least one message was added, and fewer than the limit: the one behind the last of them is not in memory.
    Partial,
    /// No message was added, because the first one is not in memory: call [`Queue::load`] with the same place where
    /// blocking is allowed, then fetch from there again.
    NeedsLoad,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// How many messages went.
    pub messages: u64,
    /// When this is durable the messages will not come back; `None`: they could not have anyway. Nobody needs to wait
    /// for it: it becomes durable within [`Options::lazy_sync`](super::Options::lazy_sync) and a sync.
    pub durable_at: Option<Lsn>,
}

impl Queue {
    /// The queue's number.
    pub fn id(&self) -> QueueId {
        self.core.id
    }

    /// What the creator of the queue gave; empty for a volatile queue.
    pub fn attributes(&self) -> &Bytes {
        &self.core.attributes
    }

    /// Whether the queue survives a restart.
    pub fn is_durable(&self) -> bool {
        self.core.durable
    }

    /// Live messages: all that were appended and not yet acknowledged, handed out or not.
    pub fn len(&self) -> u64 {
        self.core.state.lock().index.live()
    }

    /// Whether there is no live message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the live messages take in the log (where queues share a message, the queue's share of it) or in memory, in
    /// bytes.
    pub fn bytes(&self) -> u64 {
        self.core.state.lock().index.bytes()
    }

    /// One past the place of the newest message.
    pub fn next_sequence(&self) -> Sequence {
        self.core.state.lock().index.next()
    }

    /// Adds the live messages from `from` on to `out`, in order, `limit` of them at most, without touching the disk.
    ///
    /// A reader follows three rules:
    ///
    /// 1. [`Fetch::NeedsLoad`], and only then nothing was added although there is something: [`load`](Self::load) from the same
    ///    place, and fetch again.
    /// 2. Messages were added: go on behind the last one, at its `sequence.next()`.
    /// 3. Neither: there is no live message from `from` on.
    ///
    /// Durable messages leave the cache: to have one a second time it has to be [loaded](Self::load). So fetching from the
    /// same place again, after messages were added, reads them from the disk once more.
    pub fn fetch(&self, from: Sequence, limit: usize, out: &mut Vec<Fetched>) -> Fetch {
        let mut uncached = 0;
        let before = out.len();
        let complete = self.core.state.lock().index.fetch(from, limit, |found| {
            uncached += found.uncached;
            out.push(Fetched {
                sequence: found.sequence,
                message: found.message,
                deliveries: u32::from(found.deliveries),
            });
        });
        self.shared.cache.give_back(uncached);
        match complete {
            true => Fetch::Complete,
            false if out.len() > before => Fetch::Partial,
            false => Fetch::NeedsLoad,
        }
    }

    /// Gives messages back that were [fetched](Self::fetch), and will be again: as far as there is room for them, they need not be
    /// [loaded](Self::load) then.
    pub fn keep(&self, messages: impl IntoIterator<Item = (Sequence, Message)>) {
        let mut state = self.core.state.lock();
        for (sequence, message) in messages {
            let room = |bytes| self.shared.cache.try_take_back(bytes);
            state.index.keep(sequence, message, room);
        }
    }

    /// Whether the next `count` live messages from `from` on can be [fetched](Self::fetch) without reading, or all that there
    /// are. Does not touch the disk.
    pub fn is_loaded(&self, from: Sequence, count: usize) -> bool {
        self.core.state.lock().index.is_loaded(from, count)
    }

    /// Reads messages from `from` on into the cache: the next ones that are missing there, a read-ahead of them at a
    /// time. Blocks on the disk, and where the next message is not written yet, until it is.
    ///
    /// A message that cannot be read back, or does not pass its check, is set aside: it is logged and counted
    /// ([`Store::set_aside`](super::Store::set_aside)), keeps its place in the log, and is passed over by
    /// [`fetch`](Self::fetch).
    pub fn load(&self, from: Sequence) -> Result<(), StoreError> {
        self.load_some(from, LOAD_MESSAGES)
    }

    /// The same for somebody who knows how many he needs: reads `most` messages at most.
    pub fn load_some(&self, from: Sequence, most: usize) -> Result<(), StoreError> {
        let most = most.clamp(1, LOAD_MESSAGES);
        loop {
            let missing = self.core.state.lock().index.missing(from, most, LOAD_BYTES);
            match missing {
                Missing::Nothing => return Ok(()),
                Missing::Chunk(missing) => self.load_chunk(missing)?,
                Missing::Messages(messages) => return self.load_messages(messages),
            }
        }
    }

    /// The same for somebody who keeps several reads under way, each in a thread of its own: reads the next messages that are
    /// missing and that no other call of this is reading, `most` of them at most. False: there are none.
    pub fn load_ahead(&self, from: Sequence, most: usize) -> Result<bool, StoreError> {
        let most = most.clamp(1, LOAD_MESSAGES);
        loop {
            let missing = {
                let mut state = self.core.state.lock();
                let from = state.behind_reads(from);
                let missing = state.index.missing(from, most, LOAD_BYTES);
                state.reading.extend(missing.range());
                missing
            };
            let range = missing.range();
            match missing {
                Missing::Nothing => return Ok(false),
                Missing::Chunk(missing) => self.load_chunk(missing)?,
                Missing::Messages(messages) => {
                    let read = self.load_messages(messages);
                    self.core.state.lock().reading.retain(|other| Some(*other) != range);
                    return read.map(|()| true);
                }
            }
        }
    }

    /// Gives a chunk its places. Where these cannot be read, its messages are set aside; unless all of them were
    /// acknowledged meanwhile, and the record was let go of: that is no damage.
    fn load_chunk(&self, missing: NotResident) -> Result<(), StoreError> {
        let record = self.shared.read_chunk(missing.page)?;
        let mut released = Released::default();
        let mut state = self.core.state.lock();
        state.used = true;
        match record {
            Ok(record) => {
                state.index.install_chunk(missing, &record, &mut released);
                state.changed |= !released.shares.is_empty();
                if self.shared.places.is_short()
                    && let Some(passed) = state.index.passed(missing.base)
                {
                    state.index.spill(passed, &mut released);
                }
                self.shared.give_back(&released);
            }
            Err(error) => self.shared.set_chunk_aside(&self.core, &mut state, missing, &error),
        }
        Ok(())
    }

    fn load_messages(&self, mut messages: Vec<MissingMessage>) -> Result<(), StoreError> {
        let known = self.shared.shared_reads.take_from(&mut messages);
        if !known.is_empty() {
            let mut state = self.core.state.lock();
            state.used = true;
            let installed = state.index.install_messages(known);
            self.shared.cache.take(installed);
        }
        let newest = messages.iter().map(MissingMessage::end).max();
        self.shared.log.wait_to_read(newest.unwrap_or_default())?;
        let mut buffer = self.shared.read_buffers.take();
        reader::read_messages(&self.shared.segments, &mut buffer, &messages, |run| {
            let mut state = self.core.state.lock();
            state.used = true;
            let mut damaged = Vec::new();
            let whole = run.drain(..).filter_map(|read| {
                let MissingMessage { sequence, lsn, .. } = read.wanted;
                match read.outcome {
                    Ok(message) => {
                        self.shared.shared_reads.keep(&read.wanted, &message);
                        Some((sequence, lsn, message))
                    }
                    Err(error) => {
                        damaged.push((sequence, lsn, error));
                        None
                    }
                }
            });
            let installed = state.index.install_messages(whole);
            self.shared.cache.take(installed);
            for (sequence, lsn, error) in damaged {
                self.shared.set_aside(&self.core, &mut state, sequence, lsn, &error);
            }
        });
        self.shared.read_buffers.give_back(buffer);
        Ok(())
    }

    /// Notes that messages were handed out, with how often each of them has been by now; in ascending order of place.
    /// A number above [`MOST_DELIVERIES`] (65,535) counts as that one. Places that no message has taken are passed over.
    ///
    /// Nobody waits for it: it becomes durable with the next group, or within
    /// [`Options::lazy_sync`](super::Options::lazy_sync).
    ///
    /// Returns `false` if it was noted in memory only, because the disk is [full](super::Store::is_full) and hand-outs have used
    /// up their part of the reserve. It becomes durable with a checkpoint then, which is written soon.
    pub fn mark_delivered(&self, delivered: &[(Sequence, u32)]) -> Result<bool, StoreError> {
        if delivered.is_empty() {
            return Ok(true);
        }
        let mut state = self.core.state.lock();
        // The log never speaks of places to come: a replay would count hand-outs of other messages.
        let taken = delivered.partition_point(|(sequence, _)| *sequence < state.index.next());
        let delivered = &delivered[..taken];
        if delivered.is_empty() {
            return Ok(true);
        }
        state.index.set_all_deliveries(delivered);
        if self.core.durable && !state.deleted {
            state.changed = true;
            let mut payload = Vec::with_capacity(64);
            DeliveredRecord::encode(&mut payload, self.core.id, delivered);
            if !self.shared.log.admits_hand_out(payload.len()) {
                self.shared.log.check()?;
                self.shared.unrecorded.store(true, Ordering::Release);
                return Ok(false);
            }
            self.shared.log.append(RecordKind::Delivered, payload.len(), 0, |buffer| {
                buffer.extend_from_slice(&payload);
            })?;
        }
        Ok(true)
    }

    /// Takes messages out of the queue for good. Places that hold nothing (any more) are passed over.
    ///
    /// Does not touch the disk; only where that is [full](super::Store::is_full), and as good as nothing is left of the reserve, a
    /// checkpoint comes first.
    pub fn acknowledge(&self, ranges: &[SequenceRange]) -> Result<Acknowledged, StoreError> {
        if self.core.durable {
            self.shared.keep_room_for_checkpoints(ranges.len())?;
        }
        let mut released = Released::default();
        let mut state = self.core.state.lock();
        let ranges = state.taken(ranges);
        for range in &ranges {
            state.index.acknowledge(*range, &mut released);
        }
        let mut durable_at = None;
        if released.stored > 0 && self.core.durable && !state.deleted {
            state.changed = true;
            let size = AcknowledgeRecord::encoded_size(&ranges);
            let placed = self.shared.log.append(RecordKind::Acknowledge, size, 0, |buffer| {
                AcknowledgeRecord::encode(buffer, self.core.id, &ranges);
            })?;
            durable_at = Some(placed.end);
        }
        drop(state);
        self.shared.give_back(&released);
        Ok(Acknowledged { messages: released.messages, durable_at })
    }
}

impl PartialEq for Queue {
    fn eq(&self, other: &Queue) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl Eq for Queue {}

impl Hash for Queue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.core.id.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Background, Options, Store};

    /// A list of messages, its checksum right, put one of them behind the end of the log; reading it waited for it to be
    /// appended, for ever. Found by fuzzing.
    #[test]
    fn what_is_said_to_lie_behind_the_end_of_the_log_is_not_waited_for() {
        for background in [Background::Threads, Background::Caller] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options { segment_size: 1 << 20, background, ..Options::default() };
            let store = Store::open(dir.path(), options).unwrap();
            let (queue, _) = store.create_queue(b"queue").unwrap();
            let (sequence, lsn) = (Sequence::FIRST, Lsn(1 << 50));
            let missing = MissingMessage { sequence, lsn, length: 100, sharers: 1 };
            queue.load_messages(vec![missing]).unwrap();
        }
    }

    #[test]
    fn what_is_being_read_is_not_read_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_size: 1 << 20, cache: 0, ..Options::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let (queue, _) = store.create_queue(b"queue").unwrap();
        for number in 0..30 {
            let message = Message::new("", format!("{number}"));
            store.append(&message, crate::storage::Persistence::Durable, &[&queue]).unwrap();
        }
        let range = |first, last| SequenceRange { first: Sequence(first), last: Sequence(last) };
        // As two others have it that are reading.
        queue.core.state.lock().reading = vec![range(10, 19), range(0, 9)];
        assert!(queue.load_ahead(Sequence::FIRST, usize::MAX).unwrap());
        assert!(queue.is_loaded(Sequence(20), 10));
        assert!(!queue.is_loaded(Sequence(19), 1));
        assert!(
            !queue.load_ahead(Sequence::FIRST, usize::MAX).unwrap(),
            "there is nothing left for it"
        );
        assert_eq!(queue.core.state.lock().reading.len(), 2);
        queue.core.state.lock().reading.remove(0);
        assert!(queue.load_ahead(Sequence(5), usize::MAX).unwrap());
        assert!(queue.is_loaded(Sequence(10), 20));
        let mut fetched = Vec::new();
        assert_eq!(queue.fetch(Sequence(10), 30, &mut fetched), Fetch::Complete);
        assert_eq!(fetched.len(), 20);
    }

    #[test]
    fn what_is_given_back_can_be_fetched_again_while_it_is_there_and_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_size: 1 << 20, cache: 8 << 10, ..Options::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let (queue, _) = store.create_queue(b"queue").unwrap();
        let append = |number: u64| {
            let message = Message::new("", format!("{number:01000}"));
            store.append(&message, crate::storage::Persistence::Durable, &[&queue]).unwrap();
        };
        let fetch = |from: u64| {
            let mut fetched = Vec::new();
            queue.fetch(Sequence(from), usize::MAX, &mut fetched);
            fetched
        };
        // Seven are within the budget, and two more of those that come back.
        (0..7).for_each(append);
        let first = fetch(0);
        assert_eq!((first.len(), store.cached_bytes(), fetch(0).len()), (7, 0, 0));
        (7..20).for_each(append);
        assert_eq!(store.cached_bytes(), 7 * 1064);
        queue.acknowledge(&[SequenceRange::one(Sequence(1))]).unwrap();
        queue.keep(first.iter().map(|fetched| (fetched.sequence, fetched.message.clone())));
        queue.keep([(Sequence(100), Message::new("", ""))]);
        assert_eq!(store.cached_bytes(), 9 * 1064);
        let again = fetch(0);
        assert_eq!(again[..], [&first[..1], &first[2..3]].concat());
        assert_eq!(store.cached_bytes(), 7 * 1064);
        // Twice is once, and what is acknowledged takes nothing.
        let last = first[6].clone();
        (0..2).for_each(|_| queue.keep([(last.sequence, last.message.clone())]));
        assert_eq!(store.cached_bytes(), 8 * 1064);
        queue.acknowledge(&[SequenceRange { first: Sequence(0), last: Sequence(19) }]).unwrap();
        assert_eq!(store.cached_bytes(), 0);
    }
}
