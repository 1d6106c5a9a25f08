//! When compaction is due, and of which segments.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::storage::segment::Segment;
use crate::storage::units::SegmentId;

/// A segment of which more than this is live is left alone, in percent.
const FULL_ENOUGH: u64 = 70;

/// So much is moved before a checkpoint makes room, in segments.
const ROUND: u64 = 2;

/// How the segments behind the log stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// Bytes of the sealed segments of which something is live. Those of which nothing is are none of compaction's
    /// business: under heavy traffic there are many of them from one checkpoint to the next.
    pub(crate) sealed: u64,
    /// Bytes of these that are live.
    pub(crate) live: u64,
    /// There are some that nothing needs: a checkpoint frees them.
    pub(crate) dead: bool,
}

impl Balance {
    /// How these segments stand, all of which the log has left.
    pub(crate) fn of(
        sealed: &[Arc<Segment>],
        stuck: &BTreeSet<SegmentId>,
        segment_size: u64,
    ) -> Balance {
        let mut balance = Balance::default();
        for segment in sealed {
            if segment.live.references() == 0 {
                balance.dead = true;
            } else if may_move(segment, stuck) {
                balance.sealed += segment_size;
                balance.live += segment.live.bytes();
            }
        }
        balance
    }

    /// Whether the dead bytes are more than is to be borne: three fifths of the live ones, and `slack`.
    pub(crate) fn is_bad(&self, slack: u64) -> bool {
        self.excess() > slack
    }

    /// Bytes that are not live.
    pub(crate) fn dead_bytes(&self) -> u64 {
        self.sealed - self.live.min(self.sealed)
    }

    /// Dead bytes that are borne in any case.
    pub(crate) fn borne(&self) -> u64 {
        self.live / 5 * 3
    }

    /// Dead bytes beyond what is to be borne.
    pub(crate) fn excess(&self) -> u64 {
        self.dead_bytes().saturating_sub(self.borne())
    }

    /// Dead bytes that are not worth a compaction: while the store is in use, much of what is live is about to go by
    /// itself.
    pub(crate) fn slack(load: Load, segment_size: u64) -> u64 {
        match load {
            Load::Busy => 4 * segment_size,
            Load::Idle => 0,
        }
    }

    /// The share of the time that compaction may take: the more there is to gain, the more.
    pub(super) fn share(&self, segment_size: u64) -> f64 {
        let bearable = (self.live + 4 * segment_size) as f64;
        (self.excess() as f64 / bearable / 2.0).clamp(0.25, 1.0)
    }
}

/// How the store's own compaction goes about it while others use the disk, and while nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Busy,
    Idle,
}

/// Whether compaction may empty a segment.
pub(super) fn may_move(segment: &Segment, stuck: &BTreeSet<SegmentId>) -> bool {
    // A segment of several slots holds one huge message: there is nothing to gain.
    segment.header.slots == 1 && !stuck.contains(&segment.id())
}

/// Those of the sealed segments that a round empties, the emptiest first.
pub(crate) fn victims(
    sealed: Vec<Arc<Segment>>,
    stuck: &BTreeSet<SegmentId>,
    segment_size: u64,
) -> Vec<Arc<Segment>> {
    let candidates = sealed.into_iter().filter(|segment| may_move(segment, stuck));
    let mut before = 0;
    emptiest_first(candidates.collect())
        .into_iter()
        .filter(|segment| {
            let own = segment.live.bytes();
            let fits = before <= ROUND * segment_size;
            before += own;
            own * 100 <= segment_size * FULL_ENOUGH && fits
        })
        .collect()
}

/// The segments in the order of how much of them is live. That changes while they are sorted, so each is asked once.
fn emptiest_first(mut segments: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
    segments.sort_by_cached_key(|segment| segment.live.bytes());
    segments
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

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
