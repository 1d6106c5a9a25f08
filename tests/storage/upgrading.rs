//! Stores of earlier formats, as the versions of that time have written them.
//!
//! The fixture of version 3 has three queues in segments of 16 KiB: chunks and directories,
//! acknowledged and handed out messages, a
//! compaction, and behind the checkpoint a large message, a transient one and an atomic batch. It was left as a crash does.

use std::path::Path;
use std::sync::Arc;

use haypile::simulation::{Fate, Image, Pending, SimulatedDisk};
use haypile::storage::disk::{Access, Disk, RealDisk};
use haypile::storage::inspect::verify;
use haypile::storage::{OpenError, Options, Store};
use tempfile::tempdir;

use crate::fixtures::{VERSION_3, put};
use crate::support::*;

fn options(disk: Arc<dyn Disk>) -> Options {
    Options { segments_ahead: 2, chunk_places: 16, disk, ..manual() }
}

fn text(kind: &str, n: u64, bytes: usize) -> String {
    format!("{kind} {n} ").chars().chain("haypile ".chars().cycle()).take(bytes).collect()
}

/// Checks that the store holds the messages that version 3 had confirmed, and nothing else.
fn check(store: &Store) {
    let deep = (50..200).filter(|n| *n != 100).map(|n| text("deep", n, 20));
    assert!(bodies(&queue(store, "deep")).into_iter().eq(deep));
    let shared = || (0..3).map(|n| text("shared", n, 100));
    let first = (5..40).filter(|n| *n >= 30 || n % 5 == 0).map(|n| text("order", n, 700));
    let rest = (40..60).map(|n| text("order", n, 700));
    let last = (60..63).map(|n| text("order", n, 300));
    let orders = fetch_all(&queue(store, "orders"));
    assert!(orders.iter().map(body).eq(first.chain(shared()).chain(rest).chain(last)));
    let delivered: Vec<_> = orders.iter().filter(|o| o.deliveries > 0).collect();
    assert_eq!(delivered.len(), 1);
    assert_eq!((delivered[0].sequence.get(), delivered[0].deliveries), (36, 2));
    let copies = bodies(&queue(store, "copies"));
    let large = [text("large", 0, 20_000), text("together", 0, 50)];
    assert!(copies.into_iter().eq(shared().chain(large)));
    let entries: Vec<_> = store.entries();
    assert_eq!(entries, [("host".into(), "meadow".into())]);
}

fn version(disk: &dyn Disk, dir: &Path) -> [u8; 2] {
    let file = disk.open(&dir.join("superblock"), Access::Read).unwrap();
    [0, 4096].map(|copy| {
        let mut byte = [0];
        assert_eq!(file.read_at(&mut byte, copy + 8).unwrap(), 1);
        byte[0]
    })
}

#[test]
fn a_store_of_version_3_is_brought_up_to_date() {
    let dir = tempdir().unwrap();
    let dir = dir.path().join("store");
    put(&RealDisk, &dir, VERSION_3);
    let before = files(&dir);
    let found = verify(&RealDisk::shared(), &dir, |_| {}).unwrap();
    assert!(found.is_whole(), "{found:?}");
    assert!(files(&dir) == before, "verifying changes nothing");
    for _ in 0..3 {
        let store = Store::open(&dir, options(Arc::new(RealDisk))).unwrap();
        check(&store);
        drop(store);
        assert_eq!(version(&RealDisk, &dir), [4, 4]);
        assert!(verify(&RealDisk::shared(), &dir, |_| {}).unwrap().is_whole());
    }
    let store = Store::open(&dir, options(Arc::new(RealDisk))).unwrap();
    confirm(&store, &queue(&store, "deep"), "new");
    store.close().unwrap();
    let store = Store::open(&dir, options(Arc::new(RealDisk))).unwrap();
    assert_eq!(bodies(&queue(&store, "deep")).len(), 150);
}

/// The segments' salts are known from the checkpoint on that ends the first open.
#[test]
fn segments_of_a_store_that_was_brought_up_to_date_are_tied_to_its_history() {
    let dir = tempdir().unwrap();
    let dir = dir.path().join("store");
    put(&RealDisk, &dir, VERSION_3);
    drop(Store::open(&dir, options(Arc::new(RealDisk))).unwrap());
    let names: Vec<_> = files(&dir).into_keys().filter(|name| name.ends_with(".segment")).collect();
    let path = dir.join(&names[0]);
    let mut content = std::fs::read(&path).unwrap();
    content[40] ^= 1; // The salt, as a file of another history has it.
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&content[..8]);
    hasher.update(&content[12..64]);
    content[8..12].copy_from_slice(&hasher.finalize().to_le_bytes());
    std::fs::write(&path, content).unwrap();
    let error = Store::open(&dir, options(Arc::new(RealDisk))).unwrap_err();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("another history"), "{error}");
}

#[test]
fn a_crash_anywhere_in_bringing_a_store_up_to_date_leaves_one_that_opens() {
    let dir = Path::new("/data/store");
    let original = {
        let disk = SimulatedDisk::new();
        put(&disk, dir, VERSION_3);
        disk.image()
    };
    let all: fn(usize, &Pending) -> Fate = |_, _| Fate::Kept;
    let nothing: fn(usize, &Pending) -> Fate = |_, _| Fate::Dropped;
    let every_other: fn(usize, &Pending) -> Fate =
        |number, _| if number % 2 == 0 { Fate::Kept } else { Fate::Dropped };
    let (mut moments, mut old) = (0, 0);
    loop {
        let disk = SimulatedDisk::of(original.clone());
        disk.cut_after(moments);
        let outcome = Store::open(dir, options(Arc::new(disk.clone())));
        let finished = outcome.is_ok() && !disk.is_off();
        drop(outcome);
        let image: Image = disk.image();
        for fate in [all, nothing, every_other] {
            let disk = SimulatedDisk::of(image.after_power_cut(fate));
            old += u64::from(version(&disk, dir) == [3, 3]);
            let store = Store::open(dir, options(Arc::new(disk.clone()))).unwrap();
            check(&store);
            drop(store);
            assert_eq!(version(&disk, dir), [4, 4]);
        }
        if finished {
            break;
        }
        moments += 1;
    }
    assert!(moments > 10 && old > 0, "{moments} moments, {old} of them before");
}
