//! The attacks: each does as much as one client can, and returns how many of its operations were answered.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BufMut;
use haypile::amqp::codec::{FRAME_END, Method, put_body_frame_header};
use haypile::message::{FieldTable, Properties, RawTable, ShortStr, Value};

use super::support::Outcome;
use super::support::client::{
    Client, FRAME, Place, begun, bind, consume, declare, delete, fill, publish_confirmed, take,
    with_exchange,
};

/// The sizes of the attacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Bindings of the topic exchange, of the queue that is deleted, and of the headers exchange.
    pub(crate) topics: u32,
    pub(crate) bindings: u32,
    pub(crate) headers: u32,
    /// Connections with 1,000 consumers on each of 10 channels.
    pub(crate) consumers: u32,
    /// Sockets with wrong passwords, silent ones, and connections with half a message.
    pub(crate) passwords: u32,
    pub(crate) silent: u32,
    pub(crate) halves: u32,
    /// Bytes of half a message.
    pub(crate) half: usize,
    /// Messages of 64 KiB that one publisher sends and does not wait for.
    pub(crate) flood: u32,
    /// Queues with arguments of 100 KiB.
    pub(crate) arguments: u32,
    /// Messages that are acknowledged, given back or deleted with one method.
    pub(crate) messages: u32,
    /// The time of the attacks that have no end of their own.
    pub(crate) time: Duration,
}

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    Idle,
    Topics,
    Delete,
    Consumers,
    Passwords,
    Silent,
    Halves,
    Flood,
    Headers,
    Arguments,
    Settle,
    Commit,
    Transient,
    All,
}

impl Attack {
    pub(crate) const EACH: [Attack; 14] = [
        Attack::Idle,
        Attack::Topics,
        Attack::Delete,
        Attack::Consumers,
        Attack::Passwords,
        Attack::Silent,
        Attack::Halves,
        Attack::Flood,
        Attack::Headers,
        Attack::Arguments,
        Attack::Settle,
        Attack::Commit,
        Attack::Transient,
        Attack::All,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Attack::Idle => "none",
            Attack::Topics => "topics",
            Attack::Delete => "delete",
            Attack::Consumers => "consumers",
            Attack::Passwords => "passwords",
            Attack::Silent => "silent",
            Attack::Halves => "halves",
            Attack::Flood => "flood",
            Attack::Headers => "headers",
            Attack::Arguments => "arguments",
            Attack::Settle => "settle",
            Attack::Commit => "commit",
            Attack::Transient => "transient",
            Attack::All => "all",
        }
    }

    /// Attacks until it is over.
    pub(crate) fn run(self, place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
        match self {
            Attack::Idle => {
                thread::sleep(sizes.time);
                Ok(0)
            }
            Attack::Topics => topics(place, sizes),
            Attack::Delete => delete_bound(place, sizes),
            Attack::Consumers => close_consumers(place, sizes),
            Attack::Passwords => many(sizes.passwords, |n| guess(place, n, sizes)),
            Attack::Silent => many(sizes.silent, |_| stay_silent(place, sizes)),
            Attack::Halves => many(sizes.halves, |n| send_half(place, n, sizes)),
            Attack::Flood => flood(place, sizes),
            Attack::Headers => headers(place, sizes),
            Attack::Arguments => declare_with_arguments(place, sizes),
            Attack::Settle => settle(place, sizes),
            Attack::Commit => commit(place, sizes),
            Attack::Transient => delete_full(place, sizes),
            Attack::All => {
                let each = Attack::EACH.into_iter().filter(|one| *one != Attack::All);
                at_once(each.map(|one| move || one.run(place, sizes)))
            }
        }
    }
}

/// Runs functions at the same time, and adds up what they return.
fn at_once(all: impl Iterator<Item = impl FnOnce() -> Outcome<u64> + Send>) -> Outcome<u64> {
    thread::scope(|scope| {
        let all: Vec<_> =
            all.map(|one| scope.spawn(move || one().map_err(|error| error.to_string()))).collect();
        let mut sum = 0;
        for one in all {
            sum += one.join().map_err(|_| "an attack panicked")??;
        }
        Ok(sum)
    })
}

fn many(count: u32, one: impl Fn(u32) -> Outcome<u64> + Sync) -> Outcome<u64> {
    let one = &one;
    at_once((0..count).map(|n| move || one(n)))
}

/// `count` words, none of them chosen: a linear congruential generator.
fn words(seed: u32, count: u32, from: &[&str]) -> String {
    let mut state = u64::from(seed) + 1;
    let words: Vec<_> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            from[(state >> 33) as usize % from.len()]
        })
        .collect();
    words.join(".")
}

/// Bindings of 60 words that match in very many ways, and eight messages.
fn topics(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let name = "attack.topics";
    let mut client = with_exchange(place, name, "topic")?;
    let patterns: Vec<_> = (0..sizes.topics).map(|n| words(n, 60, &["#", "*", "a"])).collect();
    client.send_all(patterns.iter().map(|key| bind(name, name, key, RawTable::EMPTY)))?;
    let key = words(0, 60, &["a"]);
    publish_confirmed(&mut client, name, &key, &Properties::default(), 8)?;
    client.call(&delete(name), "queue.delete-ok")?;
    Ok(9)
}

/// A queue with many bindings, which is deleted.
fn delete_bound(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let name = "attack.delete";
    let mut client = with_exchange(place, name, "direct")?;
    let keys: Vec<_> = (0..sizes.bindings).map(|n| format!("key.{n}")).collect();
    client.send_all(keys.iter().map(|key| bind(name, name, key, RawTable::EMPTY)))?;
    client.call(&delete(name), "queue.delete-ok")?;
    Ok(1)
}

/// Connections with 10,000 consumers each, which are closed at the same time.
fn close_consumers(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let name = "attack.consumers";
    let mut first = Client::open(place)?;
    first.call(&declare(name, RawTable::EMPTY), "queue.declare-ok")?;
    let tags: Vec<_> = (0..10_000).map(|n| format!("consumer {n}")).collect();
    let mut clients = Vec::new();
    for _ in 0..sizes.consumers {
        let mut client = Client::open(place)?;
        client.send_all(tags.iter().map(|tag| consume(name, tag, false)))?;
        client.call(&declare(name, RawTable::EMPTY), "queue.declare-ok")?;
        clients.push(client);
    }
    drop(clients);
    first.call(&delete(name), "queue.delete-ok")?;
    Ok(1 + u64::from(sizes.consumers))
}

/// One wrong password after the other, of users that there are and of others.
fn guess(place: Place<'_>, socket: u32, sizes: Sizes) -> Outcome<u64> {
    let (begun, mut guesses) = (Instant::now(), 0);
    while begun.elapsed() < sizes.time {
        let user = if socket.is_multiple_of(2) { "guest" } else { "nobody" };
        // The server may be full of them, and close the socket at once.
        if let Ok(true) =
            Client::connect(place.address)?.log_in(user, &format!("{socket} {guesses}"))
        {
            return Err("a wrong password was accepted".into());
        }
        guesses += 1;
    }
    Ok(guesses)
}

/// A socket that sends nothing, and is made anew when the server closes it.
fn stay_silent(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let begun = Instant::now();
    while begun.elapsed() < sizes.time {
        let mut client = Client::connect(place.address)?;
        let left = sizes.time.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        client.stream.set_read_timeout(Some(left))?;
        // That it is closed, or that the time is over.
        client.frame().err();
    }
    Ok(1)
}

/// A message of 100 MiB of which a part is sent, and no more.
fn send_half(place: Place<'_>, number: u32, sizes: Sizes) -> Outcome<u64> {
    let queue = format!("attack.half.{number}");
    let mut client = Client::open(place)?;
    client.call(&declare(&queue, RawTable::EMPTY), "queue.declare-ok")?;
    let mut out = begun("", &queue, Properties::default(), 100 << 20)?;
    client.stream.write_all(&out)?;
    let part = vec![7; FRAME as usize - 8];
    for _ in 0..sizes.half / part.len() {
        out.clear();
        put_body_frame_header(&mut out, 1, u32::try_from(part.len())?);
        out.put_slice(&part);
        out.put_u8(FRAME_END);
        client.stream.write_all(&out)?;
    }
    thread::sleep(sizes.time);
    drop(client);
    Client::open(place)?.call(&delete(&queue), "queue.delete-ok")?;
    Ok(2)
}

/// A publisher that sends faster than the log is written, and is held back.
fn flood(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let name = "attack.flood";
    let mut client = Client::open(place)?;
    let arguments: FieldTable =
        [(ShortStr::from_static("x-max-length"), Value::I32(100))].into_iter().collect();
    let arguments = arguments.to_bytes();
    client.call(&declare(name, RawTable::parse(&arguments)?), "queue.declare-ok")?;
    let body = vec![7; 64 << 10];
    for _ in 0..sizes.flood {
        client.publish("", name, Properties::default(), &body)?;
    }
    client.call(&delete(name), "queue.delete-ok")?;
    Ok(2)
}

/// Bindings that match by many headers, and a hundred messages that have them.
fn headers(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let name = "attack.headers";
    let mut client = with_exchange(place, name, "headers")?;
    let table = |different: u32| -> FieldTable {
        let entry = |n: u32| {
            let value = if n == 59 { i64::from(different) } else { 0 };
            (ShortStr::copy_of(format!("header {n}").as_bytes()), Value::I64(value))
        };
        (0..60).map(entry).collect()
    };
    let tables: Vec<_> = (0..sizes.headers).map(|n| table(n).to_bytes()).collect();
    let tables: Result<Vec<_>, _> = tables.iter().map(|table| RawTable::parse(table)).collect();
    client.send_all(tables?.into_iter().map(|table| bind(name, name, "", table)))?;
    let properties = Properties { headers: Some(table(u32::MAX)), ..Properties::default() };
    publish_confirmed(&mut client, name, "", &properties, 100)?;
    client.call(&delete(name), "queue.delete-ok")?;
    Ok(101)
}

/// Queues with arguments that mean nothing and are as large as a frame allows.
fn declare_with_arguments(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let mut client = Client::open(place)?;
    let arguments: FieldTable =
        [(ShortStr::from_static("x-note"), Value::text(&"n".repeat(100 << 10)))]
            .into_iter()
            .collect();
    let arguments = arguments.to_bytes();
    let arguments = RawTable::parse(&arguments)?;
    let queues: Vec<_> = (0..sizes.arguments).map(|n| format!("attack.arguments.{n}")).collect();
    for queue in &queues {
        client.call(&declare(queue, arguments), "queue.declare-ok")?;
    }
    for queue in &queues {
        client.call(&delete(queue), "queue.delete-ok")?;
    }
    Ok(2 * u64::from(sizes.arguments))
}

/// One consumer gets many messages, gives all of them back, rejects half and acknowledges the others, with one method each.
fn settle(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let (queue, count) = ("attack.settle", sizes.messages);
    let mut client = Client::open(place)?;
    client.call(&declare(queue, RawTable::EMPTY), "queue.declare-ok")?;
    fill(&mut client, queue, count)?;
    client.send_all([consume(queue, "settle", false)].into_iter())?;
    take(&mut client, count)?;
    client.send(1, &Method::BasicNack { delivery_tag: 0, multiple: true, requeue: true })?;
    take(&mut client, count)?;
    let half = u64::from(count) + u64::from(count / 2);
    client.send(1, &Method::BasicNack { delivery_tag: half, multiple: true, requeue: false })?;
    client.send(1, &Method::BasicAck { delivery_tag: 0, multiple: true })?;
    client.call(&delete(queue), "queue.delete-ok")?;
    Ok(1)
}

/// The same in a transaction.
fn commit(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let (queue, count) = ("attack.commit", sizes.messages);
    let mut client = Client::open(place)?;
    client.call(&declare(queue, RawTable::EMPTY), "queue.declare-ok")?;
    fill(&mut client, queue, count)?;
    client.call(&Method::TxSelect {}, "tx.select-ok")?;
    client.send_all([consume(queue, "commit", false)].into_iter())?;
    take(&mut client, count)?;
    client.send(1, &Method::BasicNack { delivery_tag: 0, multiple: true, requeue: true })?;
    client.call(&Method::TxCommit {}, "tx.commit-ok")?;
    take(&mut client, count)?;
    client.send(1, &Method::BasicAck { delivery_tag: 0, multiple: true })?;
    client.call(&Method::TxCommit {}, "tx.commit-ok")?;
    client.call(&delete(queue), "queue.delete-ok")?;
    Ok(3)
}

/// A queue in memory is filled and deleted.
fn delete_full(place: Place<'_>, sizes: Sizes) -> Outcome<u64> {
    let queue = "attack.transient";
    let mut client = Client::open(place)?;
    let mut declare = declare(queue, RawTable::EMPTY);
    if let Method::QueueDeclare { durable, exclusive, .. } = &mut declare {
        (*durable, *exclusive) = (false, true);
    }
    client.call(&declare, "queue.declare-ok")?;
    fill(&mut client, queue, sizes.messages)?;
    client.call(&delete(queue), "queue.delete-ok")?;
    Ok(1)
}
