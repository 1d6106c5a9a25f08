//! Every place of a small store damaged in turn: nothing wrong comes out of it, and nothing is lost silently.

use std::collections::BTreeMap;

use haypile::simulation::bit_rot::{Extent, Report, Specimen};
use haypile::simulation::judge::Outcome;

const THREADS: usize = 2;

fn sweep(closed: bool, extent: Extent) -> Report {
    let specimen = Specimen::make(closed).unwrap();
    assert_eq!(specimen.record_kinds(), (1..=12).collect(), "there is a record of each kind");
    let cases = specimen.cases(extent);
    let report = specimen.sweep(&cases, THREADS, &|_| true);
    println!("{report}");
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    assert_eq!(report.tried(), cases.len() as u64);
    report
}

fn outcomes(report: &Report) -> BTreeMap<Outcome, u64> {
    let mut outcomes = BTreeMap::new();
    for ((_, outcome), count) in &report.cases {
        *outcomes.entry(*outcome).or_default() += count;
    }
    outcomes
}

#[test]
fn no_damage_goes_unnoticed_but_in_the_last_group() {
    let outcomes = outcomes(&sweep(false, Extent::Bytes(13)));
    use Outcome::{CutOff, Refused, SetAside, Told, Unneeded};
    for outcome in [Refused, SetAside, CutOff, Told, Unneeded] {
        assert!(outcomes.contains_key(&outcome), "never {outcome}: it is not tried");
    }
}

#[test]
fn of_a_store_that_was_closed_the_last_group_is_safe_as_well() {
    let outcomes = outcomes(&sweep(true, Extent::Bytes(60)));
    assert!(!outcomes.contains_key(&Outcome::CutOff));
}
