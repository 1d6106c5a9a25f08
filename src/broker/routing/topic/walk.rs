//! A walk through the trie of patterns, which can stop after any step and go on later.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::NodeId;
use crate::broker::routing::headers::Lookup;

/// Steps that a message takes on the way, with everybody else of its thread waiting.
const GLANCE: u64 = 8 * 1024;
/// Steps that a message takes in one of its turns, and that all glances of a connection take in one of its turns: about a
/// millisecond.
pub(in crate::broker) const PIECE: u64 = 64 * 1024;
/// A walk of so few steps is never put off, and not noted when it is done: to do it again costs no more.
const FREE: u64 = 64;
/// A thread keeps the memory of no larger walk.
const KEPT_NODES: usize = 1 << 20;

/// The effort that may be spent at once to route a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effort {
    /// Little. What comes to more is put off, and nothing of it is kept.
    Glance,
    /// A piece of what there is to do. What has been done is kept for the next piece.
    Piece,
    /// All of it.
    #[default]
    Whole,
}

/// The sets of nodes of a walk.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The nodes that the words so far lead to.
    pub(super) current: Vec<NodeId>,
    next: Vec<NodeId>,
    /// For each node the last set that it was added to.
    added_to: Vec<u64>,
    /// The number of the set `next`. No two sets of a thread's walks have the same.
    set: u64,
    /// The number of complete sets: one more than words.
    pub(super) words: usize,
    /// The next node of `current` to be looked at.
    pub(super) place: usize,
    /// Nodes looked at.
    pub(super) steps: u64,
}

thread_local! {
    /// The memory of the last walk, so that most of them do not allocate.
    static SPARE: Cell<Walk> = Cell::default();
}

impl Walk {
    /// A walk at its start.
    pub(super) fn begin() -> Self {
        let mut walk = SPARE.take();
        walk.restart();
        walk
    }

    fn restart(&mut self) {
        self.current.clear();
        self.next.clear();
        self.set += 1;
        (self.words, self.place, self.steps) = (0, 0, 0);
    }

    /// Gives the walk's memory back.
    pub(super) fn end(self) {
        if (1..=KEPT_NODES).contains(&self.added_to.len()) {
            SPARE.set(self);
        }
    }

    pub(super) fn is_at_start(&self) -> bool {
        self.words == 0
    }

    /// There are so many nodes.
    pub(super) fn fit(&mut self, nodes: usize) {
        if self.added_to.len() < nodes {
            self.added_to.resize(nodes, 0);
        }
    }

    /// Adds a node to the next set. Returns `false` if it is in it already.
    pub(super) fn enter(&mut self, node: NodeId) -> bool {
        let added_to = &mut self.added_to[node as usize];
        if *added_to == self.set {
            return false;
        }
        *added_to = self.set;
        self.next.push(node);
        true
    }

    /// The next set becomes the current one.
    pub(super) fn next_word(&mut self) {
        std::mem::swap(&mut self.current, &mut self.next);
        self.next.clear();
        self.set += 1;
        self.words += 1;
        self.place = 0;
    }
}

/// The progress of a message with one router.
#[derive(Debug)]
pub(super) struct Progress {
    router: u64,
    /// The router's version when it began.
    pub(super) version: u64,
    /// The number of the message's keys that are done.
    pub(super) keys: usize,
    /// The nodes that those keys lead to.
    pub(super) found: Vec<NodeId>,
    /// Of so many nodes found each is there once.
    distinct: usize,
    /// Of the next key.
    pub(super) walk: Walk,
    steps: u64,
}

impl Progress {
    pub(super) fn new(router: u64, version: u64, walk: Walk) -> Self {
        Self { router, version, keys: 0, found: Vec::new(), distinct: 0, walk, steps: 0 }
    }

    /// The walk of a key is done.
    pub(super) fn take_found(&mut self) {
        self.found.append(&mut self.walk.current);
        self.next_key();
    }

    /// A key is done. Several keys may lead to the same nodes.
    pub(super) fn next_key(&mut self) {
        self.keys += 1;
        self.steps += self.walk.steps;
        self.walk.restart();
        if self.found.len() > 2 * self.distinct + FREE as usize {
            self.found.sort_unstable();
            self.found.dedup();
            self.distinct = self.found.len();
        }
    }
}

/// Lookups of a message in topic and headers exchanges that take more than one piece.
#[derive(Debug, Default)]
pub(in crate::broker::routing) struct Walks {
    effort: Effort,
    /// Steps that are left of the effort.
    left: u64,
    /// Steps taken since the start.
    taken: u64,
    is_put_off: bool,
    /// By the router.
    kept: BTreeMap<u64, Progress>,
    /// The same for headers exchanges.
    lookups: BTreeMap<u64, Lookup>,
}

impl Walks {
    /// A message is about to be routed, for the first time or again. `allowance` bounds the steps of a glance.
    pub(in crate::broker::routing) fn start(&mut self, effort: Effort, allowance: u64) {
        self.effort = effort;
        self.is_put_off = false;
        self.taken = 0;
        self.left = match effort {
            Effort::Glance => GLANCE.min(allowance),
            Effort::Piece => PIECE,
            Effort::Whole => u64::MAX,
        };
    }

    /// A piece is to have that many steps.
    #[cfg(test)]
    pub(in crate::broker::routing) fn start_piece(&mut self, steps: u64) {
        self.start(Effort::Piece, 0);
        self.left = steps;
    }

    /// Steps taken since the start of a lookup without a limit.
    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        u64::MAX - self.left
    }

    /// The message has been routed.
    pub(in crate::broker::routing) fn finish(&mut self) {
        (self.effort, self.is_put_off, self.left) = (Effort::Whole, false, u64::MAX);
        if !self.kept.is_empty() {
            self.kept = BTreeMap::new();
        }
        if !self.lookups.is_empty() {
            self.lookups = BTreeMap::new();
        }
    }

    /// Whether there is more to do than could be done.
    pub(in crate::broker::routing) fn is_put_off(&self) -> bool {
        self.is_put_off
    }

    /// Whether nothing is known of the message.
    pub(super) fn is_idle(&self) -> bool {
        self.kept.is_empty()
    }

    /// The number of steps at which a walk that has taken `steps` has to stop.
    pub(in crate::broker::routing) fn limit(&self, steps: u64) -> u64 {
        if self.effort == Effort::Whole { u64::MAX } else { steps + self.left.max(FREE) }
    }

    pub(in crate::broker::routing) fn spent(&mut self, steps: u64) {
        self.left = self.left.saturating_sub(steps);
        self.taken += steps;
    }

    /// The steps taken since the start, where they are worth counting.
    pub(in crate::broker::routing) fn taken(&self) -> u64 {
        if self.taken > FREE { self.taken } else { 0 }
    }

    pub(in crate::broker::routing) fn effort(&self) -> Effort {
        self.effort
    }

    /// Whether something of so many steps, which cannot be cut, has to wait for the next piece.
    pub(in crate::broker::routing) fn lacks(&self, steps: u64) -> bool {
        match self.effort {
            Effort::Whole => false,
            Effort::Glance => steps > self.left.max(FREE),
            Effort::Piece => steps > self.left.max(FREE) && self.left < PIECE,
        }
    }

    /// The message has to wait.
    pub(in crate::broker::routing) fn wait(&mut self) {
        self.is_put_off = true;
    }

    /// Takes the message's progress with a headers exchange, unless too much has changed there since the version
    /// `complete_from`.
    pub(in crate::broker::routing) fn take_lookup(
        &mut self,
        router: u64,
        complete_from: u64,
    ) -> Option<Lookup> {
        self.lookups.remove(&router).filter(|lookup| lookup.version >= complete_from)
    }

    /// Keeps the message's progress with a headers exchange for the next piece.
    pub(in crate::broker::routing) fn keep_lookup(&mut self, router: u64, lookup: Lookup) {
        if self.effort == Effort::Piece && lookup.steps > FREE {
            self.lookups.insert(router, lookup);
        }
    }

    /// Takes the message's progress with a router, unless too much has changed there since the version `complete_from`.
    pub(super) fn take(&mut self, router: u64, complete_from: u64) -> Option<Progress> {
        self.kept.remove(&router).filter(|progress| progress.version >= complete_from)
    }

    /// The message has to wait.
    pub(super) fn put_off(&mut self, progress: Progress) {
        self.is_put_off = true;
        if self.effort == Effort::Glance {
            // Anybody may be so far, with memory for as many nodes as there are.
            progress.walk.end();
        } else {
            self.kept.insert(progress.router, progress);
        }
    }

    /// The message need not come back to a router.
    pub(super) fn done(&mut self, mut progress: Progress) {
        if self.effort == Effort::Piece && progress.steps > FREE {
            std::mem::take(&mut progress.walk).end();
            self.kept.insert(progress.router, progress);
        } else {
            progress.walk.end();
        }
    }
}
