//! Every so many bytes of a small store that has all shapes are damaged in turn.

use std::collections::BTreeSet;

use haypile::storage::{Change, Persistence, Sequence, SequenceRange};

use super::*;
use crate::unsynced::UnsyncedDisk;

/// Damaged is one in so many bytes; a prime, so that it comes to all parts of a record.
const STRIDE: usize = 101;

const MESSAGES: u64 = 230;

/// The first message of the last group that has any.
const LAST_GROUP: u64 = 229;

fn options() -> Options {
    Options {
        segment_size: 16 << 10,
        segments_ahead: 1,
        segments_spare: 0,
        chunk_places: 16,
        index: 0,
        cache: 0,
        checkpoint_distance: u64::MAX,
        disk: Arc::new(UnsyncedDisk),
        ..manual()
    }
}

fn number(n: u64) -> String {
    format!("the message that is number {n:04}")
}

/// A deep queue with a transient message after every seventh, and another queue that shares some of its messages, a third
/// that was deleted; compacted, with a tail of the log behind the last checkpoint. Gives the live places of the first.
fn example(dir: &Path) -> BTreeSet<u64> {
    let store = Store::open(dir, options()).unwrap();
    let names = ["orders", "copies", "deleted"];
    let [orders, copies, deleted] =
        names.map(|name| store.create_queue(name.as_bytes()).unwrap().0);
    store.apply(vec![Change::put("exchange", vec![1; 30])]).unwrap();
    let mut live = BTreeSet::new();
    let mut newest = None;
    let mut fill = |store: &Store, live: &mut BTreeSet<u64>, to: u64| {
        while orders.next_sequence().get() < to {
            let n = orders.next_sequence().get();
            let text = message(number(n));
            if n % 7 == 3 {
                store.append(&text, Persistence::Transient, &[&orders]).unwrap();
                continue;
            }
            let targets = [&orders, &copies, &deleted];
            let targets = if n % 5 == 0 { &targets[..] } else { &targets[..1] };
            newest = store.append(&text, Persistence::Durable, targets).unwrap().durable_at;
            live.insert(n);
            if n % 6 == 0 {
                store.wait_durable(newest.unwrap()).unwrap();
            }
        }
        store.wait_durable(newest.unwrap()).unwrap();
    };
    let take = |live: &mut BTreeSet<u64>, first: u64, last: u64| {
        let range = SequenceRange::new(Sequence::new(first), Sequence::new(last)).unwrap();
        let acknowledged = orders.acknowledge(&[range]).unwrap();
        live.retain(|n| !(first..=last).contains(n));
        acknowledged.durable_at.unwrap()
    };
    fill(&store, &mut live, 180);
    for first in (10..150).step_by(10) {
        take(&mut live, first, first + 5);
    }
    store.apply(vec![Change::DeleteQueue(deleted.id())]).unwrap();
    assert!(store.compact().unwrap().messages > 20);
    let acknowledged = take(&mut live, 160, 162);
    store.wait_durable(acknowledged).unwrap();
    fill(&store, &mut live, MESSAGES);
    let acknowledged = take(&mut live, 200, 203);
    store.wait_durable(acknowledged).unwrap();
    live
}

/// Whatever byte is damaged: `verify` tells of it or nothing is missing, a repair leaves a store that is whole, and what it
/// did not call lost is in its place in it.
#[test]
fn any_damaged_byte_of_a_deep_compacted_store_costs_what_is_said_and_nothing_else() {
    let dir = tempdir().unwrap();
    let live = example(dir.path());
    let disk: Arc<dyn Disk> = Arc::new(UnsyncedDisk);
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, content) in files(dir.path()) {
        let used = content.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for offset in (0..=used).step_by(STRIDE) {
            if content[offset & !0xf..].iter().take(16).all(|byte| *byte == 0) {
                continue;
            }
            let place = format!("{name} at {offset}");
            let copied = tempdir().unwrap();
            copy(dir.path(), copied.path());
            flip(&copied.path().join(&name), offset);
            let outcome = match repair(&disk, copied.path(), true, |_| {}) {
                Ok(outcome) => outcome,
                Err(RepairError::NoCheckpoint(_)) => {
                    *outcomes.entry("refused").or_default() += 1;
                    assert!(Store::open(copied.path(), options()).is_err(), "{place}");
                    continue;
                }
                Err(error) => panic!("{place}: {error}"),
            };
            let found = &outcome.found;
            if let Some(applied) = &outcome.applied {
                assert!(applied.after.is_whole(), "{place}: {:?}", applied.after);
            }
            let mut told: BTreeSet<u64> = BTreeSet::new();
            for lost in found.damage.iter().flat_map(|finding| &finding.messages) {
                if lost.attributes == b"orders"[..] && lost.record.is_none() {
                    told.insert(lost.sequence.get());
                }
            }
            for places in found.holes.iter().flat_map(|hole| &hole.places) {
                if places.attributes == b"orders"[..] {
                    told.extend(places.places.first.get()..=places.places.last.get());
                }
            }
            let store = Store::open(copied.path(), options());
            let store = store.unwrap_or_else(|error| panic!("{place}: {error}"));
            let orders = fetch_all(&queue(&store, "orders"));
            assert!(orders.is_sorted_by_key(|fetched| fetched.sequence), "{place}");
            assert!(orders.iter().all(|f| body(f) == number(f.sequence.get())), "{place}");
            assert_eq!(store.set_aside(), 0, "{place}");
            let places: BTreeSet<u64> = orders.iter().map(|f| f.sequence.get()).collect();
            // What is lost of the end of a queue no later message shows, and the last group may look like a torn tail.
            let end = places.last().map_or(0, |last| last + 1);
            let unseen = |n: &u64| *n >= end && (!found.holes.is_empty() || *n >= LAST_GROUP);
            let told_of = |n: &u64| places.contains(n) || told.contains(n) || unseen(n);
            let missing: Vec<u64> = live.iter().copied().filter(|n| !told_of(n)).collect();
            assert!(missing.is_empty(), "{place}: {missing:?} are gone: {found:?}");
            // What was transient or acknowledged: never the one, the other where a record of that may be lost.
            let back: Vec<u64> = places.difference(&live).copied().collect();
            assert!(back.iter().all(|n| n % 7 != 3), "{place}: {back:?}");
            let uncertain = found.damage.iter().any(|finding| finding.uncertain);
            let torn = back.iter().all(|n| (200..=203).contains(n));
            let may_come_back = torn || uncertain || !found.holes.is_empty();
            assert!(back.is_empty() || may_come_back, "{place}: {back:?} came back: {found:?}");
            let needed = found.damage.iter().any(|finding| finding.needed);
            let kind = match (found.is_whole(), &found.refusal, needed) {
                (true, _, _) => "nothing noticed",
                (_, Some(_), _) => "did not open",
                (_, None, true) => "needed",
                (_, None, false) => "not needed",
            };
            *outcomes.entry(kind).or_default() += 1;
        }
    }
    for kind in ["did not open", "needed", "not needed"] {
        assert!(outcomes.get(kind).is_some_and(|count| *count > 10), "{kind}: {outcomes:?}");
    }
}
