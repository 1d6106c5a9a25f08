//! Queues by name, for whoever looks at a store without a broker.

use super::record::QueueRecord;
use crate::storage::QueueId;

/// What a durable queue is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredQueue {
    /// The virtual host that it is in.
    pub virtual_host: String,
    /// Its name; what is not UTF-8 in it is replaced.
    pub name: String,
}

impl StoredQueue {
    /// Reads the attributes that a broker gave to an engine's queue; `None`: they are of another kind or version.
    #[must_use]
    pub fn read(attributes: &[u8]) -> Option<StoredQueue> {
        let record = QueueRecord::decode(attributes).ok()?;
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        Some(StoredQueue { virtual_host: text(&record.virtual_host), name: text(&record.name) })
    }

    /// A queue by the name that the broker gave it, or by its number where that cannot be told.
    #[must_use]
    pub fn describe(id: QueueId, attributes: &[u8]) -> String {
        match StoredQueue::read(attributes) {
            Some(queue) if queue.virtual_host == "/" => format!("'{}'", queue.name),
            Some(queue) => format!("'{}' in vhost '{}'", queue.name, queue.virtual_host),
            None => format!("number {id}"),
        }
    }
}
