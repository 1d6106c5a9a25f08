//! The exchanges, queues and bindings of a virtual host: the maps, and nothing but the maps.
//!
//! Locking and storing are [`VirtualHost`](super::virtual_host::VirtualHost)'s. What is taken away is first planned,
//! so that it can be written down as one record before anything has changed.
//!
//! Bindings are kept in *links*, one for each pair of an exchange and what it leads to. A deletion takes links out of the
//! maps as they are; [`stale`] has what is left of them.

mod stale;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use self::stale::StaleLinks;
use super::exchange::Exchange;
use super::queue::Queue;
use super::record::{BindingKey, ExchangeKey};
use super::replies::is_address;
use super::request::{Bind, DestinationKind};
use super::routing::{Matches, Router, Target};
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
    links: BTreeMap<LinkKey, Link>,
    /// The same by what they lead to.
    incoming: BTreeSet<(DestinationKind, ShortStr, ShortStr)>,
    /// How many bindings there are.
    bindings: usize,
    stale: StaleLinks,
    /// The bytes of all of it.
    pub(super) memory: TopologyMemory,
    /// When everything that was ever taken away is so durably. Whoever asks for something to go that is gone already must not
    /// be told before that.
    pub(super) removed_at: Option<Lsn>,
    /// The virtual host has been deleted: nothing may be added any more.
    closed: bool,
}

/// Between what a link leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LinkKey {
    source: ShortStr,
    kind: DestinationKind,
    destination: ShortStr,
}

/// The bindings of an exchange to one queue or exchange: one at least.
#[derive(Debug)]
struct Link {
    source: ShortStr,
    target: Target,
    bindings: Bindings,
    /// Their bytes of memory.
    size: usize,
}

/// The bindings of a link. Nearly all have one.
#[derive(Debug)]
enum Bindings {
    One(BindingKey, Binding),
    Many(BTreeMap<BindingKey, Binding>),
}

/// A binding, besides what its key says. There may be a million of them, each of a few hundred bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    /// Whether it is in the log: both its ends survive a restart.
    pub(super) stored: bool,
    /// When it is durable; `None` where there is nothing to wait for.
    pub(super) declared_at: Option<Lsn>,
}

/// What goes, all at once.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// The queue that goes.
    queue: Option<ShortStr>,
    exchanges: BTreeSet<ShortStr>,
    links: BTreeSet<LinkKey>,
    /// One binding of a link of which others stay.
    binding: Option<BindingKey>,
    /// Whether bindings with a deleted end are removed from the store by [`Topology::prune`], because there are many.
    in_pieces: bool,
}

/// What has been removed, to be dropped when the topology is not locked any more: it may be large.
#[derive(Debug, Default)]
#[must_use = "it is to be dropped without the topology's lock"]
pub(super) struct Removed {
    exchanges: Vec<Exchange>,
    links: BTreeMap<LinkKey, Link>,
    _incoming: BTreeSet<(DestinationKind, ShortStr, ShortStr)>,
    routers: Vec<Router>,
    _stale: StaleLinks,
}

/// The number of stale bindings that are pruned with the topology locked once. A deletion with more bindings is recorded in
/// pieces.
pub(super) const PRUNED_AT_ONCE: usize = 256;

/// The number that are pruned with each binding that is added, so that there are never many more than there may be bindings.
pub(super) const PRUNED_IN_PASSING: usize = 4;

impl Removal {
    /// Whether an end of a link goes.
    fn takes_end_of(&self, link: &LinkKey) -> bool {
        let target = match link.kind {
            DestinationKind::Queue => self.queue.as_ref() == Some(&link.destination),
            DestinationKind::Exchange => self.exchanges.contains(&link.destination),
        };
        target || self.exchanges.contains(&link.source)
    }
}

impl LinkKey {
    fn of(bind: &Bind) -> Self {
        Self { source: bind.source.clone(), kind: bind.kind, destination: bind.destination.clone() }
    }

    /// Its entry among the incoming ones.
    fn reversed(&self) -> (DestinationKind, ShortStr, ShortStr) {
        (self.kind, self.destination.clone(), self.source.clone())
    }
}

impl Bindings {
    fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(all) => all.len(),
        }
    }

    fn get(&self, key: &BindingKey) -> Option<&Binding> {
        match self {
            Self::One(known, binding) => (known == key).then_some(binding),
            Self::Many(all) => all.get(key),
        }
    }

    fn add(&mut self, key: BindingKey, binding: Binding) {
        match self {
            Self::One(first, its) => {
                *self = Self::Many(BTreeMap::from([(first.clone(), *its), (key, binding)]));
            }
            Self::Many(all) => _ = all.insert(key, binding),
        }
    }

    /// Removes one of several.
    fn remove(&mut self, key: &BindingKey) {
        if let Self::Many(all) = self {
            all.remove(key);
        }
    }

    /// Takes a binding out; `None` after the last one.
    fn pop(&mut self) -> Option<(BindingKey, Binding)> {
        match self {
            Self::One(key, binding) => {
                let popped = (key.clone(), *binding);
                *self = Self::Many(BTreeMap::new());
                Some(popped)
            }
            Self::Many(all) => all.pop_first(),
        }
    }

    /// All of them, by key.
    fn iter(&self) -> impl Iterator<Item = (&BindingKey, &Binding)> {
        let (one, many) = match self {
            Self::One(key, binding) => (Some((key, binding)), None),
            Self::Many(all) => (None, Some(all)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl Topology {
    pub(super) fn queue(&self, name: &[u8]) -> Option<&Arc<Queue>> {
        self.queues.get(name)
    }

    pub(super) fn binding_count(&self) -> usize {
        self.bindings
    }

    pub(super) fn queues(&self) -> impl ExactSizeIterator<Item = &Arc<Queue>> {
        self.queues.values()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
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
            queue.set_gone();
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

    /// The binding that `bind` is, with that key.
    pub(super) fn binding(&self, bind: &Bind, key: &BindingKey) -> Option<&Binding> {
        self.links.get(&LinkKey::of(bind))?.bindings.get(key)
    }

    /// All bindings.
    pub(super) fn bindings(&self) -> impl Iterator<Item = &BindingKey> {
        self.links.values().flat_map(|link| link.bindings.iter()).map(|(key, _)| key)
    }

    /// What a binding leads to, if it exists.
    pub(super) fn target(&self, kind: DestinationKind, name: &ShortStr) -> Option<Target> {
        match kind {
            DestinationKind::Queue => self.queues.get(name).cloned().map(Target::Queue),
            DestinationKind::Exchange => {
                let exchange = self.exchanges.get(name)?;
                Some(Target::Exchange(Arc::clone(&exchange.end)))
            }
        }
    }

    /// Adds a binding whose two ends exist.
    pub(super) fn add_binding(&mut self, key: BindingKey, binding: Binding, target: Target) {
        // As it will be found again: its arguments have an order in the key.
        let bind = key.to_bind();
        let Some(source) = self.exchanges.get_mut(&bind.source) else { return };
        let size = binding_size(source.spec.kind, &key, &bind);
        self.memory.add(owner_of(&target), size);
        source.router.add(&bind.routing_key, key.arguments(), target.clone());
        source.outgoing += 1;
        self.bindings += 1;
        match self.links.entry(LinkKey::of(&bind)) {
            Entry::Occupied(mut link) => {
                link.get_mut().bindings.add(key, binding);
                link.get_mut().size += size;
            }
            Entry::Vacant(entry) => {
                self.incoming.insert(entry.key().reversed());
                let (source, bindings) = (bind.source, Bindings::One(key, binding));
                entry.insert(Link { source, target, bindings, size });
            }
        }
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

    /// The links to something.
    fn links_to(&self, kind: DestinationKind, name: &ShortStr) -> Vec<LinkKey> {
        let from = (kind, name.clone(), ShortStr::default());
        let incoming =
            self.incoming.range(from..).take_while(|(k, to, _)| *k == kind && to == name);
        incoming
            .map(|(kind, destination, source)| LinkKey {
                source: source.clone(),
                kind: *kind,
                destination: destination.clone(),
            })
            .collect()
    }

    /// The links from an exchange.
    fn links_from(&self, source: &ShortStr) -> Vec<LinkKey> {
        let (kind, destination) = (DestinationKind::Queue, ShortStr::default());
        let from = LinkKey { source: source.clone(), kind, destination };
        let outgoing = self.links.range(from..).take_while(|(key, _)| key.source == *source);
        outgoing.map(|(key, _)| key.clone()).collect()
    }

    /// What goes with a queue: the bindings to it, and what is deleted with them.
    pub(super) fn plan_queue_removal(&self, queue: &Queue) -> Removal {
        let links = self.links_to(DestinationKind::Queue, queue.name());
        Removal { queue: Some(queue.name().clone()), ..self.plan(Vec::new(), links) }
    }

    /// What goes with an exchange: its bindings, and what is deleted with them.
    pub(super) fn plan_exchange_removal(&self, name: &ShortStr) -> Removal {
        self.plan(vec![name.clone()], Vec::new())
    }

    /// What goes with a binding that there is: `bind`, with that key.
    pub(super) fn plan_binding_removal(&self, bind: &Bind, key: &BindingKey) -> Removal {
        let link = LinkKey::of(bind);
        if self.links.get(&link).is_none_or(|link| link.bindings.len() == 1) {
            return self.plan(Vec::new(), vec![link]);
        }
        // Others stay, so that the exchange does.
        Removal { binding: Some(key.clone()), ..Removal::default() }
    }

    /// All but the pre-declared exchanges.
    pub(super) fn plan_everything(&self) -> Removal {
        let declared = self.exchanges.keys().filter(|name| !name.starts_with(b"amq."));
        Removal {
            exchanges: declared.cloned().collect(),
            links: self.links.keys().cloned().collect(),
            ..Removal::default()
        }
    }

    /// An auto-delete exchange goes with the last binding that it is the source of, which may be the last
    /// one of another exchange to it, and so on.
    fn plan(&self, mut going: Vec<ShortStr>, mut unbound: Vec<LinkKey>) -> Removal {
        let mut removal = Removal::default();
        let mut left: HashMap<ShortStr, usize> = HashMap::new();
        let mut bindings = 0;
        loop {
            while let Some(key) = unbound.pop() {
                let Some(link) = self.links.get(&key) else { continue };
                if !removal.links.insert(key) {
                    continue;
                }
                let Some(source) = self.exchanges.get(&link.source) else { continue };
                let left = left.entry(link.source.clone()).or_insert(source.outgoing);
                *left = left.saturating_sub(link.bindings.len());
                bindings += link.bindings.len();
                if *left == 0 && source.spec.auto_delete {
                    going.push(link.source.clone());
                }
            }
            let Some(name) = going.pop() else {
                removal.in_pieces = bindings > PRUNED_AT_ONCE;
                return removal;
            };
            if removal.exchanges.insert(name.clone()) {
                unbound.extend(self.links_from(&name));
                unbound.extend(self.links_to(DestinationKind::Exchange, &name));
            }
        }
    }

    /// The removal as changes to what is stored. The same requests always write the same bytes.
    pub(super) fn changes(&self, virtual_host: &ShortStr, removal: &Removal) -> Vec<Change> {
        let at_once = removal.links.iter();
        let at_once = at_once.filter(|key| !removal.in_pieces || !removal.takes_end_of(key));
        let of_links = at_once.filter_map(|key| self.links.get(key));
        let of_links = of_links.flat_map(|link| link.bindings.iter());
        let one = removal.binding.iter().filter_map(|key| {
            let link = self.links.get(&LinkKey::of(&key.to_bind()))?;
            Some((key, link.bindings.get(key)?))
        });
        let stored = of_links.chain(one).filter(|(_, binding)| binding.stored);
        let bindings = stored.map(|(key, _)| Change::remove(key.to_bytes()));
        let exchanges = removal
            .exchanges
            .iter()
            .filter(|name| self.exchanges.get(*name).is_some_and(|e| e.spec.durable))
            .map(|name| {
                ExchangeKey { virtual_host: virtual_host.clone(), name: name.clone() }.encode()
            });
        bindings.chain(exchanges.map(Change::remove)).collect()
    }

    /// Does what was planned, but for bindings that something deleted leaves [stale](Self::prune). A queue that goes as well must
    /// have been removed before, with the same lock held.
    pub(super) fn remove(&mut self, mut removal: Removal) -> Removed {
        let mut removed = Removed::default();
        if let Some(key) = removal.binding.take() {
            self.remove_binding(&key);
        }
        for name in &removal.exchanges {
            if let Some(exchange) = self.exchanges.remove(name) {
                exchange.end.set_gone();
                self.memory.remove(None, exchange_size(&exchange.spec));
                removed.exchanges.push(exchange);
            }
        }
        for key in std::mem::take(&mut removal.links) {
            self.incoming.remove(&key.reversed());
            let Some(link) = self.links.remove(&key) else { continue };
            self.bindings -= link.bindings.len();
            self.memory.remove(owner_of(&link.target), link.size);
            let is_recorded = !removal.in_pieces || !removal.takes_end_of(&key);
            match self.exchanges.get_mut(&link.source) {
                Some(source) => {
                    source.outgoing -= link.bindings.len();
                    if link.target.is_gone() {
                        self.stale.push(key, link, is_recorded, false);
                    } else {
                        // Its only binding has gone, and the target stays.
                        link.bindings.iter().for_each(|(key, _)| source.unbind(key, &link.target));
                    }
                }
                None if is_recorded => _ = removed.links.insert(key, link),
                None => self.stale.push(key, link, false, true),
            }
        }
        removed
    }

    /// Removes everything but the pre-declared exchanges, for good. Returns the queues.
    pub(super) fn close(&mut self) -> (Vec<Arc<Queue>>, Removed) {
        self.closed = true;
        let mut removed = Removed {
            links: std::mem::take(&mut self.links),
            _incoming: std::mem::take(&mut self.incoming),
            _stale: std::mem::take(&mut self.stale),
            ..Removed::default()
        };
        for (name, mut exchange) in std::mem::take(&mut self.exchanges) {
            if name.starts_with(b"amq.") {
                let router = Router::new(exchange.spec.kind);
                removed.routers.push(std::mem::replace(&mut exchange.router, router));
                exchange.outgoing = 0;
                self.exchanges.insert(name, exchange);
            } else {
                exchange.end.set_gone();
                removed.exchanges.push(exchange);
            }
        }
        self.owned.clear();
        self.memory = TopologyMemory::default();
        self.bindings = 0;
        let queues: Vec<_> = std::mem::take(&mut self.queues).into_values().collect();
        queues.iter().for_each(|queue| queue.set_gone());
        (queues, removed)
    }

    /// Removes one binding of a link of which others stay.
    fn remove_binding(&mut self, key: &BindingKey) {
        let bind = key.to_bind();
        let Some(link) = self.links.get_mut(&LinkKey::of(&bind)) else { return };
        let Some(source) = self.exchanges.get_mut(&bind.source) else { return };
        let size = binding_size(source.spec.kind, key, &bind);
        self.memory.remove(owner_of(&link.target), size);
        source.router.remove(&bind.routing_key, key.arguments(), &link.target);
        source.outgoing -= 1;
        link.bindings.remove(key);
        link.size -= size;
        self.bindings -= 1;
    }
}

/// The connection that a target goes with.
fn owner_of(target: &Target) -> Option<SessionId> {
    match target {
        Target::Queue(queue) => queue.spec().owner,
        Target::Exchange(_) => None,
    }
}
