//! `haypile inspect`

use std::path::Path;
use std::time::Duration;

use super::data_directory::StoreDirectory;
use super::{COULD_NOT_RUN, DONE, complain, text};
use crate::cli::output::{self, say};
use crate::server::inspection::{self, Activity, AskError, CompactionReport, End, Report, Running};
use crate::storage::disk::RealDisk;
use crate::storage::inspect::inspect;
use crate::storage::{Clock, OpenError, SystemClock};

/// Show what is in a data directory: segments, queues, the last checkpoint, compaction. Changes nothing.
///
/// If a server is running on the directory, it is asked, and says what it is doing as well.
#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    #[command(flatten)]
    store: StoreDirectory,
}

impl Inspect {
    pub(super) fn run(&self) -> u8 {
        let report = match look(&self.store.path()) {
            Ok(report) => report,
            Err(error) => {
                complain(&*error);
                return COULD_NOT_RUN;
            }
        };
        if self.store.json {
            match serde_json::to_string(&report) {
                Ok(json) => output::json(&json),
                Err(error) => {
                    complain(&error);
                    return COULD_NOT_RUN;
                }
            }
        } else {
            print(&report, self.store.all);
        }
        DONE
    }
}

/// Reads the directory, or has the server that runs on it say what is in it.
fn look(dir: &Path) -> Result<Report, Box<dyn std::error::Error>> {
    match read(dir) {
        Err(OpenError::Locked(_)) => match ask(dir)? {
            Ok(report) => Ok(report),
            // It may have stopped between the two questions.
            Err(unanswered) => match read(dir) {
                Err(OpenError::Locked(_)) => Err(unanswered.into()),
                other => Ok(other?),
            },
        },
        other => Ok(other?),
    }
}

fn read(dir: &Path) -> Result<Report, OpenError> {
    Ok(Report::of_stopped(&inspect(&RealDisk::shared(), dir)?, SystemClock.now()))
}

fn ask(dir: &Path) -> std::io::Result<Result<Report, AskError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(inspection::ask(dir)))
}

fn print(report: &Report, all: bool) {
    say!("store {}, format {}", report.store, report.format);
    match &report.running {
        Some(running) => print_running(running),
        None => say!("no server is running on it"),
    }
    print_checkpoint(report);
    print_segments(report, all);
    print_compaction(report);
    print_queues(report, all);
    say!();
    say!("{} entries of exchanges, bindings, users and policies", text::count(report.entries));
}

fn print_running(running: &Running) {
    say!(
        "running: process {}, for {}, version {}, on {}",
        running.pid,
        time(running.for_ms),
        running.version,
        running.addresses.join(" ")
    );
    let ready = format!(
        "{} segments ready for the log, {} still to be made",
        text::count(running.segments_ready),
        text::count(running.segments_wanted)
    );
    if running.disk_full {
        say!("THE DISK IS FULL: publishers are held back until there is room; {ready}");
    } else {
        say!("disk: not full, {ready}");
    }
    print_levels(running);
    say!(
        "written since the start: {} in {} syncs; in memory: {} of messages, {} places of queues",
        text::bytes(running.log.bytes),
        text::count(running.log.groups),
        text::bytes(running.cached_bytes),
        text::count(running.resident_places)
    );
    match running.messages_set_aside {
        0 => say!("set aside: no message was found damaged"),
        set_aside => say!(
            "SET ASIDE: {} DAMAGED MESSAGES; stop the server, then `haypile verify` says which and where",
            text::count(set_aside)
        ),
    }
}

fn print_levels(running: &Running) {
    let known = |bytes: Option<u64>| bytes.map_or("an unknown amount".to_owned(), text::bytes);
    let memory = format!(
        "memory: {} in use of {} allowed",
        known(running.memory_bytes),
        known(running.memory_limit_bytes)
    );
    let disk = format!(
        "disk: {} free, {} to be left",
        known(running.disk_free_bytes),
        text::bytes(running.disk_free_limit_bytes)
    );
    for (is_low, levels) in [(running.low_on_memory, memory), (running.low_on_disk, disk)] {
        if is_low {
            say!("PUBLISHERS ARE HELD BACK: {levels}");
        } else {
            say!("{levels}");
        }
    }
}

fn print_checkpoint(report: &Report) {
    let checkpoint = &report.checkpoint;
    let next = if checkpoint.under_way { "; the next one is being written" } else { "" };
    match (report.checkpoint_lsn, checkpoint.age_ms) {
        (0, _) => say!("checkpoint: none yet{next}"),
        (lsn, Some(age)) => say!("checkpoint at {lsn:#x}, written {} ago{next}", time(age)),
        (lsn, None) => {
            say!("checkpoint at {lsn:#x}, written at a time that is not known{next}");
        }
    }
    let replay = &report.replay;
    let records = replay.records.map(|records| format!(" in {} records", text::count(records)));
    say!(
        "to replay at a start: {}{}, from {:#x} to {:#x}{}",
        text::bytes(replay.bytes),
        records.unwrap_or_default(),
        replay.from_lsn,
        replay.end_lsn,
        if replay.torn_tail { "; the tail behind it is torn and will be cut off" } else { "" }
    );
}

fn print_segments(report: &Report, all: bool) {
    say!();
    say!(
        "{} segments, {}: {} live, {} that compaction or a checkpoint can reclaim",
        text::count(report.segments.len() as u64),
        text::bytes(report.bytes),
        text::bytes(report.live_bytes),
        text::bytes(report.reclaimable_bytes)
    );
    let dead = report.segments.iter().filter(|segment| segment.dead).count();
    say!(
        "{} more files are ready for use; {} segments are free with the next checkpoint",
        text::count(report.unused_files.len() as u64),
        text::count(dead as u64)
    );
    let is_idle = report.compaction.activity == Activity::Idle;
    for segment in text::shortened(&report.segments, all) {
        let share = segment.live_bytes as f64 / segment.bytes.max(1) as f64;
        let note = match segment {
            s if s.dead => "  (free with the next checkpoint)",
            s if s.stuck => "  (DAMAGED: compaction could not empty it)",
            s if s.next_victim && is_idle => "  (next for compaction)",
            s if s.next_victim => "  (compaction is at work on it)",
            _ => "",
        };
        say!(
            "  {:>8}  {:>10}  {} {:>3.0} % live, {:>10}  {}{note}",
            segment.id,
            text::bytes(segment.bytes),
            text::bar(share),
            share * 100.0,
            text::bytes(segment.live_bytes),
            segment.file,
        );
    }
}

fn print_compaction(report: &Report) {
    let compaction = &report.compaction;
    say!();
    say!("compaction: {}", activity(report));
    if let (Some(end), Some(at)) = (compaction.last_end, compaction.last_end_unix_ms) {
        let why = match end {
            End::Done => "no more was dead than is borne",
            End::LittleGain => "there was little more to gain",
            End::NothingToMove => "no segment could be emptied",
            End::Stopped => "it was told to stop",
        };
        say!("  it last ended {} ago: {why}", time(report.inspected_unix_ms.saturating_sub(at)));
    }
    let total = &compaction.total;
    say!(
        "  since the store was created: {} segments gone through, {} messages moved, {}",
        text::count(total.segments),
        text::count(total.messages),
        text::bytes(total.bytes)
    );
}

fn activity(report: &Report) -> String {
    let still_dead = text::bytes(report.compaction.dead_bytes);
    match &report.compaction.activity {
        Activity::Idle if report.running.is_some() => format!("idle, {}", due(report)),
        Activity::Idle => due(report),
        Activity::Moving { segment, number, of, moved } => format!(
            "running: segment {segment}, {number} of {of}, {} moved, {still_dead} still dead",
            text::bytes(moved.bytes)
        ),
        Activity::Freeing { of, moved } => format!(
            "running: writes the checkpoint that frees {of} segments, {} moved, {still_dead} still dead",
            text::bytes(moved.bytes)
        ),
    }
}

/// Whether compaction is due, and why.
fn due(report: &Report) -> String {
    let CompactionReport {
        due, due_when_quiet, dead_bytes, borne_bytes, borne_in_use_bytes, ..
    } = report.compaction;
    let dead = text::bytes(dead_bytes);
    let (borne, in_use) = (text::bytes(borne_bytes), text::bytes(borne_in_use_bytes));
    let is_full = report.running.as_ref().is_some_and(|running| running.disk_full);
    match (due, due_when_quiet) {
        (true, _) if is_full => {
            format!("due, because the disk is full: {dead} dead of {borne} borne then")
        }
        (true, _) => format!("due: {dead} dead of {in_use} borne"),
        (false, true) => format!(
            "not due while it is in use: {dead} dead of {in_use} borne; due once it is quiet, with {borne} borne then"
        ),
        (false, false) => format!("not due: {dead} dead of {borne} borne"),
    }
}

fn print_queues(report: &Report, all: bool) {
    let messages = report.queues.iter().map(|queue| queue.messages).sum();
    say!();
    say!(
        "{} durable queues with {} messages",
        text::count(report.queues.len() as u64),
        text::count(messages)
    );
    let mut queues: Vec<_> = report.queues.iter().collect();
    // The deepest first: those are looked for.
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.messages));
    for queue in text::shortened(&queues, all) {
        say!(
            "  {:>12} messages  {:>10}  {}",
            text::count(queue.messages),
            text::bytes(queue.bytes),
            queue.name
        );
    }
    if let Some(running) = &report.running {
        say!(
            "{} other queues, gone after a restart, with {} messages, {}",
            text::count(running.volatile_queues),
            text::count(running.volatile_messages),
            text::bytes(running.volatile_bytes)
        );
    }
}

fn time(milliseconds: u64) -> String {
    text::time(Duration::from_millis(milliseconds))
}
