//! `compaction`: what publishers notice of segments being compacted as fast as it goes.

use std::thread;
use std::time::{Duration, Instant};

use haypile::storage::{Fetch, Options, Queue, Sequence, SequenceRange, Store};

use super::table::{Table, count, mebibytes, rate, seconds};
use super::{Bench, Outcome, engine};

/// Bytes of a body.
const SIZE: usize = 1024;

/// How many millions of messages the files are made with, beforehand.
const WARM_UP: u64 = 6;

/// How many messages are published before those are acknowledged.
const BLOCK: u64 = 200_000;

/// How often it is measured, in turns: others use the machine as well.
const ROUNDS: usize = 5;

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "compaction",
        &["1 KiB messages", "alone msg/s", "seconds", "msg/s", "ratio", "moved MiB", "MiB/s"],
        bench.json,
    );
    // As in a store that has been in use for a while, no segment is made from nothing: what that costs depends on the memory
    // that the system has for it, and differs tenfold from one moment to the next on a virtual machine.
    let options = Options { segments_spare: 1000, ..Options::default() };
    let (store, old) = engine::create(&bench.dir.path().join("data"), options)?;
    let (new, created) = store.create_queue(b"new")?;
    store.wait_durable(created)?;
    engine::publish(&store, &new, WARM_UP * bench.million, SIZE)?;
    acknowledge(&new, Sequence::FIRST)?;
    store.checkpoint()?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let first = old.next_sequence();
        engine::publish(&store, &old, bench.million, SIZE)?;
        hand_out(&old, first);
        let alone = publish_while(&store, &new, |published| published < 2 * bench.million)?;
        acknowledge_most(&old, first)?;
        let before = store.compacted();
        let meanwhile = thread::scope(|scope| -> Outcome<Rate> {
            let compaction = scope.spawn(|| store.compact());
            let meanwhile = publish_while(&store, &new, |_| !compaction.is_finished())?;
            compaction.join().map_err(|_| "the compaction panicked")??;
            Ok(meanwhile)
        })?;
        let moved = store.compacted().bytes - before.bytes;
        acknowledge(&old, first)?;
        let ratio = meanwhile.per_second() / alone.per_second();
        ratios.push(ratio);
        let moved_per_second = moved as f64 / meanwhile.time.as_secs_f64();
        table.row(&[
            format!("while a quarter of {} is kept", count(bench.million)),
            rate(alone.messages, alone.time),
            seconds(meanwhile.time),
            rate(meanwhile.messages, meanwhile.time),
            format!("{ratio:.2}"),
            mebibytes(moved),
            mebibytes(moved_per_second as u64),
        ]);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let none = String::new;
    let median = format!("{:.2}", ratios[ROUNDS / 2]);
    table.row(&["median".to_owned(), none(), none(), none(), median, none(), none()]);
    drop((old, new));
    store.close()?;
    Ok(())
}

/// How much was published in what time.
struct Rate {
    messages: u64,
    time: Duration,
}

impl Rate {
    fn per_second(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }
}

/// Publishes to a queue, and takes away what is durable: how many messages, in what time.
fn publish_while(store: &Store, queue: &Queue, more: impl Fn(u64) -> bool) -> Outcome<Rate> {
    let begin = Instant::now();
    let mut messages = 0;
    while more(messages) {
        let first = queue.next_sequence();
        engine::publish_while(store, queue, SIZE, |block| block < BLOCK && more(messages + block))
            .map(|block| messages += block)?;
        acknowledge(queue, first)?;
    }
    Ok(Rate { messages, time: begin.elapsed() })
}

/// Fetches what of the messages is in memory, as for consumers that hold them: so that what is published next is kept in
/// memory, or not, whether these are acknowledged or not. To keep a message costs a publisher as much as the rest.
fn hand_out(queue: &Queue, mut first: Sequence) {
    let mut fetched = Vec::new();
    while queue.fetch(first, 1000, &mut fetched) == Fetch::Complete
        && let Some(last) = fetched.last()
    {
        first = last.sequence.next();
        fetched.clear();
    }
}

/// Acknowledges everything from `first` on.
fn acknowledge(queue: &Queue, first: Sequence) -> Outcome {
    if let Some(range) = SequenceRange::new(first, queue.next_sequence()) {
        queue.acknowledge(&[range])?;
    }
    Ok(())
}

/// Acknowledges three of four from `first` on.
fn acknowledge_most(queue: &Queue, first: Sequence) -> Outcome {
    let mut ranges = Vec::new();
    let (mut next, end) = (first, queue.next_sequence());
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
