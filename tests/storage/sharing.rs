//! Files that other processes, and other users, can reach: a store has them for itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use haypile::storage::disk::{Disk, RealDisk};
use haypile::storage::inspect::{RepairError, inspect, repair, verify};
use haypile::storage::{OpenError, SequenceRange, Store};
use tempfile::tempdir;

use crate::support::*;

/// Each copy's directory was locked, and that is another one; both stores wrote to the same segments.
#[test]
fn a_hard_linked_copy_of_an_open_store_is_refused() {
    let (dir, copied) = (tempdir().unwrap(), tempdir().unwrap());
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "mine");
    for name in files(dir.path()).into_keys() {
        fs::hard_link(dir.path().join(&name), copied.path().join(&name)).unwrap();
    }
    let is_shared = |error: &OpenError| matches!(error, OpenError::Shared(_));
    let error = Store::open(copied.path(), manual()).unwrap_err();
    assert!(is_shared(&error), "{error}");
    assert!(error.to_string().contains("hard links"), "{error}");
    assert!(is_shared(&inspect(&RealDisk::shared(), copied.path()).unwrap_err()));
    assert!(is_shared(&verify(&RealDisk::shared(), copied.path(), |_| {}).unwrap_err()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    for apply in [false, true] {
        let error = repair(&disk, copied.path(), apply, |_| {}).unwrap_err();
        assert!(matches!(&error, RepairError::Open(error) if is_shared(error)), "{error}");
    }
    drop((store, orders));
    assert_eq!(bodies(&queue(&Store::open(dir.path(), manual()).unwrap(), "orders")), ["mine"]);
}

fn link(from: &Path, to: &Path) {
    for name in files(from).into_keys() {
        fs::hard_link(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Publishes and acknowledges until segments have been recycled several times; leaves the last messages of each.
fn go_on(store: &Store, whose: &str) {
    let orders = queue(store, "orders");
    for round in 0..6 {
        let first = orders.next_sequence();
        for n in 0..150 {
            append(store, &orders, format!("{whose} {round} {n:>1000}"));
        }
        let last = orders.next_sequence().previous().unwrap();
        confirm(store, &orders, format!("{whose} {round}"));
        let lsn = orders.acknowledge(&[SequenceRange { first, last }]).unwrap().durable_at;
        store.wait_durable(lsn.unwrap()).unwrap();
        store.checkpoint().unwrap();
    }
}

/// The copy and the original had one superblock and the same segments, and whichever went on ruined the other.
#[test]
fn a_hard_linked_copy_and_its_original_go_on_independently() {
    let (dir, copied) = (tempdir().unwrap(), tempdir().unwrap());
    let store = Store::open(dir.path(), manual()).unwrap();
    store.create_queue(b"orders").unwrap();
    go_on(&store, "before");
    let before = bodies(&queue(&store, "orders"));
    drop(store);
    link(dir.path(), copied.path());
    let backup = files(copied.path());
    let original = Store::open(dir.path(), manual()).unwrap();
    go_on(&original, "original");
    assert!(files(copied.path()) == backup, "the original's going on has changed the copy");
    assert!(verify(&RealDisk::shared(), copied.path(), |_| {}).unwrap().is_whole());
    // Both are open now.
    let copy = Store::open(copied.path(), manual()).unwrap();
    assert_eq!(bodies(&queue(&copy, "orders")), before);
    go_on(&copy, "copy");
    go_on(&original, "original again");
    drop((original, copy));
    for (dir, its, other) in [(&dir, "original again", "copy"), (&copied, "copy", "original")] {
        assert!(verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap().is_whole());
        let found = bodies(&queue(&Store::open(dir.path(), manual()).unwrap(), "orders"));
        assert!(found.starts_with(&before), "{found:?}");
        assert!(found.iter().any(|body| body.starts_with(its)), "{found:?}");
        assert!(!found.iter().any(|body| body.starts_with(other)), "{found:?}");
    }
}

/// Its superblock was the running store's, which did without the segments that the copy had.
#[test]
fn a_hard_linked_copy_of_a_running_store_opens_after_the_store_has_gone_on() {
    let (dir, copied) = (tempdir().unwrap(), tempdir().unwrap());
    let store = Store::open(dir.path(), manual()).unwrap();
    store.create_queue(b"orders").unwrap();
    go_on(&store, "before");
    let before = bodies(&queue(&store, "orders"));
    link(dir.path(), copied.path());
    go_on(&store, "after");
    let copy = Store::open(copied.path(), manual()).unwrap();
    let found = bodies(&queue(&copy, "orders"));
    // The segments that were ready at that moment are shared, so the copy may have more than that moment's messages.
    assert!(found.starts_with(&before), "{found:?}");
    go_on(&copy, "copy");
    let after = bodies(&queue(&store, "orders"));
    drop((store, copy));
    for dir in [&dir, &copied] {
        assert!(verify(&RealDisk::shared(), dir.path(), |_| {}).unwrap().is_whole());
    }
    assert_eq!(bodies(&queue(&Store::open(dir.path(), manual()).unwrap(), "orders")), after);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_store_is_for_its_owner_alone() {
    let dir = tempdir().unwrap();
    let dir = dir.path().join("store");
    let store = Store::open(&dir, manual()).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for name in files(&dir).into_keys() {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
    drop(store);
}

#[test]
fn an_open_takes_the_permissions_of_other_users_away() {
    let dir = tempdir().unwrap();
    let dir = dir.path().join("store");
    drop(Store::open(&dir, manual()).unwrap());
    fs::create_dir(dir.join("repair-1")).unwrap();
    fs::write(dir.join("notes.txt"), "not of the store").unwrap();
    let others =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    others(&dir, 0o755);
    others(&dir.join("repair-1"), 0o750);
    others(&dir.join("notes.txt"), 0o644);
    let names: Vec<_> = files(&dir).into_keys().filter(|name| name != "notes.txt").collect();
    names.iter().for_each(|name| others(&dir.join(name), 0o644));
    verify(&RealDisk::shared(), &dir, |_| {}).unwrap();
    assert_eq!(mode(&dir.join("superblock")), 0o644, "verifying changes nothing");
    drop(Store::open(&dir, manual()).unwrap());
    assert_eq!((mode(&dir), mode(&dir.join("repair-1"))), (0o700, 0o700));
    names.iter().filter(|name| dir.join(name).exists()).for_each(|name| {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    });
    assert_eq!(mode(&dir.join("notes.txt")), 0o644);
}
