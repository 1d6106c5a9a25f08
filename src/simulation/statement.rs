//! What a disk says was durable, read from its bytes by nothing but `docs/format.md`.
//!
//! One kind of damage cannot be told from a write that a power cut has torn: damage of what was durable, of which nothing
//! *else* on the disk says so. Each sync group says how far the log was durable when it was written. So that is damage in a group
//! that no other group says was durable, which is the last one, or the last one but those that an open was about to put in its
//! place; and only if the superblock knows of nothing in it or behind it. [`Groups::unproven_at`] is this exception, to the
//! byte. Here nothing of the engine is used: what it believes is what is to be judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::disk::{Operation, OperationKind};
use super::image::Image;
use crate::storage::Lsn;

/// Bytes of a page of the log: groups begin on a page each, behind the segment's header in the first.
const PAGE: u64 = 4096;

/// The sync groups that were written to a disk.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// By where they begin.
    written: BTreeMap<u64, Written>,
    /// The group whose file has not been synced since.
    open: Option<u64>,
    segment_size: u64,
}

#[derive(Clone, Debug)]
struct Written {
    path: PathBuf,
    offset: u64,
    bytes: u64,
}

impl Groups {
    /// None yet, of a store with segments of this size.
    pub fn new(segment_size: u64) -> Groups {
        Groups { segment_size, ..Groups::default() }
    }

    /// Notes an operation, if it belongs to a group.
    pub fn note(&mut self, operation: &Operation) {
        match operation.kind {
            OperationKind::SyncData | OperationKind::SyncAll => {
                let of_file = |lsn: &u64| self.written[lsn].path == operation.path;
                self.open = self.open.filter(|lsn| !of_file(lsn));
            }
            OperationKind::Write { offset, bytes } if offset >= PAGE => {
                let Some(segment) = segment_of(&operation.path) else { return };
                // What is left of a write that was short goes on with the same group.
                let goes_on =
                    self.open.is_some_and(|lsn| self.written[&lsn].path == operation.path);
                if !goes_on {
                    let lsn = segment * self.segment_size + offset;
                    let (path, bytes) = (operation.path.clone(), bytes as u64);
                    self.written.insert(lsn, Written { path, offset, bytes });
                    self.open = Some(lsn);
                }
            }
            _ => {}
        }
    }

    /// Where in a file the last group that was written to it begins, and its bytes.
    pub fn last_in(&self, path: &Path) -> Option<(u64, u64)> {
        let group = self.written.values().rev().find(|group| group.path == path)?;
        Some((group.offset, group.bytes))
    }

    /// The group that has this byte, if damage there looks like a torn tail: nothing that is not damaged itself says that the
    /// group was durable. What the log has from there on may be lost by it.
    pub fn unproven_at(&self, image: &Image, path: &Path, offset: u64) -> Option<Lsn> {
        let contents = image.contents();
        let header = |lsn: u64, group: &Written| {
            let bytes = contents.get(&group.path)?.get(group.offset as usize..)?;
            let is_there = bytes.get(4..8)? == b"HAYG" && number_at(bytes, 8)? == lsn;
            is_there.then(|| number_at(bytes, 24)).flatten()
        };
        let has_byte = |group: &Written| {
            group.path == path && (group.offset..group.offset + group.bytes).contains(&offset)
        };
        let (lsn, group) = self
            .written
            .iter()
            .find(|(lsn, group)| has_byte(group) && header(**lsn, group).is_some())?;
        let mut others = self.written.iter().filter(|(other, _)| *other != lsn);
        if others.any(|(other, group)| header(*other, group).is_some_and(|said| said > *lsn)) {
            return None;
        }
        let superblock = contents.iter().find(|(path, _)| path.ends_with("superblock"));
        let copies = superblock.map(|(_, bytes)| [bytes.get(..512), bytes.get(4096..4608)]);
        let newest = copies.into_iter().flatten().flatten().max_by_key(|copy| number_at(copy, 32));
        let stated = |at| newest.and_then(|copy| number_at(copy, at)).unwrap_or_default();
        let (root, segment) = (stated(48), stated(56));
        let first = group.offset == PAGE;
        let known = root >= *lsn || first && segment >= segment_of(&group.path)?;
        (!known).then_some(Lsn(*lsn))
    }
}

/// The number of the segment whose file this is.
fn segment_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".segment")?;
    u64::from_str_radix(digits, 16).ok()
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
