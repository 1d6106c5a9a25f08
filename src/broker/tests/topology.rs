//! Declaring, binding, deleting, and what is refused with which words.

use super::*;
use crate::broker::topology::PRUNED_AT_ONCE;

fn inequivalent(what: &str, arg: &str, received: &str, current: &str) -> (u16, String) {
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg '{arg}' for {what} in vhost '/': \
         received {received} but current is {current}"
    );
    (406, text)
}

#[test]
fn a_second_declaration_has_to_say_the_same() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.declare_queue(&durable("q")).unwrap();
    assert_eq!(
        refusal(client.channel.declare_queue(&queue("q"))),
        inequivalent("queue 'q'", "durable", "'false'", "'true'")
    );
    let auto_delete = DeclareQueue { auto_delete: true, ..durable("q") };
    assert_eq!(
        refusal(client.channel.declare_queue(&auto_delete)),
        inequivalent("queue 'q'", "auto_delete", "'true'", "'false'")
    );
    client.channel.declare_exchange(&exchange("x", "direct")).unwrap();
    assert_eq!(
        refusal(client.channel.declare_exchange(&exchange("x", "fanout"))),
        inequivalent("exchange 'x'", "type", "'fanout'", "'direct'")
    );
    let predeclared = DeclareExchange { durable: true, ..exchange("amq.topic", "topic") };
    client.channel.declare_exchange(&predeclared).unwrap();
}

#[test]
fn names_of_queues_and_exchanges_lose_their_line_breaks() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let declared = client.channel.declare_queue(&durable("q\r\n_x\n")).unwrap();
    assert_eq!(declared.name, name("q_x"));
    let passive = DeclareQueue { passive: true, ..durable("\nq_x") };
    assert_eq!(client.channel.declare_queue(&passive).unwrap().name, name("q_x"));
    assert_eq!(client.ready("q_x"), 0);
    client.channel.declare_exchange(&exchange("e\rx", "fanout")).unwrap();
    client.channel.bind(&binding("ex\n", "q_x\r", "k")).unwrap();
    assert_eq!(client.send_to("ex", "", "x"), 1);
    // To consume, to get, to purge and to publish, a name is taken as it is.
    assert_eq!(refusal(client.channel.get(b"q_x\n", true)).0, 404);
    client.channel.unbind(&binding("\nex", "q_x\n", "k")).unwrap();
    assert_eq!(client.send_to("ex", "", "x"), 0);
    client.channel.delete_exchange(b"\nex", false).unwrap();
    assert_eq!(client.channel.delete_queue(b"q_\r\nx", false, false).unwrap().messages, 1);
    assert_eq!(refusal(client.channel.get(b"q_x", true)).0, 404);
    let made_up = client.channel.declare_queue(&queue("\r\n")).unwrap().name;
    assert!(made_up.starts_with(b"amq.gen-"));
}

#[test]
fn what_does_not_exist_is_not_found() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let missing = (404, "NOT_FOUND - no queue 'q' in vhost '/'".to_owned());
    let passive = DeclareQueue { passive: true, ..queue("q") };
    assert_eq!(refusal(client.channel.declare_queue(&passive)), missing);
    assert_eq!(refusal(client.channel.purge_queue(b"q")), missing);
    assert_eq!(refusal(client.channel.get(b"q", true)), missing);
    assert_eq!(refusal(client.channel.consume(&consumer("q", "c"))), missing);
    assert_eq!(refusal(client.channel.bind(&binding("amq.direct", "q", "k"))), missing);
    let passive = DeclareExchange { passive: true, ..exchange("x", "") };
    let missing = (404, "NOT_FOUND - no exchange 'x' in vhost '/'".to_owned());
    assert_eq!(refusal(client.channel.declare_exchange(&passive)), missing);
    client.channel.declare_queue(&queue("q")).unwrap();
    assert_eq!(refusal(client.channel.bind(&binding("x", "q", "k"))), missing);
    // Deleting and unbinding what is not there does no harm.
    assert_eq!(client.channel.delete_queue(b"none", false, false).unwrap().messages, 0);
    client.channel.delete_exchange(b"none", false).unwrap();
    client.channel.unbind(&binding("none", "q", "k")).unwrap();
}

#[test]
fn reserved_names_are_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let reserved = |what: &str| {
        let text =
            format!("ACCESS_REFUSED - {what} name 'amq.mine' contains reserved prefix 'amq.*'");
        (403, text)
    };
    assert_eq!(refusal(client.channel.declare_queue(&queue("amq.mine"))), reserved("queue"));
    let declare = exchange("amq.mine", "direct");
    assert_eq!(refusal(client.channel.declare_exchange(&declare)), reserved("exchange"));
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange".to_owned();
    let declare = exchange("", "direct");
    assert_eq!(refusal(client.channel.declare_exchange(&declare)), (403, default.clone()));
    assert_eq!(refusal(client.channel.delete_exchange(b"", false)), (403, default.clone()));
    client.channel.declare_queue(&queue("q")).unwrap();
    assert_eq!(refusal(client.channel.bind(&binding("", "q", "k"))), (403, default.clone()));
    assert_eq!(refusal(client.channel.unbind(&binding("", "q", "k"))), (403, default));
    assert_eq!(refusal(client.channel.delete_exchange(b"amq.direct", false)).0, 403);
}

#[test]
fn every_virtual_host_has_the_exchange_of_the_firehose_which_is_internal() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let trace = "amq.rabbitmq.trace";
    let declared = DeclareExchange { durable: true, internal: true, ..exchange(trace, "topic") };
    client.channel.declare_exchange(&declared).unwrap();
    let other = DeclareExchange { durable: true, ..exchange(trace, "topic") };
    assert_eq!(refusal(client.channel.declare_exchange(&other)).0, 406);
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.bind(&binding(trace, "q", "publish.#")).unwrap();
    let sent = message(trace, "publish.x", "m", &persistent());
    assert_eq!(
        refusal(client.channel.publish(&sent)).1,
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'"
    );
}

#[test]
fn an_unknown_exchange_type_closes_the_channel() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let refused = client.channel.declare_exchange(&exchange("x", "magic")).unwrap_err();
    assert_eq!(refused.text(), "PRECONDITION_FAILED - unknown exchange type 'magic'");
    assert_eq!((refused.code(), refused.scope()), (406, Scope::Channel));
}

#[test]
fn an_argument_that_would_be_ignored_is_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let with = |key: &str, value: Value| DeclareQueue {
        arguments: table(&[(key, value)]),
        ..durable("q")
    };
    let stream = with("x-queue-type", Value::text("stream"));
    let stream = client.channel.declare_queue(&stream).unwrap_err();
    assert_eq!((stream.code(), stream.scope()), (540, Scope::Connection));
    assert!(stream.text().contains("stream"));
    client.channel.declare_queue(&with("x-queue-type", Value::text("quorum"))).unwrap();
    assert_eq!(
        refusal(client.channel.declare_queue(&durable("q"))),
        inequivalent("queue 'q'", "x-queue-type", "none", "the value 'quorum' of type 'longstr'")
    );
    let unknown = with("x-queue-mode", Value::text("eager"));
    let unknown = DeclareQueue { name: name("other"), ..unknown };
    assert_eq!(refusal(client.channel.declare_queue(&unknown)).0, 406);
}

#[test]
fn an_exclusive_queue_is_locked_for_others_and_goes_with_its_connection() {
    let rig = Rig::new();
    let (mut owner, mut other) = (rig.connect(), rig.connect());
    let exclusive = DeclareQueue { exclusive: true, ..durable("mine") };
    owner.channel.declare_queue(&exclusive).unwrap();
    let locked = |outcome: (u16, String)| {
        assert_eq!(outcome.0, 405);
        let text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' \
                    in vhost '/'.";
        assert!(outcome.1.starts_with(text), "{}", outcome.1);
    };
    locked(refusal(other.channel.declare_queue(&exclusive)));
    locked(refusal(other.channel.declare_queue(&durable("mine"))));
    locked(refusal(owner.channel.declare_queue(&durable("mine"))));
    locked(refusal(other.channel.consume(&consumer("mine", "c"))));
    locked(refusal(other.channel.get(b"mine", false)));
    locked(refusal(other.channel.purge_queue(b"mine")));
    locked(refusal(other.channel.bind(&binding("amq.direct", "mine", "k"))));
    locked(refusal(other.channel.delete_queue(b"mine", false, false)));
    assert_eq!(other.send("mine", "x"), 1, "publishing to it is everybody's right");
    drop(owner);
    assert_eq!(other.send("mine", "x"), 0);
    other.channel.declare_queue(&queue("mine")).unwrap();
}

#[test]
fn a_queue_without_a_name_gets_one_and_becomes_the_last_declared() {
    let rig = Rig::new();
    let mut client = rig.connect();
    assert_eq!(
        refusal(client.channel.get(b"", true)),
        (404, "NOT_FOUND - no previously declared queue".to_owned())
    );
    let declared = client.channel.declare_queue(&queue("")).unwrap();
    assert!(declared.name.starts_with(b"amq.gen-"));
    client.channel.bind(&binding("amq.direct", "", "")).unwrap();
    let own_name = declared.name.to_string();
    assert_eq!(client.send_to("amq.direct", &own_name, "by its own name"), 1);
    let (received, _) = client.get("").unwrap();
    assert_eq!(received.body, "by its own name");
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let rig = Rig::new();
    let (mut client, mut other) = (rig.connect(), rig.connect());
    let declare = DeclareQueue { auto_delete: true, ..queue("q") };
    client.channel.declare_queue(&declare).unwrap();
    assert_eq!(other.send("q", "x"), 1, "without a consumer it waits for the first");
    client.channel.consume(&consumer("q", "c")).unwrap();
    other.channel.consume(&consumer("q", "d")).unwrap();
    client.channel.cancel(b"c").unwrap();
    assert_eq!(client.send("q", "x"), 1);
    drop(other);
    assert_eq!(client.send("q", "x"), 0);
}

#[test]
fn deleting_a_queue_cancels_its_consumers_and_its_last_deliveries_can_be_acknowledged() {
    let rig = Rig::new();
    let (mut client, mut other) = (rig.connect(), rig.connect());
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..3);
    client.channel.qos(0, 2, true).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let held = client.await_deliveries(2);
    assert_eq!(other.channel.delete_queue(b"q", false, false).unwrap().messages, 1);
    let events = client.events();
    assert!(
        matches!(&events[..], [Event::ConsumerCancelled { channel: ChannelNumber(1), consumer_tag }]
            if *consumer_tag == "c"),
        "{events:?}"
    );
    assert!(client.channel.forget_consumer(b"c"));
    assert!(!client.channel.forget_consumer(b"c"));
    // Their credit is the channel's, and comes back.
    client.channel.declare_queue(&queue("next")).unwrap();
    client.send_numbers("next", 10..12);
    client.channel.consume(&consumer("next", "c")).unwrap();
    assert!(client.receive().is_empty());
    client.ack(held[0].tag);
    assert_eq!(bodies(&client.receive()), ["10"]);
    client.channel.nack(held[1].tag, false, true).unwrap();
    assert_eq!(bodies(&client.receive()), ["11"]);
}

#[test]
fn deletion_can_be_made_to_depend_on_disuse() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.send("q", "x");
    let refused =
        |what: &str| (406, format!("PRECONDITION_FAILED - queue 'q' in vhost '/' {what}"));
    assert_eq!(refusal(client.channel.delete_queue(b"q", false, true)), refused("not empty"));
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(refusal(client.channel.delete_queue(b"q", true, false)), refused("in use"));
    client.channel.cancel(b"c").unwrap();
    client.channel.declare_exchange(&exchange("x", "direct")).unwrap();
    client.channel.bind(&binding("x", "q", "k")).unwrap();
    assert_eq!(
        refusal(client.channel.delete_exchange(b"x", true)),
        (406, "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use".to_owned())
    );
    assert_eq!(client.channel.delete_queue(b"q", true, false).unwrap().messages, 1);
    client.channel.delete_exchange(b"x", true).unwrap();
}

#[test]
fn every_exchange_type_routes_by_its_own_rule() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for q in ["a", "b"] {
        client.channel.declare_queue(&queue(q)).unwrap();
        client.channel.bind(&binding("amq.fanout", q, "ignored")).unwrap();
        client.channel.bind(&binding("amq.direct", q, q)).unwrap();
        client.channel.bind(&binding("amq.topic", q, &format!("*.{q}.#"))).unwrap();
        let arguments = table(&[("to", Value::text(q))]);
        client.channel.bind(&Bind { arguments, ..binding("amq.headers", q, "") }).unwrap();
    }
    assert_eq!(client.send_to("amq.fanout", "k", "x"), 2);
    assert_eq!(client.send_to("amq.direct", "a", "x"), 1);
    assert_eq!(client.send_to("amq.topic", "x.b", "x"), 1);
    assert_eq!(client.send_to("amq.topic", "b", "x"), 0);
    let headers = Some(table(&[("to", Value::text("b"))]));
    let properties = Properties { headers, ..Properties::default() };
    let published = client.channel.publish(&message("amq.headers", "", "x", &properties));
    assert_eq!(published.unwrap().queues, 1);
    assert_eq!((client.ready("a"), client.ready("b")), (2, 3));
}

#[test]
fn a_queue_gets_a_message_once_however_many_ways_lead_to_it_even_in_circles() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    let to_exchange = |source: &str, destination: &str| Bind {
        kind: DestinationKind::Exchange,
        ..binding(source, destination, "#")
    };
    for x in ["x", "y", "z"] {
        client.channel.declare_exchange(&exchange(x, "topic")).unwrap();
        client.channel.bind(&binding(x, "q", "#")).unwrap();
        client.channel.bind(&binding(x, "q", "k")).unwrap();
    }
    client.channel.bind(&to_exchange("x", "y")).unwrap();
    client.channel.bind(&to_exchange("y", "z")).unwrap();
    client.channel.bind(&to_exchange("z", "x")).unwrap();
    client.channel.bind(&to_exchange("x", "x")).unwrap();
    assert_eq!(client.send_to("x", "k", "x"), 1);
    assert_eq!(client.ready("q"), 1);
}

#[test]
fn binding_twice_is_the_same_as_once_and_unbinding_undoes_it() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    for exchange in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers"] {
        let bind = binding(exchange, "q", "k");
        client.channel.bind(&bind).unwrap();
        client.channel.bind(&bind).unwrap();
        assert_eq!(client.send_to(exchange, "k", "x"), 1, "{exchange}");
        client.channel.unbind(&bind).unwrap();
        client.channel.unbind(&bind).unwrap();
        assert_eq!(client.send_to(exchange, "k", "x"), 0, "{exchange}");
    }
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_one_after_the_other() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    for x in ["first", "second"] {
        let declare = DeclareExchange { auto_delete: true, ..exchange(x, "fanout") };
        client.channel.declare_exchange(&declare).unwrap();
    }
    let chain = Bind { kind: DestinationKind::Exchange, ..binding("first", "second", "") };
    client.channel.bind(&chain).unwrap();
    client.channel.bind(&binding("second", "q", "")).unwrap();
    assert_eq!(client.send_to("first", "", "x"), 1);
    client.channel.delete_queue(b"q", false, false).unwrap();
    for x in ["first", "second"] {
        let passive = DeclareExchange { passive: true, ..exchange(x, "") };
        assert_eq!(refusal(client.channel.declare_exchange(&passive)).0, 404, "{x}");
    }
}

#[test]
fn names_of_255_bytes_that_are_not_text_work() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let long = ShortStr::copy_of(&[0xff; 255]);
    client.channel.declare_queue(&DeclareQueue { name: long.clone(), ..durable("") }).unwrap();
    let bind = Bind {
        destination: long.clone(),
        routing_key: long.clone(),
        ..binding("amq.direct", "", "")
    };
    client.channel.bind(&bind).unwrap();
    let envelope = Envelope {
        exchange: b"amq.direct",
        routing_key: &long,
        properties: RawProperties::NONE,
        published_at: None,
    };
    let message = Message::new(envelope.to_bytes(), []);
    assert_eq!(client.channel.publish(&Arc::new(message)).unwrap().queues, 1);
    let rig = {
        drop(client);
        rig.restart()
    };
    let mut client = rig.connect();
    let passive = DeclareQueue { name: long, passive: true, ..queue("") };
    client.channel.declare_queue(&passive).unwrap();
}

#[test]
fn an_unknown_virtual_host_is_refused() {
    let rig = Rig::new();
    let refused = rig.broker.connect(b"nowhere", b"guest").map(drop);
    assert_eq!(refusal(refused), (530, "NOT_ALLOWED - vhost nowhere not found".to_owned()));
}

/// So many patterns of 60 words.
pub(super) fn bind_long_patterns(client: &mut Client, queue: &str, count: usize) {
    for number in 0..count {
        let words: Vec<&str> =
            (0..60).map(|place| ["a", "#", "a", "*"][(number >> (place % 9)) % 4]).collect();
        client.channel.bind(&binding("amq.topic", queue, &words.join("."))).unwrap();
    }
}

#[test]
fn a_message_that_was_put_off_goes_where_bindings_lead_when_it_is_done() {
    let rig = Rig::new();
    let [mut client, mut other] = [rig.connect(), rig.connect()];
    for name in ["old", "gone", "new"] {
        client.channel.declare_queue(&queue(name)).unwrap();
    }
    bind_long_patterns(&mut client, "old", 512);
    client.channel.bind(&binding("amq.topic", "gone", "#")).unwrap();
    let message = message("amq.topic", &["a"; 60].join("."), "body", &persistent());
    let glance = client.channel.publish_some(&message, Effort::Glance).unwrap();
    assert_eq!(glance, None);
    assert_eq!(client.channel.publish_some(&message, Effort::Piece).unwrap(), None);
    other.channel.bind(&binding("amq.topic", "new", "a.#.a")).unwrap();
    other.channel.unbind(&binding("amq.topic", "gone", "#")).unwrap();
    let published = loop {
        if let Some(published) = client.channel.publish_some(&message, Effort::Piece).unwrap() {
            break published;
        }
    };
    assert_eq!(published.queues, 2);
    assert_eq!(["old", "gone", "new"].map(|queue| other.ready(queue)), [1, 0, 1]);
}

#[test]
fn the_memory_of_topology_is_counted_down_to_none() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let host = rig.broker.connect(b"/", b"guest").unwrap();
    let memory = || host.topology_memory();
    assert_eq!(memory(), 0);
    client.channel.declare_queue(&DeclareQueue { exclusive: true, ..queue("own") }).unwrap();
    let arguments = table(&[("x-max-priority", Value::I32(9))]);
    client.channel.declare_queue(&DeclareQueue { arguments, ..durable("kept") }).unwrap();
    client.channel.declare_exchange(&exchange("x", "headers")).unwrap();
    let queues = memory();
    let arguments = table(&[("b", Value::text(&"v".repeat(1000))), ("a", Value::I32(1))]);
    let bind = Bind { arguments, ..binding("x", "own", "k") };
    client.channel.bind(&bind).unwrap();
    // The arguments are there once.
    let size = memory() - queues;
    assert!((1300..1700).contains(&size), "{size}");
    client.channel.bind(&binding("amq.topic", "own", "a.b.#")).unwrap();
    client.channel.bind(&binding("x", "kept", "k")).unwrap();
    client.channel.delete_queue(b"own", false, false).unwrap();
    client.channel.delete_exchange(b"x", false).unwrap();
    client.channel.delete_queue(b"kept", false, false).unwrap();
    assert_eq!(memory(), 0);
}

#[test]
fn topology_beyond_its_memory_is_refused_and_what_goes_makes_room() {
    let limits = Limits { topology: 8_000, owned_topology: 4_000, ..Limits::default() };
    let rig = Rig::with_limits(limits);
    let mut client = rig.connect();
    let large = |name| {
        let arguments = table(&[("note", Value::text(&"n".repeat(1000)))]);
        DeclareQueue { exclusive: true, arguments, ..queue(name) }
    };
    client.channel.declare_queue(&large("one")).unwrap();
    let (code, text) = refusal(client.channel.declare_queue(&large("two")));
    assert_eq!(code, 406);
    assert!(text.contains("memory limit of the connection's exclusive queues"), "{text}");
    let mut shared = DeclareQueue { exclusive: false, ..large("shared") };
    client.channel.declare_queue(&shared).unwrap();
    shared.name = name("more");
    let (code, text) = refusal(client.channel.declare_queue(&shared));
    assert_eq!(code, 406);
    assert!(text.contains("(8000 bytes) is reached"), "{text}");
    client.channel.delete_queue(b"one", false, false).unwrap();
    client.channel.declare_queue(&shared).unwrap();
}

#[test]
fn a_connection_that_ends_deletes_its_queues_in_pieces() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let mut other = rig.connect();
    for number in 0..130 {
        let own = DeclareQueue { exclusive: true, ..queue(&number.to_string()) };
        client.channel.declare_queue(&own).unwrap();
    }
    let Client { channel, mut session, .. } = client;
    drop(channel);
    let mut is_there = |name: &str| {
        let passive = DeclareQueue { passive: true, ..queue(name) };
        refusal(other.channel.declare_queue(&passive)).0 == 405
    };
    assert!(!session.close_some());
    assert_eq!(["63", "64"].map(&mut is_there), [false, true]);
    assert!(!session.close_some());
    assert_eq!(["127", "128"].map(&mut is_there), [false, true]);
    assert!(session.close_some());
    assert!(!is_there("129"));
}

/// Binds `queue` to the exchange as often as that, with keys `0`, `1` and so on.
fn bind_often(client: &mut Client, exchange: &str, queue: &str, count: usize) {
    for number in 0..count {
        client.channel.bind(&binding(exchange, queue, &number.to_string())).unwrap();
    }
}

#[test]
fn bindings_to_a_deleted_queue_lead_nowhere_and_are_pruned_in_pieces() {
    const BINDINGS: usize = 3 * PRUNED_AT_ONCE;
    let rig = Rig::new();
    let mut client = rig.connect();
    let mut publisher = rig.connect();
    let host = Arc::clone(&rig.broker.inner.virtual_hosts.read()[&name("/")]);
    let stale = || host.topology.read().stale_bindings();
    for kind in ["direct", "topic", "headers", "fanout"] {
        client.channel.declare_queue(&durable("gone")).unwrap();
        client.channel.declare_queue(&durable("alternate")).unwrap();
        let arguments = table(&[("alternate-exchange", Value::text("amq.fanout"))]);
        let source = DeclareExchange { durable: true, arguments, ..exchange("x", kind) };
        client.channel.declare_exchange(&source).unwrap();
        client.channel.bind(&binding("amq.fanout", "alternate", "")).unwrap();
        bind_often(&mut client, "x", "gone", BINDINGS);
        client.channel.delete_queue(b"gone", false, false).unwrap();
        assert_eq!(stale(), BINDINGS - PRUNED_AT_ONCE, "{kind}");
        assert_eq!(host.topology.read().binding_count(), 1);
        let pruned_last = (BINDINGS - 1).to_string();
        publisher.send_to("x", &pruned_last, "nowhere");
        assert_eq!(publisher.ready("alternate"), 1, "{kind}");
        // A new queue has the bindings that it is given, and no others.
        client.channel.declare_queue(&durable("gone")).unwrap();
        publisher.send_to("x", &pruned_last, "nowhere");
        assert_eq!(publisher.ready("gone"), 0, "{kind}");
        client.channel.bind(&binding("x", "gone", &pruned_last)).unwrap();
        publisher.send_to("x", &pruned_last, "there");
        while client.session.has_to_prune() {
            let before = stale();
            client.session.prune_some();
            assert!(stale() + PRUNED_AT_ONCE >= before);
        }
        assert_eq!(stale(), 0);
        publisher.send_to("x", &pruned_last, "there");
        assert_eq!(publisher.ready("gone"), 2, "{kind}");
        assert_eq!(publisher.ready("alternate"), 2, "{kind}");
        for name in ["gone", "alternate"] {
            client.channel.delete_queue(name.as_bytes(), false, false).unwrap();
        }
        client.channel.delete_exchange(b"x", false).unwrap();
        assert_eq!(client.session.topology_memory(), 0);
    }
}

#[test]
fn bindings_to_a_deleted_exchange_do_not_lead_to_a_new_one_of_its_name() {
    const BINDINGS: usize = 3 * PRUNED_AT_ONCE;
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.declare_exchange(&exchange("to", "fanout")).unwrap();
    let links = |number: usize| Bind {
        kind: DestinationKind::Exchange,
        ..binding("amq.direct", "to", &number.to_string())
    };
    (0..BINDINGS).for_each(|number| _ = client.channel.bind(&links(number)).unwrap());
    client.channel.delete_exchange(b"to", false).unwrap();
    assert!(client.session.has_to_prune());
    client.channel.declare_exchange(&exchange("to", "fanout")).unwrap();
    client.channel.bind(&binding("to", "q", "")).unwrap();
    let last = (BINDINGS - 1).to_string();
    assert_eq!(client.send_to("amq.direct", &last, "nowhere"), 0);
    client.channel.bind(&links(BINDINGS - 1)).unwrap();
    while client.session.has_to_prune() {
        client.session.prune_some();
    }
    assert_eq!(client.send_to("amq.direct", &last, "there"), 1);
    assert_eq!(client.send_to("amq.direct", "0", "nowhere"), 0);
}

#[test]
fn a_binding_is_removed_at_once_while_others_are_pruned() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("gone")).unwrap();
    client.channel.declare_queue(&queue("there")).unwrap();
    bind_often(&mut client, "amq.direct", "gone", 3 * PRUNED_AT_ONCE);
    client.channel.bind(&binding("amq.direct", "there", "0")).unwrap();
    client.channel.delete_queue(b"gone", false, false).unwrap();
    assert_eq!(client.send_to("amq.direct", "0", "there"), 1);
    client.channel.unbind(&binding("amq.direct", "there", "0")).unwrap();
    assert!(client.session.has_to_prune());
    assert_eq!(client.send_to("amq.direct", "0", "nowhere"), 0);
}

#[test]
fn bindings_that_have_not_been_pruned_do_not_come_back_after_a_restart() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("gone")).unwrap();
    bind_often(&mut client, "amq.direct", "gone", 3 * PRUNED_AT_ONCE);
    client.channel.delete_queue(b"gone", false, false).unwrap();
    assert!(client.session.has_to_prune());
    client.channel.declare_queue(&durable("gone")).unwrap();
    client.channel.bind(&binding("amq.direct", "gone", "700")).unwrap();
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    assert_eq!(client.send_to("amq.direct", "700", "there"), 1);
    assert_eq!(client.send_to("amq.direct", "701", "nowhere"), 0);
}

#[test]
fn a_deletion_of_a_queue_with_as_many_bindings_as_a_piece_has_is_one_change_of_the_store() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    let (count, key) = (PRUNED_AT_ONCE - 1, "k".repeat(200));
    for number in 0..count {
        client.channel.bind(&binding("amq.direct", "q", &format!("{key}{number}"))).unwrap();
    }
    let first = client.channel.bind(&binding("amq.direct", "q", "last")).unwrap().unwrap();
    let deleted = client.channel.delete_queue(b"q", false, false).unwrap().durable_at.unwrap();
    let size = deleted.get() - first.get();
    assert!(size > (count * key.len()) as u64, "all bindings are in it: {size}");
}
