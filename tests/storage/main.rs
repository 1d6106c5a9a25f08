//! The engine through its public interface, on a real disk.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at a store's files, and damage them, from outside"
)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests")]

mod compaction;
mod crash;
mod damage;
mod durability;
mod faulty;
#[path = "../common/fixtures.rs"]
mod fixtures;
mod full;
mod histories;
mod inspecting;
mod mixtures;
mod model;
mod power_cuts;
mod queues;
#[path = "../common/quota.rs"]
mod quota;
mod relief;
mod repair;
mod resources;
mod sharing;
mod stress;
mod support;
mod together;
#[path = "../common/unsynced.rs"]
mod unsynced;
mod upgrading;
