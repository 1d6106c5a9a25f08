//! Every crash point of the first open of a store of an earlier format, and of the work behind it.

use std::path::Path;

use haypile::simulation::explorer::{Plan, explore};
use haypile::simulation::scene::{DIR, Scene, SceneError, Workload};
use haypile::simulation::{Content, Image, Ledger, SimulatedDisk};
use haypile::storage::Store;

use crate::fixtures::{VERSION_3, put};

const UPGRADE: Workload = Workload {
    name: "upgrade",
    capacity: None,
    before: version_3,
    tune: |options| options.segments_ahead = 2,
    play: go_on,
};

/// A store of version 3, and its content as another open of it shows.
fn version_3() -> (Image, Ledger) {
    let disk = SimulatedDisk::new();
    put(&disk, Path::new(DIR), VERSION_3);
    let image = disk.image();
    let opened = SimulatedDisk::of(image.clone());
    let store = Store::open(DIR, UPGRADE.options(&opened, 1)).unwrap();
    (image, Ledger::of(Content::of(&store).unwrap()))
}

fn go_on(scene: &mut Scene) -> Result<(), SceneError> {
    let driver = scene.driver();
    let queue = driver.store().queues().remove(0);
    driver.publish("a message of version 4", &[&queue])?;
    driver.confirm()?;
    drop(queue);
    scene.reopen()
}

#[test]
fn at_every_crash_point_of_an_upgrade_the_store_recovers_to_what_it_may_be() {
    let begun = std::time::Instant::now();
    let summary = explore(&UPGRADE, &Plan::quick()).unwrap();
    let (moments, cuts, states) = (summary.moments, summary.cuts, summary.states);
    let ms = begun.elapsed().as_millis();
    println!("upgrade: {moments} moments, {cuts} power cuts, {states} states, {ms} ms");
    let text: Vec<String> = summary.failures.iter().map(ToString::to_string).collect();
    assert!(text.is_empty(), "{} failures:\n{}", text.len(), text.join("\n"));
    assert!(states >= 500, "{states} states");
}
