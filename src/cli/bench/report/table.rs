//! The report for a person: a table for each group of measurements.

use std::fmt::Write;

use super::groups::{Group, groups, unique};
use super::{Latency, Measurement, Report, Since};
use crate::cli::text;

/// How the times are to be read, under the tables.
const BEGUN: &str = "Times count from when something was handed over. This is a closed loop: whoever waits hands nothing over, so a pause \
     is in one time of each that waits, and not in those of all that would have come meanwhile.";
const DUE: &str =
    "Times of what has a rate count from when it was due, also where it was handed over late.";

/// From this share on others disturb what is measured.
const NOTICEABLE: f64 = 0.05;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let setting: Vec<String> = report
        .setting
        .iter()
        .map(|parameter| format!("{} {}", parameter.name, parameter.value.text()))
        .collect();
    line(
        &mut out,
        &format!("haypile {} {}: {}", report.version, report.command, setting.join(", ")),
    );
    for group in groups(&report.measurements) {
        line(&mut out, &format!("\n{}\n", group.heading()));
        print(&mut out, &columns(&group));
        if group.waits().len() > 1 {
            out.push('\n');
            print(&mut out, &waits(&group));
        }
    }
    let wrong = report.measurements.iter().flat_map(|measurement| {
        measurement.wrong.iter().map(|wrong| format!("WRONG: {wrong} ({})", measurement.scenario))
    });
    let since = report.measurements.iter().flat_map(|measurement| &measurement.latencies);
    let mut notes: Vec<String> = wrong.collect();
    for since in unique(since.map(|latency| latency.since)) {
        notes.push(match since {
            Since::Begun => BEGUN.to_owned(),
            Since::Due => DUE.to_owned(),
        });
    }
    notes.extend(report.failed.iter().map(|error| format!("FAILED: {error}")));
    notes.extend(report.notes.iter().cloned());
    notes.extend(report.others.filter(|share| *share >= NOTICEABLE).map(|share| {
        format!(
            "Others used {:.0} % of the processors meanwhile: that is in every figure, and most in the times.",
            share * 100.0
        )
    }));
    let end = if report.interrupted { "interrupted after" } else { "all of it took" };
    notes.push(format!("{end} {:.1} s", report.seconds));
    out.push('\n');
    notes.iter().for_each(|note| line(&mut out, note));
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("text takes any text");
}

/// A column: its title, and a cell for each measurement.
struct Column {
    title: String,
    cells: Vec<String>,
}

fn columns(group: &Group<'_>) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut add = |title: String, cell: &dyn Fn(&Measurement) -> Option<String>| {
        let cells: Vec<Option<String>> = group.measurements.iter().map(|one| cell(one)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(Option::unwrap_or_default).collect();
            columns.push(Column { title, cells });
        }
    };
    for (place, name) in group.varying.iter().enumerate() {
        add((*name).to_owned(), &|one| group.values(one).get(place).cloned());
    }
    let rate = format!("{}/s", short(group.counted));
    add(rate, &|one| Some(text::number(one.throughput.per_second)));
    add("MiB/s".to_owned(), &|one| {
        let rate = one.throughput.bytes_per_second / f64::from(1 << 20);
        (one.throughput.bytes > 0).then(|| text::number(rate))
    });
    if let [of] = *group.waits() {
        for (place, name) in Latency::PERCENTILES.into_iter().enumerate() {
            add(name.to_owned(), &|one| {
                let latency = one.latencies.iter().find(|latency| latency.of == of)?;
                latency.percentiles().get(place).map(|time| text::microseconds(*time))
            });
        }
    }
    let figures = group.measurements.iter().flat_map(|one| &one.figures);
    for title in unique(figures.map(super::Figure::title)) {
        add(title.clone(), &|one| {
            one.figures.iter().find(|figure| figure.title() == title).map(super::Figure::text)
        });
    }
    let shares = group.measurements.iter().filter_map(|one| one.share.as_ref());
    for of in unique(shares.map(|share| share.of)) {
        add(format!("of {of}"), &|one| {
            let share = one.share.as_ref().filter(|share| share.of == of)?;
            Some(format!("{:.0} %", share.share * 100.0))
        });
    }
    columns
}

/// A table of its own for the times, where several things were waited for: a row for each, so that no row gets too long.
fn waits(group: &Group<'_>) -> Vec<Column> {
    let rows: Vec<(&Measurement, &Latency)> = group
        .measurements
        .iter()
        .flat_map(|one| one.latencies.iter().map(move |latency| (*one, latency)))
        .collect();
    let column = |title: &str, cell: &dyn Fn(&Measurement, &Latency) -> String| Column {
        title: title.to_owned(),
        cells: rows.iter().map(|(one, latency)| cell(one, latency)).collect(),
    };
    let mut columns: Vec<Column> = group
        .varying
        .iter()
        .enumerate()
        .map(|(place, name)| {
            column(name, &|one, _| group.values(one).get(place).cloned().unwrap_or_default())
        })
        .collect();
    columns.push(column("time to", &|_, latency| latency.of.to_owned()));
    for (place, name) in Latency::PERCENTILES.into_iter().enumerate() {
        columns.push(column(name, &|_, latency| {
            latency
                .percentiles()
                .get(place)
                .map(|time| text::microseconds(*time))
                .unwrap_or_default()
        }));
    }
    columns
}

/// What is counted most has a short name that everybody knows.
pub(super) fn short(counted: &str) -> &str {
    if counted == "messages" { "msg" } else { counted }
}

/// Numbers stand below each other, on the right.
fn print(out: &mut String, columns: &[Column]) {
    let width = |column: &Column| {
        let cells = column.cells.iter().map(|cell| cell.chars().count());
        cells.chain([column.title.chars().count(), 4]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let row = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, width)| {
            let cell = cell(column);
            format!("{cell:>width$}")
        });
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    line(out, &row(&|column| column.title.clone()));
    let rules = widths.iter().map(|width| format!("{}:", "-".repeat(width + 1)));
    line(out, &format!("|{}|", rules.collect::<Vec<_>>().join("|")));
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for number in 0..rows {
        line(out, &row(&|column| column.cells.get(number).cloned().unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{Latencies, Parameters, Throughput};
    use super::*;

    #[test]
    fn what_differs_is_a_column_and_what_does_not_is_in_the_heading() {
        let table = sample().as_table();
        let expected = "\
haypile 0.0.0 bench store: directory /data & <more>, cores 2

append: size 1 KiB

| writers |  msg/s | MiB/s |     p50 |     p90 |     p99 |   p99.9 |     max | syncs/s | written | of disk |
|--------:|-------:|------:|--------:|--------:|--------:|--------:|--------:|--------:|--------:|--------:|
|       1 |  2,000 |  1.95 |  250 µs |  250 µs |  250 µs |  250 µs |  250 µs |   2,000 | 3.0 MiB |     2 % |
|      64 | 75,000 |  73.2 | 16.0 ms | 16.0 ms | 16.0 ms | 16.0 ms | 16.0 ms |   2,000 | 3.0 MiB |    94 % |

";
        assert!(table.starts_with(expected), "{table}");
        assert!(table.contains("closed loop") && !table.contains("was due"), "{table}");
        assert!(table.contains("\nOthers used 25 % of the processors"), "{table}");
        assert!(table.ends_with("most in the times.\nall of it took 7.5 s\n"), "{table}");
    }

    #[test]
    fn where_several_things_were_waited_for_times_have_a_table_of_their_own() {
        let mut report = sample();
        for measurement in &mut report.measurements {
            let mut latencies = Latencies::default();
            latencies.record(std::time::Duration::from_micros(7));
            measurement.latencies.extend(latencies.summary("delivery", Since::Begun));
        }
        let table = report.as_table();
        let expected = "\
| writers |  msg/s | MiB/s | syncs/s | written | of disk |
|--------:|-------:|------:|--------:|--------:|--------:|
|       1 |  2,000 |  1.95 |   2,000 | 3.0 MiB |     2 % |
|      64 | 75,000 |  73.2 |   2,000 | 3.0 MiB |    94 % |

| writers |  time to |     p50 |     p90 |     p99 |   p99.9 |     max |
|--------:|---------:|--------:|--------:|--------:|--------:|--------:|
|       1 |  durable |  250 µs |  250 µs |  250 µs |  250 µs |  250 µs |
|       1 | delivery | 7.00 µs | 7.00 µs | 7.00 µs | 7.00 µs | 7.00 µs |
|      64 |  durable | 16.0 ms | 16.0 ms | 16.0 ms | 16.0 ms | 16.0 ms |
|      64 | delivery | 7.00 µs | 7.00 µs | 7.00 µs | 7.00 µs | 7.00 µs |
";
        assert!(table.contains(expected), "{table}");
    }

    #[test]
    fn what_a_measurement_without_others_was_taken_with_is_in_its_heading() {
        let mut report = sample();
        report.measurements.truncate(1);
        let table = report.as_table();
        assert!(table.contains("\nappend: writers 1, size 1 KiB\n\n| msg/s |"), "{table}");
    }

    #[test]
    fn what_counts_something_else_or_has_another_name_has_a_table_of_its_own() {
        let mut report = sample();
        for (scenario, counted) in [("append", "queues"), ("drain", "messages")] {
            let throughput = Throughput::new(counted, 7, 0, std::time::Duration::from_secs(1));
            report.measurements.push(Measurement::new(scenario, Parameters::default(), throughput));
        }
        report.interrupted = true;
        let table = report.as_table();
        assert!(
            table.contains("\nappend\n\n| queues/s |\n|---------:|\n|     7.00 |\n"),
            "{table}"
        );
        assert!(table.contains("\ndrain\n\n| msg/s |\n|------:|\n|  7.00 |\n"), "{table}");
        assert!(table.contains("interrupted after 7.5 s"), "{table}");
    }
}
