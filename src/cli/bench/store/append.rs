//! Appending: by many writers and by few, small messages and large ones, with a wait for each and without.

use super::load::{Load, Waiting};
use super::session::Session;
use super::{BenchError, beside};
use crate::cli::bench::report::{Parameters, Setting};

/// What is measured unless something was chosen: writers, bytes, batch, waiting.
const LOADS: [(u64, u64, u64, Waiting); 13] = [
    (1, 1024, 1, Waiting::Each),
    (4, 1024, 1, Waiting::Each),
    (16, 1024, 1, Waiting::Each),
    (64, 1024, 1, Waiting::Each),
    (64, 1024, 1, Waiting::Task),
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
const FEW_LOADS: [usize; 6] = [0, 3, 4, 8, 9, 12];

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
            .set("batch", load.batch);
        load.set_waiting(&mut parameters);
        let measurement = beside::measure(session, &engine, "append", &load, parameters)?;
        session.take(measurement);
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
            writers: session.writers(64),
            size: session.size(1024),
            rate: Some(rate),
            ..Load::default()
        };
        let mut parameters = Parameters::default();
        parameters
            .set("rate", rate)
            .set("writers", load.writers)
            .set("size", Setting::Bytes(load.size));
        let measurement = beside::measure(session, &engine, "rate", &load, parameters)?;
        session.take(measurement);
    }
    Ok(())
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
        ..Load::default()
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
