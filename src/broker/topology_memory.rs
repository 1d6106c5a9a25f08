//! The memory that queues, exchanges and bindings take, counted in bytes.
//!
//! Sizes are reckoned from what a client has said, never measured, so that each is taken back as it was added. They include
//! what the hash tables need to spare, and what the engine and the routers hold for the object.

use std::collections::HashMap;

use super::arguments::max_priority;
use super::exchange::{Exchange, ExchangeSpec};
use super::queue::{Queue, QueueSpec};
use super::record::BindingKey;
use super::request::Bind;
use super::routing::{ExchangeKind, PATTERN_WORD};
use super::session::SessionId;
use crate::message::FieldTable;

/// A binding in the topology's maps, in its exchange's router and in the store, without its bytes.
const BINDING: usize = 480;
/// A key of a direct exchange, with the one queue that it leads to, without its bytes.
const DIRECT_KEY: usize = 160;
/// A queue in the topology's maps, without its names and arguments.
const QUEUE: usize = 256 + size_of::<Queue>();
/// A queue of the engine. All that a queue with priorities can have count from the start, although each is created with the first
/// message of its priority: no message is refused for lack of memory for topology.
const LEVEL: usize = 320;
/// An exchange in the topology's maps, without its names and arguments.
const EXCHANGE: usize = 256 + size_of::<Exchange>();

/// Bytes of a virtual host's topology.
#[derive(Debug, Default)]
pub(super) struct TopologyMemory {
    all: usize,
    /// The bytes that go with a connection: its exclusive queues, and the bindings to them.
    owned: HashMap<SessionId, usize>,
}

impl TopologyMemory {
    /// Bytes of everything.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// Bytes of what goes with a connection.
    pub(super) fn owned_by(&self, session: SessionId) -> usize {
        self.owned.get(&session).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, owner: Option<SessionId>, size: usize) {
        self.all += size;
        if let Some(owner) = owner {
            *self.owned.entry(owner).or_default() += size;
        }
    }

    pub(super) fn remove(&mut self, owner: Option<SessionId>, size: usize) {
        self.all = self.all.saturating_sub(size);
        if let Some(owner) = owner
            && let Some(owned) = self.owned.get_mut(&owner)
        {
            *owned = owned.saturating_sub(size);
            if *owned == 0 {
                self.owned.remove(&owner);
            }
        }
    }
}

/// The size of a binding. Its key is in memory once, and the store and a headers exchange share it; routing keys are there a second time
/// where an exchange looks them up. A word of a pattern may be a node of its own; whether it is, depends on other bindings.
pub(super) fn binding_size(kind: ExchangeKind, key: &BindingKey, bind: &Bind) -> usize {
    let routing_key = &bind.routing_key;
    let looked_up = match kind {
        ExchangeKind::Topic => {
            let words = 1 + routing_key.iter().filter(|byte| **byte == b'.').count();
            words * PATTERN_WORD + routing_key.len()
        }
        ExchangeKind::Direct => DIRECT_KEY + routing_key.len(),
        ExchangeKind::Fanout | ExchangeKind::Headers => 0,
    };
    BINDING + key.len() + looked_up
}

/// The size of a queue: its arguments are there once unpacked, and once as they are stored.
pub(super) fn queue_size(spec: &QueueSpec) -> usize {
    let levels = usize::from(max_priority(&spec.arguments)) + 1;
    QUEUE + levels * LEVEL + 2 * spec.name.len() + arguments_size(&spec.arguments)
}

/// The size of an exchange.
pub(super) fn exchange_size(spec: &ExchangeSpec) -> usize {
    EXCHANGE + 2 * spec.name.len() + arguments_size(&spec.arguments)
}

fn arguments_size(arguments: &FieldTable) -> usize {
    arguments.memory_size() + arguments.to_bytes().len()
}
