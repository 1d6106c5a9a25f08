//! One scenario, once, on one broker: making the queues, the threads that work, watching them, and what it came to.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::super::cpu::cpu_time;
use super::super::schedule::Schedule;
use super::consumer::{Consumed, Consuming};
use super::outcome::Outcome;
use super::publisher::{Published, Publishing};
use super::received::{Received, Stream};
use super::scenario::{Mode, Scenario};
use super::shared::Shared;
use super::stamp::{Publisher, RunId};
use super::topology::Topology;
use super::usage::{NoUsage, Usage};
use crate::cli::client::{AmqpUri, ClientError, Connection};
use crate::cli::status_line::StatusLine;
use crate::cli::text;

/// How often it is looked how far the threads are.
const LOOK: Duration = Duration::from_millis(5);

/// How often that is said.
const SAY: Duration = Duration::from_secs(1);

/// How often queues are asked whether they have all messages that were accepted.
const COUNT: Duration = Duration::from_millis(100);

/// A broker that is measured.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub(super) uri: AmqpUri,
    /// Where it is, for a person; no two have the same.
    pub(super) name: String,
    /// How it is called beside others.
    pub(super) label: String,
    /// Its process, if it is on this machine.
    pub(super) process: Option<u32>,
}

/// What a run may be told from outside, and what it tells.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) interrupted: &'a AtomicBool,
    pub(super) status: &'a StatusLine,
    pub(super) queue_prefix: &'a str,
    /// Leave the queues, with what is in them.
    pub(super) keep: bool,
    /// What is still there on a broker, in words.
    pub(super) leftovers: RefCell<Vec<String>>,
    /// When nothing was published, confirmed or delivered for so long, nothing more will be.
    pub(super) patience: Duration,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// Nothing was measured yet.
    #[error("{}", named(broker, source))]
    Begin { broker: String, source: ClientError },
    /// It ended in the middle.
    #[error("{broker}: {scenario} broke off: {source}")]
    BrokeOff { broker: String, scenario: &'static str, source: ClientError },
    #[error(transparent)]
    Usage(#[from] NoUsage),
}

/// An error with the broker that it is of, once.
fn named(broker: &str, error: &ClientError) -> String {
    match error {
        ClientError::Connect { .. } | ClientError::Login { .. } | ClientError::Protocol { .. } => {
            error.to_string()
        }
        _ => format!("{broker}: {error}"),
    }
}

/// What the threads of a stage have done: publishing, consuming, or both.
struct Stage {
    began: Instant,
    published: Vec<Published>,
    consumed: Vec<Consumed>,
    /// Of this process.
    cpu: Duration,
    /// Of the broker, before and after.
    broker: Option<(Usage, Usage)>,
    /// Nothing happened any more, and it was ended.
    stalled: bool,
}

/// Everything that a stage needs.
struct Run<'a> {
    shared: &'a Shared<'a>,
    broker: &'a Broker,
    around: &'a Surroundings<'a>,
}

/// Runs a scenario, and removes its queues.
pub(super) fn run(
    scenario: &Scenario,
    broker: &Broker,
    around: &Surroundings<'_>,
) -> Result<Outcome, LoadError> {
    let begin = |source| LoadError::Begin { broker: broker.name.clone(), source };
    let id = RunId(fastrand::u32(..));
    let topology = Topology::new(
        around.queue_prefix,
        id,
        scenario.exchange,
        scenario.queues,
        scenario.fan_out,
        scenario.queue_type.clone(),
    );
    let declared = control(&broker.uri).and_then(|mut connection| {
        topology.declare(&mut connection)?;
        connection.close()
    });
    let shared = Shared::new(scenario, &topology, id);
    let run = Run { shared: &shared, broker, around };
    let outcome = declared.map_err(begin).and_then(|()| run.measure());
    if around.keep {
        around.leftovers.borrow_mut().push(format!(
            "The queues {topology}.0 to {} on {} were kept.",
            scenario.queues - 1,
            broker.name
        ));
    } else if let Err(error) = control(&broker.uri).and_then(|mut connection| {
        topology.remove(&mut connection)?;
        connection.close()
    }) {
        around.leftovers.borrow_mut().push(format!(
            "The queues {topology}.0 to {} are still on {}, if it has not lost them: {error}",
            scenario.queues - 1,
            broker.name
        ));
    }
    outcome
}

/// A connection for what is done before and after: it would be idle meanwhile.
fn control(uri: &AmqpUri) -> Result<Connection, ClientError> {
    Connection::open(uri, "haypile bench control")
}

impl Run<'_> {
    fn measure(&self) -> Result<Outcome, LoadError> {
        let Scenario { mode, .. } = *self.shared.scenario;
        let measured = match mode {
            Mode::Publish => self.stage(true, false, 0)?,
            Mode::Both => self.stage(true, true, 0)?,
            Mode::Drain => {
                let filled = self.stage(true, false, 0)?;
                let accepted = self.accepted(&filled.published);
                self.shared.go_on();
                let drained = self.stage(false, true, accepted)?;
                let stalled = filled.stalled || drained.stalled;
                Stage { published: filled.published, stalled, ..drained }
            }
        };
        self.judge(measured)
    }

    fn begin_error(&self, source: ClientError) -> LoadError {
        LoadError::Begin { broker: self.broker.name.clone(), source }
    }

    /// How many messages have to be in the queues, or delivered.
    fn accepted(&self, published: &[Published]) -> u64 {
        let window = self.shared.scenario.window;
        let accepted: u64 = published.iter().map(|one| one.accepted(window)).sum();
        accepted * u64::from(self.shared.topology.fan_out())
    }

    /// Publishes, consumes, or both; consumers are done when they have `expected`, and all that was published meanwhile.
    fn stage(&self, publish: bool, consume: bool, expected: u64) -> Result<Stage, LoadError> {
        let shared = self.shared;
        let scenario = shared.scenario;
        let mut consumers = Vec::new();
        let mut publishers = Vec::new();
        for number in 0..if consume { scenario.consumers } else { 0 } {
            let open = Consuming::open(shared, &self.broker.uri, number).and_then(|mut one| {
                if publish {
                    one.attach()?;
                }
                Ok(one)
            });
            consumers.push(open.map_err(|error| self.begin_error(error))?);
        }
        for number in 0..if publish { scenario.publishers } else { 0 } {
            let open = Publishing::open(shared, &self.broker.uri, Publisher(number));
            publishers.push(open.map_err(|error| self.begin_error(error))?);
        }
        let usage = || self.broker.process.map(Usage::of).transpose();
        let usage_before = usage()?;
        let cpu_before = cpu_time();
        let began = Instant::now();
        // What is only to fill the queues needs no rate.
        let rate = if scenario.mode == Mode::Drain { 0 } else { scenario.rate };
        let schedule = (rate > 0).then(|| Schedule::new(rate, began));
        let (published, consumed, stalled) = thread::scope(|scope| {
            // Who cannot go on ends it for all: without them, nothing that is measured means what it says.
            let end = |_: &ClientError| shared.stop();
            let schedule = schedule.as_ref();
            let consumers: Vec<_> = consumers
                .into_iter()
                .map(|one| scope.spawn(move || one.run().inspect_err(end)))
                .collect();
            let publishers: Vec<_> = publishers
                .into_iter()
                .map(|one| scope.spawn(move || one.run(began, schedule).inspect_err(end)))
                .collect();
            let stalled = self.watch(&publishers, &consumers, expected);
            (join(publishers), join(consumers), stalled)
        });
        let cpu = cpu_time() - cpu_before;
        // A broker that has gone has no figures, and its end is told by those who met it.
        let broker = usage_before.zip(usage().ok().flatten());
        let broke = |source| LoadError::BrokeOff {
            broker: self.broker.name.clone(),
            scenario: scenario.name,
            source,
        };
        match (published, consumed) {
            (Ok(published), Ok(consumed)) => {
                Ok(Stage { began, published, consumed, cpu, broker, stalled })
            }
            (Err(one), Err(other)) => Err(broke(more_telling(one, other))),
            (Err(error), _) | (_, Err(error)) => Err(broke(error)),
        }
    }

    /// Waits until all threads have ended, and ends them when it is time. Whether that was because nothing happened.
    fn watch(
        &self,
        publishers: &[ScopedJoinHandle<'_, Result<Published, ClientError>>],
        consumers: &[ScopedJoinHandle<'_, Result<Consumed, ClientError>>],
        expected: u64,
    ) -> bool {
        let shared = self.shared;
        let fan_out = u64::from(shared.topology.fan_out());
        let began = Instant::now();
        let (mut last, mut changed, mut said) = ([0; 3], began, began);
        let mut shown = [0; 3];
        loop {
            // First who is still at work, then the counts: what one has done who ended in between must not be missing in them.
            let publishing = publishers.iter().any(|one| !one.is_finished());
            let consuming = consumers.iter().any(|one| !one.is_finished());
            let counts = [&shared.published, &shared.confirmed, &shared.delivered]
                .map(|count| count.load(Ordering::Relaxed));
            let now = Instant::now();
            if counts != last {
                (last, changed) = (counts, now);
            }
            let [published, confirmed, delivered] = counts;
            if !publishing && !consuming {
                return false;
            }
            let accepted = if shared.scenario.window > 0 { confirmed } else { published };
            // In a drain, what was published before is counted here too.
            let wanted = expected.max(accepted * fan_out);
            let is_done = !publishing && delivered >= wanted;
            if is_done || self.around.interrupted.load(Ordering::Relaxed) {
                shared.stop();
            }
            if now.duration_since(changed) > self.around.patience {
                shared.stop();
                return true;
            }
            if now.duration_since(said) >= SAY {
                let time = now.duration_since(said).as_secs_f64();
                self.say(counts, shown, time);
                (shown, said) = (counts, now);
            }
            thread::sleep(LOOK);
        }
    }

    fn say(&self, counts: [u64; 3], before: [u64; 3], time: f64) {
        let words = ["published", "confirmed", "delivered"];
        let rates = counts.iter().zip(before).zip(words).filter(|((count, _), _)| **count > 0);
        let rates: Vec<String> = rates
            .map(|((count, before), word)| {
                let rate = ((count - before) as f64 / time) as u64;
                format!("{} {word}/s", text::count(rate))
            })
            .collect();
        self.around.status.glimpse(&format!(
            "{}: {}: {}",
            self.broker.name,
            self.shared.scenario.name,
            rates.join(", ")
        ));
    }

    /// What a run came to.
    fn judge(&self, stage: Stage) -> Result<Outcome, LoadError> {
        let scenario = self.shared.scenario;
        let interrupted = self.around.interrupted.load(Ordering::Relaxed);
        let mut received = Received::default();
        stage.consumed.iter().for_each(|one| received.add(&one.received));
        let mut faults = received.faults;
        let mut wrong = Vec::new();
        if stage.stalled {
            let seconds = self.around.patience.as_secs_f64();
            wrong.push(format!("nothing happened for {seconds} s, and it was ended"));
        }
        if !interrupted {
            faults.lost = if scenario.mode == Mode::Publish {
                self.missing_in_queues(&stage).map_err(|error| self.begin_error(error))?
            } else {
                self.missing(&stage, &received)
            };
        }
        wrong.extend(faults.words());
        let unconfirmed: u64 =
            stage.published.iter().map(|one| one.published - one.confirmed - one.refused).sum();
        if scenario.window > 0 && unconfirmed > 0 && !interrupted {
            wrong.push(format!("{} messages were never confirmed", text::count(unconfirmed)));
        }
        Ok(Outcome {
            began: stage.began,
            published: stage.published,
            consumed: stage.consumed,
            cpu: stage.cpu,
            broker: stage.broker,
            wrong,
        })
    }

    /// What was accepted and not delivered.
    fn missing(&self, stage: &Stage, received: &Received) -> u64 {
        let topology = self.shared.topology;
        if (self.shared.scenario.size as usize) < super::stamp::LENGTH {
            let delivered: u64 = stage.consumed.iter().map(|one| one.delivered).sum();
            return self.accepted(&stage.published).saturating_sub(delivered);
        }
        let mut missing = 0;
        let mut refused = 0;
        for one in &stage.published {
            let unanswered = one.published - one.accepted(self.shared.scenario.window);
            refused += unanswered * u64::from(topology.fan_out());
            for (route, count) in topology.routes().zip(&one.by_route) {
                for queue in topology.destinations(route) {
                    let stream = Stream { queue, publisher: one.publisher, route };
                    missing += received.missing(&stream, *count);
                }
            }
        }
        // What was refused need not be there, and is missing under the same numbers.
        missing.saturating_sub(refused)
    }

    /// What was accepted and is not in the queues.
    fn missing_in_queues(&self, stage: &Stage) -> Result<u64, ClientError> {
        let expected = self.accepted(&stage.published);
        let mut connection = control(&self.broker.uri)?;
        let (mut last, mut changed) = (0, Instant::now());
        loop {
            let waiting = self.shared.topology.waiting(&mut connection)?;
            if waiting != last {
                (last, changed) = (waiting, Instant::now());
            }
            if waiting >= expected || changed.elapsed() > self.around.patience {
                connection.close()?;
                return Ok(expected.saturating_sub(waiting));
            }
            thread::sleep(COUNT);
        }
    }
}

/// What all of them have done, or the most telling of the reasons why one could not.
fn join<T>(
    threads: Vec<ScopedJoinHandle<'_, Result<T, ClientError>>>,
) -> Result<Vec<T>, ClientError> {
    let mut done = Ok(Vec::new());
    for thread in threads {
        let result = thread.join().expect("a thread of the load does not panic");
        done = match (done, result) {
            (Ok(mut all), Ok(one)) => {
                all.push(one);
                Ok(all)
            }
            (Err(one), Err(other)) => Err(more_telling(one, other)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        };
    }
    done
}

/// When a server goes, it says to some connections why.
fn more_telling(one: ClientError, other: ClientError) -> ClientError {
    if matches!(other, ClientError::Closed { .. }) { other } else { one }
}
