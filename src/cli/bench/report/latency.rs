//! How long things took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is told from longer ones, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Times are kept to so many digits.
const DIGITS: u8 = 3;

/// Many times, in a space that does not depend on how many: to three digits, up to an hour.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Latencies(
            histogram.expect("an hour has more than two nanoseconds, and three digits are few"),
        )
    }
}

impl Latencies {
    /// Something took so long.
    pub(crate) fn record(&mut self, time: Duration) {
        self.record_many(time, 1);
    }

    /// So many things took so long, each of them.
    pub(crate) fn record_many(&mut self, time: Duration, count: u64) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(LONGEST);
        self.0.saturating_record_n(nanoseconds.min(LONGEST), count);
    }

    /// Takes over what somebody else has recorded.
    pub(crate) fn add(&mut self, others: &Latencies) {
        self.0.add(&others.0).expect("all have the same bounds");
    }

    /// What it comes to; `None`: nothing was recorded. `of`: what was waited for.
    pub(crate) fn summary(&self, of: &'static str, since: Since) -> Option<Latency> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Latency {
            of,
            since,
            count: self.0.len(),
            mean_us: self.0.mean() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: self.0.max() as f64 / 1000.0,
        })
    }
}

/// From when on a time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Since {
    /// From when it was begun. Whoever waits begins nothing, so a pause is in one time, and not in those of all that would
    /// have been begun meanwhile: this is what a closed loop can say.
    Begun,
    /// From when it was to begin, by a schedule that does not wait: a pause is in the times of all that were due in it.
    Due,
}

/// The percentiles of a time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// What was waited for.
    pub(crate) of: &'static str,
    pub(crate) since: Since,
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// The names of [`percentiles`](Self::percentiles).
    pub(crate) const PERCENTILES: [&'static str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

    /// In ascending order, in microseconds.
    pub(crate) fn percentiles(&self) -> [f64; 5] {
        [self.p50_us, self.p90_us, self.p99_us, self.p99_9_us, self.max_us]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_told_to_three_digits() {
        let (mut first, mut second) = (Latencies::default(), Latencies::default());
        assert_eq!(first.summary("durable", Since::Begun), None);
        for time in 1..=500 {
            first.record(Duration::from_micros(time));
            second.record(Duration::from_micros(500 + time));
        }
        first.add(&second);
        let summary = first.summary("durable", Since::Begun).unwrap();
        assert_eq!(summary.count, 1000);
        let wanted = [500.0, 900.0, 990.0, 999.0, 1000.0];
        for (found, wanted) in summary.percentiles().into_iter().zip(wanted) {
            assert!((found / wanted - 1.0).abs() < 0.001, "{found} is not {wanted}");
        }
    }

    #[test]
    fn what_takes_longer_than_an_hour_is_an_hour_and_is_counted() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::MAX);
        latencies.record(Duration::ZERO);
        let summary = latencies.summary("durable", Since::Due).unwrap();
        assert_eq!(summary.count, 2);
        assert!((summary.max_us / 3.6e9 - 1.0).abs() < 0.001, "{}", summary.max_us);
    }
}
