//! `haypile inspect`

use serde_json::{Value, json};

use super::{COULD_NOT_RUN, DONE, StoreDirectory, complain, text};
use crate::storage::disk::RealDisk;
use crate::storage::inspect::{Inspection, inspect};

/// Show what is in a data directory: segments, queues, the last checkpoint. Changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    #[command(flatten)]
    store: StoreDirectory,
}

impl Inspect {
    pub(super) fn run(&self) -> u8 {
        match inspect(&RealDisk, &self.store.dir) {
            Ok(inspection) if self.store.json => println!("{}", as_json(&inspection)),
            Ok(inspection) => print(&inspection, self.store.all),
            Err(error) => {
                complain(&error);
                return COULD_NOT_RUN;
            }
        }
        DONE
    }
}

fn print(inspection: &Inspection, all: bool) {
    let replay = &inspection.replay;
    println!("store {}, format {}", hex(&inspection.store), inspection.format);
    match inspection.checkpoint.root.get() {
        0 => println!("checkpoint: none yet"),
        lsn => println!("checkpoint at {lsn:#x}"),
    }
    println!(
        "to replay at a start: {} in {} records, from {} to {}{}",
        text::bytes(replay.bytes),
        text::count(replay.records.unwrap_or_default()),
        replay.from,
        replay.end,
        if replay.torn { "; the tail behind it is torn and will be cut off" } else { "" }
    );
    let sizes = Sizes::of(inspection);
    println!(
        "\n{} segments, {}: {} live, {} that compaction or a checkpoint can reclaim, {} of log to be replayed",
        text::count(inspection.segments.len() as u64),
        text::bytes(sizes.files),
        text::bytes(sizes.live),
        text::bytes(sizes.reclaimable),
        text::bytes(replay.bytes)
    );
    println!(
        "{} more files are ready for use; {} segments are free with the next checkpoint",
        text::count(inspection.unused.len() as u64),
        text::count(inspection.segments.iter().filter(|segment| segment.dead).count() as u64)
    );
    for segment in text::shortened(&inspection.segments, all) {
        let share = segment.live_bytes as f64 / segment.size.max(1) as f64;
        println!(
            "  {:>8}  {:>10}  {} {:>3.0} % live, {:>10}  {}{}",
            segment.id.get(),
            text::bytes(segment.size),
            text::bar(share),
            share * 100.0,
            text::bytes(segment.live_bytes),
            segment.file.display(),
            if segment.dead { "  (free with the next checkpoint)" } else { "" }
        );
    }
    let messages = inspection.queues.iter().map(|queue| queue.messages).sum();
    println!(
        "\n{} durable queues with {} messages",
        text::count(inspection.queues.len() as u64),
        text::count(messages)
    );
    let mut queues: Vec<_> = inspection.queues.iter().collect();
    // The deepest first: those are looked for.
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.messages));
    for queue in text::shortened(&queues, all) {
        println!(
            "  {:>12} messages  {:>10}  {}",
            text::count(queue.messages),
            text::bytes(queue.bytes),
            text::queue(queue.id, &queue.attributes)
        );
    }
    println!("\n{} entries of exchanges and bindings", inspection.entries.len());
}

/// What the segments take, in bytes.
struct Sizes {
    files: u64,
    live: u64,
    reclaimable: u64,
}

impl Sizes {
    fn of(inspection: &Inspection) -> Sizes {
        let files = inspection.segments.iter().map(|segment| segment.size).sum();
        let live = inspection.segments.iter().map(|segment| segment.live_bytes).sum();
        // In the newest segment there is room that the log has yet to use.
        let left = inspection.segments.split_last().map_or(&[][..], |(_, left)| left);
        let reclaimable =
            left.iter().map(|segment| segment.size.saturating_sub(segment.live_bytes)).sum();
        Sizes { files, live, reclaimable }
    }
}

fn as_json(inspection: &Inspection) -> Value {
    let replay = &inspection.replay;
    let sizes = Sizes::of(inspection);
    json!({
        "format": inspection.format,
        "store": hex(&inspection.store),
        "segment_size": inspection.segment_size,
        "checkpoint_lsn": inspection.checkpoint.root.get(),
        "replay": {
            "from_lsn": replay.from.get(),
            "end_lsn": replay.end.get(),
            "groups": replay.groups,
            "records": replay.records,
            "bytes": replay.bytes,
            "torn_tail": replay.torn,
        },
        "segments": inspection.segments.iter().map(|segment| json!({
            "id": segment.id.get(),
            "file": segment.file,
            "bytes": segment.size,
            "live_references": segment.live_references,
            "live_bytes": segment.live_bytes,
            "dead": segment.dead,
        })).collect::<Vec<_>>(),
        "bytes": sizes.files,
        "live_bytes": sizes.live,
        "reclaimable_bytes": sizes.reclaimable,
        "unused_files": inspection.unused,
        "queues": inspection.queues.iter().map(|queue| json!({
            "id": queue.id.get(),
            "name": text::queue(queue.id, &queue.attributes),
            "messages": queue.messages,
            "bytes": queue.bytes,
            "next_sequence": queue.next.get(),
        })).collect::<Vec<_>>(),
        "entries": inspection.entries.len(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
