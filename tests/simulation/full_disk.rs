//! Opening on a full disk.

use std::sync::Arc;

use haypile::simulation::{Driver, Ledger, Random, ReopenError, SimulatedDisk};
use haypile::storage::{Background, OpenError, Options};

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
