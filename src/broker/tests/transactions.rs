//! Transactions: nothing counts before the commit, everything does after it. What RabbitMQ 3.10 does was found out with it.

use super::*;

/// A client in a transaction, with a queue.
fn transactional(rig: &Rig, declare: &DeclareQueue) -> Client {
    let mut client = rig.connect();
    client.channel.declare_queue(declare).unwrap();
    client.channel.tx_select().unwrap();
    client
}

fn stage(client: &mut Client, exchange: &str, key: &str, body: &str) {
    let message = message(exchange, key, body, &persistent());
    client.channel.stage(&message, true).unwrap();
    client.channel.flush().unwrap();
}

/// The bodies of what is returned.
fn commit(client: &mut Client) -> Vec<String> {
    let returned = client.channel.tx_commit().unwrap().returned;
    assert!(!client.channel.has_staged());
    returned.iter().map(|message| String::from_utf8(message.body().to_vec()).unwrap()).collect()
}

/// Takes that many messages without acknowledging them.
fn take(client: &mut Client, queue: &str, count: usize) -> Vec<DeliveryTag> {
    (0..count).map(|_| client.get(queue).unwrap().0.tag).collect()
}

#[test]
fn what_is_published_is_there_after_the_commit_and_in_order() {
    for declare in [queue("q"), durable("q")] {
        let rig = Rig::new();
        let mut client = transactional(&rig, &declare);
        let mut other = rig.connect();
        other.channel.consume(&consumer("q", "c")).unwrap();
        for body in numbers(0..10) {
            stage(&mut client, "", "q", &body);
        }
        assert!(client.channel.has_staged() && !other.has_events());
        assert!(commit(&mut client).is_empty());
        assert_eq!(other.await_bodies(10), numbers(0..10));
    }
}

#[test]
fn a_rollback_drops_what_was_published_and_nothing_later() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    stage(&mut client, "", "q", "dropped");
    client.channel.tx_rollback().unwrap();
    stage(&mut client, "", "q", "kept");
    // Asking for a transaction again changes nothing.
    client.channel.tx_select().unwrap();
    commit(&mut client);
    let (received, left) = client.get("q").unwrap();
    assert_eq!((received.body.as_str(), left), ("kept", 0));
}

#[test]
fn a_commit_waits_for_the_disk_only_where_something_is_stored() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &durable("q"));
    assert_eq!(client.channel.tx_commit().unwrap().durable_at, None);
    stage(&mut client, "", "q", "1");
    let published_at = client.channel.tx_commit().unwrap().durable_at;
    assert!(published_at.is_some());
    let tag = take(&mut client, "q", 1)[0];
    client.ack(tag);
    assert!(client.channel.tx_commit().unwrap().durable_at > published_at);
}

#[test]
fn mandatory_messages_that_nobody_has_are_returned_at_the_commit() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    stage(&mut client, "", "nowhere", "1");
    stage(&mut client, "", "q", "2");
    stage(&mut client, "", "nowhere", "3");
    let careless = message("", "nowhere", "4", &persistent());
    client.channel.stage(&careless, false).unwrap();
    assert_eq!(commit(&mut client), ["1", "3"]);
    stage(&mut client, "", "nowhere", "5");
    client.channel.tx_rollback().unwrap();
    assert!(commit(&mut client).is_empty());
}

#[test]
fn a_message_goes_where_it_was_routed_when_it_was_published() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    for x in ["unbound", "deleted"] {
        client.channel.declare_exchange(&exchange(x, "fanout")).unwrap();
        client.channel.bind(&binding(x, "q", "")).unwrap();
        stage(&mut client, x, "", x);
    }
    client.channel.unbind(&binding("unbound", "q", "")).unwrap();
    client.channel.delete_exchange(b"deleted", false).unwrap();
    assert!(commit(&mut client).is_empty());
    assert_eq!(client.get("q").unwrap().0.body, "unbound");
    assert_eq!(client.get("q").unwrap().0.body, "deleted");
}

#[test]
fn a_queue_that_is_deleted_before_the_commit_gets_nothing_unless_it_is_declared_again() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    stage(&mut client, "", "q", "1");
    client.channel.delete_queue(b"q", false, false).unwrap();
    assert_eq!(commit(&mut client), ["1"]);
    client.channel.declare_queue(&queue("q")).unwrap();
    stage(&mut client, "", "q", "2");
    client.channel.delete_queue(b"q", false, false).unwrap();
    client.channel.declare_queue(&queue("q")).unwrap();
    assert!(commit(&mut client).is_empty());
    assert_eq!(client.ready("q"), 1);
}

#[test]
fn what_is_wrong_with_a_message_is_said_when_it_is_published() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    let missing = message("missing", "q", "", &persistent());
    assert_eq!(refusal(client.channel.stage(&missing, false)).0, 404);
    let claimed = Properties { user_id: Some(name("somebody")), ..persistent() };
    let forged = message("", "q", "", &claimed);
    assert_eq!(refusal(client.channel.stage(&forged, false)).0, 406);
    assert!(!client.channel.has_staged());
}

/// More than fits into a segment of the log, which is one MiB here, and queues that count.
#[test]
fn what_cannot_be_done_at_once_is_done_in_order() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &durable("q"));
    let counting = table(&[("x-max-length-bytes", Value::I32(1 << 20))]);
    let counting = DeclareQueue { arguments: counting, ..durable("counting") };
    client.channel.declare_queue(&counting).unwrap();
    rig.connect().send_numbers("counting", 0..2);
    let tag = take(&mut client, "counting", 1)[0];
    for n in 0..4 {
        stage(&mut client, "", "q", &format!("{n}{}", "x".repeat(400_000)));
    }
    client.channel.ack(tag, false).unwrap();
    commit(&mut client);
    assert_eq!((client.ready("q"), client.ready("counting")), (4, 1));
    let tags = take(&mut client, "counting", 1);
    client.channel.ack(tags[0], false).unwrap();
    stage(&mut client, "", "counting", "2");
    commit(&mut client);
    assert_eq!(client.ready("counting"), 1);
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    let bodies: Vec<String> = (0..4).map(|_| client.get("q").unwrap().0.body).collect();
    assert!(bodies.iter().zip(numbers(0..4)).all(|(body, n)| body.starts_with(&n)));
    assert_eq!(client.get("counting").unwrap().0.body, "2");
}

#[test]
fn messages_expire_in_a_transaction_as_outside() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &durable("q"));
    let ttl = table(&[("x-message-ttl", Value::I32(60_000))]);
    client.channel.declare_queue(&DeclareQueue { arguments: ttl, ..durable("ttl") }).unwrap();
    let spent = Properties { expiration: Some(name("0")), ..persistent() };
    for queue in ["q", "ttl"] {
        client.channel.stage(&message("", queue, "spent", &spent), true).unwrap();
        stage(&mut client, "", queue, "fresh");
    }
    assert!(commit(&mut client).is_empty());
    for queue in ["q", "ttl"] {
        assert_eq!(client.get(queue).unwrap().0.body, "fresh");
    }
}

#[test]
fn acknowledgements_count_at_the_commit_and_free_credit_then() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &durable("q"));
    let mut publisher = rig.connect();
    publisher.send_numbers("q", 0..3);
    client.channel.qos(0, 1, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let first = client.await_deliveries(1);
    client.ack(first[0].tag);
    assert!(!client.has_events());
    let again = refusal(client.channel.ack(first[0].tag, false));
    assert_eq!(again, (406, "PRECONDITION_FAILED - unknown delivery tag 1".to_owned()));
    commit(&mut client);
    assert_eq!(client.await_bodies(1), ["1"]);
}

#[test]
fn after_a_rollback_everything_can_be_acknowledged_again() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &durable("q"));
    rig.connect().send_numbers("q", 0..6);
    let tags = take(&mut client, "q", 6);
    client.channel.ack(tags[4], false).unwrap();
    client.channel.nack(tags[1], true, true).unwrap();
    client.channel.nack(tags[3], false, false).unwrap();
    client.channel.tx_rollback().unwrap();
    // In whatever order they came back, "all before it" is what it was.
    client.channel.ack(tags[2], true).unwrap();
    assert_eq!(refusal(client.channel.ack(tags[1], false)).0, 406);
    client.channel.ack(DeliveryTag(0), true).unwrap();
    commit(&mut client);
    assert_eq!(client.ready("q"), 0);
    drop(client);
    assert!(rig.restart().connect().get("q").is_none());
}

#[test]
fn what_a_commit_rejects_or_requeues_is_so_then() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    rig.connect().send_numbers("q", 0..4);
    let tags = take(&mut client, "q", 4);
    client.channel.nack(tags[0], false, false).unwrap();
    client.channel.nack(tags[2], true, true).unwrap();
    client.channel.ack(tags[3], false).unwrap();
    assert_eq!(client.ready("q"), 0);
    commit(&mut client);
    assert_eq!(client.ready("q"), 2);
    assert_eq!(client.get("q").unwrap().0.body, "1");
    let last = client.get("q").unwrap().0;
    assert_eq!((last.body.as_str(), last.redelivered), ("2", true));
}

#[test]
fn recovering_leaves_what_is_acknowledged_to_the_transaction() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    rig.connect().send_numbers("q", 0..3);
    let tags = take(&mut client, "q", 3);
    client.channel.ack(tags[0], false).unwrap();
    client.channel.recover(true).unwrap();
    assert_eq!(client.ready("q"), 2);
    client.channel.tx_rollback().unwrap();
    client.channel.ack(tags[0], false).unwrap();
    commit(&mut client);
    assert_eq!(client.ready("q"), 2);
}

#[test]
fn a_channel_that_goes_before_the_commit_has_done_nothing() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &durable("q"));
    rig.connect().send_numbers("q", 0..4);
    let tags = take(&mut client, "q", 3);
    stage(&mut client, "", "q", "never");
    client.channel.ack(tags[1], true).unwrap();
    client.channel.nack(tags[2], false, false).unwrap();
    drop(client);
    let mut next = rig.connect();
    next.channel.consume(&consumer("q", "c")).unwrap();
    let received = next.await_deliveries(4);
    assert_eq!(bodies(&received), numbers(0..4));
    assert_eq!(
        received.iter().map(|r| r.redelivered).collect::<Vec<_>>(),
        [true, true, true, false]
    );
    assert!(!next.has_events());
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    let rig = Rig::new();
    let mut one = transactional(&rig, &queue("q"));
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!(refusal(one.channel.confirm_select()), (406, text.to_owned()));
    let mut other = rig.connect();
    other.channel.confirm_select().unwrap();
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    assert_eq!(refusal(other.channel.tx_select()), (406, text.to_owned()));
    let text = "PRECONDITION_FAILED - channel is not transactional";
    assert_eq!(refusal(other.channel.tx_commit()), (406, text.to_owned()));
    assert_eq!(refusal(other.channel.tx_rollback()), (406, text.to_owned()));
}

#[test]
fn keys_copies_and_alternates_are_those_of_any_message() {
    let rig = Rig::new();
    let mut client = transactional(&rig, &queue("q"));
    client.channel.declare_queue(&queue("blind")).unwrap();
    let blind = Value::Array(vec![Value::LongStr("blind".into())]);
    let properties = Properties { headers: Some(table(&[("BCC", blind)])), ..persistent() };
    client.channel.stage(&message("", "q", "copied", &properties), true).unwrap();
    assert!(commit(&mut client).is_empty());
    for q in ["q", "blind"] {
        let Get::Message(delivery, 0) = client.channel.get(q.as_bytes(), false).unwrap() else {
            panic!("nothing in {q}");
        };
        let properties = Envelope::parse(delivery.message().header()).unwrap().properties;
        assert!(properties.headers().is_none_or(|headers| headers.get(b"BCC").is_none()));
        client.channel.accept(delivery);
    }
}

/// Nothing that is rolled back may be seen by anybody. (RabbitMQ sends a direct reply at once, whatever becomes of the transaction.)
#[test]
fn a_direct_reply_is_sent_with_the_commit() {
    let rig = Rig::new();
    let mut asking = rig.connect();
    let direct = "amq.rabbitmq.reply-to";
    let consume = Consume { no_ack: true, ..consumer(direct, "r") };
    asking.channel.consume(&consume).unwrap();
    asking.channel.declare_queue(&queue("requests")).unwrap();
    let request = Properties { reply_to: Some(name(direct)), ..persistent() };
    asking.channel.publish(&message("", "requests", "?", &request)).unwrap();
    let Get::Message(delivery, 0) = asking.channel.get(b"requests", true).unwrap() else {
        panic!("no request");
    };
    let properties = Envelope::parse(delivery.message().header()).unwrap().properties;
    let address = String::from_utf8(properties.reply_to().unwrap().to_vec()).unwrap();
    asking.channel.accept(delivery);
    let mut answering = transactional(&rig, &queue("q"));
    stage(&mut answering, "", &address, "no");
    answering.channel.tx_rollback().unwrap();
    stage(&mut answering, "", &address, "yes");
    assert!(!asking.has_events());
    assert!(commit(&mut answering).is_empty());
    let events = asking.events();
    let [Event::Reply { message, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(message.body(), &b"yes"[..]);
    asking.channel.accept_reply();
}

#[test]
fn what_transactions_of_a_connection_hold_is_bounded() {
    let limits = Limits { transaction: 10_000, ..Limits::default() };
    let rig = Rig::with_limits(limits);
    let mut client = transactional(&rig, &queue("q"));
    let mut second = client.session.open_channel(ChannelNumber(2));
    second.tx_select().unwrap();
    let large = message("", "q", &"x".repeat(4000), &persistent());
    client.channel.stage(&large, false).unwrap();
    second.stage(&large, false).unwrap();
    let (code, text) = refusal(second.stage(&large, false));
    assert_eq!(code, 406);
    assert!(text.starts_with("PRECONDITION_FAILED - messages of 12"), "{text}");
    assert!(text.ends_with("which may hold 10000: commit more often"), "{text}");
    // What has been committed, or has gone with its channel, does not count any more.
    commit(&mut client);
    second.stage(&large, false).unwrap();
    drop(second);
    client.channel.stage(&large, false).unwrap();
    client.channel.stage(&large, false).unwrap();
    let small = message("", "q", "", &persistent());
    let refused = (0..100).find(|_| client.channel.stage(&small, false).is_err());
    assert!(refused.is_some(), "messages without bodies take memory as well");
}

#[test]
fn priorities_count_in_a_transaction_and_after_it() {
    let rig = Rig::new();
    let priorities = table(&[("x-max-priority", Value::I32(5))]);
    let declare = DeclareQueue { arguments: priorities, ..durable("q") };
    let mut client = transactional(&rig, &declare);
    for priority in [1, 5, 0, 3] {
        let properties = Properties { priority: Some(priority), ..persistent() };
        let message = message("", "q", &priority.to_string(), &properties);
        client.channel.stage(&message, true).unwrap();
    }
    assert!(commit(&mut client).is_empty());
    let tags = take(&mut client, "q", 2);
    client.channel.ack(tags[1], true).unwrap();
    commit(&mut client);
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    assert_eq!(client.get("q").unwrap().0.body, "1");
    assert_eq!(client.get("q").unwrap().0.body, "0");
    assert!(client.get("q").is_none());
}
