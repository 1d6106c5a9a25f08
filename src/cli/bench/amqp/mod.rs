//! `haypile bench amqp`: a load on any AMQP 0-9-1 broker, or on several in turn.
//!
//! What lives here: the command, the load, and judging what came back. Every message says what it is, so that one that is lost,
//! doubled, out of order or altered is found: a figure of a broker that loses messages is none. It uses the command
//! line's AMQP client, and knows nothing of this crate's own broker.
//!
//! | file | what it is |
//! |---|---|
//! | `scenario`, `topology` | what is done, and through which queues and exchanges |
//! | `load` | a scenario on a broker: queues, threads, watching them, judging |
//! | `publisher`, `consumer`, `shared` | who works, and what they know together |
//! | `stamp`, `window`, `received` | what a message says; what is not confirmed; what has come |
//! | `outcome`, `compare`, `usage` | what it comes to; rounds and brokers beside each other; what it costs the broker |

mod compare;
mod consumer;
mod load;
mod outcome;
mod publisher;
mod received;
mod scenario;
mod shared;
mod stamp;
mod topology;
mod usage;
mod window;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use self::load::{Broker, LoadError, Surroundings};
use self::scenario::{Ack, Limit, Mode, Scenario, ScenarioError};
use self::topology::ExchangeKind;
use self::usage::{NoUsage, Usage};
use super::report::{Measurement, Report};
use super::{Output, OutputError, seconds};
use crate::cli::client::{AmqpUri, ClientError, Connection};
use crate::cli::output::remark;
use crate::cli::status_line::StatusLine;
use crate::cli::{COULD_NOT_RUN, FAILED, complain, interrupt};
use crate::storage::{Clock, SystemClock};

/// How many rounds there are when brokers are compared.
const ROUNDS: u32 = 3;

/// How long it is published.
const SECONDS: Duration = Duration::from_secs(5);

/// Measure an AMQP 0-9-1 broker, or several in turn: rates, latencies, and whether every message comes back.
///
/// Publishes to queues of its own and consumes from them; they are removed at the end, also by Ctrl-C, which ends it with what was
/// measured until then. Every message is numbered and carries a checksum: lost, doubled, reordered and altered messages are
/// counted, and are a failure. With a rate, latencies count from when a message was due, so that a pause is in the times of
/// all messages that it held up.
///
/// Exit code 0: done. 1: something was wrong with a message, or a broker broke off. 2: it could not run.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct BenchAmqp {
    /// The broker: amqp://user:password@host:port/vhost, percent-encoded; what is left out is guest, guest, 5672 and /. Given twice or more,
    /// the brokers take turns, and are compared with the first one.
    #[arg(long, value_name = "URI", default_value = "amqp://localhost")]
    uri: Vec<AmqpUri>,
    /// Measure what people ask of a broker, one after the other: publishing 1 KiB, with a window of 1 too; draining; publishing and
    /// consuming 100 B, 1 KiB, 64 KiB, 1 KiB through 100 queues; and latencies at 2,000 messages a second.
    #[arg(long, conflicts_with_all = ["mode", "size", "rate", "queues", "messages", "exchange", "fan_out"])]
    suite: bool,
    /// What is measured.
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    mode: Mode,
    /// How many connections publish.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    publishers: u32,
    /// How many connections consume.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    consumers: u32,
    /// How many durable queues there are; messages go to them in turn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queues: u32,
    /// Bytes of a body; below 32 there is no room for what messages say of themselves, and they are only counted.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=128 << 20))]
    size: u32,
    /// How many unacknowledged messages a consumer gets at most; 0: no limit.
    #[arg(long, value_name = "N", default_value_t = 500)]
    prefetch: u16,
    /// How many unconfirmed messages a publisher has at most; 0: no confirms.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    window: u32,
    /// Messages a second, of all publishers together; 0: as many as can be.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    rate: u64,
    /// How long it is published, in seconds; fractions are fine. Default: 5.
    #[arg(long, value_name = "N", value_parser = seconds, conflicts_with = "messages")]
    seconds: Option<Duration>,
    /// How many messages are published in all, instead of for a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// When consumers acknowledge: each, auto (never: what is sent counts as acknowledged), or so many at a time.
    #[arg(long, value_name = "each|N|auto", default_value = "each")]
    ack: Ack,
    /// Publish transient messages; the queues are durable all the same.
    #[arg(long)]
    transient: bool,
    /// Through what is published. Default: the default exchange; direct with --fan-out.
    #[arg(long, value_enum)]
    exchange: Option<ExchangeKind>,
    /// How many queues each message goes to.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    fan_out: u32,
    /// Declare the queues with this x-queue-type, such as quorum.
    #[arg(long, value_name = "TYPE")]
    queue_type: Option<String>,
    /// What the names of queues and exchange begin with; a random number follows, so that nothing that was there is touched.
    #[arg(long, value_name = "NAME", default_value = "haypile-bench", value_parser = prefix)]
    queue_prefix: String,
    /// Leave the queues and what is in them.
    #[arg(long)]
    keep: bool,
    /// After so many seconds without any news a broker is given up: what is missing then is lost.
    #[arg(long, value_name = "N", default_value = "30", value_parser = seconds)]
    patience: Duration,
    /// How often everything is measured; the medians are shown. Default: 1, and 3 when brokers are compared.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// The broker's process, if it is on this machine: its processor time and memory are measured as well. In the order of the URIs.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    broker_pid: Vec<u32>,
    #[command(flatten)]
    output: Output,
}

/// Why nothing, or not everything, could be measured.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("--broker-pid was given {pids} times for {uris} URIs: give one for each, or none")]
    Processes { pids: usize, uris: usize },
    #[error(transparent)]
    Usage(#[from] NoUsage),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The beginning of a name: the whole of it has to fit into 255 bytes.
fn prefix(text: &str) -> Result<String, String> {
    match text.len() {
        1..=200 => Ok(text.to_owned()),
        length => Err(format!("it has {length} bytes: give 1 to 200")),
    }
}

impl BenchAmqp {
    pub(super) fn run(&self) -> u8 {
        let mut report = Report::new("bench amqp", SystemClock.now().unix_millis());
        let began = Instant::now();
        let outcome = self.measure(&mut report);
        report.seconds = began.elapsed().as_secs_f64();
        let Err(error) = outcome else { return self.output.show(&report) };
        // What was measured before is true all the same.
        if report.measurements.is_empty() {
            report.notes.iter().for_each(|note| remark!("{note}"));
        } else {
            report.failed = Some(error.to_string());
            self.output.show(&report);
        }
        complain(&error);
        if matches!(error, BenchError::Load(LoadError::BrokeOff { .. })) {
            FAILED
        } else {
            COULD_NOT_RUN
        }
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        self.output.check()?;
        let scenarios = self.scenarios()?;
        let mut brokers = self.brokers()?;
        let several = brokers.len() > 1;
        let rounds = self.rounds.unwrap_or(if several { ROUNDS } else { 1 });
        let described = brokers.iter().map(|one| format!("{} ({})", one.name, one.label));
        report.setting.set("broker", described.collect::<Vec<_>>().join(" and "));
        tell_apart(&mut brokers);
        report.setting.set("rounds", u64::from(rounds));
        report.setting.set("cores", available_parallelism().map_or(0, |cores| cores.get() as u64));
        let interrupted = interrupt::watch().map_err(BenchError::Signals)?;
        let status = StatusLine::default();
        let around = Surroundings {
            interrupted: &interrupted,
            status: &status,
            queue_prefix: &self.queue_prefix,
            keep: self.keep,
            leftovers: RefCell::default(),
            patience: self.patience,
        };
        let mut outcome = Ok(());
        for scenario in &scenarios {
            let mut measured = vec![Vec::new(); brokers.len()];
            if outcome.is_ok() && !interrupted.load(Ordering::Relaxed) {
                outcome = take_turns(scenario, &brokers, rounds, &around, &mut measured);
            }
            let mut medians: Vec<Measurement> =
                measured.iter().filter_map(|rounds| compare::medians(rounds)).collect();
            if several && medians.len() == brokers.len() {
                compare::relate(&mut medians);
            }
            report.measurements.extend(medians);
        }
        status.end();
        report.interrupted = interrupted.load(Ordering::Relaxed);
        if !report.measurements.is_empty() {
            report.notes.extend(self.notes(rounds));
        }
        report.notes.extend(around.leftovers.take());
        outcome
    }

    /// What is to be measured.
    fn scenarios(&self) -> Result<Vec<Scenario>, ScenarioError> {
        let default = match self.fan_out {
            1 => ExchangeKind::Default,
            _ => ExchangeKind::Direct,
        };
        let base = Scenario {
            name: self.mode.name(),
            mode: self.mode,
            publishers: self.publishers,
            consumers: self.consumers,
            queues: self.queues,
            size: self.size,
            prefetch: self.prefetch,
            window: self.window,
            rate: self.rate,
            limit: match self.messages {
                Some(messages) => Limit::Messages(messages),
                None => Limit::After(self.seconds.unwrap_or(SECONDS)),
            },
            ack: self.ack,
            transient: self.transient,
            exchange: self.exchange.unwrap_or(default),
            fan_out: self.fan_out,
            queue_type: self.queue_type.clone(),
        };
        let all = if self.suite { base.suite() } else { vec![base] };
        all.iter().try_for_each(Scenario::check)?;
        Ok(all)
    }

    /// Who is measured.
    fn brokers(&self) -> Result<Vec<Broker>, BenchError> {
        let (pids, uris) = (self.broker_pid.len(), self.uri.len());
        if pids != 0 && pids != uris {
            return Err(BenchError::Processes { pids, uris });
        }
        let mut brokers: Vec<Broker> = Vec::new();
        for (number, uri) in self.uri.iter().enumerate() {
            let process = self.broker_pid.get(number).copied();
            process.map(Usage::of).transpose()?;
            let mut name = uri.to_string();
            if brokers.iter().any(|other| other.name == name) {
                name = format!("{name} ({})", number + 1);
            }
            let label = server_of(uri).map_err(|source| begin(&name, source))?;
            brokers.push(Broker { uri: uri.clone(), name, label, process });
        }
        Ok(brokers)
    }

    /// What has to be known to read the figures.
    fn notes(&self, rounds: u32) -> Vec<String> {
        let mut notes = vec![
            "Every message was checked: none may be lost, doubled, altered or out of order. Client and broker share this machine's \
             cores if the broker is on it."
                .to_owned(),
        ];
        if rounds > 1 {
            notes.push(format!("Each figure is the median of {rounds} rounds."));
        }
        if self.uri.len() > 1 {
            notes.push(format!(
                "The brokers took turns, and 'first' is {}: 'of first' is how much another one does of what it does.",
                self.uri.first().map(AmqpUri::to_string).unwrap_or_default()
            ));
        }
        notes
    }
}

/// How a broker calls itself; it has to be there for that.
fn server_of(uri: &AmqpUri) -> Result<String, ClientError> {
    let connection = Connection::open(uri, "haypile bench")?;
    let server = connection.server().to_owned();
    connection.close()?;
    Ok(server)
}

/// Brokers that call themselves the same are called after where they are.
fn tell_apart(brokers: &mut [Broker]) {
    let labels: Vec<String> = brokers.iter().map(|broker| broker.label.clone()).collect();
    for broker in brokers {
        if labels.iter().filter(|label| **label == broker.label).count() > 1 {
            broker.label.clone_from(&broker.name);
        }
    }
}

fn begin(broker: &str, source: ClientError) -> LoadError {
    LoadError::Begin { broker: broker.to_owned(), source }
}

/// Measures a scenario in rounds, on one broker after the other; every other round in the other order.
fn take_turns(
    scenario: &Scenario,
    brokers: &[Broker],
    rounds: u32,
    around: &Surroundings<'_>,
    measured: &mut [Vec<Measurement>],
) -> Result<(), BenchError> {
    let several = brokers.len() > 1;
    for round in 0..rounds {
        let mut turn: Vec<_> = brokers.iter().zip(&mut *measured).collect();
        if round % 2 == 1 {
            turn.reverse();
        }
        for (broker, measured) in turn {
            if around.interrupted.load(Ordering::Relaxed) {
                return Ok(());
            }
            let outcome = load::run(scenario, broker, around)?;
            let line = outcome.line(scenario);
            around.status.say(&format!("{}: {}: {line}", broker.name, scenario.name));
            let label = several.then_some(&*broker.label);
            // What was interrupted before anything came of it is no measurement.
            if !outcome.is_empty(scenario) {
                measured.push(outcome.measurement(scenario, label));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_called_what_they_are_if_that_tells_them_apart() {
        let broker = |name: &str, label: &str| Broker {
            uri: "amqp://localhost".parse().unwrap(),
            name: name.to_owned(),
            label: label.to_owned(),
            process: None,
        };
        let mut brokers = [broker("a", "R 1"), broker("b", "H 1"), broker("c", "R 1")];
        tell_apart(&mut brokers);
        assert_eq!(brokers.map(|broker| broker.label), ["a", "H 1", "c"]);
    }

    #[test]
    fn prefixes_leave_room_for_the_rest_of_a_name() {
        assert!(prefix("").is_err() && prefix(&"x".repeat(201)).is_err());
        assert_eq!(prefix("load"), Ok("load".to_owned()));
    }
}
