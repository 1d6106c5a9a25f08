//! Every operation of every workload going wrong once; see `haypile::simulation::faults`.

use std::io::ErrorKind;

use haypile::simulation::faults::sweep;
use haypile::simulation::scene::DIR;
use haypile::simulation::{Driver, Ledger, OperationKind, SimulatedDisk, Verdict, workloads};
use haypile::storage::StoreError;

#[test]
fn whatever_goes_wrong_once_nothing_confirmed_is_lost() {
    let mut total = 0;
    let mut failures = Vec::new();
    println!("{:<28} {:>6}", "workload", "runs");
    for workload in workloads::ALL {
        let summary =
            sweep(workload, 1, 2).unwrap_or_else(|error| panic!("{}: {error}", workload.name));
        println!("{:<28} {:>6}", workload.name, summary.runs);
        total += summary.runs;
        failures.extend(summary.failures.iter().map(ToString::to_string));
    }
    println!("{:<28} {total:>6}", "all");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(total > 4000, "{total} runs");
}

/// A store without threads makes its next segments ready after a confirm. A sync that failed there was told to whoever had
/// waited, and the log went on: the segment was never asked for again, and the confirm that needed it waited for ever.
#[test]
fn a_segment_that_cannot_be_made_ready_is_the_end_of_a_log_without_threads_too() {
    let workload = workloads::named("publish and confirm").unwrap();
    let disk = SimulatedDisk::new();
    let mut driver = Driver::open(DIR, workload.options(&disk, 1), Ledger::new()).unwrap();
    let queue = driver.create_queue(b"orders").unwrap();
    disk.direct(|operation, _| {
        let making = operation.path.extension().is_some_and(|name| name == "unfinished");
        match operation.kind {
            OperationKind::SyncAll if making => Verdict::Fail(ErrorKind::Other),
            _ => Verdict::Proceed,
        }
    });
    // One more segment was ready.
    let confirmed = (0..).take_while(|number| {
        driver.publish(format!("{number:>3000}"), &[&queue]).is_ok() && driver.confirm().is_ok()
    });
    assert!(confirmed.count() < 10);
    disk.undirect();
    let refused = driver.publish("afterwards", &[&queue]).unwrap_err();
    assert!(matches!(refused, StoreError::Failed(_)), "{refused}");
    assert!(refused.to_string().contains("cannot prepare segment"), "{refused}");
}
