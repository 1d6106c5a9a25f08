//! A publisher that is held back is still looked at: its end, its silence and its `connection.close` are noticed. And a message that
//! arrives by a part does not stay for ever.

use std::time::Duration;

use bytes::BytesMut;
use haypile::amqp::codec::{
    Method, PROTOCOL_HEADER, put_body_frame_header, put_content_header, put_method,
};
use haypile::message::{RawProperties, RawTable};

use crate::common::{Client, TestServer, eventually, publish_method, queue_declare};

/// A server that is always low on disk.
fn server() -> TestServer {
    TestServer::with(|config| {
        config.watermarks.disk_free = u64::MAX;
        config.limits.held_back = Duration::from_millis(50);
    })
}

/// A client that is held back, and the only one that may use the queue `mine`.
fn held_back(server: &TestServer, heartbeat: u16) -> Client {
    let mut client = server.connect();
    client.understands_blocked = true;
    client.open_connection(2047, 131_072, heartbeat);
    client.open_channel(1);
    let declared = client.call(
        1,
        &Method::QueueDeclare {
            reserved_1: 0,
            queue: b"mine",
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        },
    );
    assert_eq!(declared.name(), "queue.declare-ok");
    client.publish(1, "", "mine", b"held back");
    assert_eq!(client.method().name(), "connection.blocked");
    client
}

/// Waits until the server has ended the connection that had the queue `mine`.
fn expect_ended(server: &TestServer) {
    eventually("the connection is ended", || {
        let mut other = server.open_channel();
        other.call(1, &queue_declare("mine", false)).name() == "queue.declare-ok"
    });
}

#[test]
fn a_socket_that_is_closed_while_its_publisher_is_held_back_ends_the_connection() {
    let server = server();
    drop(held_back(&server, 0));
    expect_ended(&server);
}

/// More than is read ahead waits in the socket, and the end is behind it.
#[test]
fn the_end_of_a_socket_is_noticed_behind_publishes_that_are_held_back() {
    let server = server();
    let mut client = held_back(&server, 0);
    for _ in 0..4 {
        client.publish(1, "", "mine", &[7; 10_000]);
    }
    drop(client);
    expect_ended(&server);
}

#[test]
fn a_client_that_is_held_back_may_close_its_connection() {
    let server = server();
    let mut client = held_back(&server, 0);
    let close =
        Method::ConnectionClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 };
    assert_eq!(client.call(0, &close).name(), "connection.close-ok");
    expect_ended(&server);
}

#[test]
fn a_client_that_falls_silent_while_it_is_held_back_is_closed() {
    let server = server();
    let _silent = held_back(&server, 1);
    expect_ended(&server);
}

#[test]
fn a_message_that_stops_arriving_closes_its_connection() {
    let server = TestServer::with_limits(|limits| {
        limits.message_timeout = Duration::from_millis(100);
    });
    let mut idle = server.open_channel();
    let mut client = server.open_channel();
    let mut part = BytesMut::new();
    put_method(&mut part, 1, &publish_method("", "q", false));
    put_content_header(&mut part, 1, 1000, RawProperties::parse(&[0, 0]).unwrap());
    put_body_frame_header(&mut part, 1, 3);
    part.extend_from_slice(b"abc\xce");
    client.send_bytes(&part);
    let text = client.expect_close(501);
    assert_eq!(text, "FRAME_ERROR - the rest of a message on channel 1 does not arrive");
    assert!(idle.is_served());
}

/// A byte a minute was progress enough.
#[test]
fn a_message_that_arrives_too_slowly_closes_its_connection() {
    let server = TestServer::with_limits(|limits| {
        limits.message_timeout = Duration::from_millis(100);
        limits.close = Duration::from_millis(100);
    });
    let mut client = server.open_channel();
    let mut part = BytesMut::new();
    put_method(&mut part, 1, &publish_method("", "q", false));
    put_content_header(&mut part, 1, 1_000_000, RawProperties::parse(&[0, 0]).unwrap());
    client.send_bytes(&part);
    part.clear();
    put_body_frame_header(&mut part, 1, 1);
    part.extend_from_slice(b"a\xce");
    eventually("the end of the connection", || client.try_send_bytes(&part).is_err());
}

/// 500 sockets that said nothing had all places, and kept out those who wanted to log in.
#[test]
fn silent_sockets_make_room_for_those_who_log_in() {
    let server = TestServer::with(|config| config.max_connections = 10);
    let mut silent: Vec<_> = (0..10).map(|_| server.connect()).collect();
    let mut client = server.open_channel();
    assert!(client.is_served());
    silent.remove(0).expect_eof();
    silent[8].send_bytes(&PROTOCOL_HEADER);
    assert_eq!(silent[8].method().name(), "connection.start");
}
