//! What there is in a store: its queues and its metadata.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::queue::QueueCore;
use super::record::{ENTRIES_PER_PAGE, QUEUES_PER_PAGE};
use super::units::QueueId;

/// Things that keep their place in a list, so that pages of it can be written each by itself.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Option<T>>,
    free: BTreeSet<usize>,
    per_page: usize,
    /// Pages that do not look as in the last checkpoint.
    changed: BTreeSet<usize>,
}

impl<T> Slots<T> {
    fn new(per_page: usize) -> Slots<T> {
        Slots { slots: Vec::new(), free: BTreeSet::new(), per_page, changed: BTreeSet::new() }
    }

    fn insert(&mut self, item: T) -> usize {
        let slot = self.free.pop_first().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(item);
        self.changed.insert(slot / self.per_page);
        slot
    }

    fn remove(&mut self, slot: usize) -> Option<T> {
        self.changed.insert(slot / self.per_page);
        self.free.insert(slot);
        self.slots.get_mut(slot)?.take()
    }

    /// Puts a whole page in its place, as a checkpoint has it; gives the slots.
    fn restore_page(&mut self, page: usize, items: Vec<T>) -> Vec<usize> {
        let start = page * self.per_page;
        while self.slots.len() < start + self.per_page {
            self.free.insert(self.slots.len());
            self.slots.push(None);
        }
        let slots: Vec<usize> = (start..start + items.len()).collect();
        for (slot, item) in slots.iter().zip(items) {
            self.free.remove(slot);
            self.slots[*slot] = Some(item);
        }
        slots
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> usize {
        self.slots.len().div_ceil(self.per_page)
    }

    /// What is on a page.
    pub(crate) fn page(&self, page: usize) -> impl Iterator<Item = &T> {
        self.slots.iter().skip(page * self.per_page).take(self.per_page).flatten()
    }

    /// The same, to be looked at when the catalog is not locked any more; `None`: there are not so many pages.
    pub(crate) fn copy_of_page(&self, page: usize) -> Option<Vec<T>>
    where
        T: Clone,
    {
        (page < self.pages()).then(|| self.page(page).cloned().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    /// The pages that have had something added, replaced or removed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.changed)
    }

    /// Gives pages back that were taken, and not written after all.
    pub(crate) fn put_back_changed(&mut self, pages: BTreeSet<usize>) {
        self.changed.extend(pages);
    }
}

/// The queues and the metadata of a store.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) queues: Slots<Arc<QueueCore>>,
    queue_slots: HashMap<QueueId, usize>,
    pub(crate) entries: Slots<(Bytes, Bytes)>,
    /// Ordered, because a large hash table takes long to grow while the catalog is locked.
    entry_slots: BTreeMap<Bytes, usize>,
    next_queue: QueueId,
    /// Queues that are not durable, for as long as anybody holds them.
    volatile: HashMap<QueueId, Weak<QueueCore>>,
    /// When `volatile` has this many, the queues that are gone are removed from it.
    volatile_limit: usize,
}

impl Catalog {
    pub(crate) fn new() -> Catalog {
        Catalog {
            queues: Slots::new(QUEUES_PER_PAGE),
            queue_slots: HashMap::new(),
            entries: Slots::new(ENTRIES_PER_PAGE),
            entry_slots: BTreeMap::new(),
            next_queue: QueueId(1),
            volatile: HashMap::new(),
            volatile_limit: 64,
        }
    }

    /// A queue number that has never been used.
    pub(crate) fn take_queue_id(&mut self) -> QueueId {
        let id = self.next_queue;
        self.next_queue = QueueId(id.0 + 1);
        id
    }

    pub(crate) fn next_queue(&self) -> QueueId {
        self.next_queue
    }

    pub(crate) fn restore_next_queue(&mut self, next: QueueId) {
        self.next_queue = self.next_queue.max(next);
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<&Arc<QueueCore>> {
        self.queue_slots.get(&id).and_then(|slot| self.queues.slots[*slot].as_ref())
    }

    /// Remembers a queue that is not durable.
    pub(crate) fn insert_volatile(&mut self, queue: &Arc<QueueCore>) {
        if self.volatile.len() >= self.volatile_limit {
            self.volatile.retain(|_, queue| queue.strong_count() > 0);
            self.volatile_limit = (2 * self.volatile.len()).max(64);
        }
        self.volatile.insert(queue.id(), Arc::downgrade(queue));
    }

    /// A queue, durable or not.
    pub(crate) fn any_queue(&self, id: QueueId) -> Option<Arc<QueueCore>> {
        self.queue(id).cloned().or_else(|| self.volatile.get(&id).and_then(Weak::upgrade))
    }

    /// All queues, durable or not.
    pub(crate) fn all_queues(&self) -> Vec<Arc<QueueCore>> {
        let mut queues = self.volatile_queues();
        queues.extend(self.queues.iter().cloned());
        queues
    }

    /// The queues that are not durable. They are to be let go of when the catalog is not locked any more: with the last handle
    /// a queue goes.
    pub(crate) fn volatile_queues(&self) -> Vec<Arc<QueueCore>> {
        self.volatile.values().filter_map(Weak::upgrade).collect()
    }

    /// Adds a queue, unless there is one with its number.
    pub(crate) fn insert_queue(&mut self, queue: Arc<QueueCore>) {
        let id = queue.id();
        self.restore_next_queue(QueueId(id.0 + 1));
        if !self.queue_slots.contains_key(&id) {
            let slot = self.queues.insert(queue);
            self.queue_slots.insert(id, slot);
        }
    }

    pub(crate) fn remove_queue(&mut self, id: QueueId) -> Option<Arc<QueueCore>> {
        let slot = self.queue_slots.remove(&id)?;
        self.queues.remove(slot)
    }

    pub(crate) fn put(&mut self, key: Bytes, value: Bytes) {
        self.remove(&key);
        let slot = self.entries.insert((key.clone(), value));
        self.entry_slots.insert(key, slot);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(slot) = self.entry_slots.remove(key) {
            self.entries.remove(slot);
        }
    }

    pub(crate) fn restore_queue_page(&mut self, page: usize, queues: Vec<Arc<QueueCore>>) {
        let ids: Vec<QueueId> = queues.iter().map(|queue| queue.id()).collect();
        let slots = self.queues.restore_page(page, queues);
        self.queue_slots.extend(ids.into_iter().zip(slots));
    }

    pub(crate) fn restore_metadata_page(&mut self, page: usize, entries: Vec<(Bytes, Bytes)>) {
        let keys: Vec<Bytes> = entries.iter().map(|(key, _)| key.clone()).collect();
        let slots = self.entries.restore_page(page, entries);
        self.entry_slots.extend(keys.into_iter().zip(slots));
    }
}
