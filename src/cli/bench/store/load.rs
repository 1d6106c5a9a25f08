//! Writers that append to a store, each in a thread of its own.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;
use parking_lot::Mutex;

use super::BenchError;
use crate::cli::bench::report::{Latencies, Parameters};
use crate::cli::bench::schedule::Schedule;
use crate::storage::{
    Lsn, Message, Persistence, Queue, Sequence, SequenceRange, Store, StoreError,
};

/// Bytes of a message's header: what the broker's envelope takes.
pub(super) const HEADER: u64 = 20;

/// When so much lies in the queues, it is acknowledged, in bytes: so that the files are recycled, as those of a store whose
/// messages are consumed.
const BACKLOG: u64 = 16 << 20;

/// Who waits for the next message to be due looks so often whether somebody wants it to end.
const NAP: Duration = Duration::from_millis(50);

/// So many ranges are acknowledged at a time.
const RANGES: usize = 100;

/// A writer looks so often, in bytes, whether more is unsynced than is good.
const LOOK: u64 = 128 << 10;

/// When a writer waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Waiting {
    /// Until what it has appended is durable, before it appends more.
    Each,
    /// The same, as a task: all writers share a thread, which none of them blocks.
    Task,
    /// When as many messages as the window are not durable yet.
    Window,
    /// Not at all, unless the store is congested; it is over when everything is durable.
    Lazy,
}

/// What is appended, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) writers: u64,
    /// Bytes of a body.
    pub(super) size: u64,
    /// How many messages are appended before it is waited; only for [`Waiting::Each`].
    pub(super) batch: u64,
    pub(super) waiting: Waiting,
    /// How many messages of a writer are not durable at most; only for [`Waiting::Window`].
    pub(super) window: u64,
    /// So many messages a second from all writers together, if there is a rate; only for [`Waiting::Each`].
    pub(super) rate: Option<u64>,
    /// One message in so many is never acknowledged; 0: none.
    pub(super) stuck: u64,
}

impl Default for Load {
    fn default() -> Load {
        Load {
            writers: 1,
            size: 1024,
            batch: 1,
            waiting: Waiting::Each,
            window: 1000,
            rate: None,
            stuck: 0,
        }
    }
}

/// What it came to. All of it is durable.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    /// Messages that were due, and were not appended when there was no time left for them.
    pub(super) unsent: u64,
    pub(super) time: Duration,
    /// From each message's append, or from when it was due, until it was known to be durable.
    pub(super) latencies: Latencies,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        self.messages += other.messages;
        self.unsent += other.unsent;
        self.time += other.time;
        self.latencies.add(&other.latencies);
    }
}

impl Waiting {
    /// What `--sync` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Waiting::Each => "each",
            Waiting::Task => "task",
            Waiting::Window => "window",
            Waiting::Lazy => "lazy",
        }
    }
}

impl Load {
    /// Says among the parameters when a writer waits.
    pub(super) fn set_waiting(&self, parameters: &mut Parameters) {
        parameters.set("sync", self.waiting.name());
        if self.waiting == Waiting::Window {
            parameters.set("window", self.window);
        }
    }

    /// What a message takes from its publisher, in bytes.
    pub(super) fn message_bytes(&self) -> u64 {
        self.size + HEADER
    }

    /// Appends to the queues, each writer to all of them in turn, until the time is over or `stop` is set. What was appended has been
    /// acknowledged then, unless it is stuck.
    pub(super) fn run(
        &self,
        store: &Store,
        queues: &[Queue],
        time: Duration,
        stop: &AtomicBool,
    ) -> Result<Tally, BenchError> {
        // What is appended is made ready beforehand: that is no part of the time.
        let sources: Vec<_> =
            (0..self.writers).map(|number| Source::new(number, self.size)).collect();
        let begin = Instant::now();
        let crowd = Crowd {
            load: *self,
            store,
            queues,
            until: begin + time,
            // Who has a rate catches up on what was due, if it does not take for ever.
            given_up: begin + 2 * time,
            stop,
            schedule: self.rate.map(|rate| Schedule::new(rate, begin)),
            swept: Mutex::new(queues.iter().map(Queue::next_sequence).collect()),
        };
        let crowd = &crowd;
        let written = thread::scope(|scope| {
            if self.waiting == Waiting::Task {
                return crowd.run_tasks(sources);
            }
            let writers: Vec<_> = (0..)
                .zip(sources)
                .map(|(number, source)| scope.spawn(move || crowd.write(number, source)))
                .collect();
            let joined = writers.into_iter().map(|writer| {
                writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect::<Result<Vec<Tally>, BenchError>>()
        })?;
        let mut tally = Tally { time: begin.elapsed(), ..Tally::default() };
        for one in written {
            tally.messages += one.messages;
            tally.unsent += one.unsent;
            tally.latencies.add(&one.latencies);
        }
        crowd.sweep(&mut crowd.swept.lock())?;
        Ok(tally)
    }
}

/// What the writers share.
#[derive(Debug)]
struct Crowd<'a> {
    load: Load,
    store: &'a Store,
    queues: &'a [Queue],
    until: Instant,
    given_up: Instant,
    stop: &'a AtomicBool,
    schedule: Option<Schedule>,
    /// Up to where each queue was emptied; held by the writer who does so.
    swept: Mutex<Vec<Sequence>>,
}

impl Crowd<'_> {
    fn writer(&self, number: usize, source: Source) -> Writer<'_> {
        Writer {
            crowd: self,
            source,
            next_queue: number,
            since_sweep: 0,
            since_look: 0,
            tally: Tally::default(),
        }
    }

    /// All writers, as tasks of this thread.
    fn run_tasks(&self, sources: Vec<Source>) -> Result<Vec<Tally>, BenchError> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.build().map_err(BenchError::Threads)?;
        let mut writers: Vec<_> =
            (0..).zip(sources).map(|(number, source)| self.writer(number, source)).collect();
        let mut tasks: Vec<_> =
            writers.iter_mut().map(|writer| Box::pin(writer.wait_as_a_task())).collect();
        let mut outcome = Ok(());
        runtime.block_on(poll_fn(|context| {
            tasks.retain_mut(|task| match task.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(ended) => {
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(ended);
                    false
                }
            });
            if tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        }));
        drop(tasks);
        outcome?;
        Ok(writers.into_iter().map(|writer| writer.tally).collect())
    }

    fn write(&self, number: usize, source: Source) -> Result<Tally, BenchError> {
        let mut writer = self.writer(number, source);
        match self.load.waiting {
            Waiting::Each | Waiting::Task => writer.wait_for_each(),
            Waiting::Window => writer.keep_a_window(),
            Waiting::Lazy => writer.wait_for_nothing(),
        }?;
        Ok(writer.tally)
    }

    fn goes_on(&self) -> bool {
        let until = if self.schedule.is_some() { self.given_up } else { self.until };
        !self.stop.load(Ordering::Relaxed) && Instant::now() < until
    }

    /// Acknowledges what is in the queues, all or most of it.
    fn sweep(&self, swept: &mut [Sequence]) -> Result<(), StoreError> {
        for (queue, swept) in self.queues.iter().zip(swept) {
            let from = std::mem::replace(swept, queue.next_sequence());
            for ranges in ranges(from, *swept, self.load.stuck).chunks(RANGES) {
                queue.acknowledge(ranges)?;
            }
        }
        Ok(())
    }
}

/// The places from `from` up to `end`, but for one in so many (0: none).
fn ranges(from: Sequence, end: Sequence, stuck: u64) -> Vec<SequenceRange> {
    let (mut from, end) = (from.get(), end.get());
    let mut ranges = Vec::new();
    while from < end {
        let next_block = |block: u64| (block + 1).saturating_mul(stuck).min(end);
        let until = from.checked_div(stuck).map_or(end, next_block);
        // The first of so many stays.
        let first = if stuck > 0 && from.is_multiple_of(stuck) { from + 1 } else { from };
        let last = Sequence::new(until).previous();
        ranges.extend(last.and_then(|last| SequenceRange::new(Sequence::new(first), last)));
        from = until;
    }
    ranges
}

struct Writer<'a> {
    crowd: &'a Crowd<'a>,
    source: Source,
    next_queue: usize,
    since_sweep: u64,
    since_look: u64,
    tally: Tally,
}

impl Writer<'_> {
    fn wait_for_each(&mut self) -> Result<(), BenchError> {
        let mut moments = Vec::new();
        while self.crowd.goes_on() {
            let mut last = None;
            moments.clear();
            for _ in 0..self.crowd.load.batch.max(1) {
                let Some(moment) = self.moment() else { break };
                moments.push(moment);
                last = Some(self.append()?);
            }
            let Some(last) = last else { break };
            self.crowd.store.wait_durable(last)?;
            let now = Instant::now();
            moments.iter().for_each(|moment| self.tally.latencies.record(now - *moment));
            self.tally.messages += moments.len() as u64;
            self.sweep()?;
        }
        self.give_up();
        Ok(())
    }

    async fn wait_as_a_task(&mut self) -> Result<(), BenchError> {
        // One at least: on a machine that has much else to do a short time may be over when this begins.
        loop {
            let moment = Instant::now();
            let lsn = self.append()?;
            self.crowd.store.durable(lsn).await?;
            self.tally.latencies.record(moment.elapsed());
            self.tally.messages += 1;
            self.sweep()?;
            if !self.crowd.goes_on() {
                return Ok(());
            }
        }
    }

    /// What was due and is not appended any more has waited as well, and longer than this.
    fn give_up(&mut self) {
        let Some(schedule) = &self.crowd.schedule else { return };
        let now = Instant::now();
        for due in std::iter::repeat_with(|| schedule.next())
            .take_while(|due| *due < now.min(self.crowd.until))
        {
            self.tally.latencies.record(now - due);
            self.tally.unsent += 1;
        }
    }

    /// From when on the next message counts: now, or from when it is due, which is waited for. `None`: that is not in this time.
    fn moment(&self) -> Option<Instant> {
        let Some(schedule) = &self.crowd.schedule else { return Some(Instant::now()) };
        let due = schedule.next();
        if due >= self.crowd.until {
            return None;
        }
        loop {
            let early = due.saturating_duration_since(Instant::now());
            if early.is_zero() {
                return Some(due);
            }
            if self.crowd.stop.load(Ordering::Relaxed) {
                return None;
            }
            thread::sleep(early.min(NAP));
        }
    }

    /// Registers for the newest message whenever what it had registered for is durable, as a broker does for a connection's confirms.
    fn keep_a_window(&mut self) -> Result<(), BenchError> {
        let store = self.crowd.store;
        let mut waiting: VecDeque<(Lsn, Instant)> = VecDeque::new();
        let registered = Arc::new(AtomicBool::new(false));
        while self.crowd.goes_on() {
            let moment = Instant::now();
            let lsn = self.append()?;
            waiting.push_back((lsn, moment));
            if !registered.swap(true, Ordering::Acquire) {
                let registered = registered.clone();
                store.on_durable(lsn, move |_| registered.store(false, Ordering::Release));
            }
            if waiting.len() as u64 >= self.crowd.load.window.max(1)
                && let Some((oldest, _)) = waiting.front()
            {
                store.wait_durable(*oldest)?;
            }
            self.settle(&mut waiting);
            self.sweep()?;
        }
        if let Some((newest, _)) = waiting.back() {
            store.wait_durable(*newest)?;
        }
        self.settle(&mut waiting);
        Ok(())
    }

    /// Takes note of what is durable by now.
    fn settle(&mut self, waiting: &mut VecDeque<(Lsn, Instant)>) {
        let durable = self.crowd.store.durable_lsn();
        if waiting.front().is_none_or(|(oldest, _)| *oldest > durable) {
            return;
        }
        let now = Instant::now();
        while let Some((_, moment)) = waiting.pop_front_if(|(lsn, _)| *lsn <= durable) {
            self.tally.latencies.record(now - moment);
            self.tally.messages += 1;
        }
    }

    fn wait_for_nothing(&mut self) -> Result<(), BenchError> {
        let mut last = None;
        while self.crowd.goes_on() {
            last = Some(self.append()?);
            self.tally.messages += 1;
            self.sweep()?;
        }
        last.map_or(Ok(()), |lsn| self.crowd.store.wait_durable(lsn))?;
        Ok(())
    }

    fn append(&mut self) -> Result<Lsn, StoreError> {
        let queues = self.crowd.queues;
        let queue = &queues[self.next_queue % queues.len()];
        self.next_queue += 1;
        self.since_sweep += self.crowd.load.message_bytes();
        self.since_look += self.crowd.load.message_bytes();
        if self.since_look > LOOK {
            self.since_look = 0;
            if let Some(lsn) = self.crowd.store.congested() {
                self.crowd.store.wait_durable(lsn)?;
            }
        }
        let message = self.source.message();
        let appended = self.crowd.store.append(&message, Persistence::Durable, &[queue])?;
        Ok(appended.durable_at.unwrap_or(Lsn::ZERO))
    }

    /// Has the queues emptied now and then, by one writer while the others go on.
    fn sweep(&mut self) -> Result<(), BenchError> {
        if self.since_sweep * self.crowd.load.writers > BACKLOG {
            self.since_sweep = 0;
            if let Some(mut swept) = self.crowd.swept.try_lock() {
                self.crowd.sweep(&mut swept)?;
            }
        }
        Ok(())
    }
}

/// Where messages come from: each has bytes of its own, as one that came off a socket, and none that a disk could make smaller.
#[derive(Debug)]
pub(super) struct Source {
    noise: Vec<u8>,
    random: fastrand::Rng,
    size: usize,
}

impl Source {
    /// Messages with bodies of `size` bytes; the same ones for the same number.
    pub(super) fn new(number: u64, size: u64) -> Source {
        let mut random = fastrand::Rng::with_seed(number);
        let mut noise = vec![0; (HEADER + size) as usize + 4096];
        random.fill(&mut noise);
        Source { noise, random, size: size as usize }
    }

    pub(super) fn message(&mut self) -> Message {
        let begin = self.random.usize(..4096);
        let bytes = &self.noise[begin..begin + HEADER as usize + self.size];
        let (header, body) = bytes.split_at(HEADER as usize);
        Message::new(Bytes::copy_from_slice(header), Bytes::copy_from_slice(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::report::Since;

    #[test]
    fn one_message_in_so_many_is_never_acknowledged() {
        let pairs = |from, end, stuck| {
            let ranges = ranges(Sequence::new(from), Sequence::new(end), stuck);
            ranges.iter().map(|range| (range.first.get(), range.last.get())).collect::<Vec<_>>()
        };
        assert_eq!(pairs(0, 0, 0), []);
        assert_eq!(pairs(3, 9, 0), [(3, 8)]);
        assert_eq!(pairs(0, 300, 100), [(1, 99), (101, 199), (201, 299)]);
        assert_eq!(pairs(150, 201, 100), [(150, 199)]);
        assert_eq!(pairs(200, 202, 100), [(201, 201)]);
    }

    /// A store in memory as far as it can be: small segments.
    fn store(dir: &std::path::Path) -> (Store, Vec<Queue>) {
        let options = crate::storage::Options { segment_size: 1 << 20, ..Default::default() };
        let store = Store::open(dir, options).unwrap();
        let queues = (0..2).map(|_| store.create_queue(b"").unwrap().0).collect();
        (store, queues)
    }

    #[test]
    fn everything_that_is_counted_was_appended_and_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let (store, queues) = store(dir.path());
        for waiting in [Waiting::Each, Waiting::Task, Waiting::Window, Waiting::Lazy] {
            let before: u64 = queues.iter().map(|queue| queue.next_sequence().get()).sum();
            let load =
                Load { writers: 3, size: 10, batch: 4, waiting, window: 7, ..Load::default() };
            let stop = AtomicBool::new(false);
            let tally = load.run(&store, &queues, Duration::from_millis(20), &stop).unwrap();
            let appended: u64 = queues.iter().map(|queue| queue.next_sequence().get()).sum();
            assert_eq!(tally.messages, appended - before, "{waiting:?}");
            assert!(queues.iter().all(Queue::is_empty), "{waiting:?}");
            let timed = tally.latencies.summary("durable", Since::Begun).map_or(0, |all| all.count);
            assert_eq!(timed, if waiting == Waiting::Lazy { 0 } else { tally.messages });
        }
    }

    #[test]
    fn a_rated_load_ends_when_it_is_told_to_and_not_when_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (store, queues) = store(dir.path());
        let load = Load { size: 10, rate: Some(1), ..Load::default() };
        let stop = AtomicBool::new(false);
        let tally = thread::scope(|scope| {
            let run = scope.spawn(|| load.run(&store, &queues, Duration::from_secs(3600), &stop));
            while queues.iter().all(|queue| queue.next_sequence() == Sequence::FIRST) {
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            run.join().unwrap().unwrap()
        });
        assert!(tally.messages >= 1);
    }

    #[test]
    fn what_is_stuck_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (store, queues) = store(dir.path());
        let load = Load { batch: 50, stuck: 10, ..Load::default() };
        let stop = AtomicBool::new(false);
        load.run(&store, &queues, Duration::from_millis(20), &stop).unwrap();
        for queue in &queues {
            assert_eq!(queue.len(), queue.next_sequence().get().div_ceil(10));
        }
    }

    #[test]
    fn everything_that_was_due_is_sent_or_counted_as_unsent() {
        let dir = tempfile::tempdir().unwrap();
        let (store, queues) = store(dir.path());
        // 50 are due; however slow the disk is.
        let load = Load { writers: 2, size: 10, rate: Some(1000), ..Load::default() };
        let stop = AtomicBool::new(false);
        let tally = load.run(&store, &queues, Duration::from_millis(50), &stop).unwrap();
        assert_eq!(tally.messages + tally.unsent, 50);
        assert_eq!(tally.latencies.summary("durable", Since::Due).unwrap().count, 50);
    }
}
