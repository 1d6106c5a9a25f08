//! The hand-over of segments from who makes them to who writes them, and back.

use std::path::Path;
use std::sync::Arc;

use shuttle::thread;

use super::rig::{Rig, Settings, assert_apart, explore};
use crate::storage::disk::Disk;
use crate::storage::segment::FreeFile;

/// The bytes of a record of which a segment has room for one, and of one that no segment has room for.
const LARGE: usize = 5000;
const OVERSIZED: usize = 20_000;

fn publish(rig: &Arc<Rig>, records: [usize; 2]) {
    let publishers = (0..3).map(|byte| {
        let rig = rig.clone();
        thread::spawn(move || {
            let written = records.map(|size| rig.append(byte, size).unwrap());
            for written in &written {
                let outcome = rig.log.wait(written.end);
                outcome.clone().unwrap();
                rig.believe(written, &outcome);
            }
            written
        })
    });
    let publishers: Vec<_> = publishers.collect();
    assert_apart(publishers.into_iter().flat_map(|one| one.join().unwrap()).collect());
}

pub(super) fn one_after_the_other() {
    let rig = Rig::start(Settings::default());
    publish(&rig, [LARGE, LARGE]);
    rig.end();
}

/// Segments that were planned are passed over, while they are being made.
fn passed_over() {
    let rig = Rig::start(Settings::default());
    publish(&rig, [LARGE, OVERSIZED]);
    rig.end();
}

/// The disk has room for a segment; then somebody gives one back, and there is room for all.
pub(super) fn room_comes_later() {
    let rig = Rig::start(Settings { room: Some(1), ..Settings::default() });
    let giver = {
        let rig = rig.clone();
        thread::spawn(move || {
            rig.disk.set_room(100);
            let path = Path::new("/store/dead");
            let file = rig.disk.create(path).unwrap();
            rig.pool.recycle(FreeFile { path: path.to_owned(), file }).unwrap();
        })
    };
    publish(&rig, [LARGE, LARGE]);
    giver.join().unwrap();
    rig.end();
}

/// Nobody waits for room once the store is being closed; what does not fit is an error for whoever waits for it.
fn closed_on_a_full_disk() {
    let rig = Rig::start(Settings { room: Some(1), ..Settings::default() });
    let publishers = (0..2).map(|byte| {
        let rig: Arc<Rig> = rig.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                let Ok(written) = rig.append(byte, LARGE) else { return };
                let outcome = rig.log.wait(written.end);
                rig.believe(&written, &outcome);
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    rig.end();
    publishers.into_iter().for_each(|one| one.join().unwrap());
}

#[test]
fn the_log_goes_through_segments_that_are_made_while_it_writes() {
    explore("segments made ahead", one_after_the_other);
    explore("segments passed over", passed_over);
}

#[test]
fn a_full_disk_is_waited_for_until_there_is_room_or_the_store_is_closed() {
    explore("room comes later", room_comes_later);
    explore("closed on a full disk", closed_on_a_full_disk);
}
