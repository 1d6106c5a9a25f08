//! A checkpoint: the store's state as a tree of records. The root points to pages of queues and of metadata; a queue's
//! state points to the records of its chunks. A new checkpoint writes the records of what has changed and a new root;
//! everything else stays where it is.

use serde::{Deserialize, Serialize};

use super::{ChunkEntry, ChunkRecord, Malformed, check_queues, structured};
use crate::storage::units::{Lsn, QueueId, SegmentId, SegmentTag, Sequence};

/// Of all but the root.
const VERSION: u8 = 2;

const ROOT_VERSION: u8 = 3;

/// The root's version up to format 3, which is still read.
const OLD_ROOT_VERSION: u8 = 2;

/// How many queues share a page at most.
pub(crate) const QUEUES_PER_PAGE: usize = 64;

/// How many metadata entries share a page at most.
pub(crate) const ENTRIES_PER_PAGE: usize = 64;

/// Where a record of the checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageRef {
    pub(crate) lsn: Lsn,
    /// Bytes of the whole record.
    pub(crate) length: u32,
}

/// The root: version byte 3, then this, [structured](super::structured). With version byte 2 the segments have no salts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Root {
    /// All that was appended below here is in the checkpoint; replay begins here, at the start of a sync group.
    pub(crate) replay_from: Lsn,
    pub(crate) next_queue: QueueId,
    /// Every segment that is still needed, up to the one that `replay_from` is in.
    pub(crate) segments: Vec<SegmentTag>,
    pub(crate) queue_pages: Vec<Option<PageRef>>,
    pub(crate) metadata_pages: Vec<Option<PageRef>>,
}

/// The root of version 2.
#[derive(Deserialize)]
struct OldRoot {
    replay_from: Lsn,
    next_queue: QueueId,
    segments: Vec<SegmentId>,
    queue_pages: Vec<Option<PageRef>>,
    metadata_pages: Vec<Option<PageRef>>,
}

impl From<OldRoot> for Root {
    fn from(old: OldRoot) -> Root {
        let OldRoot { replay_from, next_queue, segments, queue_pages, metadata_pages } = old;
        let segments = segments.into_iter().map(|id| SegmentTag { id, salt: 0 }).collect();
        Root { replay_from, next_queue, segments, queue_pages, metadata_pages }
    }
}

/// The states of some queues: version byte 2, then this, structured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueuePage {
    pub(crate) queues: Vec<QueueState>,
}

/// A durable queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueState {
    pub(crate) id: QueueId,
    pub(crate) attributes: Vec<u8>,
    /// The place that the next message gets.
    pub(crate) next: Sequence,
    /// The chunks in the order of the queue; empty where they are in directories.
    pub(crate) chunks: Vec<ChunkState>,
    /// For a deep queue: where its chunks are, by the number of the directory.
    pub(crate) directories: Vec<(u64, PageRef)>,
}

/// Some of the chunks of a deep queue, so that a checkpoint of it need not write all of them: version byte 2, then this,
/// structured. A chunk is in the directory with the number `base >> 17`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    pub(crate) queue: QueueId,
    pub(crate) number: u64,
    /// In the order of the queue.
    pub(crate) chunks: Vec<ChunkState>,
}

/// A run of a queue's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkState {
    pub(crate) base: Sequence,
    /// How many places the chunk has.
    pub(crate) places: u32,
    /// The chunk's record.
    pub(crate) page: PageRef,
    /// One bit a place, the lowest first: there is nothing (any more) in it. Zero words at the end are left out.
    pub(crate) gone: Vec<u64>,
    /// Places, counted from the base, that have been handed out, and how often.
    pub(crate) deliveries: Vec<(u16, u16)>,
    /// What the live messages need of each segment, and those that are unsettled.
    pub(crate) shares: Vec<SegmentShare>,
    /// One bit a place, as in `gone`: it is gone, and `shares` still has it.
    pub(crate) unsettled: Vec<u64>,
    /// Places that compaction has moved since the chunk's record was written, and what is true of them instead.
    pub(crate) moved: Vec<(u16, ChunkEntry)>,
}

/// How much of a segment is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentShare {
    pub(crate) segment: SegmentId,
    pub(crate) references: u32,
    pub(crate) bytes: u64,
}

/// Some of the metadata: version byte 2, then this, structured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MetadataPage {
    pub(crate) entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl PageRef {
    fn check(&self) -> Result<(), Malformed> {
        if self.lsn >= Lsn::LIMIT { Err(Malformed("a place that no log has")) } else { Ok(()) }
    }
}

impl Root {
    fn check(&self) -> Result<(), Malformed> {
        let far = |tag: &SegmentTag| tag.id.0 >= Lsn::LIMIT.0;
        if self.replay_from >= Lsn::LIMIT || self.segments.iter().any(far) {
            return Err(Malformed("a place that no log has"));
        }
        if self.next_queue > QueueId::FIRST_VOLATILE {
            return Err(Malformed("a number that no durable queue has"));
        }
        let pages = self.queue_pages.iter().chain(&self.metadata_pages);
        pages.flatten().try_for_each(PageRef::check)
    }
}

impl QueuePage {
    fn check(&self) -> Result<(), Malformed> {
        if self.queues.len() > QUEUES_PER_PAGE {
            return Err(Malformed("too many queues"));
        }
        check_queues(self.queues.iter().map(|queue| queue.id))?;
        self.queues.iter().try_for_each(QueueState::check)
    }
}

impl QueueState {
    fn check(&self) -> Result<(), Malformed> {
        if self.next > Sequence::LIMIT {
            return Err(Malformed("a place that no queue has"));
        }
        for (number, page) in &self.directories {
            check_directory(*number)?;
            page.check()?;
        }
        check_chunks(&self.chunks)
    }
}

impl Directory {
    fn check(&self) -> Result<(), Malformed> {
        check_directory(self.number)?;
        check_chunks(&self.chunks)
    }
}

impl MetadataPage {
    fn check(&self) -> Result<(), Malformed> {
        if self.entries.len() > ENTRIES_PER_PAGE {
            return Err(Malformed("too many entries"));
        }
        Ok(())
    }
}

fn check_directory(number: u64) -> Result<(), Malformed> {
    if number >= Sequence::LIMIT.0 >> 17 {
        Err(Malformed("a place that no queue has"))
    } else {
        Ok(())
    }
}

/// Whether these can be chunks of one queue, in its order.
pub(crate) fn check_chunks(chunks: &[ChunkState]) -> Result<(), Malformed> {
    let mut end = 0;
    for chunk in chunks {
        if chunk.base.0 < end {
            return Err(Malformed("a chunk begins in the one before"));
        }
        chunk.check()?;
        end = chunk.base.0 + u64::from(chunk.places);
    }
    Ok(())
}

impl ChunkState {
    fn check(&self) -> Result<(), Malformed> {
        if self.base >= Sequence::LIMIT {
            return Err(Malformed("a place that no queue has"));
        }
        if self.places > ChunkRecord::LIMIT {
            return Err(Malformed("too many places"));
        }
        let words = self.places.div_ceil(64) as usize;
        if self.gone.len() > words || self.unsettled.len() > words {
            return Err(Malformed("a place is beyond the chunk"));
        }
        self.page.check()?;
        ascending(self.places, self.deliveries.iter().map(|(place, _)| *place))?;
        ascending(self.places, self.moved.iter().map(|(place, _)| *place))?;
        self.moved.iter().try_for_each(|(_, entry)| entry.check())?;
        let bytes: u128 = self.shares.iter().map(|share| u128::from(share.bytes)).sum();
        let many = |share: &SegmentShare| share.references > ChunkRecord::LIMIT;
        if self.shares.len() > self.places as usize
            || self.shares.iter().any(many)
            || bytes > u128::from(self.places) << 32
        {
            return Err(Malformed("more is needed of segments than the chunk can have there"));
        }
        Ok(())
    }
}

/// Whether these are places of a chunk that has so many, in its order.
fn ascending(places: u32, listed: impl Iterator<Item = u16>) -> Result<(), Malformed> {
    let mut next = 0;
    for place in listed.map(u32::from) {
        if place < next || place >= places {
            return Err(Malformed("a place is beyond the chunk, or not in its turn"));
        }
        next = place + 1;
    }
    Ok(())
}

macro_rules! structured_record {
    ($($record:ty),+) => {$(
        impl $record {
            pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
                structured::encode(buffer, VERSION, self);
            }

            pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
                let record: Self = structured::decode(payload, VERSION)?;
                record.check()?;
                Ok(record)
            }
        }
    )+};
}

structured_record!(QueuePage, Directory, MetadataPage);

impl Root {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        structured::encode(buffer, ROOT_VERSION, self);
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Root, Malformed> {
        let root: Root = match payload.first() {
            Some(&OLD_ROOT_VERSION) => {
                structured::decode::<OldRoot>(payload, OLD_ROOT_VERSION)?.into()
            }
            _ => structured::decode(payload, ROOT_VERSION)?,
        };
        root.check()?;
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(id: u64, salt: u64) -> SegmentTag {
        SegmentTag { id: SegmentId(id), salt }
    }

    #[test]
    fn the_bytes_of_a_root_do_not_change_by_accident() {
        let root = Root {
            replay_from: Lsn(0x4000),
            next_queue: QueueId(7),
            segments: vec![tag(1, 5), tag(3, 0x4000)],
            queue_pages: vec![Some(PageRef { lsn: Lsn(0x5000), length: 100 }), None],
            metadata_pages: vec![],
        };
        let mut payload = Vec::new();
        root.encode(&mut payload);
        let expected =
            b"\x03\xfb\x00\x40\x07\x02\x01\x05\x03\xfb\x00\x40\x02\x01\xfb\x00\x50\x64\x00\x00";
        assert_eq!(payload, expected, "{payload:02x?}");
        assert_eq!(Root::decode(&payload).as_ref(), Ok(&root));
        let old = b"\x02\xfb\x00\x40\x07\x02\x01\x03\x02\x01\xfb\x00\x50\x64\x00\x00";
        let without_salts = Root { segments: vec![tag(1, 0), tag(3, 0)], ..root };
        assert_eq!(Root::decode(old), Ok(without_salts));
    }

    #[test]
    fn the_bytes_of_a_queue_page_do_not_change_by_accident() {
        let page = QueuePage {
            queues: vec![QueueState {
                id: QueueId(1),
                attributes: b"q".to_vec(),
                next: Sequence(12),
                chunks: vec![ChunkState {
                    base: Sequence(10),
                    places: 2,
                    page: PageRef { lsn: Lsn(5), length: 6 },
                    gone: vec![1],
                    deliveries: vec![(1, 3)],
                    shares: vec![SegmentShare { segment: SegmentId(1), references: 1, bytes: 99 }],
                    unsettled: vec![1],
                    moved: vec![(0, ChunkEntry { lsn: Lsn(7), length: 8, sharers: 1 })],
                }],
                directories: vec![(2, PageRef { lsn: Lsn(3), length: 4 })],
            }],
        };
        let mut payload = Vec::new();
        page.encode(&mut payload);
        let expected =
            b"\x02\x01\x01\x01q\x0c\x01\x0a\x02\x05\x06\x01\x01\x01\x01\x03\x01\x01\x01\x63\
            \x01\x01\x01\x00\x07\x08\x01\x01\x02\x03\x04";
        assert_eq!(payload, expected, "{payload:02x?}");
        assert_eq!(QueuePage::decode(&payload), Ok(page));
    }

    fn chunk() -> ChunkState {
        ChunkState {
            base: Sequence(10),
            places: 70,
            page: PageRef { lsn: Lsn(5), length: 6 },
            gone: vec![0, 1],
            deliveries: vec![(1, 3), (69, 1)],
            shares: vec![SegmentShare { segment: SegmentId(1), references: 1, bytes: 99 }],
            unsettled: vec![],
            moved: vec![(0, ChunkEntry { lsn: Lsn(7), length: 8, sharers: 1 })],
        }
    }

    /// Such a checkpoint passes its checksum: only a defect writes it. To calculate with it was a panic, or worse. Found by
    /// fuzzing.
    #[test]
    fn chunks_that_cannot_be_are_refused() {
        let decode = |chunks| {
            let mut payload = Vec::new();
            Directory { queue: QueueId(3), number: 0, chunks }.encode(&mut payload);
            Directory::decode(&payload)
        };
        assert!(decode(vec![chunk(), ChunkState { base: Sequence(80), ..chunk() }]).is_ok());
        let share = chunk().shares[0];
        let far = ChunkEntry { lsn: Lsn::LIMIT, length: 8, sharers: 1 };
        let cannot_be = [
            ChunkState { base: Sequence::LIMIT, ..chunk() },
            ChunkState { places: 65_537, ..chunk() },
            ChunkState { page: PageRef { lsn: Lsn::LIMIT, length: 6 }, ..chunk() },
            ChunkState { gone: vec![0, 0, 1], ..chunk() },
            ChunkState { unsettled: vec![0, 0, 1], ..chunk() },
            ChunkState { deliveries: vec![(70, 1)], ..chunk() },
            ChunkState { deliveries: vec![(2, 1), (1, 1)], ..chunk() },
            ChunkState { deliveries: vec![(2, 1), (2, 1)], ..chunk() },
            ChunkState { moved: vec![(0, far)], ..chunk() },
            ChunkState { shares: vec![share; 71], ..chunk() },
            ChunkState { shares: vec![SegmentShare { bytes: u64::MAX, ..share }; 2], ..chunk() },
            ChunkState { shares: vec![SegmentShare { references: !0, ..share }], ..chunk() },
        ];
        for state in cannot_be {
            assert!(decode(vec![state.clone()]).is_err(), "{state:?}");
        }
        for base in [10, 79, 0] {
            let chunks = vec![chunk(), ChunkState { base: Sequence(base), ..chunk() }];
            assert!(decode(chunks).is_err(), "{base}");
        }
    }

    #[test]
    fn pages_that_cannot_be_are_refused() {
        let queue = QueueState {
            id: QueueId(1),
            attributes: Vec::new(),
            next: Sequence(12),
            chunks: vec![],
            directories: vec![],
        };
        let page = |queues| {
            let mut payload = Vec::new();
            QueuePage { queues }.encode(&mut payload);
            QueuePage::decode(&payload)
        };
        assert!(page(vec![queue.clone(); 64]).is_ok());
        assert!(page(vec![queue.clone(); 65]).is_err());
        let directory = (1 << 50, PageRef { lsn: Lsn(3), length: 4 });
        for queue in [
            QueueState { id: QueueId::FIRST_VOLATILE, ..queue.clone() },
            QueueState { next: Sequence(u64::MAX), ..queue.clone() },
            QueueState { directories: vec![directory], ..queue },
        ] {
            assert!(page(vec![queue.clone()]).is_err(), "{queue:?}");
        }
        let mut payload = Vec::new();
        MetadataPage { entries: vec![(vec![], vec![]); 65] }.encode(&mut payload);
        assert!(MetadataPage::decode(&payload).is_err());
    }

    #[test]
    fn the_bytes_of_a_directory_do_not_change_by_accident() {
        let directory = Directory { queue: QueueId(3), number: 2, chunks: vec![] };
        let mut payload = Vec::new();
        directory.encode(&mut payload);
        assert_eq!(payload, b"\x02\x03\x02\x00");
        assert_eq!(Directory::decode(&payload), Ok(directory));
    }

    #[test]
    fn the_bytes_of_a_metadata_page_do_not_change_by_accident() {
        let page = MetadataPage { entries: vec![(b"key".to_vec(), b"value".to_vec())] };
        let mut payload = Vec::new();
        page.encode(&mut payload);
        assert_eq!(payload, b"\x02\x01\x03key\x05value");
        assert_eq!(MetadataPage::decode(&payload), Ok(page));
    }
}
