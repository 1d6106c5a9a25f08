//! What was counted besides, and what share it is of what is possible.

use serde::Serialize;

use crate::cli::text;

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Of what.
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
}

/// What a figure is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// So many.
    Count,
    /// So many a second.
    #[serde(rename = "per second")]
    PerSecond,
    Bytes,
    Microseconds,
    /// How many times something else.
    Times,
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: Unit, value: f64) -> Figure {
        // JSON has no other numbers, and a quotient by nothing says nothing.
        Figure { name, unit, value: if value.is_finite() { value } else { 0.0 } }
    }

    /// The name with the unit, where the value does not say it.
    pub(crate) fn title(&self) -> String {
        match self.unit {
            Unit::PerSecond => format!("{}/s", self.name),
            Unit::Count | Unit::Bytes | Unit::Microseconds | Unit::Times => self.name.to_owned(),
        }
    }

    /// The value for a person.
    pub(crate) fn text(&self) -> String {
        match self.unit {
            Unit::Count | Unit::PerSecond => text::number(self.value),
            Unit::Bytes => text::bytes(self.value.max(0.0) as u64),
            Unit::Microseconds => text::microseconds(self.value),
            Unit::Times => format!("{:.3}", self.value),
        }
    }
}

/// A rate, beside another one that it is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Share {
    /// What the whole is, such as `disk`.
    pub(crate) of: &'static str,
    /// The whole, in the unit of the measurement's `per_second`.
    pub(crate) reference_per_second: f64,
    /// 1: all of it.
    pub(crate) share: f64,
}

impl Share {
    /// A rate as a share of another one.
    pub(crate) fn of(what: &'static str, per_second: f64, reference: f64) -> Share {
        let share = if reference > 0.0 { per_second / reference } else { 0.0 };
        Share { of: what, reference_per_second: reference, share }
    }
}
