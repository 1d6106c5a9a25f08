//! Appending messages: one record for all the queues that get it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::draft::Draft;
use super::error::StoreError;
use super::index::Entry;
use super::log::Placed;
use super::message::Message;
use super::queue::{Queue, QueueCore, QueueState};
use super::record::{self, ChunkEntry, MessageRecord, RecordKind, Reference};
use super::store::Store;
use super::units::Lsn;

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
    pub fn append<'a>(
        &self,
        message: impl Into<Draft<'a>>,
        persistence: Persistence,
        queues: &[&Queue],
    ) -> Result<Appended, StoreError> {
        let message = message.into();
        match queues {
            [] => Ok(Appended { durable_at: None }),
            [queue] => {
                let mut state = queue.core.state.lock();
                let mut targets = [(&*queue.core, &mut *state)];
                self.append_locked(message, persistence, &mut targets)
            }
            _ => {
                // One order for everybody, so that two fan-outs do not wait for each other.
                let mut cores: Vec<&Arc<QueueCore>> =
                    queues.iter().map(|queue| &queue.core).collect();
                cores.sort_unstable_by_key(|core| core.id());
                cores.dedup_by_key(|core| core.id());
                let mut states: Vec<_> =
                    cores.iter().map(|core| (&***core, core.state.lock())).collect();
                let mut targets: Vec<_> =
                    states.iter_mut().map(|(core, state)| (*core, &mut **state)).collect();
                self.append_locked(message, persistence, &mut targets)
            }
        }
    }

    fn append_locked(
        &self,
        message: Draft<'_>,
        persistence: Persistence,
        targets: &mut [(&QueueCore, &mut QueueState)],
    ) -> Result<Appended, StoreError> {
        let mut open: SmallVec<[_; 4]> =
            targets.iter_mut().filter(|(_, state)| !state.deleted).collect();
        let targets = &mut *open;
        let shared = &*self.shared;
        let stays = |core: &QueueCore| core.is_durable() && persistence == Persistence::Durable;
        let size = message.footprint();
        let others = targets.iter().filter(|(core, _)| !stays(core)).count();
        // What need not survive a restart is in memory for as long as there is room, and in the log beyond.
        let spills = others > 0 && !shared.cache.try_take(size * others as u64);
        let references: SmallVec<[Reference; 4]> = targets
            .iter()
            .filter(|(core, _)| spills || stays(core))
            .map(|(core, state)| Reference { queue: core.id(), sequence: state.index.next() })
            .collect();
        let stored = others < targets.len();
        let placed = if references.is_empty() {
            shared.log.check()?;
            None
        } else {
            let kind = if stored { RecordKind::Message } else { RecordKind::Transient };
            let length = record::message_size(message, &references);
            let count = references.len() as u32;
            let admitted = shared.log.admit(length);
            let appended = admitted.and_then(|()| {
                shared.log.append(kind, length, count, |buffer| {
                    MessageRecord::encode(buffer, message, &references);
                })
            });
            if appended.is_err() && !spills {
                shared.cache.give_back(size * others as u64);
            }
            Some(appended?)
        };
        let sharers = u16::try_from(references.len()).unwrap_or(u16::MAX);
        // One copy in memory for all the queues that keep one.
        let mut kept: Option<Message> = None;
        let mut keep = || kept.get_or_insert_with(|| message.to_message()).clone();
        for (core, state) in targets.iter_mut() {
            let stays = stays(core);
            let (entry, message) = match placed.filter(|_| stays || spills) {
                Some(Placed { lsn, length, .. }) => {
                    state.changed |= stays;
                    let cached = stays && shared.cache.try_take(size);
                    let message = cached.then(&mut keep);
                    let stored = ChunkEntry { lsn, length, sharers };
                    (Entry { transient: !stays, ..Entry::at(stored) }, message)
                }
                None => {
                    let length = u32::try_from(message.size()).unwrap_or(u32::MAX);
                    let stored = ChunkEntry { lsn: Lsn::ZERO, length, sharers: 1 };
                    (Entry { transient: true, ..Entry::at(stored) }, Some(keep()))
                }
            };
            shared.push(core, state, entry, message)?;
        }
        Ok(Appended { durable_at: placed.filter(|_| stored).map(|placed| placed.end) })
    }
}
