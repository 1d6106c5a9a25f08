//! `drain`: how fast a backlog is read back from the disk and done with, against one that is still in memory.

use std::time::Instant;

use haypile::storage::{Options, Store};

use super::child::Server;
use super::client::Client;
use super::table::{Table, count, rate, seconds};
use super::{Bench, Outcome, engine};

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new("drain", &["backlog of 100 B", "seconds", "msg/s"], bench.json);
    with_engine(bench, &table, true)?;
    with_engine(bench, &table, false)?;
    for (from_disk, prefetch) in
        [(false, None), (true, None), (false, Some(10_000)), (true, Some(10_000))]
    {
        with_server(bench, &table, from_disk, prefetch)?;
    }
    Ok(())
}

fn place(from_disk: bool) -> &'static str {
    if from_disk { "disk" } else { "memory" }
}

/// Fetches, loads and acknowledges in this process.
fn with_engine(bench: &Bench, table: &Table, from_disk: bool) -> Outcome {
    let data = tempfile::tempdir_in(bench.dir.path())?;
    let data = data.path().join("data");
    let options = if from_disk {
        Options::default()
    } else {
        Options { cache: u64::MAX, index: u64::MAX, ..Options::default() }
    };
    let messages = 10 * bench.million;
    let (mut store, mut queue) = engine::create(&data, options.clone())?;
    engine::publish(&store, &queue, messages, 100)?;
    if from_disk {
        drop(queue);
        store.close()?;
        store = Store::open(&data, options)?;
        queue = store.queues().pop().ok_or("the queue is gone")?;
    }
    let begin = Instant::now();
    let (drained, loads) = engine::drain(&queue)?;
    let time = begin.elapsed();
    table.row(&[
        format!("engine, {}: {}, {} loads", place(from_disk), count(drained), count(loads)),
        seconds(time),
        rate(drained, time),
    ]);
    drop(queue);
    store.close()?;
    Ok(())
}

/// Consumes over AMQP. What is in memory has to fit into the cache of a server, so that is less.
fn with_server(bench: &Bench, table: &Table, from_disk: bool, prefetch: Option<u16>) -> Outcome {
    let data = tempfile::tempdir_in(bench.dir.path())?;
    let data = data.path().join("data");
    let messages = if from_disk { 10 * bench.million } else { bench.million / 5 };
    let mut server = Server::start(&data)?;
    let mut client = Client::connect(server.address)?;
    client.declare("backlog")?;
    client.publish(&["backlog".to_owned()], messages, 100)?;
    if from_disk {
        drop(client);
        server.stop()?;
        server = Server::start(&data)?;
        client = Client::connect(server.address)?;
    }
    let begin = Instant::now();
    client.consume("backlog", messages, prefetch)?;
    let time = begin.elapsed();
    let how = prefetch.map_or("no ack".to_owned(), |count| format!("acks, prefetch {count}"));
    table.row(&[
        format!("AMQP, {}, {how}: {}", place(from_disk), count(messages)),
        seconds(time),
        rate(messages, time),
    ]);
    server.kill()
}
