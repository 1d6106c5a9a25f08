//! What one run of a scenario has come to, as a measurement.

use std::time::{Duration, Instant};

use super::super::report::{Figure, Latencies, Measurement, Since, Throughput, Unit};
use super::consumer::Consumed;
use super::publisher::Published;
use super::scenario::{Mode, Scenario};
use super::usage::Usage;
use crate::cli::text;

/// See the module.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) began: Instant,
    pub(super) published: Vec<Published>,
    pub(super) consumed: Vec<Consumed>,
    /// Of this process.
    pub(super) cpu: Duration,
    /// Of the broker, before and after.
    pub(super) broker: Option<(Usage, Usage)>,
    /// In words.
    pub(super) wrong: Vec<String>,
}

impl Outcome {
    /// As a measurement: of what was delivered, or of what was confirmed where nobody consumes. `broker`: how the broker is
    /// called, if there are several.
    pub(super) fn measurement(&self, scenario: &Scenario, broker: Option<&str>) -> Measurement {
        let mut parameters = scenario.parameters();
        if let Some(label) = broker {
            parameters.set("broker", label);
        }
        let (count, time) = match scenario.mode {
            Mode::Publish => self.accepted(scenario),
            Mode::Drain | Mode::Both => self.delivered(),
        };
        let bytes = count * u64::from(scenario.size);
        let throughput = Throughput::new("messages", count, bytes, time);
        let mut measurement = Measurement::new(scenario.name, parameters, throughput);
        measurement.wrong.clone_from(&self.wrong);
        let since = if scenario.rate > 0 { Since::Due } else { Since::Begun };
        if scenario.mode != Mode::Drain {
            let confirms = merged(self.published.iter().map(|one| &one.confirms));
            measurement.latencies.extend(confirms.summary("confirm", since));
        }
        if scenario.mode == Mode::Both {
            let deliveries = merged(self.consumed.iter().map(|one| &one.deliveries));
            measurement.latencies.extend(deliveries.summary("delivery", since));
        }
        measurement.figures = self.figures(scenario);
        measurement
    }

    fn figures(&self, scenario: &Scenario) -> Vec<Figure> {
        let mut figures = Vec::new();
        let rate = |(count, time): (u64, Duration)| count as f64 / time.as_secs_f64();
        let sum = |count: fn(&Published) -> u64| self.published.iter().map(count).sum::<u64>();
        if scenario.mode != Mode::Drain {
            figures.push(Figure::new("published", Unit::PerSecond, rate(self.published())));
        }
        if scenario.mode == Mode::Both && scenario.window > 0 {
            let confirmed = rate(self.accepted(scenario));
            figures.push(Figure::new("confirmed", Unit::PerSecond, confirmed));
        }
        let late = merged(self.published.iter().map(|one| &one.late));
        if let Some(late) = late.summary("late", Since::Due) {
            figures.push(Figure::new("late p50", Unit::Microseconds, late.p50_us));
            figures.push(Figure::new("late p99", Unit::Microseconds, late.p99_us));
        }
        if let Some(due) = scenario.due() {
            let unsent = due.saturating_sub(self.published().0);
            if unsent > 0 {
                figures.push(Figure::new("due and not sent", Unit::Count, unsent as f64));
            }
        }
        for (name, count) in [
            ("refused", sum(|one| one.refused)),
            ("blocked", sum(|one| one.blocked)),
            ("redelivered", self.consumed.iter().map(|one| one.redelivered).sum()),
        ] {
            if count > 0 {
                figures.push(Figure::new(name, Unit::Count, count as f64));
            }
        }
        let messages = self.messages(scenario) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / messages;
        figures.push(Figure::new("client CPU/msg", Unit::Microseconds, each(self.cpu)));
        if let Some((before, after)) = self.broker {
            let cpu = after.cpu.saturating_sub(before.cpu);
            figures.push(Figure::new("broker CPU/msg", Unit::Microseconds, each(cpu)));
            figures.push(Figure::new("broker memory", Unit::Bytes, after.memory as f64));
        }
        figures
    }

    /// Whether nothing was done of what is measured.
    pub(super) fn is_empty(&self, scenario: &Scenario) -> bool {
        let counted = match scenario.mode {
            Mode::Publish => self.accepted(scenario).0,
            Mode::Drain | Mode::Both => self.delivered().0,
        };
        counted == 0 && self.wrong.is_empty()
    }

    /// Those for each of which it is told what they cost: messages published, or drained.
    fn messages(&self, scenario: &Scenario) -> u64 {
        let count = match scenario.mode {
            Mode::Publish | Mode::Both => self.published().0,
            Mode::Drain => self.delivered().0,
        };
        count.max(1)
    }

    /// A line for whoever watches.
    pub(super) fn line(&self, scenario: &Scenario) -> String {
        let mut parts = Vec::new();
        let mut add = |(count, time): (u64, Duration), word: &str| {
            let rate = count as f64 / time.as_secs_f64().max(1e-9);
            parts.push(format!("{} {word} ({}/s)", text::count(count), text::count(rate as u64)));
        };
        if scenario.mode != Mode::Drain {
            let word = if scenario.window > 0 { "confirmed" } else { "published" };
            add(self.accepted(scenario), word);
        }
        if scenario.mode != Mode::Publish {
            add(self.delivered(), "delivered");
        }
        if !self.wrong.is_empty() {
            parts.push("SOMETHING IS WRONG".to_owned());
        }
        parts.join(", ")
    }

    fn published(&self) -> (u64, Duration) {
        let count = self.published.iter().map(|one| one.published).sum();
        (count, self.until(self.published.iter().map(|one| one.last_sent)))
    }

    /// Confirmed; or, without confirms, published and read by the server.
    fn accepted(&self, scenario: &Scenario) -> (u64, Duration) {
        let count = self.published.iter().map(|one| one.accepted(scenario.window)).sum();
        (count, self.until(self.published.iter().map(|one| one.last_confirmed)))
    }

    fn delivered(&self) -> (u64, Duration) {
        let count = self.consumed.iter().map(|one| one.delivered).sum();
        (count, self.until(self.consumed.iter().map(|one| one.last_delivered)))
    }

    /// The time from the beginning to the last of these.
    fn until(&self, ends: impl Iterator<Item = Instant>) -> Duration {
        ends.max().map_or(Duration::ZERO, |end| end.saturating_duration_since(self.began))
    }
}

fn merged<'a>(all: impl Iterator<Item = &'a Latencies>) -> Latencies {
    let mut merged = Latencies::default();
    all.for_each(|one| merged.add(one));
    merged
}
