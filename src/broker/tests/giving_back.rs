//! What is given back goes out again at once: out of memory, while it is not much.

use super::*;
use crate::storage::{Background, MOST_DELIVERIES, Sequence};

/// A broker for which nobody reads anything back from the log before it is [asked to](Rig::read).
fn unread(cache: u64) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let background = Background::Caller;
    let options = Options { segment_size: 4 << 20, cache, background, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    Rig { broker: Broker::open(store).unwrap(), dir }
}

/// The usual memory for messages.
fn in_memory() -> Rig {
    unread(Options::default().cache)
}

impl Rig {
    fn read(&self) -> bool {
        self.broker.work_off()
    }

    fn cached_bytes(&self) -> u64 {
        self.broker.store().cached_bytes()
    }
}

/// The bodies of what is there now, all of which was there before.
fn again(client: &mut Client) -> Vec<String> {
    let received = client.receive();
    assert!(received.iter().all(|received| received.redelivered), "{received:?}");
    received.into_iter().map(|received| received.body).collect()
}

/// A client that holds 0..5 of a durable queue.
fn holding(rig: &Rig) -> (Client, Vec<Received>) {
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send_numbers("q", 0..5);
    let received = client.receive();
    assert_eq!(received.len(), 5);
    (client, received)
}

/// It was read from the log's files, a millisecond later; a client that asked for it meanwhile, and went away again, did not
/// get it.
#[test]
fn what_is_given_back_is_there_at_once() {
    let rig = in_memory();
    let (mut client, received) = holding(&rig);
    let tag = |place: usize| received[place].tag;
    client.channel.nack(tag(1), false, true).unwrap();
    assert_eq!(again(&mut client), ["1"]);
    client.channel.nack(tag(3), true, true).unwrap();
    assert_eq!(again(&mut client), ["0", "2", "3"]);
    client.channel.ack(tag(4), false).unwrap();
    client.channel.recover(true).unwrap();
    assert_eq!(again(&mut client), numbers(0..4));

    let mut other = rig.connect();
    other.channel.consume(&consumer("q", "other")).unwrap();
    let Client { channel, session } = client;
    channel.close();
    assert_eq!(again(&mut other), numbers(0..4));
    drop(other);
    let mut client = Client { channel: session.open_channel(ChannelNumber(2)), session };
    let Get::Message(delivery, left) = client.channel.get(b"q", false).unwrap() else {
        panic!("it is in memory")
    };
    assert_eq!((client.accept(delivery).body.as_str(), left), ("0", 3));
    client.channel.recover(true).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(again(&mut client), numbers(0..4));
    assert!(!rig.read(), "nothing was to be read");

    // A message is in memory until it is acknowledged, and no longer.
    client.channel.cancel(b"c").unwrap();
    client.channel.recover(true).unwrap();
    assert!(rig.cached_bytes() > 0);
    assert_eq!(client.channel.purge_queue(b"q").unwrap().messages, 4);
    assert_eq!(rig.cached_bytes(), 0);
}

#[test]
fn what_is_given_back_again_and_again_is_never_read() {
    let rig = in_memory();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.qos(0, 1, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send_numbers("q", 0..50);
    for _ in 0..200 {
        let [received] = &client.receive()[..] else { panic!("one at a time") };
        assert_eq!(received.body, "0");
        client.channel.nack(received.tag, false, true).unwrap();
    }
    assert!(!rig.read());
    for number in 0..50 {
        let [received] = &client.receive()[..] else { panic!("one at a time") };
        assert_eq!(received.body, number.to_string());
        client.ack(received.tag);
    }
    assert_eq!(rig.cached_bytes(), 0);
}

/// kombu's own test of it, which failed nearly always: the new message was there before those that had come back.
#[test]
fn what_is_given_back_keeps_its_priority() {
    let rig = in_memory();
    let mut client = rig.connect();
    client.channel.declare_queue(&super::priorities::ranked("q", 10)).unwrap();
    for (priority, body) in [(3, "first"), (6, "second"), (9, "third")] {
        client.send_ranked("q", priority, body);
    }
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.receive();
    assert_eq!(bodies(&received), ["third", "second", "first"]);
    client.channel.cancel(b"c").unwrap();
    received.iter().for_each(|r| client.channel.nack(r.tag, false, true).unwrap());
    client.send_ranked("q", 9, "fourth");
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.receive();
    assert_eq!(bodies(&received), ["third", "fourth", "second", "first"]);
    let redelivered: Vec<_> = received.iter().map(|received| received.redelivered).collect();
    assert_eq!(redelivered, [true, false, true, true]);
}

#[test]
fn what_is_more_than_a_channel_keeps_is_read_from_the_log() {
    const MESSAGES: u32 = 1000;
    let rig = in_memory();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send_numbers("q", 0..MESSAGES);
    assert_eq!(client.receive().len(), MESSAGES as usize);
    client.channel.recover(true).unwrap();
    let mut received = again(&mut client);
    let at_once = received.len();
    assert!((100..500).contains(&at_once), "{at_once} were kept");
    while received.len() < MESSAGES as usize {
        assert!(rig.read(), "{} of {MESSAGES}", received.len());
        received.extend(again(&mut client));
    }
    assert_eq!(received, numbers(0..MESSAGES));
    client.channel.ack(DeliveryTag(0), true).unwrap();
    client.channel.flush().unwrap();
    assert_eq!((client.ready("q"), rig.cached_bytes()), (0, 0));
}

#[test]
fn each_message_comes_back_as_itself_whichever_of_them_are_kept() {
    let rig = in_memory();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.send_numbers("q", 0..300);
    let received = client.receive();
    // Some of the first are done with, and leave room for others, behind some for which there was none.
    client.channel.ack(received[99].tag, true).unwrap();
    client.ack(received[150].tag);
    client.send_numbers("q", 300..310);
    assert_eq!(client.receive().len(), 10);
    client.channel.recover(true).unwrap();
    let mut received = again(&mut client);
    assert_eq!(
        received,
        numbers(100..150).into_iter().chain(numbers(151..256)).collect::<Vec<_>>()
    );
    assert!(rig.read());
    received = again(&mut client);
    assert_eq!(received, numbers(256..310));
}

#[test]
fn where_there_is_no_memory_for_messages_none_is_kept() {
    let rig = unread(0);
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_numbers("q", 0..5);
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert!(rig.read());
    assert_eq!(client.receive().len(), 5);
    client.channel.recover(true).unwrap();
    assert!(client.receive().is_empty());
    assert!(rig.read());
    assert_eq!(again(&mut client), numbers(0..5));
}

#[test]
fn what_came_back_too_often_leaves_when_it_did_before() {
    let rig = in_memory();
    let mut client = rig.connect();
    let arguments = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::I32(2))];
    let quorum = DeclareQueue { arguments: table(&arguments), ..durable("q") };
    client.channel.declare_queue(&quorum).unwrap();
    client.send("q", "poison");
    client.channel.consume(&consumer("q", "c")).unwrap();
    for count in 0..3 {
        let Some(Event::Delivery { delivery, .. }) = client.events().pop() else {
            panic!("{count}")
        };
        let envelope = Envelope::parse(delivery.message().header()).unwrap();
        let rewritten = delivery.rewritten(&envelope.properties).unwrap();
        let headers = RawProperties::parse(&rewritten).unwrap().to_properties().headers.unwrap();
        assert_eq!(headers.get(b"x-delivery-count"), Some(&Value::I64(count)));
        client.accept(delivery);
        client.channel.recover(true).unwrap();
    }
    assert!(client.events().is_empty());
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn a_delivery_limit_beyond_what_is_counted_is_reached_at_the_largest_count() {
    let rig = in_memory();
    let mut client = rig.connect();
    let limit = Value::I64(1_000_000);
    let arguments = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", limit)];
    let quorum = DeclareQueue { arguments: table(&arguments), ..durable("q") };
    client.channel.declare_queue(&quorum).unwrap();
    client.send("q", "poison");
    let queue = rig.broker.store().queues().into_iter().find(|queue| queue.len() == 1).unwrap();
    queue.mark_delivered(&[(Sequence::FIRST, MOST_DELIVERIES)]).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    let received = client.receive();
    assert_eq!(received.len(), 1, "it may come back once more");
    client.channel.recover(true).unwrap();
    assert!(client.receive().is_empty());
    assert_eq!(client.ready("q"), 0);
}
