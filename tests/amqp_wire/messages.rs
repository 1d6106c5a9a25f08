//! Messages: content, returns and confirms, redelivery, and limits of size.

use bytes::BytesMut;
use haypile::amqp::codec::{Method, put_content_header, put_method};
use haypile::message::{Properties, RawProperties};

use crate::common::{TestServer, basic_get, publish_method};

#[test]
fn a_message_comes_back_byte_for_byte_whatever_its_size_and_properties() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    // All but the expiration, which is refused as long as it is not honoured.
    let strange = b"\xfe\xfc\x02ct\x02\xff\xfe\0\0\0\x07\x01hS\0\0\0\0\x02\x09\0\x02re\x02id\
                    \x01\x02\x03\x04\x05\x06\x07\x08\x02ty\x05guest\x02ap\x02cl";
    for size in [0, 1, 1000, 4096, 4097, 131_064, 131_065, 1 << 20] {
        let body: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
        let properties = RawProperties::parse(strange).unwrap();
        client.publish_with(1, "", "q", false, properties, &body);
        let received = client.call(1, &basic_get("q"));
        let Method::BasicGetOk { redelivered, exchange, routing_key, message_count, .. } =
            received.method()
        else {
            panic!("{received:?}");
        };
        assert_eq!(
            (redelivered, exchange, routing_key, message_count),
            (false, &b""[..], &b"q"[..], 0)
        );
        let (properties, back) = client.content();
        assert_eq!(properties, strange);
        assert!(back == body, "a body of {size} bytes came back changed");
    }
}

#[test]
fn a_return_precedes_its_confirm_and_confirms_come_in_order() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    assert_eq!(
        client.call(1, &Method::ConfirmSelect { nowait: false }).name(),
        "confirm.select-ok"
    );
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    for n in 0..50_u8 {
        client.publish_with(1, "", "q", true, persistent, &[n]);
    }
    client.publish_with(1, "", "nowhere", true, persistent, b"back");
    let (mut confirmed, mut returned) = (0, false);
    while confirmed < 51 {
        let received = client.method();
        match received.method() {
            Method::BasicAck { delivery_tag, multiple } => {
                assert!(multiple || delivery_tag == confirmed + 1);
                assert!(delivery_tag > confirmed);
                confirmed = delivery_tag;
                assert!(confirmed < 51 || returned, "confirmed before it was returned");
            }
            Method::BasicReturn { reply_code, reply_text, exchange, routing_key } => {
                assert_eq!((reply_code, reply_text), (312, &b"NO_ROUTE"[..]));
                assert_eq!((exchange, routing_key), (&b""[..], &b"nowhere"[..]));
                assert_eq!(client.content().1, b"back");
                returned = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(returned);
}

#[test]
fn unacknowledged_messages_go_back_at_once_when_a_connection_breaks() {
    let server = TestServer::start();
    let mut publisher = server.open_channel();
    publisher.declare_queue(1, "q", false);
    let mut broken = server.open_channel();
    broken.consume(1, "q", false);
    for n in 0..3_u8 {
        publisher.publish(1, "", "q", &[n]);
    }
    for n in 0..3_u8 {
        assert_eq!(broken.delivery(), (u64::from(n) + 1, false, vec![n]));
    }
    drop(broken);
    let mut next = server.open_channel();
    next.consume(1, "q", false);
    for n in 0..3_u8 {
        assert_eq!(next.delivery(), (u64::from(n) + 1, true, vec![n]));
    }
    next.send(1, &Method::BasicAck { delivery_tag: 0, multiple: true });
    assert!(next.is_served());
}

#[test]
fn consumers_are_told_when_their_queue_is_deleted() {
    let server = TestServer::start();
    let mut consumer = server.open_channel();
    consumer.declare_queue(1, "q", false);
    consumer.consume(1, "q", false);
    let mut other = server.open_channel();
    other.delete_queue(1, "q");
    assert_eq!(
        consumer.method().method(),
        Method::BasicCancel { consumer_tag: b"consumer", nowait: true }
    );
}

#[test]
fn a_message_over_the_limit_is_406_and_not_waited_for() {
    let server = TestServer::with_limits(|limits| limits.message_size = 1000);
    let mut client = server.open_channel();
    let mut bytes = BytesMut::new();
    put_method(&mut bytes, 1, &publish_method("", "q", false));
    put_content_header(&mut bytes, 1, 1 << 60, RawProperties::NONE);
    client.send_bytes(&bytes);
    assert_eq!(
        client.expect_channel_close(1, 406),
        format!(
            "PRECONDITION_FAILED - message size {} is larger than configured max size 1000",
            1_u64 << 60
        )
    );
    client.open_channel(1);
    assert!(client.is_served());
}

#[test]
fn unfinished_bodies_are_bounded_over_all_channels() {
    let server = TestServer::with_limits(|limits| limits.message_size = 100_000);
    let mut client = server.open();
    for channel in 1..=3 {
        client.open_channel(channel);
        let mut bytes = BytesMut::new();
        put_method(&mut bytes, channel, &publish_method("", "q", false));
        put_content_header(&mut bytes, channel, 100_000, RawProperties::NONE);
        bytes.extend_from_slice(&[3, 0, u8::try_from(channel).unwrap(), 0, 1, 0x38, 0x80]);
        bytes.resize(bytes.len() + 80_000, 7);
        bytes.extend_from_slice(&[0xCE]);
        client.send_bytes(&bytes);
    }
    client.expect_close(506);
}
