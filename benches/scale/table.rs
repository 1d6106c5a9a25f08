//! Printing figures, a row as soon as it is known.

use std::time::Duration;

use serde_json::{Map, Value};

/// The narrowest column.
const WIDTH: usize = 10;

/// A table whose header has been printed.
pub(crate) struct Table {
    scenario: &'static str,
    columns: &'static [&'static str],
    json: bool,
}

impl Table {
    /// Begins a table; the first column is what was measured, the others are figures.
    pub(crate) fn new(
        scenario: &'static str,
        columns: &'static [&'static str],
        json: bool,
    ) -> Table {
        let table = Table { scenario, columns, json };
        if !json {
            println!("\n{scenario}\n");
            table.print(&columns.iter().map(|&column| column.to_owned()).collect::<Vec<_>>());
            let rules = (0..columns.len()).map(|column| "-".repeat(table.width(column)));
            println!("|-{}-|", rules.collect::<Vec<_>>().join("-|-"));
        }
        table
    }

    fn width(&self, column: usize) -> usize {
        let name = self.columns.get(column).map_or(0, |name| name.len());
        if column == 0 { name.max(46) } else { name.max(WIDTH) }
    }

    fn print(&self, cells: &[String]) {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let width = self.width(column);
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        println!("| {} |", padded.collect::<Vec<_>>().join(" | "));
    }

    /// Prints a row.
    pub(crate) fn row(&self, cells: &[String]) {
        if !self.json {
            return self.print(cells);
        }
        let mut object = Map::from_iter([("scenario".to_owned(), Value::from(self.scenario))]);
        for (column, cell) in self.columns.iter().zip(cells) {
            object.insert((*column).to_owned(), Value::from(cell.as_str()));
        }
        println!("{}", Value::Object(object));
    }
}

/// A number with separators.
pub(crate) fn count(number: u64) -> String {
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

/// Bytes in MiB.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// A time in seconds.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// How many per second.
pub(crate) fn rate(number: u64, time: Duration) -> String {
    count((number as f64 / time.as_secs_f64().max(1e-9)) as u64)
}
