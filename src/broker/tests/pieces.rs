//! Work that is done in pieces: a piece is bounded, and what others see meanwhile is as it was or as it will be.

use super::*;
use crate::broker::channel::PIECE;
use crate::broker::queue::PURGED_AT_ONCE;
use crate::broker::record::BindingKey;
use crate::broker::topology::PRUNED_AT_ONCE;
use crate::storage::Change;

/// Publishes so many messages with consecutive numbers.
fn fill(client: &mut Client, queue: &str, count: usize) {
    for number in 0..count {
        let message = message("", queue, &number.to_string(), &persistent());
        client.channel.publish(&message).unwrap();
    }
    client.channel.flush().unwrap();
}

fn bodies_of(received: &[Received]) -> Vec<String> {
    received.iter().map(|received| received.body.clone()).collect()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn a_purge_removes_in_pieces_what_was_ready_when_it_began() {
    const COUNT: usize = 2 * PURGED_AT_ONCE + 100;
    let rig = Rig::new();
    let (mut client, mut other) = (rig.connect(), rig.connect());
    client.channel.declare_queue(&durable("q")).unwrap();
    fill(&mut client, "q", COUNT);
    assert_eq!(client.get("q").unwrap().0.body, "0");
    let live = || rig.broker.store().queues()[0].len();
    let before = live();
    assert_eq!(client.channel.begin_purge(b"q").unwrap(), Step::More);
    assert!(live() + PURGED_AT_ONCE as u64 >= before);
    // Nobody gets them any more; what comes now stays.
    assert_eq!(other.ready("q"), 0);
    assert_eq!(other.get("q"), None);
    other.send("q", "new");
    assert_eq!(other.ready("q"), 1);
    // A purge that finds only that waits for the first.
    assert_eq!(other.channel.begin_purge(b"q").unwrap(), Step::More);
    assert_eq!(other.channel.go_on().unwrap(), Step::More);
    other.send("q", "newer");
    let purged = loop {
        let before = live();
        if let Step::Done(Done::Purged(purged)) = client.channel.go_on().unwrap() {
            break purged;
        }
        assert!(live() + PURGED_AT_ONCE as u64 >= before);
    };
    assert_eq!(purged.messages, COUNT as u32 - 1);
    let Step::Done(Done::Purged(second)) = other.channel.go_on().unwrap() else {
        panic!("it waits")
    };
    assert_eq!(second.messages, 1);
    assert!(second.durable_at >= purged.durable_at);
    assert_eq!(other.get("q").unwrap().0.body, "newer");
    assert_eq!(live(), 2);
}

#[test]
fn a_purge_of_a_client_that_leaves_is_completed() {
    const COUNT: usize = 3 * PURGED_AT_ONCE;
    let rig = Rig::new();
    let (mut client, mut other) = (rig.connect(), rig.connect());
    client.channel.declare_queue(&durable("q")).unwrap();
    fill(&mut client, "q", COUNT);
    assert_eq!(client.channel.begin_purge(b"q").unwrap(), Step::More);
    assert!(!client.channel.close_some());
    drop(client);
    assert_eq!(rig.broker.store().queues()[0].len(), 0);
    assert_eq!(other.channel.purge_queue(b"q").unwrap().messages, 0);
    other.send("q", "new");
    assert_eq!(other.ready("q"), 1);
}

/// A client that holds so many messages, and another one with a consumer that gets what goes back.
fn holding(rig: &Rig, count: usize) -> (Client, Client) {
    let (mut client, mut other) = (rig.connect(), rig.connect());
    client.channel.declare_queue(&durable("q")).unwrap();
    fill(&mut client, "q", count);
    client.channel.consume(&consumer("q", "first")).unwrap();
    assert_eq!(bodies_of(&client.await_deliveries(count)), numbered(count));
    other.channel.consume(&consumer("q", "second")).unwrap();
    (client, other)
}

#[test]
fn messages_requeued_in_pieces_are_delivered_in_their_order() {
    const COUNT: usize = 2 * PIECE + 100;
    let rig = Rig::new();
    let (mut client, mut other) = holding(&rig, COUNT);
    client.channel.cancel(b"first").unwrap();
    let mut third = rig.connect();
    assert_eq!(client.channel.begin_nack(DeliveryTag(0), true, true).unwrap(), Step::More);
    assert_eq!(third.ready("q"), PIECE as u32);
    // Others get nothing before all are back.
    other.send("q", "late");
    assert_eq!(third.ready("q"), 1 + PIECE as u32);
    for _ in 0..2 {
        let got = third.channel.get(b"q", false);
        assert!(matches!(got, Ok(Get::Pending)), "{got:?}");
    }
    assert_eq!(client.channel.go_on().unwrap(), Step::More);
    assert_eq!(third.ready("q"), 1 + 2 * PIECE as u32);
    assert!(!other.has_events() && !third.has_events());
    assert_eq!(client.channel.go_on().unwrap(), Step::Done(Done::Silent));
    // Those who asked first get the first.
    let got = third.events();
    let got: Vec<_> = got
        .into_iter()
        .map(|event| match event {
            Event::Got { message: Some((delivery, _)), .. } => third.accept(delivery).body,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(got, ["0", "1"]);
    let received = bodies_of(&other.await_deliveries(COUNT - 1));
    let mut expected = numbered(COUNT).split_off(2);
    expected.push("late".to_owned());
    assert_eq!(received, expected);
}

#[test]
fn deliveries_are_acknowledged_and_rejected_in_pieces() {
    const COUNT: usize = 4 * PIECE;
    const LAST_PIECE: u64 = 2 * PIECE as u64 + 100;
    let rig = Rig::new();
    let (mut client, mut other) = holding(&rig, COUNT);
    let left = || rig.broker.store().queues()[0].len();
    for requeue in [None, Some(false)] {
        let all = left();
        let mut step = match requeue {
            None => client.channel.begin_ack(DeliveryTag(LAST_PIECE), true).unwrap(),
            Some(requeue) => client.channel.begin_nack(DeliveryTag(0), true, requeue).unwrap(),
        };
        let mut pieces = 1;
        while step == Step::More {
            assert_eq!(left(), all - pieces * PIECE as u64);
            step = client.channel.go_on().unwrap();
            pieces += 1;
        }
        client.channel.flush().unwrap();
        assert_eq!((step, pieces), (Step::Done(Done::Silent), 2 + u64::from(requeue.is_none())));
        assert_eq!(left(), if requeue.is_none() { COUNT as u64 - LAST_PIECE } else { 0 });
    }
    assert_eq!(refusal(client.channel.begin_ack(DeliveryTag(1), true)).0, 406);
    other.send("q", "new");
    let received = client.receive().into_iter().chain(other.receive());
    assert_eq!(received.map(|received| received.body).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn a_commit_tells_queues_of_deliveries_in_pieces() {
    const COUNT: usize = 4 * PIECE;
    const EACH: u64 = 2 * PIECE as u64;
    let rig = Rig::new();
    for leaves in [false, true] {
        let (mut client, mut other) = holding(&rig, COUNT);
        client.channel.cancel(b"first").unwrap();
        client.channel.tx_select().unwrap();
        client.channel.ack(DeliveryTag(EACH), true).unwrap();
        client.channel.nack(DeliveryTag(0), true, true).unwrap();
        let mut step = client.channel.begin_commit().unwrap();
        assert_eq!(rig.broker.store().queues()[0].len(), EACH);
        let mut pieces = 1;
        while step == Step::More && !leaves {
            assert!(!other.has_events(), "others get nothing before all are back");
            step = client.channel.go_on().unwrap();
            pieces += 1;
        }
        if leaves {
            while !client.channel.close_some() {}
        } else {
            assert!(matches!(step, Step::Done(Done::Committed(_))), "{step:?}");
            assert_eq!(pieces, 5);
        }
        let received = bodies_of(&other.await_deliveries(COUNT - EACH as usize));
        assert_eq!(received, numbered(COUNT).split_off(EACH as usize));
        other.channel.delete_queue(b"q", false, false).unwrap();
    }
}

#[test]
fn a_channel_that_holds_many_messages_closes_in_pieces() {
    const COUNT: usize = 3 * PIECE + 100;
    let rig = Rig::new();
    let (mut client, mut other) = holding(&rig, COUNT);
    let mut pieces = 1;
    while !client.channel.close_some() {
        pieces += 1;
        assert!(pieces == 5 || !other.has_events(), "others get nothing before all are back");
    }
    assert!(pieces >= 4, "{pieces}");
    let received = other.await_deliveries(COUNT);
    assert_eq!(bodies_of(&received), numbered(COUNT));
    assert!(received.iter().all(|received| received.redelivered));
}

#[test]
fn a_channel_with_many_consumers_closes_in_pieces() {
    const COUNT: usize = 2 * PIECE + 100;
    let rig = Rig::new();
    let (mut client, mut other) = (rig.connect(), rig.connect());
    client.channel.declare_queue(&DeclareQueue { auto_delete: true, ..queue("q") }).unwrap();
    for number in 0..COUNT {
        client.channel.consume(&consumer("q", &number.to_string())).unwrap();
    }
    let passive = DeclareQueue { passive: true, ..queue("q") };
    let (mut left, mut pieces) = (COUNT as u32, 1);
    while !client.channel.close_some() {
        pieces += 1;
        let consumers = other.channel.declare_queue(&passive).unwrap().consumers;
        assert!(consumers + PIECE as u32 >= left);
        left = consumers;
        assert_eq!(other.send("q", "kept"), 1);
    }
    assert!(pieces >= 4, "{pieces}");
    assert_eq!(refusal(other.channel.declare_queue(&passive)).0, 404);
}

/// The number of bindings that are stored.
fn stored_bindings(rig: &Rig) -> usize {
    let entries = rig.broker.store().entries();
    entries.iter().filter(|(key, _)| key.first() == Some(&BindingKey::PREFIX)).count()
}

#[test]
fn a_deletion_of_many_bindings_is_recorded_in_pieces() {
    const BINDINGS: usize = 4 * PRUNED_AT_ONCE;
    let rig = Rig::new();
    let mut client = rig.connect();
    for name in ["q", "other"] {
        client.channel.declare_queue(&durable(name)).unwrap();
    }
    let x = DeclareExchange { durable: true, ..exchange("x", "direct") };
    for is_queue in [true, false] {
        client.channel.declare_exchange(&x).unwrap();
        client.channel.bind(&binding("amq.direct", "other", "0")).unwrap();
        for number in 0..BINDINGS {
            client.channel.bind(&binding("x", "q", &number.to_string())).unwrap();
        }
        assert_eq!(stored_bindings(&rig), BINDINGS + 1);
        if is_queue {
            client.channel.delete_queue(b"q", false, false).unwrap();
        } else {
            client.channel.delete_exchange(b"x", false).unwrap();
        }
        let mut left = BINDINGS + 1;
        while client.session.has_to_prune() {
            let stored = stored_bindings(&rig);
            assert!(stored + PRUNED_AT_ONCE >= left, "{stored} of {left}");
            left = stored;
            client.session.prune_some();
        }
        assert_eq!(stored_bindings(&rig), 1);
        client.channel.declare_queue(&durable("q")).unwrap();
    }
    // A deletion of few is one record.
    for number in 0..PRUNED_AT_ONCE {
        client.channel.bind(&binding("amq.topic", "q", &number.to_string())).unwrap();
    }
    client.channel.delete_queue(b"q", false, false).unwrap();
    assert_eq!(stored_bindings(&rig), 1);
}

#[test]
fn a_queue_or_exchange_is_declared_when_the_bindings_of_its_name_have_gone() {
    const BINDINGS: usize = 3 * PRUNED_AT_ONCE;
    let rig = Rig::new();
    let (mut client, mut other) = (rig.connect(), rig.connect());
    let x = DeclareExchange { durable: true, ..exchange("x", "direct") };
    for is_queue in [true, false] {
        client.channel.declare_queue(&durable("q")).unwrap();
        client.channel.declare_exchange(&x).unwrap();
        for number in 0..BINDINGS {
            client.channel.bind(&binding("x", "q", &number.to_string())).unwrap();
        }
        let (kind, name) = if is_queue {
            client.channel.delete_queue(b"q", false, false).unwrap();
            (DestinationKind::Queue, b"q")
        } else {
            client.channel.delete_exchange(b"x", false).unwrap();
            (DestinationKind::Exchange, b"x")
        };
        assert!(stored_bindings(&rig) > 0);
        assert!(!other.channel.awaits_deletion(DestinationKind::Queue, b"another"));
        assert!(other.channel.awaits_deletion(kind, name));
        // Who waits helps.
        assert!(other.session.has_to_prune());
        other.session.prune_some();
        if is_queue {
            other.channel.declare_queue(&durable("q")).unwrap();
        } else {
            other.channel.declare_exchange(&x).unwrap();
        }
        assert_eq!(stored_bindings(&rig), 0);
        assert!(!other.channel.awaits_deletion(kind, name));
        assert_eq!(other.send_to("x", "0", "nowhere"), 0);
        other.channel.bind(&binding("x", "q", "0")).unwrap();
        while other.session.has_to_prune() {
            other.session.prune_some();
        }
        assert_eq!(other.send_to("x", "0", "there"), 1);
        assert_eq!(stored_bindings(&rig), 1);
        other.channel.unbind(&binding("x", "q", "0")).unwrap();
    }
}

/// After a crash within a large deletion. They would belong to the next queue of that name, after another restart.
#[test]
fn stored_bindings_without_an_end_are_removed_at_the_start() {
    let rig = Rig::new();
    let put = |bind: &Bind| {
        let key = BindingKey::new(b"/", bind).to_bytes();
        let change = Change::put(key, BindingKey::value());
        rig.broker.store().apply(vec![change]).unwrap();
    };
    put(&binding("amq.direct", "gone", "a"));
    put(&binding("gone", "q", "a"));
    rig.connect().channel.declare_queue(&durable("q")).unwrap();
    put(&binding("amq.direct", "q", "a"));
    assert_eq!(stored_bindings(&rig), 3);
    let rig = rig.restart();
    assert_eq!(stored_bindings(&rig), 1);
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("gone")).unwrap();
    drop(client);
    let rig = rig.restart();
    assert_eq!(rig.connect().send_to("amq.direct", "a", "once"), 1);
}

/// Binds a queue to a headers exchange in so many ways, of which none matches.
fn bind_headers(client: &mut Client, count: usize) {
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.declare_exchange(&exchange("x", "headers")).unwrap();
    for number in 0..count {
        let mut arguments = table(&[("x-match", Value::text("any"))]);
        for argument in 0..20 {
            arguments.push(name(&format!("{number} {argument}")), Value::Void);
        }
        client.channel.bind(&Bind { arguments, ..binding("x", "q", "") }).unwrap();
    }
}

#[test]
fn a_message_to_many_headers_bindings_is_published_in_pieces() {
    let rig = Rig::new();
    let mut client = rig.connect();
    bind_headers(&mut client, 2000);
    let message = message("x", "", "m", &persistent());
    let mut publish = |effort| client.channel.publish_some(&message, effort).unwrap();
    assert_eq!(publish(Effort::Glance), None);
    assert_eq!(publish(Effort::Piece).unwrap().queues, 0);
}

#[test]
fn the_glances_of_a_turn_are_bounded_together() {
    let rig = Rig::new();
    let mut client = rig.connect();
    bind_headers(&mut client, 100);
    let message = message("x", "", "m", &persistent());
    let mut glances = || {
        client.session.begin_turn();
        let mut publish = || client.channel.publish_some(&message, Effort::Glance).unwrap();
        (0..1000).take_while(|_| publish().is_some()).count()
    };
    let first = glances();
    assert!((5..50).contains(&first), "{first}");
    assert_eq!(glances(), first);
}
