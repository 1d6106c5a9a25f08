//! Units: when one of their records is durable, so are all.

use std::sync::Arc;

use shuttle::thread;

use super::rig::{Rig, Settings, assert_apart, explore};

/// The bytes of records of which three fill more than half of a segment, and of which two are larger than one.
const LARGE: usize = 2500;
const OVERSIZED: usize = 9000;

/// Units beside single records, in the way of both.
fn publish(records: &'static [usize]) {
    let rig = Rig::start(Settings::default());
    let publishers = (0..3).map(|byte| {
        let rig: Arc<Rig> = rig.clone();
        thread::spawn(move || {
            let mut written = rig.append_unit(byte, records).unwrap();
            // Whoever is told of the first may believe in the others.
            rig.log.wait(written[0].end).unwrap();
            written.iter().for_each(|written| rig.believe(written, &Ok(())));
            let single = rig.append(byte + 3, 20).unwrap();
            rig.believe(&single, &rig.log.wait(single.end));
            written.push(single);
            written
        })
    });
    let publishers: Vec<_> = publishers.collect();
    assert_apart(publishers.into_iter().flat_map(|one| one.join().unwrap()).collect());
    rig.end();
}

fn in_segments() {
    publish(&[LARGE, LARGE, LARGE]);
}

fn larger_than_a_segment() {
    publish(&[20, OVERSIZED, OVERSIZED]);
}

#[test]
fn all_of_a_unit_is_durable_at_once() {
    explore("units that come to the end of a segment", in_segments);
    explore("units larger than a segment", larger_than_a_segment);
}
