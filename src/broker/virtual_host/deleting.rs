//! Deleting and purging: one record of the store for a queue or an exchange, and its bindings in pieces where they are many.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLockWriteGuard;
use tracing::{error, warn};

use super::VirtualHost;
use crate::broker::outbox::Wakers;
use crate::broker::queue::{DeleteIf, Purge, Queue};
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::request::DestinationKind;
use crate::broker::session::SessionId;
use crate::broker::topology::{PRUNED_AT_ONCE, Removal, Removed, Topology};
use crate::message::ShortStr;
use crate::storage::{Change, Lsn, QueueId, StoreError};

impl VirtualHost {
    /// Writes the removal down, then does it.
    pub(super) fn remove(
        &self,
        mut topology: RwLockWriteGuard<'_, Topology>,
        removal: Removal,
    ) -> Result<Option<Lsn>, Refusal> {
        let changes = topology.changes(&self.name, &removal);
        let durable_at = self.apply(changes)?;
        topology.removed_at = topology.removed_at.max(durable_at);
        let removed = topology.remove(removal);
        self.unlock(topology, removed);
        Ok(durable_at)
    }

    /// Prunes the first stale bindings, unlocks the topology, and drops what has been removed from it.
    fn unlock(&self, mut topology: RwLockWriteGuard<'_, Topology>, removed: Removed) {
        self.prune(&mut topology, PRUNED_AT_ONCE);
        drop(topology);
        drop(removed);
    }

    /// Whether something that has been deleted has left bindings to be [pruned](Self::prune_some).
    pub(in crate::broker) fn has_stale(&self) -> bool {
        self.has_stale.load(Relaxed)
    }

    /// Prunes some of the bindings of what has been deleted. Returns whether there are more.
    pub(in crate::broker) fn prune_some(&self) -> bool {
        if self.has_stale() {
            self.prune(&mut self.topology.write(), PRUNED_AT_ONCE);
        }
        self.has_stale()
    }

    /// Takes stale bindings out of their exchanges and out of the store, in `most` steps.
    pub(in crate::broker) fn prune(&self, topology: &mut Topology, most: usize) {
        if !topology.has_stale() {
            return self.has_stale.store(false, Relaxed);
        }
        if let Err(error) = self.apply(topology.prune(most)) {
            // The store has failed: the process is about to end. The next start removes them.
            error!(%error, "bindings of something deleted are not removed from the store");
        }
        self.has_stale.store(topology.has_stale(), Relaxed);
    }

    /// Whether the store still has bindings of a deleted queue or exchange of that name: until these are pruned, a declaration
    /// of the name has to wait.
    pub(in crate::broker) fn is_going(&self, kind: DestinationKind, name: &ShortStr) -> bool {
        self.has_stale() && self.topology.read().is_going(kind, name)
    }

    /// Locks the topology to declare something of that name. Prunes the bindings of an earlier one before, in pieces.
    pub(super) fn lock_to_declare(
        &self,
        kind: DestinationKind,
        name: &ShortStr,
    ) -> RwLockWriteGuard<'_, Topology> {
        loop {
            let topology = self.topology.write();
            if !topology.is_going(kind, name) {
                return topology;
            }
            drop(topology);
            self.prune_some();
        }
    }

    pub(super) fn apply(&self, changes: Vec<Change>) -> Result<Option<Lsn>, StoreError> {
        if changes.is_empty() { Ok(None) } else { self.store.apply(changes).map(Some) }
    }

    /// `queue.delete`: how many messages went with it. A queue that does not exist is as good as deleted.
    pub(in crate::broker) fn delete_queue(
        &self,
        name: &[u8],
        conditions: DeleteIf,
        session: SessionId,
    ) -> Result<(u32, Option<Lsn>), Refusal> {
        // In two steps, so that the topology is not locked any more while letters are carried, which takes its lock again.
        let queue = self.topology.read().queue(name).cloned();
        if let Some(queue) = queue {
            queue.check_access(session)?;
            self.settle_dead_letters(&queue);
        }
        let topology = self.topology.write();
        let Some(queue) = topology.queue(name).cloned() else {
            return Ok((0, topology.removed_at));
        };
        queue.check_access(session)?;
        let (messages, durable_at, wakers) = self.take_away(topology, &queue, conditions)?;
        wakers.wake();
        Ok((messages, durable_at))
    }

    /// `queue.purge`, the next piece: how many messages were ready, and went. `None` means that there is more to do.
    pub(in crate::broker) fn purge_some(
        &self,
        purge: &mut Purge,
    ) -> Result<Option<(u32, Option<Lsn>)>, Refusal> {
        if purge.remove_some()? || purge.waits() {
            return Ok(None);
        }
        purge.end();
        purge.queue().notify_of_room();
        // Who finds nothing, because another client has just purged the queue, must not be told before that client; nor who finds
        // only what is gone after a restart anyway.
        let is_stored = purge.queue().is_stored();
        let durable_at = if is_stored { *self.purged_at.lock() } else { purge.durable_at() };
        Ok(Some((purge.messages(), durable_at)))
    }

    /// A purge is over, and durable at that time.
    pub(in crate::broker) fn note_purge(&self, durable_at: Option<Lsn>) {
        let mut purged_at = self.purged_at.lock();
        *purged_at = (*purged_at).max(durable_at);
    }

    /// Deletes an auto-delete queue whose last consumer has gone, unless a new one has come meanwhile.
    pub(in crate::broker) fn delete_abandoned(&self, queue: &Arc<Queue>) {
        self.delete_unasked(queue, DeleteIf { unused: true, empty: false });
    }

    /// The first `most` exclusive queues of a connection that are newer than `last`.
    pub(in crate::broker) fn owned_after(
        &self,
        session: SessionId,
        last: Option<QueueId>,
        most: usize,
    ) -> Vec<Arc<Queue>> {
        self.topology.read().owned_after(session, last, most)
    }

    /// Deletes an exclusive queue of a connection that has gone.
    pub(in crate::broker) fn delete_owned(&self, queue: &Arc<Queue>) {
        self.delete_unasked(queue, DeleteIf::default());
    }

    fn delete_unasked(&self, queue: &Arc<Queue>, conditions: DeleteIf) {
        self.settle_dead_letters(queue);
        let topology = self.topology.write();
        if topology.queue(queue.name()) != Some(queue) {
            return;
        }
        match self.take_away(topology, queue, conditions) {
            Ok((_, _, wakers)) => wakers.wake(),
            // In use again: it stays.
            Err(refusal) if refusal.reason() == Reason::PreconditionFailed => {}
            Err(refusal) => warn!(queue = %queue.name(), %refusal, "cannot delete the queue"),
        }
    }

    /// Deletes a queue with its bindings, in one record.
    fn take_away(
        &self,
        mut topology: RwLockWriteGuard<'_, Topology>,
        queue: &Arc<Queue>,
        conditions: DeleteIf,
    ) -> Result<(u32, Option<Lsn>, Wakers), Refusal> {
        let removal = topology.plan_queue_removal(queue);
        let deleted = queue.delete(conditions, || {
            let mut changes = topology.changes(&self.name, &removal);
            if queue.is_stored() {
                changes.extend(queue.store().ids().map(Change::DeleteQueue));
                changes.extend(queue.forget_note());
            }
            Ok(self.apply(changes)?)
        });
        let (messages, durable_at, wakers) = deleted?;
        topology.removed_at = topology.removed_at.max(durable_at);
        topology.remove_queue(queue);
        let removed = topology.remove(removal);
        self.unlock(topology, removed);
        Ok((messages, durable_at, wakers))
    }
}
