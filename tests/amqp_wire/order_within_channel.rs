//! A channel's methods take effect in the order in which they were sent, also when they arrive in one read.

use bytes::{BufMut, BytesMut};
use haypile::amqp::codec::{Method, put_body_frame_header, put_content_header, put_method};
use haypile::message::{FieldTable, RawProperties, RawTable, ShortStr, Value};

use crate::common::{Client, TestServer, basic_consume, publish_method, queue_declare};

const CANCEL: Method<'_> = Method::BasicCancel { consumer_tag: b"consumer", nowait: false };

/// Frames on channel 1 that are sent with one write.
#[derive(Default)]
struct Write(BytesMut);

impl Write {
    fn method(mut self, method: &Method<'_>) -> Write {
        put_method(&mut self.0, 1, method);
        self
    }

    fn publish(mut self, queue: &str, body: &str) -> Write {
        put_method(&mut self.0, 1, &publish_method("", queue, false));
        put_content_header(&mut self.0, 1, body.len() as u64, RawProperties::NONE);
        put_body_frame_header(&mut self.0, 1, u32::try_from(body.len()).unwrap());
        self.0.put_slice(body.as_bytes());
        self.0.put_u8(0xCE);
        self
    }

    fn ack(self, delivery_tag: u64) -> Write {
        self.method(&Method::BasicAck { delivery_tag, multiple: false })
    }

    fn get(self, queue: &str) -> Write {
        self.method(&crate::basic_get(queue))
    }

    /// Sends all of it, and expects these methods in return, on channel 1, and no others.
    fn expect(self, client: &mut Client, expected: &[&str]) {
        client.send_bytes(&self.0);
        let got: Vec<_> = expected.iter().map(|_| received(client)).collect();
        assert_eq!(got, expected);
        client.send(2, &Method::BasicRecover { requeue: true });
        assert_eq!(received(client), "basic.recover-ok");
    }
}

/// The next method, with its body, and the number of messages that it says are left.
fn received(client: &mut Client) -> String {
    let received = client.method();
    let name = received.name();
    let body = |client: &mut Client| String::from_utf8(client.content().1).unwrap();
    match received.method() {
        Method::BasicDeliver { .. } => format!("{name} {}", body(client)),
        Method::BasicGetOk { message_count, .. } => {
            format!("{name} {}, {message_count} left", body(client))
        }
        Method::QueueDeclareOk { message_count, .. } => format!("{name} {message_count}"),
        Method::QueuePurgeOk { message_count } => format!("{name} {message_count}"),
        Method::QueueDeleteOk { message_count } => format!("{name} {message_count}"),
        _ => name.to_owned(),
    }
}

fn open(server: &TestServer) -> Client {
    let mut client = server.open_channel();
    client.open_channel(2);
    client
}

/// Declares the queue `q` with these arguments.
fn declare_with(client: &mut Client, arguments: &[(&'static str, Value)]) {
    let entry =
        |(name, value): &(&'static str, Value)| (ShortStr::from_static(name), value.clone());
    let table = arguments.iter().map(entry).collect::<FieldTable>().to_bytes();
    let mut declare = queue_declare("q", false);
    if let Method::QueueDeclare { arguments, .. } = &mut declare {
        *arguments = RawTable::parse(&table).unwrap();
    }
    assert_eq!(client.call(1, &declare).name(), "queue.declare-ok");
}

fn declare_with_max_length(client: &mut Client, length: i32) {
    declare_with(client, &[("x-max-length", Value::I32(length))]);
}

/// To the queue `dead`, by the default exchange.
fn to_dead() -> [(&'static str, Value); 2] {
    [
        ("x-dead-letter-exchange", Value::text("")),
        ("x-dead-letter-routing-key", Value::text("dead")),
    ]
}

fn passive_declare() -> Method<'static> {
    let mut declare = queue_declare("q", false);
    if let Method::QueueDeclare { passive, .. } = &mut declare {
        *passive = true;
    }
    declare
}

#[test]
fn a_publish_is_delivered_before_the_next_method_takes_effect() {
    let close =
        Method::ChannelClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 };
    let purge = Method::QueuePurge { reserved_1: 0, queue: b"q", nowait: false };
    let delete = Method::QueueDelete {
        reserved_1: 0,
        queue: b"q",
        if_unused: false,
        if_empty: false,
        nowait: false,
    };
    let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false };
    let second = Method::BasicConsume {
        reserved_1: 0,
        queue: b"q",
        consumer_tag: b"second",
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    };
    let cases: [(Method<'_>, &[&str]); 8] = [
        (CANCEL, &["basic.cancel-ok"]),
        (crate::basic_get("q"), &["basic.get-empty"]),
        (purge, &["queue.purge-ok 0"]),
        (delete, &["queue.delete-ok 0", "basic.cancel"]),
        (close, &["channel.close-ok"]),
        (passive_declare(), &["queue.declare-ok 0"]),
        (qos, &["basic.qos-ok"]),
        (second, &["basic.consume-ok"]),
    ];
    let server = TestServer::start();
    for (method, answers) in cases {
        let mut client = open(&server);
        client.declare_queue(1, "q", false);
        client.consume(1, "q", true);
        let expected = [&["basic.deliver One"], answers].concat();
        Write::default().publish("q", "One").method(&method).expect(&mut client, &expected);
    }
}

#[test]
fn acknowledged_credit_is_used_before_the_consumer_is_cancelled() {
    let server = TestServer::start();
    let mut client = open(&server);
    client.declare_queue(1, "q", false);
    let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 5, global: false };
    let published = (1..=10).fold(Write::default(), |write, n| write.publish("q", &n.to_string()));
    published.method(&qos).expect(&mut client, &["basic.qos-ok"]);
    client.consume(1, "q", false);
    for tag in 1..=5 {
        assert_eq!(client.delivery().0, tag);
    }
    let settled = [
        (Method::BasicAck { delivery_tag: 1, multiple: false }, "6"),
        (Method::BasicReject { delivery_tag: 2, requeue: false }, "7"),
        (Method::BasicNack { delivery_tag: 3, multiple: false, requeue: false }, "8"),
    ];
    for (method, next) in settled {
        let expected = [&format!("basic.deliver {next}"), "basic.qos-ok"];
        Write::default().method(&method).method(&qos).expect(&mut client, &expected);
    }
    Write::default()
        .ack(4)
        .ack(5)
        .method(&CANCEL)
        .expect(&mut client, &["basic.deliver 9", "basic.deliver 10", "basic.cancel-ok"]);
}

#[test]
fn a_maximum_length_holds_for_the_next_method() {
    let server = TestServer::start();
    let mut client = open(&server);
    declare_with_max_length(&mut client, 0);
    Write::default().publish("q", "One").get("q").expect(&mut client, &["basic.get-empty"]);
    client.delete_queue(1, "q");
    declare_with_max_length(&mut client, 1);
    Write::default()
        .publish("q", "One")
        .publish("q", "Two")
        .get("q")
        .expect(&mut client, &["basic.get-ok Two, 0 left"]);
    (0..4)
        .fold(Write::default(), |write, n| write.publish("q", &n.to_string()))
        .method(&passive_declare())
        .get("q")
        .expect(&mut client, &["queue.declare-ok 1", "basic.get-ok 3, 0 left"]);
}

#[test]
fn a_dead_letter_is_in_its_queue_before_the_next_method() {
    let server = TestServer::start();
    let mut client = open(&server);
    client.declare_queue(1, "dead", false);
    declare_with(&mut client, &to_dead());
    client.consume(1, "q", false);
    let settled = [
        Method::BasicReject { delivery_tag: 1, requeue: false },
        Method::BasicNack { delivery_tag: 0, multiple: true, requeue: false },
    ];
    let bodies = [&["One"][..], &["Two", "Three"]];
    for (method, bodies) in settled.iter().zip(bodies) {
        for body in bodies {
            Write::default()
                .publish("q", body)
                .expect(&mut client, &[&format!("basic.deliver {body}")]);
        }
        let mut write = Write::default().method(method).get("q");
        let mut expected = vec!["basic.get-empty".to_owned()];
        for (place, body) in bodies.iter().enumerate() {
            write = write.get("dead");
            expected.push(format!("basic.get-ok {body}, {} left", bodies.len() - 1 - place));
        }
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        write.expect(&mut client, &expected);
    }
    Write::default().method(&CANCEL).expect(&mut client, &["basic.cancel-ok"]);
    client.delete_queue(1, "q");
    // One that is removed to make room.
    let arguments = [&to_dead()[..], &[("x-max-length", Value::I32(1))]].concat();
    declare_with(&mut client, &arguments);
    Write::default()
        .publish("q", "Four")
        .publish("q", "Five")
        .get("dead")
        .get("q")
        .expect(&mut client, &["basic.get-ok Four, 0 left", "basic.get-ok Five, 0 left"]);
}

#[test]
fn a_publish_is_offered_to_the_consumers_of_other_connections_before_it_can_be_got() {
    let server = TestServer::start();
    let (mut client, mut other) = (open(&server), server.open_channel());
    client.declare_queue(1, "q", false);
    assert_eq!(other.call(1, &basic_consume("q", true)).name(), "basic.consume-ok");
    Write::default().publish("q", "One").get("q").expect(&mut client, &["basic.get-empty"]);
    assert_eq!(other.delivery().2, b"One");
}

/// Of a transient message and of a direct reply the publisher's confirm is sent before anything else comes of them.
#[test]
fn a_confirm_that_waits_for_nothing_precedes_the_delivery() {
    let server = TestServer::start();
    let mut client = open(&server);
    client.declare_queue(1, "q", false);
    client.consume(1, "q", true);
    client.consume(2, "amq.rabbitmq.reply-to", true);
    let select = Method::ConfirmSelect { nowait: false };
    Write::default().method(&select).expect(&mut client, &["confirm.select-ok"]);
    Write::default()
        .publish("q", "One")
        .publish("q", "Two")
        .expect(&mut client, &["basic.ack", "basic.deliver One", "basic.deliver Two"]);
}
