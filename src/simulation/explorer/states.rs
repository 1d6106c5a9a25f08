//! Which states of a recording there are.

use std::collections::HashSet;

use super::variants::Variant;
use crate::simulation::image::Fate;
use crate::simulation::scene::Recording;

/// A moment of a recording, and what a power cut makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) moment: usize,
    pub(super) variant: Variant,
    /// The variant's number in [`Variant::all`].
    pub(super) number: usize,
}

/// All power cuts whose numbers of moment and variant are `wanted`, but for those that say of each unit what another one says, with
/// the same knowledge of what is durable.
pub(super) fn cuts(recording: &Recording, wanted: impl Fn(usize, usize) -> bool) -> Vec<State> {
    let mut cuts = Vec::new();
    let mut seen: HashSet<(bool, Vec<u16>)> = HashSet::new();
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
        let variants = Variant::all(pending).into_iter().enumerate();
        for (number, variant) in variants.filter(|(number, _)| wanted(moment, *number)) {
            let mut fates = variant.fates(pending);
            while fates.last() == Some(&Fate::Dropped) {
                fates.pop();
            }
            let fates = fates.into_iter().map(number_of).collect();
            if seen.insert((variant == Variant::Killed, fates)) {
                cuts.push(State { moment, variant, number });
            }
        }
    }
    cuts
}

/// Numbers are hashed all at once.
fn number_of(fate: Fate) -> u16 {
    match fate {
        Fate::Kept => 0,
        Fate::Dropped => 1,
        Fate::Zeroed => 2,
        Fate::Garbage(seed) => 0x100 | u16::from(seed),
    }
}

/// What these power cuts leave, each state once: those that are the same disk to whoever reads it, with the same knowledge of what is
/// durable on it, count as one. Where zeros were to be written, none is missing when that sector is lost, and it does not matter what
/// is in a file that has no name. The first in order is the one with the fewest steps behind it, of which the least is allowed.
pub(super) fn states(recording: &Recording, cuts: Vec<State>, threads: usize) -> Vec<State> {
    let digest = |State { moment, variant, .. }: &State| {
        // What is pending on a disk that goes on is part of it.
        (*variant != Variant::Killed)
            .then(|| variant.apply(&recording.moments[*moment].image).digest())
    };
    let digests = |part: &[State]| part.iter().map(digest).collect::<Vec<_>>();
    let (first, others) = cuts.split_at(cuts.len().div_ceil(threads));
    let digests: Vec<Option<u64>> = std::thread::scope(|scope| {
        let others = others.chunks(first.len().max(1));
        let others: Vec<_> = others.map(|part| scope.spawn(move || digests(part))).collect();
        let others = others.into_iter().map(|part| part.join().expect("a digest is a number"));
        std::iter::once(digests(first)).chain(others).flatten().collect()
    });
    let mut seen = HashSet::new();
    let new = |(state, digest): (State, Option<u64>)| {
        let knowledge = recording.durable_at(&recording.moments[state.moment]);
        digest.is_none_or(|digest| seen.insert((digest, knowledge))).then_some(state)
    };
    cuts.into_iter().zip(digests).filter_map(new).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::simulation::scene::tests::one_message;

    #[test]
    fn a_moment_adds_only_what_its_change_has_made_possible() {
        let recording = one_message().record(1).unwrap();
        let states = cuts(&recording, |_, _| true);
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

    #[test]
    fn states_are_the_different_disks_of_all_power_cuts_whoever_looks_for_them() {
        let recording = one_message().record(1).unwrap();
        let cuts = cuts(&recording, |_, _| true);
        let disk = |State { moment, variant, .. }: &State| {
            let knowledge = recording.durable_at(&recording.moments[*moment]);
            (knowledge, variant.apply(&recording.moments[*moment].image).contents())
        };
        let killed = |state: &&State| state.variant == Variant::Killed;
        let one = states(&recording, cuts.clone(), 1);
        assert_eq!(one.iter().filter(killed).count(), cuts.iter().filter(killed).count());
        let (of_one, of_all): (Vec<_>, BTreeSet<_>) = (
            one.iter().filter(|state| !killed(state)).map(disk).collect(),
            cuts.iter().filter(|state| !killed(state)).map(disk).collect(),
        );
        // Directories without a file in them are a difference too.
        let different: BTreeSet<_> = of_one.iter().cloned().collect();
        assert_eq!(different, of_all);
        assert!(of_one.len() < of_all.len() + 4, "{} of {}", of_one.len(), of_all.len());
        assert!(cuts.len() > 2 * one.len(), "{} of {}", one.len(), cuts.len());
        assert_eq!(states(&recording, cuts, 3), one);
    }
}
