//! `reclaim`: how soon the disk space of acknowledged messages can be used again, without any traffic.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use haypile::storage::{Options, Queue, Sequence, SequenceRange};

use super::random::Random;
use super::table::{Table, count, mebibytes};
use super::{Bench, Outcome, engine};

/// How long is watched.
const WATCHED: Duration = Duration::from_secs(30);

pub(crate) fn run(bench: &Bench) -> Outcome {
    let table = Table::new(
        "reclaim",
        &["seconds after acknowledging a random 99 %", "live MiB", "disk MiB", "disk/live", "goal"],
        bench.json,
    );
    let options = Options::default();
    let segment = options.segment_size;
    let data = bench.dir.path().join("data");
    let (store, queue) = engine::create(&data, options)?;
    engine::publish(&store, &queue, 5 * bench.million, 100)?;
    let row = |when: &str, acknowledged: bool| -> Outcome<bool> {
        let (live, disk) = (queue.bytes(), disk_in_use(&data)?);
        let reached = disk <= 2 * live + 4 * segment;
        table.row(&[
            when.to_owned(),
            mebibytes(live),
            mebibytes(disk),
            format!("{:.1}", disk as f64 / live.max(1) as f64),
            if !acknowledged {
                ""
            } else if reached {
                "reached"
            } else {
                "-"
            }
            .to_owned(),
        ]);
        Ok(reached)
    };
    row(&format!("({} of 100 B queued)", count(queue.len())), false)?;
    acknowledge_most(&queue)?;
    let begin = Instant::now();
    let mut reached = None;
    while begin.elapsed() < WATCHED && reached.is_none() {
        let now = begin.elapsed();
        reached = row(&now.as_secs().to_string(), true)?.then_some(now);
        thread::sleep(Duration::from_secs(1));
    }
    match reached {
        Some(after) => {
            row(&format!("at most 2 x live + 4 segments after {} s", after.as_secs()), true)?
        }
        None => row(&format!("not within {} s", WATCHED.as_secs()), true)?,
    };
    drop(queue);
    store.close()?;
    Ok(())
}

/// Acknowledges all but a random hundredth.
fn acknowledge_most(queue: &Queue) -> Outcome {
    let mut random = Random::new();
    let mut ranges: Vec<SequenceRange> = Vec::new();
    let end = queue.next_sequence();
    let mut next = Sequence::FIRST;
    while next < end {
        if random.below(100) != 0 {
            match ranges.last_mut() {
                Some(range) if range.last.next() == next => range.last = next,
                _ => ranges.push(SequenceRange::one(next)),
            }
        }
        if ranges.len() == 100 {
            queue.acknowledge(&ranges)?;
            ranges.clear();
        }
        next = next.next();
    }
    queue.acknowledge(&ranges)?;
    Ok(())
}

/// What a directory's files take on the disk, in bytes.
pub(crate) fn disk_in_use(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        // One that is gone in between takes nothing.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.blocks() * 512);
    }
    Ok(bytes)
}
