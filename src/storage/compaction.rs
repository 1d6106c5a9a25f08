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
//! that order of things, the choice of segments, and the pace. It must never free a segment itself.

mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use self::sweep::Sweep;
use super::checkpoint;
use super::error::StoreError;
use super::segment::Segment;
use super::store::Shared;
use super::units::SegmentId;

/// A segment of which more than this is live is left alone, in percent.
const FULL_ENOUGH: u64 = 70;

/// So much is moved before a checkpoint makes room, in segments.
const ROUND: u64 = 2;

/// While others write, compaction pauses for so many times as long as it works.
const GIVE_WAY: u32 = 4;

/// Compaction never pauses for longer, so that the store can be closed.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What compaction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that it has gone through.
    pub segments: u64,
    /// Messages that it has appended anew.
    pub messages: u64,
    /// Bytes of log that this took.
    pub bytes: u64,
}

/// How the segments behind the log stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    /// Bytes of the sealed segments of which something is live. Those of which nothing is are none of compaction's
    /// business: under heavy traffic there are many of them from one checkpoint to the next.
    pub(super) sealed: u64,
    /// Bytes of these that are live.
    pub(super) live: u64,
    /// There are some that nothing needs: a checkpoint frees them.
    pub(super) dead: bool,
}

impl Balance {
    /// Whether the dead bytes are more than is to be borne: three fifths of the live ones, and `slack`.
    pub(super) fn is_bad(&self, slack: u64) -> bool {
        self.excess() > slack
    }

    /// Dead bytes beyond what is to be borne.
    pub(super) fn excess(&self) -> u64 {
        (self.sealed - self.live.min(self.sealed)).saturating_sub(self.live / 5 * 3)
    }

    /// Dead bytes that are not worth a compaction: while the store is in use, much of what is live is about to go by
    /// itself.
    pub(super) fn slack(load: Load, segment_size: u64) -> u64 {
        match load {
            Load::Busy => 4 * segment_size,
            Load::Idle => 0,
        }
    }

    /// The share of the time that compaction may take: the more there is to gain, the more.
    fn share(&self, segment_size: u64) -> f64 {
        let bearable = (self.live + 4 * segment_size) as f64;
        (self.excess() as f64 / bearable / 2.0).clamp(0.25, 1.0)
    }
}

/// How the store's own compaction goes about it while others use the disk, and while nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Busy,
    Idle,
}

impl Shared {
    /// Compacts while that is due and `stopping` does not say otherwise; checkpoints that fall due are written meanwhile.
    pub(super) fn compact(
        &self,
        load: Load,
        stopping: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let size = self.segments.segment_size();
        let mut compactor = self.compactor.lock();
        if load == Load::Idle || self.pool.is_full() {
            self.settle_all()?;
        }
        loop {
            let balance = compactor.balance(self);
            // On a full disk whatever can be had is wanted.
            let load = if self.pool.is_full() { Load::Idle } else { load };
            if !balance.is_bad(Balance::slack(load, size)) {
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
            if !compactor.round(self, &mut pace)? || !compactor.gains(self, balance) {
                return Ok(());
            }
        }
    }

    /// Bytes that the log has written, and bytes that compaction has given it.
    fn written(&self) -> (u64, u64) {
        (self.log.statistics().bytes, self.moved_bytes.load(Ordering::Relaxed))
    }

    /// Finds out what has gone of chunks that are not in memory. Checkpoints do this as well; while there is little to
    /// write they are far apart.
    pub(super) fn settle_all(&self) -> Result<(), StoreError> {
        let queues = self.catalog.lock().all_queues();
        queues.iter().try_for_each(|queue| checkpoint::settle(self, queue))
    }

    /// Compacts whatever there is to gain, as fast as others leave room for.
    pub(super) fn compact_fully(&self) -> Result<Compacted, StoreError> {
        self.settle_all()?;
        let mut compactor = self.compactor.lock();
        let before = compactor.total;
        let mut since = Instant::now();
        let mut seen = self.written();
        let mut pace = || {
            let (written, moved) = self.written();
            let others = (written - seen.0).saturating_sub(moved - seen.1);
            if others > moved - seen.1 {
                thread::sleep((since.elapsed() * GIVE_WAY).min(LONGEST_PAUSE));
            }
            // The store's own upkeep waits for the compactor meanwhile, and who closes the store waits for the upkeep.
            self.look_after()?;
            since = Instant::now();
            seen = self.written();
            Ok(!self.upkeep.is_stopping())
        };
        loop {
            let balance = compactor.balance(self);
            if !balance.is_bad(0)
                || !compactor.round(self, &mut pace)?
                || !compactor.gains(self, balance)
            {
                break;
            }
        }
        let after = compactor.total;
        Ok(Compacted {
            segments: after.segments - before.segments,
            messages: after.messages - before.messages,
            bytes: after.bytes - before.bytes,
        })
    }
}

/// Goes through segments.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    /// Segments that could not be emptied, because of damage: they are not tried again.
    stuck: BTreeSet<SegmentId>,
    total: Compacted,
}

/// Asked between two steps, while no lock is held; false: stop here.
pub(super) type Pace<'a> = &'a mut dyn FnMut() -> Result<bool, StoreError>;

impl Compactor {
    pub(super) fn total(&self) -> Compacted {
        self.total
    }

    /// How the segments stand.
    pub(super) fn balance(&self, shared: &Shared) -> Balance {
        let size = shared.segments.segment_size();
        let mut balance = Balance::default();
        for segment in sealed(shared) {
            if segment.live.references() == 0 {
                balance.dead = true;
            } else if self.may_move(&segment) {
                balance.sealed += size;
                balance.live += segment.live.bytes();
            }
        }
        balance
    }

    /// Whether a round was worth its while: where there is little in the store, the checkpoints of compaction alone make
    /// about as much garbage as it takes away.
    fn gains(&self, shared: &Shared, before: Balance) -> bool {
        let size = shared.segments.segment_size();
        self.balance(shared).excess() + size / 4 <= before.excess()
    }

    fn may_move(&self, segment: &Segment) -> bool {
        // A segment of several slots holds one huge record: there is nothing to gain.
        segment.header.slots == 1 && !self.stuck.contains(&segment.id())
    }

    /// Empties the emptiest segments, and has a checkpoint free them; false: there were none, or `pace` said to stop.
    pub(super) fn round(&mut self, shared: &Shared, pace: Pace<'_>) -> Result<bool, StoreError> {
        let size = shared.segments.segment_size();
        let candidates = sealed(shared).into_iter().filter(|segment| self.may_move(segment));
        let mut moving = 0;
        let full = shared.pool.is_full();
        let victims: Vec<_> = emptiest_first(candidates.collect())
            .into_iter()
            .filter(|segment| {
                let live = segment.live.bytes();
                // On a full disk it has to fit beside the reserve, like anything that is new.
                let fits = if full {
                    shared.log.admit((moving + live) as usize).is_ok()
                } else {
                    moving <= ROUND * size
                };
                moving += live;
                live * 100 <= size * FULL_ENOUGH && fits
            })
            .collect();
        if victims.is_empty() {
            return Ok(false);
        }
        let mut sweep = Sweep::new(shared);
        let mut outcome = Ok(true);
        for segment in &victims {
            outcome = sweep.segment(segment, pace);
            if !matches!(outcome, Ok(true)) {
                break;
            }
        }
        self.total.segments += sweep.done.segments;
        self.total.messages += sweep.done.messages;
        self.total.bytes += sweep.done.bytes;
        if !outcome? {
            return Ok(false);
        }
        shared.checkpoint()?;
        for segment in victims {
            if segment.live.references() > 0 && shared.segments.get(segment.id()).is_some() {
                tracing::warn!(
                    file = %segment.path.display(),
                    references = segment.live.references(),
                    "a segment holds damaged records, or records that cannot be found, and is kept as it is"
                );
                self.stuck.insert(segment.id());
            }
        }
        Ok(true)
    }
}

/// The segments in the order of how much of them is live. That changes while they are sorted, so each is asked once.
fn emptiest_first(mut segments: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
    segments.sort_by_cached_key(|segment| segment.live.bytes());
    segments
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
    let mut sweep = Sweep::new(shared);
    sweep.segment(segment, &mut || Ok(true))?;
    Ok(sweep.done)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::storage::segment::SegmentHeader;

    /// What was live changed while the segments were sorted by it, by acknowledgements; and a sort whose order changes
    /// under it may panic, which ended the store's own thread and with it the store.
    #[test]
    fn acknowledgements_do_not_get_between_the_segments_that_are_sorted() {
        let header = |id| SegmentHeader { store: [0; 16], id: SegmentId(id), slots: 1, salt: id };
        let segments: Vec<Arc<Segment>> = (1..500)
            .map(|id| Arc::new(Segment::planned(header(id), Path::new("/nowhere"))))
            .collect();
        segments.iter().for_each(|segment| segment.live.add(1, 1 << 40));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = 1;
                while !done.load(Ordering::Relaxed) {
                    for segment in &segments {
                        bytes = bytes * 48_271 % 2_147_483_647;
                        segment.live.add(0, bytes);
                        segment.live.remove(0, bytes / 2);
                    }
                }
            });
            let sorted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (0..300).all(|_| emptiest_first(segments.clone()).len() == segments.len())
            }));
            done.store(true, Ordering::Relaxed);
            assert!(sorted.is_ok_and(|sorted| sorted));
        });
    }
}
