//! A store in use, with everything that is done to it noted in a [`Ledger`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::ledger::{Content, Known, KnownChange, Ledger, Mismatch, Position, Step};
use crate::storage::{
    Change, Lsn, Message, OpenError, Operation, Options, Persistence, Queue, QueueId, Sequence,
    SequenceRange, Store, StoreError,
};

/// A store and its history.
///
/// The store should do its work in the caller's thread ([`Background::Caller`](crate::storage::Background::Caller)): then
/// whatever is called here has happened when it returns, and nothing else has.
#[derive(Debug)]
pub struct Driver {
    store: Store,
    ledger: Ledger,
    last: Lsn,
    now: Arc<Mutex<Position>>,
}

/// Why a store could not be had again.
#[derive(Debug, thiserror::Error)]
pub enum ReopenError {
    /// It does not open.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// It opens, and something in it cannot be read.
    #[error("{0}")]
    Read(String),
    /// It is not what it may be.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
}

impl Driver {
    /// Opens a store, and compares it with what is known of it.
    pub fn open(dir: &str, options: Options, mut ledger: Ledger) -> Result<Driver, ReopenError> {
        let store = Store::open(dir, options)?;
        let found = Content::of(&store).map_err(ReopenError::Read)?;
        if store.set_aside() > 0 {
            return Err(ReopenError::Read(format!(
                "{} messages were set aside",
                store.set_aside()
            )));
        }
        ledger.restarted(found).map_err(ReopenError::Mismatch)?;
        Ok(Driver::of(store, ledger))
    }

    /// Goes on with a store that was opened and compared already.
    pub fn of(store: Store, ledger: Ledger) -> Driver {
        let now = Arc::new(Mutex::new(ledger.position()));
        Driver { store, ledger, last: Lsn::ZERO, now }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of it.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where the history is, now and later: for a [director](super::SimulatedDisk::direct), who sees what happens in
    /// between.
    pub fn now(&self) -> Arc<Mutex<Position>> {
        self.now.clone()
    }

    /// Lets go of the store as it is.
    pub fn into_ledger(self) -> Ledger {
        // What was confirmed is known, also where the call that was to say so has failed since.
        let position = *self.now.lock();
        self.ledger.at(position)
    }

    /// The queue with this number.
    pub fn queue(&self, id: QueueId) -> Option<Queue> {
        self.store.queues().into_iter().find(|queue| queue.id() == id)
    }

    fn note(&mut self, step: Step, durable_at: Option<Lsn>) {
        self.last = self.last.max(durable_at.unwrap_or_default());
        self.ledger.note(step, durable_at);
        self.keep_up();
    }

    fn keep_up(&self) {
        let (position, mut now) = (self.ledger.position(), self.now.lock());
        // Somebody may have been told of more by a callback.
        *now = Position { durable: now.durable.max(position.durable), ..position };
    }

    /// Creates a queue.
    pub fn create_queue(&mut self, attributes: &[u8]) -> Result<Queue, StoreError> {
        let (queue, end) = self.store.create_queue(attributes)?;
        self.note(Step::CreateQueue(queue.id(), attributes.to_vec()), Some(end));
        Ok(queue)
    }

    /// Changes entries and deletes queues, all at once.
    pub fn apply(&mut self, changes: &[KnownChange]) -> Result<(), StoreError> {
        let given = changes.iter().cloned().map(|change| match change {
            KnownChange::Put(key, value) => Change::put(key, value),
            KnownChange::Remove(key) => Change::remove(key),
            KnownChange::DeleteQueue(id) => Change::DeleteQueue(id),
        });
        let end = self.store.apply(given.collect())?;
        self.note(Step::Apply(changes.to_vec()), Some(end));
        Ok(())
    }

    /// Appends a durable message to queues, each of them named once.
    pub fn publish(&mut self, body: impl Into<Bytes>, queues: &[&Queue]) -> Result<(), StoreError> {
        let body = body.into();
        let places = queues.iter().map(|queue| (queue.id(), queue.next_sequence())).collect();
        let message = Message::new("header", body.clone());
        let appended = self.store.append(&message, Persistence::Durable, queues)?;
        // One that no durable queue got is nothing that a restart could bring back.
        if appended.durable_at.is_some() {
            let known = Known { header: "header".into(), body, deliveries: 0 };
            self.note(Step::Append(places, known), appended.durable_at);
        }
        Ok(())
    }

    /// Appends a message that no restart brings back.
    pub fn publish_transient(
        &mut self,
        body: impl Into<Bytes>,
        queues: &[&Queue],
    ) -> Result<(), StoreError> {
        let message = Message::new("header", body.into());
        self.store.append(&message, Persistence::Transient, queues)?;
        Ok(())
    }

    /// Acknowledges messages.
    pub fn acknowledge(
        &mut self,
        queue: &Queue,
        ranges: &[SequenceRange],
    ) -> Result<(), StoreError> {
        let done = queue.acknowledge(ranges)?;
        if done.durable_at.is_some() {
            self.note(Step::Acknowledge(queue.id(), ranges.to_vec()), done.durable_at);
        }
        Ok(())
    }

    /// Appends and acknowledges messages, all at once; the queues of an append are named once each.
    pub fn apply_together(&mut self, operations: &[Operation<'_>]) -> Result<(), StoreError> {
        // What is acknowledged was there before.
        let (mut steps, mut appends) = (Vec::new(), Vec::new());
        let mut next: BTreeMap<QueueId, Sequence> = BTreeMap::new();
        for operation in operations {
            match operation {
                Operation::Append { message, persistence, queues } => {
                    let place = |queue: &&Queue| {
                        let next = next.entry(queue.id()).or_insert_with(|| queue.next_sequence());
                        (queue.id(), std::mem::replace(next, next.next()))
                    };
                    let places: Vec<_> = queues.iter().map(place).collect();
                    if *persistence == Persistence::Durable {
                        let message = message.to_message();
                        let header = Bytes::copy_from_slice(message.header());
                        let known = Known { header, body: message.body(), deliveries: 0 };
                        appends.push(Step::Append(places, known));
                    }
                }
                Operation::Acknowledge { queue, ranges } => {
                    steps.push(Step::Acknowledge(queue.id(), ranges.to_vec()));
                }
            }
        }
        steps.append(&mut appends);
        let done = self.store.apply_together(operations)?;
        if done.durable_at.is_some() {
            self.note(Step::Together(steps), done.durable_at);
        }
        Ok(())
    }

    /// Notes that messages were handed out, in ascending order of place.
    pub fn deliver(&mut self, queue: &Queue, counts: &[(Sequence, u32)]) -> Result<(), StoreError> {
        if !queue.mark_delivered(counts)? {
            self.ledger.note_unrecorded(queue.id(), counts);
        }
        if !counts.is_empty() {
            self.note(Step::Deliver(queue.id(), counts.to_vec()), None);
        }
        Ok(())
    }

    /// Waits until everything so far is durable.
    pub fn confirm(&mut self) -> Result<(), StoreError> {
        // Who is told by a callback is told first: from then on nothing may be lost.
        let (now, then) = (self.now.clone(), self.ledger.position_at(self.last));
        self.store.on_durable(self.last, move |outcome| {
            if outcome.is_ok() {
                let mut now = now.lock();
                now.durable = now.durable.max(then.durable);
            }
        });
        self.store.wait_durable(self.last)?;
        self.ledger.note_durable(self.last);
        self.keep_up();
        Ok(())
    }

    /// Holds the store to what it says is durable, whoever asked for that.
    pub fn note_what_is_durable(&mut self) {
        self.ledger.note_durable(self.store.durable_lsn());
        *self.now.lock() = self.ledger.position();
    }

    /// Compares the store in use with what is known of it. Transient messages would be differences.
    pub fn check(&self) -> Result<(), ReopenError> {
        let found = Content::of(&self.store).map_err(ReopenError::Read)?;
        let mut ledger = self.ledger.clone();
        ledger.restarted(found).map_err(ReopenError::Mismatch)
    }

    /// Writes a checkpoint, compacts, or whatever else is done to the store that changes nothing of its content.
    pub fn upkeep(
        &mut self,
        what: impl FnOnce(&Store) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        what(&self.store)
    }

    /// Closes the store properly; all of it is durable then.
    pub fn close(mut self) -> Result<Ledger, StoreError> {
        self.store.close()?;
        self.ledger.note_durable(Lsn::MAX);
        Ok(self.ledger)
    }
}
