//! The target `records`: bytes as a record's payload, as a record, as a group, as a segment's header, as a superblock.
//!
//! Decoding never panics, and believes no length that leads beyond what there is. What is accepted says the same when it
//! is written anew. One byte in front chooses which decoder it is; groups and records are tried as they are, and with
//! their checksums made right.

use std::sync::Arc;

use super::Input;
use super::disk::MemoryDisk;
use super::image::{dir, images};
use super::reseal::{self, Sealing};
use crate::storage::checksum::{Seed, StoreId};
use crate::storage::disk::Access;
use crate::storage::draft::Draft;
use crate::storage::log::checked_group::CheckedGroup;
use crate::storage::log::group::GROUP_HEADER;
use crate::storage::record::{
    self, AcknowledgeRecord, ChunkRecord, DeliveredRecord, Directory, FRAME, MessageRecord,
    MetadataPage, MovedRecord, QueuePage, Record, RecordKind, Root, Search, TopologyRecord,
};
use crate::storage::segment::{PAGE, SegmentHeader};
use crate::storage::superblock::{Superblock, SuperblockFile};
use crate::storage::units::{Lsn, SegmentId};

const STORE: StoreId = *b"0123456789abcdef";
const SEGMENT: SegmentId = SegmentId(3);
const START: Lsn = Lsn(3 << 15);

/// What the bytes are taken for.
const RECORD: u8 = 13;
const SEALED_RECORD: u8 = 14;
const GROUP: u8 = 15;
const SEALED_GROUP: u8 = 16;
const SEGMENT_HEADER: u8 = 17;
const SUPERBLOCK: u8 = 18;
const CHOICES: u8 = 19;

fn seed() -> Seed {
    Seed::new(&STORE, SEGMENT, 7)
}

/// Runs the target.
pub(crate) fn records(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.u8() % CHOICES;
    let bytes = input.rest();
    match choice {
        RECORD => record(bytes),
        SEALED_RECORD => {
            let mut bytes = bytes.to_vec();
            Sealing { start: START, seed: seed() }.record(&mut bytes, 0);
            record(&bytes);
        }
        GROUP => group(bytes),
        SEALED_GROUP => sealed_group(bytes.to_vec()),
        SEGMENT_HEADER => segment_header(bytes),
        SUPERBLOCK => superblock(bytes.to_vec()),
        kind => payload(kind, bytes),
    }
}

/// Decodes what is accepted, encodes it, and decodes that.
macro_rules! comes_back {
    ($record:ty, $payload:expr) => {
        if let Ok(record) = <$record>::decode($payload) {
            let mut again = Vec::new();
            record.encode(&mut again);
            assert_eq!(<$record>::decode(&again).as_ref(), Ok(&record));
        }
    };
}

/// A payload of the record kind with this number.
fn payload(kind: u8, bytes: &[u8]) {
    match kind {
        1 | 10 => {
            if let Ok(record) = MessageRecord::decode(bytes) {
                message(&record, bytes.len());
                let mut again = Vec::new();
                let references: Vec<_> = record.references().collect();
                let message = record.message();
                MessageRecord::encode(&mut again, Draft::from(&message), &references);
                assert_eq!(again, bytes);
            }
        }
        2 => {
            if let Ok(record) = AcknowledgeRecord::decode(bytes) {
                let ranges: Vec<_> = record.ranges().collect();
                assert!(ranges.iter().all(|range| range.first <= range.last));
                // A place that cannot be is cut off: only what ends below it is written as it was.
                if ranges.iter().all(|range| range.last.0 < u64::MAX) {
                    let mut again = Vec::new();
                    AcknowledgeRecord::encode(&mut again, record.queue, &ranges);
                    assert_eq!(again, bytes);
                }
            }
        }
        3 => {
            if let Ok(record) = DeliveredRecord::decode(bytes) {
                assert_eq!(record.ranges().count(), (bytes.len() - 8) / 12);
                assert!(record.ranges().all(|range| range.range.first <= range.range.last));
            }
        }
        4 => comes_back!(TopologyRecord, bytes),
        6 => {
            if let Ok(record) = ChunkRecord::decode(bytes) {
                assert!(record.entries.is_sorted_by_key(|(place, _)| *place));
                let mut again = Vec::new();
                let entries = record.entries.iter().copied();
                ChunkRecord::encode(&mut again, record.queue, record.base, record.places, entries);
                assert_eq!(ChunkRecord::decode(&again), Ok(record));
            }
        }
        7 => comes_back!(QueuePage, bytes),
        8 => comes_back!(MetadataPage, bytes),
        9 => comes_back!(Root, bytes),
        11 => {
            if let Ok(record) = MovedRecord::decode(bytes) {
                message(&record.message, bytes.len());
                let mut again = Vec::new();
                let references: Vec<_> = record.message.references().collect();
                MovedRecord::encode(&mut again, record.from, &record.message, &references);
                assert_eq!(again, bytes);
            }
        }
        12 => comes_back!(Directory, bytes),
        _ => {}
    }
}

fn message(record: &MessageRecord<'_>, length: usize) {
    assert!(record.references().len() * 2 + record.message().size() <= length);
}

fn record(bytes: &[u8]) {
    let plausible = record::plausible_within(bytes, bytes.len() as u64);
    if let Ok(Record { kind, payload: content }) = record::open(bytes, START, seed()) {
        assert!(FRAME + content.len() <= bytes.len());
        let mut again = bytes[..FRAME + content.len()].to_vec();
        record::seal(&mut again, kind, START, seed());
        // The three bytes behind the kind are zero in what is written, and are not looked at.
        assert_eq!(again == bytes[..again.len()], plausible == Some(again.len() as u64));
        payload(kind as u8, content);
    }
    let room = bytes.len() as u64;
    if let Some((at, size)) = Search::new(room).next(bytes, room) {
        assert!(size <= room - at as u64);
        assert_eq!(record::plausible_within(&bytes[at..], room - at as u64), Some(size));
    }
}

fn group(bytes: &[u8]) {
    let Ok(group) = CheckedGroup::check(bytes, START, seed()) else { return };
    let sizes: usize = group.records.iter().map(|(_, record)| record.size()).sum();
    assert_eq!(sizes, group.header.length as usize);
    assert!(GROUP_HEADER + sizes <= bytes.len());
    assert!(group.header.end().0.is_multiple_of(PAGE));
    for (lsn, record) in &group.records {
        assert!(*lsn > START && *lsn < group.header.end());
        payload(record.kind as u8, record.payload);
    }
}

/// A group whose header and records say what the input has, under checksums that are right.
fn sealed_group(mut bytes: Vec<u8>) {
    let sealing = Sealing { start: START, seed: seed() };
    sealing.group(&mut bytes, 0);
    let length = bytes.get(32..36).and_then(|length| length.try_into().ok());
    let length = length.map_or(0, u32::from_le_bytes);
    for (at, _) in Sealing::records(&bytes, 0, length) {
        sealing.record(&mut bytes, at);
    }
    group(&bytes);
}

fn segment_header(bytes: &[u8]) {
    let mut content = bytes.to_vec();
    reseal::segment_header(&mut content);
    for content in [bytes, &content] {
        let Some(header) = content.first_chunk() else { continue };
        if let Ok(header) = SegmentHeader::decode(header, &STORE, SEGMENT) {
            let again = header.encode();
            assert_eq!(SegmentHeader::decode(&again, &STORE, SEGMENT), Ok(header));
        }
        Sealing::of(content).map(|sealing| sealing.groups(content));
    }
}

fn superblock(mut bytes: Vec<u8>) {
    for sealed in [false, true] {
        if sealed {
            reseal::superblock(&mut bytes);
        }
        let files = [(SuperblockFile::path(dir()), Arc::new(bytes.clone()))].into();
        let disk = MemoryDisk::with(&files);
        if let Ok(Some(mut file)) = SuperblockFile::open(&disk, dir(), Access::ReadWrite) {
            let state = *file.state();
            if file.update(Superblock { root: Lsn(99), newest: None, ..state }).is_ok() {
                let again = SuperblockFile::open(&disk, dir(), Access::Read);
                let again = again.ok().flatten().map(|again| *again.state());
                assert_eq!(again, Some(*file.state()));
                assert!(file.state().generation > state.generation);
            }
        }
    }
}

/// Inputs to begin with: what the engine itself has written.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |name: String, choice: u8, bytes: &[u8]| {
        seeds.push((name, [&[choice], bytes].concat()));
    };
    let mut seen = [0; 13];
    for image in images() {
        for content in image.files.values() {
            let Some(sealing) = Sealing::of(content) else { continue };
            for (at, header) in sealing.groups(content) {
                let records = Sealing::records(content, at, header.length);
                // Kind 0 is none: its count is that of the groups.
                if let [_, .., (last, size)] = records[..]
                    && last + size < at + 1000
                    && seen[0] < 3
                {
                    seen[0] += 1;
                    let name = format!("group-{}", seen[0]);
                    add(name, SEALED_GROUP, &content[at..last + size]);
                }
                for (record, size) in records {
                    let kind = content[record + 8];
                    let count = &mut seen[usize::from(kind)];
                    if size < 1500 && *count < 3 {
                        *count += 1;
                        let name = format!("kind-{kind}-{count}");
                        add(name, kind, &content[record + FRAME..record + size]);
                        if *count == 1 {
                            let name = format!("record-{kind}");
                            add(name, SEALED_RECORD, &content[record..record + size]);
                        }
                    }
                }
            }
        }
    }
    if let Some(content) = images().last().and_then(|i| i.files.get(&SuperblockFile::path(dir()))) {
        add("superblock".to_owned(), SUPERBLOCK, content);
    }
    let header = SegmentHeader { store: STORE, id: SEGMENT, slots: 1, salt: 7 };
    add("segment-header".to_owned(), SEGMENT_HEADER, &header.encode());
    let mut frame = [0; FRAME + 3];
    frame[FRAME..].copy_from_slice(b"hay");
    record::seal(&mut frame, RecordKind::Message, START, seed());
    add("plain-record".to_owned(), RECORD, &frame);
    seeds
}
