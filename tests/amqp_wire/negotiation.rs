//! Negotiation of a connection: protocol headers and versions, logins, terms and heartbeats.

use std::io::Read;
use std::time::{Duration, Instant};

use haypile::amqp::codec::{Method, PROTOCOL_HEADER};
use haypile::message::{FieldTable, Value};

use crate::common::{PATIENCE, TestServer};

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

/// Some of them fail at a table with booleans in it: Debian's `python3-amqplib` does.
#[test]
fn clients_of_0_8_are_told_no_capabilities() {
    let server = TestServer::start();
    for (header, announced) in [
        (&PROTOCOL_HEADER, true),
        (b"AMQP\x01\x01\x00\x09", true),
        (b"AMQP\x01\x01\x08\x00", false),
        (b"AMQP\x01\x01\x09\x01", false),
    ] {
        let mut client = server.connect();
        client.send_bytes(header);
        let start = client.method();
        let Method::ConnectionStart { server_properties, .. } = start.method() else {
            panic!("{start:?}");
        };
        let capabilities = server_properties.get(b"capabilities").map(|value| value.to_value());
        let Some(Value::Table(capabilities)) = capabilities else { panic!("{capabilities:?}") };
        assert_eq!(capabilities != FieldTable::default(), announced, "{header:?}");
    }
}

/// The methods that differ there: `connection.close` and `channel.open-ok`, and `basic.consume` without a table.
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
