//! Memory and disk space run short under a running server: publishers are held back, everybody else goes on.

use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use haypile::amqp::codec::{Method, put_content_header, put_method};
use haypile::message::RawProperties;

use crate::common::process::{Process, haypile, run};
use crate::common::{Client, PATIENCE, publish_method};

const MIB: usize = 1 << 20;

fn serve(directory: &Path, settings: &[&str]) -> Process {
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--set", "storage.segment_size=1 MiB"];
    // These follow from the memory limit otherwise, and the tests set that low.
    arguments.extend(["--set", "limits.transaction_size=256 MiB"]);
    arguments.extend(["--set", "limits.message_size=128 MiB"]);
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    Process::serve_with(directory, &arguments)
}

/// A client with channel 1 open that wants to know when it is blocked.
fn client(server: &Process) -> Client {
    let mut client = Client::new(server.addresses()[0]);
    client.understands_blocked = true;
    client.open_connection(2047, 131_072, 0);
    client.open_channel(1);
    client
}

fn expect_blocked(client: &mut Client, expected: &str) {
    match client.method().method() {
        Method::ConnectionBlocked { reason } => assert_eq!(reason, expected.as_bytes()),
        other => panic!("{other:?}"),
    }
}

/// Whether the server has something to say within that time.
fn speaks(client: &Client, within: Duration) -> bool {
    client.stream.set_read_timeout(Some(within)).unwrap();
    let outcome = client.stream.peek(&mut [0]);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match outcome {
        Ok(count) => count > 0,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            false
        }
    }
}

fn running(directory: &Path) -> serde_json::Value {
    let output = run(haypile(&["inspect", "--json", directory.to_str().unwrap()]));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["running"].clone()
}

/// Has the server keep so many messages of that size: they are published in a transaction.
fn hold(client: &mut Client, count: usize, size: usize) {
    let body = vec![7; size];
    for _ in 0..count {
        client.publish(1, "", "q", &body);
    }
}

#[test]
fn publishers_are_blocked_while_memory_is_short_and_go_on_when_there_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &["limits.memory=64 MiB", "storage.cache=1 MiB"]);
    let mut other = client(&server);
    other.declare_queue(1, "q", false);
    other.publish(1, "", "q", b"early");
    assert!(other.is_served());
    // One holds a lot, and is not publishing when it gets too much. What it holds is small, and something stays that came after
    // it: an allocator keeps such memory when it is free.
    let mut holding = client(&server);
    assert_eq!(holding.call(1, &Method::TxSelect {}).name(), "tx.select-ok");
    hold(&mut holding, 12_000, 2048);
    for n in 0..100 {
        holding.declare_queue(1, &format!("stays {n}"), false);
    }
    let limit = 64 * MIB as u64;
    assert_eq!(running(directory.path())["memory_limit_bytes"], limit);
    assert_eq!(running(directory.path())["low_on_memory"], false);
    let mut publishing = client(&server);
    // Of this message one half has arrived when it begins.
    publishing.open_channel(2);
    let mut halves = BytesMut::new();
    put_method(&mut halves, 2, &publish_method("", "q", false));
    put_content_header(&mut halves, 2, 8, RawProperties::NONE);
    halves.extend_from_slice(b"\x03\0\x02\0\0\0\x04half\xce");
    publishing.send_bytes(&halves);
    assert_eq!(publishing.call(1, &Method::TxSelect {}).name(), "tx.select-ok");
    // The server may stop to read at any moment.
    let mut sending = Client::on(publishing.stream.try_clone().unwrap());
    let sender = thread::spawn(move || {
        hold(&mut sending, 36, MIB);
        for _ in 0..50 {
            sending.publish(1, "", "q", b"another");
            thread::sleep(Duration::from_millis(20));
        }
        sending.send_bytes(b"\x03\0\x02\0\0\0\x04half\xce");
    });
    expect_blocked(&mut publishing, "low on memory");
    assert_eq!(running(directory.path())["low_on_memory"], true);
    assert!(!speaks(&publishing, Duration::from_millis(700)));
    // Those who do not publish are served, and are told nothing.
    assert_eq!(other.call(1, &crate::basic_get("q")).name(), "basic.get-ok");
    assert_eq!(other.content().1, b"early");
    assert_eq!(holding.call(1, &Method::TxRollback {}).name(), "tx.rollback-ok");
    assert_eq!(publishing.method().name(), "connection.unblocked");
    sender.join().unwrap();
    assert_eq!(publishing.call(1, &Method::TxRollback {}).name(), "tx.rollback-ok");
    assert_eq!(other.call(1, &crate::basic_get("q")).name(), "basic.get-ok");
    assert_eq!(other.content().1, b"halfhalf");
    assert_eq!(other.call(1, &crate::basic_get("q")).name(), "basic.get-empty");
    assert_eq!(running(directory.path())["low_on_memory"], false);
    server.signal("TERM");
    let (_, log) = server.end();
    let said = |what: &str| log.matches(what).count();
    assert_eq!(said("low on memory: publishers are held back"), 1, "{log}");
    assert_eq!(said("there is enough memory again"), 1, "{log}");
}

#[test]
fn publishers_are_blocked_while_too_little_is_left_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &["limits.disk_free=1024 GiB"]);
    let mut consumer = client(&server);
    consumer.declare_queue(1, "q", true);
    let mut publisher = client(&server);
    assert!(publisher.is_served(), "it has not published yet");
    publisher.publish(1, "", "q", b"held");
    expect_blocked(&mut publisher, "low on disk");
    assert!(!speaks(&publisher, Duration::from_millis(500)));
    assert_eq!(consumer.call(1, &crate::basic_get("q")).name(), "basic.get-empty");
    let running = running(directory.path());
    assert_eq!((&running["low_on_disk"], &running["disk_full"]), (&true.into(), &false.into()));
    assert_eq!(running["disk_free_limit_bytes"], 1_u64 << 40);
    server.signal("TERM");
    let (_, log) = server.end();
    assert_eq!(log.matches("low on disk: publishers are held back").count(), 1, "{log}");
}

#[test]
fn who_is_blocked_by_both_is_told_both() {
    let directory = tempfile::tempdir().unwrap();
    let settings = ["limits.disk_free=1024 GiB", "limits.memory=1 MiB", "storage.cache=0 B"];
    let server = serve(directory.path(), &settings);
    let mut publisher = client(&server);
    publisher.publish(1, "", "q", b"held");
    expect_blocked(&mut publisher, "low on disk & memory");
}

/// The end of a message that takes more than half of the memory that there is.
fn send_body(client: &mut Client, mebibytes: usize) {
    let mut frame = vec![3, 0, 1, 0, 1, 0, 0];
    frame.resize(frame.len() + (64 << 10), 7);
    frame.push(0xCE);
    for _ in 0..mebibytes * 16 {
        client.send_bytes(&frame);
    }
}

/// Nobody would ever give back what they take.
#[test]
fn messages_that_have_arrived_by_half_do_not_wait_for_each_other() {
    const SIZE: usize = 60;
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &["limits.memory=96 MiB", "storage.cache=1 MiB"]);
    let mut other = client(&server);
    other.declare_queue(1, "q", false);
    let mut publishers = [client(&server), client(&server), client(&server)];
    for publisher in &mut publishers {
        publisher.call(1, &Method::ConfirmSelect { nowait: false });
        let mut begin = BytesMut::new();
        put_method(&mut begin, 1, &publish_method("", "q", false));
        put_content_header(&mut begin, 1, (SIZE * MIB) as u64, RawProperties::NONE);
        publisher.send_bytes(&begin);
    }
    thread::scope(|scope| {
        for publisher in &mut publishers {
            scope.spawn(move || {
                send_body(publisher, SIZE);
                loop {
                    match publisher.method().name() {
                        "basic.ack" => break,
                        "connection.blocked" | "connection.unblocked" => {}
                        other => panic!("{other}"),
                    }
                }
            });
        }
    });
    for _ in 0..3 {
        assert_eq!(other.call(1, &crate::basic_get("q")).name(), "basic.get-ok");
        assert_eq!(other.content().1.len(), SIZE * MIB);
    }
}

/// Publishes that many messages with confirms, some at a time, and waits for all of these.
fn publish_confirmed(client: &mut Client, count: usize, size: usize, is_persistent: bool) {
    const WINDOW: usize = 4 * MIB;
    let body = vec![7; size];
    let persistent = [0x10, 0, 2];
    let properties = if is_persistent { &persistent[..] } else { &[0, 0][..] };
    let properties = RawProperties::parse(properties).unwrap();
    let (mut published, mut confirmed) = (0, 0);
    while confirmed < count {
        let window = (WINDOW / size).min(count - published);
        for _ in 0..window {
            client.publish_with(1, "", "q", false, properties, &body);
        }
        published += window;
        while confirmed < published {
            match client.method().method() {
                Method::BasicAck { delivery_tag, multiple: true } => {
                    confirmed = confirmed.max(delivery_tag as usize);
                }
                Method::BasicAck { .. } => confirmed += 1,
                Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {} => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// With the budgets of a container of 96 MiB. Messages that the log has, the memory that passwords are verified in and
/// buffers for the next group took all of it, and nothing gave it back.
#[test]
fn publishers_go_on_in_a_small_container_without_a_consumer() {
    let directory = tempfile::tempdir().unwrap();
    let settings = ["--listen", "127.0.0.1:0", "--set", "storage.segment_size=8 MiB"];
    let arguments = [&settings[..], &["--set", "limits.memory=38 MiB"]].concat();
    let server = Process::serve_with(directory.path(), &arguments);
    let mut total = 0;
    for (size, count) in [(64 << 10, 400), (MIB, 24), (1024, 5000)] {
        for is_persistent in [true, false] {
            let mut publisher = client(&server);
            publisher.declare_queue(1, "q", true);
            publisher.call(1, &Method::ConfirmSelect { nowait: false });
            publish_confirmed(&mut publisher, count, size, is_persistent);
            total += count;
        }
    }
    let mut other = client(&server);
    other.consume(1, "q", true);
    for _ in 0..total {
        other.delivery();
    }
}
