//! The protocol on raw frames over real sockets: negotiation, errors, bad input.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml allows them in `#[test]`s, not in their helpers

mod abuse;
mod access;
mod bounds;
mod canary;
#[path = "../common/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod failing;
mod full;
mod giving_back;
mod held_back;
mod leaving;
mod order_within_channel;
mod orders;
mod pipelining;
mod properties;
#[path = "../common/quota.rs"]
mod quota;
mod routing;
mod tls;
mod transactions;
mod watermarks;

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{Client, PATIENCE, TestServer, eventually, publish_method, queue_declare};
use haypile::amqp::codec::{Method, PROTOCOL_HEADER, put_content_header, put_method};
use haypile::message::{Properties, RawProperties, RawTable, Value};

fn exchange_declare<'a>(
    exchange: &'a str,
    kind: &'a str,
    passive: bool,
    durable: bool,
) -> Method<'a> {
    Method::ExchangeDeclare {
        reserved_1: 0,
        exchange: exchange.as_bytes(),
        kind: kind.as_bytes(),
        passive,
        durable,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

fn queue_bind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> Method<'a> {
    Method::QueueBind {
        reserved_1: 0,
        queue: queue.as_bytes(),
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

fn basic_get(queue: &str) -> Method<'_> {
    Method::BasicGet { reserved_1: 0, queue: queue.as_bytes(), no_ack: true }
}

// --- negotiation ---

#[test]
fn another_protocol_is_answered_with_ours_and_closed() {
    let server = TestServer::start();
    for greeting in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x01\x01\x00\x0a",
        b"\x16\x03\x01",
    ] {
        let mut client = server.connect();
        client.send_bytes(greeting);
        let mut answer = Vec::new();
        client.stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, PROTOCOL_HEADER);
    }
    assert!(server.open_channel().is_served());
}

#[test]
fn the_protocol_headers_of_older_clients_are_accepted() {
    let server = TestServer::start();
    for (header, version) in [
        (b"AMQP\x01\x01\x00\x09", (0, 9)),
        (b"AMQP\x01\x01\x08\x00", (8, 0)),
        (b"AMQP\x01\x01\x09\x01", (8, 0)),
    ] {
        let mut client = server.connect();
        client.send_bytes(&header[..5]);
        client.send_bytes(&header[5..]);
        let start = client.method();
        let Method::ConnectionStart { version_major, version_minor, .. } = start.method() else {
            panic!("{start:?}");
        };
        assert_eq!((version_major, version_minor), version);
        client.start_ok("PLAIN", b"\0guest\0guest", true);
        assert_eq!(client.method().name(), "connection.tune");
    }
}

/// What differs there: `connection.close` and `channel.open-ok`, and `basic.consume` without a table.
#[test]
fn a_client_of_0_8_is_served_in_its_own_version() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send_bytes(b"AMQP\x01\x01\x08\x00");
    assert_eq!(client.method().name(), "connection.start");
    client.start_ok("AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest", true);
    assert_eq!(client.method().name(), "connection.tune");
    client.tune_ok(10, 131_072, 0);
    client.open_virtual_host("/");
    assert_eq!(client.method().name(), "connection.open-ok");
    client.send(1, &Method::ChannelOpen { reserved_1: b"" });
    assert_eq!(client.frame().unwrap().payload, &b"\0\x14\0\x0b"[..]);
    client.declare_queue(1, "q", false);
    // Ticket, queue, tag, `no_ack`.
    client.send_bytes(b"\x01\0\x01\0\0\0\x0b\0\x3c\0\x14\0\x01\x01q\x01t\x02\xce");
    assert_eq!(client.method().name(), "basic.consume-ok");
    client.publish(1, "", "q", b"metric");
    assert_eq!(client.delivery().2, b"metric");
    client.send_bytes(b"\x01\0\0\0\0\0\x0b\0\x0a\0\x3c\0\xc8\0\0\0\0\0\xce");
    assert_eq!(client.frame().unwrap().payload, &b"\0\x0a\0\x3d"[..]);
    client.expect_eof();
}

#[test]
fn the_server_says_what_it_can_and_where_its_limits_are() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send_bytes(&PROTOCOL_HEADER);
    let start = client.method();
    let Method::ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms,
        ..
    } = start.method()
    else {
        panic!("{start:?}");
    };
    assert_eq!(mechanisms, b"PLAIN AMQPLAIN");
    let says = |name: &str| server_properties.get(name.as_bytes()).map(|value| value.to_value());
    assert_eq!(says("product"), Some(Value::text("Haypile")));
    // RabbitMQ's, by which clients choose what they use.
    assert_eq!(says("version"), Some(Value::text("3.13.7")));
    assert_eq!(says("haypile_version"), Some(Value::text(env!("CARGO_PKG_VERSION"))));
    let Some(Value::Table(capabilities)) =
        server_properties.get(b"capabilities").map(|value| value.to_value())
    else {
        panic!("no capabilities");
    };
    for works in ["connection.blocked", "direct_reply_to"] {
        assert_eq!(capabilities.get(works.as_bytes()), Some(&Value::Bool(true)), "{works}");
    }
    client.start_ok("PLAIN", b"\0guest\0guest", true);
    let tune = client.method();
    assert_eq!(
        tune.method(),
        Method::ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }
    );
}

#[test]
fn amqplain_is_as_good_as_plain() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send_bytes(&PROTOCOL_HEADER);
    client.method();
    client.start_ok("AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest", false);
    assert_eq!(client.method().name(), "connection.tune");
}

#[test]
fn a_wrong_password_is_refused_in_words_only_to_those_who_understand_them() {
    let server = TestServer::start();
    for (mechanism, response) in [
        ("PLAIN", &b"\0guest\0wrong"[..]),
        ("PLAIN", b"\0nobody\0guest"),
        ("PLAIN", b"garbage"),
        ("AMQPLAIN", b"\xff"),
    ] {
        let mut client = server.connect();
        client.send_bytes(&PROTOCOL_HEADER);
        client.method();
        client.start_ok(mechanism, response, true);
        let text = client.expect_close(403);
        assert_eq!(
            text,
            format!(
                "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. \
                 For details see the broker logfile."
            )
        );
        let mut client = server.connect();
        client.send_bytes(&PROTOCOL_HEADER);
        client.method();
        client.start_ok(mechanism, response, false);
        client.expect_eof();
    }
}

#[test]
fn an_unknown_mechanism_is_503() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send_bytes(&PROTOCOL_HEADER);
    client.method();
    client.start_ok("EXTERNAL", b"", true);
    assert_eq!(
        client.expect_close(503),
        "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'"
    );
}

#[test]
fn terms_beyond_the_servers_are_530() {
    let server = TestServer::start();
    for (channel_max, frame_max, expected) in [
        (
            2048,
            131_072,
            "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
        (
            0,
            131_072,
            "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        (
            2047,
            131_073,
            "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (2047, 4095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ] {
        let mut client = server.connect();
        client.log_in();
        client.tune_ok(channel_max, frame_max, 0);
        assert_eq!(client.expect_close(530), format!("NOT_ALLOWED - {expected}"));
    }
}

#[test]
fn an_unknown_virtual_host_is_530() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.log_in();
    client.tune_ok(10, 131_072, 0);
    client.open_virtual_host("elsewhere");
    assert_eq!(client.expect_close(530), "NOT_ALLOWED - vhost elsewhere not found");
}

#[test]
fn a_handshake_that_stops_halfway_is_cut_off() {
    let server = TestServer::with_limits(|limits| limits.handshake = Duration::from_millis(200));
    for length in [0, 3, 8] {
        let mut client = server.connect();
        client.send_bytes(&PROTOCOL_HEADER[..length]);
        client.stream.read_to_end(&mut Vec::new()).unwrap();
    }
    assert!(server.open_channel().is_served());
}

#[test]
fn frames_are_small_before_the_login() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send_bytes(&PROTOCOL_HEADER);
    client.method();
    client.send_bytes(b"\x01\0\0\0\x01\0\0");
    client.expect_close(501);
}

#[test]
fn a_method_at_the_wrong_point_of_the_handshake_is_refused() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send_bytes(&PROTOCOL_HEADER);
    client.method();
    client.open_virtual_host("/");
    client.expect_close(503);
    let mut client = server.connect();
    client.log_in();
    client.send(1, &Method::ChannelOpen { reserved_1: b"" });
    client.expect_close(505);
}

#[test]
fn heartbeats_are_sent_and_missed() {
    let server = TestServer::start();
    let mut client = server.connect();
    // The server hears of the client after this, and sends three heartbeats before it gives it up.
    let begin = Instant::now();
    client.open_connection(10, 131_072, 2);
    let mut heartbeats = 0;
    while client.frame().is_some() {
        heartbeats += 1;
        assert!(begin.elapsed() < PATIENCE, "{heartbeats} heartbeats, and it goes on");
    }
    let lived = begin.elapsed();
    assert!(heartbeats >= 2, "{heartbeats} heartbeats in {lived:?}");
    assert!(lived >= Duration::from_secs(4), "{lived:?}");
}

// --- frames that are wrong ---

#[test]
fn a_wrong_frame_end_is_501() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x08\0\0\0\0\0\0\xcd");
    assert!(client.expect_close(501).starts_with("FRAME_ERROR - "));
}

#[test]
fn a_giant_announced_frame_is_501_before_it_arrives() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x03\0\x01\xff\xff\xff\xff");
    client.expect_close(501);
}

#[test]
fn an_unknown_frame_type_is_501() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x07\0\0\0\0\0\0\xce");
    client.expect_close(501);
}

#[test]
fn garbage_after_the_handshake_disturbs_nobody_else() {
    let server = TestServer::start();
    let mut other = server.open_channel();
    for seed in 0..20_u8 {
        let mut client = server.open_channel();
        let garbage: Vec<u8> =
            (0..997_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
        // The server may have had enough before all of it is sent.
        client.stream.write_all(&garbage).ok();
        client.expect_close(501);
    }
    assert!(other.is_served());
}

#[test]
fn frames_out_of_order_are_505() {
    let server = TestServer::start();
    let mut header = BytesMut::new();
    put_content_header(&mut header, 1, 3, RawProperties::NONE);
    let mut publish = BytesMut::new();
    put_method(&mut publish, 1, &publish_method("", "q", false));
    let body = b"\x03\0\x01\0\0\0\x01x\xce";
    let cases: [(&str, Vec<u8>); 6] = [
        ("a header without a publish", header.to_vec()),
        ("a body without a publish", body.to_vec()),
        ("a body without a header", [&publish[..], body].concat()),
        ("a method instead of a header", [&publish[..], &publish[..]].concat()),
        ("a method instead of a body", [&publish[..], &header[..], &publish[..]].concat()),
        ("a heartbeat on a channel", b"\x08\0\x01\0\0\0\0\xce".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut client = server.open_channel();
        client.send_bytes(&bytes);
        let text = client.expect_close(505);
        assert!(text.starts_with("UNEXPECTED_FRAME - "), "{what}: {text}");
    }
}

#[test]
fn a_body_larger_than_announced_is_501() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    let mut bytes = BytesMut::new();
    put_method(&mut bytes, 1, &publish_method("", "q", false));
    put_content_header(&mut bytes, 1, 2, RawProperties::NONE);
    bytes.extend_from_slice(b"\x03\0\x01\0\0\0\x03xyz\xce");
    client.send_bytes(&bytes);
    client.expect_close(501);
}

#[test]
fn a_content_header_of_another_class_or_out_of_shape_is_refused() {
    let server = TestServer::start();
    let mut publish = BytesMut::new();
    put_method(&mut publish, 1, &publish_method("", "q", false));
    let mut client = server.open_channel();
    client.send_bytes(&publish);
    client.send_bytes(b"\x02\0\x01\0\0\0\x0e\0\x32\0\0\0\0\0\0\0\0\0\0\0\0\xce");
    client.expect_close(505);
    let mut client = server.open_channel();
    client.send_bytes(&publish);
    client.send_bytes(b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\0\x80\0\xce");
    client.expect_close(502);
}

#[test]
fn unknown_classes_and_methods_are_refused() {
    let server = TestServer::start();
    // 60.11, basic.qos-ok, is a method, but only a server sends it.
    for (payload, code) in
        [(b"\0\x3d\0\x0a", 540), (b"\0\x3c\x01\x0b", 503), (b"\0\x3c\0\x0b", 503)]
    {
        let mut client = server.open_channel();
        client.send_bytes(&[&b"\x01\0\x01\0\0\0\x04"[..], payload, b"\xce"].concat());
        client.expect_close(code);
    }
}

#[test]
fn a_method_cut_short_is_502() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x01\0\x01\0\0\0\x07\0\x32\0\x0a\0\0\x05\xce");
    assert!(client.expect_close(502).starts_with("SYNTAX_ERROR - queue.declare: "));
}

// --- channels ---

#[test]
fn channels_are_opened_once_and_before_use() {
    let server = TestServer::start();
    let mut client = server.open();
    client.send(1, &queue_declare("q", false));
    assert_eq!(client.expect_close(504), "CHANNEL_ERROR - expected 'channel.open'");
    let mut client = server.open_channel();
    client.send(1, &Method::ChannelOpen { reserved_1: b"" });
    assert_eq!(client.expect_close(504), "CHANNEL_ERROR - second 'channel.open' seen");
    let mut client = server.connect();
    client.open_connection(5, 131_072, 0);
    client.open_channel(5);
    client.send(6, &Method::ChannelOpen { reserved_1: b"" });
    client.expect_close(530);
}

#[test]
fn a_channel_error_leaves_the_other_channels_alone() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.open_channel(2);
    client.declare_queue(2, "q", false);
    client.send(1, &Method::QueuePurge { reserved_1: 0, queue: b"missing", nowait: false });
    let received = client.method();
    let Method::ChannelClose { reply_code, reply_text, class_id, method_id } = received.method()
    else {
        panic!("{received:?}");
    };
    assert_eq!((reply_code, class_id, method_id), (404, 50, 30));
    assert_eq!(reply_text, b"NOT_FOUND - no queue 'missing' in vhost '/'");
    // Until the channel's end is agreed on, what comes on it is ignored, also nonsense.
    client.publish(1, "", "q", b"lost");
    client.send(1, &queue_declare("other", false));
    client.send_bytes(b"\x01\0\x01\0\0\0\x02\0\0\xce");
    assert_eq!(client.call(2, &basic_get("q")).name(), "basic.get-empty");
    client.send(1, &Method::ChannelCloseOk {});
    client.open_channel(1);
    assert!(client.is_served());
}

#[test]
fn a_channel_can_be_closed_and_opened_again() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    for _ in 0..3 {
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 };
        assert_eq!(client.call(1, &close).name(), "channel.close-ok");
        client.open_channel(1);
    }
    let close =
        Method::ConnectionClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 };
    assert_eq!(client.call(0, &close).name(), "connection.close-ok");
    client.expect_eof();
}

/// The Go client took the end of the stream for a failure while it was still busy with `connection.close-ok`.
#[test]
fn who_ends_the_connection_closes_the_socket_first() {
    let server = TestServer::start();
    let close =
        Method::ConnectionClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 };
    // The server waits for a second: a look that comes later shows nothing, and is another time's.
    let looked_in_time = || {
        let mut client = server.open();
        let begin = Instant::now();
        assert_eq!(client.call(0, &close).name(), "connection.close-ok");
        client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let waited = client.stream.read(&mut [0]);
        if begin.elapsed() >= Duration::from_secs(1) {
            return false;
        }
        let waited = waited.unwrap_err();
        assert!(matches!(waited.kind(), std::io::ErrorKind::WouldBlock), "{waited}");
        // But not for ever.
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.expect_eof();
        true
    };
    eventually("the machine is fast enough", looked_in_time);
}

#[test]
fn refusals_have_the_texts_that_clients_know() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    let cases: Vec<(Method<'_>, u16, &str)> = vec![
        (
            queue_declare("q", true),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
             received 'true' but current is 'false'",
        ),
        (
            queue_declare("amq.mine", false),
            403,
            "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
        ),
        (
            exchange_declare("amq.mine", "direct", false, false),
            403,
            "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
        ),
        (
            exchange_declare("missing", "direct", true, false),
            404,
            "NOT_FOUND - no exchange 'missing' in vhost '/'",
        ),
        (
            exchange_declare("", "direct", false, false),
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            queue_bind("q", "", "k"),
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            Method::ExchangeDelete {
                reserved_1: 0,
                exchange: b"",
                if_unused: false,
                nowait: false,
            },
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (queue_bind("q", "missing", "k"), 404, "NOT_FOUND - no exchange 'missing' in vhost '/'"),
        (
            Method::BasicAck { delivery_tag: 1, multiple: false },
            406,
            "PRECONDITION_FAILED - unknown delivery tag 1",
        ),
    ];
    for (method, code, text) in cases {
        client.send(1, &method);
        assert_eq!(client.expect_channel_close(1, code), text);
        client.open_channel(1);
    }
}

#[test]
fn publishing_to_a_missing_exchange_closes_the_channel() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.publish(1, "missing", "k", b"x");
    assert_eq!(
        client.expect_channel_close(1, 404),
        "NOT_FOUND - no exchange 'missing' in vhost '/'"
    );
}

#[test]
fn another_connections_exclusive_queue_is_locked() {
    let server = TestServer::start();
    let mut owner = server.open_channel();
    let mut declare = queue_declare("mine", false);
    if let Method::QueueDeclare { exclusive, .. } = &mut declare {
        *exclusive = true;
    }
    assert_eq!(owner.call(1, &declare).name(), "queue.declare-ok");
    let mut other = server.open_channel();
    other.send(1, &queue_declare("mine", false));
    assert!(other.expect_channel_close(1, 405).starts_with(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'"
    ));
    drop(owner);
    eventually("the queue goes with its connection", || {
        let mut third = server.open_channel();
        let answer = third.call(1, &queue_declare("mine", false));
        answer.name() == "queue.declare-ok"
    });
}

#[test]
fn what_is_not_implemented_is_540() {
    let server = TestServer::start();
    let immediate = Method::BasicPublish {
        reserved_1: 0,
        exchange: b"",
        routing_key: b"q",
        mandatory: false,
        immediate: true,
    };
    for (method, text) in [
        (immediate, "NOT_IMPLEMENTED - immediate=true"),
        (
            Method::BasicQos { prefetch_size: 7, prefetch_count: 0, global: false },
            "NOT_IMPLEMENTED - prefetch_size!=0 (7)",
        ),
        (Method::BasicRecover { requeue: false }, "NOT_IMPLEMENTED - requeue=false"),
        (Method::ChannelFlow { active: false }, "NOT_IMPLEMENTED - active=false"),
    ] {
        let mut client = server.open_channel();
        client.send(1, &method);
        assert_eq!(client.expect_close(540), text);
    }
}

#[test]
fn an_unknown_exchange_type_closes_the_channel_and_a_reused_consumer_tag_the_connection() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send(1, &exchange_declare("x", "sideways", false, false));
    let text = client.expect_channel_close(1, 406);
    assert_eq!(text, "PRECONDITION_FAILED - unknown exchange type 'sideways'");
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    client.consume(1, "q", true);
    client.send(
        1,
        &Method::BasicConsume {
            reserved_1: 0,
            queue: b"q",
            consumer_tag: b"consumer",
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        },
    );
    assert_eq!(client.expect_close(530), "NOT_ALLOWED - attempt to reuse consumer tag 'consumer'");
}

// --- messages ---

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

// --- bad neighbours, and the end ---

#[test]
fn a_consumer_that_never_reads_does_not_keep_the_queue_from_others() {
    let server = TestServer::start();
    let mut publisher = server.open_channel();
    publisher.declare_queue(1, "q", false);
    let mut deaf = server.open_channel();
    deaf.consume(1, "q", true);
    let mut alive = server.open_channel();
    alive.consume(1, "q", true);
    let body = vec![7; 100_000];
    let reader = thread::spawn(move || {
        let mut received = 0;
        while received < 100 {
            alive.delivery();
            received += 1;
        }
    });
    for _ in 0..400 {
        publisher.publish(1, "", "q", &body);
    }
    reader.join().unwrap();
    assert!(publisher.is_served());
}

#[test]
fn too_many_connections_are_turned_away() {
    let server = TestServer::with(|config| config.max_connections = 2);
    let (first, _second) = (server.open_channel(), server.open_channel());
    server.connect().expect_eof();
    drop(first);
    eventually("a place becomes free", || {
        let mut client = server.connect();
        client.stream.write_all(&PROTOCOL_HEADER).is_ok() && client.frame().is_some()
    });
}

#[test]
fn connections_are_told_when_the_server_stops() {
    // It would wait for longer than the test does.
    let mut server = TestServer::with(|config| config.grace = 10 * PATIENCE);
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    let mut halfway: Client = server.connect();
    halfway.send_bytes(&PROTOCOL_HEADER);
    halfway.method();
    server.tell_to_stop();
    assert_eq!(
        client.expect_close(320),
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    halfway.expect_eof();
    server.wait_for_end().unwrap();
}

#[test]
fn a_server_does_not_wait_for_ever_for_a_client_that_does_not_say_goodbye() {
    let mut server = TestServer::with(|config| {
        config.limits.close = Duration::from_millis(300);
        config.grace = 10 * PATIENCE;
    });
    let mut client = server.open_channel();
    server.tell_to_stop();
    client.expect_close_method(320);
    server.wait_for_end().unwrap();
}
