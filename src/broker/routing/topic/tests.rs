//! The trie against a matcher that is too simple to be wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;
use crate::broker::routing::ExchangeEnd;
use crate::message::ShortStr;

fn naive(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        ([b"#", rest @ ..], _) => (0..=key.len()).any(|skipped| naive(rest, &key[skipped..])),
        ([b"*", rest @ ..], [_, key @ ..]) => naive(rest, key),
        ([word, rest @ ..], [first, key @ ..]) => word == first && naive(rest, key),
        _ => false,
    }
}

fn naive_match(pattern: &str, key: &str) -> bool {
    let pattern: Vec<&[u8]> = words(pattern.as_bytes()).collect();
    let key: Vec<&[u8]> = words(key.as_bytes()).collect();
    naive(&pattern, &key)
}

/// Every pattern leads to an exchange of the pattern's name.
fn target(pattern: &str) -> Target {
    Target::Exchange(Arc::new(ExchangeEnd::new(ShortStr::try_from(pattern).unwrap(), 0)))
}

fn found(router: &TopicRouter, key: &str, matches: &mut Matches) -> Vec<String> {
    matches.clear();
    router.route(&[key.as_bytes()], matches);
    exchanges(matches)
}

fn exchanges(matches: &mut Matches) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(name) = matches.next_exchange() {
        found.push(name.to_string());
    }
    found.sort();
    found
}

/// Words from a small alphabet, so that patterns and keys meet.
#[derive(Clone, Debug)]
struct Pattern(String);

#[derive(Clone, Debug)]
struct Key(String);

fn joined(g: &mut Gen, alphabet: &[&str], longest: usize) -> String {
    let length = usize::arbitrary(g) % (longest + 1);
    let words: Vec<&str> = (0..length).map(|_| *g.choose(alphabet).unwrap()).collect();
    words.join(".")
}

impl Arbitrary for Pattern {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(joined(g, &["a", "b", "", "*", "#", "#"], 6))
    }
}

impl Arbitrary for Key {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(joined(g, &["a", "b", "", "c"], 7))
    }
}

quickcheck! {
    fn the_trie_finds_what_the_naive_matcher_finds(patterns: Vec<Pattern>, keys: Vec<Key>) -> bool {
        let mut router = TopicRouter::default();
        for Pattern(pattern) in &patterns {
            router.add(pattern.as_bytes(), target(pattern));
        }
        let distinct: BTreeSet<&String> = patterns.iter().map(|Pattern(pattern)| pattern).collect();
        let mut matches = Matches::default();
        keys.iter().all(|Key(key)| {
            let expected: Vec<String> =
                distinct.iter().filter(|p| naive_match(p, key)).map(|p| (*p).clone()).collect();
            found(&router, key, &mut matches) == expected
        })
    }

    fn removing_a_pattern_leaves_the_others_and_no_nodes_behind(
        kept: Vec<Pattern>, removed: Vec<Pattern>, keys: Vec<Key>
    ) -> bool {
        let (mut router, mut expected) = (TopicRouter::default(), TopicRouter::default());
        for Pattern(pattern) in kept.iter().chain(&removed) {
            router.add(pattern.as_bytes(), target(pattern));
        }
        for Pattern(pattern) in &removed {
            router.remove(pattern.as_bytes(), &target(pattern));
        }
        for Pattern(pattern) in &kept {
            expected.add(pattern.as_bytes(), target(pattern));
        }
        let mut matches = Matches::default();
        let same = keys.iter().all(|Key(key)| {
            found(&router, key, &mut matches) == found(&expected, key, &mut matches)
        });
        same && router.nodes.len() - router.free.len() == expected.nodes.len()
    }
}

#[test]
fn the_examples_of_the_specification_match() {
    for (pattern, key, expected) in [
        ("*.stock.#", "usd.stock", true),
        ("*.stock.#", "eur.stock.db", true),
        ("*.stock.#", "stock.nasdaq", false),
        ("#", "", true),
        ("*", "", false),
        ("", "", true),
        ("*", "a", true),
        ("#.#", "a.b", true),
        ("a.*", "a.", true),
        ("a..b", "a..b", true),
    ] {
        let mut router = TopicRouter::default();
        router.add(pattern.as_bytes(), target(pattern));
        let matched = !found(&router, key, &mut Matches::default()).is_empty();
        assert_eq!(matched, expected, "{pattern} against {key}");
    }
}

/// A change of bindings.
#[derive(Clone, Debug)]
enum Change {
    Add(Pattern),
    Remove(usize),
}

impl Arbitrary for Change {
    fn arbitrary(g: &mut Gen) -> Self {
        if bool::arbitrary(g) {
            Self::Add(Pattern::arbitrary(g))
        } else {
            Self::Remove(usize::arbitrary(g))
        }
    }
}

/// A lookup in pieces, with changes after each. Returns what it found, and what it should have.
fn found_in_pieces(patterns: &[Pattern], keys: &[&[u8]], changes: &[Change]) -> [Vec<String>; 2] {
    let mut router = TopicRouter::default();
    let mut all: Vec<String> = Vec::new();
    for Pattern(pattern) in patterns {
        router.add(pattern.as_bytes(), target(pattern));
        all.push(pattern.clone());
    }
    let (mut matches, mut changes) = (Matches::default(), changes.chunks(2));
    loop {
        matches.clear();
        matches.walks.start_piece(1);
        router.route(keys, &mut matches);
        if !matches.is_put_off() {
            break;
        }
        for change in changes.next().unwrap_or_default() {
            match change {
                Change::Add(Pattern(pattern)) => {
                    router.add(pattern.as_bytes(), target(pattern));
                    all.push(pattern.clone());
                }
                Change::Remove(place) if !all.is_empty() => {
                    let pattern = all.swap_remove(place % all.len());
                    router.remove(pattern.as_bytes(), &target(&pattern));
                }
                Change::Remove(_) => {}
            }
        }
    }
    let found = exchanges(&mut matches);
    let is_found =
        |pattern: &str| keys.iter().any(|key| naive_match(pattern, str::from_utf8(key).unwrap()));
    let expected: BTreeSet<String> = all.into_iter().filter(|pattern| is_found(pattern)).collect();
    matches.finish();
    [found, expected.into_iter().collect()]
}

quickcheck! {
    fn a_lookup_in_pieces_finds_what_the_bindings_lead_to_at_its_end(
        patterns: Vec<Pattern>, keys: Vec<Key>, changes: Vec<Change>
    ) -> bool {
        // Long enough for many pieces.
        let keys: Vec<String> =
            keys.iter().take(3).map(|Key(key)| format!("{key}.a.a.b.a.a.b.b.a.a")).collect();
        let mut keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        keys.push(b"a.b.a.b.a.a.a.b");
        let [found, expected] = found_in_pieces(&patterns, &keys, &changes);
        found == expected
    }

    fn a_pattern_alone_matches_as_in_the_trie(pattern: Pattern, key: Key) -> bool {
        is_match(pattern.0.as_bytes(), key.0.as_bytes()) == naive_match(&pattern.0, &key.0)
    }
}

/// The second pattern ends inside the first one, at a node that was new to the walk.
#[test]
fn a_pattern_within_one_that_was_added_during_a_lookup_is_found() {
    let patterns = ["#.b.b.b.#.#", "#.*.#.#.b.a", "#.*.*.*.a.b"].map(|p| Pattern(p.to_owned()));
    let added = ["#.#.a.b", "#.a"].map(|pattern| Change::Add(Pattern(pattern.to_owned())));
    let keys: [&[u8]; 2] = [b"c.b.a.b.b.a.a.b.a.a.b.b.a.a", b"a.b.a.b.a.a.a.b"];
    let [found, expected] = found_in_pieces(&patterns, &keys, &added);
    assert_eq!(found, expected);
}

/// Random numbers, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % sides
    }
}

/// A router with so many patterns of 60 words, and a key that takes long to look up.
fn large_router(patterns: usize) -> (TopicRouter, String) {
    let (mut router, mut dice) = (TopicRouter::default(), Dice(7));
    for _ in 0..patterns {
        let pattern = joined_words(&mut dice);
        router.add(pattern.as_bytes(), target(&pattern));
    }
    (router, ["a"; 60].join("."))
}

fn joined_words(dice: &mut Dice) -> String {
    let words: Vec<&str> = (0..60).map(|_| ["#", "*", "a"][dice.below(3)]).collect();
    words.join(".")
}

#[test]
fn no_node_is_looked_at_twice_for_a_word_of_the_key() {
    let (router, key) = large_router(100);
    let mut matches = Matches::default();
    matches.start(Effort::Whole, 0);
    assert!(!found(&router, &key, &mut matches).is_empty());
    let most = 60 * router.nodes.len() as u64;
    assert!(matches.walks.steps() <= most, "{} of {most}", matches.walks.steps());
}

#[test]
fn a_long_lookup_is_remembered_until_a_binding_changes() {
    let (mut router, key) = large_router(100);
    let mut matches = Matches::default();
    let first = found(&router, &key, &mut matches);
    matches.start(Effort::Whole, 0);
    assert_eq!(found(&router, &key, &mut matches), first);
    assert_eq!(matches.walks.steps(), 0, "looked up again");
    router.add(b"#.a", target("new"));
    let mut more = found(&router, &key, &mut matches);
    assert!(more.contains(&"new".to_owned()));
    router.remove(b"#.a", &target("new"));
    more.retain(|name| name != "new");
    assert_eq!(found(&router, &key, &mut matches), more);
    assert_eq!(more, first);
}

#[test]
fn a_glance_at_a_large_router_puts_the_message_off_and_keeps_nothing() {
    let (router, key) = large_router(400);
    let mut matches = Matches::default();
    matches.start(Effort::Glance, u64::MAX);
    router.route(&[key.as_bytes()], &mut matches);
    assert!(matches.is_put_off());
    assert!(matches.walks.is_idle());
}

#[test]
fn bytes_of_patterns_are_counted_down_to_none() {
    let mut router = TopicRouter::default();
    let patterns = ["a.b.c", "a.b.d", "a.*.#", "#", "", "x.y.z"];
    patterns.iter().for_each(|pattern| router.add(pattern.as_bytes(), target(pattern)));
    assert!(router.bytes >= 9 * size_of::<Node>());
    patterns.iter().for_each(|pattern| router.remove(pattern.as_bytes(), &target(pattern)));
    assert_eq!(router.bytes, 0);
}

/// Published as a denial of service against matchers that backtrack: 60 `#` need 2^60 steps there.
#[test]
fn a_pattern_of_many_hashes_costs_no_more_steps_than_words_times_nodes() {
    let mut router = TopicRouter::default();
    let pattern = vec!["#.a"; 60].join(".");
    router.add(pattern.as_bytes(), target(&pattern));
    let key = format!("{}.b", vec!["a"; 120].join("."));
    let mut matches = Matches::default();
    matches.start(Effort::Whole, 0);
    assert!(found(&router, &key, &mut matches).is_empty());
    let most = 121 * router.nodes.len() as u64;
    assert!(matches.walks.steps() <= most, "{} of {most}", matches.walks.steps());
}
