//! `queues`: what many queues cost.

use std::time::{Duration, Instant};

use super::child::Server;
use super::client::Client;
use super::table::{Table, count, rate, seconds};
use super::{Bench, Outcome};

/// How many queues are declared one at a time: each waits for a sync.
const ONE_AT_A_TIME: usize = 2000;

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new("queues", &["durable queues", "seconds", "per s"], bench.json);
    let row = |what: String, number: u64, time: Duration| {
        table.row(&[what, seconds(time), rate(number, time)]);
    };
    let number = bench.million / 20;
    let names = |prefix: &str| (0..number).map(|n| format!("{prefix}-{n:06}")).collect::<Vec<_>>();
    let queues = names("orders");

    let data = tempfile::tempdir_in(bench.dir.path())?;
    let data = data.path().join("data");
    let mut server = Server::start(&data)?;
    let mut client = Client::connect(server.address)?;
    let empty = server.memory()?.resident;
    let begin = Instant::now();
    client.declare_all(&queues, true)?;
    row(format!("{} declared with nowait", count(number)), number, begin.elapsed());
    let each = server.memory()?.resident.saturating_sub(empty) as f64 / number as f64;
    table.row(&["memory of each, bytes".to_owned(), String::new(), format!("{each:.0}")]);

    drop(client);
    server.kill()?;
    server = Server::start(&data)?;
    row(format!("{} ready after kill -9", count(number)), number, server.ready_after);
    server.stop()?;
    server = Server::start(&data)?;
    row(format!("{} ready after a clean stop", count(number)), number, server.ready_after);
    let each = server.memory()?.resident.saturating_sub(empty) as f64 / number as f64;
    table.row(&["memory of each then, bytes".to_owned(), String::new(), format!("{each:.0}")]);

    let mut client = Client::connect(server.address)?;
    // In turns: later messages find a server that has more to do for all of them.
    let messages = bench.million / 2;
    for (what, queues) in
        [("one", &queues[..1]), ("all", &queues), ("one", &queues[..1]), ("all", &queues)]
    {
        let begin = Instant::now();
        client.publish(queues, messages, 100)?;
        row(format!("{} published to {what}", count(messages)), messages, begin.elapsed());
    }

    let begin = Instant::now();
    client.declare_all(&names("pipelined"), false)?;
    row(format!("{} declared, 500 on the way", count(number)), number, begin.elapsed());
    let some = names("one").into_iter().take(ONE_AT_A_TIME).collect::<Vec<_>>();
    let begin = Instant::now();
    some.iter().try_for_each(|name| client.declare(name))?;
    let number = some.len() as u64;
    row(format!("{} declared one at a time", count(number)), number, begin.elapsed());
    drop(client);
    server.kill()
}
