//! Looking at a store that is open, without holding anybody up.
//!
//! No two locks are held at a time, and none for longer than it takes to copy a few numbers or a page of the catalog. What a
//! checkpoint and a round of compaction hold while they work is not touched: they leave word of what they do elsewhere.

use std::collections::BTreeSet;

use super::view::{
    self, CheckpointView, CompactionView, Inspection, OpenView, QueueView, Replay, SegmentView,
    VolatileQueues,
};
use crate::storage::catalog::Catalog;
use crate::storage::compaction::{CompactionActivity, Load};
use crate::storage::segment::PAGE;
use crate::storage::store::{Shared, Store};
use crate::storage::superblock::FORMAT_VERSION;
use crate::storage::units::SegmentId;

impl Store {
    /// Says what is in the store and what the store is doing. Neither waits for the disk nor for a checkpoint or a compaction
    /// that is under way; it takes the longer the more queues there are, and is meant to be called where that is allowed.
    ///
    /// The parts are not of one moment.
    pub fn inspect(&self) -> Inspection {
        self.shared.inspect()
    }
}

impl Shared {
    fn inspect(&self) -> Inspection {
        let size = self.segments.segment_size();
        let last = *self.last_checkpoint.lock();
        let log = self.log.outlook();
        let pool = self.pool.outlook();

        let balance = self.balance();
        let glimpse = self.compaction.glimpse();
        let victims = match glimpse.activity {
            CompactionActivity::Idle if balance.is_bad(0) => view::ids(&self.next_victims()),
            CompactionActivity::Idle => BTreeSet::new(),
            CompactionActivity::Moving { .. } | CompactionActivity::Freeing { .. } => {
                glimpse.victims.iter().copied().collect()
            }
        };
        let all = self.segments.all();
        let mut segments: Vec<SegmentView> =
            all.iter().map(|segment| SegmentView::of(segment, size, log.end_of_groups)).collect();
        view::mark(&mut segments, &victims, &self.compaction.stuck());
        let load = if self.pool.is_full() { Load::Idle } else { Load::Busy };
        let compaction = CompactionView::new(&balance, load, size, &self.compaction);

        let durable = self.pages(|catalog, page| catalog.queues.copy_of_page(page));
        let mut queues: Vec<QueueView> = durable.iter().map(|queue| QueueView::of(queue)).collect();
        queues.sort_by_key(|queue| queue.id);
        let entries = self.pages(|catalog, page| catalog.entries.copy_of_page(page));

        // Without a checkpoint it begins where the first segment does, behind its header.
        let begin = last.replay_from.max(SegmentId::FIRST.start(size).plus(PAGE));
        let end = self.log.durable().max(begin);
        let mut unused = log.ready;
        let open = OpenView {
            is_full: self.pool.is_full(),
            segments_ready: unused.len() as u64,
            segments_wanted: pool.wanted,
            spare_files: pool.free.len() as u64,
            checkpoint_under_way: last.under_way,
            set_aside: self.set_aside_messages(),
            cached_bytes: self.cache.taken(),
            resident_places: self.places.taken(),
            log: self.log.statistics(),
            compacted: self.compaction.total(),
            volatile: self.volatile_queues(),
        };
        unused.extend(pool.free);
        unused.sort();
        Inspection {
            format: FORMAT_VERSION,
            store: self.log.store(),
            segment_size: size,
            checkpoint: CheckpointView { root: last.root, written: last.written },
            replay: Replay {
                from: last.replay_from,
                end,
                bytes: end.since(begin),
                groups: None,
                records: None,
                torn: false,
            },
            segments,
            unused,
            compaction,
            queues,
            entries,
            open: Some(open),
        }
    }

    /// A part of the catalog, copied a page at a time: whoever declares something waits for one page at most.
    fn pages<T>(&self, page: impl Fn(&Catalog, usize) -> Option<Vec<T>>) -> Vec<T> {
        let next = |number| page(&self.catalog.lock(), number);
        (0..).map_while(next).flatten().collect()
    }

    fn volatile_queues(&self) -> VolatileQueues {
        let volatile = self.catalog.lock().volatile_queues();
        let mut sum = VolatileQueues::default();
        for queue in volatile {
            let queue = QueueView::of(&queue);
            sum.queues += 1;
            sum.messages += queue.messages;
            sum.bytes += queue.bytes;
        }
        sum
    }
}
