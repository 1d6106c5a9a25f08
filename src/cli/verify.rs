//! `haypile verify`

use std::io::{self, IsTerminal};

use serde_json::{Value, json};

use super::{COULD_NOT_RUN, DONE, FAILED, StoreDirectory, complain, text};
use crate::storage::OpenError;
use crate::storage::disk::RealDisk;
use crate::storage::inspect::{Finding, Verification, verify};

/// Read and check every record of a data directory. Changes nothing.
///
/// Exit code 0: all of it is whole. 1: damage was found, and each place listed. 2: it could not be read.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    store: StoreDirectory,
}

impl Verify {
    pub(super) fn run(&self) -> u8 {
        let show_progress = io::stderr().is_terminal();
        let verified = verify(&RealDisk, &self.store.dir, |share| {
            if show_progress {
                eprint!("\rverified {:>3.0} %", share * 100.0);
            }
        });
        if show_progress {
            eprintln!();
        }
        match verified {
            Ok(verification) => {
                if self.store.json {
                    println!("{}", as_json(&verification));
                } else {
                    print(&verification);
                }
                if verification.damage.is_empty() { DONE } else { FAILED }
            }
            Err(OpenError::Damaged(damage)) => {
                if self.store.json {
                    let found = json!({
                        "file": damage.file,
                        "offset": damage.offset,
                        "what": damage.what,
                        "affected": damage.affected,
                    });
                    println!("{}", json!({ "opens": false, "damage": [found] }));
                } else {
                    println!(
                        "damaged: {} at byte {}: {}\n  {}\n  the store does not open because of it",
                        damage.file.display(),
                        damage.offset,
                        damage.what,
                        damage.affected
                    );
                }
                FAILED
            }
            Err(error) => {
                complain(&error);
                COULD_NOT_RUN
            }
        }
    }
}

fn print(verification: &Verification) {
    println!(
        "read {} in {} segments: {} sync groups, {} records; {} live messages",
        text::bytes(verification.bytes),
        verification.segments,
        text::count(verification.groups),
        text::count(verification.records),
        text::count(verification.messages)
    );
    for finding in &verification.damage {
        println!(
            "damaged: {} at byte {}: {}",
            finding.file.display(),
            finding.offset,
            finding.what
        );
        for lost in &finding.messages {
            let queue = text::queue(lost.queue, &lost.attributes);
            println!("  lost: the message in place {} of queue {queue}", lost.sequence);
        }
        if finding.messages.is_empty() {
            println!("  no live message is in it");
        }
    }
    match verification.damage.len() {
        0 => println!("everything is whole"),
        places => println!("{places} damaged places"),
    }
}

fn as_json(verification: &Verification) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "file": finding.file,
            "offset": finding.offset,
            "what": finding.what,
            "messages": finding.messages.iter().map(|lost| json!({
                "queue_id": lost.queue.get(),
                "queue": text::queue(lost.queue, &lost.attributes),
                "sequence": lost.sequence.get(),
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "opens": true,
        "segments": verification.segments,
        "groups": verification.groups,
        "records": verification.records,
        "messages": verification.messages,
        "bytes": verification.bytes,
        "damage": verification.damage.iter().map(finding).collect::<Vec<_>>(),
    })
}
