//! A log that stops has written everything, and whoever comes later is told so.

use std::sync::Arc;

use shuttle::thread;

use super::rig::{Rig, Settings, Told, explore};
use crate::storage::error::StoreError;

/// Publishers go on while the log is stopped; nobody waits.
pub(super) fn while_publishing() {
    let rig = Rig::start(Settings::default());
    let publishers = (0..3).map(|byte| {
        let rig: Arc<Rig> = rig.clone();
        thread::spawn(move || {
            let mut taken = Vec::new();
            for _ in 0..2 {
                match rig.append(byte, 20) {
                    Ok(written) => taken.push(written),
                    Err(error) => assert!(matches!(error, StoreError::Closed), "{error}"),
                }
            }
            // One of them wants to know; it is told by the writer, or here.
            let told = taken.first().filter(|_| byte == 0).map(|written| {
                let told = Told::new();
                rig.call_back(written, &told);
                told
            });
            (taken, told)
        })
    });
    let publishers: Vec<_> = publishers.collect();
    rig.end();
    for publisher in publishers {
        let (taken, told) = publisher.join().unwrap();
        for written in &taken {
            rig.log.wait(written.end).expect("what was taken is written");
            rig.believe(written, &Ok(()));
        }
        told.iter().for_each(|told| told.once().unwrap());
    }
    assert!(matches!(rig.append(9, 20), Err(StoreError::Closed)));
}

#[test]
fn a_log_that_stops_has_written_everything_that_it_took() {
    explore("stopping while publishing", while_publishing);
}
