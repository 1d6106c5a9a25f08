//! A full disk under a running server: publishers are held back, everybody else goes on.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haypile::amqp::codec::Method;
use haypile::message::{Properties, RawProperties};

use crate::common::{Client, PATIENCE, TestServer, queue_declare};
use crate::quota::QuotaDisk;

const BODY: usize = 20_000;

/// A server with room for a few segments.
fn limited_server() -> (TestServer, QuotaDisk) {
    let disk = QuotaDisk::new(10 << 20);
    let injected = disk.clone();
    let server = TestServer::with(move |config| {
        config.storage.segment_size = 256 << 10;
        config.storage.disk = Arc::new(injected);
    });
    (server, disk)
}

/// A client with channel 1 open that wants to know when it is blocked.
fn publisher(server: &TestServer) -> Client {
    let mut client = server.connect();
    client.understands_blocked = true;
    client.open_connection(2047, 131_072, 0);
    client.open_channel(1);
    client
}

fn publish(client: &mut Client, body: &[u8]) {
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    client.publish_with(1, "", "q", false, RawProperties::parse(&persistent).unwrap(), body);
}

/// Publishes, each message confirmed before the next, until the server stops confirming for good; gives the number of
/// confirmed messages. One more has been sent, and is neither confirmed nor refused.
///
/// A store that finds its disk full looks for what it can free, and may go on for a while before there is nothing left.
fn fill(client: &mut Client, disk: &QuotaDisk, told: bool) -> usize {
    client.declare_queue(1, "q", true);
    client.call(1, &Method::ConfirmSelect { nowait: false });
    let (mut confirmed, mut blocked) = (0, false);
    loop {
        publish(client, &vec![b'x'; BODY]);
        loop {
            if (blocked || !told) && silent(client, disk) {
                return confirmed;
            }
            match client.method().name() {
                "basic.ack" => break confirmed += 1,
                "connection.blocked" if told && !blocked => blocked = true,
                "connection.unblocked" if blocked => blocked = false,
                other => panic!("{other}"),
            }
        }
        assert!(confirmed < 1000, "the disk is never full");
    }
}

/// Whether the server has nothing to say while its store asks a full disk for room again, and once more: it does so each second, or
/// more slowly on a slow machine, where it is also slow to confirm.
fn silent(client: &mut Client, disk: &QuotaDisk) -> bool {
    let (begin, before) = (Instant::now(), disk.refused());
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let silent = loop {
        match client.stream.peek(&mut [0]) {
            Ok(count) => {
                assert_ne!(count, 0, "the server closed the socket");
                break false;
            }
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            }
        }
        if disk.refused() >= before + 2 {
            break true;
        }
        assert!(begin.elapsed() < PATIENCE, "it neither answers nor asks for room");
    };
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    silent
}

/// Waits until a publisher that is `blocked` or not has its message confirmed and is not blocked. Meanwhile the disk may be
/// full for a moment once more.
fn goes_on(client: &mut Client, mut blocked: bool) {
    let mut confirmed = false;
    while blocked || !confirmed {
        match client.method().name() {
            "basic.ack" if !confirmed => confirmed = true,
            "connection.blocked" if !blocked => blocked = true,
            "connection.unblocked" if blocked => blocked = false,
            other => panic!("{other}"),
        }
    }
}

/// Takes so many messages and acknowledges each.
fn drain(client: &mut Client, count: usize) {
    client.consume(1, "q", false);
    for _ in 0..count {
        let (delivery_tag, _, body) = client.delivery();
        assert_eq!(body.len(), BODY);
        client.send(1, &Method::BasicAck { delivery_tag, multiple: false });
    }
}

#[test]
fn a_publisher_is_blocked_and_told_so_until_a_consumer_has_made_room() {
    let (server, disk) = limited_server();
    let mut publisher = publisher(&server);
    let mut consumer = server.open_channel();
    for _ in 0..2 {
        let confirmed = fill(&mut publisher, &disk, true);
        assert!(disk.refused() > 0);
        assert!(confirmed > 100, "{confirmed}");
        assert!(consumer.is_served(), "who does not publish is served");
        drain(&mut consumer, confirmed + 1);
        // The message that was held, and the end of the blockade, in either order.
        goes_on(&mut publisher, true);
        publish(&mut publisher, b"free again");
        goes_on(&mut publisher, false);
        let (delivery_tag, _, body) = consumer.delivery();
        assert_eq!(body, b"free again");
        consumer.send(1, &Method::BasicAck { delivery_tag, multiple: false });
        let cancel = Method::BasicCancel { consumer_tag: b"consumer", nowait: false };
        assert_eq!(consumer.call(1, &cancel).name(), "basic.cancel-ok");
    }
}

#[test]
fn a_publisher_that_does_not_know_the_frame_is_held_back_in_silence() {
    let (server, disk) = limited_server();
    let mut publisher = server.open_channel();
    let confirmed = fill(&mut publisher, &disk, false);
    assert!(confirmed > 100, "{confirmed}");
    let mut consumer = server.open_channel();
    drain(&mut consumer, confirmed + 1);
    assert_eq!(publisher.method().name(), "basic.ack");
}

/// What a transaction acknowledges needs no room, and what it publishes does: more than the acknowledgement gives back.
#[test]
fn a_commit_waits_for_room_only_when_it_has_something_to_store() {
    let (server, disk) = limited_server();
    let mut committing = publisher(&server);
    committing.declare_queue(1, "other", true);
    for channel in [2, 3] {
        committing.open_channel(channel);
        assert_eq!(committing.call(channel, &Method::TxSelect {}).name(), "tx.select-ok");
    }
    let staged = vec![b's'; BODY];
    committing.publish(2, "", "other", &staged);
    committing.declare_queue(1, "q", true);
    publish(&mut committing, b"small");
    assert!(committing.is_served());
    let mut publisher = publisher(&server);
    let confirmed = fill(&mut publisher, &disk, true);
    let get = Method::BasicGet { reserved_1: 0, queue: b"q", no_ack: false };
    assert_eq!(committing.call(3, &get).name(), "basic.get-ok");
    assert_eq!(committing.content().1, b"small");
    committing.send(3, &Method::BasicAck { delivery_tag: 1, multiple: false });
    assert_eq!(committing.call(3, &Method::TxCommit {}).name(), "tx.commit-ok");
    assert_eq!(committing.call(2, &Method::TxCommit {}).name(), "connection.blocked");
    assert!(silent(&mut committing, &disk));
    let mut consumer = server.open_channel();
    drain(&mut consumer, confirmed);
    let (mut committed, mut blocked) = (false, true);
    while !committed || blocked {
        match committing.method().name() {
            "tx.commit-ok" if !committed => committed = true,
            "connection.unblocked" if blocked => blocked = false,
            other => panic!("{other}"),
        }
    }
    assert_eq!(committing.call(1, &crate::basic_get("other")).name(), "basic.get-ok");
    assert_eq!(committing.content().1, staged);
}

#[test]
fn declaring_something_durable_on_a_full_disk_is_506() {
    let (server, disk) = limited_server();
    let mut publisher = publisher(&server);
    fill(&mut publisher, &disk, true);
    // As many declarations as fit what is left before the reserve.
    disk.leave(0);
    let mut client = server.open_channel();
    let bulky = "x".repeat(200);
    let refused = (0..20_000).find_map(|n| {
        let received = client.call(1, &queue_declare(&format!("{bulky}{n}"), true));
        match received.method() {
            Method::QueueDeclareOk { .. } => None,
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                Some((reply_code, String::from_utf8_lossy(reply_text).into_owned()))
            }
            other => panic!("{other:?}"),
        }
    });
    let (code, text) = refused.unwrap();
    assert_eq!(code, 506);
    assert!(text.starts_with("RESOURCE_ERROR - the disk is full: free some space"), "{text}");
    // What needs no room goes on.
    let mut client = server.open_channel();
    client.declare_queue(1, "in memory", false);
    let purged = client.call(1, &Method::QueuePurge { reserved_1: 0, queue: b"q", nowait: false });
    assert_eq!(purged.name(), "queue.purge-ok");
}

#[test]
fn a_server_with_blocked_publishers_can_be_stopped() {
    let (mut server, disk) = limited_server();
    let mut publisher = publisher(&server);
    fill(&mut publisher, &disk, true);
    server.tell_to_stop();
    publisher.expect_close(320);
    server.wait_for_end().unwrap();
}
