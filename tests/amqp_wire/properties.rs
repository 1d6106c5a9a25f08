//! Properties that ask something of the broker, and arguments: what is refused, and in which words.

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, Properties, RawProperties, RawTable, ShortStr, Value};

use crate::common::{Client, TestServer};

fn short(text: &str) -> ShortStr {
    ShortStr::try_from(text).unwrap()
}

fn table(name: &str, value: Value) -> FieldTable {
    [(short(name), value)].into_iter().collect()
}

fn header(name: &str, value: Value) -> Properties {
    Properties { headers: Some(table(name, value)), ..Properties::default() }
}

/// Publishes a message with these properties to the queue `q`.
fn publish(client: &mut Client, properties: &Properties) {
    let bytes = properties.to_bytes();
    client.publish_with(1, "", "q", false, RawProperties::parse(&bytes).unwrap(), b"x");
}

fn message_count(client: &mut Client) -> u32 {
    let declared = client.call(1, &crate::queue_declare("q", false));
    match declared.method() {
        Method::QueueDeclareOk { message_count, .. } => message_count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn properties_that_are_not_to_be_believed_close_the_channel() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    let expiration = |text| Properties { expiration: Some(short(text)), ..Properties::default() };
    let cases = [
        (
            Properties { user_id: Some(short("other")), ..Properties::default() },
            "user_id property set to 'other' but authenticated user was 'guest'",
        ),
        (
            Properties { delivery_mode: Some(3), ..Properties::default() },
            "invalid message: {delivery_mode_unknown,3}",
        ),
        (expiration("soon"), "invalid expiration 'soon': no_integer"),
        (expiration(""), "invalid expiration '': no_integer"),
        (expiration("-1"), "invalid expiration '-1': {value_negative,-1}"),
        (expiration("5s"), "invalid expiration '5s': {leftover_string,\"s\"}"),
        (
            header("CC", Value::text("k")),
            "invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
        ),
        (
            Properties { reply_to: Some(short("amq.rabbitmq.reply-to")), ..Properties::default() },
            "fast reply consumer does not exist",
        ),
        (
            header("BCC", Value::I32(1)),
            "invalid message: {unacceptable_type_in_header,\"BCC\",signedint}",
        ),
    ];
    for (properties, text) in cases {
        publish(&mut client, &properties);
        assert_eq!(client.expect_channel_close(1, 406), format!("PRECONDITION_FAILED - {text}"));
        client.open_channel(1);
    }
    assert_eq!(message_count(&mut client), 0);
}

#[test]
fn properties_that_ask_for_nothing_pass() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    let harmless = [
        Properties { user_id: Some(short("guest")), ..Properties::default() },
        Properties { delivery_mode: Some(1), reply_to: Some(short("q2")), ..Properties::default() },
        header("CC", Value::Array(vec![])),
        header("BCC", Value::Array(vec![Value::I32(7)])),
        header("cc", Value::Array(vec![Value::text("not copied: names are exact")])),
    ];
    for properties in &harmless {
        publish(&mut client, properties);
    }
    assert_eq!(message_count(&mut client), 5);
}

fn consume<'a>(queue: &'static [u8], arguments: RawTable<'a>) -> Method<'a> {
    Method::BasicConsume {
        reserved_1: 0,
        queue,
        consumer_tag: b"t",
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments,
    }
}

#[test]
fn an_unnamed_queue_that_was_never_declared_is_404() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    let mut passive = crate::queue_declare("", false);
    if let Method::QueueDeclare { passive, .. } = &mut passive {
        *passive = true;
    }
    client.send(1, &passive);
    assert_eq!(client.expect_channel_close(1, 404), "NOT_FOUND - no queue '' in vhost '/'");
    client.open_channel(1);
    client.send(1, &consume(b"", RawTable::EMPTY));
    assert_eq!(client.expect_channel_close(1, 404), "NOT_FOUND - no previously declared queue");
    client.open_channel(1);
    client.declare_queue(1, "q", false);
    assert_eq!(client.call(1, &passive).name(), "queue.declare-ok");
}

#[test]
fn arguments_are_refused_in_the_words_that_clients_know() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    let queue_cases = [
        ("x-queue-type", Value::text("wonder"), "\"unsupported queue type 'wonder'\""),
        ("x-queue-type", Value::I32(5), "{unacceptable_type,signedint}"),
        ("x-queue-mode", Value::text("x"), "\"unsupported queue mode 'x'\""),
        ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
        ("x-message-ttl", Value::text("5"), "\"expected integer, got longstr\""),
        ("x-message-ttl", Value::I64(1 << 50), "{value_too_large,1125899906842624}"),
        ("x-expires", Value::I32(0), "{value_zero,0}"),
        ("x-max-length", Value::Bool(true), "\"expected integer, got bool\""),
        ("x-max-length-bytes", Value::I16(-3), "{value_negative,-3}"),
        ("x-overflow", Value::text("spill"), "invalid_overflow"),
        ("x-overflow", Value::I32(1), "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", Value::text("k"), "routing_key_but_no_dlx_defined"),
        ("x-dead-letter-routing-key", Value::I32(1), "{unacceptable_type,signedint}"),
    ];
    for (name, value, why) in queue_cases {
        let bytes = table(name, value).to_bytes();
        let mut declare = crate::queue_declare("new", false);
        if let Method::QueueDeclare { arguments, .. } = &mut declare {
            *arguments = RawTable::parse(&bytes).unwrap();
        }
        client.send(1, &declare);
        assert_eq!(
            client.expect_channel_close(1, 406),
            format!(
                "PRECONDITION_FAILED - invalid arg '{name}' for queue 'new' in vhost '/': {why}"
            )
        );
        client.open_channel(1);
    }
    for (name, value, text) in [
        (
            "x-dead-letter-exchange",
            Value::I32(1),
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'new' in vhost '/'",
        ),
        (
            "x-delivery-limit",
            Value::I32(3),
            "invalid arg 'x-delivery-limit' for queue 'new' in vhost '/' of queue type rabbit_classic_queue",
        ),
    ] {
        let bytes = table(name, value).to_bytes();
        let mut declare = crate::queue_declare("new", false);
        if let Method::QueueDeclare { arguments, .. } = &mut declare {
            *arguments = RawTable::parse(&bytes).unwrap();
        }
        client.send(1, &declare);
        let expected = format!("PRECONDITION_FAILED - {text}");
        assert_eq!(client.expect_channel_close(1, 406), expected);
        client.open_channel(1);
    }
    let bytes = table("x-priority", Value::text("high")).to_bytes();
    client.send(1, &consume(b"q", RawTable::parse(&bytes).unwrap()));
    assert_eq!(
        client.expect_channel_close(1, 406),
        "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \
         \"expected integer, got longstr\""
    );
    let match_cases = [
        (Value::text("some"), "value <<\"some\">>; expected all, any, all-with-x, or any-with-x"),
        (Value::I32(5), "type signedint (value 5); expected longstr"),
    ];
    for (value, text) in match_cases {
        client.open_channel(1);
        let bytes = table("x-match", value).to_bytes();
        let mut bind = crate::queue_bind("q", "amq.headers", "");
        if let Method::QueueBind { arguments, .. } = &mut bind {
            *arguments = RawTable::parse(&bytes).unwrap();
        }
        client.send(1, &bind);
        assert_eq!(
            client.expect_channel_close(1, 406),
            format!("PRECONDITION_FAILED - Invalid x-match field {text}")
        );
    }
}
