//! Direct reply-to: answers that need no queue.

use base64ct::{Base64, Encoding};

use super::*;

const DIRECT: &str = "amq.rabbitmq.reply-to";

fn replies(tag: &str) -> Consume {
    Consume { no_ack: true, ..consumer(DIRECT, tag) }
}

fn request() -> Properties {
    Properties { reply_to: Some(name(DIRECT)), correlation_id: Some(name("7")), ..persistent() }
}

/// What `reply-to` says in the one message of the queue.
fn take_reply_to(client: &mut Client, queue: &str) -> String {
    let Get::Message(delivery, 0) = client.channel.get(queue.as_bytes(), true).unwrap() else {
        panic!("nothing there");
    };
    let properties = Envelope::parse(delivery.message().header()).unwrap().properties;
    assert_eq!(properties.correlation_id(), Some(&b"7"[..]), "all else is as it was");
    let address = String::from_utf8(properties.reply_to().unwrap().to_vec()).unwrap();
    client.channel.accept(delivery);
    address
}

/// A client that consumes replies, with its address as the one that gets its request reads it.
fn asking(rig: &Rig) -> (Client, String) {
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("requests")).unwrap();
    client.channel.consume(&replies("r")).unwrap();
    let published = client.channel.publish(&message("", "requests", "?", &request())).unwrap();
    assert_eq!(published.queues, 1);
    client.channel.flush().unwrap();
    let address = take_reply_to(&mut client, "requests");
    (client, address)
}

/// How many channels got it.
fn reply(client: &mut Client, address: &str, body: &str) -> usize {
    let published = client.channel.publish(&message("", address, body, &persistent())).unwrap();
    assert_eq!(published.queues, 0);
    assert_eq!(published.is_unroutable(), published.replies == 0);
    published.replies
}

/// Tag of the consumer, and body.
fn received(client: &mut Client) -> Vec<(String, String)> {
    let events = client.events();
    let replies = events.into_iter().map(|event| {
        let Event::Reply { channel, consumer_tag, message } = event else { panic!("{event:?}") };
        assert_eq!(channel, client.channel.number());
        let expected = client.channel.next_delivery_tag();
        assert_eq!(client.channel.accept_reply(), expected);
        (consumer_tag.to_string(), String::from_utf8(message.body().to_vec()).unwrap())
    });
    replies.collect()
}

fn declare(client: &mut Client, name: &str, passive: bool) -> Result<QueueDeclared, Refusal> {
    client.channel.declare_queue(&DeclareQueue { passive, ..queue(name) })
}

#[test]
fn a_reply_goes_straight_to_the_channel_that_asked_in_order() {
    let rig = Rig::new();
    let (mut client, address) = asking(&rig);
    let mut server = rig.connect();
    assert_eq!(reply(&mut server, &address, "one"), 1);
    assert_eq!(reply(&mut server, &address, "two"), 1);
    let expected = [("r", "one"), ("r", "two")].map(|(tag, body)| (tag.into(), body.into()));
    assert_eq!(received(&mut client), expected);
    assert!(!server.has_events());
    assert_eq!(client.channel.consumers(), 1);
}

#[test]
fn a_reply_wakes_the_connection_that_waits_for_it() {
    let rig = Rig::new();
    let (client, address) = asking(&rig);
    let mut server = rig.connect();
    let (woken, waker) = woken();
    assert!(client.session.poll_events(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(reply(&mut server, &address, "x"), 1);
    assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst));
}

struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

fn woken() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken(false.into()));
    (Arc::clone(&woken), Waker::from(woken))
}

#[test]
fn addresses_belong_to_one_consumer_of_one_channel_and_differ() {
    let rig = Rig::new();
    let (mut first, of_first) = asking(&rig);
    let (mut second, of_second) = asking(&rig);
    assert_ne!(of_first, of_second);
    for address in [&of_first, &of_second] {
        // As RabbitMQ's: two parts in Base64, the second one of 16 bytes that cannot be guessed.
        let parts: Vec<_> = address["amq.rabbitmq.reply-to.".len()..].split('.').collect();
        let bytes: Vec<_> = parts.iter().map(|part| Base64::decode_vec(part).unwrap()).collect();
        assert_eq!(bytes.len(), 2, "{address}");
        assert_eq!(bytes[1].len(), 16);
        assert!(address.ends_with("=="));
    }
    assert_eq!(reply(&mut second, &of_first, "for the first"), 1);
    assert_eq!(received(&mut second), []);
    assert_eq!(received(&mut first), [("r".to_owned(), "for the first".to_owned())]);
    // Consuming again is another address.
    first.channel.cancel(b"r").unwrap();
    first.channel.consume(&replies("again")).unwrap();
    assert_eq!(reply(&mut second, &of_first, "too late"), 0);
    first.channel.publish(&message("", "requests", "?", &request())).unwrap();
    let again = take_reply_to(&mut first, "requests");
    assert!(![of_first, of_second].contains(&again));
    assert_eq!(reply(&mut second, &again, "in time"), 1);
    assert_eq!(received(&mut first), [("again".to_owned(), "in time".to_owned())]);
}

#[test]
fn what_cannot_be_is_refused_in_the_words_that_clients_know() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("q")).unwrap();
    let refused = |why: &str| (406, format!("PRECONDITION_FAILED - {why}"));
    assert_eq!(
        refusal(client.channel.publish(&message("", "q", "?", &request()))),
        refused("fast reply consumer does not exist")
    );
    assert_eq!(
        refusal(client.channel.consume(&consumer(DIRECT, "r"))),
        refused("reply consumer cannot acknowledge")
    );
    client.channel.consume(&replies("r")).unwrap();
    assert_eq!(
        refusal(client.channel.consume(&replies("other"))),
        refused("reply consumer already set")
    );
    let reused = (530, "NOT_ALLOWED - attempt to reuse consumer tag 'r'".to_owned());
    assert_eq!(refusal(client.channel.consume(&replies("r"))), reused);
    assert_eq!(refusal(client.channel.consume(&consumer("q", "r"))), reused);
    let mut other = client.session.open_channel(ChannelNumber(2));
    assert_eq!(
        refusal(other.publish(&message("", "q", "?", &request()))),
        refused("fast reply consumer does not exist"),
        "it is another channel's"
    );
    client.channel.cancel(b"r").unwrap();
    assert_eq!(
        refusal(client.channel.publish(&message("", "q", "?", &request()))),
        refused("fast reply consumer does not exist")
    );
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn whoever_is_to_answer_can_ask_whether_somebody_waits() {
    let rig = Rig::new();
    let (mut client, address) = asking(&rig);
    let mut server = rig.connect();
    for passive in [true, false] {
        let declared = declare(&mut server, &address, passive).unwrap();
        assert_eq!((declared.name.to_string(), declared.messages), (address.clone(), 0));
        assert_eq!((declared.consumers, declared.durable_at), (1, None));
        declare(&mut server, DIRECT, passive).unwrap();
        for nobody in
            ["amq.rabbitmq.reply-to.nobody", "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-tox"]
        {
            assert_eq!(
                refusal(declare(&mut server, nobody, passive)),
                (404, format!("NOT_FOUND - no queue '{nobody}' in vhost '/'"))
            );
        }
    }
    // For everything else there is no such queue.
    assert_eq!(refusal(server.channel.get(DIRECT.as_bytes(), true)).0, 404);
    assert_eq!(refusal(server.channel.bind(&binding("amq.direct", &address, "k"))).0, 404);
    assert_eq!(server.send(DIRECT, "not an address"), 0);
    client.channel.cancel(b"r").unwrap();
    assert_eq!(refusal(declare(&mut server, &address, true)).0, 404);
}

#[test]
fn a_reply_that_nobody_waits_for_is_unroutable_and_what_was_on_its_way_goes() {
    let rig = Rig::new();
    let mut server = rig.connect();
    // Cancelled, with a reply in the outbox.
    let (mut client, address) = asking(&rig);
    assert_eq!(reply(&mut server, &address, "on its way"), 1);
    client.channel.cancel(b"r").unwrap();
    assert_eq!(client.events().len(), 0);
    assert_eq!(reply(&mut server, &address, "late"), 0);
    // The channel closed.
    let (client, address) = asking(&rig);
    assert_eq!(reply(&mut server, &address, "on its way"), 1);
    let Client { channel, session } = client;
    drop(channel);
    let mut events = Vec::new();
    session.take_events(&mut events, usize::MAX);
    assert_eq!(events.len(), 0);
    assert_eq!(reply(&mut server, &address, "late"), 0);
    // The connection gone.
    let (client, address) = asking(&rig);
    drop(client);
    assert_eq!(reply(&mut server, &address, "late"), 0);
}

#[test]
fn a_reply_is_confirmed_at_once_and_nothing_of_it_is_stored() {
    let rig = Rig::new();
    let (mut client, address) = asking(&rig);
    let mut server = rig.connect();
    server.channel.confirm_select().unwrap();
    let durable = rig.broker.store().durable_lsn();
    assert_eq!(reply(&mut server, &address, "x"), 1);
    assert_eq!(server.channel.awaited_lsn(), None);
    let confirm = Confirm { tag: DeliveryTag(1), refused: false, multiple: false };
    // Its confirm can be sent first.
    assert_eq!(received(&mut client).len(), 0);
    assert_eq!(server.channel.confirms(durable), Some(confirm));
    server.channel.flush().unwrap();
    assert_eq!(received(&mut client).len(), 1);
    // When the channel goes, it is sent all the same.
    assert_eq!(reply(&mut server, &address, "x"), 1);
    drop(server);
    assert_eq!(received(&mut client).len(), 1);
}

#[test]
fn a_client_that_does_not_read_loses_replies_and_holds_nobody_up() {
    let rig = Rig::new();
    let (mut client, address) = asking(&rig);
    let mut server = rig.connect();
    let large = "x".repeat(1 << 20);
    let taken = (0..100).take_while(|_| reply(&mut server, &address, &large) == 1).count();
    assert_eq!(taken, 16, "as many as there is room for");
    // A consumer on the same connection is served when there is room again.
    client.channel.consume(&consumer("requests", "c")).unwrap();
    server.send("requests", "waits in its queue");
    assert_eq!(client.ready("requests"), 1);
    assert_eq!(received(&mut client).len(), taken);
    assert_eq!(bodies(&client.receive()), ["waits in its queue"]);
    assert_eq!(reply(&mut server, &address, "there is room"), 1);
}

#[test]
fn copies_reach_those_who_wait_for_replies_too() {
    let rig = Rig::new();
    let (mut client, address) = asking(&rig);
    let mut server = rig.connect();
    let keys =
        Value::Array(vec![Value::text(&address), Value::text(&address), Value::text("requests")]);
    let headers = Some(table(&[("BCC", keys)]));
    let copied = Properties { headers, ..persistent() };
    let published = server.channel.publish(&message("", &address, "x", &copied)).unwrap();
    server.channel.flush().unwrap();
    assert_eq!((published.queues, published.replies), (1, 1));
    let Some(Event::Reply { message, .. }) = client.events().pop() else { panic!("no reply") };
    let envelope = Envelope::parse(message.header()).unwrap();
    assert_eq!(envelope.routing_key, address.as_bytes());
    assert_eq!(envelope.properties.headers(), Some(crate::message::RawTable::EMPTY));
    assert_eq!(client.ready("requests"), 1);
    // Through any other exchange there is no way.
    let published = server
        .channel
        .publish(&super::message("amq.fanout", &address, "x", &persistent()))
        .unwrap();
    assert!(published.is_unroutable());
}

#[test]
fn an_answer_may_ask_in_turn() {
    let rig = Rig::new();
    let (mut client, address) = asking(&rig);
    let mut server = rig.connect();
    server.channel.consume(&replies("s")).unwrap();
    let published = server.channel.publish(&message("", &address, "?", &request())).unwrap();
    assert_eq!(published.replies, 1);
    let Some(Event::Reply { message, .. }) = client.events().pop() else { panic!("no reply") };
    let properties = Envelope::parse(message.header()).unwrap().properties;
    let back = String::from_utf8(properties.reply_to().unwrap().to_vec()).unwrap();
    assert_eq!(reply(&mut client, &back, "!"), 1);
    assert_eq!(received(&mut server), [("s".to_owned(), "!".to_owned())]);
}
