//! Bindings that a deleted queue or exchange has left behind.
//!
//! A queue or an exchange may have a million bindings. Its deletion takes their links out of the topology's maps as they are.
//! Routers know bindings one by one: those to something deleted stay in them as *stale* ones, lead nowhere, and are
//! [pruned](Topology::prune) in pieces, with the lock released in between. They are told from new ones because no queue or
//! exchange is ever the same as an earlier one of its name.
//!
//! The record of a deletion holds its bindings if they are few. Of a larger one it holds the queue or exchange alone; the
//! bindings follow with the pieces. After a crash in between, the start removes them, because one of their ends is missing.
//!
//! Invariant: a queue or an exchange is not declared while the store has bindings of an earlier one of its name. After a
//! restart they would be its own.

use std::collections::{HashMap, VecDeque};

use super::{Link, LinkKey, Topology};
use crate::broker::request::DestinationKind;
use crate::message::ShortStr;
use crate::storage::Change;

/// Links with a deleted end, the oldest first.
#[derive(Debug, Default)]
pub(super) struct StaleLinks {
    links: VecDeque<StaleLink>,
    /// The deleted queues and exchanges that the store has bindings of, with the number of their links.
    stored: HashMap<(DestinationKind, ShortStr), usize>,
}

/// A link with a deleted end.
#[derive(Debug)]
struct StaleLink {
    key: LinkKey,
    link: Link,
    /// Whether the store has none of its bindings any more.
    is_recorded: bool,
    /// The ends that were deleted with it.
    is_source_gone: bool,
    is_target_gone: bool,
}

impl StaleLink {
    /// Its deleted ends whose names must not be used again yet.
    fn names(&self) -> impl Iterator<Item = (DestinationKind, ShortStr)> {
        let LinkKey { source, kind, destination } = &self.key;
        let source = self.is_source_gone.then(|| (DestinationKind::Exchange, source.clone()));
        let target = self.is_target_gone.then(|| (*kind, destination.clone()));
        source.into_iter().chain(target).filter(|_| !self.is_recorded)
    }
}

impl StaleLinks {
    /// Adds a link that has been taken out of the maps. `is_recorded`: the store has none of its bindings any more.
    pub(super) fn push(
        &mut self,
        key: LinkKey,
        link: Link,
        is_recorded: bool,
        is_source_gone: bool,
    ) {
        let is_target_gone = link.target.is_gone();
        let stale = StaleLink { key, link, is_recorded, is_source_gone, is_target_gone };
        stale.names().for_each(|name| *self.stored.entry(name).or_default() += 1);
        self.links.push_back(stale);
    }

    fn pop(&mut self) {
        let Some(stale) = self.links.pop_front() else { return };
        for name in stale.names() {
            if let Some(links) = self.stored.get_mut(&name) {
                *links -= 1;
                if *links == 0 {
                    self.stored.remove(&name);
                }
            }
        }
    }
}

impl Topology {
    /// Takes stale bindings out of the routers, in `most` steps. Returns the changes that remove them from the store: the
    /// caller must apply these before it unlocks the topology.
    #[must_use = "the store has the bindings until the changes are applied"]
    pub(in crate::broker) fn prune(&mut self, most: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..most {
            let Some(StaleLink { link, is_recorded, .. }) = self.stale.links.front_mut() else {
                break;
            };
            let Some((key, binding)) = link.bindings.pop() else {
                self.stale.pop();
                continue;
            };
            if binding.stored && !*is_recorded {
                changes.push(Change::remove(key.to_bytes()));
            }
            // If the source has gone, another one of its name has never had them.
            if let Some(source) = self.exchanges.get_mut(&link.source) {
                source.unbind(&key, &link.target);
            }
        }
        changes
    }

    /// Whether there are stale bindings.
    pub(in crate::broker) fn has_stale(&self) -> bool {
        !self.stale.links.is_empty()
    }

    /// Whether the store has bindings of a deleted queue or exchange of that name. Until they are pruned, there must be no new one.
    pub(in crate::broker) fn is_going(&self, kind: DestinationKind, name: &ShortStr) -> bool {
        !self.stale.stored.is_empty() && self.stale.stored.contains_key(&(kind, name.clone()))
    }

    /// How many stale bindings there are.
    #[cfg(test)]
    pub(in crate::broker) fn stale_bindings(&self) -> usize {
        self.stale.links.iter().map(|stale| stale.link.bindings.len()).sum()
    }
}
