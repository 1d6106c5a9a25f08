//! The child of `--store`: a program that embeds the engine, works with several threads, and tells on its standard output
//! what it knows to be durable, and only that.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::TortureError;
use super::child::Place;
use super::note::Note;
use super::oracle::{Consumer, Found};
use super::plan::Plan;
use super::stamp::{Identity, Publisher, QueueNumber};
use crate::cli::{COULD_NOT_RUN, DONE, FAILED, complain, interrupt, logging};
use crate::storage::disk::Disk;
use crate::storage::{
    Fetch, Fetched, Message, OpenError, Options, Persistence, Queue, Sequence, SequenceRange,
    Store, StoreError,
};

/// A publisher announces so many messages at a time.
const ANNOUNCED: u64 = 64;

/// A consumer takes so many at a time at most.
const BATCH: usize = 32;

/// How long one with nothing to do sleeps.
const PAUSE: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug, clap::Args)]
pub(super) struct StoreChild {
    #[command(flatten)]
    place: Place,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    life: u64,
    #[arg(long)]
    queues: u8,
    #[arg(long)]
    publishers: u16,
    #[arg(long)]
    consumers: u16,
    #[arg(long)]
    largest: u32,
    #[arg(long)]
    segment_size: u64,
    /// Of each publisher: the number of its first message.
    #[arg(long, value_delimiter = ',')]
    first: Vec<u64>,
    /// Bytes that may be published.
    #[arg(long)]
    budget: u64,
    /// Open the store, and do nothing with it.
    #[arg(long)]
    idle: bool,
    /// Tell that messages are durable without waiting for it.
    #[arg(long)]
    sabotage: bool,
}

/// Why a thread of the child stops.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot tell the torture what happened: {0}")]
    Untold(#[from] io::Error),
}

/// What the threads share.
struct Work {
    store: Store,
    queues: Vec<Queue>,
    plan: Plan,
    /// Bytes that may still be published.
    budget: AtomicU64,
    sabotage: bool,
    output: Mutex<io::Stdout>,
    over: Arc<AtomicBool>,
}

/// Small files, small budgets: roll-over, recycling, spilling, compaction and checkpoints happen all the time.
pub(super) fn options(segment_size: u64, disk: Arc<dyn Disk>) -> Options {
    Options {
        segment_size,
        checkpoint_distance: 4 * segment_size,
        cache: 1 << 20,
        index: 64 << 10,
        chunk_places: 64,
        disk,
        ..Options::default()
    }
}

/// The queue with this number, if there is one.
pub(super) fn find(store: &Store, queue: QueueNumber) -> Option<Queue> {
    let name = queue.to_string();
    store.queues().into_iter().find(|queue| queue.attributes() == name.as_bytes())
}

/// What a fetch gave, for the oracle.
pub(super) fn found(fetched: &Fetched) -> Found {
    let message = &fetched.message;
    Found::new(message.header(), &message.body(), fetched.deliveries > 0)
}

impl StoreChild {
    pub(super) fn run(self) -> u8 {
        let _log = logging::start_of_a_child();
        let over = match interrupt::watch().map_err(TortureError::Signals) {
            Ok(over) => over,
            Err(error) => {
                complain(&error);
                return COULD_NOT_RUN;
            }
        };
        let work = match self.open(over) {
            Ok(work) => work,
            Err(error) => {
                complain(&error);
                return COULD_NOT_RUN;
            }
        };
        let worked = if self.idle { work.idle() } else { self.work(&work) };
        match worked {
            Ok(()) => DONE,
            Err(error) => {
                complain(&error);
                FAILED
            }
        }
    }

    fn open(&self, over: Arc<AtomicBool>) -> Result<Work, OpenError> {
        let options = options(self.segment_size, self.place.disk());
        let store = Store::open(&self.place.data_dir, options)?;
        let mut queues = Vec::new();
        for number in 0..self.queues {
            let number = QueueNumber(number);
            let queue = match find(&store, number) {
                Some(queue) => queue,
                None => store.create_queue(number.to_string().as_bytes())?.0,
            };
            queues.push(queue);
        }
        let plan = Plan {
            seed: self.seed,
            queues: self.queues,
            publishers: self.publishers,
            consumers: self.consumers,
            largest: self.largest,
        };
        let (budget, output) = (AtomicU64::new(self.budget), Mutex::new(io::stdout()));
        Ok(Work { store, queues, plan, budget, sabotage: self.sabotage, output, over })
    }

    fn work(&self, work: &Work) -> Result<(), Stopped> {
        work.tell(&Note::Ready)?;
        let mut random = fastrand::Rng::with_seed(self.life);
        let mut outcome = Ok(());
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (publisher, first) in (0..self.publishers).map(Publisher).zip(&self.first) {
                let random = random.fork();
                threads.push(
                    scope.spawn(move || work.stop_all(work.publish(publisher, *first, random))),
                );
            }
            for consumer in (0..self.consumers.min(u16::from(self.queues))).map(Consumer) {
                let random = random.fork();
                threads.push(scope.spawn(move || work.stop_all(work.consume(consumer, random))));
            }
            let random = random.fork();
            threads.push(scope.spawn(move || work.stop_all(work.look_after(random))));
            while work.goes_on() {
                thread::sleep(PAUSE);
            }
            // In the middle of the work: whoever waits, for room on a full disk maybe, is told.
            let closed = work.store.clone().close();
            for thread in threads {
                let stopped = thread.join().expect("a thread of the child does not panic");
                outcome = std::mem::replace(&mut outcome, Ok(())).and(stopped);
            }
            outcome = std::mem::replace(&mut outcome, Ok(())).and(closed.map_err(Stopped::from));
        });
        outcome
    }
}

impl Work {
    fn tell(&self, note: &Note) -> io::Result<()> {
        let mut output = self.output.lock();
        output.write_all(note.line().as_bytes())?;
        output.flush()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// One that stops is the end of all. That the store was closed is no failure.
    fn stop_all(&self, stopped: Result<(), Stopped>) -> Result<(), Stopped> {
        self.over.store(true, Ordering::Relaxed);
        match stopped {
            Err(Stopped::Store(StoreError::Closed)) => Ok(()),
            other => other,
        }
    }

    fn idle(&self) -> Result<(), Stopped> {
        self.tell(&Note::Ready)?;
        while self.goes_on() {
            thread::sleep(PAUSE);
        }
        Ok(self.store.clone().close()?)
    }

    fn publish(
        &self,
        publisher: Publisher,
        first: u64,
        mut random: fastrand::Rng,
    ) -> Result<(), Stopped> {
        let (mut number, mut announced, mut confirmed) = (first, first, first);
        let mut last = None;
        while self.goes_on() {
            if number == announced {
                announced += ANNOUNCED;
                self.tell(&Note::Announced(publisher, announced))?;
            }
            let identity = Identity { publisher, number };
            let sent = self.plan.message(identity);
            let bytes = u64::from(sent.stamp.length);
            let enough = self
                .budget
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
            let appended = match enough {
                Ok(_) => {
                    let targets: Vec<&Queue> = sent
                        .stamp
                        .queues
                        .iter()
                        .filter_map(|queue| self.queues.get(usize::from(queue.0)))
                        .collect();
                    let message = Message::new(identity.to_string(), sent.stamp.body());
                    let persistence =
                        if sent.persistent { Persistence::Durable } else { Persistence::Transient };
                    self.store.append(&message, persistence, &targets)
                }
                Err(_) => Err(StoreError::Full),
            };
            let held_back = match appended {
                Ok(appended) => {
                    last = appended.durable_at.or(last);
                    number += 1;
                    false
                }
                // Consumers make room in time, and the message is tried again.
                Err(StoreError::Full | StoreError::NoRoom { .. }) => true,
                Err(error) => return Err(error.into()),
            };
            if number > confirmed && (held_back || random.u8(0..24) == 0) {
                if let Some(last) = last.filter(|_| !self.sabotage) {
                    self.store.wait_durable(last)?;
                }
                self.tell(&Note::Confirmed(publisher, number))?;
                confirmed = number;
            }
            if held_back {
                thread::sleep(PAUSE);
            }
            if let Some(lsn) = self.store.congested() {
                self.store.wait_durable(lsn)?;
            }
        }
        Ok(())
    }

    fn consume(&self, consumer: Consumer, mut random: fastrand::Rng) -> Result<(), Stopped> {
        let number = self.plan.consumed_by(consumer);
        let Some(queue) = self.queues.get(usize::from(number.0)) else { return Ok(()) };
        let mut cursor = Sequence::FIRST;
        let mut held: Vec<(Sequence, Identity)> = Vec::new();
        let mut told = false;
        while self.goes_on() {
            let mut fetched = Vec::new();
            let limit = random.usize(1..=BATCH);
            if queue.fetch(cursor, limit, &mut fetched) == Fetch::NeedsLoad {
                queue.load(cursor)?;
            }
            if let Some(last) = fetched.last() {
                cursor = last.sequence.next();
                held.extend(self.hand_out(consumer, number, queue, &fetched)?);
                told = true;
            } else {
                thread::sleep(PAUSE);
            }
            // Out of order, and some of it not for a long time.
            random.shuffle(&mut held);
            let left = if random.u8(0..4) == 0 { 0 } else { random.usize(0..=held.len()) };
            let gone = held.split_off(left);
            for gone in gone.chunks(BATCH) {
                let identities = gone.iter().map(|(_, identity)| *identity).collect();
                self.tell(&Note::Acknowledged(consumer, number, identities))?;
                let mut places: Vec<Sequence> = gone.iter().map(|(place, _)| *place).collect();
                places.sort_unstable();
                let ranges: Vec<SequenceRange> =
                    places.into_iter().map(SequenceRange::one).collect();
                queue.acknowledge(&ranges)?;
                told = true;
            }
            if told && random.u8(0..8) == 0 {
                // An empty change is a place in the log, and nothing else.
                let behind = self.store.apply(Vec::new())?;
                self.store.wait_durable(behind)?;
                self.tell(&Note::Settled(consumer))?;
                told = false;
            }
            if random.u8(0..100) == 0 {
                // What is not acknowledged is handed out again.
                cursor = Sequence::FIRST;
                held.clear();
            }
        }
        Ok(())
    }

    /// Tells of what was handed out, first to the torture and then to the store; gives what is whole.
    fn hand_out(
        &self,
        consumer: Consumer,
        number: QueueNumber,
        queue: &Queue,
        fetched: &[Fetched],
    ) -> Result<Vec<(Sequence, Identity)>, Stopped> {
        let mut taken = Vec::new();
        let mut told = Vec::new();
        for fetched in fetched {
            let found = found(fetched);
            match found.label {
                Some(identity) if found.content == Ok(self.plan.message(identity).stamp) => {
                    taken.push((fetched.sequence, identity));
                    told.push((identity, found.redelivered));
                }
                _ => self.tell(&Note::Altered(format!("{number}: {found:?} was handed out")))?,
            }
        }
        self.tell(&Note::HandedOut(consumer, number, told))?;
        let counts: Vec<(Sequence, u32)> =
            fetched.iter().map(|fetched| (fetched.sequence, fetched.deliveries + 1)).collect();
        queue.mark_delivered(&counts)?;
        Ok(taken)
    }

    /// Checkpoints and compaction beyond those that the store does by itself.
    fn look_after(&self, mut random: fastrand::Rng) -> Result<(), Stopped> {
        while self.goes_on() {
            let done = match random.u8(0..4) {
                0 => self.store.checkpoint(),
                1 => self.store.compact().map(|_| ()),
                _ => {
                    thread::sleep(Duration::from_micros(random.u64(0..20_000)));
                    Ok(())
                }
            };
            match done {
                Ok(()) | Err(StoreError::Full) => {}
                Err(error) => return Err(error.into()),
            }
            let damaged = self.store.set_aside();
            if damaged > 0 {
                let text = format!("{damaged} messages could not be read back, or were damaged");
                self.tell(&Note::Altered(text))?;
                return Ok(());
            }
        }
        Ok(())
    }
}
