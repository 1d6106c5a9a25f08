//! Messages that leave their queue otherwise than to a consumer, and queues that go by themselves.

use std::thread;
use std::time::Duration;

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, Properties, RawProperties, RawTable, ShortStr, Value};

use crate::common::{Client, TestServer, basic_consume, eventually, queue_declare};

fn table(entries: &[(&str, Value)]) -> FieldTable {
    let entry = |(name, value): &(&str, Value)| (ShortStr::try_from(*name).unwrap(), value.clone());
    entries.iter().map(entry).collect()
}

fn declare(client: &mut Client, name: &str, arguments: &[(&str, Value)]) {
    let table = table(arguments).to_bytes();
    let mut declare = queue_declare(name, true);
    if let Method::QueueDeclare { arguments, .. } = &mut declare {
        *arguments = RawTable::parse(&table).unwrap();
    }
    assert_eq!(client.call(1, &declare).name(), "queue.declare-ok");
}

/// To the queue `dead`, by the default exchange.
fn to_dead(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let to = [
        ("x-dead-letter-exchange", Value::text("")),
        ("x-dead-letter-routing-key", Value::text("dead")),
    ];
    to.iter().chain(more).cloned().collect()
}

fn publish(client: &mut Client, queue: &str, expiration: Option<&str>, body: &[u8]) {
    let expiration = expiration.map(|text| ShortStr::try_from(text).unwrap());
    let properties = Properties { expiration, delivery_mode: Some(2), ..Properties::default() };
    let properties = properties.to_bytes();
    let properties = RawProperties::parse(&properties).unwrap();
    client.publish_with(1, "", queue, false, properties, body);
}

/// Gets a message, waiting for it; it need not be acknowledged.
fn get(client: &mut Client, queue: &str) -> (Properties, Vec<u8>) {
    get_with(client, queue, &crate::basic_get(queue))
}

fn get_with(client: &mut Client, queue: &str, get: &Method<'_>) -> (Properties, Vec<u8>) {
    let mut found = None;
    eventually(queue, || {
        let got = client.call(1, get);
        if got.name() == "basic.get-ok" {
            found = Some(client.content());
        }
        found.is_some()
    });
    let (properties, body) = found.unwrap();
    (RawProperties::parse(&properties).unwrap().to_properties(), body)
}

fn reason(properties: &Properties) -> Option<Value> {
    properties.headers.as_ref()?.get(b"x-first-death-reason").cloned()
}

#[test]
fn what_expires_is_rejected_or_finds_no_room_goes_to_the_dead_letter_exchange() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    declare(&mut client, "dead", &[]);
    declare(&mut client, "ttl", &to_dead(&[("x-message-ttl", Value::I32(20))]));
    declare(&mut client, "q", &to_dead(&[]));
    declare(&mut client, "short", &to_dead(&[("x-max-length", Value::U8(1))]));

    publish(&mut client, "ttl", None, b"ttl");
    let (properties, body) = get(&mut client, "dead");
    assert_eq!((&body[..], reason(&properties)), (&b"ttl"[..], Some(Value::text("expired"))));

    // Small ones are looked at in the read buffer, large ones come frame by frame.
    for body in [vec![b's'; 10], vec![b'l'; 50_000]] {
        publish(&mut client, "q", Some("30"), &body);
        let (properties, found) = get(&mut client, "dead");
        assert_eq!((found, properties.expiration.clone()), (body, None));
        assert_eq!(reason(&properties), Some(Value::text("expired")));
    }

    publish(&mut client, "q", None, b"poison");
    client.consume(1, "q", false);
    let (delivery_tag, _, body) = client.delivery();
    assert_eq!(body, b"poison");
    client.send(1, &Method::BasicReject { delivery_tag, requeue: false });
    let (properties, body) = get(&mut client, "dead");
    assert_eq!((&body[..], reason(&properties)), (&b"poison"[..], Some(Value::text("rejected"))));

    publish(&mut client, "short", None, b"old");
    publish(&mut client, "short", None, b"new");
    let (properties, body) = get(&mut client, "dead");
    assert_eq!((&body[..], reason(&properties)), (&b"old"[..], Some(Value::text("maxlen"))));
    let (_, body) = get(&mut client, "short");
    assert_eq!(body, b"new");
}

#[test]
fn a_full_queue_refuses_with_a_nack_in_its_turn() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    let refusing = [("x-max-length", Value::U8(2)), ("x-overflow", Value::text("reject-publish"))];
    declare(&mut client, "q", &refusing);
    client.call(1, &Method::ConfirmSelect { nowait: false });
    for number in 0..4_u8 {
        publish(&mut client, "q", None, &[number]);
    }
    let mut answered = Vec::new();
    while answered.len() < 4 {
        let answer = client.method();
        let (tag, refused) = match answer.method() {
            Method::BasicAck { delivery_tag, .. } => (delivery_tag, false),
            Method::BasicNack { delivery_tag, .. } => (delivery_tag, true),
            other => panic!("{other:?}"),
        };
        while (answered.len() as u64) < tag {
            answered.push(refused);
        }
    }
    assert_eq!(answered, [false, false, true, true]);
}

#[test]
fn a_dead_letter_waits_until_its_queue_has_room_or_is_bound() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    let at_least_once = |exchange: &str| {
        [
            ("x-queue-type", Value::text("quorum")),
            ("x-overflow", Value::text("reject-publish")),
            ("x-dead-letter-strategy", Value::text("at-least-once")),
            ("x-dead-letter-exchange", Value::text(exchange)),
            ("x-dead-letter-routing-key", Value::text("dead")),
        ]
    };
    let full = [("x-max-length", Value::U8(1)), ("x-overflow", Value::text("reject-publish"))];
    declare(&mut client, "dead", &full);
    declare(&mut client, "q", &at_least_once(""));
    publish(&mut client, "dead", None, b"filler");
    let bodies = [&b"first"[..], b"second"];
    client.consume(1, "q", false);
    for body in bodies {
        publish(&mut client, "q", None, body);
        let (delivery_tag, _, _) = client.delivery();
        client.send(1, &Method::BasicReject { delivery_tag, requeue: false });
    }
    for expected in [&b"filler"[..]].into_iter().chain(bodies) {
        let (_, body) = get(&mut client, "dead");
        assert_eq!(body, expected);
    }

    declare(&mut client, "unbound", &at_least_once("amq.direct"));
    publish(&mut client, "unbound", None, b"early");
    client.open_channel(2);
    client.consume(2, "unbound", false);
    let (delivery_tag, _, _) = client.delivery();
    client.send(2, &Method::BasicReject { delivery_tag, requeue: false });
    assert_eq!(client.call(1, &crate::basic_get("dead")).name(), "basic.get-empty");
    let bind = crate::queue_bind("dead", "amq.direct", "dead");
    assert_eq!(client.call(1, &bind).name(), "queue.bind-ok");
    let (properties, body) = get(&mut client, "dead");
    assert_eq!((&body[..], reason(&properties)), (&b"early"[..], Some(Value::text("rejected"))));
}

#[test]
fn a_quorum_queue_says_how_often_a_message_came_back_and_lets_it_go_after_that() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    declare(&mut client, "dead", &[]);
    let quorum = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::I32(1))];
    declare(&mut client, "q", &to_dead(&quorum));
    publish(&mut client, "q", None, b"poison");
    for count in 0..2 {
        let mut held = crate::basic_get("q");
        if let Method::BasicGet { no_ack, .. } = &mut held {
            *no_ack = false;
        }
        let (properties, _) = get_with(&mut client, "q", &held);
        let headers = properties.headers.unwrap();
        assert_eq!(headers.get(b"x-delivery-count"), Some(&Value::I64(count)));
        // All that the channel holds.
        client.send(1, &Method::BasicNack { delivery_tag: 0, multiple: true, requeue: true });
    }
    let (properties, body) = get(&mut client, "dead");
    let expected = Some(Value::text("delivery_limit"));
    assert_eq!((&body[..], reason(&properties)), (&b"poison"[..], expected));
}

#[test]
fn a_queue_that_nobody_uses_goes_and_one_with_a_consumer_stays() {
    let server = TestServer::start();
    let (mut client, mut consumer) = (server.open_channel(), server.open_channel());
    let expires = [("x-expires", Value::I32(200))];
    // On a slow machine it may be gone before the consumer comes.
    eventually("it has a consumer in time", || {
        declare(&mut consumer, "used", &expires);
        consumer.send(1, &basic_consume("used", false));
        let is_there = consumer.method().name() == "basic.consume-ok";
        if !is_there {
            consumer.send(1, &Method::ChannelCloseOk {});
            consumer.open_channel(1);
        }
        is_there
    });
    // Whose time begins later, and is as long: when it is over, so would be that of the other.
    declare(&mut client, "unused", &expires);
    let gone = |client: &mut Client, name: &'static str| {
        let mut passive = queue_declare(name, false);
        if let Method::QueueDeclare { passive, .. } = &mut passive {
            *passive = true;
        }
        client.send(1, &passive);
        let answer = client.method();
        let gone = answer.name() == "channel.close";
        if gone {
            client.send(1, &Method::ChannelCloseOk {});
            client.open_channel(1);
        }
        gone
    };
    // Asking for it is using it.
    eventually("the queue is gone", || {
        thread::sleep(Duration::from_millis(300));
        gone(&mut client, "unused")
    });
    assert!(!gone(&mut client, "used"));
}

#[test]
fn a_consumer_that_does_not_acknowledge_in_time_loses_its_channel() {
    let server = TestServer::with(|config| {
        config.broker_limits.consumer_timeout = Some(std::time::Duration::from_millis(50));
    });
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    client.consume(1, "q", false);
    client.publish(1, "", "q", b"m");
    assert_eq!(client.delivery(), (1, false, b"m".to_vec()));
    let text = client.expect_channel_close(1, 406);
    assert!(text.contains("on channel 1 timed out. Timeout value used: 50 ms."), "{text}");
    client.open_channel(1);
    client.consume(1, "q", false);
    assert_eq!(client.delivery(), (1, true, b"m".to_vec()));
}
