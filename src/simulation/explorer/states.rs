//! Which states of a recording there are.

use std::collections::HashSet;

use super::variants::Variant;
use crate::simulation::image::Fate;
use crate::simulation::scene::Recording;

/// A moment of a recording, and what a power cut makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) moment: usize,
    /// Its number in [`Variant::all`].
    pub(super) variant: usize,
}

/// All states, each of them once: the same disk with the same knowledge of what is durable on it counts as one.
pub(super) fn states(recording: &Recording) -> Vec<State> {
    let mut states = Vec::new();
    let mut seen: HashSet<(bool, Vec<Fate>)> = HashSet::new();
    let mut before = None;
    for (moment, at) in recording.moments.iter().enumerate() {
        let pending = at.image.pending();
        let knowledge = recording.durable_at(at);
        // As long as nothing was settled, what is durable is the same, and units have only been added.
        let same =
            before.is_some_and(|(units, known)| units <= pending.len() && known == knowledge);
        if !same {
            seen.clear();
        }
        before = Some((pending.len(), knowledge));
        for (variant, what) in Variant::all(pending).into_iter().enumerate() {
            let mut fates = what.fates(pending);
            while fates.last() == Some(&Fate::Dropped) {
                fates.pop();
            }
            if seen.insert((what == Variant::Killed, fates)) {
                states.push(State { moment, variant });
            }
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::scene::tests::one_message;

    #[test]
    fn a_moment_adds_only_what_its_change_has_made_possible() {
        let recording = one_message().record(1).unwrap();
        let states = states(&recording);
        let of = |moment: usize| states.iter().filter(|state| state.moment == moment).count();
        // The directories are made: two units, and every subset of them is a state, and that the process is killed.
        assert_eq!((of(0), recording.moments[1].image.pending().len()), (2, 2));
        assert_eq!(of(1), 4);
        // To sync what has nothing pending changes nothing.
        assert_eq!(of(recording.moments.len() - 1), 2);
        let moments = recording.moments.windows(2);
        for (number, pair) in moments.enumerate() {
            let idle = pair[0].image.pending().len() == pair[1].image.pending().len()
                && recording.durable_at(&pair[0]) == recording.durable_at(&pair[1]);
            assert!(!idle || of(number + 1) == 0, "moment {}", number + 1);
        }
    }
}
