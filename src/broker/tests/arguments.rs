//! Every argument and policy key of RabbitMQ 4.3: it does something, is refused, or is said to mean nothing.

use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};

/// The page that says what means nothing here.
const PAGE: &str = include_str!("../../../docs/compatibility.md");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It does what RabbitMQ does.
    Does,
    /// It is accepted, does nothing, and the page says why.
    MeansNothing,
    /// It asks for something that there is not, or not for that type of queue.
    Refused,
}

use Class::{Does, MeansNothing, Refused};

impl Class {
    fn check(self, name: &str, is_accepted: bool) {
        assert_eq!(is_accepted, self != Refused, "{name}");
        if self == MeansNothing {
            let listed = PAGE.lines().filter(|line| line.starts_with('|'));
            assert!(
                listed.into_iter().any(|line| line.contains(&format!("`{name}`"))),
                "{name} means nothing, and the page does not say so"
            );
        }
    }
}

fn number() -> Value {
    Value::I32(2)
}

/// Name, a value that RabbitMQ takes, what it is to a classic and to a quorum queue.
fn queue_arguments() -> Vec<(&'static str, Value, Class, Class)> {
    let text = Value::text;
    vec![
        ("x-expires", Value::I32(60_000), Does, Does),
        ("x-message-ttl", Value::I32(60_000), Does, Does),
        ("x-dead-letter-exchange", text(""), Does, Does),
        ("x-dead-letter-routing-key", text("k"), Does, Does),
        ("x-dead-letter-strategy", text("at-most-once"), Refused, Does),
        ("x-max-length", number(), Does, Does),
        ("x-max-length-bytes", number(), Does, Does),
        ("x-max-in-memory-length", number(), Refused, MeansNothing),
        ("x-max-in-memory-bytes", number(), Refused, MeansNothing),
        ("x-max-priority", number(), Does, Refused),
        ("x-overflow", text("reject-publish"), Does, Does),
        ("x-queue-mode", text("lazy"), MeansNothing, Refused),
        ("x-queue-version", number(), MeansNothing, Refused),
        ("x-single-active-consumer", Value::Bool(true), Does, Does),
        ("x-consumer-timeout", number(), Does, Does),
        ("x-consumer-disconnected-timeout", number(), Refused, MeansNothing),
        ("x-quorum-initial-group-size", number(), Refused, MeansNothing),
        ("x-delivery-limit", number(), Refused, Does),
        ("x-delayed-retry-type", text("all"), Refused, Refused),
        ("x-delayed-retry-min", number(), Refused, Refused),
        ("x-delayed-retry-max", number(), Refused, Refused),
        ("x-queue-master-locator", text("min-masters"), MeansNothing, Refused),
        ("x-queue-leader-locator", text("balanced"), MeansNothing, MeansNothing),
        ("x-max-age", text("1h"), Refused, Refused),
        ("x-stream-max-segment-size-bytes", number(), Refused, Refused),
        ("x-stream-filter-size-bytes", number(), Refused, Refused),
        ("x-initial-cluster-size", number(), Refused, Refused),
    ]
}

#[test]
fn every_queue_argument_of_rabbitmq_does_something_is_refused_or_is_listed() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for (argument, value, classic, quorum) in queue_arguments() {
        for (kind, class) in [("classic", classic), ("quorum", quorum)] {
            let mut arguments =
                table(&[("x-queue-type", Value::text(kind)), (argument, value.clone())]);
            if argument == "x-dead-letter-routing-key" {
                arguments.push(name("x-dead-letter-exchange"), Value::text(""));
            }
            let declared = DeclareQueue { arguments, ..durable("q") };
            match client.channel.declare_queue(&declared) {
                Ok(_) => {
                    class.check(argument, true);
                    client.channel.delete_queue(b"q", false, false).unwrap();
                }
                Err(refused) => {
                    class.check(argument, false);
                    let expected = format!(
                        "PRECONDITION_FAILED - invalid arg '{argument}' for queue 'q' in vhost \
                         '/' of queue type rabbit_{kind}_queue"
                    );
                    assert_eq!(refused.text(), expected);
                }
            }
        }
    }
}

#[test]
fn every_consumer_argument_of_rabbitmq_does_something_is_refused_or_is_listed() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for kind in ["classic", "quorum"] {
        let arguments = table(&[("x-queue-type", Value::text(kind))]);
        client.channel.declare_queue(&DeclareQueue { arguments, ..durable(kind) }).unwrap();
        for (argument, class) in [
            ("x-priority", Does),
            ("x-cancel-on-ha-failover", MeansNothing),
            ("x-consumer-timeout", Does),
            ("x-stream-offset", Refused),
            ("x-stream-filter", Refused),
            ("x-stream-match-unfiltered", Refused),
        ] {
            let arguments = table(&[(argument, number())]);
            match client.channel.consume(&Consume { arguments, ..consumer(kind, "c") }) {
                Ok(_) => {
                    class.check(argument, true);
                    client.channel.cancel(b"c").unwrap();
                }
                Err(refused) => {
                    class.check(argument, false);
                    let expected = format!(
                        "PRECONDITION_FAILED - invalid arg '{argument}' for queue '{kind}' in \
                         vhost '/' of queue type rabbit_{kind}_queue"
                    );
                    assert_eq!((refused.code(), refused.text()), (406, &expected[..]));
                }
            }
        }
    }
}

#[test]
fn every_policy_key_of_rabbitmq_does_something_is_refused_or_is_listed() {
    let text = Value::text;
    for (key, value, class) in [
        ("alternate-exchange", text("x"), Does),
        ("dead-letter-exchange", text("x"), Does),
        ("dead-letter-routing-key", text("x"), Does),
        ("dead-letter-strategy", text("at-most-once"), Does),
        ("message-ttl", number(), Does),
        ("expires", number(), Does),
        ("max-length", number(), Does),
        ("max-length-bytes", number(), Does),
        ("overflow", text("reject-publish"), Does),
        ("delivery-limit", number(), Does),
        ("max-in-memory-length", number(), MeansNothing),
        ("max-in-memory-bytes", number(), MeansNothing),
        ("queue-mode", text("lazy"), MeansNothing),
        ("queue-version", number(), MeansNothing),
        ("queue-master-locator", text("min-masters"), MeansNothing),
        ("queue-leader-locator", text("balanced"), MeansNothing),
        ("initial-cluster-size", number(), MeansNothing),
        ("target-group-size", number(), MeansNothing),
        ("consumer-disconnected-timeout", number(), MeansNothing),
        ("max-age", text("1h"), MeansNothing),
        ("stream-max-segment-size-bytes", number(), MeansNothing),
        ("stream-filter-size-bytes", number(), MeansNothing),
        ("ha-mode", text("all"), MeansNothing),
        ("ha-params", number(), MeansNothing),
        ("ha-sync-mode", text("manual"), MeansNothing),
        ("ha-sync-batch-size", number(), MeansNothing),
        ("ha-promote-on-shutdown", text("always"), MeansNothing),
        ("ha-promote-on-failure", text("always"), MeansNothing),
        ("consumer-timeout", number(), Does),
        ("delayed-retry-type", text("all"), Refused),
        ("delayed-retry-min", number(), Refused),
        ("delayed-retry-max", number(), Refused),
        ("federation-upstream", text("x"), Refused),
        ("federation-upstream-set", text("x"), Refused),
        ("federation-upstream-pattern", text("x"), Refused),
        ("selector-fields", text("x"), Refused),
        ("selector-field-max-bytes", number(), Refused),
    ] {
        let definition = table(&[(key, value)]);
        let policy = Policy::new(PolicyKind::User, name("p"), "", ApplyTo::All, 0, definition);
        class.check(key, policy.is_ok());
    }
}
