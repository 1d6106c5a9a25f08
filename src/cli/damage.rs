//! Damage, as `haypile verify` and `haypile repair` tell of it.

use serde_json::{Value, json};

use super::text;
use crate::broker::StoredQueue;
use crate::cli::output::say;
use crate::storage::inspect::{Finding, LogHole, Verification};

/// Prints everything that was found; long lists of messages are shortened unless `all` is set. `list` and `lost` say what
/// happens to the messages of damaged lists that are whole themselves, and to the others.
pub(super) fn print(verification: &Verification, all: bool, listed: &str, lost: &str) {
    if let Some(damage) = &verification.refusal {
        say!(
            "the store does not open: {} at byte {}: {}",
            damage.file.display(),
            damage.offset,
            damage.what
        );
        say!("  {}", damage.affected);
    }
    if verification.no_checkpoint {
        say!("no checkpoint can be read: it cannot be told which messages are live");
    }
    match verification.older_checkpoint.map(|lsn| lsn.get()) {
        Some(0) => say!("the last checkpoint cannot be read; the log can, from its beginning"),
        Some(lsn) => say!("the last checkpoint cannot be read; an older one can, at {lsn:#x}"),
        None => {}
    }
    for hole in &verification.holes {
        print_hole(hole, all, lost);
    }
    for finding in &verification.damage {
        print_finding(finding, all, listed, lost);
    }
    let dealt_with = verification.dealt_with.len();
    if dealt_with > 0 {
        say!("{dealt_with} damaged places that a repair has dealt with, and that nothing needs");
    }
}

fn print_hole(hole: &LogHole, all: bool, lost: &str) {
    say!("hole in the log from {} to {}: {}", hole.from, hole.to, hole.what);
    for extent in &hole.extents {
        say!(
            "  {} at byte {}, {} bytes",
            extent.file.display(),
            extent.offset,
            text::count(extent.bytes)
        );
    }
    say!("  {} whole records were found in it", text::count(hole.records));
    if hole.strays > 0 {
        let strays = text::count(hole.strays);
        say!("  {lost}: {strays} messages behind it, of queues that are deleted, or lost in it");
    }
    for places in text::shortened(&hole.places, all) {
        let queue = StoredQueue::describe(places.queue, &places.attributes);
        match (places.places.first, places.places.last) {
            (first, last) if first == last => {
                say!("  {lost}: the message in place {first} of queue {queue}");
            }
            (first, last) => {
                say!("  {lost}: the messages in places {first} to {last} of queue {queue}");
            }
        }
    }
}

fn print_finding(finding: &Finding, all: bool, listed: &str, lost: &str) {
    say!("damaged: {} at byte {}: {}", finding.file.display(), finding.offset, finding.what);
    for message in text::shortened(&finding.messages, all) {
        let queue = StoredQueue::describe(message.queue, &message.attributes);
        let word = if message.record.is_some() { listed } else { lost };
        say!("  {word}: the message in place {} of queue {queue}", message.sequence);
    }
    if finding.uncertain {
        say!("  some of these messages may have been acknowledged");
    }
    if !finding.needed {
        say!("  no live message is in it, and nothing needs it");
    }
}

/// All of it.
pub(super) fn as_json(verification: &Verification) -> Value {
    json!({
        "opens": verification.refusal.is_none(),
        "refusal": verification.refusal.as_ref().map(|damage| json!({
            "file": damage.file.to_string_lossy(),
            "offset": damage.offset,
            "what": damage.what,
            "affected": damage.affected,
        })),
        "checkpoint_readable": !verification.no_checkpoint,
        "older_checkpoint_lsn": verification.older_checkpoint.map(|lsn| lsn.get()),
        "segments": verification.segments,
        "groups": verification.groups,
        "records": verification.records,
        "messages": verification.messages,
        "bytes": verification.bytes,
        "damage": verification.damage.iter().map(finding).collect::<Vec<_>>(),
        "holes": verification.holes.iter().map(hole).collect::<Vec<_>>(),
        "dealt_with": verification.dealt_with.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "file": finding.file.to_string_lossy(),
        "offset": finding.offset,
        "bytes": finding.bytes,
        "what": finding.what,
        "needed": finding.needed,
        "list_of_messages": finding.list,
        "uncertain": finding.uncertain,
        "messages": finding.messages.iter().map(|lost| json!({
            "queue_id": lost.queue.get(),
            "queue": StoredQueue::describe(lost.queue, &lost.attributes),
            "sequence": lost.sequence.get(),
            "record_lsn": lost.record.map(|record| record.lsn.get()),
        })).collect::<Vec<_>>(),
    })
}

fn hole(hole: &LogHole) -> Value {
    json!({
        "from_lsn": hole.from.get(),
        "to_lsn": hole.to.get(),
        "what": hole.what,
        "whole_records": hole.records,
        "messages_of_unknown_queues": hole.strays,
        "extents": hole.extents.iter().map(|extent| json!({
            "file": extent.file.to_string_lossy(),
            "offset": extent.offset,
            "bytes": extent.bytes,
        })).collect::<Vec<_>>(),
        "places": hole.places.iter().map(|lost| json!({
            "queue_id": lost.queue.get(),
            "queue": StoredQueue::describe(lost.queue, &lost.attributes),
            "first": lost.places.first.get(),
            "last": lost.places.last.get(),
        })).collect::<Vec<_>>(),
    })
}
