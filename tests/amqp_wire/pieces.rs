//! Work that is done in pieces is answered, and what the client asks for next comes after it.

use bytes::BytesMut;
use haypile::amqp::codec::{Method, put_method};
use haypile::message::RawTable;

use crate::common::{TestServer, exchange_declare, queue_bind, queue_declare};

fn queue_delete(queue: &str) -> Method<'_> {
    Method::QueueDelete {
        reserved_1: 0,
        queue: queue.as_bytes(),
        if_unused: false,
        if_empty: false,
        nowait: false,
    }
}

fn queue_purge(queue: &str) -> Method<'_> {
    Method::QueuePurge { reserved_1: 0, queue: queue.as_bytes(), nowait: false }
}

/// The connection that had deleted the queue was not served any more, and kept a processor busy.
#[test]
fn a_connection_is_served_after_a_deletion_of_many_bindings() {
    const BINDINGS: usize = 2000;
    let server = TestServer::start();
    let mut client = server.open_channel();
    let mut other = server.open_channel();
    client.call(1, &exchange_declare("x", "direct", false, true));
    for round in 0..2 {
        client.declare_queue(1, "q", true);
        let mut requests = BytesMut::new();
        for number in 0..BINDINGS {
            let key = number.to_string();
            put_method(&mut requests, 1, &queue_bind("q", "x", &key));
        }
        client.send_bytes(&requests);
        for _ in 0..BINDINGS {
            assert_eq!(client.method().name(), "queue.bind-ok");
        }
        // The answers come in the order of the requests, also to a declaration that waits for the deletion.
        let mut requests = BytesMut::new();
        put_method(&mut requests, 1, &queue_delete("q"));
        put_method(&mut requests, 1, &queue_declare("q", true));
        put_method(&mut requests, 1, &queue_declare("another", true));
        put_method(
            &mut requests,
            1,
            &Method::ExchangeDelete {
                reserved_1: 0,
                exchange: b"x",
                if_unused: false,
                nowait: false,
            },
        );
        put_method(&mut requests, 1, &exchange_declare("x", "direct", false, true));
        client.send_bytes(&requests);
        if round == 1 {
            other.declare_queue(1, "q", true);
        }
        let answers: Vec<_> = (0..5).map(|_| client.method().name()).collect();
        assert_eq!(
            answers,
            [
                "queue.delete-ok",
                "queue.declare-ok",
                "queue.declare-ok",
                "exchange.delete-ok",
                "exchange.declare-ok"
            ]
        );
    }
}

#[test]
fn a_long_purge_and_a_large_requeue_are_answered_before_what_follows() {
    const COUNT: usize = 10_000;
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    for number in 0..COUNT {
        client.publish(1, "", "q", number.to_string().as_bytes());
    }
    let consume = Method::BasicConsume {
        reserved_1: 0,
        queue: b"q",
        consumer_tag: b"t",
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: true,
        arguments: RawTable::EMPTY,
    };
    client.send(1, &consume);
    for number in 0..COUNT {
        assert_eq!(client.delivery().2, number.to_string().as_bytes());
    }
    client.call(1, &Method::BasicCancel { consumer_tag: b"t", nowait: false });
    let mut requests = BytesMut::new();
    put_method(&mut requests, 1, &Method::BasicRecover { requeue: true });
    put_method(&mut requests, 1, &queue_declare("q", true));
    put_method(&mut requests, 1, &queue_purge("q"));
    put_method(&mut requests, 1, &queue_declare("q", true));
    client.send_bytes(&requests);
    assert_eq!(client.method().name(), "basic.recover-ok");
    let mut count = || match client.method().method() {
        Method::QueueDeclareOk { message_count, .. } => ("declare-ok", message_count),
        Method::QueuePurgeOk { message_count } => ("purge-ok", message_count),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(), ("declare-ok", COUNT as u32));
    assert_eq!(count(), ("purge-ok", COUNT as u32));
    assert_eq!(count(), ("declare-ok", 0));
}

#[test]
fn a_channel_that_holds_many_messages_is_closed_before_the_next_method() {
    const COUNT: usize = 5000;
    let server = TestServer::start();
    let mut client = server.open_channel();
    let mut other = server.open_channel();
    client.declare_queue(1, "q", true);
    for number in 0..COUNT {
        client.publish(1, "", "q", number.to_string().as_bytes());
    }
    client.consume(1, "q", false);
    for _ in 0..COUNT {
        client.delivery();
    }
    let mut requests = BytesMut::new();
    let close =
        Method::ChannelClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 };
    put_method(&mut requests, 1, &close);
    put_method(&mut requests, 1, &Method::ChannelOpen { reserved_1: b"" });
    put_method(&mut requests, 1, &queue_declare("q", true));
    client.send_bytes(&requests);
    let answers: Vec<_> = (0..2).map(|_| client.method().name()).collect();
    assert_eq!(answers, ["channel.close-ok", "channel.open-ok"]);
    let Method::QueueDeclareOk { message_count, .. } = client.method().method() else {
        panic!("no declare-ok");
    };
    assert_eq!(message_count, COUNT as u32);
    other.consume(1, "q", true);
    for number in 0..COUNT {
        assert_eq!(other.delivery().2, number.to_string().as_bytes());
    }
}
