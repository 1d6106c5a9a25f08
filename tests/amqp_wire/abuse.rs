//! What has brought down some broker or client before, each tried on this one: sizes that are lies, nesting, patterns, and
//! whatever a peer could pile up.
//!
//! | what | where |
//! |---|---|
//! | a body longer than announced | `a_body_larger_than_announced_is_501` |
//! | announced lengths that never come | here; `a_giant_announced_frame_is_501_before_it_arrives` |
//! | nested tables, long strings | here |
//! | channels of a connection | `channels_are_opened_once_and_before_use` |
//! | consumers of a connection | [`bounds`](crate::bounds) |
//! | unfinished bodies of a connection | `unfinished_bodies_are_bounded_over_all_channels`, [`bounds`](crate::bounds) |
//! | messages in transactions | [`transactions`](crate::transactions) |
//! | unacknowledged deliveries, queues, exchanges, bindings | here |
//! | answers that nobody reads, messages that are asked for and not read | [`bounds`](crate::bounds) |
//! | topic patterns of nothing but `#` | here |
//! | a handshake that stops | `a_handshake_that_stops_halfway_is_cut_off` |
//! | a handshake that creeps | here |
//! | connections that take all file descriptors, wrong passwords | here |
//! | headers and keys by the thousand | `many_headers_against_many_arguments_cost_no_more_than_their_length`, `a_message_with_many_keys_goes_to_many_targets_once_or_so` |
//! | memory and disk space as a whole | [`watermarks`](crate::watermarks), [`full`](crate::full) |

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use haypile::amqp::codec::{Method, PROTOCOL_HEADER, put_content_header, put_method};
use haypile::message::{Properties, RawProperties, RawTable};

use crate::common::process::{Process, prepare};
use crate::common::{Client, PATIENCE, TestServer, eventually, publish_method, queue_declare};

/// A frame with this payload on channel 1.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, 1];
    frame.put_u32(u32::try_from(payload.len()).unwrap());
    frame.extend_from_slice(payload);
    frame.push(0xCE);
    frame
}

/// `basic.publish` to the queue `q` without a body, whose headers are these bytes, length and all.
fn publish_headers(client: &mut Client, headers: &[u8]) {
    let mut bytes = BytesMut::new();
    put_method(&mut bytes, 1, &publish_method("", "q", false));
    let mut payload = b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x20\0".to_vec();
    payload.extend_from_slice(headers);
    bytes.extend_from_slice(&frame(2, &payload));
    client.send_bytes(&bytes);
}

/// Tables within each other, so many in all, with their lengths.
fn nested(depth: usize) -> Vec<u8> {
    (1..depth).fold(vec![0; 4], |inner, _| {
        let mut table = Vec::new();
        table.put_u32(u32::try_from(inner.len() + 3).unwrap());
        table.extend_from_slice(b"\x01tF");
        table.extend_from_slice(&inner);
        table
    })
}

#[test]
fn nothing_is_allocated_for_sizes_that_are_only_announced() {
    const CHANNELS: u16 = 200;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    for channel in 2..=CHANNELS {
        client.open_channel(channel);
    }
    let before = server.memory();
    for channel in 1..=CHANNELS {
        let mut bytes = BytesMut::new();
        put_method(&mut bytes, channel, &publish_method("", "q", false));
        put_content_header(&mut bytes, channel, 128 << 20, RawProperties::NONE);
        client.send_bytes(&bytes);
    }
    client.open_channel(CHANNELS + 1);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for {CHANNELS} announcements");
}

#[test]
fn headers_are_carried_byte_for_byte_however_deep_they_nest() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    // As deep as a frame has room for.
    for depth in [32, 33, 10_000] {
        publish_headers(&mut client, &nested(depth));
        assert_eq!(client.call(1, &crate::basic_get("q")).name(), "basic.get-ok");
        assert_eq!(client.content().0[2..], nested(depth));
    }
    // A table that is cut off inside is none, also before anybody has logged in.
    let mut cut = nested(10_000);
    cut.truncate(cut.len() - 1);
    publish_headers(&mut client, &cut);
    assert!(client.expect_close(502).starts_with("SYNTAX_ERROR - content header: "));
    let mut client = server.connect();
    client.send_bytes(&PROTOCOL_HEADER);
    client.method();
    let mut start_ok = b"\0\x0a\0\x0b".to_vec();
    start_ok.extend_from_slice(&nested(500));
    let mut bytes = frame(1, &start_ok);
    bytes[2] = 0;
    client.send_bytes(&bytes);
    client.expect_close(502);
}

#[test]
fn strings_and_tables_longer_than_their_frame_are_502() {
    let server = TestServer::start();
    let headers: [&[u8]; 4] = [
        // A table, a string in it, an array in it, and a name in it, which announce more than there is.
        b"\xff\xff\xff\xff",
        b"\0\0\0\x07\x01sS\xff\xff\xff\xff",
        b"\0\0\0\x07\x01aA\x7f\xff\xff\xff",
        b"\0\0\0\x02\xffn",
    ];
    for headers in headers {
        let mut client = server.open_channel();
        publish_headers(&mut client, headers);
        client.expect_close(502);
    }
    // queue.declare whose arguments are longer than the frame.
    let mut client = server.open_channel();
    client.send_bytes(&frame(1, b"\0\x32\0\x0a\0\0\x01q\0\x7f\xff\xff\xff"));
    client.expect_close(502);
    assert!(server.open_channel().is_served());
}

#[test]
fn topic_patterns_of_many_hashes_cost_no_more_than_their_length() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    let mut words = ["#"; 128];
    for n in 0..30 {
        // As many different ones.
        words[n + 1] = "*";
        let pattern = words.join(".");
        let bind = crate::queue_bind("q", "amq.topic", &pattern);
        assert_eq!(client.call(1, &bind).name(), "queue.bind-ok");
    }
    let key = ["a"; 128].join(".");
    // Backtracking would take longer than anybody waits.
    for _ in 0..20 {
        client.publish(1, "amq.topic", &key, b"");
    }
    assert!(client.is_served());
    match client.call(1, &queue_declare("q", false)).method() {
        Method::QueueDeclareOk { message_count, .. } => assert_eq!(message_count, 20),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_handshake_that_creeps_is_cut_off_as_one_that_stops() {
    let server = TestServer::with_limits(|limits| limits.handshake = Duration::from_millis(400));
    let mut client = server.connect();
    let begin = Instant::now();
    client.send_bytes(&PROTOCOL_HEADER);
    client.method();
    // A frame that never ends: every byte is a sign of life, and not of progress.
    let announced = b"\x01\0\0\0\0\x0f\xff";
    for byte in announced.iter().copied().chain(std::iter::repeat(b'x')) {
        if client.stream.write_all(&[byte]).is_err() {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "it is never cut off");
        thread::sleep(Duration::from_millis(20));
    }
}

fn exchange_delete(exchange: &str) -> Method<'_> {
    let exchange = exchange.as_bytes();
    Method::ExchangeDelete { reserved_1: 0, exchange, if_unused: false, nowait: false }
}

/// The text for queues is RabbitMQ's.
#[test]
fn queues_exchanges_and_bindings_are_bounded() {
    let server = TestServer::with(|config| {
        let limits = &mut config.broker_limits;
        (limits.queues, limits.exchanges, limits.bindings) = (2, 1, 2);
    });
    let mut client = server.open_channel();
    let refused = |client: &mut Client, method: &Method<'_>| {
        client.send(1, method);
        let text = client.expect_channel_close(1, 406);
        client.open_channel(1);
        text
    };
    client.declare_queue(1, "one", true);
    client.declare_queue(1, "two", false);
    assert_eq!(
        refused(&mut client, &queue_declare("three", false)),
        "PRECONDITION_FAILED - cannot declare queue 'three': queue limit in vhost '/' (2) is reached"
    );
    // One that is there is no new one.
    client.declare_queue(1, "two", false);
    let exchange = |name| crate::exchange_declare(name, "fanout", false, false);
    assert_eq!(client.call(1, &exchange("x")).name(), "exchange.declare-ok");
    assert_eq!(
        refused(&mut client, &exchange("y")),
        "PRECONDITION_FAILED - cannot declare exchange 'y': exchange limit in vhost '/' (1) is reached"
    );
    for key in ["a", "b", "a"] {
        let bind = crate::queue_bind("one", "x", key);
        assert_eq!(client.call(1, &bind).name(), "queue.bind-ok");
    }
    assert_eq!(
        refused(&mut client, &crate::queue_bind("two", "x", "c")),
        "PRECONDITION_FAILED - cannot bind: binding limit in vhost '/' (2) is reached"
    );
    // What goes makes room, and bindings go with their exchange.
    assert_eq!(client.call(1, &exchange_delete("x")).name(), "exchange.delete-ok");
    assert_eq!(client.call(1, &exchange("y")).name(), "exchange.declare-ok");
    let bind = crate::queue_bind("two", "y", "c");
    assert_eq!(client.call(1, &bind).name(), "queue.bind-ok");
}

#[test]
fn unacknowledged_deliveries_of_a_channel_are_bounded() {
    let server = TestServer::with(|config| config.broker_limits.unacknowledged = 3);
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    for n in 0..6_u8 {
        client.publish(1, "", "q", &[n]);
    }
    // A prefetch count beyond it changes nothing, nor does none at all.
    for prefetch_count in [1000, 0] {
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count, global: true };
        assert_eq!(client.call(1, &qos).name(), "basic.qos-ok");
    }
    client.consume(1, "q", false);
    for n in 0..3_u8 {
        assert_eq!(client.delivery(), (u64::from(n) + 1, false, vec![n]));
    }
    client.send(1, &Method::BasicAck { delivery_tag: 2, multiple: true });
    for n in 3..5_u8 {
        assert_eq!(client.delivery(), (u64::from(n) + 1, false, vec![n]));
    }
    let get = Method::BasicGet { reserved_1: 0, queue: b"q", no_ack: false };
    client.send(1, &get);
    assert_eq!(
        client.expect_channel_close(1, 406),
        "PRECONDITION_FAILED - reached maximum (3) of unacknowledged deliveries per channel"
    );
    client.open_channel(1);
    // Whoever acknowledges nothing is not bounded.
    client.consume(1, "q", true);
    for n in 2..6_u8 {
        assert_eq!(client.delivery().2, [n]);
    }
}

/// Each leaves something behind in a broker that forgets to tidy up.
#[test]
fn channels_and_consumers_that_come_and_go_leave_no_memory_behind() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    let round = |client: &mut Client| {
        for channel in 2..200_u16 {
            client.open_channel(channel);
            let tag = [b't'; 255];
            let consume = Method::BasicConsume {
                reserved_1: 0,
                queue: b"q",
                consumer_tag: &tag,
                no_local: false,
                no_ack: false,
                exclusive: false,
                nowait: false,
                arguments: RawTable::EMPTY,
            };
            assert_eq!(client.call(channel, &consume).name(), "basic.consume-ok");
            assert_eq!(client.call(channel, &Method::TxSelect {}).name(), "tx.select-ok");
            client.publish(channel, "", "nowhere", &[7; 10_000]);
        }
        for channel in 2..200_u16 {
            let close = Method::ChannelClose {
                reply_code: 200,
                reply_text: b"",
                class_id: 0,
                method_id: 0,
            };
            assert_eq!(client.call(channel, &close).name(), "channel.close-ok");
        }
    };
    round(&mut client);
    let before = server.memory();
    for _ in 0..5 {
        round(&mut client);
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    eventually("the queue has no consumers", || {
        matches!(
            client.call(1, &queue_declare("q", false)).method(),
            Method::QueueDeclareOk { consumer_count: 0, .. }
        )
    });
}

/// Each segment of the log takes a file descriptor, and so does each connection, before anybody has logged in: when they were used
/// up, the log failed for want of one, and the server ended.
#[test]
fn connections_leave_file_descriptors_for_the_log() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve_with_open_files(directory.path(), 128);
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    assert_eq!(
        client.call(1, &Method::ConfirmSelect { nowait: false }).name(),
        "confirm.select-ok"
    );
    let idle: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(server.addresses()[0]).unwrap()).collect();
    // Twenty segments more than there were.
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    for n in 1..=200 {
        client.publish_with(1, "", "q", false, persistent, &[7; 100_000]);
        let confirm = client.method();
        assert_eq!(
            confirm.method(),
            Method::BasicAck { delivery_tag: n, multiple: false },
            "{confirm:?}"
        );
    }
    drop(idle);
    eventually("others are served", || {
        let mut other = Client::new(server.addresses()[0]);
        other.try_send_bytes(&PROTOCOL_HEADER).is_ok() && other.method_or_end().is_some()
    });
}

/// An Argon2id takes 19 MiB, and anybody may ask for one: the allocator kept what the threads had used for each.
#[test]
fn wrong_passwords_leave_no_memory_behind() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    let before = server.memory();
    let address = server.addresses()[0];
    let guesses = (0..32).map(|n| {
        thread::spawn(move || {
            let mut client = Client::new(address);
            client.send_bytes(&PROTOCOL_HEADER);
            client.method();
            client.start_ok("PLAIN", format!("\0guest\0guess {n}").as_bytes(), true);
            client.expect_close(403);
        })
    });
    guesses.collect::<Vec<_>>().into_iter().for_each(|guess| guess.join().unwrap());
    let grown = server.memory().saturating_sub(before);
    // Four at a time at most, whatever there is of processors.
    assert!(grown < 110 << 20, "{grown} bytes");
}
