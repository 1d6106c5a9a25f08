//! What somebody, or a file system, may have put into a data directory.

use haypile::storage::disk::Access;
use haypile::storage::inspect::inspect;

use super::*;

/// Two parts of a file that ends early became the same copy, and the repair failed because its file was there already.
#[test]
fn a_segment_of_the_tail_that_ends_within_a_group_costs_what_was_behind() {
    let dir = example();
    let (file, offset) = find(dir.path(), text(80).as_bytes());
    let in_it = messages_in(&file);
    let behind: Vec<u64> = in_it.into_iter().filter(|n| *n >= 80).collect();
    let mut content = fs::read(&file).unwrap();
    content.truncate(offset + 100);
    fs::write(&file, content).unwrap();
    let found = look(dir.path());
    assert!(found.refusal.is_some());
    repaired(dir.path());
    holds_all_but(dir.path(), &behind);
}

/// Numbers beyond any log overflowed; a directory of places of any size was read into memory.
#[test]
fn names_and_sizes_that_make_no_sense_harm_nothing() {
    let dir = example();
    damage_message(dir.path(), 7);
    let path = |name: &str| dir.path().join(name);
    fs::write(path("ffffffffffffffff.segment"), [0xa5; 100]).unwrap();
    fs::write(path("0000000000ffffff.segment"), [0xa5; 10_000]).unwrap();
    fs::write(path("fffffffffffffffe.unfinished"), b"").unwrap();
    fs::write(path("repair-3"), b"not a directory").unwrap();
    fs::create_dir(path("repair-18446744073709551615")).unwrap();
    let places = RealDisk.create(&path("repair-18446744073709551615/places")).unwrap();
    places.write_at(b"x", 1 << 40).unwrap();
    let found = look(dir.path());
    assert!(found.refusal.is_some());
    let (done, kept) = repaired(dir.path());
    assert_eq!(lost(&done.found), [7]);
    // The one cannot be ours, the other one says that it is.
    assert!(fs::read(path("ffffffffffffffff.segment")).unwrap() == [0xa5; 100]);
    assert!(kept["0000000000ffffff.segment"] == [0xa5; 10_000]);
    holds_all_but(dir.path(), &[7]);
}

/// Of a segment with a damaged header as much was copied as a segment has mostly, before it was removed.
#[test]
fn a_segment_of_several_slots_whose_header_is_damaged_is_kept_whole() {
    let dir = example();
    let store = Store::open(dir.path(), options()).unwrap();
    let orders = queue(&store, "orders");
    confirm(&store, &orders, "x".repeat(150_000));
    confirm(&store, &orders, "behind it");
    drop(orders);
    store.close().unwrap();
    let (file, _) = find(dir.path(), "x".repeat(70_000).as_bytes());
    let before = fs::read(&file).unwrap();
    assert_eq!(before.len(), 3 * (64 << 10));
    flip(&file, 20);
    let (done, kept) = repaired(dir.path());
    assert_eq!(lost(&done.found), [125]);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!(kept[name].len(), before.len());
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")).len(), 126);
}

/// A file that somebody has made longer is no segment of ours behind its end: neither read, nor in the way.
#[test]
fn a_segment_that_is_much_too_long_is_told_and_costs_no_memory() {
    let dir = example();
    let (root, offset) = find_root(dir.path());
    flip(&root, offset);
    let (file, _) = find(dir.path(), text(10).as_bytes());
    RealDisk.open(&file, Access::ReadWrite).unwrap().write_at(b"x", 1 << 40).unwrap();
    let found = verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap();
    assert!(found.damage.iter().any(|f| f.file == file && f.what.contains("instead of 65536")));
    assert_eq!(found.older_checkpoint.map(|lsn| lsn.get()), Some(0));
    assert!(inspect(&RealDisk::shared(), dir.path()).is_err());
}
