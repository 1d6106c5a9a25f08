//! Opening and closing of channels and connections, and refusals with their codes and texts.

use std::io::Read;
use std::time::{Duration, Instant};

use haypile::amqp::codec::Method;
use haypile::message::RawTable;

use crate::common::{
    PATIENCE, TestServer, basic_get, eventually, exchange_declare, queue_bind, queue_declare,
};

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
