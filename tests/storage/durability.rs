//! What is durable when, and how to wait for it.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use haypile::storage::{
    Background, Durable, Lsn, Options, Persistence, Queue, Sequence, Store, StoreError,
};
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
        receiver.recv_timeout(Duration::from_secs(60)).expect("it is synced without being asked");
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
    let (fine, durable) = receiver.recv_timeout(Duration::from_secs(60)).unwrap();
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
    let store = Store::open(dir.path(), patient()).unwrap();
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

/// Once a checkpoint that was under way found the log closed, and that was taken for a failure of the log.
#[test]
fn a_store_dropped_while_a_checkpoint_is_written_has_written_everything() {
    let dir = tempdir().unwrap();
    let options = || Options { checkpoint_distance: 1, ..small() };
    let mut expected = 0;
    for round in 0..30 {
        let store = Store::open(dir.path(), options()).unwrap();
        if round == 0 {
            (0..100).for_each(|n| {
                store.create_queue(format!("q{n}").as_bytes()).unwrap();
            });
        }
        let queues = store.queues();
        let live: u64 = queues.iter().map(|queue| queue.len()).sum();
        assert_eq!(live, expected, "round {round}");
        for n in 0..300 {
            append(&store, &queues[n % 100], "x".repeat(1000));
            expected += 1;
        }
    }
}

/// Opens a store that another thread is about to give back.
fn reopen(dir: &std::path::Path) -> Store {
    let begin = Instant::now();
    loop {
        if let Ok(store) = Store::open(dir, small()) {
            return store;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "the store is never given back");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Nothing is durable before somebody wants it to be: a callback is never called by who asks for it.
fn patient() -> Options {
    Options { lazy_sync: Duration::from_secs(3600), ..small() }
}

#[test]
fn a_store_whose_last_clone_is_dropped_by_a_callback_writes_everything_and_ends() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), patient()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let lsn = append(&store, &orders, "0");
    let (dropped, wait) = mpsc::channel::<()>();
    let inner = store.clone();
    store.on_durable(lsn, move |_| {
        let _gone = wait.recv();
        (1..1500).for_each(|n| {
            append(&inner, &orders, format!("{n:>1000}"));
        });
    });
    drop(store);
    drop(dropped);
    assert_eq!(queue(&reopen(dir.path()), "orders").len(), 1500);
}

#[test]
fn a_callback_that_panics_fails_the_log_and_leaves_nobody_waiting() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), patient()).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    let lsn = append(&store, &orders, "m");
    store.on_durable(lsn, |_| panic!("on purpose"));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let once = || {
            let appended = store.append(&message("m"), Persistence::Durable, &[&orders])?;
            store.wait_durable(appended.durable_at.unwrap_or(lsn))
        };
        while once().is_ok() {}
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(Duration::from_secs(60)).expect("everybody is told");
}

#[test]
fn a_group_may_wait_for_ever_to_be_written() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), Options { lazy_sync: Duration::MAX, ..small() }).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    thread::sleep(Duration::from_millis(20));
    confirm(&store, &orders, "m");
}

/// Polls its future in the very call that wakes it.
struct Eager(parking_lot::Mutex<Option<Durable>>, mpsc::Sender<bool>);

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        let mut future = self.0.lock().take().expect("it is woken once");
        let outcome = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
        self.1.send(outcome.is_ready()).unwrap();
    }
}

#[test]
fn a_future_can_be_polled_by_its_own_waker() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), patient()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let lsn = append(&store, &orders, "m");
    let (sender, receiver) = mpsc::channel();
    let eager = Arc::new(Eager(parking_lot::Mutex::new(None), sender));
    let mut place = eager.0.lock();
    let waker = Waker::from(eager.clone());
    let mut future = store.durable(lsn);
    let polled = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
    if polled.is_ready() {
        return; // the disk was faster
    }
    *place = Some(future);
    drop(place);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(true));
}

/// Waiting for it had no end, and without threads it was a panic.
#[test]
fn waiting_for_an_lsn_that_was_never_given_out_is_an_error_at_once() {
    for options in [small(), manual()] {
        let dir = tempdir().unwrap();
        let store = Store::open(dir.path(), options).unwrap();
        let (orders, created) = store.create_queue(b"orders").unwrap();
        store.wait_durable(created).unwrap();
        let given = append(&store, &orders, "m");
        let is_unknown =
            |outcome| matches!(outcome, Err(StoreError::UnknownLsn { lsn }) if lsn == Lsn::MAX);
        assert!(is_unknown(store.wait_durable(Lsn::MAX)));
        let (sender, receiver) = mpsc::channel();
        store.on_durable(Lsn::MAX, move |outcome| sender.send(outcome).unwrap());
        assert!(is_unknown(receiver.try_recv().unwrap()));
        let polled = pin!(store.durable(Lsn::MAX)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(outcome) = polled else { panic!("it waits") };
        assert!(is_unknown(outcome));
        // It means nothing to the log, which goes on as before.
        store.expedite(Lsn::MAX);
        store.wait_durable(given).unwrap();
        confirm(&store, &orders, "n");
        assert!(is_unknown(store.wait_durable(Lsn::MAX)));
        assert_eq!(bodies(&orders), ["m", "n"]);
    }
}

/// The generation of the superblock, which grows by one with each update.
fn superblock_updates(dir: &Path) -> u64 {
    let bytes = std::fs::read(dir.join("superblock")).unwrap();
    let generation = |copy: usize| {
        u64::from_le_bytes(bytes[copy + 32..copy + 40].try_into().expect("eight bytes"))
    };
    generation(0).max(generation(4096))
}

/// Each of them had an update of its own, with two syncs.
#[test]
fn segments_that_are_made_together_are_named_by_one_update_of_the_superblock() {
    for background in [Background::Caller, Background::Threads] {
        let dir = tempdir().unwrap();
        let options = Options { segments_ahead: 16, background, ..small() };
        let store = Store::open(dir.path(), options).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.inspect().open.unwrap().segments_ready < 16 {
            assert!(Instant::now() < deadline, "the segments are not made ready");
            thread::sleep(Duration::from_millis(1));
        }
        let updates = superblock_updates(dir.path());
        assert!(updates <= 6, "{updates} updates with {background:?}");
    }
}

#[test]
fn hand_outs_are_counted_in_each_chunk_that_has_one_of_them() {
    let dir = tempdir().unwrap();
    let options = || Options { chunk_places: 64, ..small() };
    let store = Store::open(dir.path(), options()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..300).for_each(|n| {
        append(&store, &orders, n.to_string());
    });
    // The last of a chunk, the first of the next, none of one, and two of the last.
    let marks: Vec<_> = [0, 63, 64, 127, 192, 298, 299].map(|n| (Sequence::new(n), 2)).into();
    assert!(orders.mark_delivered(&marks).unwrap());
    let counted = |queue: &Queue| -> Vec<_> {
        let handed_out = fetch_all(queue).into_iter().filter(|fetched| fetched.deliveries > 0);
        handed_out.map(|fetched| (fetched.sequence, fetched.deliveries)).collect()
    };
    assert_eq!(counted(&orders), marks);
    drop((orders, store));
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(counted(&queue(&store, "orders")), marks, "after a restart");
}
