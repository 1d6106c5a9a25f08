//! Appending: by many writers and by few, small messages and large ones, with a wait for each and without.

use std::time::Duration;

use super::BenchError;
use super::disk::Pace;
use super::engine::{Effort, Engine};
use super::load::{Load, Tally, Waiting};
use super::session::Session;
use crate::cli::bench::report::{
    Figure, Measurement, Parameters, Setting, Share, Since, Throughput, Unit,
};

/// A measurement is cut into so many pieces, with the disk itself measured between them: others may use the disk as well, and they
/// disturb both.
const ROUNDS: u32 = 3;

/// What is measured unless something was chosen: writers, bytes, batch, waiting.
const LOADS: [(u64, u64, u64, Waiting); 12] = [
    (1, 1024, 1, Waiting::Each),
    (4, 1024, 1, Waiting::Each),
    (16, 1024, 1, Waiting::Each),
    (64, 1024, 1, Waiting::Each),
    (64, 100, 1, Waiting::Each),
    (64, 16 << 10, 1, Waiting::Each),
    (1, 1024, 100, Waiting::Each),
    (16, 1024, 100, Waiting::Each),
    (1, 1024, 1, Waiting::Window),
    (4, 1024, 1, Waiting::Window),
    (4, 100, 1, Waiting::Lazy),
    (4, 1024, 1, Waiting::Lazy),
];

/// With `--quick`.
const FEW_LOADS: [usize; 5] = [0, 3, 7, 8, 11];

/// The default rates, in messages a second.
const RATES: [u64; 2] = [1000, 10_000];

/// `append`: as fast as it goes.
pub(super) fn run(session: &mut Session) -> Result<(), BenchError> {
    let engine = session.engine()?;
    for load in loads(session) {
        if !session.goes_on() {
            break;
        }
        let mut parameters = Parameters::default();
        parameters
            .set("writers", load.writers)
            .set("size", Setting::Bytes(load.size))
            .set("batch", load.batch)
            .set("waiting", waiting_text(&load));
        measure(session, &engine, "append", load, parameters)?;
    }
    Ok(())
}

/// `rate`: so many a second and no more, each waited for; times count from when a message was due.
pub(super) fn run_rated(session: &mut Session) -> Result<(), BenchError> {
    let engine = session.engine()?;
    let rates =
        if session.chosen.rate.is_empty() { RATES.to_vec() } else { session.chosen.rate.clone() };
    for rate in rates {
        if !session.goes_on() {
            break;
        }
        let load = Load {
            writers: session.chosen.writers.first().copied().unwrap_or(16),
            size: session.chosen.size.first().copied().unwrap_or(1024),
            batch: 1,
            waiting: Waiting::Each,
            window: 1,
            rate: Some(rate),
        };
        let mut parameters = Parameters::default();
        parameters
            .set("rate", rate)
            .set("writers", load.writers)
            .set("size", Setting::Bytes(load.size));
        measure(session, &engine, "rate", load, parameters)?;
    }
    Ok(())
}

fn waiting_text(load: &Load) -> String {
    match load.waiting {
        Waiting::Each => "each".to_owned(),
        Waiting::Window => format!("window {}", load.window),
        Waiting::Lazy => "lazy".to_owned(),
    }
}

/// What was chosen, in every combination; or what shows most.
fn loads(session: &Session) -> Vec<Load> {
    let chosen = &session.chosen;
    let load = |writers, size, batch, waiting| Load {
        writers,
        size,
        batch,
        waiting,
        window: chosen.window,
        rate: None,
    };
    if chosen.is_default() {
        let few = |place: &usize| LOADS.get(*place).copied();
        let loads: Vec<_> =
            if session.quick { FEW_LOADS.iter().filter_map(few).collect() } else { LOADS.to_vec() };
        return loads.into_iter().map(|(w, s, b, waiting)| load(w, s, b, waiting)).collect();
    }
    let or =
        |list: &[u64], default: u64| if list.is_empty() { vec![default] } else { list.to_vec() };
    let waitings = if chosen.sync.is_empty() { vec![Waiting::Each] } else { chosen.sync.clone() };
    let (writers, sizes) = (or(&chosen.writers, 64), or(&chosen.size, 1024));
    let mut loads = Vec::new();
    for waiting in waitings {
        // A batch is what is waited for; who does not wait for each has none.
        let batches = if waiting == Waiting::Each { or(&chosen.batch, 1) } else { vec![1] };
        for writers in &writers {
            for size in &sizes {
                loads.extend(batches.iter().map(|batch| load(*writers, *size, *batch, waiting)));
            }
        }
    }
    loads
}

fn measure(
    session: &mut Session,
    engine: &Engine,
    scenario: &'static str,
    load: Load,
    parameters: Parameters,
) -> Result<(), BenchError> {
    let time = session.time / ROUNDS;
    let queues = [engine.queue.clone()];
    let (mut tally, mut effort, mut pace) = (Tally::default(), Effort::default(), Pace::default());
    for _ in 0..ROUNDS {
        let stop = session.stop();
        let run = || load.run(&engine.store, &queues, time, &stop);
        tally.add(&effort.measure(&engine.store, run)?);
        super::engine::empty(&engine.queue)?;
        session.probe.write(effort.group(), time / 2, &mut pace)?;
    }
    let bytes = tally.messages * load.message_bytes();
    let throughput = Throughput::new("messages", tally.messages, bytes, tally.time);
    let mut measurement = Measurement::new(scenario, parameters, throughput);
    let since = if load.rate.is_some() { Since::Due } else { Since::Begun };
    measurement.latencies.extend(tally.latencies.summary("durable", since));
    add_effort(&mut measurement, tally.messages, bytes, tally.time, &effort);
    // A rate that was chosen is no share of anything.
    if load.rate.is_none() {
        add_share(&mut measurement, tally.messages, &effort, &pace);
    }
    session.take(measurement);
    Ok(())
}

/// What it took.
pub(super) fn add_effort(
    measurement: &mut Measurement,
    messages: u64,
    bytes: u64,
    time: Duration,
    effort: &Effort,
) {
    let (messages, groups) = (messages as f64, effort.groups as f64);
    measurement.figures.extend([
        Figure::new("syncs", Unit::PerSecond, groups / time.as_secs_f64()),
        Figure::new("msg/sync", Unit::Count, messages / groups),
        Figure::new("written", Unit::Bytes, effort.bytes as f64),
        Figure::new("written/accepted", Unit::Times, effort.bytes as f64 / bytes as f64),
        Figure::new("CPU/msg", Unit::Microseconds, effort.cpu.as_secs_f64() * 1e6 / messages),
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
    let reference = per_group * pace.groups as f64 / pace.time.as_secs_f64().max(1e-9);
    measurement.share = Some(Share::of("disk", measurement.throughput.per_second(), reference));
}
