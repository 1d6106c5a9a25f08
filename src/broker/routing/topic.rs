//! Topic exchanges: the binding's key is a pattern of words separated by dots, in which `*` stands for
//! exactly one word and `#` for any number of words, also none.
//!
//! The patterns form a trie of words. A routing key is matched by walking down all matching branches at
//! the same time, one word after the other, with a set of nodes: a `#` node stays in the set, and no
//! node is in it twice. So a lookup takes at most words × nodes steps, and a pattern with many `#`,
//! over which backtracking takes exponential time, costs no more than others.

use std::collections::HashMap;

use super::destinations::{Destinations, Matches, Target};

/// A trie of patterns.
#[derive(Debug)]
pub(in crate::broker) struct TopicRouter {
    nodes: Vec<Node>,
    /// Nodes that no pattern uses any more.
    free: Vec<NodeId>,
}

type NodeId = u32;
const ROOT: NodeId = 0;

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<[u8]>, NodeId>,
    star: Option<NodeId>,
    hash: Option<NodeId>,
    /// Reached through `#`: it matches further words by staying where it is.
    is_hash: bool,
    /// What the pattern that ends here leads to.
    destinations: Destinations,
}

impl Default for TopicRouter {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

/// The sets of nodes of a lookup, kept so that lookups do not allocate.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    current: Vec<NodeId>,
    next: Vec<NodeId>,
    /// For each node the last step in which it was added to a set.
    added_in: Vec<u64>,
    step: u64,
}

/// The words of a key; an empty key has none.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == b'.').filter(move |_| !key.is_empty())
}

impl TopicRouter {
    pub(super) fn add(&mut self, pattern: &[u8], target: Target) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.node_mut(at).destinations.add(target);
    }

    pub(super) fn remove(&mut self, pattern: &[u8], target: &Target) {
        let mut path = vec![ROOT];
        let mut at = ROOT;
        for word in words(pattern) {
            let Some(child) = self.child(at, word) else { return };
            path.push(child);
            at = child;
        }
        self.node_mut(at).destinations.remove(target);
        // Words from the last to the first, each with the node that it leads to.
        let named: Vec<&[u8]> = words(pattern).collect();
        for (depth, word) in named.iter().enumerate().rev() {
            let node = path[depth + 1];
            if !self.node(node).is_unused() {
                break;
            }
            let parent = self.node_mut(path[depth]);
            match *word {
                b"*" => parent.star = None,
                b"#" => parent.hash = None,
                word => drop(parent.words.remove(word)),
            }
            *self.node_mut(node) = Node::default();
            self.free.push(node);
        }
    }

    pub(super) fn route(&self, key: &[u8], matches: &mut Matches) {
        let mut scratch = std::mem::take(&mut matches.topic);
        self.walk(key, &mut scratch);
        for &node in &scratch.current {
            self.node(node).destinations.add_to(matches);
        }
        matches.topic = scratch;
    }

    /// Leaves in `scratch.current` the nodes whose patterns match the key.
    fn walk(&self, key: &[u8], scratch: &mut Scratch) {
        if scratch.added_in.len() < self.nodes.len() {
            scratch.added_in.resize(self.nodes.len(), 0);
        }
        scratch.next.clear();
        scratch.step += 1;
        self.enter(ROOT, scratch);
        std::mem::swap(&mut scratch.current, &mut scratch.next);
        for word in words(key) {
            scratch.next.clear();
            scratch.step += 1;
            for place in 0..scratch.current.len() {
                let at = scratch.current[place];
                let node = self.node(at);
                if node.is_hash {
                    self.enter(at, scratch);
                }
                if let Some(child) = node.words.get(word) {
                    self.enter(*child, scratch);
                }
                if let Some(child) = node.star {
                    self.enter(child, scratch);
                }
            }
            std::mem::swap(&mut scratch.current, &mut scratch.next);
            if scratch.current.is_empty() {
                return;
            }
        }
    }

    /// Adds a node to the next set, and what `#` reaches from it without a word.
    fn enter(&self, at: NodeId, scratch: &mut Scratch) {
        let mut entering = Some(at);
        while let Some(at) = entering {
            let added_in = &mut scratch.added_in[at as usize];
            if *added_in == scratch.step {
                return;
            }
            *added_in = scratch.step;
            scratch.next.push(at);
            entering = self.node(at).hash;
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    fn child(&self, parent: NodeId, word: &[u8]) -> Option<NodeId> {
        let parent = self.node(parent);
        match word {
            b"*" => parent.star,
            b"#" => parent.hash,
            word => parent.words.get(word).copied(),
        }
    }

    fn add_child(&mut self, parent: NodeId, word: &[u8]) -> NodeId {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId::try_from(self.nodes.len() - 1).expect("memory ends before four billion nodes")
        });
        self.node_mut(child).is_hash = word == b"#";
        let parent = self.node_mut(parent);
        match word {
            b"*" => parent.star = Some(child),
            b"#" => parent.hash = Some(child),
            word => drop(parent.words.insert(word.into(), child)),
        }
        child
    }
}

impl Node {
    fn is_unused(&self) -> bool {
        self.words.is_empty()
            && self.star.is_none()
            && self.hash.is_none()
            && self.destinations.is_empty()
    }
}

#[cfg(test)]
mod tests;
