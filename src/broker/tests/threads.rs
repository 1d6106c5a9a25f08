//! Many connections at once, in threads of their own.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use super::*;

/// Consumes until `done`, returning some of the messages now and then; what was acknowledged.
fn work(rig: &Rig, prefetch: u16, done: &AtomicBool) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    let mut round = 0_u32;
    while !done.load(SeqCst) {
        let mut client = rig.connect();
        client.channel.qos(0, prefetch, round.is_multiple_of(2)).unwrap();
        client.channel.consume(&consumer("q", "c")).unwrap();
        for _ in 0..50 {
            for received in client.receive() {
                round += 1;
                if round.is_multiple_of(7) {
                    client.channel.nack(received.tag, false, true).unwrap();
                } else if !round.is_multiple_of(11) {
                    client.channel.ack(received.tag, false).unwrap();
                    acknowledged.push(received.body.parse().unwrap());
                }
            }
            client.channel.flush().unwrap();
            thread::yield_now();
        }
        if round.is_multiple_of(3) {
            client.channel.cancel(b"c").unwrap();
        }
        // The connection goes with what it still holds.
    }
    acknowledged
}

fn every_message_is_acknowledged_exactly_once(declare: &DeclareQueue) {
    const MESSAGES: u32 = 3000;
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(declare).unwrap();
    let done = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let workers: Vec<_> = [1, 5, 100]
            .map(|prefetch| {
                scope.spawn({
                    let (rig, done) = (&rig, &done);
                    move || work(rig, prefetch, done)
                })
            })
            .into_iter()
            .collect();
        for number in 0..MESSAGES {
            client.send_ranked("q", (number % 7) as u8, &number.to_string());
        }
        let begun = Instant::now();
        loop {
            let left = client.ready("q");
            // Nothing ready may also mean that workers hold the rest: ask a few times.
            if left == 0 && begun.elapsed() > Duration::from_millis(300) {
                thread::sleep(Duration::from_millis(200));
                if client.ready("q") == 0 {
                    break;
                }
            }
            assert!(begun.elapsed() < PATIENCE * 3, "{left} are left");
            thread::sleep(Duration::from_millis(10));
        }
        done.store(true, SeqCst);
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<u32>>()
    });
    let mut acknowledged = acknowledged;
    // Whatever workers held when they were told to stop is there again.
    while let Some((received, _)) = client.get("q") {
        acknowledged.push(received.body.parse().unwrap());
    }
    let distinct: HashSet<u32> = acknowledged.iter().copied().collect();
    assert_eq!(acknowledged.len(), MESSAGES as usize, "none twice");
    assert_eq!(distinct.len(), MESSAGES as usize, "none lost");
}

#[test]
fn workers_that_come_and_go_lose_nothing_of_a_durable_queue() {
    every_message_is_acknowledged_exactly_once(&durable("q"));
}

#[test]
fn workers_that_come_and_go_lose_nothing_of_a_transient_queue() {
    every_message_is_acknowledged_exactly_once(&queue("q"));
}

#[test]
fn workers_that_come_and_go_lose_nothing_of_a_queue_with_priorities() {
    every_message_is_acknowledged_exactly_once(&super::priorities::ranked("q", 5));
}

#[test]
fn workers_that_come_and_go_lose_nothing_of_a_queue_with_a_single_active_consumer() {
    let arguments = table(&[("x-single-active-consumer", Value::Bool(true))]);
    every_message_is_acknowledged_exactly_once(&DeclareQueue { arguments, ..durable("q") });
}

#[test]
fn declaring_consuming_and_deleting_at_the_same_time_ends_well() {
    let rig = Rig::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = rig.connect();
                for round in 0..200 {
                    let declare = DeclareQueue { auto_delete: true, ..durable("q") };
                    client.channel.declare_queue(&declare).unwrap();
                    client.channel.publish(&message("", "q", "x", &persistent())).unwrap();
                    // Another one may have deleted it in between.
                    if client.channel.bind(&binding("amq.fanout", "q", "")).is_ok()
                        && client.channel.consume(&consumer("q", "c")).is_ok()
                    {
                        for event in client.events() {
                            match event {
                                Event::Delivery { delivery, .. } => {
                                    client.accept(delivery);
                                }
                                Event::ConsumerCancelled { consumer_tag, .. } => {
                                    client.channel.forget_consumer(&consumer_tag);
                                }
                                Event::Reply { .. }
                                | Event::Got { .. }
                                | Event::GetRefused { .. } => {
                                    panic!("nobody asked")
                                }
                            }
                        }
                        client.channel.ack(DeliveryTag(0), true).unwrap();
                        client.channel.cancel(b"c").unwrap();
                    }
                    if round % 5 == 0 {
                        client.channel.delete_queue(b"q", false, false).unwrap();
                    }
                }
            });
        }
    });
    let mut client = rig.connect();
    client.channel.delete_queue(b"q", false, false).unwrap();
    assert_eq!(client.send("q", "x"), 0);
    assert_eq!(client.send_to("amq.fanout", "", "x"), 0);
}

#[test]
fn no_reply_comes_after_its_consumer_has_been_cancelled() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&queue("requests")).unwrap();
    let ask = Properties { reply_to: Some(name("amq.rabbitmq.reply-to")), ..Properties::default() };
    let (addresses, asked) = std::sync::mpsc::channel::<ShortStr>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut server = rig.connect();
            for address in asked {
                let key = String::from_utf8(address.to_vec()).unwrap();
                while !server
                    .channel
                    .publish(&message("", &key, &key, &Properties::default()))
                    .unwrap()
                    .is_unroutable()
                {}
            }
        });
        for _ in 0..200 {
            let replies = Consume { no_ack: true, ..consumer("amq.rabbitmq.reply-to", "r") };
            client.channel.consume(&replies).unwrap();
            let asked = client.channel.publish(&message("", "requests", "?", &ask)).unwrap();
            let rewritten = asked.rewritten.unwrap();
            let address = RawProperties::parse(&rewritten).unwrap().reply_to().unwrap().to_vec();
            addresses.send(ShortStr::copy_of(&address)).unwrap();
            while !client.has_events() {
                std::thread::yield_now();
            }
            for event in client.events() {
                let Event::Reply { message, .. } = event else { panic!("{event:?}") };
                assert_eq!(message.body(), &address[..]);
            }
            client.channel.cancel(b"r").unwrap();
            assert_eq!(client.events().len(), 0);
        }
        drop(addresses);
    });
}
