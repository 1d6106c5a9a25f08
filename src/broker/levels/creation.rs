//! How the levels of a queue come into the store, and how they are found in it again.

use std::collections::{BTreeMap, HashMap};

use tracing::warn;

use super::Levels;
use crate::broker::arguments::max_priority;
use crate::broker::handle::StartError;
use crate::broker::record::{LevelRecord, QueueAttributes, QueueRecord};
use crate::message::FieldTable;
use crate::storage::{self, Lsn, QueueId, Store, StoreError};

impl Levels {
    /// Creates what a durable queue needs: all of its levels, or none if the machine crashes in between.
    pub(in crate::broker) fn create(
        store: &Store,
        record: &QueueRecord,
    ) -> Result<(Levels, Lsn), StoreError> {
        let max = max_priority(&record.arguments);
        let mut others = Vec::new();
        let (base, lsn) = if max == 0 {
            store.create_queue(&record.encode())?
        } else {
            let count = usize::from(max) + 1;
            let (queues, lsn) = store.create_queues(count, |ids, place| {
                match (ids.first(), u8::try_from(place)) {
                    (Some(base), Ok(priority @ 1..)) => {
                        LevelRecord::new(record, *base, priority).encode()
                    }
                    _ => record.encode(),
                }
            })?;
            let mut queues = queues.into_iter();
            let base = queues.next().expect("as many are created as are asked for");
            others.extend(queues);
            (base, lsn)
        };
        Ok((Levels::new(base, others), lsn))
    }

    /// Creates what a queue needs that does not survive a restart.
    pub(in crate::broker) fn create_volatile(store: &Store, arguments: &FieldTable) -> Levels {
        let others = (0..max_priority(arguments)).map(|_| store.create_volatile_queue());
        Levels::new(store.create_volatile_queue(), others.collect())
    }

    /// The queues that the store holds, each with its levels. A level that is missing, which only a repair of the store can
    /// be the cause of, is created.
    ///
    /// # Errors
    /// A record that this program cannot read; a level that could not be created.
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
            let levels = complete(store, &record, base, found)?;
            stored.push((record, levels));
        }
        for queue in others.values().flat_map(BTreeMap::values) {
            warn!(id = %queue.id(), "a part of a queue with priorities has lost its queue: it is left alone");
        }
        Ok(stored)
    }
}

/// A queue with the levels that were found, and those that were not.
fn complete(
    store: &Store,
    record: &QueueRecord,
    base: storage::Queue,
    mut found: BTreeMap<u8, storage::Queue>,
) -> Result<Levels, StoreError> {
    let mut others = Vec::with_capacity(found.len());
    for priority in 1..=max_priority(&record.arguments) {
        let level = match found.remove(&priority) {
            Some(level) => level,
            None => {
                warn!(queue = %record.name, priority, "a part of a queue with priorities is missing: it is created");
                store.create_queue(&LevelRecord::new(record, base.id(), priority).encode())?.0
            }
        };
        others.push(level);
    }
    Ok(Levels::new(base, others))
}
