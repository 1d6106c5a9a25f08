//! The broker driven as a front end drives it, on a real store in a directory of its own.

mod accounting;
mod acknowledging;
mod alternates;
mod arguments;
mod at_least_once;
mod bounding;
mod confirming;
mod copying;
mod dead_letter_transfer;
mod dead_lettering;
mod dispatching;
mod expiring;
mod founding;
mod giving_back;
mod governing;
mod hosting;
mod leaving;
mod overflowing;
mod permissions;
mod pieces;
mod priorities;
mod reading_back;
mod replying;
mod restarting;
mod single_active;
mod threads;
mod timing_out;
mod topology;
mod transactions;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::message::{Envelope, FieldTable, Properties, RawProperties, ShortStr, Value};
use crate::storage::{Message, Options, Store};

/// Longer than any read from disk takes, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker on a store.
struct Rig {
    broker: Broker,
    dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(dir: TempDir) -> Self {
        Self::open(dir, Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        Self::open(tempfile::tempdir().unwrap(), limits)
    }

    fn open(dir: TempDir, limits: Limits) -> Self {
        let options = Options { segment_size: 1 << 20, ..Options::default() };
        let store = Store::open(dir.path().join("data"), options).unwrap();
        Self { broker: Broker::with_limits(store, limits).unwrap(), dir }
    }

    /// Stops cleanly and starts again. All clients must have gone.
    fn restart(self) -> Self {
        let Self { broker, dir } = self;
        let store = broker.store().clone();
        drop(broker);
        store.close().unwrap();
        Self::on(dir)
    }

    fn connect(&self) -> Client {
        let session = self.broker.connect(b"/", b"guest").unwrap();
        Client { channel: session.open_channel(ChannelNumber(1)), session }
    }
}

/// A connection with one channel.
struct Client {
    // Goes before the session, as a connection's channels do.
    channel: Channel,
    session: Session,
}

/// A delivery, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Received {
    consumer: String,
    tag: DeliveryTag,
    body: String,
    redelivered: bool,
}

fn name(text: &str) -> ShortStr {
    ShortStr::try_from(text).unwrap()
}

fn queue(text: &str) -> DeclareQueue {
    DeclareQueue {
        name: name(text),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::new(),
    }
}

fn durable(text: &str) -> DeclareQueue {
    DeclareQueue { durable: true, ..queue(text) }
}

fn exchange(text: &str, kind: &str) -> DeclareExchange {
    DeclareExchange {
        name: name(text),
        kind: name(kind),
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::new(),
    }
}

fn binding(source: &str, queue: &str, key: &str) -> Bind {
    Bind {
        source: name(source),
        kind: DestinationKind::Queue,
        destination: name(queue),
        routing_key: name(key),
        arguments: FieldTable::new(),
    }
}

fn consumer(queue: &str, tag: &str) -> Consume {
    Consume {
        queue: name(queue),
        consumer_tag: name(tag),
        no_ack: false,
        exclusive: false,
        arguments: FieldTable::new(),
    }
}

fn message(exchange: &str, key: &str, body: &str, properties: &Properties) -> Message {
    let properties = properties.to_bytes();
    let envelope = Envelope {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        properties: RawProperties::parse(&properties).unwrap(),
        published_at: None,
    };
    Message::new(envelope.to_bytes(), body)
}

fn persistent() -> Properties {
    Properties { delivery_mode: Some(2), ..Properties::default() }
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message().body().to_vec()).unwrap()
}

impl Client {
    /// Publishes through the default exchange.
    fn send(&mut self, queue: &str, body: &str) -> usize {
        self.send_to("", queue, body)
    }

    /// Publishes with a priority.
    fn send_ranked(&mut self, queue: &str, priority: u8, body: &str) {
        let properties = Properties { priority: Some(priority), ..persistent() };
        let message = message("", queue, body, &properties);
        assert_eq!(self.channel.publish(&message).unwrap().queues, 1);
        self.channel.flush().unwrap();
    }

    fn send_to(&mut self, exchange: &str, key: &str, body: &str) -> usize {
        let message = message(exchange, key, body, &persistent());
        let queues = self.channel.publish(&message).unwrap().queues;
        self.channel.flush().unwrap();
        queues
    }

    fn send_numbers(&mut self, queue: &str, numbers: std::ops::Range<u32>) {
        for number in numbers {
            assert_eq!(self.send(queue, &number.to_string()), 1);
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.session.take_events(&mut events, usize::MAX);
        events
    }

    /// Everything that is there now.
    fn receive(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        for event in self.events() {
            let Event::Delivery { delivery, .. } = event else { panic!("{event:?}") };
            received.push(self.accept(delivery));
        }
        self.channel.flush().unwrap();
        received
    }

    /// That many deliveries, also if they have to be read from disk first.
    fn await_deliveries(&mut self, count: usize) -> Vec<Received> {
        let begun = Instant::now();
        let mut received = Vec::new();
        while received.len() < count {
            assert!(begun.elapsed() < PATIENCE, "got only {} of {count}", received.len());
            received.extend(self.receive());
            std::thread::sleep(Duration::from_micros(100));
        }
        received
    }

    fn await_bodies(&mut self, count: usize) -> Vec<String> {
        self.await_deliveries(count).into_iter().map(|received| received.body).collect()
    }

    fn accept(&mut self, delivery: Delivery) -> Received {
        let consumer = String::from_utf8_lossy(delivery.consumer_tag()).into_owned();
        let (body, redelivered) = (body(&delivery), delivery.redelivered());
        let expected = self.channel.next_delivery_tag();
        let tag = self.channel.accept(delivery);
        assert_eq!(tag, expected);
        Received { consumer, tag, body, redelivered }
    }

    /// `basic.get`, waiting for the disk: the delivery, and how many are left.
    fn get(&mut self, queue: &str) -> Option<(Received, u32)> {
        let found = match self.channel.get(queue.as_bytes(), false).unwrap() {
            Get::Message(delivery, left) => Some((delivery, left)),
            Get::Empty => None,
            Get::Pending => {
                let begun = Instant::now();
                loop {
                    assert!(begun.elapsed() < PATIENCE, "no answer to basic.get");
                    match self.events().pop() {
                        Some(Event::Got { message, .. }) => break message,
                        Some(event) => panic!("{event:?}"),
                        None => std::thread::sleep(Duration::from_micros(100)),
                    }
                }
            }
        };
        found.map(|(delivery, left)| (self.accept(delivery), left))
    }

    fn ack(&mut self, tag: DeliveryTag) {
        self.channel.ack(tag, false).unwrap();
        self.channel.flush().unwrap();
    }

    fn has_events(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.session.poll_events(&mut context) == Poll::Ready(())
    }

    fn ready(&mut self, queue: &str) -> u32 {
        let passive = DeclareQueue { passive: true, ..super::tests::queue(queue) };
        self.channel.declare_queue(&passive).unwrap().messages
    }
}

/// Code and text of a refusal.
fn refusal<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> (u16, String) {
    let refusal = outcome.unwrap_err();
    (refusal.code(), refusal.text().to_owned())
}

fn table(entries: &[(&str, Value)]) -> FieldTable {
    entries.iter().map(|(key, value)| (name(key), value.clone())).collect()
}

fn bodies(received: &[Received]) -> Vec<&str> {
    received.iter().map(|received| received.body.as_str()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
