//! `drain`: taking everything out of a deep queue, of which all is in memory, or nothing.

use std::time::Instant;

use super::backlog::{SIZE, drain, publish};
use super::disk::Reading;
use super::engine::{Effort, Engine};
use super::load::HEADER;
use super::session::Session;
use super::{BenchError, beside};
use crate::cli::bench::report::{Measurement, Parameters, Setting, Share, Since, Throughput};
use crate::storage::{Options, Sequence};

pub(super) fn run(session: &mut Session) -> Result<(), BenchError> {
    let size = session.size(SIZE);
    for from_disk in [false, true] {
        let dir = session.fresh_data()?;
        let mut options = session.options();
        if !from_disk {
            options = Options { cache: u64::MAX, index: u64::MAX, ..options };
        }
        let messages = session.backlog();
        let mut engine = Engine::create(&dir, options.clone())?;
        session.say(&format!("drain: a backlog of {messages}"));
        publish(&engine, messages, size, &session.stop())?;
        if !session.goes_on() {
            break;
        }
        let mut reading = Reading::default();
        if from_disk {
            let files = engine.used_files();
            engine.close()?;
            session.forget_files();
            reading.measure(&files)?;
            engine = Engine::open(&dir, options)?;
            session.forget_files();
        }
        let mut effort = Effort::default();
        let begin = Instant::now();
        let drained = effort
            .measure(&engine.store, || drain(&engine.queue, Sequence::FIRST, &session.stop()))?;
        let time = begin.elapsed();
        let mut parameters = Parameters::default();
        parameters
            .set("from", if from_disk { "disk" } else { "memory" })
            .set("backlog", messages)
            .set("size", Setting::Bytes(size));
        let throughput = Throughput::new("messages", drained.messages, drained.bytes, time);
        let mut measurement = Measurement::new("drain", parameters, throughput);
        measurement.latencies.extend(drained.loads.summary("load", Since::Begun));
        beside::add_effort(&mut measurement, drained.messages, time, &effort);
        if from_disk {
            // All bytes of the files count: the engine has to read past what lies between the messages.
            let reference = messages as f64 * reading.times_a_second();
            let rate = measurement.throughput.per_second();
            measurement.share = Some(Share::of("reading", rate, reference));
        }
        let bytes = messages * (size + HEADER);
        if session.goes_on() && (drained.messages, drained.bytes) != (messages, bytes) {
            measurement.wrong.push(format!(
                "{messages} messages of {bytes} bytes in all were stored, and {} of {} bytes came back",
                drained.messages, drained.bytes
            ));
        }
        session.take(measurement);
    }
    Ok(())
}
