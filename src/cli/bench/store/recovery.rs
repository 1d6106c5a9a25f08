//! `recovery`: opening a store that nobody has closed, and one that was.
//!
//! A store whose last handle is dropped writes what was appended and no checkpoint: there is as much to replay as after `kill -9`.
//! What there is to replay is made anew for each open: a store that has been opened soon writes a checkpoint of its own.

use std::time::{Duration, Instant};

use super::BenchError;
use super::backlog::{SIZE, publish};
use super::engine::Engine;
use super::session::Session;
use crate::cli::bench::report::{
    Figure, Latencies, Measurement, Parameters, Setting, Since, Throughput, Unit,
};
use crate::cli::text;
use crate::storage::{SequenceRange, Store};

/// How often a store is opened.
const OPENS: u32 = 5;
const FEW_OPENS: u32 = 2;

pub(super) fn run(session: &mut Session) -> Result<(), BenchError> {
    let size = session.size(SIZE);
    let tail = session.backlog() / 10;
    for (backlog, closed) in
        [(session.backlog() / 10, false), (session.backlog(), false), (session.backlog(), true)]
    {
        let dir = session.fresh_data()?;
        let options = session.options();
        let mut engine = Engine::create(&dir, options.clone())?;
        session.say(&format!("recovery: a backlog of {backlog}"));
        publish(&engine, backlog, size, &session.stop())?;
        engine.store.checkpoint()?;
        let (mut times, mut total, mut replayed) = (Latencies::default(), Duration::ZERO, 0);
        let mut wrong = Vec::new();
        let opens = if session.quick { FEW_OPENS } else { OPENS };
        for _ in 0..opens {
            if !session.goes_on() {
                break;
            }
            let first = engine.queue.next_sequence();
            publish(&engine, tail, size, &session.stop())?;
            if !session.goes_on() {
                break;
            }
            if closed {
                engine.close()?;
            } else {
                drop(engine);
            }
            session.forget_files();
            let begin = Instant::now();
            let store = Store::open(&dir, options.clone())?;
            let time = begin.elapsed();
            times.record(time);
            total += time;
            replayed += store.recovery().bytes;
            session.say(&format!(
                "recovery: opened in {}, {} replayed",
                text::microseconds(time.as_secs_f64() * 1e6),
                text::bytes(store.recovery().bytes)
            ));
            let found = store.recovery().messages;
            if found != backlog + tail {
                let stored = backlog + tail;
                wrong.push(format!("{stored} messages were stored, and an open found {found}"));
            }
            engine = Engine::of(store)?;
            if let Some(newest) = engine.queue.next_sequence().previous() {
                engine.queue.acknowledge(&[SequenceRange { first, last: newest }])?;
            }
            engine.store.checkpoint()?;
        }
        let mut parameters = Parameters::default();
        parameters
            .set("ended", if closed { "closed" } else { "killed" })
            .set("backlog", backlog)
            .set("since checkpoint", tail)
            .set("size", Setting::Bytes(size));
        let throughput = Throughput::new("opens", opens.into(), 0, total);
        let mut measurement = Measurement::new("recovery", parameters, throughput);
        measurement.latencies.extend(times.summary("open", Since::Begun));
        let each = replayed as f64 / f64::from(opens);
        measurement.figures.push(Figure::new("replayed", Unit::Bytes, each));
        measurement.wrong = wrong;
        session.take(measurement);
    }
    Ok(())
}
