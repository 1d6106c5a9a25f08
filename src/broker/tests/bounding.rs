//! Queues that may have only so much.

use super::*;

fn bounded(text: &str, arguments: &[(&str, Value)]) -> DeclareQueue {
    DeclareQueue { arguments: table(arguments), ..durable(text) }
}

fn drain(client: &mut Client, queue: &str) -> Vec<String> {
    std::iter::from_fn(|| {
        let (received, _) = client.get(queue)?;
        client.ack(received.tag);
        Some(received.body)
    })
    .collect()
}

/// What is too much may have to be read back, to see how large it is.
fn await_ready(client: &mut Client, queue: &str, most: u32) {
    let begun = Instant::now();
    while client.ready(queue) > most {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(client.ready(queue), most);
}

/// Dead letters are carried by another thread.
fn await_ready_at_least(client: &mut Client, queue: &str, least: u32) {
    let begun = Instant::now();
    while client.ready(queue) < least {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn the_oldest_ready_messages_give_way() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&bounded("q", &[("x-max-length", Value::U8(3))])).unwrap();
    client.send_numbers("q", 0..3);
    let (held, _) = client.get("q").unwrap();
    client.send_numbers("q", 3..5);
    assert_eq!(client.ready("q"), 3, "what is held does not count");
    client.channel.nack(held.tag, false, true).unwrap();
    assert_eq!(client.ready("q"), 3, "what comes back is one too many, and the oldest");
    assert_eq!(drain(&mut client, "q"), numbers(2..5));
    client.channel.declare_queue(&bounded("none", &[("x-max-length", Value::U8(0))])).unwrap();
    client.send("none", "no room at all");
    assert_eq!(client.ready("none"), 0);
}

/// As in RabbitMQ, where it is the most urgent one that gives way: it is the next.
#[test]
fn with_priorities_the_next_message_gives_way_or_the_new_one_is_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("letters")).unwrap();
    let max = ("x-max-priority", Value::U8(5));
    let length = ("x-max-length", Value::U8(3));
    let dropping = [max.clone(), length.clone()];
    let refusing = [max.clone(), length, ("x-overflow", Value::text("reject-publish"))];
    let burying = [
        max,
        ("x-max-length", Value::U8(2)),
        ("x-dead-letter-exchange", Value::text("")),
        ("x-dead-letter-routing-key", Value::text("letters")),
    ];
    let many = [(0, "a0"), (3, "b3"), (0, "c0"), (5, "d5"), (3, "e3"), (0, "f0"), (1, "g1")];
    let few = [(0, "a0"), (0, "b0"), (5, "c5"), (5, "d5"), (1, "e1")];
    for (arguments, messages, left) in [
        (&dropping[..], &many[..], ["a0", "c0", "f0"].as_slice()),
        (&refusing, &many, &["b3", "a0", "c0"]),
        (&burying, &few, &["a0", "b0"]),
    ] {
        client.channel.declare_queue(&bounded("q", arguments)).unwrap();
        for (priority, body) in messages {
            client.send_ranked("q", *priority, body);
        }
        await_ready(&mut client, "q", left.len() as u32);
        assert_eq!(drain(&mut client, "q"), left);
        client.channel.delete_queue(b"q", false, false).unwrap();
    }
    await_ready_at_least(&mut client, "letters", 3);
    assert_eq!(drain(&mut client, "letters"), ["c5", "d5", "e1"]);
}

#[test]
fn the_bytes_of_bodies_count_and_nothing_else() {
    let rig = Rig::new();
    let arguments = [("x-max-length-bytes", Value::I32(10))];
    let mut client = rig.connect();
    client.channel.declare_queue(&bounded("q", &arguments)).unwrap();
    let header = table(&[("long", Value::text(&"x".repeat(500)))]);
    let properties = Properties { headers: Some(header), ..persistent() };
    for body in ["aaaa", "bbbb", "cccc"] {
        client.channel.publish(&message("", "q", body, &properties)).unwrap();
    }
    client.channel.flush().unwrap();
    assert_eq!(client.ready("q"), 2);
    // Whatever leaves the queue, or comes back, is counted.
    let (held, _) = client.get("q").unwrap();
    client.send("q", "dddddd");
    assert_eq!(client.ready("q"), 2);
    client.channel.nack(held.tag, false, true).unwrap();
    await_ready(&mut client, "q", 2);
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(bodies(&client.await_deliveries(2)), ["cccc", "dddddd"]);
    client.channel.cancel(b"c").unwrap();
    client.send("q", "ten bytes.");
    client.channel.purge_queue(b"q").unwrap();
    client.send("q", "ten bytes:");
    assert_eq!(client.ready("q"), 1);
    client.send("q", "eleven byte");
    assert_eq!(client.ready("q"), 0, "one that is too large by itself goes as well");
    client.send("q", "before");
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    // Those that were held came back, and had to go.
    await_ready(&mut client, "q", 1);
    client.send("q", "four");
    assert_eq!(client.ready("q"), 2, "what is there since before the restart counts");
    client.send("q", "x");
    await_ready(&mut client, "q", 2);
    assert_eq!(drain(&mut client, "q"), ["four", "x"]);
}

#[test]
fn a_queue_that_is_full_may_refuse_and_its_publisher_is_told() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let refusing = [("x-max-length", Value::U8(2)), ("x-overflow", Value::text("reject-publish"))];
    client.channel.declare_queue(&bounded("q", &refusing)).unwrap();
    client.channel.declare_queue(&durable("other")).unwrap();
    for queue in ["q", "other"] {
        client.channel.bind(&binding("amq.fanout", queue, "")).unwrap();
    }
    client.channel.confirm_select().unwrap();
    for (number, refused) in [(0, false), (1, false), (2, true)] {
        let message = message("amq.fanout", "", &number.to_string(), &persistent());
        let published = client.channel.publish(&message).unwrap();
        assert_eq!((published.queues, published.refused), (2, refused));
        assert!(!published.is_unroutable());
    }
    client.channel.flush().unwrap();
    rig.broker.store().wait_durable(client.channel.last_awaited_lsn().unwrap()).unwrap();
    let durable = rig.broker.store().durable_lsn();
    let confirms: Vec<_> = std::iter::from_fn(|| client.channel.confirms(durable)).collect();
    let expected = [
        Confirm { tag: DeliveryTag(2), refused: false, multiple: true },
        Confirm { tag: DeliveryTag(3), refused: true, multiple: true },
    ];
    assert_eq!(confirms, expected);
    assert_eq!((client.ready("q"), client.ready("other")), (2, 3), "the others have it");
}

#[test]
fn what_a_consumer_takes_at_once_leaves_room() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let refusing = [("x-max-length", Value::U8(1)), ("x-overflow", Value::text("reject-publish"))];
    client.channel.declare_queue(&bounded("q", &refusing)).unwrap();
    client.channel.qos(0, 3, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let refused: Vec<_> = (0..6)
        .map(|number| {
            let message = message("", "q", &number.to_string(), &persistent());
            client.channel.publish(&message).unwrap().refused
        })
        .collect();
    assert_eq!(refused, [false, false, false, false, true, true]);
    assert_eq!(bodies(&client.await_deliveries(3)), numbers(0..3));
}
