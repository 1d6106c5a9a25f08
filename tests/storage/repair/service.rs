//! Damage that a running store meets: the queue goes on without it, nothing else is lost, and it is told afterwards.

use super::moved::{MOVED, compacted, damage_records, records};
use super::*;

/// Places of a queue, as they are delivered.
fn places(queue: &haypile::storage::Queue) -> Vec<u64> {
    fetch_all(queue).iter().map(|fetched| fetched.sequence.get()).collect()
}

#[test]
fn a_moved_message_that_is_damaged_is_set_aside_and_stays_where_it_is() {
    let dir = compacted(false);
    let (file, offset, _) =
        records(dir.path(), &text(7)).into_iter().find(|record| record.2 == MOVED).unwrap();
    damage_records(dir.path(), &text(7), MOVED);
    let expected: Vec<u64> = (0..60).filter(|n| *n != 7).collect();
    let store = Store::open(dir.path(), options()).unwrap();
    let orders = queue(&store, "orders");
    assert_eq!(places(&orders), expected);
    assert_eq!(store.set_aside(), 1);
    // Much of what is in its segment goes: compaction would have the rest of it elsewhere.
    for n in (0..60).filter(|n| n % 5 != 2) {
        acknowledge(&orders, n).unwrap();
    }
    for n in 60..200 {
        confirm(&store, &orders, text(n));
    }
    for _ in 0..3 {
        store.compact().unwrap();
    }
    let expected: Vec<u64> = (0..200).filter(|n| *n != 7 && (*n >= 60 || n % 5 == 2)).collect();
    assert_eq!(places(&orders), expected);
    assert_eq!(store.set_aside(), 1);
    drop(orders);
    store.close().unwrap();
    for _ in 0..2 {
        let found = look(dir.path());
        assert!(found.refusal.is_none());
        let told: Vec<_> = found.damage.iter().filter(|f| !f.messages.is_empty()).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((&told[0].file, told[0].offset), (&file, offset as u64));
        assert_eq!(&told[0].messages[0].attributes[..], b"orders");
        assert_eq!(lost(&found), [7]);
        Store::open(dir.path(), options()).unwrap().close().unwrap();
    }
    repaired(dir.path());
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(places(&queue(&store, "orders")), expected);
}

#[test]
fn a_damaged_list_of_a_deep_queue_is_set_aside_and_a_repair_has_its_messages_again() {
    let dir = deep::example(true);
    let (file, offset) = deep::damage_chunk(dir.path(), 320);
    let live = deep::live(true);
    let listed = |n: &u64| (320..336).contains(n);
    let store = Store::open(dir.path(), deep::deep()).unwrap();
    let orders = queue(&store, "orders");
    let others: Vec<u64> = live.iter().copied().filter(|n| !listed(n)).collect();
    assert_eq!(places(&orders), others);
    assert_eq!(store.set_aside(), 16);
    assert_eq!(orders.len(), live.len() as u64);
    // One of those that nobody can see, and most of the others.
    acknowledge(&orders, 325).unwrap();
    for n in others.iter().filter(|n| *n % 7 != 0) {
        acknowledge(&orders, *n).unwrap();
    }
    store.compact().unwrap();
    let others: Vec<u64> = others.into_iter().filter(|n| n % 7 == 0).collect();
    assert_eq!(places(&orders), others);
    drop(orders);
    store.close().unwrap();

    let found = look(dir.path());
    assert!(found.refusal.is_none());
    let told: Vec<_> = found.damage.iter().filter(|f| !f.messages.is_empty()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0].file, told[0].offset), (&file, offset));
    let (done, _) = repaired(dir.path());
    assert_eq!((done.lost, done.restored), (0, 15));
    let store = Store::open(dir.path(), deep::deep()).unwrap();
    let expected: Vec<u64> =
        live.into_iter().filter(|n| *n != 325 && (listed(n) || n % 7 == 0)).collect();
    assert_eq!(places(&queue(&store, "orders")), expected);
}
