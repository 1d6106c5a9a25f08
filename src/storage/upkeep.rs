//! Upkeep: what a store does about itself while nobody asks it to.
//!
//! Checkpoints when they fall due, compaction, relief of a full disk and of short memory, and tidying up when nothing has been
//! written for a while. What lives here: when each of these is due; what it consists of lives in files of its own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::checkpoint::LastCheckpoint;
use super::compaction::Load;
use super::error::StoreError;
use super::store::Shared;
use super::units::{Lsn, SegmentId};

/// How often a store that is used is looked after.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A store that nothing was written to for so many intervals is not used at the moment.
const QUIET_ROUNDS: u32 = 3;

/// How often a full store looks for something that a checkpoint would free.
const RELIEF_INTERVAL: Duration = Duration::from_millis(100);

/// What an acknowledgement of a range of places, or a deletion, takes in the log at most, in bytes.
const REMOVAL: usize = 64;

/// Wakes the thread that looks after the store.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    stopping: Mutex<bool>,
    due: Condvar,
}

impl Upkeep {
    /// Has the thread look now.
    pub(super) fn wake(&self) {
        // Under the lock, so that it cannot fall between the question and the sleep.
        let _stopping = self.stopping.lock();
        self.due.notify_one();
    }

    /// Has the thread end.
    pub(super) fn stop(&self) {
        *self.stopping.lock() = true;
        self.due.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.lock()
    }
}

impl Shared {
    /// Does what is due: notes in the superblock that the log has reached a new segment, writes a checkpoint.
    pub(super) fn look_after(&self) -> Result<(), StoreError> {
        self.relieve()?;
        let mut checkpointer = self.checkpointer.lock();
        self.prepare_without_threads()?;
        let last = *self.last_checkpoint.lock();
        if last.distance(&self.log) >= self.checkpoint_distance
            || self.is_short_of_space() && self.needs_relief(&last)
        {
            return checkpointer.checkpoint(self);
        }
        checkpointer.note_newest(&self.log)
    }

    /// Writes a checkpoint where a record of so many acknowledgements or deletions would take the last segment that is ready on a
    /// full disk: the checkpoint frees the segments with such records. No queue may be locked.
    pub(super) fn keep_room_for_checkpoints(&self, removals: usize) -> Result<(), StoreError> {
        if !self.log.is_short_for_acknowledgement(REMOVAL * removals) {
            return Ok(());
        }
        match self.checkpoint().and_then(|()| self.prepare_without_threads()) {
            // It is taken nevertheless: it makes room.
            Ok(()) | Err(StoreError::Full) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has segments made ready where no thread does so.
    fn prepare_without_threads(&self) -> Result<(), StoreError> {
        if self.log.is_written_by_callers() {
            // With a thread of its own the pool ends the log when it fails; here nobody else would.
            self.pool.prepare_wanted().map_err(|reason| self.log.fail(&reason))?;
        }
        Ok(())
    }

    /// Whether there is no room for all the segments that are wanted, or the caller is low on space.
    pub(super) fn is_short_of_space(&self) -> bool {
        self.pool.is_full() || self.pool.is_low()
    }

    /// Whether a checkpoint is due where space is short: it gives a file back; or the log has gone on to another segment since
    /// the last one, so that those before it can be freed as soon as nothing is live in them; or hand-outs wait for it.
    fn needs_relief(&self, last: &LastCheckpoint) -> bool {
        let size = self.segments.segment_size();
        let segment = |lsn: Lsn| lsn.get() / size;
        self.can_be_relieved()
            || self.unrecorded.load(Ordering::Acquire)
            || segment(last.replay_from) < segment(self.log.end_of_groups())
    }

    /// Whether a checkpoint would give a file back. It gives back one at least, so a full store does not write
    /// checkpoints for ever.
    pub(super) fn can_be_relieved(&self) -> bool {
        self.segments.dead(self.log.end_of_groups()) > 0
    }

    /// Looks after the store until it is closed; the body of a thread. While the log is written it looks every second;
    /// when nothing has been written for a while it cleans up, and sleeps.
    pub(super) fn run_upkeep(&self) -> Result<(), StoreError> {
        let mut seen = Seen::default();
        while self.wait_until_due(&seen) {
            seen.newest = self.log.newest_segment();
            self.look_after()?;
            let groups = self.log.statistics().groups;
            seen.quiet_rounds = if groups == seen.groups { seen.quiet_rounds + 1 } else { 0 };
            seen.groups = groups;
            if self.is_short_of_space() {
                self.relieve_disk(&|| self.upkeep.is_stopping())?;
            } else if seen.is_quiet() {
                self.tidy_up()?;
                // What this has written is no use of the store.
                seen.groups = self.log.statistics().groups;
            } else {
                self.compact(Load::Busy, &|| self.upkeep.is_stopping())?;
            }
        }
        Ok(())
    }

    /// Sleeps until there may be something to do; false: the store is being closed.
    fn wait_until_due(&self, seen: &Seen) -> bool {
        let mut stopping = self.upkeep.stopping.lock();
        if seen.is_quiet() {
            self.log.tell_of_next_group();
        }
        while !*stopping && seen.newest == self.log.newest_segment() {
            if self.is_short_of_space() {
                self.upkeep.due.wait_for(&mut stopping, RELIEF_INTERVAL);
                break;
            }
            if !seen.is_quiet() {
                self.upkeep.due.wait_for(&mut stopping, UPKEEP_INTERVAL);
                break;
            }
            if seen.groups != self.log.statistics().groups {
                break;
            }
            self.upkeep.due.wait(&mut stopping);
        }
        !*stopping
    }

    /// Frees what can be freed of a store that nobody uses.
    fn tidy_up(&self) -> Result<(), StoreError> {
        self.compact(Load::Idle, &|| self.upkeep.is_stopping())?;
        if self.balance().dead {
            self.checkpoint()?;
        }
        if !self.is_short_of_space() {
            self.log.give_up_idle_segments();
            self.pool.release_given_up().map_err(|reason| self.log.fail(&reason))?;
            if let Err(error) = self.pool.remove_spares() {
                tracing::warn!("cannot remove a spare segment: {error}");
            }
        }
        Ok(())
    }
}

/// How the store was found the last time.
#[derive(Debug, Default)]
struct Seen {
    newest: Option<SegmentId>,
    groups: u64,
    quiet_rounds: u32,
}

impl Seen {
    fn is_quiet(&self) -> bool {
        self.quiet_rounds >= QUIET_ROUNDS
    }
}
