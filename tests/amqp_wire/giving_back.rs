//! What clients give back, and how soon it comes again.

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, Properties, RawProperties, RawTable, ShortStr, Value};

use crate::common::{Client, TestServer, queue_declare};

fn declare_ranked(client: &mut Client, name: &str) {
    let argument = (ShortStr::try_from("x-max-priority").unwrap(), Value::I32(10));
    let table = FieldTable::from_iter([argument]).to_bytes();
    let mut declare = queue_declare(name, true);
    if let Method::QueueDeclare { arguments, .. } = &mut declare {
        *arguments = RawTable::parse(&table).unwrap();
    }
    assert_eq!(client.call(1, &declare).name(), "queue.declare-ok");
}

fn publish(client: &mut Client, priority: u8, body: &str) {
    let properties =
        Properties { priority: Some(priority), delivery_mode: Some(2), ..Properties::default() };
    let properties = properties.to_bytes();
    let properties = RawProperties::parse(&properties).unwrap();
    client.publish_with(1, "", "q", false, properties, body.as_bytes());
}

/// Takes deliveries until the consumer is gone that is cancelled as soon as there is one.
fn consume_until_cancelled(client: &mut Client) -> Vec<(u64, String)> {
    let mut deliveries = Vec::new();
    client.consume(1, "q", false);
    loop {
        let received = client.method();
        let Method::BasicDeliver { delivery_tag, .. } = received.method() else {
            assert_eq!(received.name(), "basic.cancel-ok");
            return deliveries;
        };
        deliveries.push((delivery_tag, String::from_utf8(client.content().1).unwrap()));
        if deliveries.len() == 1 {
            client.send(1, &Method::BasicCancel { consumer_tag: b"consumer", nowait: false });
        }
    }
}

/// As kombu's own tests have it. What had come back was read from the log's files, a priority at a time, and a consumer that went
/// after the first message got only some of them.
#[test]
fn a_consumer_that_goes_after_the_first_message_has_got_all_that_had_come_back() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    for _ in 0..20 {
        declare_ranked(&mut client, "q");
        for (priority, body) in [(3, "first"), (6, "second"), (9, "third")] {
            publish(&mut client, priority, body);
        }
        let held = consume_until_cancelled(&mut client);
        assert_eq!(held.len(), 3, "{held:?}");
        for (delivery_tag, _) in held {
            client.send(1, &Method::BasicReject { delivery_tag, requeue: true });
        }
        publish(&mut client, 9, "fourth");
        let again: Vec<_> =
            consume_until_cancelled(&mut client).into_iter().map(|(_, body)| body).collect();
        assert_eq!(again, ["third", "fourth", "second", "first"]);
        client.delete_queue(1, "q");
    }
}
