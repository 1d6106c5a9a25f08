//! What is done to a broker: how many do it, with what, for how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use super::super::report::{Parameters, Setting};
use super::topology::ExchangeKind;

/// Messages a second for the latencies of the suite: what any broker keeps up with.
const SUITE_RATE: u64 = 2000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Messages are published, and nobody consumes them.
    Publish,
    /// Messages are published first, which is not measured, and then consumed.
    Drain,
    /// Messages are published and consumed at the same time.
    Both,
}

/// When a consumer acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// Each message by itself.
    Each,
    /// So many at a time.
    Every(u16),
    /// Never: what is sent counts as acknowledged.
    Auto,
}

/// When publishers stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    After(Duration),
    /// All publishers together.
    Messages(u64),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) mode: Mode,
    pub(super) publishers: u32,
    pub(super) consumers: u32,
    pub(super) queues: u32,
    /// Of a body, in bytes.
    pub(super) size: u32,
    /// Of each consumer; 0: no limit.
    pub(super) prefetch: u16,
    /// How many messages of each publisher may be unconfirmed; 0: there are no confirms.
    pub(super) window: u32,
    /// Messages a second of all publishers together; 0: as many as can be.
    pub(super) rate: u64,
    pub(super) limit: Limit,
    pub(super) ack: Ack,
    pub(super) transient: bool,
    pub(super) exchange: ExchangeKind,
    pub(super) fan_out: u32,
    pub(super) queue_type: Option<String>,
}

/// Why a scenario cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScenarioError {
    #[error(
        "--ack {ack} with --prefetch {prefetch}: consumers would wait for acknowledgements that wait for more messages; \
         give a prefetch of {ack} at least, or 0 for no limit"
    )]
    AckBeyondPrefetch { ack: u16, prefetch: u16 },
    #[error(
        "--fan-out {fan_out} with --queues {queues}: a message cannot go to more queues than there are"
    )]
    FanOutBeyondQueues { fan_out: u32, queues: u32 },
    #[error(
        "--fan-out needs an exchange that has bindings: leave --exchange out, or make it direct or topic"
    )]
    FanOutOfDefault,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Publish => "publish",
            Mode::Drain => "drain",
            Mode::Both => "publish and consume",
        }
    }
}

impl Scenario {
    /// Whether this can be carried out.
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let Scenario { prefetch, fan_out, queues, .. } = *self;
        match self.ack {
            Ack::Every(ack) if prefetch != 0 && ack > prefetch => {
                Err(ScenarioError::AckBeyondPrefetch { ack, prefetch })
            }
            _ if fan_out > queues => Err(ScenarioError::FanOutBeyondQueues { fan_out, queues }),
            _ if fan_out > 1 && self.exchange == ExchangeKind::Default => {
                Err(ScenarioError::FanOutOfDefault)
            }
            _ => Ok(()),
        }
    }

    /// What people ask of a broker, one after the other. What a scenario of the suite does not name is as in `self`.
    pub(super) fn suite(&self) -> Vec<Scenario> {
        let named = |mode: Mode| Scenario { mode, name: mode.name(), ..self.clone() };
        let kibibyte = |mode| Scenario { size: 1024, ..named(mode) };
        vec![
            kibibyte(Mode::Publish),
            Scenario { window: 1, ..kibibyte(Mode::Publish) },
            kibibyte(Mode::Drain),
            Scenario { size: 100, ..named(Mode::Both) },
            kibibyte(Mode::Both),
            Scenario { size: 64 << 10, ..named(Mode::Both) },
            Scenario { queues: 100, ..kibibyte(Mode::Both) },
            Scenario { name: "latency at a fixed rate", rate: SUITE_RATE, ..kibibyte(Mode::Both) },
        ]
    }

    /// How many messages were due in the whole of a run with a rate and an end.
    pub(super) fn due(&self) -> Option<u64> {
        match self.limit {
            Limit::After(time) if self.rate > 0 => {
                let due = u128::from(self.rate) * time.as_nanos() / 1_000_000_000;
                Some(u64::try_from(due).unwrap_or(u64::MAX))
            }
            _ => None,
        }
    }

    /// Everything that was chosen and means something here.
    pub(super) fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::default();
        parameters
            .set("size", Setting::Bytes(u64::from(self.size)))
            .set("queues", u64::from(self.queues));
        if self.mode != Mode::Drain {
            parameters.set("publishers", u64::from(self.publishers));
            match self.window {
                0 => parameters.set("window", "no confirms"),
                window => parameters.set("window", u64::from(window)),
            };
            match self.rate {
                0 => parameters.set("rate", "unlimited"),
                rate => parameters.set("rate", rate),
            };
        }
        if self.mode != Mode::Publish {
            parameters.set("consumers", u64::from(self.consumers));
            match self.prefetch {
                0 => parameters.set("prefetch", "unlimited"),
                prefetch => parameters.set("prefetch", u64::from(prefetch)),
            };
            parameters.set("ack", self.ack.to_string());
        }
        if self.exchange != ExchangeKind::Default {
            parameters.set("fan-out", u64::from(self.fan_out));
        }
        if self.transient {
            parameters.set("messages", "transient");
        }
        if let Some(kind) = &self.queue_type {
            parameters.set("queue type", kind.clone());
        }
        parameters
    }
}

impl FromStr for Ack {
    type Err = String;

    fn from_str(text: &str) -> Result<Ack, String> {
        match text {
            "each" => Ok(Ack::Each),
            "auto" => Ok(Ack::Auto),
            number => match number.parse() {
                Ok(1) => Ok(Ack::Each),
                Ok(every @ 2..) => Ok(Ack::Every(every)),
                _ => Err("give 'each', 'auto', or how many are acknowledged at a time".to_owned()),
            },
        }
    }
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ack::Each => f.write_str("each"),
            Ack::Every(count) => write!(f, "every {count}"),
            Ack::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::bench::amqp) fn scenario() -> Scenario {
        Scenario {
            name: Mode::Both.name(),
            mode: Mode::Both,
            publishers: 1,
            consumers: 1,
            queues: 1,
            size: 1024,
            prefetch: 500,
            window: 1000,
            rate: 0,
            limit: Limit::Messages(100),
            ack: Ack::Each,
            transient: false,
            exchange: ExchangeKind::Default,
            fan_out: 1,
            queue_type: None,
        }
    }

    #[test]
    fn acknowledgements_are_read_as_they_are_written() {
        assert_eq!("each".parse(), Ok(Ack::Each));
        assert_eq!("1".parse(), Ok(Ack::Each));
        assert_eq!("100".parse(), Ok(Ack::Every(100)));
        assert_eq!("auto".parse(), Ok(Ack::Auto));
        for text in ["", "0", "-1", "65536", "all"] {
            assert!(text.parse::<Ack>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_would_never_end_is_refused() {
        let ack = Scenario { ack: Ack::Every(501), ..scenario() };
        assert!(matches!(ack.check(), Err(ScenarioError::AckBeyondPrefetch { .. })));
        assert_eq!(Scenario { prefetch: 0, ..ack }.check(), Ok(()));
        let wide = Scenario { fan_out: 2, exchange: ExchangeKind::Direct, ..scenario() };
        assert!(matches!(wide.check(), Err(ScenarioError::FanOutBeyondQueues { .. })));
        assert_eq!(Scenario { queues: 2, ..wide.clone() }.check(), Ok(()));
        let default = Scenario { queues: 2, exchange: ExchangeKind::Default, ..wide };
        assert_eq!(default.check(), Err(ScenarioError::FanOutOfDefault));
    }

    #[test]
    fn the_suite_can_be_run_and_tells_its_scenarios_apart() {
        let suite = scenario().suite();
        let shown: Vec<_> = suite.iter().map(|one| (one.name, one.parameters())).collect();
        for (index, one) in suite.iter().enumerate() {
            assert_eq!(one.check(), Ok(()), "{one:?}");
            assert!(!shown[..index].contains(&shown[index]), "{one:?}");
        }
    }

    #[test]
    fn a_rate_and_a_time_make_a_number_of_messages() {
        let timed =
            Scenario { rate: 3, limit: Limit::After(Duration::from_millis(1999)), ..scenario() };
        assert_eq!(timed.due(), Some(5));
        assert_eq!(Scenario { rate: 0, ..timed.clone() }.due(), None);
        assert_eq!(Scenario { limit: Limit::Messages(9), ..timed }.due(), None);
    }
}
