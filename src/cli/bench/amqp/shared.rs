//! What the publishers and consumers of a run know together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::scenario::Scenario;
use super::stamp::RunId;
use super::topology::Topology;

/// How long somebody waits for something to come before they look whether all is over.
pub(super) const GLANCE: Duration = Duration::from_millis(25);

/// See the module. The counts are for those who watch; they are added to once for many messages.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) topology: &'a Topology,
    pub(super) run: RunId,
    /// When the run began: the times in stamps count from here.
    pub(super) epoch: Instant,
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    /// Different messages, in each queue.
    pub(super) delivered: AtomicU64,
    /// Everybody is to end, whatever is missing.
    stop: AtomicBool,
}

impl Shared<'_> {
    pub(super) fn new<'a>(
        scenario: &'a Scenario,
        topology: &'a Topology,
        run: RunId,
    ) -> Shared<'a> {
        Shared {
            scenario,
            topology,
            run,
            epoch: Instant::now(),
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn go_on(&self) {
        self.stop.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
