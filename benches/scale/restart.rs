//! `restart`: how long a server that was killed takes until it is ready again.
//!
//! What there is to replay is the log since the last checkpoint, however much is queued. So that backlogs of different
//! sizes can be compared, the same is written after a clean stop, which ends with a checkpoint, and before each kill. What
//! a server that was killed at any other time needs is in the rows before.

use std::time::Duration;

use super::child::Server;
use super::client::Client;
use super::table::{Table, count, mebibytes, seconds};
use super::{Bench, Outcome};

/// How often each of the servers is killed.
const KILLS: usize = 5;

/// How many of a million messages are published, and how many taken, between a clean stop and the kill.
const TAIL: f64 = 0.3;

/// How many deliveries may be unacknowledged.
const PREFETCH: u16 = 1000;

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "restart",
        &["after kill -9 with this much queued", "first s", "median s", "slowest s", "ready MiB"],
        bench.json,
    );
    let mut equal = Vec::new();
    for times in [1, 10] {
        let messages = times * bench.million;
        let data = tempfile::tempdir_in(bench.dir.path())?;
        let data = data.path().join("data");
        let mut server = Server::start(&data)?;
        let mut client = Client::connect(server.address)?;
        client.declare("backlog")?;
        client.publish(&["backlog".to_owned()], messages, 100)?;
        let mut after = Vec::new();
        for _ in 0..KILLS {
            server.kill()?;
            server = Server::start(&data)?;
            after.push(server.ready_after);
        }
        row(&table, &format!("{} of 100 B", count(messages)), &mut after, &server)?;

        let tail = (TAIL * bench.million as f64) as u64;
        let mut after = Vec::new();
        for _ in 0..KILLS {
            server.stop()?;
            server = Server::start(&data)?;
            let mut client = Client::connect(server.address)?;
            client.publish(&["backlog".to_owned()], tail, 100)?;
            client.consume("backlog", tail, Some(PREFETCH))?;
            server.kill()?;
            server = Server::start(&data)?;
            after.push(server.ready_after);
        }
        let name = format!("{}, {} in and out since", count(messages), count(tail));
        equal.push(row(&table, &name, &mut after, &server)?.as_secs_f64());
        server.kill()?;
    }
    if let [one, ten] = equal[..] {
        let ratio = format!("{:.2}", ten / one);
        let none = String::new;
        table.row(&["ten times as many, ratio".to_owned(), none(), ratio, none(), none()]);
    }
    Ok(())
}

/// Prints how long it took; returns the median.
fn row(table: &Table, name: &str, after: &mut [Duration], server: &Server) -> Outcome<Duration> {
    let memory = server.memory()?;
    let first = after.first().copied().unwrap_or_default();
    after.sort_unstable();
    let median = after[KILLS / 2];
    table.row(&[
        name.to_owned(),
        seconds(first),
        seconds(median),
        seconds(after[KILLS - 1]),
        mebibytes(memory.resident),
    ]);
    Ok(median)
}
