//! What may become of a store on a damaged disk.
//!
//! Damage is found, or nothing needed what was there. So a store is refused with words, and without a change; or all
//! is there but for messages that are set aside and counted, of which `verify` names each one; or all is there. Never
//! is there anything that nobody put there, and never is something missing that nobody misses. The one exception is a
//! damaged tail that looks like a torn one ([`statement`](super::statement)): there, what was in the last group may
//! be gone as a power cut would have it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::disk::SimulatedDisk;
use super::image::Image;
use super::ledger::{Content, KnownQueue, Ledger, messages_of};
use crate::storage::inspect::{Verification, inspect, verify};
use crate::storage::{Lsn, OpenError, Options, Store};

/// How damage was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The store was refused, with words.
    Refused,
    /// Messages were set aside and counted.
    SetAside,
    /// The last group was cut off like a torn one; nothing says that it was durable.
    CutOff,
    /// All was there, and `verify` tells the damage.
    Told,
    /// All was there, and there is nothing to tell: nothing has any use for what was there.
    Unneeded,
}

/// Opens, reads, inspects and verifies copies of a damaged store. `unproven`: the damage is in the last group, which
/// begins there, and looks like a torn tail.
///
/// # Errors
/// What was passed over silently, or came out wrong.
pub fn judge(
    image: &Image,
    dir: &Path,
    ledger: &Ledger,
    unproven: Option<Lsn>,
    options: &dyn Fn(&SimulatedDisk) -> Options,
) -> Result<Outcome, String> {
    let copy = || SimulatedDisk::of(image.clone());
    let verified = verify(&copy().shared(), dir, |_| {});
    let verified = verified.map_err(|error| format!("verify gives up: {error}"))?;
    let inspected = inspect(&copy().shared(), dir);
    let disk = copy();
    let store = match Store::open(dir, options(&disk)) {
        Ok(store) => store,
        Err(error @ OpenError::Damaged(_)) => {
            return refused(&error, &verified, inspected.is_err(), image, &disk);
        }
        Err(error) => return Err(format!("the damage is no damage to an open: {error}")),
    };
    if verified.refusal.is_some() {
        return Err(format!("verify says that an open refuses what it takes: {verified:?}"));
    }
    inspected.map_err(|error| format!("inspect refuses what an open takes: {error}"))?;
    let found = content_of(&store)?;
    let aside = store.set_aside();
    if !ledger.allows(&found, aside) {
        let cut = unproven.is_some_and(|lsn| ledger.durable_below(lsn).allows(&found, aside));
        if cut {
            return Ok(Outcome::CutOff);
        }
        let missing = ledger.clone().restarted(found).err();
        let why = missing.map_or_else(String::new, |mismatch| mismatch.to_string());
        return Err(format!("{aside} messages are set aside, and that is not all: {why}"));
    }
    let lost = lost_messages(&verified);
    if lost != aside {
        return Err(format!("{aside} messages are set aside, and verify misses {lost}"));
    }
    Ok(match (aside, verified.is_whole()) {
        (0, true) => Outcome::Unneeded,
        (0, false) => Outcome::Told,
        _ => Outcome::SetAside,
    })
}

fn refused(
    error: &OpenError,
    verified: &Verification,
    inspect_refuses: bool,
    before: &Image,
    after: &SimulatedDisk,
) -> Result<Outcome, String> {
    if verified.refusal.is_none() {
        return Err(format!("verify finds nothing wrong with what an open refuses: {error}"));
    }
    if !inspect_refuses {
        return Err(format!("inspect takes what an open refuses: {error}"));
    }
    if after.image().contents() != before.contents() {
        return Err(format!("files were changed by a refusal: {error}"));
    }
    Ok(Outcome::Refused)
}

fn lost_messages(verified: &Verification) -> u64 {
    let all = verified.damage.iter().flat_map(|finding| &finding.messages);
    let places: BTreeSet<_> = all.map(|lost| (lost.queue, lost.sequence)).collect();
    places.len() as u64
}

/// All that can be had of a store, of which messages may be set aside.
pub fn content_of(store: &Store) -> Result<Content, String> {
    let entries = store.entries().into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    let mut content = Content { entries, ..Content::default() };
    for queue in store.queues() {
        let messages = messages_of(&queue)?;
        let attributes = queue.attributes().to_vec();
        content.queues.insert(queue.id(), KnownQueue { attributes, messages });
    }
    Ok(content)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Refused => "refused",
            Outcome::SetAside => "set aside",
            Outcome::CutOff => "cut off like a torn tail",
            Outcome::Told => "told by verify and not needed",
            Outcome::Unneeded => "not needed",
        })
    }
}
