//! Every crash point of every workload; see `haypile::simulation::explorer`.

use haypile::simulation::explorer::{Plan, Summary, explore};
use haypile::simulation::workloads;

/// What one run has to come to at the least: power cuts, and different states that these and further ones leave.
const CUTS: u64 = 100_000;
const STATES: u64 = 50_000;

#[test]
fn at_every_crash_point_the_store_recovers_to_what_it_may_be() {
    let (mut cuts, mut states) = (0, 0);
    let mut failures = Vec::new();
    println!("{:<28} {:>8} {:>8} {:>8} {:>6}", "workload", "moments", "cuts", "states", "ms");
    for workload in workloads::ALL {
        if std::env::var("ONLY").is_ok_and(|only| only != workload.name) {
            continue;
        }
        let begun = std::time::Instant::now();
        let summary = explore(workload, &Plan::quick())
            .unwrap_or_else(|error| panic!("{}: {error}", workload.name));
        let name = workload.name;
        let ms = begun.elapsed().as_millis();
        let Summary { moments, cuts: of_cuts, states: of_states, failures: found, .. } = summary;
        println!("{name:<28} {moments:>8} {of_cuts:>8} {of_states:>8} {ms:>6}");
        (cuts, states) = (cuts + of_cuts, states + of_states);
        failures.extend(found);
    }
    println!("{:<28} {:>8} {cuts:>8} {states:>8}", "all", "");
    let text: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), text.join("\n"));
    assert!(cuts >= CUTS && states >= STATES, "{states} states of {cuts} power cuts");
}
