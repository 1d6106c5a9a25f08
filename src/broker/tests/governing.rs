//! Policies of queues: what they say holds at once, for what there is and for what comes.

use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};

impl Rig {
    fn set(&self, kind: PolicyKind, policy: &str, pattern: &str, definition: &[(&str, Value)]) {
        let definition = table(definition);
        let policy = Policy::new(kind, name(policy), pattern, ApplyTo::Queues, 0, definition);
        self.broker.administer().set_policy(&name("/"), policy.unwrap()).unwrap();
    }

    fn unset(&self, kind: PolicyKind, policy: &str) {
        self.broker.administer().delete_policy(&name("/"), kind, &name(policy)).unwrap();
    }
}

impl Client {
    fn await_ready(&mut self, queue: &str, count: u32) {
        let begun = Instant::now();
        while self.ready(queue) != count {
            assert!(begun.elapsed() < PATIENCE, "{} instead of {count}", self.ready(queue));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_policy_bounds_queues_that_there_are_and_those_to_come_for_as_long_as_it_is_set() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("shop.old")).unwrap();
    client.channel.declare_queue(&durable("other")).unwrap();
    client.send_numbers("shop.old", 0..5);
    client.send_numbers("other", 0..5);
    rig.set(PolicyKind::User, "bounded", "^shop", &[("max-length", Value::I64(2))]);
    assert_eq!((client.ready("shop.old"), client.ready("other")), (2, 5));
    client.channel.declare_queue(&durable("shop.new")).unwrap();
    client.send_numbers("shop.new", 0..5);
    assert_eq!(client.ready("shop.new"), 2);
    let rig = {
        drop(client);
        rig.restart()
    };
    let mut client = rig.connect();
    client.send_numbers("shop.new", 5..9);
    // Those from before the restart are on disk, and are read before they go.
    client.await_ready("shop.new", 2);
    rig.unset(PolicyKind::User, "bounded");
    client.send_numbers("shop.new", 9..12);
    assert_eq!(client.ready("shop.new"), 5);
    assert_eq!(client.get("shop.new").unwrap().0.body, "7");
}

#[test]
fn an_operators_limit_holds_whatever_else_is_said() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let own = table(&[("x-max-length", Value::I32(4))]);
    client.channel.declare_queue(&DeclareQueue { arguments: own, ..durable("own") }).unwrap();
    client.channel.declare_queue(&durable("plain")).unwrap();
    rig.set(PolicyKind::Operator, "ceiling", "", &[("max-length", Value::I64(3))]);
    rig.set(PolicyKind::User, "bounded", "", &[("max-length", Value::I64(9))]);
    for queue in ["own", "plain"] {
        client.send_numbers(queue, 0..10);
        assert_eq!(client.ready(queue), 3, "{queue}");
    }
    rig.unset(PolicyKind::Operator, "ceiling");
    for (queue, most) in [("own", 4), ("plain", 9)] {
        client.send_numbers(queue, 0..10);
        assert_eq!(client.ready(queue), most, "{queue}");
    }
}

#[test]
fn a_policy_names_the_exchange_that_dead_letters_go_to() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.declare_queue(&durable("graves")).unwrap();
    client.send("q", "body");
    let definition = [
        ("dead-letter-exchange", Value::text("")),
        ("dead-letter-routing-key", Value::text("graves")),
    ];
    rig.set(PolicyKind::User, "graves", "^q$", &definition);
    let (received, _) = client.get("q").unwrap();
    client.channel.nack(received.tag, false, false).unwrap();
    client.channel.flush().unwrap();
    client.await_ready("graves", 1);
    assert_eq!(client.get("graves").unwrap().0.body, "body");
}

#[test]
fn a_time_to_live_holds_for_messages_to_come() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    rig.set(PolicyKind::User, "short", "^q$", &[("message-ttl", Value::I64(1))]);
    client.send("q", "body");
    client.await_ready("q", 0);
    rig.unset(PolicyKind::User, "short");
    client.send("q", "body");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(client.ready("q"), 1);
}

#[test]
fn what_was_rejected_when_its_queue_had_rules_is_gone_when_it_has_none() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..3);
    rig.set(PolicyKind::User, "p", "^q$", &[("dead-letter-exchange", Value::text("amq.fanout"))]);
    let (held, _) = client.get("q").unwrap();
    client.channel.nack(held.tag, false, false).unwrap();
    rig.unset(PolicyKind::User, "p");
    client.channel.flush().unwrap();
    assert_eq!(client.ready("q"), 2);
    let (held, _) = client.get("q").unwrap();
    client.channel.nack(held.tag, false, true).unwrap();
    assert_eq!(client.ready("q"), 2, "nothing is counted as held for ever");
    drop(client);
    assert_eq!(rig.restart().connect().ready("q"), 2);
}
