//! What operators do to a virtual host: describe it, limit it, set policies, delete it.

use std::sync::Arc;

use parking_lot::RwLock;
use tracing::warn;

use super::exchange::Exchange;
use super::hosts::HostDescription;
use super::policy::{Object, Policies, Policy, PolicyKind};
use super::queue::{DeleteIf, Queue};
use super::refusal::{Reason, Refusal};
use super::topology::Topology;
use super::virtual_host::VirtualHost;
use crate::message::ShortStr;
use crate::storage::{Change, Lsn, StoreError};

/// What operators have said of a virtual host.
#[derive(Debug, Default)]
pub(super) struct Governed {
    description: RwLock<Arc<HostDescription>>,
    /// Locked after the topology.
    policies: RwLock<Policies>,
}

impl VirtualHost {
    pub(super) fn description(&self) -> Arc<HostDescription> {
        Arc::clone(&self.governed.description.read())
    }

    pub(super) fn describe(&self, description: HostDescription) {
        *self.governed.description.write() = Arc::new(description);
    }

    /// Refuses (406) a new queue where there are enough, and (530) anything new where all is gone.
    pub(super) fn admit_queue(&self, topology: &Topology, name: &ShortStr) -> Result<(), Refusal> {
        self.refuse_closed(topology)?;
        match self.governed.description.read().limits.max_queues {
            Some(limit) if topology.queues().len() as u64 >= limit => Err(Refusal::new(
                Reason::PreconditionFailed,
                format_args!(
                    "cannot declare queue '{name}': queue limit in vhost '{}' ({limit}) is reached",
                    self.name()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses (530) anything new in a virtual host that has been deleted: its connections are on their way out.
    pub(super) fn refuse_closed(&self, topology: &Topology) -> Result<(), Refusal> {
        if topology.is_closed() {
            let what = format_args!("vhost {} not found", self.name());
            return Err(Refusal::new(Reason::NotAllowed, what));
        }
        Ok(())
    }

    // ---- Policies ----

    /// Puts back a policy that was found in the store.
    pub(super) fn restore_policy(&self, policy: Policy) {
        self.governed.policies.write().put(policy);
    }

    /// All policies.
    pub(super) fn policies(&self) -> Vec<Arc<Policy>> {
        self.governed.policies.read().all().cloned().collect()
    }

    /// Changes the policies, which takes effect on all there is at once.
    pub(super) fn change_policies(&self, change: impl FnOnce(&mut Policies)) {
        change(&mut self.governed.policies.write());
        self.apply_policies();
    }

    /// Has every exchange and queue go by the policies that are in force for it.
    pub(super) fn apply_policies(&self) {
        let queues: Vec<_> = {
            let mut topology = self.topology.write();
            let policies = self.governed.policies.read();
            for exchange in topology.exchanges.values_mut() {
                apply_to_exchange(&policies, exchange);
            }
            let govern = |queue: &&Arc<Queue>| {
                let definition = policies.definition_for(queue);
                let concerned = !definition.is_empty() || queue.rules().any();
                if concerned {
                    queue.set_policy(&definition);
                }
                concerned
            };
            topology.queues().filter(govern).cloned().collect()
        };
        queues.iter().for_each(Queue::obey);
        self.retry_unrouted();
    }

    /// Has a new queue go by its policies.
    pub(super) fn govern_queue(&self, queue: &Queue) {
        let definition = self.governed.policies.read().definition_for(queue);
        if !definition.is_empty() {
            queue.set_policy(&definition);
        }
    }

    /// Has a new exchange go by its policy.
    pub(super) fn govern_exchange(&self, exchange: &mut Exchange) {
        apply_to_exchange(&self.governed.policies.read(), exchange);
    }

    // ---- Deletion ----

    /// Deletes everything in it, with `changes` besides, in one record. Nothing new is accepted afterwards.
    pub(super) fn close_down(&self, mut changes: Vec<Change>) -> Result<Lsn, StoreError> {
        while self.prune_some() {}
        let mut topology = self.topology.write();
        self.prune(&mut topology, usize::MAX);
        changes.extend(topology.changes(self.name(), &topology.plan_everything()));
        for queue in topology.queues().filter(|queue| queue.is_stored()) {
            changes.extend(queue.forget_note());
            changes.extend(queue.store().ids().map(Change::DeleteQueue));
        }
        let durable_at = self.store.apply(changes)?;
        let (queues, removed) = topology.close();
        drop(topology);
        // No publisher finds them any more.
        drop(removed);
        for queue in &queues {
            match queue.delete(DeleteIf::default(), || Ok(())) {
                Ok((_, (), wakers)) => wakers.wake(),
                Err(refusal) => warn!(queue = %queue.name(), %refusal, "cannot empty the queue"),
            }
        }
        Ok(durable_at)
    }
}

fn apply_to_exchange(policies: &Policies, exchange: &mut Exchange) {
    let policy = policies.in_force(PolicyKind::User, Object::Exchange, &exchange.spec.name);
    let policy = policy.cloned();
    exchange.go_by(policy.as_deref());
}
