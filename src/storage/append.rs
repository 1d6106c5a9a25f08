//! Appending messages: one record for all the queues that get it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::draft::{Draft, MeasuredDraft};
use super::error::StoreError;
use super::index::Entry;
use super::log::{Outline, Placed};
use super::message::Message;
use super::queue::{Queue, QueueCore, QueueState};
use super::record::{self, ChunkEntry, MessageRecord, RecordKind, Reference};
use super::store::{Shared, Store};
use super::units::{Lsn, Sequence};

/// Whether a message is to survive a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Persistence {
    /// It is written to the log if any of its queues is durable.
    Durable,
    /// It is in memory, or in the log where memory is short, and gone after a restart.
    Transient,
}

/// What an append comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// When this is durable the message is on stable storage; `None`: it is not meant to get there.
    pub durable_at: Option<Lsn>,
}

impl Store {
    /// Appends a message to queues, of which it is stored once for all. It can be fetched at once.
    ///
    /// Never waits for the disk: see [`congested`](Self::congested). A queue that is named twice gets the message
    /// once; one that has been deleted gets nothing.
    ///
    /// # Errors
    /// [`StoreError::ForeignQueue`]: one of the queues belongs to another store. [`StoreError::TooLarge`],
    /// [`StoreError::Full`] and [`StoreError::NoRoom`]: nothing was appended. All other errors are the end of the store.
    pub fn append<'a>(
        &self,
        message: impl Into<Draft<'a>>,
        persistence: Persistence,
        queues: &[&Queue],
    ) -> Result<Appended, StoreError> {
        let message = message.into();
        queues.iter().try_for_each(|queue| self.check_owns(queue))?;
        match queues {
            [] => Ok(Appended { durable_at: None }),
            [queue] => {
                let mut state = queue.core.state.lock();
                let live = usize::from(!state.deleted);
                let mut targets = [(&*queue.core, &mut *state)];
                self.append_locked(message, persistence, &mut targets[..live])
            }
            _ => {
                // One order for everybody, so that two fan-outs do not wait for each other.
                let mut cores: Vec<&Arc<QueueCore>> =
                    queues.iter().map(|queue| &queue.core).collect();
                cores.sort_unstable_by_key(|core| core.id());
                cores.dedup_by_key(|core| core.id());
                let mut states: Vec<_> =
                    cores.iter().map(|core| (&***core, core.state.lock())).collect();
                states.retain(|(_, state)| !state.deleted);
                let mut targets: Vec<_> =
                    states.iter_mut().map(|(core, state)| (*core, &mut **state)).collect();
                self.append_locked(message, persistence, &mut targets)
            }
        }
    }

    /// `targets`: the queues, of which none is deleted.
    fn append_locked(
        &self,
        message: Draft<'_>,
        persistence: Persistence,
        targets: &mut [(&QueueCore, &mut QueueState)],
    ) -> Result<Appended, StoreError> {
        let shared = &*self.shared;
        let places = targets.iter().map(|(core, state)| (*core, state.index.next()));
        let plan = Plan::new(shared, message, persistence, places);
        let placed = if plan.references.is_empty() {
            shared.log.check()?;
            None
        } else {
            let Outline { kind, size, references } = plan.outline();
            let admitted = shared.log.admit(size);
            let appended = admitted.and_then(|()| {
                shared.log.append(kind, size, references, |buffer| plan.encode(buffer))
            });
            if appended.is_err() {
                plan.withdraw(shared);
            }
            Some(appended?)
        };
        plan.enter(shared, placed, targets.iter_mut().map(|(core, state)| (*core, &mut **state)))?;
        Ok(Appended { durable_at: placed.filter(|_| plan.survives).map(|placed| placed.end) })
    }
}

/// What is to become of a message that is being appended. Its queues are locked from the plan until it has
/// [entered](Self::enter) them.
pub(super) struct Plan<'a> {
    message: MeasuredDraft<'a>,
    persistence: Persistence,
    /// What it takes of the memory budget.
    footprint: u64,
    /// How many queues have it that a restart empties of it.
    others: usize,
    /// Whether these have it in the log, because memory is short.
    spills: bool,
    /// Whether a restart brings it back.
    pub(super) survives: bool,
    /// What its record has; none: it is in memory alone.
    pub(super) references: SmallVec<[Reference; 4]>,
}

impl<'a> Plan<'a> {
    /// Takes what the message needs of the memory budget. `targets`: its queues, and the place that it gets in each of them.
    pub(super) fn new<'q>(
        shared: &Shared,
        message: Draft<'a>,
        persistence: Persistence,
        targets: impl Iterator<Item = (&'q QueueCore, Sequence)> + Clone,
    ) -> Plan<'a> {
        let stays = |core: &QueueCore| core.is_durable() && persistence == Persistence::Durable;
        let message = message.measure();
        let footprint = message.footprint();
        let reference =
            |(core, sequence): (&QueueCore, _)| Reference { queue: core.id(), sequence };
        let (mut references, mut others) = (SmallVec::new(), 0);
        for target in targets.clone() {
            if stays(target.0) {
                references.push(reference(target));
            } else {
                others += 1;
            }
        }
        let survives = !references.is_empty();
        // What need not survive a restart is in memory for as long as there is room, and in the log beyond.
        let spills = others > 0 && !shared.cache.try_take(footprint * others as u64);
        if spills {
            references = targets.map(reference).collect();
        }
        Plan { message, persistence, footprint, others, spills, survives, references }
    }

    /// The record that the message needs.
    pub(super) fn outline(&self) -> Outline {
        Outline {
            kind: if self.survives { RecordKind::Message } else { RecordKind::Transient },
            size: record::message_size(self.message, &self.references),
            references: self.references.len() as u32,
        }
    }

    /// Adds the record's payload to `buffer`.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        MessageRecord::encode(buffer, self.message, &self.references);
    }

    /// Gives back what was taken for the message, which comes to nothing.
    pub(super) fn withdraw(&self, shared: &Shared) {
        if !self.spills {
            shared.cache.give_back(self.footprint * self.others as u64);
        }
    }

    /// Adds the message to the indexes of its queues, with its record if it has one.
    pub(super) fn enter<'q>(
        &self,
        shared: &Shared,
        placed: Option<Placed>,
        targets: impl Iterator<Item = (&'q QueueCore, &'q mut QueueState)>,
    ) -> Result<(), StoreError> {
        let sharers = u16::try_from(self.references.len()).unwrap_or(u16::MAX);
        // One copy in memory for all the queues that keep one.
        let mut kept: Option<Message> = None;
        let mut keep = || kept.get_or_insert_with(|| self.message.to_message()).clone();
        for (core, state) in targets {
            let stays = core.is_durable() && self.persistence == Persistence::Durable;
            let (entry, message) = match placed.filter(|_| stays || self.spills) {
                Some(Placed { lsn, length, .. }) => {
                    state.changed |= stays;
                    let cached = stays && shared.cache.try_take(self.footprint);
                    let message = cached.then(&mut keep);
                    let stored = ChunkEntry { lsn, length, sharers };
                    (Entry { transient: !stays, ..Entry::at(stored) }, message)
                }
                None => {
                    let length = u32::try_from(self.message.size()).unwrap_or(u32::MAX);
                    let stored = ChunkEntry { lsn: Lsn::ZERO, length, sharers: 1 };
                    (Entry { transient: true, ..Entry::at(stored) }, Some(keep()))
                }
            };
            shared.push(core, state, entry, message)?;
        }
        Ok(())
    }
}
