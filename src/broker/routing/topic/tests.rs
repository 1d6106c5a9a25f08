//! The trie against a matcher that is too simple to be wrong.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;
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
    Target::Exchange(ShortStr::try_from(pattern).unwrap())
}

fn found(router: &TopicRouter, key: &str, matches: &mut Matches) -> Vec<String> {
    matches.clear();
    router.route(key.as_bytes(), matches);
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

/// Published as a denial of service against matchers that backtrack: 60 `#` need 2^60 steps there.
#[test]
fn many_hashes_do_not_make_matching_slow() {
    let mut router = TopicRouter::default();
    let pattern = vec!["#.a"; 60].join(".");
    router.add(pattern.as_bytes(), target(&pattern));
    let key = format!("{}.b", vec!["a"; 120].join("."));
    let begun = Instant::now();
    let mut matches = Matches::default();
    for _ in 0..100 {
        assert!(found(&router, &key, &mut matches).is_empty());
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "took {:?}", begun.elapsed());
}
