//! The rules that a queue goes by now, and what it has to remember for them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::arguments::counts_deliveries;
use super::dead_letters::WaitingSources;
use super::queue::Lifetime;
use super::rules::Rules;
use crate::message::FieldTable;

/// A queue's rules, which a policy may change at any time. Most queues have none: then one look at a flag is all, and a few bytes.
#[derive(Debug)]
pub(super) struct InForce {
    any: AtomicBool,
    /// Whether the bytes of bodies count.
    bytes: AtomicBool,
    /// Whether each delivery says how often the message came back.
    counts_deliveries: bool,
    /// Whether the queue has left the topology, so that bindings to it are stale. Here it takes no room.
    pub(super) is_gone: AtomicBool,
    details: OnceLock<Box<Details>>,
}

/// What is to be remembered of a queue with rules, or with messages that expire by themselves.
#[derive(Debug, Default)]
pub(super) struct Details {
    rules: RwLock<Arc<Rules>>,
    /// Messages that may expire are below this place.
    pub(super) timed_before: AtomicU64,
    /// Bytes of the bodies of ready messages, where the rules bound them.
    pub(super) ready_bytes: AtomicI64,
    pub(super) lifetime: Lifetime,
    /// Source queues whose dead letters wait for room in this queue.
    pub(super) waiting_sources: WaitingSources,
    /// Held by whoever carries dead letters away, so that they stay in order.
    pub(super) carrying: Mutex<()>,
}

impl InForce {
    /// Those of a queue with these arguments, and without a policy.
    pub(super) fn new(arguments: &FieldTable) -> Self {
        let this = Self {
            any: AtomicBool::new(false),
            bytes: AtomicBool::new(false),
            counts_deliveries: counts_deliveries(arguments),
            is_gone: AtomicBool::new(false),
            details: OnceLock::new(),
        };
        let rules = Rules::of_arguments(arguments);
        if !rules.is_plain() {
            this.set(rules);
        }
        this
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Whether they bound the bytes of bodies.
    pub(super) fn bounds_bytes(&self) -> bool {
        self.bytes.load(Relaxed)
    }

    /// Whether each delivery says how often the message came back.
    pub(super) fn counts_deliveries(&self) -> bool {
        self.counts_deliveries
    }

    /// Messages that may expire are below this place.
    pub(super) fn timed_before(&self) -> u64 {
        self.details.get().map_or(0, |details| details.timed_before.load(Relaxed))
    }

    /// What is remembered, if anything ever was to be.
    pub(super) fn remembered(&self) -> Option<&Details> {
        self.details.get().map(|details| &**details)
    }

    /// What is to be remembered.
    pub(super) fn details(&self) -> &Details {
        self.details.get_or_init(Box::default)
    }

    /// The rules.
    pub(super) fn get(&self) -> Arc<Rules> {
        Arc::clone(&self.details().rules.read())
    }

    /// From now on these are in force.
    pub(super) fn set(&self, rules: Rules) {
        let (any, bytes) = (!rules.is_plain(), rules.bounds_bytes());
        *self.details().rules.write() = Arc::new(rules);
        self.any.store(any, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }
}
