//! Measuring the engine beside the disk.
//!
//! A disk that others use as well is another one from one second to the next. So the time is cut into pieces, the engine's and the
//! disk's in turn, and the disk gets groups of the size that the engine's had on average until then.

use std::time::Duration;

use super::BenchError;
use super::disk::Pace;
use super::engine::{Effort, Engine};
use super::load::{Load, Tally};
use super::session::Session;
use crate::cli::bench::report::{Figure, Measurement, Parameters, Share, Since, Throughput, Unit};

/// The name of what a message costs the processor.
pub(super) const CPU: &str = "CPU/msg";

/// How long a piece of the engine's time is; one half as long of the disk's follows.
const PIECE: Duration = Duration::from_millis(250);

/// So many pieces there are at least.
const FEWEST: u32 = 4;

/// In how many pieces a time is cut.
pub(super) fn pieces(time: Duration) -> u32 {
    let pieces = time.as_millis() / PIECE.as_millis();
    u32::try_from(pieces).unwrap_or(u32::MAX).max(FEWEST)
}

/// Runs a load for the session's time, on the store's first queue.
pub(super) fn measure(
    session: &mut Session,
    engine: &Engine,
    scenario: &'static str,
    load: &Load,
    parameters: Parameters,
) -> Result<Measurement, BenchError> {
    measure_queues(session, engine, std::slice::from_ref(&engine.queue), scenario, load, parameters)
}

/// The same, on these queues in turn.
pub(super) fn measure_queues(
    session: &mut Session,
    engine: &Engine,
    queues: &[crate::storage::Queue],
    scenario: &'static str,
    load: &Load,
    parameters: Parameters,
) -> Result<Measurement, BenchError> {
    // A rate goes on: what has piled up is not to find a store that had a rest. And it is no share of anything.
    let pieces = if load.rate.is_some() { 1 } else { pieces(session.time) };
    let time = session.time / pieces;
    let (mut tally, mut effort, mut pace) = (Tally::default(), Effort::default(), Pace::default());
    session.glimpse(scenario, &parameters, None);
    for _ in 0..pieces {
        if !session.goes_on() {
            break;
        }
        let stop = session.stop();
        let run = || load.run(&engine.store, queues, time, &stop);
        tally.add(&effort.measure(&engine.store, run)?);
        let so_far = tally.messages as f64 / tally.time.as_secs_f64();
        session.glimpse(scenario, &parameters, Some(so_far));
        if load.rate.is_none() {
            session.probe.write(effort.group(), time / 2, &mut pace)?;
        }
    }
    let bytes = tally.messages * load.message_bytes();
    let throughput = Throughput::new("messages", tally.messages, bytes, tally.time);
    let mut measurement = Measurement::new(scenario, parameters, throughput);
    let since = if load.rate.is_some() { Since::Due } else { Since::Begun };
    measurement.latencies.extend(tally.latencies.summary("durable", since));
    if tally.unsent > 0 {
        measurement.figures.push(Figure::new("unsent", Unit::Count, tally.unsent as f64));
    }
    add_effort(&mut measurement, tally.messages, tally.time, &effort);
    let accepted = effort.bytes as f64 / bytes as f64;
    measurement.figures.push(Figure::new("written/accepted", Unit::Times, accepted));
    if load.rate.is_none() {
        add_share(&mut measurement, tally.messages, &effort, &pace);
    }
    Ok(measurement)
}

/// What it took.
pub(super) fn add_effort(
    measurement: &mut Measurement,
    messages: u64,
    time: Duration,
    effort: &Effort,
) {
    let (messages, groups) = (messages as f64, effort.groups as f64);
    measurement.figures.extend([
        Figure::new(CPU, Unit::Microseconds, effort.cpu.as_secs_f64() * 1e6 / messages),
        Figure::new("syncs", Unit::PerSecond, groups / time.as_secs_f64()),
        Figure::new("msg/sync", Unit::Count, messages / groups),
        Figure::new("bytes/sync", Unit::Bytes, effort.group() as f64),
        Figure::new("written", Unit::Bytes, effort.bytes as f64),
    ]);
}

/// The rate beside what it would be if the disk did nothing but to write and sync such groups.
pub(super) fn add_share(
    measurement: &mut Measurement,
    messages: u64,
    effort: &Effort,
    pace: &Pace,
) {
    let per_group = messages as f64 / effort.groups.max(1) as f64;
    let reference = per_group * pace.per_second();
    measurement.share = Some(Share::of("disk", measurement.throughput.per_second(), reference));
}
