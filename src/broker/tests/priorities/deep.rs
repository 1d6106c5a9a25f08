//! Queues with priorities that are mostly on disk.

use super::super::super::backlog::{Backlog, Supply};
use super::super::super::levels::Levels;
use super::super::super::record::QueueRecord;
use super::*;
use crate::storage::Persistence;

/// A store that keeps hardly anything in memory.
fn small(dir: TempDir) -> Rig {
    let options = Options { segment_size: 1 << 20, cache: 0, index: 0, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    Rig { broker: Broker::open(store).unwrap(), dir }
}

/// The numbers up to `count`, those with the highest remainder first.
fn by_remainder(count: u32, divisor: u32) -> Vec<String> {
    let of = |remainder| (0..count).filter(move |number| number % divisor == remainder);
    (0..divisor).rev().flat_map(of).map(|number| number.to_string()).collect()
}

#[test]
fn a_deep_queue_is_handed_out_in_order_before_and_after_a_restart() {
    const MESSAGES: u32 = 20_000;
    let rig = small(tempfile::tempdir().unwrap());
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 2)).unwrap();
    for number in 0..MESSAGES {
        let properties = Properties { priority: Some((number % 3) as u8), ..persistent() };
        client.channel.publish(&message("", "q", &number.to_string(), &properties)).unwrap();
    }
    client.channel.flush().unwrap();
    let expected = by_remainder(MESSAGES, 3);
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(client.await_bodies(MESSAGES as usize), expected);
    // Nothing was acknowledged.
    drop(client);
    let Rig { broker, dir } = rig;
    let store = broker.store().clone();
    drop(broker);
    store.close().unwrap();
    let rig = small(dir);
    let mut client = rig.connect();
    assert_eq!(client.ready("q"), MESSAGES);
    client.channel.qos(0, 100, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < MESSAGES as usize {
        for received in client.await_deliveries(1) {
            assert!(received.redelivered);
            bodies.push(received.body);
            client.channel.ack(received.tag, false).unwrap();
        }
        client.channel.flush().unwrap();
    }
    assert_eq!(bodies, expected);
}

/// Each time that something more urgent comes, what has been fetched before is overtaken, and must not add up.
#[test]
fn what_is_overtaken_again_and_again_does_not_pile_up_in_memory() {
    const LEVELS: u8 = 8;
    const EACH: u32 = 600;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 1 << 20, cache: 0, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    let record = QueueRecord {
        virtual_host: ShortStr::from_static("/"),
        name: ShortStr::from_static("q"),
        auto_delete: false,
        arguments: ranked("q", i32::from(LEVELS) - 1).arguments,
    };
    let (levels, _) = Levels::create(&store, &record).unwrap();
    let mut backlog = Backlog::default();
    let supply = |backlog: &mut Backlog| {
        loop {
            match backlog.supply(&levels) {
                Supply::OnDisk(from) => assert!(levels.load_ahead(from, usize::MAX).unwrap()),
                supply => break supply,
            }
        }
    };
    for priority in 0..LEVELS {
        for number in 0..EACH {
            let body = format!("{priority} {number}");
            let message = Message::new(Bytes::new(), body);
            let receiver = levels.receiver(&store, || Some(priority)).unwrap();
            store.append(&message, Persistence::Durable, &[receiver]).unwrap();
        }
        levels.note_arrival(|| Some(priority));
        assert_eq!(supply(&mut backlog), Supply::Ready);
        assert!(backlog.ahead() <= 1024, "{} are in memory", backlog.ahead());
    }
    let expected: Vec<String> = (0..LEVELS)
        .rev()
        .flat_map(|priority| (0..EACH).map(move |number| format!("{priority} {number}")))
        .collect();
    let mut bodies = Vec::new();
    while supply(&mut backlog) == Supply::Ready {
        let (fetched, run) = backlog.run();
        assert!(run > 0);
        let taken = fetched.drain(..run);
        bodies.extend(taken.map(|m| String::from_utf8(m.message.body().to_vec()).unwrap()));
    }
    assert_eq!(bodies, expected);
}
