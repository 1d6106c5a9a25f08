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
