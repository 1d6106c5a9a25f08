//! Where messages go besides the queues that their routing key names, as a client sees it.

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, RawProperties, RawTable, ShortStr, Value};

use crate::common::TestServer;

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
