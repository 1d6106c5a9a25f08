//! Queues with priorities against a list that is sorted: whatever is done to them, the next message is the same.

use std::collections::BTreeMap;

use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};

use super::*;
use crate::storage::Background;

/// The highest priority of the queue.
const MAX: u8 = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many messages, of priorities from this one on.
    Publish {
        priority: u8,
        persistent: bool,
        count: u8,
    },
    Get,
    /// One of those that are held, by what is left of the number.
    Acknowledge(u8),
    Requeue(u8),
    /// All that are held.
    Recover,
    Consume,
    Cancel,
    Purge,
    Restart,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        // A restart takes longer than all the others together.
        match u8::arbitrary(g) % 64 {
            0..20 => Self::Publish {
                priority: u8::arbitrary(g) % (MAX + 2),
                persistent: bool::arbitrary(g),
                count: u8::arbitrary(g) % 4 + 1,
            },
            20..32 => Self::Get,
            32..43 => Self::Acknowledge(u8::arbitrary(g)),
            43..54 => Self::Requeue(u8::arbitrary(g)),
            54 | 55 => Self::Recover,
            56..59 => Self::Consume,
            59 | 60 => Self::Cancel,
            61 | 62 => Self::Purge,
            _ => Self::Restart,
        }
    }
}

/// Where a message belongs: the lower the earlier.
type Order = (u8, u32);

/// What the queue should be.
#[derive(Debug, Default)]
struct Model {
    published: u32,
    /// Bodies, and whether they survive a restart.
    ready: BTreeMap<Order, (String, bool)>,
    held: Vec<(DeliveryTag, Order, (String, bool))>,
    /// Who consumes takes whatever comes first as soon as it holds nothing.
    consumes: bool,
    /// What the consumer holds.
    consumed: Option<DeliveryTag>,
}

impl Model {
    fn take(&mut self, received: &Received) {
        let (order, message) = self.ready.pop_first().expect("there is one");
        assert_eq!(received.body, message.0);
        self.held.push((received.tag, order, message));
    }

    fn release(&mut self, place: usize) -> (DeliveryTag, Order, (String, bool)) {
        let released = self.held.remove(place);
        self.consumed = self.consumed.filter(|tag| *tag != released.0);
        released
    }
}

/// A broker that does all in the caller's thread, so that nothing depends on what is read first.
struct Run {
    rig: Rig,
    client: Client,
    model: Model,
    cache: u64,
}

fn rig(dir: TempDir, cache: u64) -> Rig {
    let background = Background::Caller;
    let options = Options { segment_size: 1 << 20, cache, background, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    Rig { broker: Broker::open(store).unwrap(), dir }
}

impl Run {
    fn new(cache: u64) -> Self {
        let rig = rig(tempfile::tempdir().unwrap(), cache);
        let mut client = rig.connect();
        client.channel.declare_queue(&ranked("q", MAX.into())).unwrap();
        client.channel.qos(0, 1, false).unwrap();
        Self { rig, client, model: Model::default(), cache }
    }

    fn publish(&mut self, priority: u8, persistent: bool) {
        let body = self.model.published.to_string();
        let delivery_mode = Some(if persistent { 2 } else { 1 });
        let properties =
            Properties { priority: Some(priority), delivery_mode, ..Properties::default() };
        self.client.channel.publish(&message("", "q", &body, &properties)).unwrap();
        let order = (MAX - priority.min(MAX), self.model.published);
        self.model.ready.insert(order, (body, persistent));
        self.model.published += 1;
    }

    fn get(&mut self) {
        let mut got = self.client.channel.get(b"q", false).unwrap();
        if matches!(got, Get::Pending) {
            self.rig.broker.work_off();
            let Some(Event::Got { message, .. }) = self.client.events().pop() else {
                panic!("no answer to basic.get")
            };
            got = message.map_or(Get::Empty, |(delivery, left)| Get::Message(delivery, left));
        }
        match got {
            Get::Message(delivery, left) => {
                let received = self.client.accept(delivery);
                self.client.channel.flush().unwrap();
                self.model.take(&received);
                assert_eq!(left as usize, self.model.ready.len());
            }
            _ => assert!(self.model.ready.is_empty(), "{:?}", self.model),
        }
    }

    fn restart(self) -> Self {
        let Self { rig: Rig { broker, dir }, client, mut model, cache } = self;
        drop(client);
        let store = broker.store().clone();
        drop(broker);
        store.close().unwrap();
        let rig = rig(dir, cache);
        let client = rig.connect();
        for (_, order, message) in model.held.drain(..) {
            model.ready.insert(order, message);
        }
        model.ready.retain(|_, (_, persistent)| *persistent);
        model.consumes = false;
        model.consumed = None;
        let mut run = Self { rig, client, model, cache };
        run.client.channel.qos(0, 1, false).unwrap();
        run
    }

    fn step(mut self, step: Step) -> Self {
        match step {
            Step::Publish { priority, persistent, count } => {
                (0..count).for_each(|more| self.publish((priority + more) % (MAX + 2), persistent));
            }
            // Answers would come between what the consumer gets.
            Step::Get if !self.model.consumes => self.get(),
            Step::Acknowledge(which) | Step::Requeue(which) if !self.model.held.is_empty() => {
                let place = usize::from(which) % self.model.held.len();
                let (tag, order, message) = self.model.release(place);
                if matches!(step, Step::Requeue(_)) {
                    self.model.ready.insert(order, message);
                    self.client.channel.nack(tag, false, true).unwrap();
                } else {
                    self.client.channel.ack(tag, false).unwrap();
                }
            }
            Step::Recover => {
                for (_, order, message) in self.model.held.drain(..) {
                    self.model.ready.insert(order, message);
                }
                self.model.consumed = None;
                self.client.channel.recover(true).unwrap();
            }
            Step::Consume if !self.model.consumes => {
                self.client.channel.consume(&consumer("q", "c")).unwrap();
                self.model.consumes = true;
            }
            Step::Cancel => {
                self.client.channel.cancel(b"c").unwrap();
                self.model.consumes = false;
                self.model.consumed = None;
            }
            Step::Purge => {
                let purged = self.client.channel.purge_queue(b"q").unwrap();
                assert_eq!(purged.messages as usize, self.model.ready.len());
                self.model.ready.clear();
            }
            Step::Restart => self = self.restart(),
            Step::Get | Step::Acknowledge(_) | Step::Requeue(_) | Step::Consume => {}
        }
        self.client.channel.flush().unwrap();
        while self.rig.broker.work_off() {}
        if self.model.consumes && self.model.consumed.is_none() {
            let received = self.client.receive();
            assert_eq!(received.len(), self.model.ready.len().min(1), "{:?}", self.model);
            if let [received] = &received[..] {
                self.model.take(received);
                self.model.consumed = Some(received.tag);
            }
        }
        assert!(!self.client.has_events());
        assert_eq!(self.client.ready("q") as usize, self.model.ready.len());
        self
    }
}

#[test]
fn whatever_is_done_the_next_message_is_the_oldest_of_the_highest_priority() {
    fn check(steps: Vec<Step>, in_memory: bool) -> TestResult {
        let mut run = Run::new(if in_memory { 1 << 20 } else { 0 });
        for step in steps {
            run = run.step(step);
        }
        TestResult::passed()
    }
    QuickCheck::new().tests(20).quickcheck(check as fn(Vec<Step>, bool) -> TestResult);
}
