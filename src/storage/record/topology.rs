//! Queues and metadata that came, changed or went: all changes of one record happen, or none.

use serde::{Deserialize, Serialize};

use super::{Malformed, check_queues, structured};
use crate::storage::units::QueueId;

const VERSION: u8 = 1;

/// One change. The order of the variants is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredChange {
    CreateQueue { id: QueueId, attributes: Vec<u8> },
    DeleteQueue { id: QueueId },
    Put { key: Vec<u8>, value: Vec<u8> },
    Remove { key: Vec<u8> },
}

/// The payload of a topology record: a version byte (1) and the [structured](super::structured) list of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopologyRecord {
    pub(crate) changes: Vec<StoredChange>,
}

impl TopologyRecord {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        structured::encode(buffer, VERSION, self);
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<TopologyRecord, Malformed> {
        let record: TopologyRecord = structured::decode(payload, VERSION)?;
        let numbers = record.changes.iter().filter_map(|change| match change {
            StoredChange::CreateQueue { id, .. } => Some(*id),
            _ => None,
        });
        check_queues(numbers)?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_on_disk_do_not_change_by_accident() {
        let record = TopologyRecord {
            changes: vec![
                StoredChange::CreateQueue { id: QueueId(300), attributes: b"at".to_vec() },
                StoredChange::DeleteQueue { id: QueueId(2) },
                StoredChange::Put { key: b"k".to_vec(), value: b"v".to_vec() },
                StoredChange::Remove { key: b"k".to_vec() },
            ],
        };
        let mut payload = Vec::new();
        record.encode(&mut payload);
        assert_eq!(payload, b"\x01\x04\x00\xfb\x2c\x01\x02at\x01\x02\x02\x01k\x01v\x03\x01k");
        assert_eq!(TopologyRecord::decode(&payload), Ok(record));
    }

    #[test]
    fn a_durable_queue_has_no_volatile_number() {
        for (id, fine) in [((1 << 63) - 1, true), (1 << 63, false), (u64::MAX, false)] {
            let change = StoredChange::CreateQueue { id: QueueId(id), attributes: Vec::new() };
            let mut payload = Vec::new();
            TopologyRecord { changes: vec![change] }.encode(&mut payload);
            assert_eq!(TopologyRecord::decode(&payload).is_ok(), fine, "{id:#x}");
        }
    }

    #[test]
    fn other_versions_cut_and_trailing_bytes_are_refused() {
        for payload in [&b""[..], b"\x02\0", b"\x01", b"\x01\0\0", b"\x01\xfc\xff\xff\xff\xff"] {
            assert!(TopologyRecord::decode(payload).is_err(), "{payload:?}");
        }
    }
}
