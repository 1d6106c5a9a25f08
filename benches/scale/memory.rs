//! `memory`: what a server keeps in memory for messages that wait in a queue.

use std::thread;
use std::time::{Duration, Instant};

use super::child::Server;
use super::client::Client;
use super::table::{Table, count, mebibytes, rate};
use super::{Bench, Outcome};

/// How long the server is left alone.
const IDLE: Duration = Duration::from_secs(5);

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "memory",
        &[
            "queued messages",
            "msg/s",
            "empty MiB",
            "after MiB",
            "idle MiB",
            "peak MiB",
            "idle B/msg",
        ],
        bench.json,
    );
    for (times, size) in [(1, 100), (10, 100), (20, 100), (1, 4096)] {
        let messages = times * bench.million;
        let data = tempfile::tempdir_in(bench.dir.path())?;
        let server = Server::start(&data.path().join("data"))?;
        let mut client = Client::connect(server.address)?;
        client.declare("backlog")?;
        let empty = server.memory()?;
        let begin = Instant::now();
        client.publish(&["backlog".to_owned()], messages, size)?;
        let time = begin.elapsed();
        let after = server.memory()?;
        thread::sleep(IDLE);
        let idle = server.memory()?;
        let each = idle.resident.saturating_sub(empty.resident) as f64 / messages as f64;
        table.row(&[
            format!("{} of {size} B", count(messages)),
            rate(messages, time),
            mebibytes(empty.resident),
            mebibytes(after.resident),
            mebibytes(idle.resident),
            mebibytes(idle.peak),
            format!("{each:.1}"),
        ]);
        drop(client);
        server.kill()?;
    }
    Ok(())
}
