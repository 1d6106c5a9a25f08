//! Damage in what was applied together: what is whole is kept, and what is lost is told.

use haypile::storage::{Operation, Persistence, Sequence, SequenceRange};

use super::*;

/// The store of [`example`], of which message 100 was taken to the queue `dead`, with messages behind it.
fn with_a_unit() -> TempDir {
    let dir = example();
    let store = Store::open(dir.path(), options()).unwrap();
    let orders = queue(&store, "orders");
    let (dead, created) = store.create_queue(b"dead").unwrap();
    store.wait_durable(created).unwrap();
    let moved = message("it is here now");
    let place = [SequenceRange::one(Sequence::new(100))];
    let unit = [
        Operation::Append {
            message: (&moved).into(),
            persistence: Persistence::Durable,
            queues: &[&dead],
        },
        Operation::Acknowledge { queue: &orders, ranges: &place },
    ];
    let done = store.apply_together(&unit).unwrap();
    store.wait_durable(done.durable_at.unwrap()).unwrap();
    confirm(&store, &dead, "behind it");
    confirm(&store, &orders, text(125));
    dir
}

/// The places that are gone from `orders`, and what is in `dead`.
fn left(dir: &Path) -> (Vec<u64>, Vec<String>) {
    let store = Store::open(dir, options()).unwrap();
    let there = bodies(&queue(&store, "orders"));
    let gone = (0..126).filter(|n| !there.contains(&text(*n))).collect();
    (gone, bodies(&queue(&store, "dead")))
}

#[test]
fn a_message_that_is_damaged_is_told_and_its_acknowledgement_is_kept() {
    let dir = with_a_unit();
    assert_eq!(left(dir.path()), (vec![100], vec!["it is here now".into(), "behind it".into()]));
    let dir = with_a_unit();
    let (path, offset) = find(dir.path(), b"it is here now");
    flip(&path, offset);
    let found = look(dir.path());
    assert!(found.refusal.is_some(), "{found:?}");
    let places: Vec<_> = found.holes.iter().flat_map(|hole| &hole.places).collect();
    let [lost] = places[..] else { panic!("{found:?}") };
    assert_eq!(
        (&lost.attributes[..], lost.places),
        (&b"dead"[..], SequenceRange::one(Sequence::FIRST))
    );
    repaired(dir.path());
    assert_eq!(left(dir.path()), (vec![100], vec!["behind it".into()]));
}

#[test]
fn of_a_damaged_acknowledgement_the_message_comes_back() {
    let dir = with_a_unit();
    let (path, offset) = find(dir.path(), b"it is here now");
    // In front of it are its header, its reference, two counts and a frame; then the acknowledgement's last range.
    flip(&path, offset - "header".len() - 2 - 2 - 12 - 4);
    assert!(look(dir.path()).refusal.is_some());
    repaired(dir.path());
    assert_eq!(left(dir.path()), (vec![], vec!["it is here now".into(), "behind it".into()]));
}
