//! `steady`: a queue that is used without a pause, of which a hundredth of the messages is never acknowledged.
//!
//! Without compaction every segment would keep its hundredth, and the whole segment with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use haypile::storage::{Fetch, Options, Queue, Sequence, SequenceRange, Store};

use super::random::Random;
use super::reclaim::disk_in_use;
use super::table::{Table, count, mebibytes, rate};
use super::{Bench, Outcome, engine};

/// Bytes of a body.
const SIZE: usize = 1024;

/// How many millions of messages are published.
const MILLIONS: u64 = 30;

/// How many rows are printed.
const ROWS: u64 = 10;

/// How many messages are fetched at a time.
const BATCH: usize = 1000;

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "steady",
        &[
            "1 KiB messages published, 1 % stuck",
            "msg/s",
            "queued",
            "live MiB",
            "disk MiB",
            "disk/live",
            "moved MiB",
            "written/acc",
            "resident MiB",
        ],
        bench.json,
    );
    let data = bench.dir.path().join("data");
    let (store, queue) = engine::create(&data, Options::default())?;
    let step = MILLIONS * bench.million / ROWS;
    let over = AtomicBool::new(false);
    thread::scope(|scope| -> Outcome {
        let consumer = scope.spawn(|| consume(&queue, &over).map_err(|error| error.to_string()));
        let mut published = 0;
        let publishing = (|| -> Outcome {
            for _ in 0..ROWS {
                let begin = Instant::now();
                engine::publish(&store, &queue, step, SIZE)?;
                published += step;
                let time = begin.elapsed();
                row(&table, &store, &queue, &data, count(published), rate(step, time), published)?;
            }
            Ok(())
        })();
        over.store(true, Ordering::Release);
        consumer.join().map_err(|_| "the consumer panicked")??;
        publishing?;
        for seconds in [5, 25] {
            thread::sleep(Duration::from_secs(seconds));
            let when = format!("after another {seconds} s without traffic");
            row(&table, &store, &queue, &data, when, String::new(), published)?;
        }
        Ok(())
    })?;
    drop(queue);
    store.close()?;
    Ok(())
}

fn row(
    table: &Table,
    store: &Store,
    queue: &Queue,
    data: &std::path::Path,
    what: String,
    rate: String,
    published: u64,
) -> Outcome {
    let (live, disk) = (queue.bytes(), disk_in_use(data)?);
    let accepted = published * (SIZE + engine::HEADER) as u64;
    let written = store.log_statistics().bytes;
    table.row(&[
        what,
        rate,
        count(queue.len()),
        mebibytes(live),
        mebibytes(disk),
        format!("{:.1}", disk as f64 / live.max(1) as f64),
        mebibytes(store.compacted().bytes),
        format!("{:.3}", written as f64 / accepted as f64),
        mebibytes(super::child::memory_of("self")?.resident),
    ]);
    Ok(())
}

/// Takes out of a queue whatever comes, and leaves a random hundredth in it for good; ends when `over` is set and the queue
/// has no more.
fn consume(queue: &Queue, over: &AtomicBool) -> Outcome {
    let mut random = Random::new();
    let (mut from, mut fetched) = (Sequence::FIRST, Vec::new());
    let mut ranges: Vec<SequenceRange> = Vec::new();
    loop {
        let last_look = over.load(Ordering::Acquire);
        match queue.fetch(from, BATCH, &mut fetched) {
            Fetch::NeedsLoad => queue.load(from)?,
            Fetch::Complete if fetched.is_empty() && last_look => return Ok(()),
            Fetch::Complete if fetched.is_empty() => thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
        for message in fetched.drain(..) {
            let sequence = message.sequence;
            from = sequence.next();
            if random.below(100) == 0 {
                continue;
            }
            match ranges.last_mut() {
                Some(range) if range.last.next() == sequence => range.last = sequence,
                _ => ranges.push(SequenceRange::one(sequence)),
            }
        }
        queue.acknowledge(&ranges)?;
        ranges.clear();
    }
}
