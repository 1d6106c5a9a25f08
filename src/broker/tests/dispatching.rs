//! Who gets which message, and when.

use super::*;

#[test]
fn messages_alternate_between_consumers() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.connect(), rig.connect());
    one.channel.declare_queue(&queue("q")).unwrap();
    one.channel.consume(&consumer("q", "one")).unwrap();
    other.channel.consume(&consumer("q", "other")).unwrap();
    one.send_numbers("q", 0..6);
    assert_eq!(bodies(&one.receive()), ["0", "2", "4"]);
    assert_eq!(bodies(&other.receive()), ["1", "3", "5"]);
}

#[test]
fn with_prefetch_one_a_slow_worker_gets_nothing_while_a_fast_one_is_idle() {
    let rig = Rig::new();
    let (mut slow, mut fast) = (rig.connect(), rig.connect());
    slow.channel.declare_queue(&durable("q")).unwrap();
    for (client, tag) in [(&mut slow, "slow"), (&mut fast, "fast")] {
        client.channel.qos(0, 1, false).unwrap();
        client.channel.consume(&consumer("q", tag)).unwrap();
    }
    fast.send_numbers("q", 0..10);
    assert_eq!(bodies(&slow.receive()), ["0"]);
    for expected in 1..10 {
        let received = fast.await_deliveries(1);
        assert_eq!(bodies(&received), [expected.to_string()]);
        fast.ack(received[0].tag);
    }
    assert!(slow.receive().is_empty());
}

#[test]
fn a_limit_per_channel_is_shared_by_its_consumers_on_any_queue() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.qos(0, 3, true).unwrap();
    for q in ["a", "b"] {
        client.channel.declare_queue(&queue(q)).unwrap();
        client.channel.consume(&consumer(q, q)).unwrap();
    }
    client.send_numbers("a", 0..2);
    client.send_numbers("b", 10..13);
    let received = client.receive();
    assert_eq!(bodies(&received), ["0", "1", "10"]);
    // Credit that a message of one queue frees serves the other.
    client.ack(received[0].tag);
    assert_eq!(bodies(&client.receive()), ["11"]);
    client.channel.qos(0, 0, true).unwrap();
    assert_eq!(bodies(&client.receive()), ["12"]);
}

/// Receives one message after the other, and acknowledges each: the consumers that got them.
fn receive_one_by_one(client: &mut Client, count: usize) -> Vec<String> {
    let consumers = (0..count).map(|_| {
        let [received] = &client.receive()[..] else { panic!("not one message") };
        client.ack(received.tag);
        received.consumer.clone()
    });
    consumers.collect()
}

#[test]
fn consumers_that_share_a_limit_take_turns() {
    let rig = Rig::new();
    // Consumers of three queues, then three of one queue.
    for queues in [["a", "b", "c"], ["d", "d", "d"]] {
        let mut client = rig.connect();
        client.channel.qos(0, 1, true).unwrap();
        for (q, tag) in queues.into_iter().zip(["0", "1", "2"]) {
            client.channel.declare_queue(&queue(q)).unwrap();
            client.channel.consume(&consumer(q, tag)).unwrap();
        }
        for _ in 0..4 {
            queues.into_iter().for_each(|q| assert_eq!(client.send(q, "x"), 1));
        }
        let expected: Vec<_> = (0..12).map(|turn| (turn % 3).to_string()).collect();
        assert_eq!(receive_one_by_one(&mut client, 12), expected, "{queues:?}");
        assert!(client.receive().is_empty());
    }
}

#[test]
fn a_turn_of_a_consumer_that_has_nothing_to_get_is_passed_on() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.qos(0, 1, true).unwrap();
    for q in ["a", "b", "c"] {
        client.channel.declare_queue(&queue(q)).unwrap();
        client.channel.consume(&consumer(q, q)).unwrap();
    }
    for q in ["a", "b", "c", "c"] {
        client.send(q, "x");
    }
    let held = client.receive();
    // The messages of `b` go, and one of its consumers, while they wait for their turn.
    client.channel.purge_queue(b"b").unwrap();
    client.ack(held[0].tag);
    assert_eq!(receive_one_by_one(&mut client, 1), ["c"]);
    client.channel.cancel(b"c").unwrap();
    client.send("b", "x");
    assert_eq!(receive_one_by_one(&mut client, 1), ["b"]);
    assert_eq!(client.ready("c"), 1);
}

#[test]
fn a_consumer_without_acknowledgements_obeys_the_channels_limit_and_does_not_use_it_up() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.qos(0, 1, true).unwrap();
    for q in ["a", "b"] {
        client.channel.declare_queue(&queue(q)).unwrap();
        client.channel.consume(&Consume { no_ack: q == "b", ..consumer(q, q) }).unwrap();
    }
    client.send_numbers("b", 0..3);
    assert_eq!(bodies(&client.receive()), ["0", "1", "2"]);
    client.send("a", "x");
    let held = client.receive();
    client.send_numbers("b", 3..5);
    assert!(client.receive().is_empty());
    client.ack(held[0].tag);
    assert_eq!(bodies(&client.receive()), ["3", "4"]);
    // Nor without a limit: what the broker allows is for what is unacknowledged.
    client.send("a", "x");
    assert_eq!(client.receive().len(), 1);
    client.send_numbers("b", 5..6);
    client.channel.qos(0, 0, true).unwrap();
    assert_eq!(bodies(&client.receive()), ["5"]);
}

#[test]
fn a_limit_per_consumer_holds_for_consumers_to_come() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("a")).unwrap();
    client.channel.declare_queue(&queue("b")).unwrap();
    client.channel.consume(&consumer("a", "unlimited")).unwrap();
    client.channel.qos(0, 2, false).unwrap();
    client.channel.consume(&consumer("b", "limited")).unwrap();
    client.send_numbers("a", 0..5);
    client.send_numbers("b", 5..10);
    let received = client.receive();
    assert_eq!(bodies(&received), ["0", "1", "2", "3", "4", "5", "6"]);
    client.channel.ack(received[6].tag, true).unwrap();
    client.channel.flush().unwrap();
    assert_eq!(bodies(&client.receive()), ["7", "8"]);
}

#[test]
fn a_limit_in_bytes_is_not_implemented() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let refused = refusal(client.channel.qos(10, 0, false));
    assert_eq!(refused, (540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)".to_owned()));
}

#[test]
fn the_consumer_with_the_highest_priority_is_served_first() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.qos(0, 2, false).unwrap();
    for (tag, priority) in [("low", -1), ("high", 5), ("middle", 0)] {
        let arguments = table(&[("x-priority", Value::I32(priority))]);
        let consume = Consume { arguments, ..consumer("q", tag) };
        client.channel.consume(&consume).unwrap();
    }
    client.send_numbers("q", 0..5);
    let consumers: Vec<String> = client.receive().into_iter().map(|r| r.consumer).collect();
    assert_eq!(consumers, ["high", "high", "middle", "middle", "low"]);
}

#[test]
fn messages_without_acknowledgement_are_gone_when_they_are_sent() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..100);
    client.channel.qos(0, 1, false).unwrap();
    let consume = Consume { no_ack: true, ..consumer("q", "c") };
    client.channel.consume(&consume).unwrap();
    assert_eq!(client.await_bodies(100), numbers(0..100), "prefetch does not hold without acks");
    client.channel.cancel(b"c").unwrap();
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn a_cancelled_consumer_leaves_nothing_in_the_outbox_and_nothing_is_redelivered() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send_numbers("q", 0..3);
    assert!(client.has_events());
    client.channel.cancel(b"c").unwrap();
    assert!(!client.has_events());
    assert_eq!(client.ready("q"), 3);
    client.channel.consume(&consumer("q", "again")).unwrap();
    let received = client.receive();
    assert_eq!(bodies(&received), ["0", "1", "2"]);
    assert!(received.iter().all(|received| !received.redelivered), "they were never sent");
}

#[test]
fn what_a_cancelled_consumer_holds_can_still_be_acknowledged() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send_numbers("q", 0..2);
    let received = client.receive();
    client.channel.cancel(b"c").unwrap();
    client.channel.cancel(b"unknown").unwrap();
    client.ack(received[0].tag);
    assert_eq!(client.ready("q"), 0);
    client.channel.recover(true).unwrap();
    assert_eq!(client.ready("q"), 1);
}

#[test]
fn a_full_outbox_bounds_what_is_handed_out_and_draining_it_brings_the_rest() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let body = "x".repeat(100_000);
    for _ in 0..50 {
        client.send("q", &body);
    }
    let first = client.receive().len();
    assert!((10..=12).contains(&first), "about one MiB waits, not {first} messages");
    assert_eq!(client.await_deliveries(50 - first).len(), 50 - first);
}

#[test]
fn a_consumer_that_does_not_read_leaves_the_messages_to_others() {
    let rig = Rig::new();
    let (mut stuck, mut reading) = (rig.connect(), rig.connect());
    stuck.channel.declare_queue(&queue("q")).unwrap();
    stuck.channel.consume(&consumer("q", "stuck")).unwrap();
    reading.channel.consume(&consumer("q", "reading")).unwrap();
    let body = "x".repeat(100_000);
    let mut received = 0;
    for _ in 0..100 {
        reading.send("q", &body);
        received += reading.receive().len();
    }
    assert!(received >= 85, "{received} of 100");
    // What the stuck one holds comes back when its connection ends.
    drop(stuck);
    received += reading.await_deliveries(100 - received).len();
    assert_eq!(received, 100);
}

#[test]
fn the_connection_is_woken_once_for_many_messages() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let rig = Rig::new();
    let (mut consuming, mut publishing) = (rig.connect(), rig.connect());
    consuming.channel.declare_queue(&queue("q")).unwrap();
    consuming.channel.consume(&consumer("q", "c")).unwrap();
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    assert_eq!(consuming.session.poll_events(&mut context), Poll::Pending);
    publishing.send_numbers("q", 0..10);
    assert_eq!(count.0.load(SeqCst), 1);
    assert_eq!(consuming.session.poll_events(&mut context), Poll::Ready(()));
    assert_eq!(consuming.receive().len(), 10);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.connect(), rig.connect());
    one.channel.declare_queue(&queue("q")).unwrap();
    let exclusive = |tag| Consume { exclusive: true, ..consumer("q", tag) };
    one.channel.consume(&exclusive("c")).unwrap();
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use".to_owned();
    assert_eq!(refusal(other.channel.consume(&consumer("q", "d"))), (403, text.clone()));
    one.channel.cancel(b"c").unwrap();
    other.channel.consume(&consumer("q", "d")).unwrap();
    assert_eq!(refusal(one.channel.consume(&exclusive("c"))), (403, text));
}

#[test]
fn a_consumer_tag_is_used_once_per_channel() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let refused = refusal(client.channel.consume(&consumer("q", "c")));
    assert_eq!(refused, (530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'".to_owned()));
    let made_up = client.channel.consume(&consumer("q", "")).unwrap();
    assert!(made_up.starts_with(b"amq.ctag-"));
}

#[test]
fn get_says_how_many_messages_are_left() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    assert!(client.get("q").is_none());
    client.send_numbers("q", 0..3);
    let (first, left) = client.get("q").unwrap();
    assert_eq!((first.body.as_str(), left), ("0", 2));
    let (second, left) = client.get("q").unwrap();
    assert_eq!((second.body.as_str(), left), ("1", 1));
    client.channel.nack(first.tag, false, true).unwrap();
    let (again, left) = client.get("q").unwrap();
    assert_eq!((again.body.as_str(), again.redelivered, left), ("0", true, 1));
}

#[test]
fn a_queue_that_was_left_empty_costs_little_and_goes_on_where_it_was() {
    let idle = size_of::<crate::broker::queue::Queue>();
    assert!(idle <= 192, "{idle} bytes for a queue that is not used");
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..3);
    client.channel.consume(&consumer("q", "c")).unwrap();
    for received in client.await_deliveries(3) {
        client.ack(received.tag);
    }
    client.channel.cancel(b"c").unwrap();
    client.send_numbers("q", 3..6);
    assert_eq!(client.ready("q"), 3);
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(3);
    assert_eq!(bodies(&received), numbers(3..6));
    assert!(received.iter().all(|received| !received.redelivered));
    // One is acknowledged after the consumer has gone, the others go back.
    client.channel.cancel(b"c").unwrap();
    client.ack(received[1].tag);
    client.channel.recover(true).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(2);
    assert_eq!(bodies(&received), ["3", "5"]);
    assert!(received.iter().all(|received| received.redelivered));
}
