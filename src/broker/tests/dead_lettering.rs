//! Messages that leave a queue otherwise than to a consumer, and where they go.

use super::*;

const TO_DEAD: [(&str, &str); 2] =
    [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")];

fn lettering(text: &str, arguments: &[(&str, Value)]) -> DeclareQueue {
    let to_dead = TO_DEAD.map(|(name, value)| (name, Value::text(value)));
    let arguments: Vec<_> = to_dead
        .into_iter()
        .chain(arguments.iter().map(|(name, value)| (*name, value.clone())))
        .collect();
    DeclareQueue { arguments: table(&arguments), ..durable(text) }
}

/// The properties that a message was delivered with, and its body.
fn next(client: &mut Client, queue: &str) -> (String, Properties) {
    let begun = Instant::now();
    loop {
        match client.channel.get(queue.as_bytes(), true).unwrap() {
            Get::Message(delivery, _) => return taken(client, delivery),
            Get::Empty => std::thread::sleep(Duration::from_micros(100)),
            Get::Pending => loop {
                match client.events().pop() {
                    Some(Event::Got { message: Some((delivery, _)), .. }) => {
                        return taken(client, delivery);
                    }
                    Some(Event::Got { message: None, .. }) => break,
                    Some(event) => panic!("{event:?}"),
                    None => std::thread::sleep(Duration::from_micros(100)),
                }
            },
        }
        assert!(begun.elapsed() < PATIENCE, "nothing arrives in '{queue}'");
    }
}

fn taken(client: &mut Client, delivery: Delivery) -> (String, Properties) {
    let envelope = Envelope::parse(delivery.message().header()).unwrap();
    let properties = delivery.rewritten(&envelope.properties);
    let properties = properties
        .as_deref()
        .map_or(envelope.properties, |bytes| RawProperties::parse(bytes).unwrap());
    let taken = (body(&delivery), properties.to_properties());
    client.channel.accept(delivery);
    client.channel.flush().unwrap();
    taken
}

/// Reason, queue and count of each death.
fn deaths(properties: &Properties) -> Vec<(String, String, i64)> {
    let Some(Value::Array(deaths)) = properties.headers.as_ref().unwrap().get(b"x-death") else {
        panic!("{properties:?}")
    };
    let text = |table: &FieldTable, name: &str| match table.get(name.as_bytes()) {
        Some(Value::LongStr(text)) => String::from_utf8(text.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let death = |death: &Value| match death {
        Value::Table(death) => {
            let count = death.get(b"count").and_then(Value::as_integer).unwrap();
            (text(death, "reason"), text(death, "queue"), count)
        }
        other => panic!("{other:?}"),
    };
    deaths.iter().map(death).collect()
}

fn death(reason: &str, queue: &str, count: i64) -> (String, String, i64) {
    (reason.to_owned(), queue.to_owned(), count)
}

#[test]
fn each_way_to_leave_is_told() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&lettering("q", &[])).unwrap();
    client.channel.declare_queue(&lettering("ttl", &[("x-message-ttl", Value::I32(1))])).unwrap();
    client.channel.declare_queue(&lettering("one", &[("x-max-length", Value::I32(1))])).unwrap();

    client.send_numbers("q", 0..3);
    for _ in 0..3 {
        let (held, _) = client.get("q").unwrap();
        client.channel.nack(held.tag, false, false).unwrap();
    }
    client.channel.flush().unwrap();
    for number in 0..3 {
        let (body, properties) = next(&mut client, "dead");
        assert_eq!(body, number.to_string());
        assert_eq!(deaths(&properties), [death("rejected", "q", 1)]);
    }
    assert_eq!(client.ready("q"), 0);

    let properties = Properties { expiration: Some(name("60000")), ..persistent() };
    client.channel.publish(&message("", "ttl", "late", &properties)).unwrap();
    client.channel.flush().unwrap();
    let (body, properties) = next(&mut client, "dead");
    assert_eq!((body.as_str(), properties.expiration.clone()), ("late", None));
    assert_eq!(deaths(&properties), [death("expired", "ttl", 1)]);

    client.send_numbers("one", 0..2);
    let (body, properties) = next(&mut client, "dead");
    assert_eq!(body, "0");
    assert_eq!(deaths(&properties), [death("maxlen", "one", 1)]);
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    assert_eq!((client.ready("q"), client.ready("dead"), client.ready("one")), (0, 0, 1));
}

#[test]
fn a_message_comes_back_only_so_often() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    let quorum = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::I32(2))];
    client.channel.declare_queue(&lettering("q", &quorum)).unwrap();
    client.send("q", "poison");
    let mut client = Some(client);
    let mut rig = rig;
    for count in 0..3 {
        let mut holder = client.take().unwrap();
        let (held, _) = holder.get("q").unwrap();
        assert_eq!(held.redelivered, count > 0);
        match count {
            0 => holder.channel.nack(held.tag, false, true).unwrap(),
            1 => {
                // Its holder goes without a word, and the count goes on.
                drop(holder);
                rig = rig.restart();
                holder = rig.connect();
            }
            _ => holder.channel.nack(held.tag, false, true).unwrap(),
        }
        client = Some(holder);
    }
    let mut client = client.unwrap();
    let (body, properties) = next(&mut client, "dead");
    assert_eq!(body, "poison");
    assert_eq!(deaths(&properties), [death("delivery_limit", "q", 1)]);
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn a_delivery_limit_below_zero_is_no_limit() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let quorum = ("x-queue-type", Value::text("quorum"));
    for (limit, survives) in
        [(Some(-1), true), (Some(i32::MIN), true), (None, true), (Some(0), false)]
    {
        let limit = limit.map(|limit| ("x-delivery-limit", Value::I32(limit)));
        let arguments: Vec<_> = [quorum.clone()].into_iter().chain(limit).collect();
        let declared = DeclareQueue { arguments: table(&arguments), ..durable("q") };
        client.channel.declare_queue(&declared).unwrap();
        client.send("q", "again and again");
        for _ in 0..60 {
            let Some((held, _)) = client.get("q") else { break };
            client.channel.nack(held.tag, false, true).unwrap();
        }
        assert_eq!(client.get("q").is_some(), survives, "{arguments:?}");
        client.channel.delete_queue(b"q", false, false).unwrap();
    }
    let limit = DeclareQueue {
        arguments: table(&[quorum, ("x-delivery-limit", Value::text("none"))]),
        ..durable("q")
    };
    assert_eq!(refusal(client.channel.declare_queue(&limit)).0, 406);
}

#[test]
fn each_delivery_from_a_quorum_queue_says_how_often_the_message_came_back() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let arguments = table(&[("x-queue-type", Value::text("quorum"))]);
    client.channel.declare_queue(&DeclareQueue { arguments, ..durable("q") }).unwrap();
    client.send("q", "x");
    let count = |client: &mut Client| {
        let delivery = match client.channel.get(b"q", false).unwrap() {
            Get::Message(delivery, _) => delivery,
            Get::Empty => panic!("it is there"),
            Get::Pending => loop {
                match client.events().pop() {
                    Some(Event::Got { message: Some((delivery, _)), .. }) => break delivery,
                    Some(event) => panic!("{event:?}"),
                    None => std::thread::sleep(Duration::from_micros(100)),
                }
            },
        };
        let envelope = Envelope::parse(delivery.message().header()).unwrap();
        let rewritten = delivery.rewritten(&envelope.properties).unwrap();
        let headers = RawProperties::parse(&rewritten).unwrap().to_properties().headers.unwrap();
        let tag = client.channel.accept(delivery);
        client.channel.nack(tag, false, true).unwrap();
        headers.get(b"x-delivery-count").cloned()
    };
    for expected in 0..3 {
        assert_eq!(count(&mut client), Some(Value::I64(expected)));
    }
}

#[test]
fn a_letter_that_goes_round_by_itself_ends() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let round = |to: &str| {
        table(&[
            ("x-message-ttl", Value::I32(1)),
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text(to)),
        ])
    };
    client.channel.declare_queue(&DeclareQueue { arguments: round("b"), ..durable("a") }).unwrap();
    client.channel.declare_queue(&DeclareQueue { arguments: round("a"), ..durable("b") }).unwrap();
    client.send("a", "x");
    // On its way it is in one of them, as far as the store is concerned.
    let mut queues = rig.broker.store().queues();
    queues.sort_by_key(|queue| queue.id());
    let begun = Instant::now();
    for queue in &queues {
        while !queue.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "it goes round and round");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for _ in 0..20 {
        assert!(queues.iter().all(storage_is_empty), "it goes round and round");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((client.ready("a"), client.ready("b")), (0, 0));
}

#[test]
fn a_letter_that_somebody_rejects_in_between_may_go_round() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let to = |queue: &str, more: &[(&str, Value)]| {
        let to = [
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text(queue)),
        ];
        let arguments: Vec<_> = to.iter().chain(more).cloned().collect();
        table(&arguments)
    };
    let wait = to("work", &[("x-message-ttl", Value::I32(5))]);
    client.channel.declare_queue(&DeclareQueue { arguments: wait, ..durable("wait") }).unwrap();
    let work = to("wait", &[]);
    client.channel.declare_queue(&DeclareQueue { arguments: work, ..durable("work") }).unwrap();
    client.send("work", "try");
    client.channel.consume(&consumer("work", "c")).unwrap();
    for round in 0..4 {
        let received = client.await_deliveries(1);
        assert_eq!(received[0].body, "try", "{round}");
        client.channel.nack(received[0].tag, false, false).unwrap();
        client.channel.flush().unwrap();
    }
    client.channel.cancel(b"c").unwrap();
    let (_, properties) = next(&mut client, "work");
    assert_eq!(deaths(&properties), [death("expired", "wait", 4), death("rejected", "work", 4)]);
}

#[test]
fn what_goes_to_no_exchange_or_no_queue_is_gone() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for exchange in ["missing", "amq.topic"] {
        let arguments = table(&[("x-dead-letter-exchange", Value::text(exchange))]);
        let declare = DeclareQueue { arguments, ..durable(exchange) };
        let declare = DeclareQueue { name: name(&format!("q-{exchange}")), ..declare };
        client.channel.declare_queue(&declare).unwrap();
        let text = format!("q-{exchange}");
        client.send(&text, "x");
        let (held, _) = client.get(&text).unwrap();
        client.channel.nack(held.tag, false, false).unwrap();
        client.channel.flush().unwrap();
        let begun = Instant::now();
        while !rig.broker.store().queues().iter().all(storage_is_empty) {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn storage_is_empty(queue: &crate::storage::Queue) -> bool {
    queue.is_empty()
}

#[test]
fn without_a_routing_key_it_keeps_its_own_and_its_copies() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let arguments = table(&[("x-dead-letter-exchange", Value::text("amq.direct"))]);
    client.channel.declare_queue(&DeclareQueue { arguments, ..durable("q") }).unwrap();
    for (queue, key) in [("first", "q"), ("second", "copy")] {
        client.channel.declare_queue(&durable(queue)).unwrap();
        client.channel.bind(&binding("amq.direct", queue, key)).unwrap();
    }
    let copies = table(&[("CC", Value::Array(vec![Value::text("copy")]))]);
    let properties = Properties { headers: Some(copies), ..persistent() };
    client.channel.publish(&message("", "q", "x", &properties)).unwrap();
    client.channel.flush().unwrap();
    let (held, _) = client.get("q").unwrap();
    client.channel.nack(held.tag, false, false).unwrap();
    client.channel.flush().unwrap();
    for queue in ["first", "second"] {
        let (_, properties) = next(&mut client, queue);
        assert!(properties.headers.unwrap().get(b"CC").is_some());
    }
}

#[test]
fn many_letters_arrive_once_each_and_in_order_also_from_the_disk() {
    const MESSAGES: u32 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 1 << 20, cache: 0, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    let rig = Rig { broker: Broker::open(store).unwrap(), dir };
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&lettering("q", &[])).unwrap();
    client.send_numbers("q", 0..MESSAGES);
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(MESSAGES as usize);
    client.channel.nack(received.last().unwrap().tag, true, false).unwrap();
    client.channel.flush().unwrap();
    client.channel.cancel(b"c").unwrap();
    client.channel.consume(&consumer("dead", "d")).unwrap();
    assert_eq!(client.await_bodies(MESSAGES as usize), numbers(0..MESSAGES));
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn a_queue_takes_its_dead_letters_nowhere_when_it_is_deleted() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&lettering("q", &[])).unwrap();
    client.send_numbers("q", 0..100);
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(100);
    client.channel.nack(received[89].tag, true, false).unwrap();
    client.channel.delete_queue(b"q", false, false).unwrap();
    assert_eq!(client.ready("dead"), 90, "those that were rejected have arrived before");
}

#[test]
fn what_finds_no_room_may_be_refused_and_dead_lettered() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    let full = [("x-max-length", Value::I32(1)), ("x-overflow", Value::text("reject-publish-dlx"))];
    client.channel.declare_queue(&lettering("q", &full)).unwrap();
    client.send_numbers("q", 0..2);
    let (body, properties) = next(&mut client, "dead");
    assert_eq!(body, "1");
    assert_eq!(deaths(&properties), [death("maxlen", "q", 1)]);
    assert_eq!(client.ready("q"), 1);
}

#[test]
fn whoever_deletes_a_queue_waits_for_its_dead_letters_with_nothing_locked() {
    // A declaration in the meantime once waited for that lock, and the letters for the declaration.
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&lettering("q", &[])).unwrap();
    let host = rig.broker.inner.virtual_hosts.read()[&name("/")].clone();
    let queue = host.topology.read().queue(b"q").cloned().unwrap();
    let carrying = queue.rules().details().carrying.lock();
    let mut deleting = rig.connect();
    let deletion = std::thread::spawn(move || deleting.channel.delete_queue(b"q", false, false));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        let free = host.topology.try_write_for(PATIENCE);
        assert!(free.is_some(), "the topology is locked");
        drop(free);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!deletion.is_finished());
    drop(carrying);
    deletion.join().unwrap().unwrap();
}
