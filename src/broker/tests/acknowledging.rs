//! Acknowledging, rejecting, and what comes back.

use super::*;

/// A client that holds 0..5 of a queue, and the tags.
fn holding(rig: &Rig, declare: &DeclareQueue) -> (Client, Vec<Received>) {
    let mut client = rig.connect();
    client.channel.declare_queue(declare).unwrap();
    client.send_numbers("q", 0..5);
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.await_deliveries(5);
    (client, received)
}

#[test]
fn a_requeued_message_returns_to_its_place_and_is_redelivered() {
    for declare in [queue("q"), durable("q")] {
        let rig = Rig::new();
        let (mut client, received) = holding(&rig, &declare);
        client.channel.cancel(b"c").unwrap();
        client.send("q", "5");
        client.channel.nack(received[3].tag, false, true).unwrap();
        client.channel.nack(received[1].tag, false, true).unwrap();
        client.channel.consume(&consumer("q", "d")).unwrap();
        let again = client.await_deliveries(3);
        assert_eq!(bodies(&again), ["1", "3", "5"]);
        assert_eq!(again.iter().map(|r| r.redelivered).collect::<Vec<_>>(), [true, true, false]);
    }
}

#[test]
fn a_killed_workers_messages_go_to_another_at_once() {
    for declare in [queue("q"), durable("q")] {
        let rig = Rig::new();
        let (mut worker, received) = holding(&rig, &declare);
        worker.ack(received[0].tag);
        let mut other = rig.connect();
        other.channel.consume(&consumer("q", "other")).unwrap();
        assert!(other.receive().is_empty());
        drop(worker);
        let again = other.await_deliveries(4);
        assert_eq!(bodies(&again), ["1", "2", "3", "4"]);
        assert!(again.iter().all(|received| received.redelivered));
    }
}

#[test]
fn closing_a_channel_requeues_what_it_holds_and_leaves_other_channels_alone() {
    let rig = Rig::new();
    let (client, _) = holding(&rig, &queue("q"));
    let Client { channel, session } = client;
    let second = session.open_channel(ChannelNumber(2));
    channel.close();
    let mut client = Client { channel: second, session };
    assert_eq!(client.ready("q"), 5);
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(client.await_bodies(5), numbers(0..5));
}

#[test]
fn multiple_acknowledges_all_up_to_a_tag_and_tag_zero_all_there_are() {
    let rig = Rig::new();
    let (mut client, received) = holding(&rig, &durable("q"));
    client.channel.ack(received[2].tag, true).unwrap();
    client.channel.nack(received[3].tag, true, true).unwrap();
    let again = client.await_deliveries(1);
    assert_eq!(bodies(&again), ["3"]);
    client.channel.ack(DeliveryTag(0), true).unwrap();
    client.channel.ack(DeliveryTag(0), true).unwrap();
    client.channel.flush().unwrap();
    client.channel.recover(true).unwrap();
    assert!(client.receive().is_empty());
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn an_unknown_or_repeated_tag_is_refused() {
    let rig = Rig::new();
    let (mut client, received) = holding(&rig, &queue("q"));
    let unknown = |tag: u64| (406, format!("PRECONDITION_FAILED - unknown delivery tag {tag}"));
    assert_eq!(refusal(client.channel.ack(DeliveryTag(6), false)), unknown(6));
    assert_eq!(refusal(client.channel.ack(DeliveryTag(6), true)), unknown(6));
    assert_eq!(refusal(client.channel.nack(DeliveryTag(0), false, true)), unknown(0));
    client.ack(received[1].tag);
    assert_eq!(refusal(client.channel.ack(received[1].tag, false)), unknown(2));
    assert_eq!(refusal(client.channel.nack(received[1].tag, true, true)), unknown(2));
    client.channel.ack(received[4].tag, true).unwrap();
    assert_eq!(refusal(client.channel.ack(received[0].tag, false)), unknown(1));
}

#[test]
fn a_rejected_message_is_gone_unless_it_is_requeued() {
    let rig = Rig::new();
    let (mut client, received) = holding(&rig, &durable("q"));
    client.channel.nack(received[0].tag, false, false).unwrap();
    client.channel.nack(received[1].tag, false, true).unwrap();
    assert_eq!(client.await_bodies(1), ["1"]);
    client.channel.recover(true).unwrap();
    assert_eq!(client.await_bodies(4), numbers(1..5));
}

#[test]
fn recovering_without_requeue_is_not_implemented() {
    let rig = Rig::new();
    let mut client = rig.connect();
    assert_eq!(refusal(client.channel.recover(false)).0, 540);
}

#[test]
fn purging_leaves_what_is_handed_out() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..200);
    client.channel.qos(0, 2, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let held = client.await_deliveries(2);
    client.channel.cancel(b"c").unwrap();
    client.channel.nack(held[0].tag, false, true).unwrap();
    assert_eq!(client.channel.purge_queue(b"q").unwrap().messages, 199);
    assert_eq!(client.ready("q"), 0);
    client.send("q", "new");
    client.channel.nack(held[1].tag, false, true).unwrap();
    client.channel.consume(&consumer("q", "d")).unwrap();
    assert_eq!(client.await_bodies(2), ["1", "new"]);
}

#[test]
fn the_memory_for_unacknowledged_messages_does_not_grow_behind_one_that_is_forgotten() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send("q", "forgotten");
    let forgotten = client.receive()[0].tag;
    for _ in 0..1000 {
        client.send("q", "x");
        let tag = client.receive()[0].tag;
        client.ack(tag);
    }
    assert!(client.channel.held_slots() < 200);
    client.ack(forgotten);
    assert_eq!(client.channel.held_slots(), 0);
}
