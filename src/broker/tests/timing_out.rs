//! Deliveries that a client holds unacknowledged for longer than it may.

use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};

fn milliseconds(time: u64) -> Duration {
    Duration::from_millis(time)
}

impl Rig {
    /// The time after which a delivery from `queue` to a consumer with these arguments expires.
    fn timeout_of(&self, queue: &str, arguments: &[(&'static str, Value)]) -> u64 {
        let mut client = self.connect();
        let arguments = table(arguments);
        client.channel.consume(&Consume { arguments, ..consumer(queue, "c") }).unwrap();
        client.send(queue, "m");
        client.receive();
        let begin = Instant::now();
        client.channel.check_timeouts(begin).unwrap();
        let mut expired = |time: &u64| client.channel.check_timeouts(begin + milliseconds(*time));
        let timeout = (100..=1000).step_by(50).find(|time| expired(time).is_err()).unwrap();
        client.channel.ack(DeliveryTag(0), true).unwrap();
        timeout
    }
}

#[test]
fn a_delivery_that_is_not_acknowledged_in_time_closes_its_channel() {
    let rig = Rig::new();
    let (mut client, mut other) = (rig.connect(), rig.connect());
    let arguments = table(&[("x-consumer-timeout", Value::I32(1000))]);
    client.channel.declare_queue(&DeclareQueue { arguments, ..durable("q") }).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send_numbers("q", 0..2);
    assert_eq!(client.receive().len(), 2);
    let begin = Instant::now();
    client.channel.check_timeouts(begin).unwrap();
    client.channel.check_timeouts(begin + milliseconds(999)).unwrap();
    client.ack(DeliveryTag(1));
    let refusal = client.channel.check_timeouts(begin + milliseconds(1000)).unwrap_err();
    let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout \
                value used: 1000 ms. This timeout value can be configured, see consumers doc guide \
                to learn more";
    assert_eq!((refusal.code(), refusal.text()), (406, text));
    drop(client);
    let (found, left) = other.get("q").unwrap();
    assert_eq!((&found.body[..], found.redelivered, left), ("1", true, 0));
}

#[test]
fn deliveries_that_are_acknowledged_in_time_never_expire() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let arguments = table(&[("x-consumer-timeout", Value::I32(1000))]);
    client.channel.declare_queue(&DeclareQueue { arguments, ..durable("q") }).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let begin = Instant::now();
    for round in 0..200 {
        client.send("q", "m");
        let received = client.receive();
        client.channel.check_timeouts(begin + milliseconds(600 * round)).unwrap();
        // Each is held for longer than one look, and for less than the time-out.
        if round > 0 {
            client.ack(DeliveryTag(round));
        }
        assert_eq!(received[0].tag, DeliveryTag(round + 1));
    }
}

#[test]
fn a_consumer_counts_more_than_its_queue_and_that_more_than_the_limit() {
    let timeout = Some(milliseconds(300));
    let rig = Rig::with_limits(Limits { consumer_timeout: timeout, ..Limits::default() });
    let mut client = rig.connect();
    let arguments = table(&[("x-consumer-timeout", Value::I32(600))]);
    client.channel.declare_queue(&DeclareQueue { arguments, ..durable("own") }).unwrap();
    client.channel.declare_queue(&durable("plain")).unwrap();
    let of_consumer = [("x-consumer-timeout", Value::I32(900))];
    assert_eq!(rig.timeout_of("plain", &[]), 300);
    assert_eq!(rig.timeout_of("own", &[]), 600);
    assert_eq!(rig.timeout_of("own", &of_consumer), 900);
    let set = |time: i32| {
        let definition = table(&[("consumer-timeout", Value::I32(time))]);
        let policy =
            Policy::new(PolicyKind::User, name("p"), "", ApplyTo::Queues, 0, definition).unwrap();
        rig.broker.administer().set_policy(&name("/"), policy).unwrap();
    };
    set(400);
    assert_eq!(rig.timeout_of("own", &[]), 400, "the smaller of two");
    assert_eq!(rig.timeout_of("plain", &[]), 400);
    set(800);
    assert_eq!(rig.timeout_of("own", &[]), 600);
}

#[test]
fn nothing_is_looked_for_where_no_timeout_was_ever_set() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send("q", "m");
    client.receive();
    assert_eq!(client.session.timeout_interval(), None);
    let begin = Instant::now();
    client.channel.check_timeouts(begin).unwrap();
    client.channel.check_timeouts(begin + Duration::from_secs(1_000_000)).unwrap();
    let arguments = table(&[("x-consumer-timeout", Value::I32(2000))]);
    client.channel.consume(&Consume { arguments, ..consumer("q", "d") }).unwrap();
    assert_eq!(client.session.timeout_interval(), Some(milliseconds(500)));
}
