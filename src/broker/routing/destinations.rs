//! What bindings lead to, and what a message was routed to.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::topic::{Effort, Walks};
use crate::broker::queue::Queue;
use crate::message::ShortStr;
use crate::storage::QueueId;

/// What a binding leads to.
#[derive(Debug, Clone)]
pub(in crate::broker) enum Target {
    /// A queue.
    Queue(Arc<Queue>),
    /// An exchange.
    Exchange(Arc<ExchangeEnd>),
}

/// An exchange, as bindings lead to it. A later exchange of the same name is another one.
#[derive(Debug)]
pub(in crate::broker) struct ExchangeEnd {
    name: ShortStr,
    number: u64,
    is_gone: AtomicBool,
}

impl ExchangeEnd {
    /// The end for an exchange with a number of its own.
    pub(in crate::broker) fn new(name: ShortStr, number: u64) -> Self {
        Self { name, number, is_gone: AtomicBool::new(false) }
    }

    /// The exchange has been deleted. Called with the topology locked exclusively, which publishers share.
    pub(in crate::broker) fn set_gone(&self) {
        self.is_gone.store(true, Relaxed);
    }
}

/// What tells targets apart, and orders them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Identity<'a> {
    Queue(QueueId),
    Exchange(&'a ShortStr, u64),
}

impl Target {
    /// Whether it has been deleted: bindings that lead to it are stale.
    pub(in crate::broker) fn is_gone(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.is_gone(),
            Self::Exchange(end) => end.is_gone.load(Relaxed),
        }
    }

    fn identity(&self) -> Identity<'_> {
        match self {
            Self::Queue(queue) => Identity::Queue(queue.id()),
            Self::Exchange(end) => Identity::Exchange(&end.name, end.number),
        }
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Target {}

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Target {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// A set of targets, each counted as often as it was added.
///
/// Sorted, so that adding a queue, which mostly is newer than all others, and removing one of ten
/// thousand are both quick.
#[derive(Debug, Default)]
pub(in crate::broker) struct Destinations {
    targets: Vec<(Target, u32)>,
}

impl Destinations {
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    fn find(&self, target: &Target) -> Result<usize, usize> {
        self.targets.binary_search_by(|(known, _)| known.identity().cmp(&target.identity()))
    }

    pub(super) fn add(&mut self, target: Target) {
        match self.find(&target) {
            Ok(place) => self.targets[place].1 += 1,
            Err(place) => self.targets.insert(place, (target, 1)),
        }
    }

    pub(super) fn remove(&mut self, target: &Target) {
        if let Ok(place) = self.find(target) {
            self.targets[place].1 -= 1;
            if self.targets[place].1 == 0 {
                self.targets.remove(place);
            }
        }
    }

    pub(super) fn add_to(&self, matches: &mut Matches) {
        for (target, _) in &self.targets {
            matches.add(target);
        }
    }
}

/// What one message is routed to. Kept by each channel and used again for every message, so that routing
/// does not allocate once it has warmed up.
#[derive(Debug, Default)]
pub(in crate::broker) struct Matches {
    queues: Vec<Arc<Queue>>,
    exchanges: Vec<ShortStr>,
    visited: HashSet<ShortStr>,
    /// Addresses of direct replies.
    replies: Vec<ShortStr>,
    /// Destinations found at topic exchanges for a message that has been put off.
    pub(super) walks: Walks,
    /// With so many targets, those that are there more than once are looked for.
    crowd: usize,
}

/// Fewer targets are no crowd, and not worth sorting again and again.
pub(in crate::broker) const NO_CROWD: usize = 32_768;

impl Matches {
    /// Forgets the last message's.
    pub(in crate::broker) fn clear(&mut self) {
        self.queues.clear();
        self.exchanges.clear();
        self.visited.clear();
        self.replies.clear();
        self.crowd = 0;
    }

    /// A message is about to be routed with that effort; if it was [put off](Self::is_put_off) before, again.
    /// `allowance` is what is left of the steps that its connection may take for glances in this turn.
    pub(in crate::broker) fn start(&mut self, effort: Effort, allowance: u64) {
        self.walks.start(effort, allowance);
    }

    /// The steps taken since then, where they are worth counting.
    pub(in crate::broker) fn steps_taken(&self) -> u64 {
        self.walks.taken()
    }

    /// Whether there is more to look at than the effort allows: what has been found is not all.
    pub(in crate::broker) fn is_put_off(&self) -> bool {
        self.walks.is_put_off()
    }

    /// The message has been routed, or never will be. Another one may be routed with any effort.
    pub(in crate::broker) fn finish(&mut self) {
        self.walks.finish();
    }

    /// Adds the address of a direct reply.
    pub(in crate::broker) fn add_reply(&mut self, address: &[u8]) {
        self.replies.push(ShortStr::copy_of(address));
    }

    /// The addresses of direct replies, each once.
    pub(in crate::broker) fn replies(&mut self) -> &[ShortStr] {
        if self.replies.len() > 1 {
            self.replies.sort_unstable();
            self.replies.dedup();
        }
        &self.replies
    }

    /// Adds what a binding leads to, unless it has been deleted.
    pub(super) fn add(&mut self, target: &Target) {
        match target {
            _ if target.is_gone() => {}
            Target::Queue(queue) => self.add_queue(queue),
            Target::Exchange(end) => self.add_exchange(&end.name),
        }
    }

    /// Adds an exchange.
    pub(in crate::broker) fn add_exchange(&mut self, name: &ShortStr) {
        self.exchanges.push(name.clone());
    }

    /// How many targets there are: while a message is at one exchange, it grows with each that takes it.
    pub(in crate::broker) fn len(&self) -> usize {
        self.queues.len() + self.exchanges.len()
    }

    /// Keeps the targets from becoming many more than there are different ones: a message with ten thousand keys that all lead to
    /// the same ten thousand queues would fill the memory with them.
    pub(in crate::broker) fn bound(&mut self) {
        if self.len() < self.crowd.max(NO_CROWD) {
            return;
        }
        self.queues.sort_unstable_by_key(|queue| queue.id());
        self.queues.dedup_by_key(|queue| queue.id());
        self.exchanges.sort_unstable();
        self.exchanges.dedup();
        self.crowd = 2 * self.len();
    }

    /// Adds a queue.
    pub(in crate::broker) fn add_queue(&mut self, queue: &Arc<Queue>) {
        self.queues.push(Arc::clone(queue));
    }

    /// Keeps the queues that `keep` is true for.
    pub(in crate::broker) fn retain_queues(&mut self, keep: impl FnMut(&Arc<Queue>) -> bool) {
        self.queues.retain(keep);
    }

    /// Counts an exchange as done, so that a cycle of bindings ends when it comes back to it.
    pub(in crate::broker) fn visit(&mut self, exchange: &ShortStr) {
        if !self.exchanges.is_empty() {
            self.visited.insert(exchange.clone());
        }
    }

    /// The next exchange that the message goes to and has not been to.
    pub(in crate::broker) fn next_exchange(&mut self) -> Option<ShortStr> {
        while let Some(name) = self.exchanges.pop() {
            if self.visited.insert(name.clone()) {
                return Some(name);
            }
        }
        None
    }

    /// The queues, each once. Call it when there are no more exchanges.
    pub(in crate::broker) fn queues(&mut self) -> &[Arc<Queue>] {
        if self.queues.len() > 1 {
            self.queues.sort_unstable_by_key(|queue| queue.id());
            self.queues.dedup_by_key(|queue| queue.id());
        }
        &self.queues
    }
}
