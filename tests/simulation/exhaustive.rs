//! Every crash point of every workload; see `haypile::simulation::explorer`.

use haypile::simulation::explorer::{Plan, explore};
use haypile::simulation::workloads;

/// What one run has to come to at the least.
const STATES: u64 = 100_000;

#[test]
fn at_every_crash_point_the_store_recovers_to_what_it_may_be() {
    let mut total = 0;
    let mut failures = Vec::new();
    println!("{:<28} {:>8} {:>8} {:>6}", "workload", "moments", "states", "ms");
    for workload in workloads::ALL {
        let begun = std::time::Instant::now();
        let summary = explore(workload, &Plan::quick())
            .unwrap_or_else(|error| panic!("{}: {error}", workload.name));
        let name = workload.name;
        let ms = begun.elapsed().as_millis();
        println!("{name:<28} {:>8} {:>8} {ms:>6}", summary.moments, summary.states);
        total += summary.states;
        failures.extend(summary.failures);
    }
    println!("{:<28} {:>8} {total:>8}", "all", "");
    let text: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), text.join("\n"));
    assert!(total >= STATES, "{total} states");
}
