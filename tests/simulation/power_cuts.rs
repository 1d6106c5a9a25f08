//! The disk, the driver and the oracle by themselves: that they agree on a store that does everything right.

use std::sync::Arc;

use haypile::simulation::{Driver, Fate, Ledger, Random, SimulatedDisk, Verdict};
use haypile::storage::{Background, Options, Timestamp};
use parking_lot::Mutex;

fn options(disk: &SimulatedDisk) -> Options {
    Options {
        segment_size: 16 << 10,
        segments_ahead: 1,
        chunk_places: 16,
        background: Background::Caller,
        disk: Arc::new(disk.clone()),
        clock: Arc::new(Timestamp::from_unix_millis(0)),
        entropy: Arc::new(Random::new(1)),
        ..Options::default()
    }
}

#[test]
fn after_a_power_cut_with_any_change_the_store_is_what_it_may_be() {
    let disk = SimulatedDisk::new();
    let mut driver = Driver::open("/store", options(&disk), Ledger::new()).unwrap();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (sink, now) = (moments.clone(), driver.now());
    disk.direct(move |operation, image| {
        if operation.is_change() {
            sink.lock().push((image.clone(), *now.lock()));
        }
        Verdict::Proceed
    });
    let queue = driver.create_queue(b"orders").unwrap();
    for n in 0..20 {
        driver.publish(format!("message {n}"), &[&queue]).unwrap();
        driver.confirm().unwrap();
    }
    let moments = std::mem::take(&mut *moments.lock());
    assert!(moments.len() > 50, "{}", moments.len());
    for (image, position) in moments {
        for fate in [Fate::Kept, Fate::Dropped] {
            let after = SimulatedDisk::of(image.after_power_cut(|_, _| fate));
            Driver::open("/store", options(&after), driver.ledger().at(position)).unwrap();
        }
    }
}
