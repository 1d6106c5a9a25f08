//! Everything that can be done to a queue, by many at the same time: what was published is somewhere in the end, once, and what the
//! queue counts is what there is.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};
use crate::broker::queue::Queue;
use crate::storage::Options;

/// Where messages have gone, of which nothing is left to be seen.
#[derive(Default)]
struct Tally {
    published: AtomicU32,
    gone: AtomicU32,
    running: AtomicUsize,
}

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn publish(client: &mut Client, dice: &mut Dice, tally: &Tally) {
    let transactional = client.channel.is_transactional();
    let count = 1 + dice.roll(30) as u32;
    for _ in 0..count {
        let expiration = (dice.roll(4) == 0).then(|| name(&dice.roll(30).to_string()));
        let properties =
            Properties { priority: Some(dice.roll(7) as u8), expiration, ..persistent() };
        let message = message("", "q", &"x".repeat(dice.roll(300) as usize), &properties);
        if transactional {
            client.channel.stage(&message, false).unwrap();
        } else {
            client.channel.publish(&message).unwrap();
        }
    }
    if !transactional || !roll_back(client, dice) {
        tally.published.fetch_add(count, SeqCst);
    }
    client.channel.flush().unwrap();
}

/// Ends a transaction one way or the other.
fn roll_back(client: &mut Client, dice: &mut Dice) -> bool {
    let back = dice.roll(4) == 0;
    if back {
        client.channel.tx_rollback().unwrap();
    } else {
        client.channel.tx_commit().unwrap();
    }
    back
}

/// Acknowledges, rejects or requeues, or says nothing.
fn settle(client: &mut Client, dice: &mut Dice, tally: &Tally, received: Vec<Received>) {
    let transactional = client.channel.is_transactional();
    let mut acknowledged = 0;
    for received in received {
        match dice.roll(8) {
            0..3 => {
                client.channel.ack(received.tag, false).unwrap();
                acknowledged += 1;
            }
            3..5 => client.channel.nack(received.tag, false, false).unwrap(),
            5..7 => client.channel.nack(received.tag, false, true).unwrap(),
            _ => {}
        }
    }
    if !transactional || !roll_back(client, dice) {
        tally.gone.fetch_add(acknowledged, SeqCst);
    }
    client.channel.flush().unwrap();
}

fn received(client: &mut Client) -> Vec<Received> {
    let mut received = Vec::new();
    for event in client.events() {
        match event {
            Event::Delivery { delivery, .. } | Event::Got { message: Some((delivery, _)), .. } => {
                received.push(client.accept(delivery));
            }
            Event::Got { message: None, .. } => {}
            event => panic!("{event:?}"),
        }
    }
    client.channel.flush().unwrap();
    received
}

fn work(rig: &Rig, seed: u64, tally: &Tally) {
    let mut dice = Dice(seed);
    for _ in 0..12 {
        let mut client = rig.connect();
        if dice.roll(3) == 0 {
            client.channel.tx_select().unwrap();
        }
        client.channel.qos(0, dice.roll(40) as u16, dice.roll(2) == 0).unwrap();
        let consumes = dice.roll(3) > 0;
        if consumes {
            client.channel.consume(&consumer("q", "c")).unwrap();
        }
        for _ in 0..25 {
            match dice.roll(20) {
                0..8 => publish(&mut client, &mut dice, tally),
                8..10 => {
                    if let Get::Message(delivery, _) = client.channel.get(b"q", false).unwrap() {
                        let received = client.accept(delivery);
                        settle(&mut client, &mut dice, tally, vec![received]);
                    }
                }
                10 if dice.roll(4) == 0 => {
                    tally
                        .gone
                        .fetch_add(client.channel.purge_queue(b"q").unwrap().messages, SeqCst);
                }
                _ => {
                    let received = received(&mut client);
                    settle(&mut client, &mut dice, tally, received);
                }
            }
            thread::yield_now();
        }
        if consumes && dice.roll(2) == 0 {
            client.channel.cancel(b"c").unwrap();
        }
    }
    tally.running.fetch_sub(1, SeqCst);
}

/// Policies come and go meanwhile.
fn govern(rig: &Rig, tally: &Tally) {
    let mut dice = Dice(7);
    while tally.running.load(SeqCst) > 0 {
        let definition = match dice.roll(5) {
            0 => table(&[("max-length", Value::I32(100))]),
            1 => table(&[("max-length-bytes", Value::I32(10_000))]),
            2 => table(&[("message-ttl", Value::I32(5))]),
            _ => table(&[("expires", Value::I32(1_000_000))]),
        };
        let policy =
            Policy::new(PolicyKind::User, name("p"), "^q$", ApplyTo::Queues, 0, definition);
        rig.broker.administer().set_policy(&name("/"), policy.unwrap()).unwrap();
        thread::sleep(Duration::from_millis(dice.roll(20)));
    }
    rig.broker.administer().delete_policy(&name("/"), PolicyKind::User, &name("p")).unwrap();
}

fn queue_of(rig: &Rig) -> Arc<Queue> {
    let host = rig.broker.inner.virtual_hosts.read()[&name("/")].clone();
    let topology = host.topology.read();
    topology.queue(b"q").unwrap().clone()
}

fn everything_is_somewhere_once(arguments: &[(&str, Value)], cache: u64) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 1 << 20, cache, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    let rig = Rig { broker: Broker::open(store).unwrap(), dir };
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("dead")).unwrap();
    let mut all = table(arguments);
    for (argument, value) in [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")]
    {
        all.push(name(argument), Value::text(value));
    }
    client.channel.declare_queue(&DeclareQueue { arguments: all, ..durable("q") }).unwrap();
    let tally = Tally::default();
    let workers = 4;
    tally.running.store(workers, SeqCst);
    thread::scope(|scope| {
        scope.spawn(|| govern(&rig, &tally));
        for worker in 0..workers {
            let (rig, tally) = (&rig, &tally);
            scope.spawn(move || work(rig, 11 + worker as u64, tally));
        }
    });
    let queue = queue_of(&rig);
    let begun = Instant::now();
    // What expires by itself may take a moment, and so may the carrier.
    let (published, gone) = (tally.published.load(SeqCst), tally.gone.load(SeqCst));
    let counts = |client: &mut Client| (client.ready("q"), client.ready("dead"));
    loop {
        let (ready, dead) = counts(&mut client);
        if ready + dead + gone == published && queue.letters() == 0 {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{published} published, {gone} gone, {ready} left, {dead} dead, {} live, {} letters",
            queue.store().len(),
            queue.letters(),
        );
        thread::sleep(Duration::from_millis(10));
    }
    // And each of them can be had.
    client.channel.consume(&consumer("q", "c")).unwrap();
    client.channel.consume(&consumer("dead", "d")).unwrap();
    assert_eq!(
        client.await_deliveries((published - gone) as usize).len(),
        (published - gone) as usize
    );
    client.channel.ack(DeliveryTag(0), true).unwrap();
    client.channel.flush().unwrap();
    assert_eq!(queue.store().len(), 0);
}

#[test]
fn in_a_queue() {
    everything_is_somewhere_once(&[], 64 << 20);
}

#[test]
fn in_a_queue_that_is_mostly_on_disk() {
    everything_is_somewhere_once(&[], 0);
}

#[test]
fn in_a_queue_with_bounds() {
    let bounds = [("x-max-length-bytes", Value::I32(20_000)), ("x-message-ttl", Value::I32(200))];
    everything_is_somewhere_once(&bounds, 0);
}

#[test]
fn in_a_queue_with_priorities() {
    everything_is_somewhere_once(&[("x-max-priority", Value::U8(5))], 0);
}

#[test]
fn in_a_queue_with_a_delivery_limit() {
    let limit = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::U8(2))];
    everything_is_somewhere_once(&limit, 0);
}

#[test]
fn in_a_queue_with_a_single_active_consumer() {
    everything_is_somewhere_once(&[("x-single-active-consumer", Value::Bool(true))], 0);
}
