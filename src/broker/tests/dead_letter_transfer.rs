//! Dead letters that a channel transfers before its next method, and those that it leaves to the
//! carrier.

use super::expiring::{Slow, with};
use super::topology::bind_long_patterns;
use super::*;

/// Arguments of a queue with dead letters to that exchange and key.
pub(super) fn dead_letters_to<'a>(exchange: &str, key: &str) -> Vec<(&'a str, Value)> {
    vec![
        ("x-dead-letter-exchange", Value::text(exchange)),
        ("x-dead-letter-routing-key", Value::text(key)),
    ]
}

pub(super) fn reject(client: &mut Client, queue: &str, count: usize) {
    for _ in 0..count {
        let (held, _) = client.get(queue).unwrap();
        client.channel.nack(held.tag, false, false).unwrap();
    }
    client.channel.flush().unwrap();
}

pub(super) fn next(client: &mut Client, queue: &str) -> Option<String> {
    match client.channel.get(queue.as_bytes(), true).unwrap() {
        Get::Message(delivery, _) => {
            let body = client.accept(delivery).body;
            client.channel.flush().unwrap();
            Some(body)
        }
        Get::Empty => None,
        Get::Pending => panic!("it is in memory"),
    }
}

/// There are no threads: nothing but the channel can have transferred them.
#[test]
fn few_dead_letters_arrive_before_the_next_method() {
    let slow = Slow::new();
    let mut client = slow.connect();
    for text in ["dead", "last"] {
        client.channel.declare_queue(&durable(text)).unwrap();
    }
    client.channel.declare_queue(&with("q", &dead_letters_to("", "dead"))).unwrap();
    client.send_numbers("q", 0..3);
    reject(&mut client, "q", 3);
    assert_eq!(client.ready("dead"), 3);
    for number in 0..3 {
        assert_eq!(next(&mut client, "dead"), Some(number.to_string()));
    }

    let mut one = dead_letters_to("", "dead");
    one.push(("x-max-length", Value::U8(1)));
    client.channel.declare_queue(&with("one", &one)).unwrap();
    client.send_numbers("one", 0..2);
    assert_eq!(next(&mut client, "dead").as_deref(), Some("0"));

    let mut short = dead_letters_to("", "dead");
    short.push(("x-message-ttl", Value::U8(10)));
    client.channel.declare_queue(&with("short", &short)).unwrap();
    client.send("short", "late");
    slow.clock_only(10);
    assert_eq!(next(&mut client, "short"), None);
    assert_eq!(next(&mut client, "dead").as_deref(), Some("late"));

    // Also the later hops.
    let mut between = dead_letters_to("", "last");
    between.push(("x-max-length", Value::U8(0)));
    client.channel.declare_queue(&with("between", &between)).unwrap();
    client.channel.declare_queue(&with("first", &dead_letters_to("", "between"))).unwrap();
    client.send("first", "far");
    reject(&mut client, "first", 1);
    assert_eq!(next(&mut client, "last").as_deref(), Some("far"));
}

#[test]
fn many_dead_letters_are_left_to_the_carrier_and_stay_in_order() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    client.channel.declare_queue(&with("q", &dead_letters_to("", "dead"))).unwrap();
    client.send_numbers("q", 0..301);
    reject(&mut client, "q", 300);
    assert_eq!(client.ready("dead"), 0);
    // One alone, behind those that the carrier has yet to take.
    reject(&mut client, "q", 1);
    assert_eq!(client.ready("dead"), 0);
    slow.pass(0);
    assert_eq!(slow.drain(&mut client, "dead"), numbers(0..301));

    let large = "x".repeat(100 << 10);
    client.send("q", &large);
    reject(&mut client, "q", 1);
    assert_eq!(client.ready("dead"), 0);
    slow.pass(0);
    assert_eq!(client.ready("dead"), 1);
}

/// It held up its channel, and whoever waited for the topology's lock, for as long as the walk took.
#[test]
fn a_dead_letter_with_a_costly_route_is_left_to_the_carrier() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    let key = ["a"; 60].join(".");
    client.channel.declare_queue(&with("q", &dead_letters_to("amq.topic", &key))).unwrap();
    bind_long_patterns(&mut client, "dead", 512);
    client.channel.bind(&binding("amq.topic", "dead", "cheap")).unwrap();
    client.channel.declare_queue(&with("cheap", &dead_letters_to("amq.topic", "cheap"))).unwrap();
    client.send_numbers("q", 0..3);
    client.send("cheap", "cheap");
    reject(&mut client, "q", 3);
    assert_eq!(client.ready("dead"), 0);
    reject(&mut client, "cheap", 1);
    assert_eq!(next(&mut client, "dead").as_deref(), Some("cheap"));
    slow.pass(0);
    assert_eq!(slow.drain(&mut client, "dead"), numbers(0..3));
}
