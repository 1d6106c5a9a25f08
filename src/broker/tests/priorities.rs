//! Queues with priorities.

mod deep;
mod model;

use super::*;

pub(super) fn ranked(name: &str, max: i32) -> DeclareQueue {
    DeclareQueue { arguments: table(&[("x-max-priority", Value::I32(max))]), ..durable(name) }
}

impl Client {
    /// Everything that is ready, one after the other.
    fn drain(&mut self, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.get(queue)).map(|(received, _)| received.body).collect()
    }
}

#[test]
fn the_highest_priority_comes_first_and_within_one_the_oldest() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 5)).unwrap();
    client.send_ranked("q", 0, "a0");
    client.send("q", "b");
    for (priority, body) in [(3, "c3"), (9, "d9"), (5, "e5"), (255, "f255"), (1, "g1"), (3, "h3")] {
        client.send_ranked("q", priority, body);
    }
    assert_eq!(client.ready("q"), 8);
    assert_eq!(client.get("q").map(|(got, left)| (got.body, left)), Some(("d9".to_owned(), 7)));
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(bodies(&client.receive()), ["e5", "f255", "c3", "h3", "g1", "a0", "b"]);
}

#[test]
fn a_queue_with_the_one_priority_0_is_like_any_other() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 0)).unwrap();
    for (priority, body) in [(0, "a"), (9, "b"), (1, "c")] {
        client.send_ranked("q", priority, body);
    }
    assert_eq!(client.drain("q"), ["a", "b", "c"]);
}

#[test]
fn what_is_more_urgent_overtakes_what_waits_for_credit() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 255)).unwrap();
    client.channel.qos(0, 1, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    for (priority, body) in [(0, "0"), (0, "0'"), (7, "7"), (100, "100"), (7, "7'"), (200, "200")] {
        client.send_ranked("q", priority, body);
    }
    let mut order = Vec::new();
    while let [received] = &client.receive()[..] {
        order.push(received.body.clone());
        if order.len() == 2 {
            client.send_ranked("q", 255, "255");
        }
        client.ack(received.tag);
    }
    assert_eq!(order, ["0", "200", "255", "100", "7", "7'", "0'"]);
}

#[test]
fn what_is_returned_goes_back_to_its_place_in_its_priority() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 5)).unwrap();
    for (priority, body) in [(0, "a0"), (5, "b5"), (3, "c3"), (5, "d5")] {
        client.send_ranked("q", priority, body);
    }
    let tags: Vec<_> = (0..4).map(|_| client.get("q").unwrap().0.tag).collect();
    client.send_ranked("q", 5, "e5");
    client.send_ranked("q", 4, "f4");
    for tag in tags.into_iter().rev() {
        client.channel.nack(tag, false, true).unwrap();
    }
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(6);
    assert_eq!(bodies(&received), ["b5", "d5", "e5", "f4", "c3", "a0"]);
    let fresh: Vec<_> = received.iter().filter(|r| !r.redelivered).map(|r| &r.body[..]).collect();
    assert_eq!(fresh, ["e5", "f4"]);
}

#[test]
fn priorities_survive_a_restart_with_what_was_acknowledged_and_handed_out() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let declared = client.channel.declare_queue(&ranked("q", 3)).unwrap();
    assert!(declared.durable_at.is_some());
    for number in 0..40 {
        client.send_ranked("q", (number % 4) as u8, &number.to_string());
    }
    client.channel.qos(0, 12, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.receive();
    // All of priority 3 (3, 7, …, 39), and two of priority 2.
    assert_eq!(bodies(&received)[..3], ["3", "7", "11"]);
    assert_eq!(bodies(&received)[10..], ["2", "6"]);
    client.channel.cancel(b"c").unwrap();
    for received in received.iter().filter(|received| received.body != "7" && received.body != "6")
    {
        client.ack(received.tag);
    }
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 3)).unwrap();
    assert_eq!(client.ready("q"), 30);
    client.send_ranked("q", 3, "new");
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(31);
    assert_eq!(bodies(&received)[..5], ["7", "new", "6", "10", "14"]);
    assert_eq!(
        bodies(&received)[21..],
        numbers(0..10)
            .iter()
            .map(|n| (n.parse::<u32>().unwrap() * 4).to_string())
            .collect::<Vec<_>>()
    );
    let again: Vec<_> = received.iter().filter(|r| r.redelivered).map(|r| &r.body[..]).collect();
    assert_eq!(again, ["7", "6"]);
}

#[test]
fn purging_takes_all_priorities_and_leaves_what_is_held() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for declare in [ranked("q", 2), DeclareQueue { durable: false, ..ranked("t", 2) }] {
        let q = declare.name.to_string();
        client.channel.declare_queue(&declare).unwrap();
        for number in 0..9 {
            client.send_ranked(&q, number % 3, &number.to_string());
        }
        let (held, left) = client.get(&q).unwrap();
        assert_eq!((held.body.as_str(), left), ("2", 8));
        assert_eq!(client.channel.purge_queue(q.as_bytes()).unwrap().messages, 8);
        assert!(client.get(&q).is_none());
        client.send_ranked(&q, 0, "after");
        client.channel.nack(held.tag, false, true).unwrap();
        assert_eq!(client.drain(&q), ["2", "after"]);
    }
}

#[test]
fn deleting_minds_all_priorities_and_takes_them_along() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 9)).unwrap();
    assert_eq!(rig.broker.store().queues().len(), 1);
    client.send_ranked("q", 4, "x");
    assert_eq!(rig.broker.store().queues().len(), 2);
    assert_eq!(refusal(client.channel.delete_queue(b"q", false, true)).0, 406);
    assert_eq!(client.channel.delete_queue(b"q", false, false).unwrap().messages, 1);
    assert!(rig.broker.store().queues().is_empty());
    client.channel.declare_queue(&ranked("q", 1)).unwrap();
    drop(client);
    let rig = rig.restart();
    assert_eq!(rig.broker.store().queues().len(), 1);
    assert_eq!(rig.connect().ready("q"), 0);
}

#[test]
fn a_level_is_created_with_the_first_message_of_its_priority() {
    let rig = Rig::new();
    let levels = |rig: &Rig| rig.broker.store().queues().len();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 255)).unwrap();
    client.channel.declare_queue(&ranked("other", 255)).unwrap();
    assert_eq!(levels(&rig), 2);
    for (priority, body) in [(0, "0"), (7, "7"), (255, "255"), (7, "7'")] {
        client.send_ranked("q", priority, body);
    }
    assert_eq!(levels(&rig), 4);
    // In a transaction as well.
    client.channel.tx_select().unwrap();
    let urgent = Properties { priority: Some(9), ..persistent() };
    client.channel.stage(&message("", "q", "9", &urgent), true).unwrap();
    assert_eq!(levels(&rig), 4);
    client.channel.tx_commit().unwrap();
    assert_eq!(levels(&rig), 5);
    drop(client);
    let rig = rig.restart();
    assert_eq!(levels(&rig), 5);
    let mut client = rig.connect();
    assert_eq!(client.drain("q"), ["255", "9", "7", "7'", "0"]);
    client.send_ranked("q", 8, "8");
    client.send_ranked("q", 9, "9");
    assert_eq!(levels(&rig), 6);
    assert_eq!(client.drain("q"), ["9", "8"]);
}

#[test]
fn publishers_of_one_priority_create_its_level_once() {
    const EACH: usize = 50;
    let rig = Rig::new();
    rig.connect().channel.declare_queue(&ranked("q", 255)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = rig.connect();
                for priority in 0..EACH {
                    client.send_ranked("q", priority as u8, &priority.to_string());
                }
            });
        }
    });
    assert_eq!(rig.broker.store().queues().len(), EACH);
    let expected = (0..EACH).rev().flat_map(|priority| [(); 4].map(|()| priority.to_string()));
    assert_eq!(rig.connect().drain("q"), expected.collect::<Vec<_>>());
}

#[test]
fn exclusive_and_transient_queues_have_priorities_too() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for declare in [
        DeclareQueue { exclusive: true, ..ranked("exclusive", 3) },
        DeclareQueue { durable: false, ..ranked("transient", 3) },
        ranked("durable", 3),
    ] {
        let q = declare.name.to_string();
        client.channel.declare_queue(&declare).unwrap();
        for number in 0..4 {
            let properties = Properties { priority: Some(number), ..Properties::default() };
            client.channel.publish(&message("", &q, &number.to_string(), &properties)).unwrap();
        }
        client.channel.flush().unwrap();
        assert_eq!(client.drain(&q), ["3", "2", "1", "0"], "{q}");
    }
}

#[test]
fn a_message_goes_to_queues_with_and_without_priorities_and_is_stored_once() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for declare in [ranked("a", 2), ranked("b", 200), durable("c")] {
        client.channel.declare_queue(&declare).unwrap();
        client.channel.bind(&binding("amq.fanout", &declare.name.to_string(), "")).unwrap();
    }
    for (priority, body) in [(1, "1"), (7, "7"), (2, "2")] {
        let properties = Properties { priority: Some(priority), ..persistent() };
        client.channel.publish(&message("amq.fanout", "", body, &properties)).unwrap();
    }
    client.channel.flush().unwrap();
    assert_eq!(client.drain("a"), ["7", "2", "1"]);
    assert_eq!(client.drain("b"), ["7", "2", "1"]);
    assert_eq!(client.drain("c"), ["1", "7", "2"]);
}

#[test]
fn the_argument_is_a_number_up_to_255_and_has_to_be_repeated() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let with =
        |value| DeclareQueue { arguments: table(&[("x-max-priority", value)]), ..durable("q") };
    for (value, why) in [
        (Value::I32(-1), "{value_negative,-1}"),
        (Value::U16(256), "{max_value_exceeded,256}"),
        (Value::I64(1_000_000_000_000), "{max_value_exceeded,1000000000000}"),
        (Value::text("5"), "\"expected integer, got longstr\""),
        (Value::Bool(true), "\"expected integer, got bool\""),
    ] {
        let text = format!(
            "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/': {why}"
        );
        assert_eq!(refusal(client.channel.declare_queue(&with(value))), (406, text));
    }
    for value in [Value::U8(5), Value::I8(5), Value::I16(5), Value::I64(5), Value::U32(5)] {
        client.channel.declare_queue(&with(value)).unwrap();
    }
    for (request, difference) in [
        (with(Value::I32(6)), "received '6' but current is '5'"),
        (durable("q"), "received none but current is the value '5' of type 'unsignedbyte'"),
    ] {
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': \
             {difference}"
        );
        assert_eq!(refusal(client.channel.declare_queue(&request)), (406, text));
    }
    let arguments = [("x-max-priority", Value::I32(5)), ("x-queue-type", Value::text("quorum"))];
    let quorum = DeclareQueue { arguments: table(&arguments), ..durable("quorum") };
    let text = "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'quorum' in vhost '/' \
                of queue type rabbit_quorum_queue";
    assert_eq!(refusal(client.channel.declare_queue(&quorum)), (406, text.to_owned()));
}

#[test]
fn a_transaction_is_committed_to_all_priorities_at_once() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 3)).unwrap();
    for priority in 0..4 {
        client.send_ranked("q", priority, &format!("old {priority}"));
    }
    let held: Vec<_> = (0..4).map(|_| client.get("q").unwrap().0).collect();
    assert_eq!(bodies(&held), ["old 3", "old 2", "old 1", "old 0"]);
    client.channel.tx_select().unwrap();
    for priority in [0, 2, 9] {
        let properties = Properties { priority: Some(priority), ..persistent() };
        let body = format!("new {priority}");
        client.channel.stage(&message("", "q", &body, &properties), false).unwrap();
    }
    for received in [&held[0], &held[2], &held[3]] {
        client.channel.ack(received.tag, false).unwrap();
    }
    client.channel.tx_commit().unwrap();
    client.channel.flush().unwrap();
    assert_eq!(client.ready("q"), 3);
    drop(client);
    let mut other = rig.connect();
    assert_eq!(other.drain("q"), ["new 9", "old 2", "new 2", "new 0"]);
    drop(other);
    assert_eq!(rig.restart().connect().drain("q"), ["new 9", "old 2", "new 2", "new 0"]);
}

/// Nothing but a repair of the store can do this; the messages that are left are served in order all the same.
#[test]
fn a_level_that_has_been_lost_is_created_again_with_a_message() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&ranked("q", 2)).unwrap();
    for priority in 0..3 {
        client.send_ranked("q", priority, &priority.to_string());
    }
    drop(client);
    let level = rig.broker.store().queues().into_iter().find(|queue| {
        StoredQueue::read(queue.attributes()).unwrap().part.is_some_and(|part| part.priority == 1)
    });
    let deletion = crate::storage::Change::DeleteQueue(level.unwrap().id());
    rig.broker.store().apply(vec![deletion]).unwrap();
    let rig = rig.restart();
    let mut client = rig.connect();
    client.send_ranked("q", 1, "new");
    assert_eq!(client.drain("q"), ["2", "new", "0"]);
    drop(client);
    let rig = rig.restart();
    assert_eq!(rig.broker.store().queues().len(), 3);
    assert_eq!(rig.connect().drain("q"), ["2", "new", "0"]);
}
