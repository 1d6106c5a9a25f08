//! Files that other processes, and other users, can reach: a store has them for itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use haypile::storage::disk::{Disk, RealDisk};
use haypile::storage::inspect::{RepairError, inspect, repair, verify};
use haypile::storage::{OpenError, Store};
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
    assert!(is_shared(&inspect(&RealDisk, copied.path()).unwrap_err()));
    assert!(is_shared(&verify(&RealDisk, copied.path(), |_| {}).unwrap_err()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    for apply in [false, true] {
        let error = repair(&disk, copied.path(), apply, |_| {}).unwrap_err();
        assert!(matches!(&error, RepairError::Open(error) if is_shared(error)), "{error}");
    }
    drop((store, orders));
    assert_eq!(bodies(&queue(&Store::open(dir.path(), manual()).unwrap(), "orders")), ["mine"]);
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
    verify(&RealDisk, &dir, |_| {}).unwrap();
    assert_eq!(mode(&dir.join("superblock")), 0o644, "verifying changes nothing");
    drop(Store::open(&dir, manual()).unwrap());
    assert_eq!((mode(&dir), mode(&dir.join("repair-1"))), (0o700, 0o700));
    names.iter().filter(|name| dir.join(name).exists()).for_each(|name| {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    });
    assert_eq!(mode(&dir.join("notes.txt")), 0o644);
}
