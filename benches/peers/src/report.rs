//! Medians, and how they compare.

use serde::Serialize;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::measure::Figures;
use crate::scenario::Scenario;
use crate::stores::Kind;

/// All figures so far.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    peers: &'a [Kind],
    arguments: &'a Arguments,
    figures: Vec<(Scenario, Kind, Figures)>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    size: usize,
    rounds: u32,
    results: Vec<Row>,
}

/// One peer at one scenario: medians of all rounds.
#[derive(Debug, Serialize)]
struct Row {
    scenario: &'static str,
    peer: &'static str,
    messages: u64,
    seconds: f64,
    fastest_seconds: f64,
    slowest_seconds: f64,
    messages_per_second: f64,
    /// How many times as long as the first of the peers it took.
    times_the_first: f64,
    written_bytes: u64,
    disk_bytes: u64,
    peak_resident_bytes: u64,
}

impl Report<'_> {
    pub(crate) fn new<'a>(peers: &'a [Kind], arguments: &'a Arguments) -> Report<'a> {
        Report { peers, arguments, figures: Vec::new() }
    }

    pub(crate) fn add(&mut self, scenario: Scenario, peer: Kind, figures: Figures) {
        self.figures.push((scenario, peer, figures));
    }

    pub(crate) fn has(&self, scenario: Scenario) -> bool {
        self.figures.iter().any(|(of, ..)| *of == scenario)
    }

    pub(crate) fn print(&self, scenarios: &[Scenario]) -> Outcome {
        if self.arguments.json {
            let results = scenarios.iter().flat_map(|scenario| self.rows(*scenario)).collect();
            let Arguments { size, rounds, .. } = *self.arguments;
            println!("{}", serde_json::to_string_pretty(&Document { size, rounds, results })?);
            return Ok(());
        }
        for &scenario in scenarios {
            let rows = self.rows(scenario);
            let messages = rows.first().map_or(0, |row| row.messages);
            println!("\n{}: {} of {} B\n", scenario.title(), count(messages), self.arguments.size);
            let (figure, fastest, slowest) = match scenario.is_a_time() {
                true => ("ms", "fastest", "slowest"),
                false => ("msg/s", "slowest", "fastest"),
            };
            table_line([
                "",
                figure,
                fastest,
                slowest,
                "x time",
                "written MiB",
                "disk MiB",
                "peak MiB",
            ]);
            println!("|---|---:|---:|---:|---:|---:|---:|---:|");
            for row in rows {
                let shown = |seconds: f64| match scenario.is_a_time() {
                    true => format!("{:.1}", seconds * 1000.0),
                    false => count((row.messages as f64 / seconds) as u64),
                };
                let (low, high) = match scenario.is_a_time() {
                    true => (row.fastest_seconds, row.slowest_seconds),
                    false => (row.slowest_seconds, row.fastest_seconds),
                };
                let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
                table_line([
                    row.peer,
                    &shown(row.seconds),
                    &shown(low),
                    &shown(high),
                    &format!("{:.2}", row.times_the_first),
                    &mebibytes(row.written_bytes),
                    &mebibytes(row.disk_bytes),
                    &mebibytes(row.peak_resident_bytes),
                ]);
            }
        }
        Ok(())
    }

    fn rows(&self, scenario: Scenario) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for &peer in self.peers {
            let of_it = |(s, p, figures): &(Scenario, Kind, Figures)| {
                (*s == scenario && *p == peer).then_some(*figures)
            };
            let figures: Vec<Figures> = self.figures.iter().filter_map(of_it).collect();
            let times = sorted(&figures, |figures| figures.seconds);
            let bytes =
                |of: fn(&Figures) -> u64| median(&sorted(&figures, |f| of(f) as f64)) as u64;
            let seconds = median(&times);
            let first = rows.first().map_or(seconds, |row| row.seconds);
            let messages = figures.first().map_or(0, |figures| figures.messages);
            rows.push(Row {
                scenario: scenario.title(),
                peer: peer.name(),
                messages,
                seconds,
                fastest_seconds: times.first().copied().unwrap_or(f64::NAN),
                slowest_seconds: times.last().copied().unwrap_or(f64::NAN),
                messages_per_second: messages as f64 / seconds,
                times_the_first: seconds / first,
                written_bytes: bytes(|figures| figures.written),
                disk_bytes: bytes(|figures| figures.disk),
                peak_resident_bytes: bytes(|figures| figures.resident),
            });
        }
        rows
    }
}

fn table_line(cells: [&str; 8]) {
    let [first, others @ ..] = cells;
    let others: Vec<String> = others.iter().map(|cell| format!("{cell:>11}")).collect();
    println!("| {first:<11} | {} |", others.join(" | "));
}

fn sorted(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle one; the mean of the two in the middle where there is none.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted {
        [] => f64::NAN,
        _ if sorted.len() % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// A number with separators.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn numbers_are_separated_by_thousands() {
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
