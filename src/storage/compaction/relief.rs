//! Relief: compaction where space is short, because the disk is full or the caller is low on space.
//!
//! Dead bytes are given back then whatever their share is, the emptiest segments first. What is moved has a budget of its own
//! in the log's [reserve](crate::storage::log::RESERVE), so a round is as large as that, and the next one has what this one has
//! freed. A round that gains next to nothing is the last one until more bytes are dead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::progress::CompactionEnd;
use super::sweep::Sweep;
use super::{Pace, may_move, sealed};
use crate::storage::error::StoreError;
use crate::storage::log::KEPT_FOR_OPENS;
use crate::storage::options::Background;
use crate::storage::segment::{PAGE, Segment};
use crate::storage::store::Shared;

/// A round that gains less than this part of a segment is the last one.
const GAIN: u64 = 64;

/// Compaction tries again when this part of a segment more is dead.
const NEWS: u64 = 16;

/// How long compaction waits at first, and at most, before it tries again with nothing new.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));

/// What the last attempt has come to.
#[derive(Debug, Default)]
pub(crate) struct Relief(Mutex<Option<Futile>>);

/// An attempt without a gain.
#[derive(Clone, Copy, Debug)]
struct Futile {
    /// The bytes that could be gained then.
    gain: u64,
    at: Instant,
    patience: Duration,
}

impl Relief {
    /// Has the next attempt made whatever the last one has come to.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }
}

impl Shared {
    /// Compacts while space is short and there is something to gain, and `stopping` does not say otherwise.
    pub(in crate::storage) fn relieve_disk(
        &self,
        stopping: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let size = self.segments.segment_size();
        let _compacting = self.compacting.lock();
        let mut rounds = 0;
        // Files of segments that were planned and given up are space as well.
        self.pool.release_given_up().map_err(|reason| self.log.fail(&reason))?;
        self.settle_all()?;
        // The checkpoints between two rounds take room as well: a round has to gain more than they do.
        let mut least = self.occupied();
        loop {
            self.look_after()?;
            if !self.is_short_of_space() || stopping() {
                return Ok(());
            }
            let gain = self.possible_gain();
            let futile = *self.relief.0.lock();
            let is_new = futile.is_none_or(|futile| {
                gain >= futile.gain + size / NEWS || self.is_worth_another_try(&futile)
            });
            let victims = if is_new { self.victims_of_relief(gain) } else { Vec::new() };
            if victims.is_empty() {
                if rounds > 0 {
                    self.compaction.end(CompactionEnd::Done, self.clock.now());
                }
                return Ok(());
            }
            let mut pace = || self.look_after().map(|()| !stopping());
            if !self.empty(&victims, &mut pace)? {
                self.compaction.end(CompactionEnd::Stopped, self.clock.now());
                return Ok(());
            }
            let occupied = self.occupied();
            if occupied + size / GAIN > least {
                let patience = futile.map_or(PATIENCE.0, |futile| futile.patience * 2);
                let patience = patience.min(PATIENCE.1);
                let now = Futile { gain: self.possible_gain(), at: Instant::now(), patience };
                *self.relief.0.lock() = Some(now);
                self.compaction.end(CompactionEnd::LittleGain, self.clock.now());
                return Ok(());
            }
            *self.relief.0.lock() = None;
            least = occupied;
            rounds += 1;
        }
    }

    /// Compacts on a full disk of which few segments are ready, for a caller whose store has no threads.
    pub(in crate::storage) fn restore_reserve(&self) -> Result<(), StoreError> {
        if !self.pool.is_full() || !self.log.is_low_on_segments() {
            return Ok(());
        }
        match self.relieve_disk(&|| !self.log.is_low_on_segments()) {
            Err(StoreError::Full) => Ok(()),
            outcome => outcome,
        }
    }

    /// Has an open on a full disk give back a segment for the one that it takes, before anything that it has written counts.
    ///
    /// A checkpoint takes what the one before has left in segments with little else. Where fewer segments than
    /// [`KEPT_FOR_OPENS`] are free then, what is live in the emptiest segments is moved into what is left of the one that this
    /// open has taken: at the least, all that the last open has left in its own. The last checkpoint is the one that counts.
    pub(in crate::storage) fn replace_what_opening_takes(&self) -> Result<(), StoreError> {
        let _compacting = self.compacting.lock();
        self.draft_checkpoint()?;
        while self.free_segments() < KEPT_FOR_OPENS {
            let room = self.log.rest_of_segment().saturating_sub(self.next_checkpoint());
            let movable = self.movable();
            let Some((_, victim)) = movable.first().filter(|(live, _)| *live <= room) else {
                break;
            };
            let round = self.compaction.begin(std::slice::from_ref(victim));
            Sweep::new(self).segment(victim, &mut || Ok(true))?;
            round.next();
            self.draft_checkpoint()?;
            self.note_stuck(std::slice::from_ref(victim));
        }
        self.checkpoint()
    }

    fn draft_checkpoint(&self) -> Result<(), StoreError> {
        self.checkpointer.lock().draft(self)
    }

    /// The segments that the next open finds, if a checkpoint is written now.
    fn free_segments(&self) -> usize {
        let end = self.log.end_of_groups();
        self.log.ready_segments() + self.pool.spares() + self.segments.dead(end)
    }

    /// The bytes that a checkpoint takes, by the last one, with the padding around it.
    fn next_checkpoint(&self) -> u64 {
        self.checkpoint_bytes.load(Ordering::Relaxed) + 2 * PAGE
    }

    /// Without threads nothing depends on the time.
    fn is_worth_another_try(&self, futile: &Futile) -> bool {
        self.background == Background::Threads && futile.at.elapsed() >= futile.patience
    }

    /// Moves what is live in segments, and has checkpoints free them. Returns `false` if `pace` said to stop.
    fn empty(&self, victims: &[Arc<Segment>], pace: Pace<'_>) -> Result<bool, StoreError> {
        let round = self.compaction.begin(victims);
        let mut sweep = Sweep::new(self);
        for segment in victims {
            if !sweep.segment(segment, pace)? {
                return Ok(false);
            }
            round.next();
        }
        self.checkpoint()?;
        // The first one replaces what the checkpoint before has left in the victims.
        if self.can_be_relieved() {
            self.checkpoint()?;
        }
        self.note_stuck(victims);
        Ok(true)
    }

    /// The bytes that the segments in use take, but for what is still free in the open one.
    fn occupied(&self) -> u64 {
        let segments = self.segments.all();
        let slots: u64 = segments.iter().map(|segment| u64::from(segment.header.slots)).sum();
        (slots * self.segments.segment_size()).saturating_sub(self.log.rest_of_segment())
    }

    /// The bytes that would be free if all that is live were moved together.
    pub(super) fn possible_gain(&self) -> u64 {
        self.movable().iter().map(|(live, _)| self.gain_of(*live)).sum()
    }

    /// The bytes that moving this much out of a segment gains. Of a segment that is full to the end the header and some
    /// padding are no gain.
    fn gain_of(&self, live: u64) -> u64 {
        (self.segments.segment_size() - 2 * PAGE).saturating_sub(live)
    }

    /// The sealed segments that may be emptied, with what is live in them, the emptiest first.
    fn movable(&self) -> Vec<(u64, Arc<Segment>)> {
        let stuck = self.compaction.stuck();
        let mut segments: Vec<_> = sealed(self)
            .into_iter()
            .filter(|segment| may_move(segment, &stuck) && segment.live.references() > 0)
            .map(|segment| (segment.live.bytes(), segment))
            .collect();
        segments.sort_by_key(|(live, segment)| (*live, segment.id()));
        segments
    }

    /// The segments that a round empties: as many as there is room for what is live in them, if all rounds together can free
    /// one at least.
    pub(super) fn victims_of_relief(&self, possible: u64) -> Vec<Arc<Segment>> {
        let size = self.segments.segment_size();
        let checkpoint = self.checkpoint_bytes.load(Ordering::Relaxed).min(size / 4);
        // What is left in the open segment counts: the last of the moves may end there.
        if possible + self.log.rest_of_segment() < size {
            return Vec::new();
        }
        let movable = self.movable();
        let (room, last_resort) = self.log.room_for_moves(checkpoint);
        let chosen = |room: u64| {
            let mut taken = 0;
            let fits = |(live, _): &&(u64, Arc<Segment>)| {
                taken += live;
                taken <= room && self.gain_of(*live) > 0
            };
            let chosen = movable.iter().take_while(fits);
            chosen.map(|(_, segment)| segment.clone()).collect::<Vec<_>>()
        };
        let victims = chosen(room);
        if victims.is_empty() { chosen(last_resort) } else { victims }
    }
}
