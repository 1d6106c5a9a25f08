//! What lies behind the place from which the log went on once more is void, whatever it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use haypile::simulation::{
    Driver, Fate, Ledger, OperationKind, Random, ReopenError, SimulatedDisk, Verdict,
};
use haypile::storage::{Background, OpenError, Options, Store};

fn options(disk: &SimulatedDisk) -> Options {
    Options {
        segment_size: 16 << 10,
        segments_ahead: 4,
        background: Background::Caller,
        disk: Arc::new(disk.clone()),
        entropy: Arc::new(Random::new(disk.operations())),
        ..Options::default()
    }
}

/// Of a group that began a segment a power cut left the header and no more. The header says that the group before it was durable. The
/// next open took that group up anew, and went on from its beginning. If the power went off again before the segment of the
/// torn header was recycled, the header was evidence of a hole behind that place, and the store did not open any more.
#[test]
fn a_torn_group_behind_a_group_that_was_taken_up_anew_is_no_evidence_of_a_hole() {
    let disk = SimulatedDisk::new();
    let mut driver = Driver::open("/store", options(&disk), Ledger::new()).unwrap();
    let queue = driver.create_queue(b"orders").unwrap();
    driver.confirm().unwrap();
    // One group fills the first segment, the next one begins the second, and is torn.
    driver.publish("x".repeat(7000), &[&queue]).unwrap();
    driver.publish("y".repeat(6000), &[&queue]).unwrap();
    disk.direct(|operation, _| match operation.kind {
        OperationKind::Write { offset: 4096, .. }
            if operation.path.ends_with("0000000000000002.segment") =>
        {
            Verdict::PowerCut
        }
        _ => Verdict::Proceed,
    });
    driver.confirm().unwrap_err();
    drop(queue);
    driver.note_what_is_durable();
    let ledger = driver.into_ledger();
    let torn = disk.image().after_power_cut(|number, _| match number {
        0 => Fate::Kept,
        _ => Fate::Dropped,
    });

    // The power goes off as soon as the group has been taken up.
    let disk = SimulatedDisk::of(torn);
    let synced = AtomicBool::new(false);
    disk.direct(move |operation, _| {
        if synced.load(Ordering::Relaxed) && operation.is_change() {
            return Verdict::PowerCut;
        }
        let of_group = operation.path.extension().is_some_and(|name| name == "segment");
        if operation.kind == OperationKind::SyncData && of_group {
            synced.store(true, Ordering::Relaxed);
        }
        Verdict::Proceed
    });
    Store::open("/store", options(&disk)).unwrap_err();
    assert!(disk.is_off());

    let disk = SimulatedDisk::of(disk.image().after_power_cut(|_, _| Fate::Dropped));
    Driver::open("/store", options(&disk), ledger).unwrap();
}

/// A group that begins a segment is read twice. When the second time gave something else, the log seemed to end in front of it, and it
/// was lost.
#[test]
fn a_group_that_is_whole_at_first_and_then_is_not_is_no_end_of_the_log() {
    let disk = SimulatedDisk::new();
    let mut driver = Driver::open("/store", options(&disk), Ledger::new()).unwrap();
    let queue = driver.create_queue(b"orders").unwrap();
    driver.publish("confirmed", &[&queue]).unwrap();
    driver.confirm().unwrap();
    drop(queue);
    let ledger = driver.into_ledger();
    // The group is taken up at the beginning of a segment.
    let driver = Driver::open("/store", options(&disk), ledger).unwrap();
    let ledger = driver.into_ledger();
    let mut flipped = 0;
    for number in 0.. {
        let before = disk.image();
        let trial = SimulatedDisk::of(before.clone());
        let mut reads = 0;
        let hit = Arc::new(AtomicBool::new(false));
        let told = hit.clone();
        trial.direct(move |operation, _| {
            let OperationKind::Read { offset, bytes } = operation.kind else {
                return Verdict::Proceed;
            };
            reads += 1;
            if reads - 1 != number {
                return Verdict::Proceed;
            }
            told.store(true, Ordering::Relaxed);
            // In the header of a group, where one is read.
            Verdict::Flip { bit: if offset == 0 && bytes > 4096 { 4100 * 8 } else { 80 } }
        });
        match Driver::open("/store", options(&trial), ledger.clone()) {
            Ok(_) if !hit.load(Ordering::Relaxed) => break,
            Ok(_) => {}
            Err(ReopenError::Open(OpenError::Damaged(_))) => {
                assert!(trial.image().contents() == before.contents());
            }
            // It was the message itself that was read wrong, and set aside.
            Err(ReopenError::Read(_)) => {}
            Err(error) => panic!("read {number}: {error}"),
        }
        flipped += 1;
    }
    assert!(flipped > 8, "{flipped} reads");
}
