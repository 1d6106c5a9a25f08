//! Many messages that leave a queue otherwise than to a consumer, and queues that come and go with their timers.

use std::sync::Arc;

use super::expiring::{Slow, with};
use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};
use crate::broker::queue::Queue;
use crate::storage::{Options, Sequence};

/// Arguments of a queue whose dead letters go to an exchange, with that key.
fn lettering<'a>(exchange: &str, key: &str) -> Vec<(&'a str, Value)> {
    vec![
        ("x-dead-letter-exchange", Value::text(exchange)),
        ("x-dead-letter-routing-key", Value::text(key)),
    ]
}

/// The same for one that has no room for anything.
fn full<'a>(exchange: &str, key: &str) -> Vec<(&'a str, Value)> {
    let mut arguments = lettering(exchange, key);
    arguments.push(("x-max-length", Value::U8(0)));
    arguments.push(("x-overflow", Value::text("reject-publish-dlx")));
    arguments
}

fn found(slow: &Slow, text: &str) -> Arc<Queue> {
    let host = slow.broker.inner.virtual_hosts.read()[&name("/")].clone();
    let topology = host.topology.read();
    topology.queue(text.as_bytes()).unwrap().clone()
}

/// Full queues that refer to each other refused a message in every order that they can be put in, within one `basic.publish`.
#[test]
fn a_message_that_is_refused_by_full_queues_in_turn_comes_to_an_end() {
    for (queues, least, most) in [(2, 5, 5), (8, 265, 265)] {
        let slow = Slow::new();
        let mut client = slow.connect();
        client.channel.declare_queue(&durable("dead")).unwrap();
        client.channel.bind(&binding("amq.fanout", "dead", "")).unwrap();
        for number in 0..queues {
            let text = format!("full-{number}");
            client.channel.declare_queue(&with(&text, &full("amq.fanout", ""))).unwrap();
            client.channel.bind(&binding("amq.fanout", &text, "")).unwrap();
        }
        let refused = client.channel.publish(&message("amq.fanout", "", "x", &persistent()));
        assert!(refused.unwrap().refused);
        client.channel.flush().unwrap();
        let arrived = client.ready("dead");
        assert!((least..=most).contains(&arrived), "{arrived}");
    }
}

/// Each of them called the next: with some hundreds the stack came to its end, and the broker with it.
#[test]
fn however_many_full_queues_hand_a_message_on_it_is_no_matter_of_the_stack() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let link = |number: u32| format!("link-{number}");
    for number in 0..2000 {
        let full = full("", &link(number + 1));
        client.channel.declare_queue(&with(&link(number), &full)).unwrap();
    }
    assert_eq!(client.send("link-0", "x"), 1);
    // Where the row is shorter the message gets to its end.
    client.channel.delete_queue(b"link-200", false, false).unwrap();
    client.channel.declare_queue(&durable("link-200")).unwrap();
    assert_eq!(client.send("link-0", "x"), 1);
    assert_eq!(client.ready("link-200"), 1);
}

/// A letter of which several came, too large for one unit of the log together, was dropped.
#[test]
fn several_large_letters_that_come_of_one_message_all_arrive() {
    let slow = Slow::new();
    let mut client = slow.connect();
    for text in ["first", "second"] {
        client.channel.declare_queue(&durable(text)).unwrap();
    }
    client.channel.declare_queue(&with("full", &full("", "second"))).unwrap();
    for text in ["first", "full"] {
        client.channel.bind(&binding("amq.fanout", text, "")).unwrap();
    }
    client.channel.declare_queue(&with("q", &lettering("amq.fanout", ""))).unwrap();
    let large = "x".repeat(600 << 10);
    client.send("q", &large);
    let (held, _) = client.get("q").unwrap();
    client.channel.nack(held.tag, false, false).unwrap();
    client.channel.flush().unwrap();
    slow.pass(0);
    assert_eq!((client.ready("first"), client.ready("second")), (1, 1));
    // The same when it is refused at once.
    client.send_to("amq.fanout", "", &large);
    assert_eq!((client.ready("first"), client.ready("second")), (2, 2));
    assert_eq!(found(&slow, "q").store().len(), 0);
}

/// The carrier emptied one queue before it came to the next.
#[test]
fn a_queue_with_many_dead_letters_does_not_keep_those_of_others() {
    const MANY: u32 = 2000;
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    for (text, count) in [("many", MANY), ("one", 1)] {
        client.channel.declare_queue(&with(text, &lettering("", "dead"))).unwrap();
        for _ in 0..count {
            client.send(text, text);
        }
        client.channel.consume(&consumer(text, text)).unwrap();
        let received = client.await_deliveries(count as usize);
        client.channel.nack(received.last().unwrap().tag, true, false).unwrap();
        client.channel.flush().unwrap();
    }
    slow.pass(0);
    let arrived = slow.drain(&mut client, "dead");
    assert_eq!(arrived.len(), MANY as usize + 1);
    let place = arrived.iter().position(|body| body == "one").unwrap();
    assert!(place < 600, "{place}");
}

/// All that had expired were listed at once, with the queue locked.
#[test]
fn of_many_that_expire_together_some_leave_at_a_time() {
    const MESSAGES: u32 = 20_000;
    for dead in [true, false] {
        let slow = Slow::new();
        let mut client = slow.connect();
        client.channel.declare_queue(&durable("dead")).unwrap();
        let mut arguments = if dead { lettering("", "dead") } else { Vec::new() };
        arguments.push(("x-message-ttl", Value::I32(100)));
        client.channel.declare_queue(&with("q", &arguments)).unwrap();
        client.send_numbers("q", 0..MESSAGES);
        slow.pass(99);
        client.send("q", "fresh");
        slow.clock_only(50);
        let queue = found(&slow, "q");
        queue.wake();
        assert_eq!(queue.store().len(), u64::from(MESSAGES) + 1 - if dead { 0 } else { 2048 });
        if dead {
            assert_eq!(queue.letters(), 2048);
            slow.expire_only(0);
            assert_eq!(queue.letters(), 16_384);
            // Somebody who wants one that is not to be had before the others have gone.
            assert!(matches!(client.channel.get(b"q", true), Ok(Get::Pending)));
            slow.pass(0);
            match client.events().pop() {
                Some(Event::Got { message: Some((delivery, 0)), .. }) => {
                    assert_eq!(client.accept(delivery).body, "fresh");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(slow.drain(&mut client, "dead"), numbers(0..MESSAGES));
        }
        slow.pass(0);
        assert_eq!(slow.drain(&mut client, "q"), if dead { vec![] } else { vec!["fresh"] });
    }
}

/// With a full disk letters stay, and whoever acknowledges what is behind them makes room.
#[test]
fn letters_that_cannot_go_do_not_keep_what_is_behind_them() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let mut arguments = lettering("", "dead");
    arguments.push(("x-message-ttl", Value::I32(100)));
    client.channel.declare_queue(&with("q", &arguments)).unwrap();
    client.send_numbers("q", 0..20_000);
    slow.pass(99);
    client.send_numbers("q", 20_000..20_002);
    slow.expire_only(50);
    assert!(matches!(client.channel.get(b"q", true), Ok(Get::Pending)));
    // As the carrier does when they cannot be stored.
    let queue = found(&slow, "q");
    assert_eq!(queue.letters(), 16_384);
    queue.put_back_leaving(queue.take_leaving(256), true);
    slow.expire_only(0);
    match client.events().pop() {
        Some(Event::Got { message: Some((delivery, _)), .. }) => {
            assert_eq!(client.accept(delivery).body, "20000");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.get("q").unwrap().0.body, "20001");
    assert_eq!(queue.letters(), 20_000);
}

/// A policy that lets fewer be there, and a consumer that finds a queue full of what has expired.
#[test]
fn whoever_looks_at_many_that_leave_finds_what_is_behind_them() {
    const MESSAGES: u32 = 5000;
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("q", &[("x-message-ttl", Value::I32(100))])).unwrap();
    client.send_numbers("q", 0..MESSAGES);
    slow.clock_only(99);
    client.send("q", "fresh");
    slow.clock_only(50);
    client.channel.consume(&consumer("q", "c")).unwrap();
    slow.pass(0);
    assert_eq!(client.await_bodies(1), ["fresh"]);

    client.channel.declare_queue(&durable("long")).unwrap();
    client.send_numbers("long", 0..MESSAGES);
    slow.set_policy(&[("max-length", Value::I32(3))]);
    slow.pass(0);
    assert_eq!(slow.drain(&mut client, "long"), numbers(MESSAGES - 3..MESSAGES));
}

/// Each was read by itself, to see that it has expired.
#[test]
fn messages_on_disk_that_are_likely_to_leave_are_read_together() {
    let slow = Slow::with(Options { cache: 0, ..Options::default() });
    let mut client = slow.connect();
    for (text, argument) in [("short-lived", "x-message-ttl"), ("bounded", "x-max-length")] {
        client.channel.declare_queue(&with(text, &[(argument, Value::I32(100))])).unwrap();
        client.send_numbers(text, 0..200);
        slow.clock_only(1000);
        let queue = found(&slow, text);
        queue.wake();
        let mut reads = 0;
        while queue.store().len() > 100 {
            // As the loader does.
            let any = queue.load(Sequence::FIRST).unwrap();
            assert!(any, "{text}");
            queue.loaded(any);
            reads += 1;
        }
        assert!((2..=3).contains(&reads), "{text}: {reads}, and not a hundred, nor all at once");
    }
}

/// Letters may be few among many messages that consumers hold: these were read back with them, into memory for nothing.
#[test]
fn a_letter_is_read_back_without_what_others_hold() {
    let slow = Slow::with(Options { cache: 0, ..Options::default() });
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&with("q", &lettering("", "dead"))).unwrap();
    client.send_numbers("q", 0..50);
    client.channel.consume(&consumer("q", "c")).unwrap();
    slow.pass(0);
    let received = client.await_deliveries(50);
    for place in [10, 11, 12, 30] {
        client.channel.nack(received[place].tag, false, false).unwrap();
    }
    client.channel.flush().unwrap();
    slow.pass(0);
    assert_eq!(slow.drain(&mut client, "dead"), ["10", "11", "12", "30"]);
    let store = found(&slow, "q");
    let store = store.store();
    for place in [13, 14, 31] {
        assert!(!store.is_loaded(Sequence::new(place), 1), "{place}");
    }
}

/// The carrier's letters waited in memory for a slow disk, however many they were.
#[test]
fn the_carrier_waits_for_the_disk() {
    let slow = Slow::with(Options { unsynced_limit: 64 << 10, ..Options::default() });
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&with("q", &lettering("", "dead"))).unwrap();
    let body = "x".repeat(1 << 10);
    for _ in 0..2000 {
        client.send("q", &body);
    }
    client.channel.consume(&consumer("q", "c")).unwrap();
    while !client.receive().is_empty() {}
    client.channel.nack(DeliveryTag(0), true, false).unwrap();
    client.channel.flush().unwrap();
    let store = slow.broker.store();
    store.wait_durable(store.congested().unwrap()).unwrap();
    let before = store.log_statistics().groups;
    assert!(slow.broker.inner.workers.workers().carrier.work_off());
    assert_eq!(client.ready("dead"), 2000);
    let groups = store.log_statistics().groups - before;
    assert!(groups >= 6, "{groups}");
}

/// Whatever a queue had asked for stayed with the timer for its time, ten years perhaps, also when the queue had gone.
#[test]
fn the_timer_forgets_queues_that_have_gone() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let times = [("x-expires", Value::I64(1 << 38)), ("x-message-ttl", Value::I64(1 << 37))];
    for round in 0..20 {
        let declare = DeclareQueue { exclusive: true, durable: false, ..with("q", &times) };
        client.channel.declare_queue(&declare).unwrap();
        client.send("q", "x");
        assert_eq!(slow.waiting(), 1, "{round}");
        client.channel.delete_queue(b"q", false, false).unwrap();
    }
    drop(client);
    assert_eq!(slow.waiting(), 0);
}

/// A queue that forgets all that it knew between two messages asked for each of them anew.
#[test]
fn the_timer_knows_a_queue_once_however_often_it_is_emptied() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("q", &[("x-message-ttl", Value::I64(1 << 37))])).unwrap();
    for _ in 0..20 {
        client.send("q", "x");
        client.channel.consume(&consumer("q", "c")).unwrap();
        let received = client.await_deliveries(1);
        client.ack(received[0].tag);
        client.channel.cancel(b"c").unwrap();
        slow.clock_only(1);
    }
    assert_eq!(slow.waiting(), 1);
}

/// A queue waits for its messages' time and for its own, and is woken for the earlier one.
#[test]
fn a_queue_that_is_woken_for_one_thing_is_woken_for_the_other_too() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let times = [("x-expires", Value::I32(1000)), ("x-message-ttl", Value::I32(300))];
    client.channel.declare_queue(&with("q", &times)).unwrap();
    for _ in 0..3 {
        client.send("q", "x");
        slow.pass(299);
        assert_eq!(found(&slow, "q").counts().0, 1);
        slow.pass(1);
        assert_eq!(found(&slow, "q").counts().0, 0);
    }
    let gone = || slow.broker.store().queues().is_empty();
    slow.pass(99);
    assert!(!gone());
    slow.pass(1);
    assert!(gone(), "messages that come and go are no use");
}

/// The note of a queue stayed in the store for ever where the policy had gone before the queue.
#[test]
fn what_is_noted_of_a_queue_goes_with_it_also_without_its_policy() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    slow.set_policy(&[("expires", Value::I64(1_000_000))]);
    let entries = || slow.broker.store().entries().len();
    let with_policy = entries();
    assert!(with_policy >= 2, "the policy and the note");
    slow.broker.administer().delete_policy(&name("/"), PolicyKind::User, &name("p")).unwrap();
    client.channel.delete_queue(b"q", false, false).unwrap();
    assert_eq!(entries(), 0);
}

/// Whoever waited for messages that somebody else read, who hands out nothing, waited on.
#[test]
fn what_somebody_else_has_read_is_handed_out() {
    let slow = Slow::with(Options { cache: 0, ..Options::default() });
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send("q", "x");
    client.channel.consume(&consumer("q", "c")).unwrap();
    // As the carrier reads letters back, of which the disk may then have no room for any.
    found(&slow, "q").store().load(Sequence::FIRST).unwrap();
    slow.pass(0);
    assert_eq!(bodies(&client.receive()), ["x"]);
}

/// It was dropped by whoever looked first, if that was not its publisher, and a consumer waited for it in vain.
#[test]
fn what_lives_no_time_gets_to_who_waits_whoever_looks_first() {
    let slow = Slow::new();
    let (mut publisher, mut busy) = (slow.connect(), slow.connect());
    publisher.channel.declare_queue(&with("q", &[("x-message-ttl", Value::U8(0))])).unwrap();
    busy.channel.qos(0, 2, false).unwrap();
    busy.channel.consume(&consumer("q", "c")).unwrap();
    publisher.send("q", "first");
    let first = busy.await_deliveries(1);
    slow.clock_only(1000);
    publisher.channel.publish(&message("", "q", "second", &persistent())).unwrap();
    slow.clock_only(1);
    // The publisher has more to do before it hands out.
    busy.ack(first[0].tag);
    assert_eq!(bodies(&busy.receive()), ["second"]);
    publisher.channel.flush().unwrap();
    // Of these there is one too many, and it does not wait for anybody.
    for body in ["third", "fourth"] {
        publisher.channel.publish(&message("", "q", body, &persistent())).unwrap();
    }
    publisher.channel.flush().unwrap();
    slow.clock_only(1);
    let third = busy.receive();
    busy.ack(third[0].tag);
    assert!(busy.receive().is_empty());
    assert_eq!(busy.ready("q"), 0);
}

/// What it waited for went before it was read, and it was never answered.
#[test]
fn a_get_that_waits_for_what_is_purged_is_answered() {
    let slow = Slow::with(Options { cache: 0, ..Options::default() });
    let (mut client, mut other) = (slow.connect(), slow.connect());
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send("q", "x");
    assert!(matches!(client.channel.get(b"q", true), Ok(Get::Pending)));
    assert_eq!(other.channel.purge_queue(b"q").unwrap().messages, 1);
    slow.pass(0);
    assert!(matches!(client.events().as_slice(), [Event::Got { message: None, .. }]));
}

impl Slow {
    fn set_policy(&self, definition: &[(&str, Value)]) {
        let definition = table(definition);
        let policy = Policy::new(PolicyKind::User, name("p"), "", ApplyTo::Queues, 0, definition);
        self.broker.administer().set_policy(&name("/"), policy.unwrap()).unwrap();
    }

    /// Time goes by, and only the timer notices.
    fn expire_only(&self, milliseconds: u64) {
        self.clock_only(milliseconds);
        self.broker.inner.workers.workers().timer.work_off();
    }
}
