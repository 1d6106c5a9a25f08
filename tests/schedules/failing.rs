//! A failure reaches everybody exactly once, and is the end.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread;

use super::disk::Fails;
use super::rig::{Rig, Settings, Told, explore};
use crate::storage::error::StoreError;
use crate::storage::log::Durable;

fn failing(fails: Fails) {
    let rig = Rig::start(Settings { fails: Some(fails), ..Settings::default() });
    let before = Told::new();
    rig.count_failures(&before);
    let during = Told::new();
    let one = |byte: u8, wait: fn(&Rig, &super::rig::Written) -> Result<(), StoreError>| {
        let rig = rig.clone();
        thread::spawn(move || {
            // Nothing is taken once it is known.
            let Ok(written) = rig.append(byte, 20) else { return };
            let outcome = wait(&rig, &written);
            rig.believe(&written, &outcome);
        })
    };
    let waiting = [
        one(1, |rig, written| rig.log.wait(written.end)),
        one(2, |rig, written| block_on(Durable::new(rig.log.clone(), written.end))),
        one(3, |rig, written| {
            let told = Told::new();
            rig.call_back(written, &told);
            let outcome = told.wait();
            assert_eq!(told.once().is_ok(), outcome.is_ok());
            outcome
        }),
    ];
    rig.count_failures(&during);
    waiting.into_iter().for_each(|one| one.join().unwrap());
    // Whatever was written before, the next one meets it at the latest.
    while let Ok(written) = rig.append(4, 20) {
        let outcome = rig.log.wait(written.end);
        rig.believe(&written, &outcome);
    }
    let after = Told::new();
    rig.count_failures(&after);
    rig.end();
    for told in [&before, &during, &after] {
        assert!(matches!(told.once(), Err(StoreError::Failed(_))), "told of the failure");
    }
    assert!(rig.append(5, 20).is_err(), "nothing is taken any more");
    assert_eq!(rig.disk.after_failure(), 0, "nothing is tried again");
}

pub(super) fn first_sync() {
    failing(Fails::Sync(0));
}

fn second_sync() {
    failing(Fails::Sync(1));
}

fn first_write() {
    failing(Fails::Write(0));
}

/// The disk fails the writer, and something else fails the log at the same time.
fn two_at_once() {
    let rig = Rig::start(Settings { fails: Some(Fails::Sync(0)), ..Settings::default() });
    let told = Told::new();
    rig.count_failures(&told);
    let other = {
        let rig = rig.clone();
        thread::spawn(move || rig.log.fail("the thread of another test panicked"))
    };
    let waiting = (0..2).map(|byte| {
        let rig: Arc<Rig> = rig.clone();
        thread::spawn(move || {
            let Ok(written) = rig.append(byte, 20) else { return };
            let called = Told::new();
            rig.call_back(&written, &called);
            assert!(matches!(rig.log.wait(written.end), Err(StoreError::Failed(_))));
            assert!(called.wait().is_err());
            called.once().unwrap_err();
        })
    });
    waiting.collect::<Vec<_>>().into_iter().for_each(|one| one.join().unwrap());
    other.join().unwrap();
    rig.end();
    assert!(matches!(told.once(), Err(StoreError::Failed(_))));
    assert_eq!(rig.disk.after_failure(), 0, "nothing is tried again");
}

fn second_file() {
    let rig = Rig::start(Settings { fails: Some(Fails::Create(1)), ..Settings::default() });
    let told = Told::new();
    rig.count_failures(&told);
    let publishers = (0..3).map(|byte| {
        let rig: Arc<Rig> = rig.clone();
        thread::spawn(move || {
            while let Ok(written) = rig.append(byte, 5000) {
                let outcome = rig.log.wait(written.end);
                rig.believe(&written, &outcome);
            }
        })
    });
    publishers.collect::<Vec<_>>().into_iter().for_each(|one| one.join().unwrap());
    rig.end();
    assert!(matches!(told.once(), Err(StoreError::Failed(_))));
}

#[test]
fn a_failed_sync_is_told_to_everybody_once_and_never_tried_again() {
    explore("the first sync fails", first_sync);
    explore("the second sync fails", second_sync);
    explore("two failures at once", two_at_once);
}

#[test]
fn a_failed_write_is_told_to_everybody_once_and_never_tried_again() {
    explore("the first write fails", first_write);
}

#[test]
fn a_segment_that_cannot_be_made_fails_everybody_who_needs_it() {
    explore("the second segment cannot be made", second_file);
}
