//! A checkpoint: the store's state as a tree of records. The root points to pages of queues and of metadata; a queue's
//! state points to the records of its chunks. A new checkpoint writes the records of what has changed and a new root;
//! everything else stays where it is.

use serde::{Deserialize, Serialize};

use super::{ChunkEntry, Malformed, structured};
use crate::storage::units::{Lsn, QueueId, SegmentId, Sequence};

const VERSION: u8 = 2;

/// Where a record of the checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageRef {
    pub(crate) lsn: Lsn,
    /// Bytes of the whole record.
    pub(crate) length: u32,
}

/// The root: version byte 2, then this, [structured](super::structured).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Root {
    /// All that was appended below here is in the checkpoint; replay begins here, at the start of a sync group.
    pub(crate) replay_from: Lsn,
    pub(crate) next_queue: QueueId,
    /// Every segment that is still needed, up to the one that `replay_from` is in.
    pub(crate) segments: Vec<SegmentId>,
    pub(crate) queue_pages: Vec<Option<PageRef>>,
    pub(crate) metadata_pages: Vec<Option<PageRef>>,
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

macro_rules! structured_record {
    ($($record:ty),+) => {$(
        impl $record {
            pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
                structured::encode(buffer, VERSION, self);
            }

            pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
                structured::decode(payload, VERSION)
            }
        }
    )+};
}

structured_record!(Root, QueuePage, Directory, MetadataPage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_root_do_not_change_by_accident() {
        let root = Root {
            replay_from: Lsn(0x4000),
            next_queue: QueueId(7),
            segments: vec![SegmentId(1), SegmentId(3)],
            queue_pages: vec![Some(PageRef { lsn: Lsn(0x5000), length: 100 }), None],
            metadata_pages: vec![],
        };
        let mut payload = Vec::new();
        root.encode(&mut payload);
        let expected = b"\x02\xfb\x00\x40\x07\x02\x01\x03\x02\x01\xfb\x00\x50\x64\x00\x00";
        assert_eq!(payload, expected, "{payload:02x?}");
        assert_eq!(Root::decode(&payload), Ok(root));
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
