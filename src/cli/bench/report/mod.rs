//! What a benchmark comes to, and the three ways to show it: a table for a person, JSON for a program, a plot.
//!
//! A report is a list of measurements. Each has a scenario's name, the parameters that it was taken with, how much was done in
//! what time, how long each part took, what else was counted, and what share it is of something that it cannot exceed. What lives
//! here knows of nothing that is measured, and measures nothing.
//!
//! | file | what it is |
//! |---|---|
//! | `latency` | how long things took: recording it, and its percentiles |
//! | `parameter`, `figure` | what was chosen, and what was counted, each with its unit |
//! | `groups` | which measurements stand beside each other |
//! | `table`, `plot` | what is printed, and what is drawn; the JSON is the types themselves |

mod figure;
mod groups;
mod latency;
mod parameter;
mod plot;
mod table;

use std::time::Duration;

use serde::Serialize;

pub(crate) use self::figure::{Figure, Share, Unit};
pub(crate) use self::latency::{Latencies, Latency, Since};
pub(crate) use self::parameter::{Parameter, Parameters, Setting};

/// The version of the JSON document. It grows when something that was there means something else, or is gone.
const FORMAT: u32 = 1;

/// Everything that a run of a benchmark has found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    format: u32,
    /// The command, such as `bench store`.
    command: &'static str,
    /// Of this program.
    version: &'static str,
    /// When it began, in milliseconds of Unix time.
    began: u64,
    /// How long all of it took.
    pub(crate) seconds: f64,
    /// It was ended before it was done: what is there was measured in full, and not all is there.
    pub(crate) interrupted: bool,
    /// Why it was not done, if something went wrong: what is there was measured before.
    pub(crate) failed: Option<String>,
    /// How much of all processors others have used meanwhile, from 0 to 1, if that is known.
    pub(crate) others: Option<f64>,
    /// Where it ran, and what holds for all of it.
    pub(crate) setting: Parameters,
    pub(crate) measurements: Vec<Measurement>,
    /// What has to be known to read the figures.
    pub(crate) notes: Vec<String>,
}

/// One thing that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// What was done.
    pub(crate) scenario: &'static str,
    /// With what.
    pub(crate) parameters: Parameters,
    #[serde(flatten)]
    pub(crate) throughput: Throughput,
    /// How long it took, of each kind of waiting that there was.
    pub(crate) latencies: Vec<Latency>,
    /// What else was counted.
    pub(crate) figures: Vec<Figure>,
    /// How much that is of what is possible.
    pub(crate) share: Option<Share>,
    /// What was not as it has to be, in words. Whoever measures something wrong has measured nothing.
    pub(crate) wrong: Vec<String>,
}

/// How much was done in what time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Throughput {
    /// What is counted, in the plural: `messages`.
    counted: &'static str,
    count: u64,
    bytes: u64,
    seconds: f64,
    /// So many a second.
    per_second: f64,
    bytes_per_second: f64,
}

impl Throughput {
    /// So many `counted` (a plural), which are so many bytes, in so much time.
    pub(crate) fn new(counted: &'static str, count: u64, bytes: u64, time: Duration) -> Throughput {
        let seconds = time.as_secs_f64();
        // What took no time that could be measured has no rate that could be told.
        let rate = |number: u64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
        Throughput {
            counted,
            count,
            bytes,
            seconds,
            per_second: rate(count),
            bytes_per_second: rate(bytes),
        }
    }

    /// What is counted, in the plural.
    pub(crate) fn counted(&self) -> &'static str {
        self.counted
    }

    /// So many a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.per_second
    }
}

impl Measurement {
    /// A measurement of which nothing is known but what was done.
    pub(crate) fn new(
        scenario: &'static str,
        parameters: Parameters,
        throughput: Throughput,
    ) -> Measurement {
        Measurement {
            scenario,
            parameters,
            throughput,
            latencies: Vec::new(),
            figures: Vec::new(),
            share: None,
            wrong: Vec::new(),
        }
    }
}

impl Report {
    /// An empty report of a command. `began`: when it began, in milliseconds of Unix time.
    pub(crate) fn new(command: &'static str, began: u64) -> Report {
        Report {
            format: FORMAT,
            command,
            version: env!("CARGO_PKG_VERSION"),
            began,
            seconds: 0.0,
            interrupted: false,
            failed: None,
            others: None,
            setting: Parameters::default(),
            measurements: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether something was not as it has to be.
    pub(crate) fn is_wrong(&self) -> bool {
        let wrong = self.measurements.iter().any(|measurement| !measurement.wrong.is_empty());
        wrong || self.failed.is_some()
    }

    /// The tables, and what has to be known to read them.
    pub(crate) fn as_table(&self) -> String {
        table::render(self)
    }

    /// All of it as one JSON object, on one line.
    pub(crate) fn as_json(&self) -> String {
        serde_json::to_string(self)
            .expect("it has neither keys that are no text nor numbers that JSON has not")
    }

    /// The plot, an SVG document.
    pub(crate) fn as_plot(&self) -> String {
        plot::draw(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// A small report with everything that there can be in one.
    pub(super) fn sample() -> Report {
        let mut report = Report::new("bench store", 1_700_000_000_000);
        report.version = "0.0.0";
        report.seconds = 7.5;
        report.others = Some(0.25);
        report.setting.set("directory", "/data & <more>").set("cores", 2);
        for (writers, count) in [(1, 4000), (64, 150_000)] {
            let mut parameters = Parameters::default();
            parameters.set("writers", writers).set("size", Setting::Bytes(1024));
            let throughput =
                Throughput::new("messages", count, count * 1024, Duration::from_secs(2));
            let mut latencies = Latencies::default();
            latencies.record_many(Duration::from_micros(250 * writers), count);
            let mut measurement = Measurement::new("append", parameters, throughput);
            measurement.latencies.extend(latencies.summary("durable", Since::Begun));
            measurement.figures.push(Figure::new("syncs", Unit::PerSecond, 2000.0));
            measurement.figures.push(Figure::new("written", Unit::Bytes, 3.0 * 1_048_576.0));
            measurement.share =
                Some(Share::of("disk", measurement.throughput.per_second(), 80_000.0));
            report.measurements.push(measurement);
        }
        report.notes.push("taken on a table".to_owned());
        report
    }

    /// Other people's scripts read this (times are told to three digits; the fourth is that of a histogram's cell): what is
    /// there may be added to and not changed, or `format` has to grow.
    #[test]
    fn the_json_does_not_change_by_accident() {
        let mut report = sample();
        report.measurements.truncate(1);
        assert_eq!(
            report.as_json(),
            concat!(
                r#"{"format":1,"command":"bench store","version":"0.0.0","began":1700000000000,"#,
                r#""seconds":7.5,"interrupted":false,"failed":null,"others":0.25,"setting":{"directory":"/data & <more>","cores":2},"#,
                r#""measurements":[{"scenario":"append","parameters":{"writers":1,"size":1024},"#,
                r#""counted":"messages","count":4000,"bytes":4096000,"seconds":2.0,"per_second":2000.0,"#,
                r#""bytes_per_second":2048000.0,"latencies":[{"of":"durable","since":"begun","count":4000,"#,
                r#""mean_us":250.048,"p50_us":250.111,"p90_us":250.111,"p99_us":250.111,"p99_9_us":250.111,"max_us":250.111}],"#,
                r#""figures":[{"name":"syncs","unit":"per second","value":2000.0},"#,
                r#"{"name":"written","unit":"bytes","value":3145728.0}],"#,
                r#""share":{"of":"disk","reference_per_second":80000.0,"share":0.025},"wrong":[]}],"#,
                r#""notes":["taken on a table"]}"#
            )
        );
    }

    #[test]
    fn what_took_no_time_is_valid_json_too() {
        let mut report = sample();
        let nothing = Throughput::new("messages", 5, 5, Duration::ZERO);
        let mut measurement = Measurement::new("append", Parameters::default(), nothing);
        measurement.share = Some(Share::of("disk", 1.0, 0.0));
        report.measurements.push(measurement);
        let json: Value = serde_json::from_str(&report.as_json()).unwrap();
        assert_eq!(json["measurements"][2]["per_second"], 0.0);
        assert_eq!(json["measurements"][2]["share"]["share"], 0.0);
    }

    #[test]
    fn a_report_is_wrong_when_a_measurement_is() {
        let mut report = sample();
        assert!(!report.is_wrong());
        report.measurements[1].wrong.push("3 messages are gone".to_owned());
        assert!(report.is_wrong());
        assert!(report.as_table().contains("WRONG: 3 messages are gone"));
        let mut report = sample();
        report.failed = Some("the disk is full".to_owned());
        assert!(report.is_wrong());
        assert!(report.as_table().contains("FAILED: the disk is full"));
    }
}
