//! What a peer may cost: memory, turns, and places that it does not give back.

use std::io::Write;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use haypile::amqp::codec::{Method, PROTOCOL_HEADER, put_content_header, put_method};
use haypile::message::{Properties, RawProperties, RawTable};

use crate::common::process::Process;
use crate::common::{TestServer, eventually, publish_method};

#[test]
fn a_client_that_never_reads_costs_little_memory_and_disturbs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::serve(directory.path());
    let mut other = server.open_channel();
    other.declare_queue(1, "q", false);
    let mut deaf = server.open_channel();
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut request = BytesMut::new();
    for _ in 0..1000 {
        put_method(
            &mut request,
            1,
            &Method::QueueDeclare {
                reserved_1: 0,
                queue: b"q",
                passive: true,
                durable: false,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments: RawTable::EMPTY,
            },
        );
    }
    let before = server.memory();
    let mut sent = 0_u64;
    // Until the server does not take any more, which is soon: socket buffers, and a little of its own.
    while deaf.stream.write_all(&request).is_ok() {
        sent += request.len() as u64;
        assert!(sent < 1 << 30, "the server reads on and on");
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for {sent} bytes that were sent");
    // The others are served meanwhile, also on the same queue.
    for n in 0..100_u8 {
        other.publish(1, "", "q", &[n]);
        assert_eq!(other.call(1, &crate::basic_get("q")).name(), "basic.get-ok");
        assert_eq!(other.content().1, [n]);
    }
}

/// The regression behind this: requests that were already read waited for the socket to become writable, and it
/// was never seen to be, because what they waited behind had been written in one go.
#[test]
fn requests_that_waited_for_room_are_answered_once_there_is_room() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    const MESSAGES: usize = 400;
    let body = vec![7; 30_000];
    for _ in 0..MESSAGES {
        client.publish(1, "", "q", &body);
    }
    let mut requests = BytesMut::new();
    for _ in 0..MESSAGES {
        put_method(&mut requests, 1, &crate::basic_get("q"));
    }
    client.send_bytes(&requests);
    for _ in 0..MESSAGES {
        assert_eq!(client.method().name(), "basic.get-ok");
        assert_eq!(client.content().1.len(), body.len());
    }
}

#[test]
fn a_peer_that_says_goodbye_and_does_not_read_gives_its_place_back() {
    let server = TestServer::with(|config| {
        config.limits.close = Duration::from_millis(300);
        config.max_connections = 2;
    });
    let mut other = server.open_channel();
    other.declare_queue(1, "q", false);
    for _ in 0..200 {
        other.publish(1, "", "q", &[7; 100_000]);
    }
    assert!(other.is_served());
    let mut deaf = server.open_channel();
    // More than all buffers on the way can hold, so that the answer to the goodbye cannot be sent.
    deaf.consume(1, "q", true);
    thread::sleep(Duration::from_millis(300));
    let close =
        Method::ConnectionClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 };
    deaf.send(0, &close);
    eventually("the place of the one that does not read becomes free", || {
        let mut client = server.connect();
        client.stream.write_all(&PROTOCOL_HEADER).is_ok() && client.frame().is_some()
    });
}

#[test]
fn a_body_in_tiny_frames_takes_no_more_memory_than_its_size() {
    const SIZE: usize = 2 << 20;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    let mut bytes = BytesMut::new();
    put_method(&mut bytes, 1, &publish_method("", "q", false));
    put_content_header(&mut bytes, 1, SIZE as u64 + 1, RawProperties::NONE);
    client.send_bytes(&bytes);
    bytes.clear();
    for _ in 0..8192 {
        bytes.extend_from_slice(b"\x03\0\x01\0\0\0\x01x\xce");
    }
    let before = server.memory();
    for _ in 0..SIZE / 8192 {
        client.send_bytes(&bytes);
    }
    // On another channel: it is answered when all of that has been looked at.
    client.open_channel(2);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes for {SIZE} that were sent one by one");
}

#[test]
fn messages_under_way_do_not_keep_what_was_received_with_them() {
    const CHANNELS: u16 = 600;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    for channel in 2..=CHANNELS {
        client.open_channel(channel);
    }
    // A publish, and behind it in the same read a lot that is done with at once.
    let mut filling = BytesMut::new();
    while filling.len() < 256 << 10 {
        filling.extend_from_slice(b"\x08\0\0\0\0\0\0\xce");
    }
    let before = server.memory();
    for channel in 1..=CHANNELS {
        let mut bytes = BytesMut::new();
        put_method(&mut bytes, channel, &publish_method("", "q", false));
        bytes.extend_from_slice(&filling);
        client.send_bytes(&bytes);
    }
    client.open_channel(CHANNELS + 1);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for {CHANNELS} announced messages");
}

#[test]
fn consumers_of_a_connection_are_bounded() {
    let server = TestServer::with_limits(|limits| limits.consumers = 3);
    let mut client = server.open_channel();
    client.open_channel(2);
    client.declare_queue(1, "q", false);
    let consume = |tag: &'static [u8]| Method::BasicConsume {
        reserved_1: 0,
        queue: b"q",
        consumer_tag: tag,
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    };
    for (channel, tag) in [(1, b"a"), (2, b"b"), (1, b"c")] {
        assert_eq!(client.call(channel, &consume(tag)).name(), "basic.consume-ok");
    }
    let cancel = Method::BasicCancel { consumer_tag: b"b", nowait: false };
    assert_eq!(client.call(2, &cancel).name(), "basic.cancel-ok");
    assert_eq!(client.call(2, &consume(b"d")).name(), "basic.consume-ok");
    client.send(2, &consume(b"e"));
    assert_eq!(
        client.expect_close(530),
        "NOT_ALLOWED - reached maximum (3) of consumers per connection"
    );
}

/// Messages that have to be read from disk are not gathered for a peer that asks for many and reads none.
#[test]
fn asking_for_messages_on_disk_without_reading_them_costs_little_memory() {
    const MESSAGES: usize = 300;
    let server = TestServer::with(|config| {
        config.storage.cache = 0;
        config.storage.segment_size = 16 << 20;
    });
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    client.call(1, &Method::ConfirmSelect { nowait: false });
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    let body = vec![7; 500_000];
    for _ in 0..MESSAGES {
        client.publish_with(1, "", "q", false, persistent, &body);
    }
    let mut confirmed = 0;
    while confirmed < MESSAGES as u64 {
        match client.method().method() {
            Method::BasicAck { delivery_tag, .. } => confirmed = delivery_tag,
            other => panic!("{other:?}"),
        }
    }
    let mut deaf = server.open_channel();
    let mut requests = BytesMut::new();
    for _ in 0..MESSAGES {
        put_method(&mut requests, 1, &crate::basic_get("q"));
    }
    deaf.send_bytes(&requests);
    thread::sleep(Duration::from_secs(1));
    let declared = client.call(1, &crate::queue_declare("q", true));
    let Method::QueueDeclareOk { message_count, .. } = declared.method() else {
        panic!("{declared:?}");
    };
    assert!(message_count > 200, "only {message_count} of {MESSAGES} were left in the queue");
    // They are there for whoever reads, in the order in which they were asked for.
    for _ in 0..MESSAGES {
        assert_eq!(deaf.method().name(), "basic.get-ok");
        assert_eq!(deaf.content().1.len(), body.len());
    }
}
