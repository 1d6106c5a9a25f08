//! Who gets a queue's messages, and in which order, where its arguments say so.

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, Properties, RawProperties, RawTable, ShortStr, Value};

use crate::common::{Client, TestServer, queue_declare};

/// Declares a queue with one argument; the answer is not waited for.
fn send_declare(client: &mut Client, name: &str, argument: &str, value: Value) {
    let argument = ShortStr::try_from(argument).unwrap();
    let table = [(argument, value)].into_iter().collect::<FieldTable>().to_bytes();
    let mut declare = queue_declare(name, true);
    if let Method::QueueDeclare { arguments, .. } = &mut declare {
        *arguments = RawTable::parse(&table).unwrap();
    }
    client.send(1, &declare);
}

fn declare(client: &mut Client, name: &str, argument: &str, value: Value) {
    send_declare(client, name, argument, value);
    assert_eq!(client.method().name(), "queue.declare-ok");
}

fn publish(client: &mut Client, queue: &str, priority: Option<u8>, body: &[u8]) {
    let properties = Properties { priority, delivery_mode: Some(2), ..Properties::default() };
    let properties = properties.to_bytes();
    let properties = RawProperties::parse(&properties).unwrap();
    client.publish_with(1, "", queue, false, properties, body);
}

#[test]
fn the_most_urgent_message_is_delivered_first_with_its_priority_as_it_was_given() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    declare(&mut client, "q", "x-max-priority", Value::I32(10));
    // Small ones are looked at in the read buffer, large ones come frame by frame.
    let large = vec![b'l'; 40_000];
    let published: [(Option<u8>, &[u8]); 5] = [
        (None, b"none"),
        (Some(3), &large),
        (Some(255), b"255"),
        (Some(10), b"10"),
        (Some(4), b"4"),
    ];
    for (priority, body) in published {
        publish(&mut client, "q", priority, body);
    }
    for (priority, body) in [
        (Some(255), &b"255"[..]),
        (Some(10), b"10"),
        (Some(4), b"4"),
        (Some(3), &large),
        (None, b"none"),
    ] {
        let got = client.call(1, &crate::basic_get("q"));
        assert_eq!(got.name(), "basic.get-ok");
        let (properties, found) = client.content();
        assert_eq!(found, body);
        assert_eq!(RawProperties::parse(&properties).unwrap().priority(), priority);
    }
}

#[test]
fn a_priority_beyond_255_is_406() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    send_declare(&mut client, "q", "x-max-priority", Value::I32(256));
    assert_eq!(
        client.expect_channel_close(1, 406),
        "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/': \
         {max_value_exceeded,256}"
    );
}

#[test]
fn the_next_consumer_takes_over_when_the_connection_of_the_active_one_goes() {
    let server = TestServer::start();
    let (mut active, mut waiting) = (server.open_channel(), server.open_channel());
    declare(&mut active, "q", "x-single-active-consumer", Value::Bool(true));
    active.consume(1, "q", false);
    waiting.consume(1, "q", false);
    for body in [b"0", b"1", b"2"] {
        publish(&mut waiting, "q", None, body);
    }
    for (tag, body) in (1..).zip([b"0", b"1", b"2"]) {
        assert_eq!(active.delivery(), (tag, false, body.to_vec()));
    }
    active.send(1, &Method::BasicAck { delivery_tag: 1, multiple: false });
    assert!(active.is_served());
    drop(active);
    publish(&mut waiting, "q", None, b"3");
    for (tag, body) in [(1, b"1"), (2, b"2")] {
        assert_eq!(waiting.delivery(), (tag, true, body.to_vec()));
    }
    // This one may have been sent to the connection that was going, if the server had not heard of that yet.
    let (tag, _, body) = waiting.delivery();
    assert_eq!((tag, &body[..]), (3, &b"3"[..]));
}
