//! Publishing, and what may be confirmed when.

use super::*;
use crate::storage::Lsn;

fn confirm(tag: u64, multiple: bool) -> Confirm {
    Confirm { tag: DeliveryTag(tag), refused: false, multiple }
}

#[test]
fn persistent_messages_are_confirmed_together_when_the_log_is_durable() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send("q", "before confirm.select");
    assert_eq!(client.channel.confirms(rig.broker.store().durable_lsn()), None);
    client.channel.confirm_select().unwrap();
    client.send_numbers("q", 0..3);
    assert_eq!(client.channel.confirms(Lsn::ZERO), None);
    let first = client.channel.awaited_lsn().unwrap();
    rig.broker.store().wait_durable(first).unwrap();
    client.channel.confirms(first);
    while let Some(lsn) = client.channel.awaited_lsn() {
        rig.broker.store().wait_durable(lsn).unwrap();
        client.channel.confirms(lsn);
    }
    client.channel.confirm_select().unwrap();
    client.send("q", "one");
    let lsn = client.channel.awaited_lsn().unwrap();
    rig.broker.store().wait_durable(lsn).unwrap();
    assert_eq!(client.channel.confirms(lsn), Some(confirm(4, false)));
    assert_eq!(client.channel.confirms(lsn), None);
}

#[test]
fn what_need_not_wait_is_confirmed_at_once_but_never_before_earlier_messages() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.confirm_select().unwrap();
    client.channel.declare_queue(&durable("q")).unwrap();
    let transient = message("", "q", "transient", &Properties::default());
    client.channel.publish(&transient).unwrap();
    assert_eq!(client.send("nowhere", "unroutable"), 0);
    assert_eq!(client.channel.awaited_lsn(), None);
    assert_eq!(client.channel.confirms(Lsn::ZERO), Some(confirm(2, true)));
    client.send("q", "persistent");
    client.channel.publish(&transient).unwrap();
    assert_eq!(client.channel.confirms(Lsn::ZERO), None);
    let lsn = client.channel.awaited_lsn().unwrap();
    rig.broker.store().wait_durable(lsn).unwrap();
    assert_eq!(client.channel.confirms(lsn), Some(confirm(4, true)));
}

#[test]
fn an_unroutable_message_is_told_from_a_routed_one() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    assert_eq!(client.send("q", "x"), 1);
    assert_eq!(client.send("other", "x"), 0);
    assert_eq!(client.send_to("amq.fanout", "q", "x"), 0);
}

#[test]
fn publishing_to_a_missing_or_internal_exchange_is_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let internal = DeclareExchange { internal: true, ..exchange("in", "fanout") };
    client.channel.declare_exchange(&internal).unwrap();
    let mut publish =
        |to: &str| refusal(client.channel.publish(&message(to, "k", "x", &persistent())));
    let missing = "NOT_FOUND - no exchange 'none' in vhost '/'".to_owned();
    assert_eq!(publish("none"), (404, missing));
    assert_eq!(publish("in").0, 403);
}

/// A worker acknowledges a task, publishes its result and sees that confirmed. When both arrived in one read, the
/// acknowledgement, which is gathered for the end of the read, used to come behind the result in the log: a crash between
/// the two brought the task back although its result had been confirmed.
#[test]
fn a_confirm_vouches_for_the_acknowledgements_before_it() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("tasks")).unwrap();
    client.channel.declare_queue(&durable("results")).unwrap();
    client.send("tasks", "task");
    client.channel.consume(&consumer("tasks", "c")).unwrap();
    let task = client.await_deliveries(1).remove(0);
    client.channel.confirm_select().unwrap();
    client.channel.ack(task.tag, false).unwrap();
    client.send("results", "result");
    let kept: u64 = rig.broker.store().queues().iter().map(|queue| queue.len()).sum();
    assert_eq!(kept, 1, "the task went to the log before the result did");
}

/// A message that is not stored was confirmed at once, while the acknowledgements before it were still on their way to the
/// disk: a power cut brought back what the client had seen dealt with.
#[test]
fn a_confirm_waits_for_earlier_acknowledgements_even_if_its_message_is_not_stored() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.declare_queue(&queue("transient")).unwrap();
    client.channel.confirm_select().unwrap();
    for (nth, to) in [(2, "transient"), (4, "nowhere")] {
        client.send("q", "a request");
        let stored = client.channel.awaited_lsn().unwrap();
        rig.broker.store().wait_durable(stored).unwrap();
        assert_eq!(client.channel.confirms(stored), Some(confirm(nth - 1, false)));
        let (request, _) = client.get("q").unwrap();
        client.ack(request.tag);
        client.send(to, "the answer");
        assert_eq!(client.channel.confirms(stored), None);
        let acknowledged = client.channel.awaited_lsn().unwrap();
        rig.broker.store().wait_durable(acknowledged).unwrap();
        assert_eq!(client.channel.confirms(acknowledged), Some(confirm(nth, false)));
    }
}
