//! Looking at a store that is not open.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::view::{
    self, CheckpointView, CompactionView, Inspection, QueueView, Replay, SegmentView,
};
use crate::storage::compaction::{Balance, Load, Progress, victims};
use crate::storage::disk::{Descriptors, Disk, MOST_OPEN_TO_LOOK};
use crate::storage::error::OpenError;
use crate::storage::recovery;
use crate::storage::segment::file_name;

/// Reads what an open would read, and describes it.
pub fn inspect(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Inspection, OpenError> {
    let disk = Descriptors::new(disk.clone(), MOST_OPEN_TO_LOOK);
    let (_lock, file, recovered) = recovery::read(&disk, dir)?;
    let superblock = *file.state();
    let size = superblock.segment_size;
    let report = &recovered.report;
    let all = recovered.segments.all();
    let mut segments: Vec<SegmentView> =
        all.iter().map(|segment| SegmentView::of(segment, size, recovered.end)).collect();

    // Those that the log has left: an open leaves the last one as well, but as if it had been left full.
    let mut sealed = all;
    sealed.retain(|segment| {
        segment.id().plus(u64::from(segment.header.slots)).start(size) <= recovered.end
    });
    let stuck = BTreeSet::new();
    let balance = Balance::of(&sealed, &stuck, size);
    if balance.is_bad(0) {
        let victims = victims(sealed, &stuck, size);
        view::mark(&mut segments, &view::ids(&victims), &stuck);
    }
    let progress = Progress::new(superblock.compacted);

    let mut queues: Vec<QueueView> =
        recovered.catalog.queues.iter().map(|queue| QueueView::of(queue)).collect();
    queues.sort_by_key(|queue| queue.id);
    Ok(Inspection {
        format: superblock.version,
        store: superblock.store,
        segment_size: size,
        checkpoint: CheckpointView { root: superblock.root, written: superblock.written },
        replay: Replay {
            from: recovered.replayed_from,
            end: report.end,
            bytes: report.bytes,
            groups: Some(report.groups),
            records: Some(report.records),
            torn: report.torn,
        },
        segments,
        unused: recovered.unused.iter().map(|id| dir.join(file_name(*id))).collect(),
        compaction: CompactionView::new(&balance, Load::Busy, size, &progress),
        queues,
        entries: recovered.catalog.entries.iter().cloned().collect(),
        open: None,
    })
}
