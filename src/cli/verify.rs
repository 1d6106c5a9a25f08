//! `haypile verify`

use super::data_directory::StoreDirectory;
use super::{COULD_NOT_RUN, DONE, FAILED, Progress, complain, damage, text};
use crate::cli::output::{self, say};
use crate::storage::disk::RealDisk;
use crate::storage::inspect::{Verification, verify};

/// Read and check every record of a data directory. Changes nothing.
///
/// A store that does not open is read as far as it can be. Exit code 0: all of it is whole. 1: damage was found, and each
/// place listed. 2: it could not be read.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    store: StoreDirectory,
}

impl Verify {
    pub(super) fn run(&self) -> u8 {
        let progress = Progress::new("verified");
        let verified =
            verify(&RealDisk::shared(), &self.store.path(), |share| progress.show(share));
        progress.end();
        match verified {
            Ok(verification) => {
                if self.store.json {
                    output::json(&damage::as_json(&verification));
                } else {
                    print(&verification, self.store.all);
                }
                if verification.is_whole() { DONE } else { FAILED }
            }
            Err(error) => {
                complain(&error);
                COULD_NOT_RUN
            }
        }
    }
}

fn print(verification: &Verification, all: bool) {
    say!(
        "read {} in {} segments: {} sync groups, {} records; {} live messages",
        text::bytes(verification.bytes),
        verification.segments,
        text::count(verification.groups),
        text::count(verification.records),
        text::count(verification.messages)
    );
    damage::print(verification, all, "not reachable, but whole", "lost");
    if verification.is_whole() {
        say!("everything is whole");
    } else {
        say!(
            "{} damaged places, {} holes in the log; `haypile repair` says what a repair would do",
            verification.damage.len(),
            verification.holes.len()
        );
    }
}
