//! `queues`: many queues, which is one log.

use std::time::Instant;

use super::load::{Load, Waiting};
use super::session::Session;
use super::{BenchError, beside};
use crate::cli::bench::report::{Measurement, Parameters, Setting, Throughput};
use crate::storage::{Change, Queue};

/// How many there are.
const QUEUES: [u64; 3] = [1, 100, 10_000];
const FEW_QUEUES: [u64; 2] = [1, 1000];

pub(super) fn run(session: &mut Session) -> Result<(), BenchError> {
    let engine = session.engine()?;
    let numbers = if session.quick { &FEW_QUEUES[..] } else { &QUEUES };
    for number in numbers {
        if !session.goes_on() {
            break;
        }
        let begin = Instant::now();
        let created = (0..*number).map(|_| engine.store.create_queue(b"bench"));
        let created = created.collect::<Result<Vec<_>, _>>()?;
        if let Some((_, last)) = created.last() {
            engine.store.wait_durable(*last)?;
        }
        let time = begin.elapsed();
        let queues: Vec<Queue> = created.into_iter().map(|(queue, _)| queue).collect();
        let mut parameters = Parameters::default();
        parameters.set("queues", *number);
        let throughput = Throughput::new("queues", *number, 0, time);
        session.take(Measurement::new("queues", parameters.clone(), throughput));

        let load = Load {
            writers: session.writers(4),
            size: session.size(1024),
            waiting: Waiting::Window,
            window: session.chosen.window,
            ..Load::default()
        };
        parameters.set("writers", load.writers).set("size", Setting::Bytes(load.size));
        load.set_waiting(&mut parameters);
        let measured =
            beside::measure_queues(session, &engine, &queues, "queues", &load, parameters)?;
        session.take(measured);
        let deleted = queues.iter().map(|queue| Change::DeleteQueue(queue.id())).collect();
        engine.store.wait_durable(engine.store.apply(deleted)?)?;
    }
    Ok(())
}
