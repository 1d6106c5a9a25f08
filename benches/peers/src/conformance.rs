//! Every peer is a durable queue: what was acknowledged is gone after it was opened again, what was not is there, in order.

use std::path::Path;
use std::thread;

use bytes::Bytes;

use crate::peer::{Fetched, Peer, Place};
use crate::stores::Kind;

fn body(number: u64) -> Bytes {
    let length = (number * 37 % 3000) as usize;
    [number.to_be_bytes().as_slice(), &vec![number as u8; length]].concat().into()
}

fn append(peer: &dyn Peer, numbers: std::ops::RangeInclusive<u64>) {
    peer.append(&numbers.map(body).collect::<Vec<_>>()).unwrap();
}

fn everything(peer: &dyn Peer) -> Vec<Fetched> {
    let (mut all, mut from) = (Vec::new(), Place::FIRST);
    loop {
        let some = peer.fetch(from, 7).unwrap();
        let Some((last, _)) = some.last() else { return all };
        from = last.next();
        all.extend(some);
    }
}

fn expected(numbers: std::ops::RangeInclusive<u64>) -> Vec<Fetched> {
    numbers.map(|number| (Place(number), body(number))).collect()
}

/// Runs something on every peer, in a directory of its own.
fn on_each(test: impl Fn(&dyn Fn() -> Box<dyn Peer>)) {
    for kind in Kind::ALL {
        eprintln!("{}", kind.name());
        let dir = tempfile::tempdir().unwrap();
        let dir: &Path = dir.path();
        test(&|| kind.open(dir).unwrap());
    }
}

#[test]
fn what_is_acknowledged_is_gone_and_the_rest_is_there_in_order() {
    on_each(|open| {
        let peer = open();
        append(&*peer, 1..=1);
        append(&*peer, 2..=25);
        append(&*peer, 26..=40);
        assert_eq!(everything(&*peer), expected(1..=40));
        peer.acknowledge(Place(3)).unwrap();
        peer.acknowledge(Place(30)).unwrap();
        assert_eq!(everything(&*peer), expected(31..=40));
        peer.close().unwrap();

        let peer = open();
        assert_eq!(everything(&*peer), expected(31..=40));
        append(&*peer, 41..=50);
        peer.acknowledge(Place(31)).unwrap();
        assert_eq!(everything(&*peer), expected(32..=50));
        peer.close().unwrap();
        let peer = open();
        assert_eq!(everything(&*peer), expected(32..=50));
        peer.close().unwrap();
    });
}

#[test]
fn no_place_is_given_twice_though_the_queue_was_empty() {
    on_each(|open| {
        let peer = open();
        append(&*peer, 1..=5);
        peer.acknowledge(Place(5)).unwrap();
        assert_eq!(everything(&*peer), []);
        peer.close().unwrap();
        let peer = open();
        assert_eq!(everything(&*peer), []);
        append(&*peer, 6..=7);
        assert_eq!(everything(&*peer), expected(6..=7));
        peer.close().unwrap();
    });
}

#[test]
fn what_many_threads_append_is_there_once_and_in_the_order_of_each() {
    on_each(|open| {
        let peer = open();
        thread::scope(|scope| {
            for thread in 0..8 {
                let peer = &*peer;
                scope.spawn(move || {
                    (0..20)
                        .for_each(|number| append(peer, thread * 100..=thread * 100 + number % 3));
                });
            }
        });
        peer.close().unwrap();
        let peer = open();
        let mut found: Vec<Bytes> = everything(&*peer).into_iter().map(|(_, body)| body).collect();
        peer.close().unwrap();
        for thread in 0..8 {
            let its_own: Vec<Bytes> = (0..20)
                .flat_map(|number| (0..=number % 3).map(move |one| body(thread * 100 + one)))
                .collect();
            let of_it = |found: &Bytes| its_own.contains(found);
            assert_eq!(found.iter().filter(|f| of_it(f)).cloned().collect::<Vec<_>>(), its_own);
            found.retain(|found| !of_it(found));
        }
        assert_eq!(found, Vec::<Bytes>::new());
    });
}
