//! Topic exchanges: the binding's key is a pattern of words separated by dots, in which `*` stands for
//! exactly one word and `#` for any number of words, also none.
//!
//! The patterns form a trie of words. A routing key is matched by a [walk](walk::Walk) down all matching branches at the
//! same time, one word after the other, with a set of nodes: a `#` node stays in the set, and no node is in it twice. So a
//! lookup takes at most words × nodes steps, and a pattern with many `#`, over which backtracking takes exponential time,
//! costs no more than others. Runs of wildcards are brought into one form first: `#.*.#` is `*.#`.
//!
//! # Long lookups
//! Thousands of long patterns are millions of steps, which nobody else must wait for. A walk can stop after any step, let go
//! of the topology's lock, and go on later ([`Walks`]). Patterns that are added meanwhile are noted (`news`) and
//! compared with the key one by one at the end; nodes that are removed meanwhile are recognised by when they came into being.
//! So what is found is what the bindings lead to at the end of the walk. The result of a long lookup is remembered until a
//! binding of the exchange changes.

mod remembered;
mod walk;

use std::collections::HashMap;

use self::remembered::Remembered;
pub use self::walk::Effort;
pub(in crate::broker) use self::walk::PIECE;
pub(super) use self::walk::Walks;
use self::walk::{Progress, Walk};
use super::destinations::{Destinations, Matches, Target};
use super::news::News;
use super::next_router;
use crate::message::ShortStr;

/// A trie of patterns.
#[derive(Debug)]
pub(in crate::broker) struct TopicRouter {
    /// Tells routers apart for as long as the process runs.
    id: u64,
    nodes: Vec<Node>,
    /// Nodes that no pattern uses any more.
    free: Vec<NodeId>,
    words: Words,
    /// The number of additions of nodes.
    version: u64,
    /// Patterns that were added while a walk was put off.
    news: News<ShortStr>,
    remembered: Remembered,
    /// Bytes of memory that the nodes take.
    bytes: usize,
}

type NodeId = u32;
type WordId = u32;

/// No node's child, so it stands for "none" among children.
const ROOT: NodeId = 0;

/// The most that a word of a pattern takes besides its text.
pub(in crate::broker) const PATTERN_WORD: usize = size_of::<Node>() + 6 * TABLE_ENTRY;

/// A walk of so many steps is worth remembering.
const LONG: u64 = 1024;

#[derive(Debug, Default)]
struct Node {
    /// What the pattern that ends here leads to.
    destinations: Destinations,
    children: Children,
    star: NodeId,
    hash: NodeId,
    /// The version of the router that added it.
    born: u64,
    /// Reached through `#`: it matches further words by staying where it is.
    is_hash: bool,
}

/// The nodes that a word leads to. Nearly all nodes have one or none.
#[derive(Debug, Default)]
// In a box, because nearly all nodes have no such table.
#[allow(clippy::box_collection)]
enum Children {
    #[default]
    None,
    One(WordId, NodeId),
    Many(Box<HashMap<WordId, NodeId>>),
}

/// The words of all patterns, each stored once.
#[derive(Debug, Default)]
struct Words {
    ids: HashMap<Box<[u8]>, WordId>,
    /// The number of nodes that a word leads to, by its id.
    uses: Vec<u32>,
    free: Vec<WordId>,
}

/// The words of a key; an empty key has none.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == b'.').filter(move |_| !key.is_empty())
}

/// The words of a pattern, with each run of wildcards in one form: first `*` as often as it is there, then one `#` if
/// there is any.
fn canonical(pattern: &[u8]) -> Vec<&[u8]> {
    let mut out: Vec<&[u8]> = Vec::new();
    let mut pending = false;
    for word in words(pattern) {
        match word {
            b"#" => pending = true,
            b"*" => out.push(word),
            word => {
                if std::mem::take(&mut pending) {
                    out.push(b"#");
                }
                out.push(word);
            }
        }
    }
    if pending {
        out.push(b"#");
    }
    out
}

/// Whether a pattern matches a key: word by word, going back to the last `#` only.
fn is_match(pattern: &[u8], key: &[u8]) -> bool {
    let (pattern, key) = (canonical(pattern), words(key).collect::<Vec<_>>());
    let (mut at, mut place, mut last_hash) = (0, 0, None);
    while place < key.len() {
        match pattern.get(at) {
            Some(&b"#") => {
                at += 1;
                last_hash = Some((at, place));
            }
            Some(&word) if word == b"*" || word == key[place] => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((behind, from)) = last_hash else { return false };
                (at, place) = (behind, from + 1);
                last_hash = Some((at, place));
            }
        }
    }
    pattern[at..].iter().all(|word| *word == b"#")
}

impl Default for TopicRouter {
    fn default() -> Self {
        Self {
            id: next_router(),
            nodes: vec![Node::default()],
            free: Vec::new(),
            words: Words::default(),
            version: 0,
            news: News::default(),
            remembered: Remembered::default(),
            bytes: 0,
        }
    }
}

impl TopicRouter {
    pub(super) fn add(&mut self, pattern: &[u8], target: Target) {
        self.remembered.forget();
        let mut at = ROOT;
        let mut is_new = false;
        for word in canonical(pattern) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => {
                    if !std::mem::replace(&mut is_new, true) {
                        self.version += 1;
                    }
                    self.add_child(at, word)
                }
            };
        }
        // A walk that began before this node was born passes it over.
        let node = self.node(at);
        if node.destinations.is_empty() && node.born > self.news.complete_from() {
            let born = node.born;
            self.news.add(born, self.version, || ShortStr::copy_of(pattern));
        }
        self.node_mut(at).destinations.add(target);
    }

    pub(super) fn remove(&mut self, pattern: &[u8], target: &Target) {
        self.remembered.forget();
        let named = canonical(pattern);
        let mut path = vec![ROOT];
        let mut at = ROOT;
        for word in &named {
            let Some(child) = self.child(at, word) else { return };
            path.push(child);
            at = child;
        }
        self.node_mut(at).destinations.remove(target);
        // Words from the last to the first, each with the node that it leads to.
        for (depth, word) in named.iter().enumerate().rev() {
            let node = path[depth + 1];
            if !self.node(node).is_unused() {
                break;
            }
            self.remove_child(path[depth], word);
            // Not what a walk that has been put off takes it for.
            *self.node_mut(node) = Node { born: u64::MAX, ..Node::default() };
            self.free.push(node);
        }
    }

    /// Adds everything to `matches` that a message with these keys goes to, or puts it off.
    pub(super) fn route(&self, keys: &[&[u8]], matches: &mut Matches) {
        if let [key] = keys
            && matches.walks.is_idle()
            && self.remembered.is_empty()
        {
            let mut walk = Walk::begin();
            if self.walk(key, &mut walk, self.version, &mut matches.walks) {
                self.add_found(&walk.current, self.version, matches);
                self.remember(key, &walk);
                walk.end();
            } else {
                let progress = Progress::new(self.id, self.version, walk);
                self.put_off(progress, matches);
            }
            return;
        }
        self.route_on(keys, matches);
    }

    /// Routes a message that has several keys, has been put off before, or whose key is perhaps remembered.
    #[cold]
    fn route_on(&self, keys: &[&[u8]], matches: &mut Matches) {
        let known = matches.walks.take(self.id, self.news.complete_from());
        let mut progress =
            known.unwrap_or_else(|| Progress::new(self.id, self.version, Walk::begin()));
        while let Some(key) = keys.get(progress.keys) {
            if progress.walk.is_at_start() && self.remembered.recall(key, &mut progress.found) {
                progress.next_key();
                continue;
            }
            if !self.walk(key, &mut progress.walk, progress.version, &mut matches.walks) {
                return self.put_off(progress, matches);
            }
            self.remember(key, &progress.walk);
            progress.take_found();
        }
        self.add_found(&progress.found, progress.version, matches);
        for pattern in self.news.since(progress.version) {
            if keys.iter().any(|key| is_match(pattern, key))
                && let Some(node) = self.find(pattern)
            {
                self.node(node).destinations.add_to(matches);
            }
        }
        matches.walks.done(progress);
    }

    fn put_off(&self, progress: Progress, matches: &mut Matches) {
        self.news.want();
        matches.walks.put_off(progress);
    }

    fn add_found(&self, found: &[NodeId], version: u64, matches: &mut Matches) {
        for &node in found {
            let node = self.node(node);
            if node.born <= version {
                node.destinations.add_to(matches);
            }
        }
    }

    fn remember(&self, key: &[u8], walk: &Walk) {
        if walk.steps >= LONG {
            let found = walk.current.iter().copied();
            let found = found.filter(|node| !self.node(*node).destinations.is_empty());
            self.remembered.insert(key, found.collect(), self.bytes);
        }
    }

    /// Leaves in `walk.current` the nodes whose patterns match the key. Returns `false` if there is more to look at than
    /// the message may now.
    fn walk(&self, key: &[u8], walk: &mut Walk, version: u64, walks: &mut Walks) -> bool {
        let begin = walk.steps;
        let limit = walks.limit(begin);
        if walk.is_at_start() {
            walk.fit(self.nodes.len());
            self.enter(ROOT, walk);
            walk.next_word();
        }
        // Nodes may have been added since.
        walk.fit(self.nodes.len());
        for word in words(key).skip(walk.words - 1) {
            let word = self.words.ids.get(word).copied();
            while let Some(&at) = walk.current.get(walk.place) {
                if walk.steps >= limit {
                    walks.spent(walk.steps - begin);
                    return false;
                }
                walk.steps += 1;
                walk.place += 1;
                let node = self.node(at);
                if node.born > version {
                    continue;
                }
                if node.is_hash {
                    self.enter(at, walk);
                }
                if let Some(child) = word.and_then(|word| node.children.get(word)) {
                    self.enter(child, walk);
                }
                if node.star != ROOT {
                    self.enter(node.star, walk);
                }
            }
            walk.next_word();
            if walk.current.is_empty() {
                break;
            }
        }
        walks.spent(walk.steps - begin);
        true
    }

    /// Adds a node to the next set, and what `#` reaches from it without a word.
    fn enter(&self, at: NodeId, walk: &mut Walk) {
        if walk.enter(at) {
            let hash = self.node(at).hash;
            if hash != ROOT {
                // No `#` follows a `#`.
                walk.enter(hash);
            }
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The node where a pattern ends.
    fn find(&self, pattern: &[u8]) -> Option<NodeId> {
        canonical(pattern).into_iter().try_fold(ROOT, |at, word| self.child(at, word))
    }

    fn child(&self, parent: NodeId, word: &[u8]) -> Option<NodeId> {
        let parent = self.node(parent);
        let child = match word {
            b"*" => parent.star,
            b"#" => parent.hash,
            word => parent.children.get(*self.words.ids.get(word)?)?,
        };
        (child != ROOT).then_some(child)
    }

    fn add_child(&mut self, parent: NodeId, word: &[u8]) -> NodeId {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId::try_from(self.nodes.len() - 1).expect("memory ends before four billion nodes")
        });
        self.bytes += size_of::<Node>();
        let (is_hash, born) = (word == b"#", self.version);
        *self.node_mut(child) = Node { is_hash, born, ..Node::default() };
        match word {
            b"*" => self.node_mut(parent).star = child,
            b"#" => self.node_mut(parent).hash = child,
            word => {
                let word = self.words.take(word, &mut self.bytes);
                let parent = &mut self.nodes[parent as usize];
                parent.children.add(word, child, &mut self.bytes);
            }
        }
        child
    }

    fn remove_child(&mut self, parent: NodeId, word: &[u8]) {
        self.bytes -= size_of::<Node>();
        match word {
            b"*" => self.node_mut(parent).star = ROOT,
            b"#" => self.node_mut(parent).hash = ROOT,
            word => {
                if let Some(id) = self.words.release(word, &mut self.bytes) {
                    let parent = &mut self.nodes[parent as usize];
                    parent.children.remove(id, &mut self.bytes);
                }
            }
        }
    }
}

impl Node {
    fn is_unused(&self) -> bool {
        matches!(self.children, Children::None)
            && self.star == ROOT
            && self.hash == ROOT
            && self.destinations.is_empty()
    }
}

/// The bytes of an entry of a small hash table, spare room included.
const TABLE_ENTRY: usize = 16;

impl Children {
    fn get(&self, word: WordId) -> Option<NodeId> {
        match self {
            Self::None => None,
            Self::One(known, child) => (*known == word).then_some(*child),
            Self::Many(children) => children.get(&word).copied(),
        }
    }

    fn add(&mut self, word: WordId, child: NodeId, bytes: &mut usize) {
        match self {
            Self::None => *self = Self::One(word, child),
            Self::One(known, first) => {
                *bytes += size_of::<HashMap<WordId, NodeId>>() + 2 * TABLE_ENTRY;
                *self = Self::Many(Box::new(HashMap::from([(*known, *first), (word, child)])));
            }
            Self::Many(children) => {
                *bytes += TABLE_ENTRY;
                children.insert(word, child);
            }
        }
    }

    fn remove(&mut self, word: WordId, bytes: &mut usize) {
        match self {
            Self::None => {}
            Self::One(..) => *self = Self::None,
            Self::Many(children) => {
                children.remove(&word);
                *bytes -= TABLE_ENTRY;
                let last = (children.len() == 1).then(|| children.drain().next()).flatten();
                if let Some((word, child)) = last {
                    *bytes -= size_of::<HashMap<WordId, NodeId>>() + TABLE_ENTRY;
                    *self = Self::One(word, child);
                }
            }
        }
    }
}

impl Words {
    /// The size of a word in memory.
    fn size(word: &[u8]) -> usize {
        word.len() + size_of::<(Box<[u8]>, WordId)>() + TABLE_ENTRY
    }

    /// The number of a word that one more node is reached through.
    fn take(&mut self, word: &[u8], bytes: &mut usize) -> WordId {
        if let Some(&id) = self.ids.get(word) {
            self.uses[id as usize] += 1;
            return id;
        }
        *bytes += Self::size(word);
        let id = self.free.pop().unwrap_or_else(|| {
            self.uses.push(0);
            WordId::try_from(self.uses.len() - 1).expect("memory ends before four billion words")
        });
        self.uses[id as usize] = 1;
        self.ids.insert(word.into(), id);
        id
    }

    /// One node less is reached through a word. Returns its number.
    fn release(&mut self, word: &[u8], bytes: &mut usize) -> Option<WordId> {
        let id = *self.ids.get(word)?;
        let uses = &mut self.uses[id as usize];
        *uses -= 1;
        if *uses == 0 {
            *bytes -= Self::size(word);
            self.ids.remove(word);
            self.free.push(id);
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests;
