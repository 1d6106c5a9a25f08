//! Everybody who waits is told, in whichever way they wait, and not before it is so.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::thread;

use super::rig::{Rig, Settings, Told, Written, assert_apart, explore};
use crate::storage::log::Durable;

/// Appends two records, and waits for each in a way of its own.
fn two_records(
    rig: &Arc<Rig>,
    byte: u8,
    wait: impl Fn(&Rig, &Written) + Send + 'static,
) -> thread::JoinHandle<Vec<Written>> {
    let rig = rig.clone();
    thread::spawn(move || {
        let written = |byte| {
            let written = rig.append(byte, 20).unwrap();
            wait(&rig, &written);
            written
        };
        let both = vec![written(byte), written(byte + 1)];
        assert!(both[0].end <= both[1].lsn, "LSNs only grow");
        both
    })
}

fn all_kinds(settings: Settings) {
    let rig = Rig::start(settings);
    let thread = two_records(&rig, 1, |rig, written| {
        rig.believe(written, &rig.log.wait(written.end));
    });
    let callback = two_records(&rig, 3, |rig, written| {
        let told = Told::new();
        rig.call_back(written, &told);
        rig.believe(written, &told.wait());
        told.once().unwrap();
    });
    let future = two_records(&rig, 5, |rig, written| {
        let mut given_up = Box::pin(Durable::new(rig.log.clone(), written.end));
        let _answer = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(given_up);
        rig.believe(written, &block_on(Durable::new(rig.log.clone(), written.end)));
    });
    let all = [thread, callback, future].into_iter().flat_map(|one| one.join().unwrap());
    assert_apart(all.collect());
    rig.end();
}

/// Nothing is written before somebody asks for it: whoever is not heard waits for ever.
pub(super) fn asked_for() {
    all_kinds(Settings::default());
}

/// Everything is written as soon as the writer comes to it.
fn at_once() {
    all_kinds(Settings { lazy_sync: Duration::ZERO, ..Settings::default() });
}

/// Who finds the log congested waits for what it is told to, and goes on.
fn congested() {
    let rig = Rig::start(Settings { unsynced_limit: 200, ..Settings::default() });
    let publishers = (0..3).map(|byte| {
        let rig = rig.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                if let Some(lsn) = rig.log.congested() {
                    rig.log.wait(lsn).unwrap();
                }
                rig.append(byte, 100).unwrap();
            }
        })
    });
    publishers.collect::<Vec<_>>().into_iter().for_each(|one| one.join().unwrap());
    let end = rig.log.end();
    rig.log.wait(end).unwrap();
    assert_eq!(rig.log.congested(), None, "nothing is left unsynced");
    rig.end();
}

#[test]
fn threads_callbacks_and_futures_are_all_told_when_their_record_is_synced() {
    explore("waiting, written when asked for", asked_for);
    explore("waiting, written at once", at_once);
}

#[test]
fn a_congested_log_lets_everybody_go_on() {
    explore("congestion", congested);
}
