//! The costs: each function prepares a server, and then has it do so much work.

use std::path::Path;
use std::thread;
use std::time::Duration;

use haypile::amqp::codec::{FrameKind, Method};
use haypile::message::{FieldTable, Properties, RawTable, ShortStr, Value};

use super::Paid;
use super::other::Watched;
use super::support::Outcome;
use super::support::client::{
    Client, bind, consume, declare, delete, fill, publish_confirmed, take, with_exchange,
};

/// A cost, to be paid at sizes of 1, 2, 4 and 8 times the first one.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    /// What a size is the number of.
    pub(crate) of: &'static str,
    /// The first size.
    pub(crate) size: u32,
    pub(crate) pay: fn(&Path, &Path, u32) -> Outcome<Paid>,
}

pub(crate) const COSTS: &[Cost] = &[
    Cost {
        name: "close-exclusive",
        of: "exclusive queues of a connection that closes",
        size: 2500,
        pay: close_exclusive,
    },
    Cost {
        name: "close-consumers",
        of: "consumers of one queue, closed",
        size: 1250,
        pay: close_consumers,
    },
    Cost {
        name: "delete-bound",
        of: "bindings of a queue, deleted",
        size: 12_500,
        pay: delete_bound,
    },
    Cost {
        name: "read-fanout",
        of: "queues that read 200 messages back from the log",
        size: 125,
        pay: read_fanout,
    },
    Cost { name: "headers", of: "bindings, for one message", size: 1250, pay: headers },
    Cost {
        name: "topic",
        of: "patterns `#.w.#`, for one message of 120 words",
        size: 250,
        pay: topic,
    },
    Cost {
        name: "purge",
        of: "messages that are purged, until nothing is left to do",
        size: 125_000,
        pay: purge,
    },
    Cost {
        name: "commits",
        of: "`tx.commit`s sent at once, a message each",
        size: 500,
        pay: commits,
    },
    Cost { name: "bodies", of: "MiB of a body, 8 bodies", size: 8, pay: bodies },
    Cost { name: "connections", of: "connections at once", size: 250, pay: connections },
];

/// Waits until everything sent before on the channel is done.
fn settle(client: &mut Client) -> Outcome {
    let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 0, global: false };
    client.call(&qos, "basic.qos-ok")
}

/// Closes the connection, and waits until the server has done so.
fn close(mut client: Client) -> Outcome {
    let close =
        Method::ConnectionClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 };
    client.send(0, &close)?;
    client.expect("connection.close-ok")
}

/// Whether a queue exists, and how many consumers it has.
fn look_at(server: &Watched, queue: &str) -> Outcome<Option<u32>> {
    let mut client = server.client()?;
    let mut declare = declare(queue, RawTable::EMPTY);
    if let Method::QueueDeclare { passive, .. } = &mut declare {
        *passive = true;
    }
    client.send(1, &declare)?;
    match Method::decode(&client.frame()?.payload)? {
        Method::QueueDeclareOk { consumer_count, .. } => Ok(Some(consumer_count)),
        Method::ChannelClose { reply_code: 404, .. } => Ok(None),
        // There is one, which belongs to another connection.
        Method::ChannelClose { reply_code: 405, .. } => Ok(Some(0)),
        other => Err(format!("queue.declare-ok was expected, {other:?} came").into()),
    }
}

/// Asks again and again until it is so.
fn until(mut is_so: impl FnMut() -> Outcome<bool>) -> Outcome {
    while !is_so()? {
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn close_exclusive(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    let server = Watched::start(binary, directory)?;
    let mut client = server.client()?;
    let names: Vec<_> = (0..size).map(|n| format!("own.{n}")).collect();
    client.send_all(names.iter().map(|name| {
        let mut declare = declare(name, RawTable::EMPTY);
        if let Method::QueueDeclare { durable, exclusive, nowait, .. } = &mut declare {
            (*durable, *exclusive, *nowait) = (false, true, true);
        }
        declare
    }))?;
    settle(&mut client)?;
    let last = format!("own.{}", size - 1);
    server.pay(|| {
        close(client)?;
        until(|| Ok(look_at(&server, &last)?.is_none()))?;
        Ok(size.into())
    })
}

fn close_consumers(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    let server = Watched::start(binary, directory)?;
    let mut client = server.client()?;
    client.call(&declare("all", RawTable::EMPTY), "queue.declare-ok")?;
    let tags: Vec<_> = (0..size).map(|n| format!("consumer {n}")).collect();
    client.send_all(tags.iter().map(|tag| consume("all", tag, false)))?;
    settle(&mut client)?;
    server.pay(|| {
        close(client)?;
        until(|| Ok(look_at(&server, "all")? == Some(0)))?;
        Ok(size.into())
    })
}

fn delete_bound(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    let server = Watched::start(binary, directory)?;
    let mut client = with_exchange(server.place(), "bound", "direct")?;
    let keys: Vec<_> = (0..size).map(|n| format!("key.{n}")).collect();
    client.send_all(keys.iter().map(|key| bind("bound", "bound", key, RawTable::EMPTY)))?;
    settle(&mut client)?;
    server.pay(|| {
        client.call(&delete("bound"), "queue.delete-ok")?;
        // The rest of the bindings goes before another queue of that name comes.
        client.call(&declare("bound", RawTable::EMPTY), "queue.declare-ok")?;
        Ok(size.into())
    })
}

fn read_fanout(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    const MESSAGES: u32 = 200;
    let names: Vec<_> = (0..size).map(|n| format!("queue.{n}")).collect();
    let server = Watched::start(binary, directory)?;
    let mut client = with_exchange(server.place(), "all", "fanout")?;
    for name in &names {
        client.call(&declare(name, RawTable::EMPTY), "queue.declare-ok")?;
    }
    client.send_all(names.iter().map(|name| bind(name, "all", "", RawTable::EMPTY)))?;
    publish_confirmed(&mut client, "all", "", &Properties::default(), MESSAGES.into())?;
    drop((client, server));
    // A server that has just started has to read the messages from the log.
    let server = Watched::restart(binary, directory)?;
    let mut client = server.client()?;
    server.pay(|| {
        client.send_all(names.iter().map(|name| consume(name, name, true)))?;
        take(&mut client, size * MESSAGES)?;
        Ok(u64::from(size) * u64::from(MESSAGES))
    })
}

fn headers(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    const MESSAGES: u64 = 1000;
    let server = Watched::start(binary, directory)?;
    let mut client = with_exchange(server.place(), "matched", "headers")?;
    let table = |number: u32| -> FieldTable {
        let text = |text: String| ShortStr::copy_of(text.as_bytes());
        let entry = |n: u32| (text(format!("header {n}")), Value::text(&number.to_string()));
        (0..4).map(entry).collect()
    };
    let tables: Vec<_> = (0..size).map(|n| table(n).to_bytes()).collect();
    let tables: Result<Vec<_>, _> = tables.iter().map(|table| RawTable::parse(table)).collect();
    client.send_all(tables?.into_iter().map(|table| bind("matched", "matched", "", table)))?;
    settle(&mut client)?;
    let properties = Properties { headers: Some(table(size / 2)), ..Properties::default() };
    server.pay(|| {
        publish_confirmed(&mut client, "matched", "", &properties, MESSAGES)?;
        Ok(MESSAGES * u64::from(size))
    })
}

fn topic(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    const MESSAGES: u64 = 50;
    let server = Watched::start(binary, directory)?;
    let mut client = with_exchange(server.place(), "matched", "topic")?;
    let patterns: Vec<_> = (0..size).map(|n| format!("#.w{n}.#")).collect();
    let all = patterns.iter().map(|key| bind("matched", "matched", key, RawTable::EMPTY));
    client.send_all(all)?;
    settle(&mut client)?;
    server.pay(|| {
        for message in 0..MESSAGES {
            // A key that is not remembered.
            let words: Vec<_> = (0..120).map(|n| format!("w{}", (n + message) * 7)).collect();
            let key = words.join(".");
            publish_confirmed(
                &mut client,
                "matched",
                &key[..key.len().min(255)],
                &Properties::default(),
                1,
            )?;
        }
        Ok(MESSAGES * u64::from(size))
    })
}

fn purge(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    let server = Watched::start(binary, directory)?;
    let mut client = server.client()?;
    client.call(&declare("full", RawTable::EMPTY), "queue.declare-ok")?;
    client.call(&declare("kept", RawTable::EMPTY), "queue.declare-ok")?;
    for _ in 0..8 {
        fill(&mut client, "full", size / 8)?;
        // Messages that compaction has to move.
        fill(&mut client, "kept", 4)?;
    }
    server.pay(|| {
        let purge = Method::QueuePurge { reserved_1: 0, queue: b"full", nowait: false };
        client.call(&purge, "queue.purge-ok")?;
        // Compaction begins when the store has been idle for a while.
        thread::sleep(Duration::from_secs(3));
        Ok(size.into())
    })
}

fn commits(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    let server = Watched::start(binary, directory)?;
    let mut client = server.client()?;
    client.call(&declare("all", RawTable::EMPTY), "queue.declare-ok")?;
    client.call(&Method::TxSelect {}, "tx.select-ok")?;
    server.pay(|| {
        for _ in 0..size {
            client.publish("", "all", Properties::default(), b"")?;
            client.send(1, &Method::TxCommit {})?;
        }
        for _ in 0..size {
            client.expect("tx.commit-ok")?;
        }
        Ok(size.into())
    })
}

fn bodies(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    const MESSAGES: u64 = 8;
    let server = Watched::start(binary, directory)?;
    let mut client = server.client()?;
    client.call(&declare("all", RawTable::EMPTY), "queue.declare-ok")?;
    client.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
    let body = vec![7; (size as usize) << 20];
    server.pay(|| {
        for _ in 0..MESSAGES {
            client.publish("", "all", Properties::default(), &body)?;
            while client.frame()?.kind != FrameKind::Method {}
        }
        Ok(MESSAGES * u64::from(size))
    })
}

fn connections(binary: &Path, directory: &Path, size: u32) -> Outcome<Paid> {
    let server = Watched::start(binary, directory)?;
    server.pay(|| {
        let mut open = Vec::new();
        for _ in 0..size {
            open.push(server.client()?);
        }
        drop(open);
        Ok(size.into())
    })
}
