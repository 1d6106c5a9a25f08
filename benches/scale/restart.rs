//! `restart`: how long a server that was killed takes until it is ready again.

use std::time::Duration;

use super::child::Server;
use super::client::Client;
use super::table::{Table, count, seconds};
use super::{Bench, Outcome};

/// How often it is killed.
const KILLS: usize = 5;

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "restart",
        &["after kill -9 with this much queued", "first s", "median s", "slowest s", "ready MiB"],
        bench.json,
    );
    for times in [1, 10] {
        let messages = times * bench.million;
        let data = tempfile::tempdir_in(bench.dir.path())?;
        let data = data.path().join("data");
        let mut server = Server::start(&data)?;
        let mut client = Client::connect(server.address)?;
        client.declare("backlog")?;
        client.publish(&["backlog".to_owned()], messages, 100)?;
        let mut after: Vec<Duration> = Vec::new();
        for _ in 0..KILLS {
            server.kill()?;
            server = Server::start(&data)?;
            after.push(server.ready_after);
        }
        let memory = server.memory()?;
        server.kill()?;
        let first = after.first().copied().unwrap_or_default();
        after.sort_unstable();
        table.row(&[
            format!("{} of 100 B", count(messages)),
            seconds(first),
            seconds(after[KILLS / 2]),
            seconds(after[KILLS - 1]),
            super::table::mebibytes(memory.resident),
        ]);
    }
    Ok(())
}
