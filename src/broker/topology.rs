//! The exchanges, queues and bindings of a virtual host: the maps, and nothing but the maps.
//!
//! Locking and storing are [`VirtualHost`](super::virtual_host::VirtualHost)'s. What is taken away is first planned,
//! so that it can be written down as one record before anything has changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::exchange::Exchange;
use super::queue::Queue;
use super::record::{BindingKey, ExchangeKey};
use super::replies::is_address;
use super::request::DestinationKind;
use super::routing::{Matches, Target};
use super::session::SessionId;
use super::topology_memory::{TopologyMemory, binding_size, exchange_size, queue_size};
use crate::message::{RawProperties, ShortStr};
use crate::storage::{Change, Lsn, QueueId};

/// The maps.
#[derive(Debug, Default)]
pub(super) struct Topology {
    pub(super) exchanges: HashMap<ShortStr, Exchange>,
    queues: HashMap<ShortStr, Arc<Queue>>,
    /// The exclusive queues of each connection, in the order in which they were declared.
    owned: HashMap<SessionId, BTreeMap<QueueId, Arc<Queue>>>,
    bindings: HashMap<BindingKey, Binding>,
    /// The bindings that lead to a queue or exchange.
    incoming: HashMap<(DestinationKind, ShortStr), HashSet<BindingKey>>,
    /// What all of it takes.
    pub(super) memory: TopologyMemory,
    /// When everything that was ever taken away is so durably. Whoever asks for something to go that is gone already must not
    /// be told before that.
    pub(super) removed_at: Option<Lsn>,
    /// The virtual host has been deleted: nothing may be added any more.
    closed: bool,
}

/// A binding, besides what its key says. There may be a million of them, each of a few hundred bytes.
#[derive(Debug)]
pub(super) struct Binding {
    /// Whether it is in the log: both its ends survive a restart.
    pub(super) stored: bool,
    /// When it is durable; `None` where there is nothing to wait for.
    pub(super) declared_at: Option<Lsn>,
}

/// What goes, all at once.
#[derive(Debug, Default)]
pub(super) struct Removal {
    exchanges: Vec<ShortStr>,
    bindings: HashSet<BindingKey>,
}

impl Topology {
    pub(super) fn queue(&self, name: &[u8]) -> Option<&Arc<Queue>> {
        self.queues.get(name)
    }

    pub(super) fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    pub(super) fn queues(&self) -> impl ExactSizeIterator<Item = &Arc<Queue>> {
        self.queues.values()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn add_queue(&mut self, queue: Arc<Queue>) {
        self.memory.add(queue.spec().owner, queue_size(queue.spec()));
        if let Some(owner) = queue.spec().owner {
            self.owned.entry(owner).or_default().insert(queue.id(), Arc::clone(&queue));
        }
        self.queues.insert(queue.name().clone(), queue);
    }

    /// The first `most` exclusive queues of a connection that are newer than `last`.
    pub(super) fn owned_after(
        &self,
        session: SessionId,
        last: Option<QueueId>,
        most: usize,
    ) -> Vec<Arc<Queue>> {
        let Some(owned) = self.owned.get(&session) else { return Vec::new() };
        let newer = owned.range((last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        newer.take(most).map(|(_, queue)| Arc::clone(queue)).collect()
    }

    /// Adds an exchange.
    pub(super) fn add_exchange(&mut self, exchange: Exchange) {
        self.memory.add(None, exchange_size(&exchange.spec));
        self.exchanges.insert(exchange.spec.name.clone(), exchange);
    }

    pub(super) fn remove_queue(&mut self, queue: &Arc<Queue>) {
        if self.queues.remove(queue.name()).is_some() {
            self.memory.remove(queue.spec().owner, queue_size(queue.spec()));
        }
        if let Some(owner) = queue.spec().owner
            && let Some(owned) = self.owned.get_mut(&owner)
        {
            owned.remove(&queue.id());
            if owned.is_empty() {
                self.owned.remove(&owner);
            }
        }
    }

    pub(super) fn binding(&self, key: &BindingKey) -> Option<&Binding> {
        self.bindings.get(key)
    }

    /// All bindings.
    pub(super) fn bindings(&self) -> impl Iterator<Item = &BindingKey> {
        self.bindings.keys()
    }

    /// What a binding leads to, if it exists.
    pub(super) fn target(&self, kind: DestinationKind, name: &ShortStr) -> Option<Target> {
        match kind {
            DestinationKind::Queue => self.queues.get(name).cloned().map(Target::Queue),
            DestinationKind::Exchange => {
                self.exchanges.contains_key(name).then(|| Target::Exchange(name.clone()))
            }
        }
    }

    /// Adds a binding whose two ends exist.
    pub(super) fn add_binding(&mut self, key: BindingKey, binding: Binding, target: Target) {
        // As it will be found again: its arguments have an order in the key.
        let bind = key.to_bind();
        if let Some(source) = self.exchanges.get_mut(&bind.source) {
            let size = binding_size(source.spec.kind, &key, &bind);
            self.memory.add(owner_of(&target), size);
            source.router.add(&bind.routing_key, &bind.arguments, target);
            source.outgoing.insert(key.clone());
        }
        let destination = (bind.kind, bind.destination.clone());
        self.incoming.entry(destination).or_default().insert(key.clone());
        self.bindings.insert(key, binding);
    }

    /// Routes a message with these keys that was published to `exchange`, the default one if `None`. An exchange that is named
    /// and does not exist is passed over. It may be put off: see [`Matches::is_put_off`].
    pub(super) fn route(
        &self,
        exchange: Option<&Exchange>,
        keys: &[&[u8]],
        properties: &RawProperties<'_>,
        matches: &mut Matches,
    ) {
        let Some(exchange) = exchange else {
            for key in keys {
                match self.queue(key) {
                    Some(queue) => matches.add_queue(queue),
                    None if is_address(key) => matches.add_reply(key),
                    None => {}
                }
            }
            return;
        };
        exchange.route(keys, properties, matches);
        matches.visit(&exchange.spec.name);
        while !matches.is_put_off()
            && let Some(name) = matches.next_exchange()
        {
            if let Some(exchange) = self.exchanges.get(&name) {
                exchange.route(keys, properties, matches);
            }
        }
    }

    /// What goes with a queue: the bindings to it, and what is deleted with them.
    pub(super) fn plan_queue_removal(&self, queue: &Queue) -> Removal {
        let destination = (DestinationKind::Queue, queue.name().clone());
        self.plan(Vec::new(), self.incoming.get(&destination).into_iter().flatten())
    }

    /// What goes with an exchange: its bindings, and what is deleted with them.
    pub(super) fn plan_exchange_removal(&self, name: &ShortStr) -> Removal {
        self.plan(vec![name.clone()], [])
    }

    /// What goes with a binding.
    pub(super) fn plan_binding_removal(&self, key: &BindingKey) -> Removal {
        self.plan(Vec::new(), [key])
    }

    /// All but the pre-declared exchanges.
    pub(super) fn plan_everything(&self) -> Removal {
        let declared = self.exchanges.keys().filter(|name| !name.starts_with(b"amq."));
        Removal {
            exchanges: declared.cloned().collect(),
            bindings: self.bindings.keys().cloned().collect(),
        }
    }

    /// An auto-delete exchange goes with the last binding that it is the source of, which may be the last
    /// one of another exchange to it, and so on.
    fn plan<'a>(
        &self,
        mut going: Vec<ShortStr>,
        bindings: impl IntoIterator<Item = &'a BindingKey>,
    ) -> Removal {
        let mut removal = Removal::default();
        let mut left: HashMap<&ShortStr, usize> = HashMap::new();
        let mut unbound: Vec<&BindingKey> = bindings
            .into_iter()
            .filter_map(|key| self.bindings.get_key_value(key))
            .map(|(k, _)| k)
            .collect();
        loop {
            while let Some(key) = unbound.pop() {
                if !removal.bindings.insert(key.clone()) {
                    continue;
                }
                let Some(source) = self.exchanges.get(key.source()) else { continue };
                let left = left.entry(&source.spec.name).or_insert(source.outgoing.len());
                *left = left.saturating_sub(1);
                if *left == 0 && source.spec.auto_delete {
                    going.push(source.spec.name.clone());
                }
            }
            let Some(name) = going.pop() else { return removal };
            if removal.exchanges.contains(&name) {
                continue;
            }
            if let Some(exchange) = self.exchanges.get(&name) {
                unbound.extend(&exchange.outgoing);
            }
            let incoming = self.incoming.get(&(DestinationKind::Exchange, name.clone()));
            unbound.extend(incoming.into_iter().flatten());
            removal.exchanges.push(name);
        }
    }

    /// The removal as changes to what is stored.
    pub(super) fn changes(&self, virtual_host: &ShortStr, removal: &Removal) -> Vec<Change> {
        let stored = |key: &&BindingKey| self.bindings.get(*key).is_some_and(|b| b.stored);
        let bindings = removal.bindings.iter().filter(stored).map(BindingKey::to_bytes);
        let exchanges = removal
            .exchanges
            .iter()
            .filter(|name| self.exchanges.get(*name).is_some_and(|e| e.spec.durable))
            .map(|name| {
                ExchangeKey { virtual_host: virtual_host.clone(), name: name.clone() }.encode()
            });
        let mut keys: Vec<_> = bindings.chain(exchanges).collect();
        // So that the same requests always write the same bytes.
        keys.sort_unstable();
        keys.into_iter().map(|key| Change::Remove { key }).collect()
    }

    /// Does what was planned. Call it before a queue that goes as well is removed.
    pub(super) fn remove(&mut self, removal: Removal) {
        for key in removal.bindings {
            if self.bindings.remove(&key).is_none() {
                continue;
            }
            let bind = key.to_bind();
            let target = self.target(bind.kind, &bind.destination);
            if let Some(source) = self.exchanges.get_mut(&bind.source) {
                let size = binding_size(source.spec.kind, &key, &bind);
                self.memory.remove(target.as_ref().and_then(owner_of), size);
                source.outgoing.remove(&key);
                if let Some(target) = &target {
                    source.router.remove(&bind.routing_key, &bind.arguments, target);
                }
            }
            let destination = (bind.kind, bind.destination);
            if let Some(incoming) = self.incoming.get_mut(&destination) {
                incoming.remove(&key);
                if incoming.is_empty() {
                    self.incoming.remove(&destination);
                }
            }
        }
        for name in removal.exchanges {
            if let Some(exchange) = self.exchanges.remove(&name) {
                self.memory.remove(None, exchange_size(&exchange.spec));
            }
        }
    }
}

/// The connection that a target goes with.
fn owner_of(target: &Target) -> Option<SessionId> {
    match target {
        Target::Queue(queue) => queue.spec().owner,
        Target::Exchange(_) => None,
    }
}
