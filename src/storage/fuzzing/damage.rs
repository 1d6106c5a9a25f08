//! What may become of a store's files.
//!
//! A damage is a choice (one byte) and its arguments. The first ones are what disks and people do. Those from
//! [`FORGED`] on write what they like and make the checksums right again: nothing can tell that from what the engine has
//! written, so all that is asked of it then is to stay in one piece; see [`Forged`].

use std::path::PathBuf;
use std::sync::Arc;

use super::Input;
use super::image::{Files, SEGMENT, dir};
use super::reseal::{self, Sealing};
use crate::storage::log::group::{GROUP_HEADER, GroupHeader};
use crate::storage::record::{FRAME, RecordKind};
use crate::storage::segment::{PAGE, SegmentHeader, file_name};
use crate::storage::units::SegmentId;

/// Kinds of damage.
pub(super) const KINDS: u8 = 16;
pub(super) const FLIP: u8 = 0;
pub(super) const FILL: u8 = 1;
pub(super) const CUT: u8 = 2;
pub(super) const EXTEND: u8 = 3;
pub(super) const REMOVE: u8 = 4;
pub(super) const SWAP: u8 = 5;
pub(super) const COPY: u8 = 6;
pub(super) const RENAME: u8 = 7;
pub(super) const CREATE: u8 = 8;
/// From here on checksums are made right again, or could be: a fuzzer that watches comparisons finds out what to write.
pub(super) const FORGED: u8 = 9;
pub(super) const PATCH: u8 = 9;
pub(super) const SUPERBLOCK: u8 = 10;
pub(super) const HEADER: u8 = 11;
pub(super) const RECORD: u8 = 12;
pub(super) const GROUP: u8 = 13;
pub(super) const APPEND: u8 = 14;

const SECTOR: usize = 512;

/// What of the damage may pass every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Forged {
    /// Nothing.
    Nothing,
    /// Messages, and what has become of them.
    Records,
    /// Checkpoints: which segments are needed, and for how much. The engine keeps its books by them, and cannot check them
    /// without reading all that they speak of.
    Books,
}

/// Names that mean something to the engine.
const NAMES: [&str; 8] = [
    "superblock",
    "superblock.new",
    "0000000000000001.unfinished",
    "0000000000000001.segment",
    "ffffffffffffffff.segment",
    "repair-1/places",
    "repair-18446744073709551615/places",
    "notes.txt",
];

/// Does one damage after the other.
pub(super) fn apply(input: &mut Input<'_>, files: &mut Files) -> Forged {
    let mut forged = Forged::Nothing;
    while !input.is_empty() {
        let kind = input.u8() % KINDS;
        let names: Vec<PathBuf> = files.keys().cloned().collect();
        let Some(name) = input.pick(&names) else { continue };
        let done = match (kind, files.get_mut(name)) {
            (RECORD, Some(file)) => forge(Arc::make_mut(file).as_mut_slice(), input),
            _ => {
                one(kind, name, &names, input, files);
                match kind {
                    SUPERBLOCK => Forged::Books,
                    FORGED.. => Forged::Records,
                    _ => Forged::Nothing,
                }
            }
        };
        forged = forged.max(done);
    }
    forged
}

/// Writes into a record, and makes its checksum right.
fn forge(content: &mut [u8], input: &mut Input<'_>) -> Forged {
    let Some(sealing) = Sealing::of(content) else { return Forged::Nothing };
    let groups = sealing.groups(content);
    let Some((group, header)) = input.pick(&groups).copied() else { return Forged::Nothing };
    let records = Sealing::records(content, group, header.length);
    let Some((record, size)) = input.pick(&records).copied() else { return Forged::Nothing };
    let at = record + 4 + usize::from(input.u16()) % (size - 4);
    let was = content[record + 8];
    patch(content, at, input);
    sealing.record(content, record);
    let books = [RecordKind::Chunk, RecordKind::QueuePage, RecordKind::Root, RecordKind::Directory];
    let books = books.map(|kind| kind as u8);
    if books.contains(&was) || books.contains(&content[record + 8]) {
        Forged::Books
    } else {
        Forged::Records
    }
}

fn one(kind: u8, name: &PathBuf, names: &[PathBuf], input: &mut Input<'_>, files: &mut Files) {
    let Some(file) = files.get_mut(name) else { return };
    let length = file.len();
    match kind {
        FLIP => {
            let (at, bits) = (input.u32() as usize, input.u8());
            if let Some(at) = at.checked_rem(length) {
                Arc::make_mut(file)[at] ^= bits;
            }
        }
        FILL => {
            let (first, count, value) = (input.u16(), input.u8(), input.u8());
            let start = (usize::from(first) * SECTOR).min(length);
            let end = (start + usize::from(count) * SECTOR).min(length);
            Arc::make_mut(file)[start..end].fill(value);
        }
        CUT => Arc::make_mut(file).truncate(input.u32() as usize % (length + 1)),
        EXTEND => {
            let (more, value) = (usize::from(input.u16()), input.u8());
            Arc::make_mut(file).resize(length + more, value);
        }
        REMOVE => {
            files.remove(name);
        }
        SWAP => {
            let Some(other) = input.pick(names) else { return };
            let content = file.clone();
            if let Some(other) = files.insert(other.clone(), content) {
                files.insert(name.clone(), other);
            }
        }
        COPY => {
            let (from, to) = (usize::from(input.u8()), usize::from(input.u8()));
            let page = page(file, from).to_vec();
            let other = input.pick(names).and_then(|other| files.get_mut(other));
            if let Some(other) = other.filter(|other| !page_of(other, to).is_empty()) {
                let range = page_of(other, to);
                let count = range.len().min(page.len());
                Arc::make_mut(other)[range][..count].copy_from_slice(&page[..count]);
            }
        }
        RENAME => {
            let id = if input.u8() & 1 == 0 { u64::from(input.u8()) } else { input.u64() };
            if let Some(content) = files.remove(name) {
                files.insert(dir().join(file_name(SegmentId(id))), content);
            }
        }
        CREATE => {
            let (new, length) = (input.pick(&NAMES), usize::from(input.u16()));
            let content = Arc::new(input.bytes(length).to_vec());
            if let Some(new) = new {
                files.entry(dir().join(new)).or_insert(content);
            }
        }
        PATCH => {
            let at = input.u32() as usize;
            let content: &mut Vec<u8> = Arc::make_mut(file);
            patch(content, at, input);
        }
        SUPERBLOCK => {
            let Some(file) = files.get_mut(&dir().join(NAMES[0])) else { return };
            let content = Arc::make_mut(file);
            let (at, count) = (usize::from(input.u8()), usize::from(input.u8() % 64));
            let bytes = input.bytes(count);
            patch_with(content, at, bytes);
            patch_with(content, PAGE as usize + at, bytes);
            reseal::superblock(content);
        }
        HEADER => {
            let content = Arc::make_mut(file);
            let at = usize::from(input.u8()) % SegmentHeader::SIZE;
            patch(content, at, input);
            reseal::segment_header(content);
        }
        GROUP => {
            let Some(sealing) = Sealing::of(file) else { return };
            let content = Arc::make_mut(file);
            let Some((group, _)) = input.pick(&sealing.groups(content)).copied() else { return };
            let at = group + 16 + usize::from(input.u8()) % (GROUP_HEADER - 16);
            patch(content, at, input);
            sealing.group(content, group);
        }
        APPEND => append(input, files),
        _ => {}
    }
}

/// Writes a group behind the last one, as the log would: its records are the input's.
fn append(input: &mut Input<'_>, files: &mut Files) {
    let last = files
        .values_mut()
        .filter_map(|file| {
            let sealing = Sealing::of(file)?;
            let (_, header) = sealing.groups(file).pop()?;
            Some((header.end(), sealing, file))
        })
        .max_by_key(|(end, ..)| *end);
    let Some((end, sealing, file)) = last else { return };
    let mut records: Vec<u8> = Vec::new();
    let mut count = 0;
    for _ in 0..=input.u8() % 4 {
        let (kind, length) = (input.u8(), usize::from(input.u16() % 4096));
        let payload = input.bytes(length);
        let mut frame = [0; FRAME];
        frame[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        frame[8] = kind;
        records.extend_from_slice(&frame);
        records.extend_from_slice(payload);
        count += 1;
    }
    let header = GroupHeader {
        provisional: false,
        lsn: end,
        previous: end,
        durable: end,
        length: records.len() as u32,
        records: count,
        previous_salt: 0,
        opening: 0,
    };
    let at = (end.0 - sealing.start.0) as usize;
    if at + header.span() as usize > file.len().min(SEGMENT as usize) {
        return;
    }
    let content = Arc::make_mut(file);
    content[at..at + GROUP_HEADER].copy_from_slice(&header.encode(sealing.seed));
    let begin = at + GROUP_HEADER;
    content[begin..begin + records.len()].copy_from_slice(&records);
    for (record, _) in Sealing::records(content, at, header.length) {
        sealing.record(content, record);
    }
}

/// Writes a few bytes of the input.
fn patch(content: &mut [u8], at: usize, input: &mut Input<'_>) {
    let count = usize::from(input.u8() % 64);
    let at = at.checked_rem(content.len()).unwrap_or(0);
    patch_with(content, at, input.bytes(count));
}

fn patch_with(content: &mut [u8], at: usize, bytes: &[u8]) {
    let room = content.get_mut(at..).unwrap_or_default();
    let count = room.len().min(bytes.len());
    room[..count].copy_from_slice(&bytes[..count]);
}

fn page_of(content: &[u8], number: usize) -> std::ops::Range<usize> {
    let start = (number * PAGE as usize).min(content.len());
    start..(start + PAGE as usize).min(content.len())
}

fn page(content: &[u8], number: usize) -> &[u8] {
    &content[page_of(content, number)]
}
