//! Where messages go besides the queues that their routing key names, as a client sees it.

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, Properties, RawProperties, RawTable, ShortStr, Value};

use crate::common::{Client, TestServer};

fn table(name: &str, value: Value) -> FieldTable {
    [(ShortStr::try_from(name).unwrap(), value)].into_iter().collect()
}

#[test]
fn a_message_that_the_alternate_takes_is_confirmed_and_not_returned() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    assert_eq!(client.call(1, &crate::queue_bind("q", "amq.fanout", "")).name(), "queue.bind-ok");
    let arguments = table("alternate-exchange", Value::text("amq.fanout")).to_bytes();
    let mut declare = crate::exchange_declare("x", "direct", false, false);
    if let Method::ExchangeDeclare { arguments: none, .. } = &mut declare {
        *none = RawTable::parse(&arguments).unwrap();
    }
    assert_eq!(client.call(1, &declare).name(), "exchange.declare-ok");
    client.call(1, &Method::ConfirmSelect { nowait: false });
    client.publish_with(1, "x", "nowhere", true, RawProperties::NONE, b"kept");
    assert_eq!(client.method().method(), Method::BasicAck { delivery_tag: 1, multiple: false });
    let got = client.call(1, &crate::basic_get("q"));
    let Method::BasicGetOk { exchange, routing_key, .. } = got.method() else { panic!("{got:?}") };
    assert_eq!((exchange, routing_key), (&b"x"[..], &b"nowhere"[..]));
}

#[test]
fn an_alternate_exchange_that_is_no_string_is_406() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    let arguments = table("alternate-exchange", Value::I32(5)).to_bytes();
    let mut declare = crate::exchange_declare("x", "direct", false, false);
    if let Method::ExchangeDeclare { arguments: none, .. } = &mut declare {
        *none = RawTable::parse(&arguments).unwrap();
    }
    client.send(1, &declare);
    assert_eq!(
        client.expect_channel_close(1, 406),
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange \
         'x' in vhost '/'"
    );
}

/// The properties of the message that `basic.get` finds; nothing is left behind it.
fn get(client: &mut Client, queue: &str) -> Vec<u8> {
    let got = client.call(1, &crate::basic_get(queue));
    let Method::BasicGetOk { message_count: 0, .. } = got.method() else { panic!("{got:?}") };
    client.content().0
}

#[test]
fn copies_go_where_the_headers_say_and_a_blind_one_is_not_told_of() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    for queue in ["a", "b", "c"] {
        client.declare_queue(1, queue, false);
    }
    let keys = |key: &str| Value::Array(vec![Value::text(key)]);
    let table = |entries: &[(&str, Value)]| -> Vec<u8> {
        let headers = entries
            .iter()
            .map(|(name, value)| (ShortStr::try_from(*name).unwrap(), value.clone()))
            .collect();
        Properties { headers: Some(headers), delivery_mode: Some(2), ..Properties::default() }
            .to_bytes()
            .to_vec()
    };
    let (cc, other) = (("CC", keys("b")), ("other", Value::U8(7)));
    let sent = table(&[("BCC", keys("c")), cc.clone(), other.clone()]);
    let seen = table(&[cc, other]);
    // In one read, and frame by frame because it is larger.
    for size in [1, 40_000] {
        let properties = RawProperties::parse(&sent).unwrap();
        client.publish_with(1, "", "a", true, properties, &vec![b'x'; size]);
        for queue in ["a", "b", "c"] {
            assert_eq!(get(&mut client, queue), seen, "{queue}");
        }
    }
    let sent = table(&[("BCC", keys("nowhere"))]);
    for size in [1, 40_000] {
        let properties = RawProperties::parse(&sent).unwrap();
        client.publish_with(1, "", "nobody", true, properties, &vec![b'x'; size]);
        assert_eq!(client.method().name(), "basic.return");
        let (properties, body) = client.content();
        assert_eq!((properties, body.len()), (table(&[]), size));
    }
}

const DIRECT: &[u8] = b"amq.rabbitmq.reply-to";

fn consume_replies(consumer_tag: &[u8], no_ack: bool) -> Method<'_> {
    Method::BasicConsume {
        reserved_1: 0,
        queue: DIRECT,
        consumer_tag,
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

fn request() -> Vec<u8> {
    let properties =
        Properties { reply_to: Some(ShortStr::copy_of(DIRECT)), ..Properties::default() };
    properties.to_bytes().to_vec()
}

/// Asks on channel 1 through the queue `requests`; returns where the answer goes.
fn ask(client: &mut Client) -> String {
    let properties = request();
    let properties = RawProperties::parse(&properties).unwrap();
    client.publish_with(1, "", "requests", true, properties, b"?");
    let properties = get(client, "requests");
    let reply_to = RawProperties::parse(&properties).unwrap().reply_to().unwrap().to_vec();
    String::from_utf8(reply_to).unwrap()
}

#[test]
fn a_reply_comes_without_a_queue_and_is_returned_when_nobody_waits_for_it() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "requests", false);
    assert_eq!(client.call(1, &consume_replies(b"r", true)).name(), "basic.consume-ok");
    let address = ask(&mut client);

    let mut replier = server.open_channel();
    let mut passive = crate::queue_declare(&address, false);
    if let Method::QueueDeclare { passive, .. } = &mut passive {
        *passive = true;
    }
    let declared = replier.call(1, &passive);
    let Method::QueueDeclareOk { queue, message_count: 0, consumer_count: 1 } = declared.method()
    else {
        panic!("{declared:?}");
    };
    assert_eq!(queue, address.as_bytes());
    replier.call(1, &Method::ConfirmSelect { nowait: false });
    // In one read, and frame by frame because it is larger.
    for (number, size) in [(1, 3), (2, 200_000)] {
        let body = vec![b'!'; size];
        replier.publish_with(1, "", &address, true, RawProperties::NONE, &body);
        let confirm = Method::BasicAck { delivery_tag: number, multiple: false };
        assert_eq!(replier.method().method(), confirm, "and not returned");
        let received = client.method();
        let deliver = Method::BasicDeliver {
            consumer_tag: b"r",
            delivery_tag: number + 1,
            redelivered: false,
            exchange: b"",
            routing_key: address.as_bytes(),
        };
        assert_eq!(received.method(), deliver);
        assert_eq!(client.content(), (vec![0, 0], body));
    }

    let cancelled = client.call(1, &Method::BasicCancel { consumer_tag: b"r", nowait: false });
    assert_eq!(cancelled.name(), "basic.cancel-ok");
    replier.publish_with(1, "", &address, true, RawProperties::NONE, b"late");
    let returned = replier.method();
    let Method::BasicReturn { reply_code: 312, routing_key, .. } = returned.method() else {
        panic!("{returned:?}");
    };
    assert_eq!(routing_key, address.as_bytes());
    assert_eq!(replier.content().1, b"late");
    assert_eq!(replier.method().name(), "basic.ack");
    replier.send(1, &passive);
    assert_eq!(
        replier.expect_channel_close(1, 404),
        format!("NOT_FOUND - no queue '{address}' in vhost '/'")
    );
    assert!(client.is_served());
}

#[test]
fn a_request_that_nobody_takes_comes_back_with_the_address_that_it_was_given() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.call(1, &consume_replies(b"r", true));
    let properties = request();
    let properties = RawProperties::parse(&properties).unwrap();
    client.publish_with(1, "", "nowhere", true, properties, b"?");
    assert_eq!(client.method().name(), "basic.return");
    let (returned, _) = client.content();
    let reply_to = RawProperties::parse(&returned).unwrap().reply_to().unwrap();
    // As in RabbitMQ: a process and a key, both in Base64. The key has 16 bytes.
    let parts = reply_to.strip_prefix(b"amq.rabbitmq.reply-to.").unwrap();
    let parts: Vec<&[u8]> = parts.split(|byte| *byte == b'.').collect();
    assert!(matches!(parts[..], [process, key] if !process.is_empty() && key.len() == 24));
}

#[test]
fn consuming_replies_with_acknowledgements_or_twice_is_406() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send(1, &consume_replies(b"r", false));
    assert_eq!(
        client.expect_channel_close(1, 406),
        "PRECONDITION_FAILED - reply consumer cannot acknowledge"
    );
    client.open_channel(1);
    assert_eq!(client.call(1, &consume_replies(b"", true)).name(), "basic.consume-ok");
    client.send(1, &consume_replies(b"", true));
    assert_eq!(
        client.expect_channel_close(1, 406),
        "PRECONDITION_FAILED - reply consumer already set"
    );
    // Closing the channel has ended it.
    client.open_channel(1);
    assert_eq!(client.call(1, &consume_replies(b"", true)).name(), "basic.consume-ok");
}
