//! What a hole in the log is said to have cost.

use super::*;

/// Only the first message of each queue in a damaged group was looked at for the places that it skips: a damaged record
/// between whole ones was lost without a word.
#[test]
fn a_damaged_message_between_whole_ones_of_its_group_is_told() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..10).for_each(|n| {
        append(&store, &orders, text(n));
    });
    confirm(&store, &orders, text(10));
    confirm(&store, &orders, text(11));
    drop((store, orders));
    damage_message(dir.path(), 4);
    damage_message(dir.path(), 7);
    damage_message(dir.path(), 8);
    let found = look(dir.path());
    assert_eq!((found.holes.len(), lost_in_holes(&found)), (1, vec![(4, 4), (7, 8)]));
    repaired(dir.path());
    let store = Store::open(dir.path(), options()).unwrap();
    let expected = (0..12).filter(|n| ![4, 7, 8].contains(n)).map(text);
    assert!(bodies(&queue(&store, "orders")).into_iter().eq(expected));
}
