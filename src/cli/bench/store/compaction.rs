//! `compaction`: appending while one message in a hundred stays for ever, so that every segment has some that are live.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::engine::Engine;
use super::load::{Load, Waiting};
use super::session::Session;
use super::{BenchError, beside};
use crate::cli::bench::report::{Figure, Parameters, Setting, Unit};
use crate::storage::{Sequence, Store, StoreError};

/// One message in so many stays.
const STUCK: u64 = 100;

/// How long is waited before it is compacted again.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) fn run(session: &mut Session) -> Result<(), BenchError> {
    for (stuck, forced) in [(0, false), (STUCK, false), (STUCK, true)] {
        if !session.goes_on() {
            break;
        }
        let engine = session.fresh_engine()?;
        let load = Load {
            writers: session.writers(4),
            size: session.size(1024),
            waiting: Waiting::Window,
            window: session.chosen.window,
            stuck,
            ..Load::default()
        };
        let mut parameters = Parameters::default();
        parameters
            .set("stuck", if stuck == 0 { "none" } else { "1 %" })
            .set("compaction", if forced { "all the time" } else { "by itself" })
            .set("writers", load.writers)
            .set("size", Setting::Bytes(load.size));
        load.set_waiting(&mut parameters);
        let first = engine.queue.next_sequence();
        let over = AtomicBool::new(false);
        let mut measurement = thread::scope(|scope| {
            let compacting = forced.then(|| scope.spawn(|| compact_until(&engine.store, &over)));
            let measured = beside::measure(session, &engine, "compaction", &load, parameters);
            over.store(true, Ordering::Relaxed);
            let compacted = compacting.map_or(Ok(Ok(())), thread::ScopedJoinHandle::join);
            compacted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            measured
        })?;
        let live = engine.queue.bytes();
        measurement.figures.extend([
            Figure::new("moved", Unit::Bytes, engine.store.compacted().bytes as f64),
            Figure::new("live", Unit::Bytes, live as f64),
            Figure::new("files", Unit::Bytes, session.data_bytes() as f64),
        ]);
        check(&engine, first, load.stuck, &mut measurement.wrong);
        session.take(measurement);
    }
    Ok(())
}

fn compact_until(store: &Store, over: &AtomicBool) -> Result<(), StoreError> {
    while !over.load(Ordering::Relaxed) {
        store.compact()?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// What is stuck of what was appended from `first` on has to be there still.
fn check(engine: &Engine, first: Sequence, stuck: u64, wrong: &mut Vec<String>) {
    let stuck_below = |end: Sequence| if stuck == 0 { 0 } else { end.get().div_ceil(stuck) };
    let wanted = stuck_below(engine.queue.next_sequence()) - stuck_below(first);
    let found = engine.queue.len();
    if found != wanted {
        wrong.push(format!("{wanted} messages were to stay, and there are {found}"));
    }
}
