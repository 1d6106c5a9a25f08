//! Which measurements stand beside each other: those of one scenario that count the same.

use super::{Latency, Measurement, Parameter, Setting};

/// Measurements that are compared.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) scenario: &'static str,
    /// What is counted.
    pub(super) counted: &'static str,
    pub(super) measurements: Vec<&'a Measurement>,
    /// What all of them were taken with.
    pub(super) common: Vec<&'a Parameter>,
    /// The names of what they differ in.
    pub(super) varying: Vec<&'static str>,
}

/// The groups, in the order of their first measurements.
pub(super) fn groups(measurements: &[Measurement]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for measurement in measurements {
        let (scenario, counted) = (measurement.scenario, measurement.throughput.counted);
        match groups.iter_mut().find(|group| (group.scenario, group.counted) == (scenario, counted))
        {
            Some(group) => group.measurements.push(measurement),
            None => groups.push(Group {
                scenario,
                counted,
                measurements: vec![measurement],
                common: Vec::new(),
                varying: Vec::new(),
            }),
        }
    }
    groups.iter_mut().for_each(Group::compare);
    groups
}

impl<'a> Group<'a> {
    fn compare(&mut self) {
        let all = self.measurements.iter().flat_map(|measurement| measurement.parameters.iter());
        for parameter in all {
            let (seen, name) = (&mut self.varying, parameter.name);
            let is_new = !seen.contains(&name) && self.common.iter().all(|one| one.name != name);
            let is_common = self
                .measurements
                .iter()
                .all(|one| one.parameters.get(name) == Some(&parameter.value));
            match (is_new, is_common) {
                (true, true) => self.common.push(parameter),
                (true, false) => seen.push(name),
                (false, _) => {}
            }
        }
    }

    /// A heading: the scenario, and what all of its measurements were taken with.
    pub(super) fn heading(&self) -> String {
        match &*self.common_text() {
            "" => self.scenario.to_owned(),
            common => format!("{}: {common}", self.scenario),
        }
    }

    /// What all of them were taken with, in one line.
    pub(super) fn common_text(&self) -> String {
        let common = self.common.iter().map(|one| format!("{} {}", one.name, one.value.text()));
        common.collect::<Vec<_>>().join(", ")
    }

    /// What a measurement was taken with, as far as others were not.
    pub(super) fn values(&self, measurement: &Measurement) -> Vec<String> {
        let value = |name: &&str| measurement.parameters.get(name).map(Setting::text);
        self.varying.iter().map(|name| value(name).unwrap_or_default()).collect()
    }

    /// The same in one line.
    pub(super) fn label(&self, measurement: &Measurement) -> String {
        let named = self.varying.iter().zip(self.values(measurement));
        let named = named.filter(|(_, value)| !value.is_empty());
        named.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    }

    /// What was waited for in any of them.
    pub(super) fn waits(&self) -> Vec<&'static str> {
        unique(self.latencies().map(|latency| latency.of))
    }

    pub(super) fn latencies(&self) -> impl Iterator<Item = &'a Latency> {
        self.measurements.iter().flat_map(|measurement| &measurement.latencies)
    }
}

/// Each once, in the order in which they first came.
pub(super) fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}
