//! `amplification`: bytes written to the log for each byte accepted.

use haypile::storage::Options;

use super::table::{Table, count, mebibytes};
use super::{Bench, Outcome, engine};

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "amplification",
        &["1 KiB messages in order", "accepted MiB", "written MiB", "groups", "written/accepted"],
        bench.json,
    );
    let messages = bench.million / 2;
    let size: usize = 1024;
    let (store, queue) = engine::create(&bench.dir.path().join("data"), Options::default())?;
    let accepted = messages * (size + engine::HEADER) as u64;
    let row = |what: &str| {
        let log = store.log_statistics();
        table.row(&[
            what.to_owned(),
            mebibytes(accepted),
            mebibytes(log.bytes),
            count(log.groups),
            format!("{:.4}", log.bytes as f64 / accepted as f64),
        ]);
    };
    engine::publish(&store, &queue, messages, size)?;
    row(&format!("{} published", count(messages)));
    engine::drain(&queue)?;
    store.checkpoint()?;
    row("and consumed");
    drop(queue);
    store.close()?;
    Ok(())
}
