//! What is there again after a restart, and what is not.

use super::*;

#[test]
fn durable_queues_exchanges_and_bindings_are_there_again_with_their_messages() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let declare = DeclareExchange { durable: true, internal: true, ..exchange("logs", "topic") };
    client.channel.declare_exchange(&declare).unwrap();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.bind(&binding("logs", "q", "a.#")).unwrap();
    let chain = Bind { kind: DestinationKind::Exchange, ..binding("amq.direct", "logs", "a.b") };
    client.channel.bind(&chain).unwrap();
    for number in 0..100 {
        assert_eq!(client.send_to("amq.direct", "a.b", &number.to_string()), 1);
    }
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    client.channel.declare_exchange(&declare).unwrap();
    assert_eq!(client.channel.declare_queue(&durable("q")).unwrap().messages, 100);
    assert_eq!(client.send_to("amq.direct", "a.b", "100"), 1);
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(client.await_bodies(101), numbers(0..101));
}

#[test]
fn what_was_not_durable_is_gone() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_exchange(&exchange("x", "fanout")).unwrap();
    client.channel.declare_queue(&queue("transient")).unwrap();
    client.channel.declare_queue(&durable("durable")).unwrap();
    let exclusive = DeclareQueue { exclusive: true, ..durable("exclusive") };
    client.channel.declare_queue(&exclusive).unwrap();
    client.channel.bind(&binding("x", "durable", "")).unwrap();
    client.channel.bind(&binding("amq.fanout", "transient", "")).unwrap();
    let transient = message("", "durable", "transient", &Properties::default());
    client.channel.publish(&transient).unwrap();
    client.send("durable", "persistent");
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    assert_eq!(client.send_to("amq.fanout", "", "x"), 0);
    let passive = DeclareExchange { passive: true, ..exchange("x", "") };
    assert_eq!(refusal(client.channel.declare_exchange(&passive)).0, 404);
    for q in ["transient", "exclusive"] {
        assert_eq!(refusal(client.channel.purge_queue(q.as_bytes())).0, 404, "{q}");
    }
    let (received, left) = client.get("durable").unwrap();
    assert_eq!((received.body.as_str(), left), ("persistent", 0));
}

#[test]
fn what_was_deleted_stays_deleted() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let declare = DeclareExchange { durable: true, ..exchange("x", "fanout") };
    client.channel.declare_exchange(&declare).unwrap();
    for q in ["kept", "deleted"] {
        client.channel.declare_queue(&durable(q)).unwrap();
        client.channel.bind(&binding("x", q, "")).unwrap();
        client.channel.bind(&binding("amq.fanout", q, "")).unwrap();
        client.send_numbers(q, 0..3);
    }
    assert!(client.channel.delete_exchange(b"x", false).unwrap().is_some());
    assert!(client.channel.delete_queue(b"deleted", false, false).unwrap().durable_at.is_some());
    assert!(client.channel.unbind(&binding("amq.fanout", "kept", "")).unwrap().is_some());
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    assert_eq!(refusal(client.channel.purge_queue(b"deleted")).0, 404);
    assert_eq!(client.send_to("amq.fanout", "", "x"), 0);
    client.channel.declare_exchange(&exchange("x", "direct")).unwrap();
    assert_eq!(client.ready("kept"), 3);
}

#[test]
fn acknowledged_messages_stay_away_and_handed_out_ones_are_redelivered() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..10);
    client.channel.qos(0, 4, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(4);
    client.channel.cancel(b"c").unwrap();
    client.ack(received[0].tag);
    client.ack(received[2].tag);
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(8);
    assert_eq!(bodies(&received), ["1", "3", "4", "5", "6", "7", "8", "9"]);
    let redelivered: Vec<_> =
        received.iter().filter(|r| r.redelivered).map(|r| r.body.as_str()).collect();
    assert_eq!(redelivered, ["1", "3"]);
}

#[test]
fn a_get_from_a_queue_whose_messages_are_on_disk_is_answered() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..3);
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    for (body, left) in [("0", 2), ("1", 1), ("2", 0)] {
        let (received, ready) = client.get("q").unwrap();
        assert_eq!((received.body.as_str(), ready), (body, left));
    }
    assert!(client.get("q").is_none());
}

#[test]
fn declaring_again_waits_for_the_first_declaration() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.connect(), rig.connect());
    let first = one.channel.declare_queue(&durable("q")).unwrap();
    assert!(first.durable_at.is_some());
    assert_eq!(other.channel.declare_queue(&durable("q")).unwrap(), first);
    let passive = DeclareQueue { passive: true, ..queue("q") };
    assert_eq!(other.channel.declare_queue(&passive).unwrap(), first);
    let bind = binding("amq.direct", "q", "k");
    let bound = one.channel.bind(&bind).unwrap();
    assert!(bound.is_some());
    assert_eq!(other.channel.bind(&bind).unwrap(), bound);
    assert_eq!(one.channel.declare_queue(&queue("transient")).unwrap().durable_at, None);
}

/// Whoever deleted what another one had just deleted was told at once, and a power cut brought it back.
#[test]
fn deleting_again_waits_for_the_first_deletion() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.connect(), rig.connect());
    let durable_exchange = DeclareExchange { durable: true, ..exchange("x", "fanout") };
    one.channel.declare_exchange(&durable_exchange).unwrap();
    one.channel.declare_queue(&durable("q")).unwrap();
    let bind = binding("x", "q", "");
    one.channel.bind(&bind).unwrap();
    assert_eq!(other.channel.delete_queue(b"never there", false, false).unwrap().durable_at, None);
    let unbound = one.channel.unbind(&bind).unwrap();
    assert!(unbound.is_some());
    assert_eq!(other.channel.unbind(&bind).unwrap(), unbound);
    let deleted = one.channel.delete_exchange(b"x", false).unwrap();
    assert!(deleted > unbound);
    assert_eq!(other.channel.delete_exchange(b"x", false).unwrap(), deleted);
    let gone = one.channel.delete_queue(b"q", false, false).unwrap();
    assert!(gone.durable_at > deleted);
    assert_eq!(other.channel.delete_queue(b"q", false, false).unwrap(), gone);
}

/// The same was true of a queue that another one had just purged.
#[test]
fn purging_again_waits_for_the_first_purge() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.connect(), rig.connect());
    one.channel.declare_queue(&durable("q")).unwrap();
    one.channel.declare_queue(&queue("transient")).unwrap();
    assert_eq!(other.channel.purge_queue(b"q").unwrap().durable_at, None);
    one.send("q", "x");
    let purged = one.channel.purge_queue(b"q").unwrap();
    assert!(purged.durable_at.is_some());
    let again = other.channel.purge_queue(b"q").unwrap();
    assert_eq!((again.messages, again.durable_at), (0, purged.durable_at));
    // Neither does finding something that is gone after a restart anyway make it safe.
    let transient = message("", "q", "y", &Properties::default());
    other.channel.publish(&transient).unwrap();
    let again = other.channel.purge_queue(b"q").unwrap();
    assert_eq!((again.messages, again.durable_at), (1, purged.durable_at));
    assert_eq!(other.channel.purge_queue(b"transient").unwrap().durable_at, None);
}
