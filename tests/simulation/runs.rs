//! Random runs: that the engine stands them, and that they are the same every time.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use haypile::simulation::runs::{Rig, Summary, run, trace_of};

/// How many seeds a test run takes.
const SEEDS: u64 = 2000;

const THREADS: usize = 2;

#[test]
fn whatever_a_seed_does_to_it_a_store_keeps_its_word() {
    let (sum, next) = (Mutex::new(Summary::default()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    match run(seed, &Rig::default()) {
                        Ok(summary) => sum.lock().unwrap().add(&summary),
                        Err(found) => {
                            next.store(SEEDS, Ordering::Relaxed);
                            panic!("{found}");
                        }
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{sum}");
    assert_eq!(sum.seeds, SEEDS);
    // What is never met is not tested.
    assert_eq!(sum.faults.len(), 8, "{sum}");
    assert_eq!(sum.damaged.len(), 5, "{sum}");
    assert!(sum.moved > 0 && sum.refused_full > 0 && sum.set_aside > 0, "{sum}");
}

#[test]
fn a_seed_is_the_same_run_every_time_and_no_other_seed_is() {
    let traces: Vec<u64> = (0..60).map(trace_of).collect();
    let again: Vec<u64> = (0..60).map(trace_of).collect();
    assert_eq!(traces, again);
    let different: BTreeSet<_> = traces.iter().collect();
    assert_eq!(different.len(), traces.len());
}

/// An open looks at some segments twice: for the checkpoint's own records, and for the log that follows. A header that was read
/// wrong the first time and right the second let it go on without the segment's lists of messages: they were set aside, and the
/// file was used for something else, with 17 confirmed messages in those lists.
#[test]
fn a_header_that_is_read_wrong_once_is_no_reason_to_give_up_its_segment() {
    if let Err(failure) = run(914_672, &Rig::default()) {
        panic!("{failure}");
    }
}
