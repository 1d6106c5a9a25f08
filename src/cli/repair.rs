//! `haypile repair`

use std::sync::Arc;

use serde_json::{Value, json};

use super::data_directory::StoreDirectory;
use super::{COULD_NOT_RUN, DONE, FAILED, Progress, complain, damage, text};
use crate::cli::output::{self, say};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::inspect::{Repair as Outcome, RepairError, repair};

/// Say what it takes to make a damaged data directory whole, and what is lost; with --apply, do it.
///
/// Whatever is taken out is copied to a new directory repair-N in the data directory first, with a report. Exit code 0:
/// there is nothing to repair, or it was repaired without a loss. 1: there is something to repair, or it was repaired and
/// something is lost. 2: it could not be done.
#[derive(Debug, clap::Args)]
pub(super) struct Repair {
    #[command(flatten)]
    store: StoreDirectory,
    /// Do it. Without this nothing is changed.
    #[arg(long)]
    apply: bool,
}

impl Repair {
    pub(super) fn run(&self) -> u8 {
        let progress = Progress::new("read");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let outcome = repair(&disk, &self.store.path(), self.apply, |share| progress.show(share));
        progress.end();
        match outcome {
            Ok(outcome) => {
                if self.store.json {
                    output::json(&as_json(&outcome));
                } else {
                    self.print(&outcome);
                }
                exit_code(&outcome)
            }
            Err(error) => {
                complain(&error);
                if let RepairError::Unfinished(_) = error {
                    return FAILED;
                }
                COULD_NOT_RUN
            }
        }
    }

    fn print(&self, outcome: &Outcome) {
        let found = &outcome.found;
        if found.is_whole() {
            say!("there is nothing to repair");
            return;
        }
        let (listed, lost) = match outcome.applied {
            Some(_) => ("found again, and kept", "taken out"),
            None => ("found again, and would be kept", "would be taken out"),
        };
        damage::print(found, self.store.all, listed, lost);
        let known = format!(
            "damaged messages: {}; lost in {} holes of the log: {} at most; found again: {}",
            text::count(outcome.lost),
            found.holes.len(),
            text::count(in_holes(outcome)),
            text::count(outcome.restored)
        );
        match &outcome.applied {
            None => {
                say!("{known}");
                say!("nothing was changed; --apply does it, and keeps copies of what is taken out");
            }
            Some(applied) => {
                say!("repaired: {known}");
                say!("copies of what was taken out are in {}", applied.kept.display());
                if applied.after.is_whole() {
                    say!("the store is whole now");
                } else {
                    say!("there is still something damaged: run `haypile verify`");
                }
            }
        }
    }
}

/// The most messages that the holes of the log can have cost.
fn in_holes(outcome: &Outcome) -> u64 {
    let places = outcome.found.holes.iter().flat_map(|hole| &hole.places);
    places.map(|lost| lost.places.last.get() - lost.places.first.get() + 1).sum()
}

fn exit_code(outcome: &Outcome) -> u8 {
    let uncertain = outcome.found.damage.iter().any(|finding| finding.uncertain);
    let loss = outcome.lost > 0 || uncertain || !outcome.found.holes.is_empty();
    let open = match &outcome.applied {
        Some(applied) => !applied.after.is_whole(),
        None => !outcome.found.is_whole(),
    };
    if open || (outcome.applied.is_some() && loss) { FAILED } else { DONE }
}

fn as_json(outcome: &Outcome) -> Value {
    json!({
        "found": damage::as_json(&outcome.found),
        "messages_found_again": outcome.restored,
        "messages_lost": outcome.lost,
        "messages_lost_in_holes_at_most": in_holes(outcome),
        "applied": outcome.applied.as_ref().map(|applied| json!({
            "kept": applied.kept.to_string_lossy(),
            "whole": applied.after.is_whole(),
            "after": damage::as_json(&applied.after),
        })),
    })
}
