//! Dead letters that wait in their source queue for a route or for room.

use super::dead_letter_transfer::{dead_letters_to, next, reject};
use super::expiring::{Slow, with};
use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};

/// Arguments of a quorum queue with dead letters to that exchange and key, and at-least-once.
fn at_least_once<'a>(exchange: &str, key: &str) -> Vec<(&'a str, Value)> {
    let mut arguments = dead_letters_to(exchange, key);
    arguments.push(("x-queue-type", Value::text("quorum")));
    arguments.push(("x-overflow", Value::text("reject-publish")));
    arguments.push(("x-dead-letter-strategy", Value::text("at-least-once")));
    arguments
}

/// Arguments of a queue that refuses more than `most` messages.
fn full_at<'a>(most: u8) -> Vec<(&'a str, Value)> {
    vec![("x-max-length", Value::U8(most)), ("x-overflow", Value::text("reject-publish"))]
}

#[test]
fn a_dead_letter_whose_target_is_full_arrives_when_there_is_room() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("dead", &full_at(1))).unwrap();
    client.channel.declare_queue(&with("q", &at_least_once("", "dead"))).unwrap();
    client.send("dead", "filler");
    client.send_numbers("q", 0..3);
    reject(&mut client, "q", 3);
    assert_eq!((client.ready("q"), client.ready("dead")), (0, 1));
    let mut arrived = Vec::new();
    for _ in 0..4 {
        // No time passes: the queue is notified of the room.
        slow.pass(0);
        arrived.extend(next(&mut client, "dead"));
    }
    assert_eq!(arrived, ["filler", "0", "1", "2"]);

    client.send("dead", "filler");
    client.send("q", "purged");
    reject(&mut client, "q", 1);
    client.channel.purge_queue(b"dead").unwrap();
    slow.pass(0);
    assert_eq!(next(&mut client, "dead").as_deref(), Some("purged"));
}

#[test]
fn a_dead_letter_without_a_route_arrives_when_there_is_one() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&with("q", &at_least_once("graves", "k"))).unwrap();
    client.send("q", "x");
    reject(&mut client, "q", 1);
    slow.pass(100_000);
    assert_eq!(client.ready("q"), 0);
    client.channel.declare_exchange(&exchange("graves", "fanout")).unwrap();
    slow.pass(0);
    assert_eq!(client.ready("dead"), 0);
    client.channel.bind(&binding("graves", "dead", "")).unwrap();
    slow.pass(0);
    assert_eq!(next(&mut client, "dead").as_deref(), Some("x"));

    // The queue that the default exchange leads to.
    client.channel.declare_queue(&with("r", &at_least_once("", "later"))).unwrap();
    client.send("r", "y");
    reject(&mut client, "r", 1);
    client.channel.declare_queue(&durable("later")).unwrap();
    slow.pass(0);
    assert_eq!(next(&mut client, "later").as_deref(), Some("y"));
}

#[test]
fn a_held_dead_letter_is_retried_after_growing_pauses() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&with("q", &at_least_once("missing", "dead"))).unwrap();
    client.send("q", "x");
    reject(&mut client, "q", 1);
    for pause in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
        assert_eq!(slow.waiting(), 1, "{pause}");
        slow.pass(pause - 1);
        assert!(!slow.broker.work_off(), "it is not time yet: {pause}");
        slow.clock_only(1);
        assert!(slow.broker.work_off(), "{pause}");
        while slow.broker.work_off() {}
    }
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn a_held_dead_letter_survives_a_restart_in_its_source_queue() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let mut expiring = at_least_once("missing", "k");
    expiring.push(("x-message-ttl", Value::I32(100)));
    client.channel.declare_queue(&with("expiring", &expiring)).unwrap();
    client.channel.declare_queue(&with("rejected", &at_least_once("missing", "k"))).unwrap();
    client.send("expiring", "old");
    client.send("rejected", "bad");
    slow.pass(100);
    reject(&mut client, "rejected", 1);
    drop(client);
    let slow = slow.restart();
    slow.pass(0);
    let mut client = slow.connect();
    // What expires does so again; what was rejected has to be rejected again.
    assert_eq!(client.ready("expiring"), 0);
    assert_eq!(client.ready("rejected"), 1);
    // It is read back from the log.
    assert!(matches!(client.channel.get(b"rejected", false), Ok(Get::Pending)));
    slow.pass(0);
    match client.events().pop() {
        Some(Event::Got { message: Some((delivery, _)), .. }) => {
            assert!(client.accept(delivery).redelivered);
        }
        other => panic!("{other:?}"),
    }
    client.channel.nack(DeliveryTag(0), true, false).unwrap();
    client.channel.flush().unwrap();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_exchange(&exchange("missing", "fanout")).unwrap();
    client.channel.bind(&binding("missing", "dead", "")).unwrap();
    slow.pass(0);
    let mut arrived = slow.drain(&mut client, "dead");
    arrived.sort();
    assert_eq!(arrived, ["bad", "old"]);
}

#[test]
fn held_dead_letters_count_to_the_bounds_of_their_queue_and_to_if_empty() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let mut bounded = at_least_once("missing", "k");
    bounded.push(("x-max-length", Value::U8(2)));
    client.channel.declare_queue(&with("q", &bounded)).unwrap();
    client.send("q", "x");
    reject(&mut client, "q", 1);
    client.send("q", "y");
    assert!(client.channel.publish(&message("", "q", "z", &persistent())).unwrap().refused);

    let mut bytes = at_least_once("missing", "k");
    bytes.push(("x-max-length-bytes", Value::U8(10)));
    client.channel.declare_queue(&with("bytes", &bytes)).unwrap();
    for body in ["123456", "789"] {
        client.send("bytes", body);
        reject(&mut client, "bytes", 1);
    }
    let mut refused = |body: &str| {
        client.channel.publish(&message("", "bytes", body, &persistent())).unwrap().refused
    };
    assert_eq!(["12", "1", "2"].map(&mut refused), [true, false, true]);
    client.channel.delete_queue(b"bytes", false, false).unwrap();

    client.channel.purge_queue(b"q").unwrap();
    let not_empty = refusal(client.channel.delete_queue(b"q", false, true));
    assert_eq!(not_empty.0, 406);
    client.channel.delete_queue(b"q", false, false).unwrap();
    assert_eq!(slow.broker.store().queues().len(), 0);
}

#[test]
fn a_dead_letter_for_several_queues_waits_until_all_have_room() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("free")).unwrap();
    client.channel.declare_queue(&with("tight", &full_at(1))).unwrap();
    for text in ["free", "tight"] {
        client.channel.bind(&binding("amq.fanout", text, "")).unwrap();
    }
    client.channel.declare_queue(&with("q", &at_least_once("amq.fanout", "k"))).unwrap();
    client.send("tight", "filler");
    client.send("q", "x");
    reject(&mut client, "q", 1);
    slow.pass(1000);
    assert_eq!((client.ready("free"), client.ready("tight")), (0, 1));
    assert_eq!(next(&mut client, "tight").as_deref(), Some("filler"));
    slow.pass(0);
    assert_eq!((client.ready("free"), client.ready("tight")), (1, 1));
}

#[test]
fn a_dead_letter_with_a_route_passes_held_ones() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("open")).unwrap();
    client.channel.bind(&binding("amq.direct", "open", "o")).unwrap();
    let mut arguments = at_least_once("amq.direct", "");
    arguments.remove(1);
    client.channel.declare_queue(&with("q", &arguments)).unwrap();
    for key in ["closed", "o"] {
        client.channel.bind(&binding("amq.topic", "q", "#")).unwrap();
        assert_eq!(client.send_to("amq.topic", key, key), 1);
    }
    reject(&mut client, "q", 2);
    assert_eq!(next(&mut client, "open").as_deref(), Some("o"));
}

/// All dead letters of a batch were stored where there was room for one.
#[test]
fn dead_letters_keep_the_bound_of_their_target_queue() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("dead", &full_at(2))).unwrap();
    client.channel.declare_queue(&with("q", &dead_letters_to("", "dead"))).unwrap();
    client.send_numbers("q", 0..5);
    reject(&mut client, "q", 5);
    slow.pass(0);
    assert_eq!(slow.drain(&mut client, "dead"), numbers(0..2));
}

#[test]
fn at_least_once_is_refused_where_removed_messages_have_to_make_room() {
    let slow = Slow::new();
    let mut client = slow.connect();
    for overflow in ["drop-head", "reject-publish-dlx"] {
        let mut arguments = at_least_once("", "dead");
        arguments[3].1 = Value::text(overflow);
        arguments.push(("x-max-length", Value::U8(2)));
        let refused = refusal(client.channel.declare_queue(&with("q", &arguments)));
        assert_eq!(refused.0, 406, "{overflow}");
        arguments.pop();
        client.channel.declare_queue(&with(overflow, &arguments)).unwrap();
    }
    let classic = [("x-dead-letter-strategy", Value::text("at-least-once"))];
    assert_eq!(refusal(client.channel.declare_queue(&with("c", &classic))).0, 406);
}

#[test]
fn a_policy_can_set_at_least_once() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let mut arguments = dead_letters_to("missing", "k");
    arguments.push(("x-queue-type", Value::text("quorum")));
    client.channel.declare_queue(&with("q", &arguments)).unwrap();
    let set = |strategy: &str| {
        let definition = table(&[
            ("dead-letter-strategy", Value::text(strategy)),
            ("overflow", Value::text("reject-publish")),
        ]);
        let policy = Policy::new(PolicyKind::User, name("p"), "", ApplyTo::Queues, 0, definition);
        slow.broker.administer().set_policy(&name("/"), policy.unwrap()).unwrap();
    };
    let stored = || slow.broker.store().queues()[0].len();
    set("at-least-once");
    client.send("q", "x");
    reject(&mut client, "q", 1);
    slow.pass(5000);
    assert_eq!(stored(), 1);
    set("at-most-once");
    slow.pass(0);
    assert_eq!(stored(), 0, "it need not wait any longer");
}
