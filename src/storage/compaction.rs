//! Compaction: what is still live in the emptiest segments is appended to the log anew, so that nothing needs them.
//!
//! 1. Choose the sealed segments with the least live in them.
//! 2. Read each of them from front to back. A message that a queue still has at this very place is appended as a
//!    [`MovedRecord`](super::record::MovedRecord), once for all of its queues, and their indexes are told, under their locks: what was acknowledged
//!    meanwhile is not copied. Of the checkpoint's parts, chunks are written anew at once, the others by the next
//!    checkpoint.
//! 3. Write a checkpoint. Nothing live is left in the segments then, and it recycles them like any others.
//!
//! A crash at any point leaves the messages at the old place or at the new one, and the log says which. What lives here:
//! that order of things, the choice of segments ([`Balance`]), the pace, and what there is to tell of it ([`Progress`]). It
//! must never free a segment itself.

mod balance;
mod progress;
mod relief;
mod sweep;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use self::balance::may_move;
pub(crate) use self::balance::{Balance, Load, victims};
pub(crate) use self::progress::Progress;
pub use self::progress::{Compacted, CompactionActivity, CompactionEnd};
pub(crate) use self::relief::Relief;
use self::sweep::Sweep;
use super::checkpoint;
use super::error::StoreError;
use super::segment::Segment;
use super::store::Shared;
use super::units::SegmentId;

/// While others write, compaction pauses for so many times as long as it works.
const GIVE_WAY: u32 = 4;

/// Compaction never pauses for longer, so that the store can be closed.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Asked between two steps, while no lock is held; false: stop here.
pub(super) type Pace<'a> = &'a mut dyn FnMut() -> Result<bool, StoreError>;

impl Shared {
    /// Compacts while that is due and `stopping` does not say otherwise; checkpoints that fall due are written meanwhile.
    pub(super) fn compact(
        &self,
        load: Load,
        stopping: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let size = self.segments.segment_size();
        let _compacting = self.compacting.lock();
        // Who closes the store waits for this lock, and for nobody who comes after him.
        if stopping() {
            return Ok(());
        }
        if load == Load::Idle {
            self.settle_all()?;
        }
        let mut rounds = 0;
        loop {
            let balance = self.balance();
            // A full disk has rules of its own.
            if self.is_short_of_space() {
                return Ok(());
            }
            if !balance.is_bad(Balance::slack(load, size)) {
                if rounds > 0 {
                    self.compaction.end(CompactionEnd::Done, self.clock.now());
                }
                return Ok(());
            }
            let share = balance.share(size);
            let mut since = Instant::now();
            let mut pace = || {
                let worked = since.elapsed();
                thread::sleep(worked.mul_f64(1.0 / share - 1.0).min(LONGEST_PAUSE));
                self.look_after()?;
                since = Instant::now();
                Ok(!stopping())
            };
            if let ControlFlow::Break(end) = self.round(balance, &mut pace)? {
                self.compaction.end(end, self.clock.now());
                return Ok(());
            }
            rounds += 1;
        }
    }

    /// Bytes that the log has written, and bytes that compaction has given it.
    fn written(&self) -> (u64, u64) {
        (self.log.statistics().bytes, self.compaction.total().bytes)
    }

    /// Finds out what has gone of chunks that are not in memory. Checkpoints do this as well; while there is little to
    /// write they are far apart.
    pub(super) fn settle_all(&self) -> Result<(), StoreError> {
        let queues = self.catalog.lock().all_queues();
        queues.iter().try_for_each(|queue| checkpoint::settle(self, queue))
    }

    /// Compacts whatever there is to gain, as fast as others leave room for.
    pub(super) fn compact_fully(&self) -> Result<Compacted, StoreError> {
        let before = self.compaction.total();
        if self.is_short_of_space() {
            self.relief.forget();
            self.relieve_disk(&|| self.upkeep.is_stopping())?;
            return Ok(self.compaction.total().since(before));
        }
        self.settle_all()?;
        let _compacting = self.compacting.lock();
        let mut since = Instant::now();
        let mut seen = self.written();
        let mut pace = || {
            let (written, moved) = self.written();
            let others = (written - seen.0).saturating_sub(moved - seen.1);
            if others > moved - seen.1 {
                thread::sleep((since.elapsed() * GIVE_WAY).min(LONGEST_PAUSE));
            }
            // The store's own upkeep waits for its turn to compact, and who closes the store waits for the upkeep.
            self.look_after()?;
            since = Instant::now();
            seen = self.written();
            Ok(!self.upkeep.is_stopping())
        };
        let end = loop {
            let balance = self.balance();
            if self.upkeep.is_stopping() {
                break CompactionEnd::Stopped;
            }
            if !balance.is_bad(0) {
                break CompactionEnd::Done;
            }
            if let ControlFlow::Break(end) = self.round(balance, &mut pace)? {
                break end;
            }
        };
        self.compaction.end(end, self.clock.now());
        Ok(self.compaction.total().since(before))
    }

    /// How the segments stand.
    pub(super) fn balance(&self) -> Balance {
        Balance::of(&sealed(self), &self.compaction.stuck(), self.segments.segment_size())
    }

    /// The segments that a round would empty now.
    pub(super) fn next_victims(&self) -> Vec<Arc<Segment>> {
        if self.is_short_of_space() {
            return self.victims_of_relief(self.possible_gain());
        }
        let size = self.segments.segment_size();
        victims(sealed(self), &self.compaction.stuck(), size)
    }

    /// Empties the emptiest segments, and has a checkpoint free them. Says why there should be no further round, if so.
    fn round(
        &self,
        balance: Balance,
        pace: Pace<'_>,
    ) -> Result<ControlFlow<CompactionEnd>, StoreError> {
        let victims = self.next_victims();
        if victims.is_empty() {
            return Ok(ControlFlow::Break(CompactionEnd::NothingToMove));
        }
        let round = self.compaction.begin(&victims);
        let mut sweep = Sweep::new(self);
        for segment in &victims {
            if !sweep.segment(segment, pace)? {
                return Ok(ControlFlow::Break(CompactionEnd::Stopped));
            }
            round.next();
        }
        self.checkpoint()?;
        self.note_stuck(&victims);
        // Where there is little in the store, the checkpoints of compaction alone make about as much garbage as it takes
        // away.
        let gains = self.balance().excess() + self.segments.segment_size() / 4 <= balance.excess();
        Ok(if gains {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(CompactionEnd::LittleGain)
        })
    }

    /// Gives up on segments that were gone through, and in which something is live all the same.
    fn note_stuck(&self, victims: &[Arc<Segment>]) {
        for segment in victims {
            if segment.live.references() > 0 && self.segments.get(segment.id()).is_some() {
                tracing::warn!(
                    file = %segment.path.display(),
                    references = segment.live.references(),
                    "a segment holds damaged records, or records that cannot be found, and is kept as it is"
                );
                self.compaction.set_stuck(segment.id());
            }
        }
    }
}

/// The segments behind which the log has gone, and all of which is on disk.
fn sealed(shared: &Shared) -> Vec<Arc<Segment>> {
    let size = shared.segments.segment_size();
    let durable = shared.log.durable();
    let current = SegmentId::holding(shared.log.end_of_groups(), size);
    let mut segments = shared.segments.all();
    segments.retain(|segment| {
        let end = segment.id().plus(u64::from(segment.header.slots));
        end.start(size) <= durable && segment.id() < current
    });
    segments
}

/// Moves what is live in a segment, and leaves all else to whoever asks for it.
#[cfg(test)]
pub(super) fn move_all(shared: &Shared, segment: &Segment) -> Result<Compacted, StoreError> {
    let before = shared.compaction.total();
    Sweep::new(shared).segment(segment, &mut || Ok(true))?;
    Ok(shared.compaction.total().since(before))
}
