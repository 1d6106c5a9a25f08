//! What runs have done, counted.

use std::collections::BTreeMap;
use std::fmt;

use super::damage::Outcomes;

/// Sums over any number of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named for what it counts")]
pub struct Summary {
    pub seeds: u64,
    pub steps: u64,
    pub messages: u64,
    /// Messages that compaction has moved.
    pub moved: u64,
    pub opens: u64,
    pub closes: u64,
    pub power_cuts: u64,
    /// Faults that hit something, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Messages that were set aside and came back after a restart.
    pub set_aside: u64,
    /// Restarts that took a damaged last group for a torn one.
    pub cut_off: u64,
    pub damaged_in_use: u64,
    /// Damaged stores that were looked at, by what came of it.
    pub damaged: Outcomes,
    /// Refusals of a full disk.
    pub refused_full: u64,
    /// Comparisons of a store in use with what is known of it.
    pub checks: u64,
}

impl Summary {
    /// Adds another sum.
    pub fn add(&mut self, other: &Summary) {
        for (mine, theirs) in [
            (&mut self.seeds, other.seeds),
            (&mut self.steps, other.steps),
            (&mut self.messages, other.messages),
            (&mut self.moved, other.moved),
            (&mut self.opens, other.opens),
            (&mut self.closes, other.closes),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.set_aside, other.set_aside),
            (&mut self.cut_off, other.cut_off),
            (&mut self.damaged_in_use, other.damaged_in_use),
            (&mut self.refused_full, other.refused_full),
            (&mut self.checks, other.checks),
        ] {
            *mine += theirs;
        }
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (outcome, count) in &other.damaged {
            *self.damaged.entry(*outcome).or_default() += count;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} steps, {} messages, {} moved by compaction, {} opens, {} closes, {} power cuts, {} comparisons in use, \
             {} refusals of a full disk",
            self.seeds,
            self.steps,
            self.messages,
            self.moved,
            self.opens,
            self.closes,
            self.power_cuts,
            self.checks,
            self.refused_full
        )?;
        let faults: Vec<_> = self.faults.iter().map(|(name, n)| format!("{n} {name}")).collect();
        writeln!(f, "faults: {}", faults.join(", "))?;
        let damaged: Vec<_> = self.damaged.iter().map(|(o, n)| format!("{n} {o}")).collect();
        write!(
            f,
            "damaged places: {}; {} of them under a store in use; {} messages set aside that came back, \
             {} last groups read wrong and cut off",
            damaged.join(", "),
            self.damaged_in_use,
            self.set_aside,
            self.cut_off
        )
    }
}
