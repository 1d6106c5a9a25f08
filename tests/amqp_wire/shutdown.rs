//! Neighbours that do not read, the limit of connections, and the end of the server.

use std::io::Write;
use std::thread;
use std::time::Duration;

use haypile::amqp::codec::PROTOCOL_HEADER;

use crate::common::{Client, PATIENCE, TestServer, eventually};

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
