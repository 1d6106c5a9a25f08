//! A deep queue: filling it, and taking everything out of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::BenchError;
use super::engine::Engine;
use super::load::Source;
use crate::cli::bench::report::Latencies;
use crate::storage::{Fetch, Persistence, Queue, Sequence, SequenceRange, StoreError};

/// Bytes of a body in a backlog, unless something else was chosen.
pub(super) const SIZE: u64 = 100;

/// How many messages are fetched and acknowledged at a time.
const BATCH: usize = 1000;

/// How often a publisher of a backlog looks whether more is unsynced than is good, and whether it is to stop, in messages.
const LOOK: u64 = 1000;

/// Appends so many messages, and waits until all of them are durable.
pub(super) fn publish(
    engine: &Engine,
    messages: u64,
    size: u64,
    stop: &AtomicBool,
) -> Result<(), BenchError> {
    let mut source = Source::new(0, size);
    let mut last = None;
    for number in 0..messages {
        let message = source.message();
        last = engine.store.append(&message, Persistence::Durable, &[&engine.queue])?.durable_at;
        if number % LOOK == 0 {
            if let Some(lsn) = engine.store.congested() {
                engine.store.wait_durable(lsn)?;
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    last.map_or(Ok(()), |lsn| engine.store.wait_durable(lsn))?;
    Ok(())
}

/// What was taken out of a queue.
#[derive(Debug, Default)]
pub(super) struct Drained {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// How long each read-ahead took.
    pub(super) loads: Latencies,
}

/// Fetches and acknowledges everything from `from` on, in order.
pub(super) fn drain(
    queue: &Queue,
    mut from: Sequence,
    stop: &AtomicBool,
) -> Result<Drained, StoreError> {
    let (mut drained, mut fetched) = (Drained::default(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let outcome = queue.fetch(from, BATCH, &mut fetched);
        if let (Some(first), Some(last)) = (fetched.first(), fetched.last()) {
            let range = SequenceRange { first: first.sequence, last: last.sequence };
            from = last.sequence.next();
            drained.messages += queue.acknowledge(&[range])?.messages;
            drained.bytes += fetched.iter().map(|one| one.message.size() as u64).sum::<u64>();
            fetched.clear();
        } else if outcome == Fetch::NeedsLoad {
            let begin = Instant::now();
            queue.load(from)?;
            drained.loads.record(begin.elapsed());
        } else {
            break;
        }
    }
    Ok(drained)
}
