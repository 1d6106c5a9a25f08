//! One measurement, in the process that was started for it: nothing is left in memory from the store before.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::arguments::{One, Step};
use crate::peer::{Peer, Place};

/// How many threads append where there are many.
const WRITERS: u64 = 64;

/// How many messages are fetched and acknowledged at a time, and appended where both is done.
const BATCH: usize = 100;

/// How many batches the appending thread may be ahead of the other.
const AHEAD: usize = 100;

/// How many messages a backlog is filled with at a time.
const FILL: usize = 1000;

/// How long a store is left alone between being opened (and filled) and being measured: some make files ready ahead of need
/// then, others in the open.
const SETTLE: Duration = Duration::from_secs(1);

/// How many different bodies there are.
const BODIES: u64 = 512;

/// What a process tells of its measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    /// Bytes that the process has had written to the disk from the beginning of the measurement until the store was closed.
    pub(crate) written: u64,
    /// Bytes that the store's files take on the disk when it was closed.
    pub(crate) disk: u64,
    /// The largest resident size of the process, in bytes.
    pub(crate) resident: u64,
}

/// Measures, and prints the figures as a line of JSON. A process that is to be killed says when, and waits for it.
pub(crate) fn print(one: &One) -> Outcome {
    if one.step == Step::Fill {
        let peer = one.peer.open(&one.dir)?;
        fill(&*peer, &Bodies::new(one.size), one.messages)?;
        println!("filled");
        io::stdout().flush()?;
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
    println!("{}", serde_json::to_string(&measure(one)?)?);
    Ok(())
}

fn measure(one: &One) -> Outcome<Figures> {
    let bodies = &Bodies::new(one.size);
    if one.step == Step::Reopen {
        let (began, written) = (Instant::now(), bytes_written()?);
        let peer = one.peer.open(&one.dir)?;
        let first = peer.fetch(Place::FIRST, 1)?;
        let seconds = began.elapsed().as_secs_f64();
        let resident = peak_resident()?;
        if first.len() != 1 || count(&*peer)? != one.messages {
            return Err("the backlog is not what it was filled with".into());
        }
        return Ok(Figures { resident, ..figures(one, peer, seconds, written)? });
    }
    let peer = one.peer.open(&one.dir)?;
    match one.step {
        Step::Drain => fill(&*peer, bodies, one.messages)?,
        Step::Mixed => fill(&*peer, bodies, FILL as u64)?,
        _ => {}
    }
    thread::sleep(SETTLE);
    let (began, written) = (Instant::now(), bytes_written()?);
    match one.step {
        Step::AppendOne => append(&*peer, bodies, one.messages, 1)?,
        Step::AppendHundred => append(&*peer, bodies, one.messages, 100)?,
        Step::AppendThousand => append(&*peer, bodies, one.messages, 1000)?,
        Step::AppendMany => append_many(&*peer, bodies, one.messages)?,
        Step::Drain => take(&*peer, one.messages, || Ok(()))?,
        Step::Mixed => mixed(&*peer, bodies, one.messages)?,
        Step::Fill | Step::Reopen => {}
    }
    let seconds = began.elapsed().as_secs_f64();
    figures(one, peer, seconds, written)
}

fn figures(one: &One, peer: Box<dyn Peer>, seconds: f64, written: u64) -> Outcome<Figures> {
    peer.close()?;
    let written = bytes_written()? - written;
    let (disk, resident) = (bytes_on_disk(&one.dir)?, peak_resident()?);
    Ok(Figures { seconds, messages: one.messages, written, disk, resident })
}

/// Random bodies, of which every message gets a copy of its own, as if it came from somewhere.
struct Bodies(Vec<Vec<u8>>);

impl Bodies {
    fn new(size: usize) -> Bodies {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        Bodies((0..BODIES).map(|_| (0..size).map(|_| byte()).collect()).collect())
    }

    fn of(&self, number: u64) -> Bytes {
        Bytes::copy_from_slice(&self.0[(number % BODIES) as usize])
    }

    fn batch(&self, from: u64, count: u64) -> Vec<Bytes> {
        (from..from + count).map(|number| self.of(number)).collect()
    }
}

fn append(peer: &dyn Peer, bodies: &Bodies, messages: u64, batch: u64) -> Outcome {
    for from in (0..messages).step_by(batch as usize) {
        peer.append(&bodies.batch(from, batch.min(messages - from)))?;
    }
    Ok(())
}

fn fill(peer: &dyn Peer, bodies: &Bodies, messages: u64) -> Outcome {
    append(peer, bodies, messages, FILL as u64)
}

fn append_many(peer: &dyn Peer, bodies: &Bodies, messages: u64) -> Outcome {
    let next = &AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = || -> Outcome {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= messages {
                    return Ok(());
                }
                peer.append(&[bodies.of(number)])?;
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
    })
}

/// How many messages there are, from the first on without a gap.
fn count(peer: &dyn Peer) -> Outcome<u64> {
    let mut next = Place::FIRST;
    loop {
        let fetched = peer.fetch(next, BATCH)?;
        if fetched.is_empty() {
            return Ok(next.0 - Place::FIRST.0);
        }
        for (place, _) in fetched {
            if place != next {
                return Err(format!("{place:?} comes where {next:?} should").into());
            }
            next = next.next();
        }
    }
}

/// Fetches and acknowledges so many messages; `ready` waits for the next batch.
fn take(peer: &dyn Peer, messages: u64, mut ready: impl FnMut() -> Outcome) -> Outcome {
    let mut next = Place::FIRST;
    let end = next.0 + messages;
    while next.0 < end {
        ready()?;
        let limit = BATCH.min((end - next.0) as usize);
        let fetched = peer.fetch(next, limit)?;
        let places = fetched.iter().map(|(place, _)| place.0);
        if !places.eq(next.0..next.0 + limit as u64) {
            return Err(
                format!("the {limit} messages from {next:?} on are not what was fetched").into()
            );
        }
        let last = Place(next.0 + limit as u64 - 1);
        peer.acknowledge(last)?;
        next = last.next();
    }
    Ok(())
}

fn mixed(peer: &dyn Peer, bodies: &Bodies, messages: u64) -> Outcome {
    let (appended, ready) = sync_channel(AHEAD);
    thread::scope(|scope| {
        let taker = scope.spawn(move || {
            // A sender that is gone has appended everything, or has an error of its own to tell.
            take(peer, messages, || Ok(ready.recv()?))
        });
        for from in (0..messages).step_by(BATCH) {
            peer.append(&bodies.batch(from, (BATCH as u64).min(messages - from)))?;
            if appended.send(()).is_err() {
                break;
            }
        }
        drop(appended);
        taker.join().map_err(|_| "the thread that acknowledges panicked")?
    })
}

/// What this process has had written so far, as the kernel counts it: when a page is made dirty, or written past the cache.
fn bytes_written() -> Outcome<u64> {
    number_in("/proc/self/io", "write_bytes:")
}

fn peak_resident() -> Outcome<u64> {
    Ok(number_in("/proc/self/status", "VmHWM:")? << 10)
}

fn number_in(file: &str, name: &str) -> Outcome<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("{file} does not say {name}"))?.parse()?)
}

/// What is allocated to the files in a directory.
pub(crate) fn bytes_on_disk(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            bytes_on_disk(&entry.path())?
        } else {
            // Always in units of 512 bytes.
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
