//! `ack`: acknowledging, one at a time and many, with a wait for each and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::backlog::{SIZE, drain, publish};
use super::disk::Pace;
use super::engine::{Effort, Engine};
use super::load::Waiting;
use super::session::Session;
use super::{BenchError, beside};
use crate::cli::bench::report::{Latencies, Measurement, Parameters, Setting, Since, Throughput};
use crate::storage::{Sequence, SequenceRange, StoreError};

/// How many consumers acknowledge how many at a time.
const LOADS: [(u64, u64, Waiting); 4] =
    [(1, 1, Waiting::Lazy), (4, 1, Waiting::Lazy), (1, 100, Waiting::Lazy), (16, 1, Waiting::Each)];

pub(super) fn run(session: &mut Session) -> Result<(), BenchError> {
    let engine = session.engine()?;
    let size = session.size(SIZE);
    for (consumers, batch, waiting) in LOADS {
        let first = engine.queue.next_sequence();
        let messages = session.backlog() / 4;
        publish(&engine, messages, size, &session.stop())?;
        if !session.goes_on() {
            break;
        }
        let (mut effort, mut pace) = (Effort::default(), Pace::default());
        let acknowledging = Acknowledging {
            engine: &engine,
            next: AtomicU64::new(first.get()),
            end: engine.queue.next_sequence().get(),
            batch,
            waiting,
            stop: session.stop(),
        };
        let (mut done, mut latencies, mut time) = (0, Latencies::default(), Duration::ZERO);
        let each = session.time / beside::pieces(session.time);
        while session.goes_on() && time < session.time && acknowledging.has_more() {
            let begin = Instant::now();
            let (messages, times) =
                effort.measure(&engine.store, || acknowledging.run(consumers, begin + each))?;
            time += begin.elapsed();
            done += messages;
            latencies.add(&times);
            session.probe.write(effort.group(), each / 2, &mut pace)?;
        }
        let mut parameters = Parameters::default();
        parameters
            .set("consumers", consumers)
            .set("batch", batch)
            .set("sync", waiting.name())
            .set("size", Setting::Bytes(size));
        let throughput = Throughput::new("messages", done, 0, time);
        let mut measurement = Measurement::new("ack", parameters, throughput);
        measurement.latencies.extend(latencies.summary("durable", Since::Begun));
        beside::add_effort(&mut measurement, done, time, &effort);
        beside::add_share(&mut measurement, done, &effort, &pace);
        let left = engine.queue.len();
        if left != messages - done {
            let wanted = messages - done;
            measurement.wrong.push(format!("{wanted} messages were left, and there are {left}"));
        }
        session.take(measurement);
        drain(&engine.queue, first, &session.stop())?;
    }
    Ok(())
}

/// Consumers that share a queue.
#[derive(Debug)]
struct Acknowledging<'a> {
    engine: &'a Engine,
    /// The next place that is acknowledged.
    next: AtomicU64,
    end: u64,
    batch: u64,
    waiting: Waiting,
    stop: Arc<AtomicBool>,
}

impl Acknowledging<'_> {
    /// Whether there are messages that nobody has acknowledged.
    fn has_more(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.end
    }

    /// Acknowledges until there are no more messages or the time is over; returns when that is durable.
    fn run(&self, consumers: u64, until: Instant) -> Result<(u64, Latencies), StoreError> {
        let done = thread::scope(|scope| {
            let consumers: Vec<_> =
                (0..consumers).map(|_| scope.spawn(|| self.acknowledge(until))).collect();
            let joined = consumers.into_iter().map(|consumer| {
                consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect::<Result<Vec<_>, StoreError>>()
        })?;
        let (mut messages, mut latencies) = (0, Latencies::default());
        for (one, times) in &done {
            messages += one;
            latencies.add(times);
        }
        Ok((messages, latencies))
    }

    fn acknowledge(&self, until: Instant) -> Result<(u64, Latencies), StoreError> {
        let (mut messages, mut latencies, mut last) = (0, Latencies::default(), None);
        while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
            let first = self.next.fetch_add(self.batch, Ordering::Relaxed);
            let behind = Sequence::new(self.end.min(first + self.batch));
            let Some(range) =
                behind.previous().and_then(|last| SequenceRange::new(Sequence::new(first), last))
            else {
                break;
            };
            let begin = Instant::now();
            let acknowledged = self.engine.queue.acknowledge(&[range])?;
            messages += acknowledged.messages;
            last = acknowledged.durable_at.or(last);
            if self.waiting == Waiting::Each
                && let Some(lsn) = last
            {
                self.engine.store.wait_durable(lsn)?;
                latencies.record_many(begin.elapsed(), acknowledged.messages);
            }
        }
        last.map_or(Ok(()), |lsn| self.engine.store.wait_durable(lsn))?;
        Ok((messages, latencies))
    }
}
