//! Several rounds as one measurement, and one broker beside another.

use super::super::report::{Figure, Latency, Measurement, Share, Unit};

/// What brokers are compared with: the one that was named first.
const REFERENCE: &str = "first";

/// The medians of several rounds of the same; `None`: there was none. The throughput is all of it that of one round.
pub(super) fn medians(rounds: &[Measurement]) -> Option<Measurement> {
    let mut by_rate: Vec<&Measurement> = rounds.iter().collect();
    by_rate.sort_by(|one, other| {
        one.throughput.per_second().total_cmp(&other.throughput.per_second())
    });
    let mut middle = (*by_rate.get(by_rate.len().saturating_sub(1) / 2)?).clone();
    for latency in &mut middle.latencies {
        let all: Vec<&Latency> = rounds
            .iter()
            .flat_map(|round| &round.latencies)
            .filter(|other| other.of == latency.of)
            .collect();
        let of = |value: fn(&Latency) -> f64| median(all.iter().map(|latency| value(latency)));
        latency.mean_us = of(|latency| latency.mean_us);
        latency.p50_us = of(|latency| latency.p50_us);
        latency.p90_us = of(|latency| latency.p90_us);
        latency.p99_us = of(|latency| latency.p99_us);
        latency.p99_9_us = of(|latency| latency.p99_9_us);
        latency.max_us = of(|latency| latency.max_us);
    }
    for figure in &mut middle.figures {
        let all = rounds.iter().flat_map(|round| &round.figures);
        figure.value =
            median(all.filter(|other| other.name == figure.name).map(|figure| figure.value));
    }
    middle.wrong = rounds.iter().flat_map(|round| round.wrong.iter().cloned()).collect();
    Some(middle)
}

/// Says how much each does of what the first one does, and how many times as long it takes.
pub(super) fn relate(brokers: &mut [Measurement]) {
    let Some(first) = brokers.first().cloned() else { return };
    for (number, broker) in brokers.iter_mut().enumerate() {
        let rate = broker.throughput.per_second();
        broker.share = Some(Share::of(REFERENCE, rate, first.throughput.per_second()));
        if number == 0 {
            continue;
        }
        for latency in &broker.latencies {
            let reference = first.latencies.iter().find(|other| other.of == latency.of);
            let (Some(reference), Some((p50, p99))) = (reference, ratio_names(latency.of)) else {
                continue;
            };
            for (name, ours, theirs) in
                [(p50, latency.p50_us, reference.p50_us), (p99, latency.p99_us, reference.p99_us)]
            {
                broker.figures.push(Figure::new(name, Unit::Times, ours / theirs));
            }
        }
    }
}

/// What the ratios of a time are called.
fn ratio_names(of: &str) -> Option<(&'static str, &'static str)> {
    match of {
        "confirm" => Some(("confirm p50 / first", "confirm p99 / first")),
        "delivery" => Some(("delivery p50 / first", "delivery p99 / first")),
        _ => None,
    }
}

/// The middle one, or between the two in the middle; 0 of nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or_default();
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::report::{Latencies, Parameters, Since, Throughput};
    use super::*;

    fn measurement(count: u64, time: Duration) -> Measurement {
        let throughput = Throughput::new("messages", count, 0, Duration::from_secs(1));
        let mut measurement = Measurement::new("publish", Parameters::default(), throughput);
        let mut latencies = Latencies::default();
        latencies.record(time);
        measurement.latencies.extend(latencies.summary("confirm", Since::Begun));
        measurement.figures.push(Figure::new("published", Unit::PerSecond, count as f64 * 2.0));
        measurement
    }

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
    }

    #[test]
    fn each_figure_is_the_median_of_its_own_and_nothing_wrong_is_dropped() {
        let mut rounds = [
            measurement(300, Duration::from_nanos(1000)),
            measurement(100, Duration::from_nanos(10)),
            measurement(200, Duration::from_nanos(2000)),
        ];
        rounds[1].wrong.push("something".to_owned());
        let median = medians(&rounds).unwrap();
        assert_eq!(median.throughput.per_second(), 200.0);
        assert_eq!(median.figures[0].value, 400.0);
        assert_eq!(median.latencies[0].p50_us, 1.0);
        assert_eq!(median.wrong, ["something"]);
        assert!(medians(&[]).is_none());
    }

    #[test]
    fn brokers_are_shown_beside_the_first_one() {
        let mut brokers = [
            measurement(200, Duration::from_nanos(1000)),
            measurement(50, Duration::from_nanos(2000)),
        ];
        relate(&mut brokers);
        let shares: Vec<f64> =
            brokers.iter().map(|broker| broker.share.as_ref().unwrap().share).collect();
        assert_eq!(shares, [1.0, 0.25]);
        assert_eq!(brokers[0].figures.len(), 1);
        let ratios: Vec<(&str, f64)> =
            brokers[1].figures[1..].iter().map(|figure| (figure.name, figure.value)).collect();
        assert_eq!(ratios, [("confirm p50 / first", 2.0), ("confirm p99 / first", 2.0)]);
    }
}
