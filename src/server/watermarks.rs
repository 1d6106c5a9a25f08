//! Looks after memory and disk space, and has publishers held back while one of them is short.
//!
//! What is accepted already is not touched: consumers go on, and make room. There is nothing to do for a message: the state of
//! things is looked at by a timer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::statvfs;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::memory;
use crate::amqp::{Gateway, Resource};

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(250);

/// The disk alarm is cleared after so many looks in a row that found enough space. A full disk is asked for a segment each
/// second: free space falls to nothing then, and comes back when the part of a file is removed.
const CALM_LOOKS: u32 = 12;

/// Where publishers are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The most memory that the process is to use, in bytes; `None`: two fifths of what the machine, or the process's control group,
    /// has. Default `None`.
    pub memory: Option<u64>,
    /// The least space that is to be left on the data directory's file system, in bytes. Default 50 MiB.
    pub disk_free: u64,
}

impl Default for Watermarks {
    fn default() -> Watermarks {
        Watermarks { memory: None, disk_free: 50 << 20 }
    }
}

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// In use; `None`: not known.
    pub(super) memory: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    pub(super) low_on_memory: bool,
    /// Left; `None`: not known.
    pub(super) disk_free: Option<u64>,
    pub(super) disk_free_limit: u64,
    pub(super) low_on_disk: bool,
    /// Looks in a row that found enough space.
    calm_looks: u32,
}

/// Who looks after it.
#[derive(Debug)]
pub(super) struct Watch {
    gateway: Arc<Gateway>,
    directory: PathBuf,
    levels: Arc<Mutex<Levels>>,
}

impl Watch {
    pub(super) fn new(gateway: Arc<Gateway>, directory: PathBuf, watermarks: Watermarks) -> Watch {
        let memory_limit = memory::Budgets::new(watermarks.memory).memory;
        let disk_free_limit = watermarks.disk_free;
        let levels = Levels { memory_limit, disk_free_limit, ..Levels::default() };
        Watch { gateway, directory, levels: Arc::new(Mutex::new(levels)) }
    }

    /// How things stand, also later.
    pub(super) fn levels(&self) -> Arc<Mutex<Levels>> {
        Arc::clone(&self.levels)
    }

    /// Looks, and has publishers held back or go on.
    pub(super) fn look(&self) {
        let before = *self.levels.lock();
        let mut memory = memory::in_use();
        // Nothing that can be had again holds publishers back.
        for relieve in [Gateway::release_spare_memory, Gateway::evict_messages] {
            if before.is_low_with(memory) {
                relieve(&self.gateway);
                memory::give_back_unused();
                memory = memory::in_use();
            }
        }
        let space = statvfs(&self.directory).ok().map(|found| found.f_bavail * found.f_frsize);
        let now = before.with(memory, space);
        *self.levels.lock() = now;
        if self.gateway.set_short(Resource::Memory, now.low_on_memory) {
            say_memory(&now);
        }
        if self.gateway.set_short(Resource::Disk, now.low_on_disk) {
            say_disk(&now, &self.directory);
        }
    }

    /// Looks again and again, until it is told to stop.
    pub(super) async fn keep_looking(self, mut stopped: watch::Receiver<bool>) {
        let watch = Arc::new(self);
        loop {
            tokio::select! {
                () = sleep(INTERVAL) => {}
                // An error: nobody is left who could say so, which is the same.
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            watch.gateway.log.report();
            let watch = Arc::clone(&watch);
            // A file system may take its time to answer.
            if spawn_blocking(move || watch.look()).await.is_err() {
                return tracing::error!("memory and disk space are not looked after any more");
            }
        }
    }
}

impl Levels {
    /// Whether that much memory in use is too much, now that it was or was not before.
    fn is_low_with(&self, memory: Option<u64>) -> bool {
        memory
            .zip(self.memory_limit)
            .is_some_and(|(memory, limit)| memory > limit - margin(limit, self.low_on_memory))
    }

    /// Returns the levels with new figures. An alarm clears only 5 % beyond its limit, and that of the disk after a while, so
    /// that it does not flap (hysteresis). An unknown figure raises no alarm.
    fn with(self, memory: Option<u64>, disk_free: Option<u64>) -> Levels {
        let low_on_memory = self.is_low_with(memory);
        let limit = self.disk_free_limit;
        let is_short = disk_free.is_some_and(|free| free < limit + margin(limit, self.low_on_disk));
        let calm_looks = if is_short { 0 } else { self.calm_looks.saturating_add(1) };
        let is_calm = disk_free.is_none() || calm_looks >= CALM_LOOKS;
        let low_on_disk = is_short || self.low_on_disk && !is_calm;
        Levels { memory, low_on_memory, disk_free, low_on_disk, calm_looks, ..self }
    }
}

/// How far beyond its limit an alarm clears.
fn margin(limit: u64, was_short: bool) -> u64 {
    if was_short { limit / 20 } else { 0 }
}

fn say_memory(levels: &Levels) {
    let (in_use, limit) = (levels.memory, levels.memory_limit);
    if levels.low_on_memory {
        tracing::warn!(in_use, limit, "low on memory: publishers are held back");
    } else {
        tracing::info!(in_use, limit, "there is enough memory again: publishers go on");
    }
}

fn say_disk(levels: &Levels, directory: &std::path::Path) {
    let (free, limit) = (levels.disk_free, levels.disk_free_limit);
    let directory = directory.display();
    if levels.low_on_disk {
        tracing::warn!(free, limit, %directory, "low on disk: publishers are held back");
    } else {
        tracing::info!(free, limit, %directory, "there is enough space again: publishers go on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_stays_so_until_there_is_a_little_more() {
        let levels = Levels { memory_limit: Some(1000), disk_free_limit: 100, ..Levels::default() };
        let low = |levels: Levels| (levels.low_on_memory, levels.low_on_disk);
        let levels = levels.with(Some(1000), Some(100));
        assert_eq!(low(levels), (false, false));
        let levels = levels.with(Some(1001), Some(99));
        assert_eq!(low(levels), (true, true));
        let levels = levels.with(Some(951), Some(104));
        assert_eq!(low(levels), (true, true));
        assert_eq!(low(levels.with(Some(950), Some(105))), (false, true));
        let calm = (0..CALM_LOOKS).fold(levels, |levels, _| levels.with(Some(950), Some(105)));
        assert_eq!(low(calm), (false, false));
        assert_eq!(low(levels.with(None, None)), (false, false));
    }

    #[test]
    fn the_disk_alarm_does_not_flap_while_a_full_disk_is_asked_for_a_segment_each_second() {
        let levels = Levels { disk_free_limit: 100, ..Levels::default() };
        let mut levels = levels.with(None, Some(99));
        for _ in 0..50 {
            for free in [1000, 1000, 1000, 0] {
                levels = levels.with(None, Some(free));
                assert!(levels.low_on_disk);
            }
        }
    }

    #[test]
    fn a_limit_of_nothing_is_never_reached() {
        let levels = Levels::default().with(Some(u64::MAX), Some(0));
        assert!(!levels.low_on_memory && !levels.low_on_disk);
    }
}
