//! How the levels of a queue come into the store, and how they are found in it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::warn;

use super::{Levels, Ranked};
use crate::broker::arguments::max_priority;
use crate::broker::handle::StartError;
use crate::broker::record::{LevelRecord, QueueAttributes, QueueRecord};
use crate::message::{FieldTable, ShortStr};
use crate::storage::{self, Lsn, QueueId, Store, StoreError};

/// How a queue's levels above the base are created.
pub(super) enum Birth {
    /// In the store, under the names of the virtual host and the queue.
    Durable { virtual_host: ShortStr, name: ShortStr },
    /// To be gone after a restart.
    Volatile,
}

impl Birth {
    /// Creates the level of a priority.
    pub(super) fn level(
        &self,
        store: &Store,
        base: QueueId,
        priority: u8,
    ) -> Result<storage::Queue, StoreError> {
        let Self::Durable { virtual_host, name } = self else {
            return Ok(store.create_volatile_queue());
        };
        let (virtual_host, name) = (virtual_host.clone(), name.clone());
        let record = LevelRecord { priority, base, virtual_host, name };
        // What is appended to it is durable later than this.
        Ok(store.create_queue(&record.encode())?.0)
    }
}

impl Levels {
    /// Creates what a durable queue needs.
    pub(in crate::broker) fn create(
        store: &Store,
        record: &QueueRecord,
    ) -> Result<(Levels, Lsn), StoreError> {
        let (base, lsn) = store.create_queue(&record.encode())?;
        Ok((Levels::durable(record, base, BTreeMap::new()), lsn))
    }

    /// Creates what a queue needs that does not survive a restart.
    pub(in crate::broker) fn create_volatile(store: &Store, arguments: &FieldTable) -> Levels {
        let base = store.create_volatile_queue();
        Levels::new(base, max_priority(arguments), Birth::Volatile, BTreeMap::new())
    }

    fn durable(
        record: &QueueRecord,
        base: storage::Queue,
        found: BTreeMap<u8, storage::Queue>,
    ) -> Levels {
        let QueueRecord { virtual_host, name, .. } = record.clone();
        let birth = Birth::Durable { virtual_host, name };
        Levels::new(base, max_priority(&record.arguments), birth, found)
    }

    /// A queue with the level `base` for priority 0, and those that were `found` of the priorities from 1 to `max`.
    pub(super) fn new(
        base: storage::Queue,
        max: u8,
        birth: Birth,
        mut found: BTreeMap<u8, storage::Queue>,
    ) -> Levels {
        if max == 0 {
            return base.into();
        }
        let level = |priority| found.remove(&priority).map_or_else(OnceLock::new, OnceLock::from);
        let urgent = (1..=max).rev().map(level).collect();
        let (birth, news) = (Mutex::new(birth), Default::default());
        Levels::Ranked(Box::new(Ranked { urgent, base, birth, news }))
    }

    /// The queues that the store holds, each with its levels.
    ///
    /// # Errors
    /// A record that this program cannot read.
    pub(in crate::broker) fn stored(
        store: &Store,
    ) -> Result<Vec<(QueueRecord, Levels)>, StartError> {
        let mut bases = Vec::new();
        let mut others: HashMap<QueueId, BTreeMap<u8, storage::Queue>> = HashMap::new();
        for queue in store.queues() {
            match QueueAttributes::decode(queue.attributes())? {
                QueueAttributes::Queue(record) => bases.push((record, queue)),
                QueueAttributes::Level(LevelRecord { base, priority, .. }) => {
                    others.entry(base).or_default().insert(priority, queue);
                }
            }
        }
        let mut stored = Vec::with_capacity(bases.len());
        for (record, base) in bases {
            let found = others.remove(&base.id()).unwrap_or_default();
            let levels = Levels::durable(&record, base, found);
            stored.push((record, levels));
        }
        for queue in others.values().flat_map(BTreeMap::values) {
            warn!(id = %queue.id(), "a part of a queue with priorities has lost its queue: it is left alone");
        }
        Ok(stored)
    }
}
