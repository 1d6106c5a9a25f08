//! Opening on a full disk.

use std::sync::Arc;

use haypile::simulation::runs::fates;
use haypile::simulation::{
    Driver, Image, Ledger, Mutant, Random, ReopenError, SimulatedDisk, with_mutant,
};
use haypile::storage::{Background, OpenError, Options, Store, StoreError};

/// The size of the disk of a full store, in bytes.
const CAPACITY: u64 = 12 * (16 << 10);

fn options(disk: &SimulatedDisk) -> Options {
    Options {
        segment_size: 16 << 10,
        segments_ahead: 1,
        background: Background::Caller,
        disk: Arc::new(disk.clone()),
        entropy: Arc::new(Random::new(disk.operations())),
        ..Options::default()
    }
}

/// The last group fills a segment, and the open took it up anew. For the checkpoint behind it there was no second
/// segment, and the open failed with words that are for publishers: that everything goes on by itself.
#[test]
fn an_open_that_finds_no_room_for_its_checkpoint_says_how_much_it_needs() {
    let disk = SimulatedDisk::new();
    let mut driver = Driver::open("/store", options(&disk), Ledger::new()).unwrap();
    // Names that take more than a page in the checkpoint.
    let name = |number: u32| format!("{number:0>200}");
    let queues: Vec<_> =
        (0..30).map(|number| driver.create_queue(name(number).as_bytes()).unwrap()).collect();
    driver.confirm().unwrap();
    // The superblock has a segment's first group as durable, so the last one must be another.
    driver.publish("x", &[&queues[0]]).unwrap();
    driver.confirm().unwrap();
    driver.publish("x".repeat(8_000), &[&queues[0]]).unwrap();
    driver.confirm().unwrap();
    drop(queues);
    let ledger = driver.into_ledger();
    disk.set_capacity(Some(disk.used()));
    let needed = match Driver::open("/store", options(&disk), ledger.clone()) {
        Err(ReopenError::Open(OpenError::Full { bytes, .. })) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(needed, 32 << 10);
    disk.set_capacity(Some(disk.used() + needed));
    Driver::open("/store", options(&disk), ledger).unwrap();
}

/// The options of a store with a reserve.
fn reserved(disk: &SimulatedDisk) -> Options {
    Options { segments_ahead: 5, ..options(disk) }
}

/// A full store, and what it holds.
fn fill() -> (Image, Ledger) {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(CAPACITY));
    let mut driver = Driver::open("/store", reserved(&disk), Ledger::new()).unwrap();
    let queue = driver.create_queue(b"orders").unwrap();
    loop {
        match driver.publish("x".repeat(3_000), &[&queue]).and_then(|()| driver.confirm()) {
            Ok(()) => {}
            Err(StoreError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    drop(queue);
    let ledger = driver.into_ledger();
    (disk.image(), ledger)
}

/// Cuts opens of a full store off, eight in a row each after so many changes of the disk, for each number of them, and opens it.
/// Returns how many were cut off.
fn cut_opens_off() -> Result<u64, String> {
    let (full, ledger) = fill();
    let restart = |image| {
        let disk = SimulatedDisk::of(image);
        disk.set_capacity(Some(CAPACITY));
        disk
    };
    let mut cut_off = 0;
    for changes in 0..200 {
        let mut disk = restart(full.clone());
        for attempt in 0..8 {
            disk.cut_after(changes);
            let opened = Store::open("/store", reserved(&disk));
            if !disk.is_off() {
                break;
            }
            drop(opened);
            cut_off += 1;
            let image = disk.image();
            let power_cut = attempt % 2 == changes % 2;
            disk = restart(if power_cut { fates(&image, changes) } else { image });
        }
        disk.undirect();
        Driver::open("/store", reserved(&disk), ledger.clone())
            .map_err(|error| format!("cut off after {changes} changes each time: {error}"))?;
    }
    Ok(cut_off)
}

/// Each open that was cut off took a segment for good, so that a few of them in a row used up the segments that are kept for
/// opening.
#[test]
fn any_number_of_opens_that_are_cut_off_leave_a_full_store_openable() {
    let cut_off = cut_opens_off().unwrap();
    assert!(cut_off > 100, "{cut_off} opens were cut off");
}

#[test]
fn groups_of_an_open_that_was_cut_off_must_not_count() {
    let error = with_mutant(Mutant::CountProvisional, cut_opens_off).unwrap_err();
    assert!(error.contains("free bytes"), "{error}");
}
