//! How much is tried, and what came of it.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;

/// How much of what could be tried is tried. A share is one in so many, chosen by the numbers of a state; 0 is none.
#[derive(Clone, Debug)]
pub struct Plan {
    /// So many threads work at it, the caller's among them.
    pub threads: usize,
    /// 1: the workload's moments. 2: those of recoveries as well. 3: those of recoveries after a power cut in a recovery.
    pub depth: usize,
    /// In this share of the states the store goes on. It always does after a kill.
    pub goes_on_one_in: u64,
    /// Of these, this share is emptied to see that nothing is left.
    pub emptied_one_in: u64,
    /// Of this share of the workload's states the recovery is explored; of twenty times that after a kill.
    pub recoveries_one_in: u64,
    /// Of a recovery this share of the states is tried.
    pub deep_one_in: u64,
    /// Of this share of a recovery's states the recovery is explored again.
    pub deep_recoveries_one_in: u64,
    /// With so many failures it is enough.
    pub failures: usize,
    /// Counts the states as they are tried, for somebody who wants to see it.
    pub tried: Option<&'static AtomicU64>,
}

impl Plan {
    /// What every test run does.
    pub fn quick() -> Plan {
        Plan {
            threads: 2,
            depth: 2,
            goes_on_one_in: 6,
            emptied_one_in: 4,
            recoveries_one_in: 60,
            deep_one_in: 40,
            deep_recoveries_one_in: 0,
            failures: 3,
            tried: None,
        }
    }

    /// The recovery of every state, with one in so many of its states, and a sample of the recoveries of those.
    pub fn long(deep_one_in: u64, tried: &'static AtomicU64) -> Plan {
        Plan {
            depth: 3,
            goes_on_one_in: 4,
            recoveries_one_in: 1,
            deep_one_in,
            deep_recoveries_one_in: 1000,
            tried: Some(tried),
            ..Plan::quick()
        }
    }
}

/// Where a state is: the numbers of a moment and of a variant, then those of its recovery, and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub(super) steps: Vec<(usize, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|(moment, variant)| format!("{moment}.{variant}"));
        f.write_str(&steps.collect::<Vec<_>>().join("/"))
    }
}

/// What is no place.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no place: it is the numbers of a moment and a variant, as in 12.3 or 12.3/4.5")]
pub struct ParsePlaceError(String);

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Place, ParsePlaceError> {
        let step = |step: &str| {
            let (moment, variant) = step.split_once('.')?;
            Some((moment.parse().ok()?, variant.parse().ok()?))
        };
        let steps: Option<Vec<_>> = text.split('/').map(step).collect();
        let steps = steps.ok_or_else(|| ParsePlaceError(text.to_owned()))?;
        Ok(Place { steps })
    }
}

/// A state that the store did not come through.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The workload.
    pub workload: &'static str,
    /// The state, to be tried again.
    pub place: Place,
    /// The moment and the variant, in words.
    pub what: String,
    /// What was found, and what should have been.
    pub found: String,
    /// How many states had been tried when it was found, this one included.
    pub states: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { workload, place, what, found, .. } = self;
        write!(f, "workload {workload:?}, state {place}: {what}{found}")
    }
}

/// What came of it all.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Moments of the workload itself.
    pub moments: u64,
    /// Power cuts in these moments. Many leave the same disk, and are one state.
    pub cuts: u64,
    /// States that were tried: each time a store was opened and compared.
    pub states: u64,
    /// Those that were not as they should be, as many as were wanted.
    pub failures: Vec<Failure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_it_is_printed() {
        for text in ["0.0", "12.3", "12.3/4.567/8.9"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "12", "12.", "a.b", "1.2/"] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(error.to_string().contains("is no place"), "{error}");
        }
    }
}
