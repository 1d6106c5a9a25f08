//! `compaction`: what publishers notice of segments being compacted as fast as it goes.

use std::thread;
use std::time::{Duration, Instant};

use haypile::storage::{Options, Queue, Sequence, SequenceRange, Store};

use super::table::{Table, mebibytes, rate, seconds};
use super::{Bench, Outcome, engine};

/// Bytes of a body.
const SIZE: usize = 1024;

/// How many messages are published before it is asked whether the compaction is over.
const BLOCK: u64 = 10_000;

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "compaction",
        &["1 KiB messages published", "seconds", "msg/s", "compacted MiB"],
        bench.json,
    );
    let (store, queue) = engine::create(&bench.dir.path().join("alone"), Options::default())?;
    let messages = bench.million / 2;
    let begin = Instant::now();
    engine::publish(&store, &queue, messages, SIZE)?;
    let time = begin.elapsed();
    let none = String::new();
    table.row(&["nothing to compact".to_owned(), seconds(time), rate(messages, time), none]);
    drop(queue);
    store.close()?;

    let (store, old) = engine::create(&bench.dir.path().join("data"), Options::default())?;
    engine::publish(&store, &old, bench.million, SIZE)?;
    let (new, created) = store.create_queue(b"new")?;
    store.wait_durable(created)?;
    acknowledge_most(&old)?;
    let (messages, time) = publish_while_compacting(&store, &new)?;
    table.row(&[
        "while a quarter of the older ones is kept".to_owned(),
        seconds(time),
        rate(messages, time),
        mebibytes(store.compacted().bytes),
    ]);
    drop((old, new));
    store.close()?;
    Ok(())
}

/// Publishes until the compaction is over: how many messages, and how long that took.
fn publish_while_compacting(store: &Store, queue: &Queue) -> Outcome<(u64, Duration)> {
    let begin = Instant::now();
    let mut messages = 0;
    thread::scope(|scope| {
        let compaction = scope.spawn(|| store.compact());
        while !compaction.is_finished() {
            engine::publish(store, queue, BLOCK, SIZE)?;
            messages += BLOCK;
        }
        compaction.join().map_err(|_| "the compaction panicked")??;
        Ok((messages, begin.elapsed()))
    })
}

/// Acknowledges three of four.
fn acknowledge_most(queue: &Queue) -> Outcome {
    let mut ranges = Vec::new();
    let (mut next, end) = (Sequence::FIRST, queue.next_sequence());
    while next < end {
        let last = next.next().next();
        ranges.push(SequenceRange { first: next, last });
        if ranges.len() == 100 {
            queue.acknowledge(&ranges)?;
            ranges.clear();
        }
        next = last.next().next();
    }
    queue.acknowledge(&ranges)?;
    Ok(())
}
