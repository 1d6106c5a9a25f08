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
            Ok(inspection) => print(&inspection),
            Err(error) => {
                complain(&error);
                return COULD_NOT_RUN;
            }
        }
        DONE
    }
}

fn print(inspection: &Inspection) {
    let recovery = &inspection.recovery;
    println!("store {}, format {}", hex(&inspection.store), inspection.format);
    match inspection.checkpoint.get() {
        0 => println!("checkpoint: none yet"),
        lsn => println!("checkpoint at {lsn:#x}"),
    }
    println!(
        "to replay: {} in {} records, from {} to {}{}",
        text::bytes(recovery.bytes),
        text::count(recovery.records),
        inspection.replayed_from,
        recovery.end,
        if recovery.torn { "; the tail behind it is torn and will be cut off" } else { "" }
    );
    let live: u64 = inspection.segments.iter().map(|segment| segment.live_bytes).sum();
    let size: u64 = inspection.segments.iter().map(|segment| segment.size).sum();
    println!(
        "\n{} segments, {} with {} live; {} more files ready for use",
        inspection.segments.len(),
        text::bytes(size),
        text::bytes(live),
        inspection.unused.len()
    );
    for segment in &inspection.segments {
        println!(
            "  {:>8}  {:>10}  {:>10} live ({:>3.0} %)  {}",
            segment.id.get(),
            text::bytes(segment.size),
            text::bytes(segment.live_bytes),
            segment.live_bytes as f64 * 100.0 / segment.size.max(1) as f64,
            segment.file.display()
        );
    }
    println!("\n{} durable queues", inspection.queues.len());
    for queue in &inspection.queues {
        println!(
            "  {:>12} messages  {:>10}  {}",
            text::count(queue.messages),
            text::bytes(queue.bytes),
            text::queue(queue.id, &queue.attributes)
        );
    }
    println!("\n{} entries of exchanges and bindings", inspection.entries.len());
}

fn as_json(inspection: &Inspection) -> Value {
    let recovery = &inspection.recovery;
    json!({
        "format": inspection.format,
        "store": hex(&inspection.store),
        "segment_size": inspection.segment_size,
        "checkpoint_lsn": inspection.checkpoint.get(),
        "replay": {
            "from_lsn": inspection.replayed_from.get(),
            "end_lsn": recovery.end.get(),
            "groups": recovery.groups,
            "records": recovery.records,
            "bytes": recovery.bytes,
            "torn_tail": recovery.torn,
        },
        "segments": inspection.segments.iter().map(|segment| json!({
            "id": segment.id.get(),
            "file": segment.file,
            "bytes": segment.size,
            "live_references": segment.live_references,
            "live_bytes": segment.live_bytes,
        })).collect::<Vec<_>>(),
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
