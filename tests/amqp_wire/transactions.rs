//! The `tx` class over real sockets, and under kill -9. Texts and moments are those of RabbitMQ 3.10.

use std::thread;
use std::time::Duration;

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, Properties, RawProperties, RawTable, ShortStr, Value};

use crate::common::process::Process;
use crate::common::{Client, TestServer, queue_declare};

/// Messages of one transaction, under kill -9.
const BATCH: u32 = 20;

fn select(client: &mut Client) {
    assert_eq!(client.call(1, &Method::TxSelect {}).name(), "tx.select-ok");
}

fn commit(client: &mut Client) {
    assert_eq!(client.call(1, &Method::TxCommit {}).name(), "tx.commit-ok");
}

/// How many messages are ready, as another connection sees it.
fn ready(client: &mut Client, queue: &str, durable: bool) -> u32 {
    match client.call(1, &crate::queue_declare(queue, durable)).method() {
        Method::QueueDeclareOk { message_count, .. } => message_count,
        other => panic!("{other:?}"),
    }
}

fn publish(client: &mut Client, queue: &str, body: &[u8]) {
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    client.publish_with(1, "", queue, false, persistent, body);
}

#[test]
fn nothing_of_a_transaction_is_seen_before_its_commit() {
    let server = TestServer::start();
    let (mut client, mut other) = (server.open_channel(), server.open_channel());
    client.declare_queue(1, "q", true);
    select(&mut client);
    // Bodies that come in one piece, and in several.
    for size in [0, 1, 20_000, 300_000] {
        publish(&mut client, "q", &vec![7; size]);
    }
    assert!(client.is_served());
    assert_eq!(ready(&mut other, "q", true), 0);
    commit(&mut client);
    for size in [0, 1, 20_000, 300_000] {
        assert_eq!(other.call(1, &crate::basic_get("q")).name(), "basic.get-ok");
        assert_eq!(other.content().1.len(), size);
    }
    publish(&mut client, "q", b"dropped");
    assert_eq!(client.call(1, &Method::TxRollback {}).name(), "tx.rollback-ok");
    commit(&mut client);
    assert_eq!(ready(&mut other, "q", true), 0);
}

#[test]
fn acknowledgements_wait_for_the_commit_and_can_be_taken_back() {
    let server = TestServer::start();
    let (mut client, mut other) = (server.open_channel(), server.open_channel());
    client.declare_queue(1, "q", false);
    for n in 0..4_u8 {
        other.publish(1, "", "q", &[n]);
    }
    assert!(other.is_served());
    select(&mut client);
    client.consume(1, "q", false);
    for n in 0..4_u8 {
        assert_eq!(client.delivery(), (u64::from(n) + 1, false, vec![n]));
    }
    let settle = |client: &mut Client| {
        client.send(1, &Method::BasicAck { delivery_tag: 1, multiple: false });
        client.send(1, &Method::BasicReject { delivery_tag: 2, requeue: false });
        client.send(1, &Method::BasicNack { delivery_tag: 4, multiple: true, requeue: true });
    };
    settle(&mut client);
    assert_eq!(client.call(1, &Method::TxRollback {}).name(), "tx.rollback-ok");
    settle(&mut client);
    commit(&mut client);
    // Those that were requeued come again.
    assert_eq!(client.delivery(), (5, true, vec![2]));
    assert_eq!(client.delivery(), (6, true, vec![3]));
    client.send(1, &Method::BasicAck { delivery_tag: 6, multiple: true });
    client.send(1, &Method::BasicAck { delivery_tag: 5, multiple: false });
    assert_eq!(client.expect_channel_close(1, 406), "PRECONDITION_FAILED - unknown delivery tag 5");
    // The channel has gone without a commit.
    client.open_channel(1);
    client.consume(1, "q", true);
    assert_eq!(client.delivery(), (1, true, vec![2]));
    assert_eq!(client.delivery(), (2, true, vec![3]));
}

#[test]
fn what_cannot_be_routed_is_returned_at_the_commit_before_its_answer() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    select(&mut client);
    for body in [&b"one"[..], b"two"] {
        client.publish_with(1, "", "nowhere", true, RawProperties::NONE, body);
    }
    client.publish(1, "", "nowhere", b"nobody asks");
    assert!(client.is_served(), "nothing is returned yet");
    client.send(1, &Method::TxCommit {});
    for body in [&b"one"[..], b"two"] {
        let returned = client.method();
        let Method::BasicReturn { reply_code, reply_text, exchange, routing_key } =
            returned.method()
        else {
            panic!("{returned:?}");
        };
        assert_eq!((reply_code, reply_text), (312, &b"NO_ROUTE"[..]));
        assert_eq!((exchange, routing_key), (&b""[..], &b"nowhere"[..]));
        assert_eq!(client.content().1, body);
    }
    assert_eq!(client.method().name(), "tx.commit-ok");
}

#[test]
fn transactions_and_confirms_exclude_each_other_and_a_commit_needs_a_transaction() {
    let server = TestServer::start();
    let confirm = Method::ConfirmSelect { nowait: false };
    let cases: [(&[Method<'_>], &str); 4] = [
        (&[Method::TxSelect {}, confirm], "cannot switch from tx to confirm mode"),
        (&[confirm, Method::TxSelect {}], "cannot switch from confirm to tx mode"),
        (&[Method::TxCommit {}], "channel is not transactional"),
        (&[Method::TxRollback {}], "channel is not transactional"),
    ];
    let mut client = server.open_channel();
    for (methods, text) in cases {
        for method in methods {
            client.send(1, method);
        }
        for _ in 1..methods.len() {
            assert!(client.method().name().ends_with(".select-ok"));
        }
        let expected = format!("PRECONDITION_FAILED - {text}");
        assert_eq!(client.expect_channel_close(1, 406), expected);
        client.open_channel(1);
    }
}

#[test]
fn a_missing_exchange_is_said_when_something_is_published_to_it() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    select(&mut client);
    client.publish(1, "missing", "", b"x");
    let text = client.expect_channel_close(1, 404);
    assert_eq!(text, "NOT_FOUND - no exchange 'missing' in vhost '/'");
}

#[test]
fn what_transactions_hold_is_bounded_over_all_channels() {
    let server = TestServer::with(|config| config.broker_limits.transaction = 1 << 20);
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    client.open_channel(2);
    for channel in [1, 2] {
        assert_eq!(client.call(channel, &Method::TxSelect {}).name(), "tx.select-ok");
        client.publish(channel, "", "q", &[7; 500_000]);
    }
    client.publish(2, "", "q", &[7; 100_000]);
    let text = client.expect_channel_close(2, 406);
    assert!(text.starts_with("PRECONDITION_FAILED - messages of 1100"), "{text}");
    // With the channel its transaction has gone.
    client.publish(1, "", "q", &[7; 500_000]);
    commit(&mut client);
    assert_eq!(ready(&mut client, "q", false), 2);
}

/// A queue that refuses what is too much has the whole channel end, as RabbitMQ has it; the others have their messages.
#[test]
fn a_queue_that_is_full_makes_a_commit_partial() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", false);
    let arguments: FieldTable = [
        (ShortStr::from_static("x-max-length"), Value::I32(1)),
        (ShortStr::from_static("x-overflow"), Value::text("reject-publish")),
    ]
    .into_iter()
    .collect();
    let arguments = arguments.to_bytes();
    let mut declare = queue_declare("bounded", false);
    if let Method::QueueDeclare { arguments: given, .. } = &mut declare {
        *given = RawTable::parse(&arguments).unwrap();
    }
    assert_eq!(client.call(1, &declare).name(), "queue.declare-ok");
    select(&mut client);
    for queue in ["bounded", "q", "bounded", "q"] {
        client.publish(1, "", queue, b"x");
    }
    client.publish_with(1, "", "nowhere", true, RawProperties::NONE, b"back");
    client.send(1, &Method::TxCommit {});
    assert_eq!(client.method().name(), "basic.return");
    assert_eq!(client.content().1, b"back");
    let text = client.expect_channel_close(1, 406);
    assert_eq!(text, "PRECONDITION_FAILED - partial tx completion");
    client.open_channel(1);
    for (queue, count) in [("q", 2), ("bounded", 1)] {
        for _ in 0..count {
            assert_eq!(client.call(1, &crate::basic_get(queue)).name(), "basic.get-ok");
            client.content();
        }
        assert_eq!(client.call(1, &crate::basic_get(queue)).name(), "basic.get-empty");
    }
}

/// Publishes batches, and takes a message of the queue `work` with each, until the server is gone. How many were committed.
fn work(mut client: Client) -> u32 {
    for batch in 0.. {
        for n in 0..BATCH {
            let mut out = bytes::BytesMut::new();
            let body = (batch * BATCH + n).to_be_bytes();
            put_persistent(&mut out, "done", &body);
            if client.try_send_bytes(&out).is_err() {
                return batch;
            }
        }
        let mut out = bytes::BytesMut::new();
        let get = Method::BasicGet { reserved_1: 0, queue: b"work", no_ack: false };
        haypile::amqp::codec::put_method(&mut out, 1, &get);
        let ack = Method::BasicAck { delivery_tag: u64::from(batch) + 1, multiple: false };
        haypile::amqp::codec::put_method(&mut out, 1, &ack);
        haypile::amqp::codec::put_method(&mut out, 1, &Method::TxCommit {});
        if client.try_send_bytes(&out).is_err() {
            return batch;
        }
        loop {
            let Some(frame) = client.frame() else { return batch };
            if frame.kind == haypile::amqp::codec::FrameKind::Method
                && matches!(Method::decode(&frame.payload), Ok(Method::TxCommitOk {}))
            {
                break;
            }
        }
    }
    0
}

fn put_persistent(out: &mut bytes::BytesMut, queue: &str, body: &[u8]) {
    use haypile::amqp::codec::{put_body_frame_header, put_content_header, put_method};
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    put_method(out, 1, &crate::common::publish_method("", queue, false));
    let properties = RawProperties::parse(&persistent).unwrap();
    put_content_header(out, 1, body.len() as u64, properties);
    put_body_frame_header(out, 1, u32::try_from(body.len()).unwrap());
    out.extend_from_slice(body);
    out.extend_from_slice(&[0xCE]);
}

/// The bodies of a queue, as numbers.
fn drain(client: &mut Client, queue: &str) -> Vec<u32> {
    let mut found = Vec::new();
    while client.call(1, &crate::basic_get(queue)).name() == "basic.get-ok" {
        found.push(u32::from_be_bytes(client.content().1.try_into().unwrap()));
    }
    found
}

#[test]
fn a_committed_transaction_survives_kill_nine_and_one_that_was_not_has_left_nothing() {
    for millis in [120, 350] {
        let directory = tempfile::tempdir().unwrap();
        let server = Process::serve(directory.path());
        let mut setup = server.open_channel();
        setup.declare_queue(1, "work", true);
        setup.declare_queue(1, "done", true);
        setup.declare_queue(1, "never", true);
        select(&mut setup);
        for n in 0..2000_u32 {
            publish(&mut setup, "work", &n.to_be_bytes());
        }
        commit(&mut setup);
        publish(&mut setup, "never", b"uncommitted");
        assert!(setup.is_served());
        let mut client = server.open_channel();
        select(&mut client);
        let worker = thread::spawn(move || work(client));
        thread::sleep(Duration::from_millis(millis));
        server.signal("KILL");
        let committed = worker.join().unwrap();
        drop(server);

        let server = Process::serve(directory.path());
        let mut client = server.open_channel();
        assert_eq!(ready(&mut client, "never", true), 0);
        // The one transaction whose answer was under way may be there, with all its parts.
        let done = u32::try_from(drain(&mut client, "done").len()).unwrap();
        let transactions = done / BATCH;
        assert_eq!(done, transactions * BATCH);
        assert!((committed..=committed + 1).contains(&transactions), "{transactions}, {committed}");
        let left = drain(&mut client, "work");
        assert!(left.iter().copied().eq(transactions..2000), "{left:?}, {transactions}");
    }
}
