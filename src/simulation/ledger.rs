//! What a program that uses a store knows of it, and what a restart may therefore bring back.
//!
//! # The oracle
//! Everything that is to survive is a record of one log, and a power cut leaves a beginning of that log. So a store that was
//! opened again has to be, as a whole, what it was after one of the steps in its history:
//!
//! - not before the last step that was known to be durable: nothing confirmed is lost, no acknowledgement comes undone;
//! - not anything between two steps: a message to many queues is in all of them or in none, and of what was applied together
//!   all is there or nothing;
//! - and nothing else: no message is altered, doubled, out of order, or back from the dead.
//!
//! What need not survive (transient messages) is taken out of the comparison. What lives here: the history, and that
//! comparison. It knows the engine's public interface and no more.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::{Fetch, Lsn, Queue, QueueId, Sequence, SequenceRange, Store};

/// A queue's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its header.
    pub header: Bytes,
    /// Its body.
    pub body: Bytes,
    /// How often it was handed out.
    pub deliveries: u32,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownQueue {
    /// What its creator gave.
    pub attributes: Vec<u8>,
    /// Its live messages, by their places.
    pub messages: BTreeMap<Sequence, Known>,
}

/// All that is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The durable queues.
    pub queues: BTreeMap<QueueId, KnownQueue>,
    /// The metadata.
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Something that was done, as one record of the log has it, or several that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A queue was created.
    CreateQueue(QueueId, Vec<u8>),
    /// All of these changes, or none.
    Apply(Vec<KnownChange>),
    /// A message went to queues, and got these places.
    Append(Vec<(QueueId, Sequence)>, Known),
    /// Messages were acknowledged.
    Acknowledge(QueueId, Vec<SequenceRange>),
    /// Messages were handed out, and how often each of them has been by now.
    Deliver(QueueId, Vec<(Sequence, u32)>),
    /// All of these, or none.
    Together(Vec<Step>),
}

/// A part of [`Step::Apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownChange {
    /// An entry was set.
    Put(Vec<u8>, Vec<u8>),
    /// An entry was removed.
    Remove(Vec<u8>),
    /// A queue was deleted.
    DeleteQueue(QueueId),
}

impl Content {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::CreateQueue(id, attributes) => {
                let queue = KnownQueue { attributes: attributes.clone(), ..KnownQueue::default() };
                self.queues.insert(*id, queue);
            }
            Step::Apply(changes) => changes.iter().for_each(|change| self.change(change)),
            Step::Append(places, message) => {
                for (queue, place) in places {
                    if let Some(queue) = self.queues.get_mut(queue) {
                        queue.messages.insert(*place, message.clone());
                    }
                }
            }
            Step::Acknowledge(queue, ranges) => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    let gone = |place: &Sequence| {
                        ranges.iter().any(|range| (range.first..=range.last).contains(place))
                    };
                    queue.messages.retain(|place, _| !gone(place));
                }
            }
            Step::Together(steps) => steps.iter().for_each(|step| self.apply(step)),
            Step::Deliver(queue, counts) => {
                let messages = self.queues.get_mut(queue).map(|queue| &mut queue.messages);
                let Some(messages) = messages else { return };
                for (place, count) in counts {
                    if let Some(message) = messages.get_mut(place) {
                        message.deliveries = *count;
                    }
                }
            }
        }
    }

    fn change(&mut self, change: &KnownChange) {
        match change {
            KnownChange::Put(key, value) => {
                self.entries.insert(key.clone(), value.clone());
            }
            KnownChange::Remove(key) => {
                self.entries.remove(key);
            }
            KnownChange::DeleteQueue(id) => {
                self.queues.remove(id);
            }
        }
    }

    /// How many messages of `all` are missing here, if that is the only difference.
    pub fn missing_of(&self, all: &Content) -> Option<u64> {
        if self.entries != all.entries || !self.queues.keys().eq(all.queues.keys()) {
            return None;
        }
        let mut missing = 0;
        for (queue, whole) in self.queues.values().zip(all.queues.values()) {
            let kept = |(place, message)| whole.messages.get(place) == Some(message);
            if queue.attributes != whole.attributes || !queue.messages.iter().all(kept) {
                return None;
            }
            missing += (whole.messages.len() - queue.messages.len()) as u64;
        }
        Some(missing)
    }

    /// Reads all of a store; an error of the engine's is given as text.
    pub fn of(store: &Store) -> Result<Content, String> {
        let mut content = Content {
            entries: store.entries().into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect(),
            ..Content::default()
        };
        for queue in store.queues() {
            let messages = messages_of(&queue)?;
            if queue.len() != messages.len() as u64 {
                return Err(format!(
                    "queue {} says that it has {} messages, and {} can be had",
                    queue.id(),
                    queue.len(),
                    messages.len()
                ));
            }
            let attributes = queue.attributes().to_vec();
            content.queues.insert(queue.id(), KnownQueue { attributes, messages });
        }
        Ok(content)
    }
}

/// All live messages of a queue.
pub fn messages_of(queue: &Queue) -> Result<BTreeMap<Sequence, Known>, String> {
    let (mut from, mut fetched, mut all) = (Sequence::FIRST, Vec::new(), BTreeMap::new());
    loop {
        match queue.fetch(from, 100, &mut fetched) {
            Fetch::NeedsLoad => {
                queue.load(from).map_err(|error| format!("queue {}: {error}", queue.id()))?;
            }
            Fetch::Complete if fetched.is_empty() => return Ok(all),
            Fetch::Complete | Fetch::Partial => {}
        }
        for found in fetched.drain(..) {
            if found.sequence < from {
                return Err(format!(
                    "queue {}: {} is out of order",
                    queue.id(),
                    found.sequence.get()
                ));
            }
            from = found.sequence.next();
            let message = Known {
                header: Bytes::copy_from_slice(found.message.header()),
                body: found.message.body(),
                deliveries: found.deliveries,
            };
            all.insert(found.sequence, message);
        }
    }
}

/// The history of a store.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What is durable: what was there after some step, all before it being forgotten. Shared with the ledgers of other moments.
    base: Arc<Content>,
    /// The steps since.
    steps: Vec<(Step, Lsn)>,
    /// How many steps are known to be durable.
    durable: usize,
    /// Messages with a hand-out that the log has no record of: a restart may bring back any number of theirs.
    unrecorded: BTreeSet<(QueueId, Sequence)>,
}

/// A store that is none of what it may be.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// What is in it.
    pub found: Content,
    /// What it may be at the least: what was durable.
    pub durable: Content,
    /// What it may be at the most.
    pub latest: Content,
}

impl Ledger {
    /// Nothing is known, because there is nothing yet.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Notes a step, and where the log ends that has it; `None`: behind the step before it, somewhere.
    pub fn note(&mut self, step: Step, durable_at: Option<Lsn>) {
        let before = self.steps.last().map_or(Lsn::ZERO, |(_, end)| *end);
        self.steps.push((step, durable_at.unwrap_or(before).max(before)));
    }

    /// Notes that hand-outs are in memory only, until a checkpoint has them.
    pub fn note_unrecorded(&mut self, queue: QueueId, counts: &[(Sequence, u32)]) {
        self.unrecorded.extend(counts.iter().map(|(place, _)| (queue, *place)));
    }

    /// The same content, with nothing said of hand-outs that the log has no record of.
    fn comparable<'a>(&self, content: &'a Content) -> Cow<'a, Content> {
        let mut content = Cow::Borrowed(content);
        if !self.unrecorded.is_empty() {
            for (queue, place) in &self.unrecorded {
                let queue = content.to_mut().queues.get_mut(queue);
                if let Some(message) = queue.and_then(|queue| queue.messages.get_mut(place)) {
                    message.deliveries = 0;
                }
            }
        }
        content
    }

    /// Notes that everything below `lsn` is durable.
    pub fn note_durable(&mut self, lsn: Lsn) {
        self.durable = self.durable_at(lsn);
    }

    fn durable_at(&self, lsn: Lsn) -> usize {
        // A step without a place of its own is durable when the one behind it is.
        let last = self
            .steps
            .iter()
            .rposition(|(step, end)| *end <= lsn && !matches!(step, Step::Deliver(..)));
        last.map_or(self.durable, |last| self.durable.max(last + 1))
    }

    /// How many steps there have been, and how many of them are durable.
    pub fn position(&self) -> Position {
        Position { steps: self.steps.len(), durable: self.durable }
    }

    /// The position that would be reached if everything below `lsn` became durable.
    pub fn position_at(&self, lsn: Lsn) -> Position {
        Position { steps: self.steps.len(), durable: self.durable_at(lsn) }
    }

    /// What was known at an earlier position.
    pub fn at(&self, position: Position) -> Ledger {
        Ledger {
            base: self.base.clone(),
            steps: self.steps[..position.steps].to_vec(),
            durable: position.durable,
            unrecorded: self.unrecorded.clone(),
        }
    }

    /// The same knowledge, with nothing kept of what is durable but what it has come to.
    #[must_use]
    pub fn settled(mut self) -> Ledger {
        for (step, _) in self.steps.drain(..self.durable) {
            Arc::make_mut(&mut self.base).apply(&step);
        }
        self.durable = 0;
        self
    }

    /// What is in the store while it is in use.
    pub fn latest(&self) -> Content {
        self.after(self.steps.len())
    }

    fn after(&self, steps: usize) -> Content {
        let mut content = Content::clone(&self.base);
        self.steps[..steps].iter().for_each(|(step, _)| content.apply(step));
        content
    }

    /// The same history, of which nothing that ends behind `lsn` is known to be durable.
    pub fn durable_below(&self, lsn: Lsn) -> Ledger {
        let mut ledger = Ledger { durable: 0, ..self.clone() };
        ledger.note_durable(lsn);
        ledger.durable = ledger.durable.min(self.durable);
        ledger
    }

    /// Whether a store that has `found` after a restart, and has set so many messages `aside`, is what it may be.
    pub fn allows(&self, found: &Content, aside: u64) -> bool {
        let mut candidate = self.after(self.durable);
        let mut rest = self.steps[self.durable..].iter();
        let found = self.comparable(found);
        loop {
            if found.missing_of(&self.comparable(&candidate)) == Some(aside) {
                return true;
            }
            let Some((step, _)) = rest.next() else { return false };
            candidate.apply(step);
        }
    }

    /// The history of a store that has this, all of it durable.
    pub fn of(content: Content) -> Ledger {
        Ledger { base: Arc::new(content), ..Ledger::default() }
    }

    /// Compares with what a restart has brought back, which is all that counts from now on, and is durable.
    pub fn restarted(&mut self, found: Content) -> Result<(), Box<Mismatch>> {
        let mut candidate = self.base.clone();
        let (durable, later) = self.steps.split_at(self.durable);
        durable.iter().for_each(|(step, _)| Arc::make_mut(&mut candidate).apply(step));
        let mut later = later.iter();
        while self.comparable(&candidate) != self.comparable(&found) {
            let Some((step, _)) = later.next() else {
                let (durable, latest) = (self.after(self.durable), Arc::unwrap_or_clone(candidate));
                return Err(Box::new(Mismatch { found, durable, latest }));
            };
            Arc::make_mut(&mut candidate).apply(step);
        }
        *self = Ledger::of(found);
        Ok(())
    }
}

/// A moment in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// How many steps there have been.
    pub steps: usize,
    /// How many of them are known to be durable.
    pub durable: usize,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.durable.queues.keys().chain(self.latest.queues.keys());
        let mut ids: Vec<_> = ids.chain(self.found.queues.keys()).collect();
        ids.sort_unstable();
        ids.dedup();
        writeln!(f, "the store is nothing that it may be after a restart:")?;
        for id in ids {
            let of = |content: &Content| match content.queues.get(id) {
                None => "none".to_owned(),
                Some(queue) => {
                    let places = queue.messages.iter().map(|(place, message)| {
                        let body = &message.body[..message.body.len().min(12)];
                        let (place, body) = (place.get(), String::from_utf8_lossy(body));
                        format!("{place}={body}x{}", message.deliveries)
                    });
                    places.collect::<Vec<_>>().join(" ")
                }
            };
            let (durable, found, latest) = (of(&self.durable), of(&self.found), of(&self.latest));
            writeln!(
                f,
                "queue {id}:\n  durable: {durable}\n  found:   {found}\n  latest:  {latest}"
            )?;
        }
        let (durable, found, latest) =
            (&self.durable.entries, &self.found.entries, &self.latest.entries);
        write!(f, "entries: durable {durable:?}, found {found:?}, latest {latest:?}")
    }
}
