//! Queues that let a single consumer be active.

use super::*;

fn single() -> DeclareQueue {
    let arguments = table(&[("x-single-active-consumer", Value::Bool(true))]);
    DeclareQueue { arguments, ..queue("q") }
}

fn single_quorum() -> DeclareQueue {
    let arguments =
        [("x-single-active-consumer", Value::Bool(true)), ("x-queue-type", Value::text("quorum"))];
    DeclareQueue { arguments: table(&arguments), ..durable("q") }
}

fn ranked(tag: &str, priority: i32) -> Consume {
    let arguments = table(&[("x-priority", Value::I32(priority))]);
    Consume { arguments, ..consumer("q", tag) }
}

#[test]
fn one_consumer_gets_everything_and_the_others_wait() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&single()).unwrap();
    client.channel.qos(0, 2, false).unwrap();
    client.channel.consume(&consumer("q", "first")).unwrap();
    client.channel.consume(&consumer("q", "second")).unwrap();
    // Nor does one of a higher priority take over from one that is active.
    client.channel.consume(&ranked("third", 10)).unwrap();
    client.send_numbers("q", 0..4);
    let received = client.receive();
    assert_eq!(bodies(&received), ["0", "1"]);
    assert!(received.iter().all(|received| received.consumer == "first"));
    assert_eq!(client.channel.declare_queue(&single()).unwrap().consumers, 3);
    client.ack(received[0].tag);
    let received = client.receive();
    assert_eq!((received[0].consumer.as_str(), received[0].body.as_str()), ("first", "2"));
}

#[test]
fn the_highest_priority_takes_over_and_among_equals_the_one_that_came_first() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&single()).unwrap();
    for (tag, priority) in [("a", 0), ("b", 1), ("c", 5), ("d", 5)] {
        client.channel.consume(&ranked(tag, priority)).unwrap();
    }
    for expected in ["a", "c", "d", "b"] {
        client.send("q", "x");
        assert_eq!(client.receive()[0].consumer, expected);
        client.channel.cancel(expected.as_bytes()).unwrap();
    }
    client.send("q", "x");
    assert!(client.receive().is_empty());
    assert_eq!(client.ready("q"), 1);
}

#[test]
fn with_a_quorum_queue_the_one_that_came_first_takes_over() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&single_quorum()).unwrap();
    for (tag, priority) in [("a", 0), ("b", 1), ("c", 5)] {
        client.channel.consume(&ranked(tag, priority)).unwrap();
    }
    for expected in ["a", "b", "c"] {
        client.send("q", "x");
        assert_eq!(client.receive()[0].consumer, expected);
        client.channel.cancel(expected.as_bytes()).unwrap();
    }
}

#[test]
fn one_that_is_cancelled_keeps_what_it_holds_and_the_next_goes_on_behind_it() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&single()).unwrap();
    client.channel.qos(0, 2, false).unwrap();
    client.channel.consume(&consumer("q", "first")).unwrap();
    client.channel.consume(&consumer("q", "second")).unwrap();
    client.send_numbers("q", 0..5);
    let held = client.receive();
    client.channel.cancel(b"first").unwrap();
    let received = client.receive();
    assert_eq!(bodies(&received), ["2", "3"]);
    assert!(received.iter().all(|received| received.consumer == "second"));
    client.channel.nack(held[1].tag, true, true).unwrap();
    for received in received {
        client.ack(received.tag);
    }
    assert_eq!(bodies(&client.receive()), ["0", "1"]);
}

#[test]
fn what_a_channel_held_comes_first_to_the_next_one() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.connect(), rig.connect());
    one.channel.declare_queue(&single()).unwrap();
    one.channel.qos(0, 3, false).unwrap();
    one.channel.consume(&consumer("q", "first")).unwrap();
    other.channel.consume(&consumer("q", "second")).unwrap();
    one.send_numbers("q", 0..5);
    // Two are with the client, one is still on its way to it.
    let mut events = Vec::new();
    one.session.take_events(&mut events, 1);
    for event in events {
        let Event::Delivery { delivery, .. } = event else { panic!("{event:?}") };
        one.accept(delivery);
    }
    assert!(other.receive().is_empty());
    drop(one);
    let received = other.receive();
    assert_eq!(bodies(&received), ["0", "1", "2", "3", "4"]);
    let redelivered: Vec<_> = received.iter().map(|received| received.redelivered).collect();
    assert_eq!(redelivered, [true, false, false, false, false]);
}

/// A consumer of the channel that closes must not become active for a moment, or it would be given what goes to others then.
#[test]
fn a_channel_with_all_consumers_takes_them_all_along() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&single()).unwrap();
    for tag in ["a", "b"] {
        client.channel.consume(&consumer("q", tag)).unwrap();
    }
    client.send_numbers("q", 0..3);
    client.receive();
    drop(client);
    let mut client = rig.connect();
    assert_eq!(client.ready("q"), 3);
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(client.await_bodies(3), numbers(0..3));
}

#[test]
fn nobody_is_exclusive_there_and_anybody_may_get() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&single()).unwrap();
    let exclusive = Consume { exclusive: true, ..consumer("q", "x") };
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    assert_eq!(refusal(client.channel.consume(&exclusive)), (403, text.to_owned()));
    client.channel.qos(0, 1, false).unwrap();
    client.channel.consume(&consumer("q", "active")).unwrap();
    client.send_numbers("q", 0..3);
    assert_eq!(bodies(&client.receive()), ["0"]);
    assert_eq!(client.get("q").unwrap().0.body, "1");
    assert_eq!(refusal(client.channel.consume(&exclusive)).0, 403);
}

#[test]
fn a_quorum_queue_is_not_polled_and_may_have_an_exclusive_consumer() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&single_quorum()).unwrap();
    let text = "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get \
                operations are not supported by quorum queues with single active consumer";
    assert_eq!(refusal(client.channel.get(b"q", true)), (405, text.to_owned()));
    let exclusive = Consume { exclusive: true, ..consumer("q", "x") };
    client.channel.consume(&exclusive).unwrap();
}

#[test]
fn the_argument_is_a_bool_and_has_to_be_repeated() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let with = |value| {
        let arguments = table(&[("x-single-active-consumer", value)]);
        DeclareQueue { arguments, ..queue("q") }
    };
    for (value, kind) in [(Value::text("true"), "longstr"), (Value::I32(1), "signedint")] {
        let text = format!(
            "PRECONDITION_FAILED - invalid arg 'x-single-active-consumer' for queue 'q' in vhost \
             '/': {{unacceptable_type,{kind}}}"
        );
        assert_eq!(refusal(client.channel.declare_queue(&with(value))), (406, text));
    }
    client.channel.declare_queue(&single()).unwrap();
    client.channel.declare_queue(&single()).unwrap();
    let texts = [
        (queue("q"), "received none but current is the value 'true' of type 'bool'"),
        (with(Value::Bool(false)), "received 'false' but current is 'true'"),
    ];
    for (request, difference) in texts {
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue 'q' in \
             vhost '/': {difference}"
        );
        assert_eq!(refusal(client.channel.declare_queue(&request)), (406, text));
    }
}

#[test]
fn a_single_active_consumer_is_one_after_a_restart_too() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&DeclareQueue { durable: true, ..single() }).unwrap();
    client.send_numbers("q", 0..2);
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    client.channel.consume(&consumer("q", "first")).unwrap();
    client.channel.consume(&consumer("q", "second")).unwrap();
    let received = client.await_deliveries(2);
    assert!(received.iter().all(|received| received.consumer == "first"), "{received:?}");
}
