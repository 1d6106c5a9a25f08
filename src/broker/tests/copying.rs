//! The headers `CC` and `BCC`: more routing keys than one.

use super::*;

fn array(keys: &[&str]) -> Value {
    Value::Array(keys.iter().map(|key| Value::text(key)).collect())
}

fn with_headers(headers: &[(&str, Value)]) -> Properties {
    Properties { headers: Some(table(headers)), ..persistent() }
}

/// Publishes, and returns to how many queues it went and the properties that it got instead of its own.
fn publish(
    client: &mut Client,
    (exchange, key): (&str, &str),
    properties: &Properties,
) -> (usize, Option<Properties>) {
    let published = client.channel.publish(&message(exchange, key, "copied", properties)).unwrap();
    client.channel.flush().unwrap();
    let rewritten = published.rewritten.as_deref().map(|bytes| {
        let raw = RawProperties::parse(bytes).unwrap();
        raw.to_properties()
    });
    (published.queues, rewritten)
}

/// The one message of a queue, and its properties.
fn take(client: &mut Client, queue: &str) -> Option<(String, Properties)> {
    let Get::Message(delivery, 0) = client.channel.get(queue.as_bytes(), true).unwrap() else {
        return None;
    };
    let envelope = Envelope::parse(delivery.message().header()).unwrap();
    let key = String::from_utf8(envelope.routing_key.to_vec()).unwrap();
    let properties = envelope.properties.to_properties();
    client.channel.accept(delivery);
    Some((key, properties))
}

#[test]
fn each_queue_that_a_key_names_gets_the_message_once() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for q in ["a", "b", "c", "d"] {
        client.channel.declare_queue(&durable(q)).unwrap();
    }
    let cc = with_headers(&[("CC", array(&["b", "a", "b", "none"]))]);
    assert_eq!(publish(&mut client, ("", "a"), &cc), (2, None));
    for q in ["a", "b"] {
        assert_eq!(take(&mut client, q), Some(("a".to_owned(), cc.clone())), "{q}");
    }
    assert_eq!(
        publish(&mut client, ("", "none"), &cc),
        (2, None),
        "its own key need not lead anywhere"
    );
    assert_eq!((client.ready("c"), client.ready("d")), (0, 0));
}

#[test]
fn nobody_gets_to_see_who_had_a_blind_copy() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for q in ["a", "b", "c"] {
        client.channel.declare_queue(&durable(q)).unwrap();
    }
    let (first, cc, last) = (("x", Value::I64(1)), ("CC", array(&["b"])), ("y", Value::Void));
    let blind = ("BCC", array(&["c"]));
    let properties = with_headers(&[first.clone(), cc.clone(), blind.clone(), last.clone()]);
    let seen = with_headers(&[first, cc, last]);
    assert_eq!(publish(&mut client, ("", "a"), &properties), (3, Some(seen.clone())));
    for q in ["a", "b", "c"] {
        assert_eq!(take(&mut client, q), Some(("a".to_owned(), seen.clone())), "{q}");
    }
    // Neither a publisher whose message nobody took.
    let lonely = with_headers(&[("BCC", array(&["none"]))]);
    assert_eq!(publish(&mut client, ("", "none"), &lonely), (0, Some(with_headers(&[]))));
    // And a headers exchange does not see it either.
    let arguments = table(&[("x-match", Value::text("any")), ("BCC", Value::Void)]);
    client.channel.bind(&Bind { arguments, ..binding("amq.headers", "a", "") }).unwrap();
    assert_eq!(publish(&mut client, ("amq.headers", ""), &with_headers(&[blind])).0, 0);
}

#[test]
fn a_blind_copy_of_a_message_in_pieces_is_as_blind() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("a")).unwrap();
    client.channel.declare_queue(&queue("b")).unwrap();
    let properties = with_headers(&[("BCC", array(&["b"]))]).to_bytes();
    let envelope = Envelope {
        exchange: b"",
        routing_key: b"a",
        properties: RawProperties::parse(&properties).unwrap(),
        published_at: None,
    };
    let memory = crate::storage::MessageMemory::default();
    let published = client.channel.publish_pieces(&envelope, b"body", &memory).unwrap();
    assert_eq!(published.unwrap().queues, 2);
    client.channel.flush().unwrap();
    for q in ["a", "b"] {
        assert_eq!(take(&mut client, q), Some(("a".to_owned(), with_headers(&[]))), "{q}");
    }
}

#[test]
fn every_exchange_type_routes_by_all_keys() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for q in ["a", "b", "rest"] {
        client.channel.declare_queue(&durable(q)).unwrap();
    }
    client.channel.bind(&binding("amq.direct", "a", "one")).unwrap();
    client.channel.bind(&binding("amq.direct", "b", "two")).unwrap();
    client.channel.bind(&binding("amq.topic", "a", "one.*")).unwrap();
    client.channel.bind(&binding("amq.topic", "b", "#.end")).unwrap();
    client.channel.bind(&binding("amq.fanout", "a", "")).unwrap();
    let chain =
        Bind { kind: DestinationKind::Exchange, ..binding("amq.topic", "amq.direct", "on") };
    client.channel.bind(&chain).unwrap();
    let mut queues = |exchange: &str, key: &str, cc: &[&str]| {
        publish(&mut client, (exchange, key), &with_headers(&[("CC", array(cc))])).0
    };
    assert_eq!(queues("amq.direct", "one", &["two"]), 2);
    assert_eq!(queues("amq.direct", "one", &["one"]), 1);
    assert_eq!(queues("amq.topic", "one.x", &["x.end"]), 2);
    assert_eq!(queues("amq.topic", "one.end", &["one.end"]), 2);
    assert_eq!(queues("amq.topic", "no", &["on", "two"]), 1, "the next exchange gets all keys");
    assert_eq!(queues("amq.fanout", "x", &["y", "z"]), 1);
    // A key that fits no short string is one all the same.
    assert_eq!(queues("amq.topic", "x", &[&format!("{}.end", "z".repeat(300))]), 1);
    // One key that leads somewhere keeps the message from the alternate; none that does sends it there, with all keys.
    let arguments = table(&[("alternate-exchange", Value::text("amq.direct"))]);
    let declare = DeclareExchange { arguments, ..exchange("x", "direct") };
    client.channel.declare_exchange(&declare).unwrap();
    client.channel.bind(&binding("x", "rest", "mine")).unwrap();
    let mut queues = |key: &str, cc: &[&str]| {
        publish(&mut client, ("x", key), &with_headers(&[("CC", array(cc))])).0
    };
    assert_eq!(queues("one", &["mine"]), 1);
    assert_eq!(queues("one", &["two"]), 2);
}

#[test]
fn copies_are_as_durable_as_the_message() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for q in ["a", "b", "c"] {
        client.channel.declare_queue(&durable(q)).unwrap();
    }
    client.channel.confirm_select().unwrap();
    let properties = with_headers(&[("CC", array(&["b"])), ("BCC", array(&["c"]))]);
    assert_eq!(publish(&mut client, ("", "a"), &properties).0, 3);
    let lsn = client.channel.awaited_lsn().expect("a confirm waits for the log");
    rig.broker.store().wait_durable(lsn).unwrap();
    assert!(client.channel.confirms(lsn).is_some());
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    client.channel.consume(&consumer("a", "a")).unwrap();
    client.channel.consume(&consumer("b", "b")).unwrap();
    client.channel.consume(&consumer("c", "c")).unwrap();
    assert_eq!(client.await_bodies(3), ["copied"; 3]);
}

#[test]
fn a_header_that_is_no_array_is_refused_and_the_message_goes_nowhere() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("a")).unwrap();
    let good = ("CC", array(&["a"]));
    let cases = [
        (vec![("CC", Value::text("a"))], "CC", "longstr"),
        (vec![good.clone(), ("BCC", Value::Void)], "BCC", "void"),
    ];
    for (headers, header, kind) in cases {
        let properties = with_headers(&headers);
        let text = format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{kind}}}");
        assert_eq!(
            refusal(client.channel.publish(&message("", "a", "x", &properties))),
            (406, format!("PRECONDITION_FAILED - {text}"))
        );
    }
    assert_eq!(client.ready("a"), 0);
}
