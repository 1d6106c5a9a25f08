//! What is durable when, and how to wait for it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use haypile::storage::{Options, Store};
use tempfile::tempdir;

use crate::support::*;

#[test]
fn threads_that_append_together_share_their_syncs() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), Options { segment_size: 1 << 20, ..small() }).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    let before = store.log_statistics().groups;
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..50).for_each(|n| confirm(&store, &orders, n.to_string())));
        }
    });
    let groups = store.log_statistics().groups - before;
    assert_eq!(orders.len(), 800);
    assert!(groups < 800, "{groups} syncs for 800 messages of 16 threads");
}

#[test]
fn a_record_nobody_waits_for_is_durable_soon_all_the_same() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    confirm(&store, &orders, "m");
    let lsn = acknowledge(&orders, 0).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            while store.durable_lsn() < lsn {
                thread::sleep(Duration::from_millis(1));
            }
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(Duration::from_secs(20)).expect("it is synced without being asked");
    });
}

#[test]
fn a_callback_runs_once_when_its_record_is_durable() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let lsn = append(&store, &orders, "m");
    let (sender, receiver) = mpsc::channel();
    let inner = store.clone();
    let told = sender.clone();
    store
        .on_durable(lsn, move |outcome| told.send((outcome.is_ok(), inner.durable_lsn())).unwrap());
    let (fine, durable) = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(fine && durable >= lsn);
    // What is durable already calls back at once.
    store.on_durable(lsn, move |outcome| sender.send((outcome.is_ok(), lsn)).unwrap());
    assert_eq!(receiver.try_recv(), Ok((true, lsn)));
    assert!(receiver.try_recv().is_err());
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_wakes_the_task_that_polled_it_last() {
    let dir = tempdir().unwrap();
    // Nothing is synced by itself for a long time: only the future's own wish can do it.
    let options = Options { lazy_sync: Duration::from_secs(3600), ..small() };
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let lsn = append(&store, &orders, "m");
    let counter = Arc::new(Counter::default());
    let mut future = pin!(store.durable(lsn));
    let waker = Waker::from(counter.clone());
    let mut polls = 0;
    loop {
        polls += 1;
        let seen = counter.0.load(Ordering::SeqCst);
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            outcome.unwrap();
            break;
        }
        while counter.0.load(Ordering::SeqCst) == seen {
            thread::yield_now();
        }
    }
    assert!(polls <= 3, "it was polled {polls} times");
    assert!(store.durable_lsn() >= lsn);
    // A future that is dropped early harms nobody.
    let next = append(&store, &orders, "m");
    let mut dropped = Box::pin(store.durable(next));
    assert!(matches!(
        dropped.as_mut().poll(&mut Context::from_waker(&waker)),
        Poll::Pending | Poll::Ready(Ok(()))
    ));
    drop(dropped);
    store.wait_durable(next).unwrap();
}

#[test]
fn too_much_unsynced_data_is_told_and_passes() {
    let dir = tempdir().unwrap();
    let options = Options {
        segment_size: 1 << 20,
        unsynced_limit: 100_000,
        lazy_sync: Duration::from_secs(3600),
        ..small()
    };
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    assert_eq!(store.congested(), None);
    let body = "x".repeat(1000);
    let mut appended = 0;
    let until = loop {
        append(&store, &orders, &body);
        appended += 1;
        if let Some(lsn) = store.congested() {
            break lsn;
        }
        assert!(appended < 1000, "nothing is ever too much");
    };
    assert!(appended >= 90, "after {appended} messages of 1,000 bytes already");
    store.wait_durable(until).unwrap();
    assert_eq!(store.congested(), None);
}
