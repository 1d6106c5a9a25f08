//! Queues by name, for whoever looks at a store without a broker.

use super::record::{LevelRecord, QueueAttributes, QueueRecord};
use crate::storage::QueueId;

/// What a durable queue is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredQueue {
    /// The virtual host that it is in.
    pub virtual_host: String,
    /// Its name; what is not UTF-8 in it is replaced.
    pub name: String,
    /// What it is where it is not the whole queue.
    pub part: Option<QueuePart>,
}

/// A queue with priorities is several to the engine: that of priority 0 stands for them all, this is one of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePart {
    /// The engine's queue that holds the messages of priority 0.
    pub of: QueueId,
    /// The priority of the messages in this one.
    pub priority: u8,
}

impl StoredQueue {
    /// Reads the attributes that a broker gave to an engine's queue; `None`: they are of another kind or version.
    #[must_use]
    pub fn read(attributes: &[u8]) -> Option<StoredQueue> {
        let (virtual_host, name, part) = match QueueAttributes::decode(attributes).ok()? {
            QueueAttributes::Queue(QueueRecord { virtual_host, name, .. }) => {
                (virtual_host, name, None)
            }
            QueueAttributes::Level(LevelRecord { virtual_host, name, base, priority }) => {
                (virtual_host, name, Some(QueuePart { of: base, priority }))
            }
        };
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        Some(StoredQueue { virtual_host: text(&virtual_host), name: text(&name), part })
    }

    /// A queue by the name that the broker gave it, or by its number where that cannot be told.
    #[must_use]
    pub fn describe(id: QueueId, attributes: &[u8]) -> String {
        let Some(queue) = StoredQueue::read(attributes) else { return format!("number {id}") };
        let part = queue.part.map(|part| format!(" (priority {})", part.priority));
        let part = part.unwrap_or_default();
        match &*queue.virtual_host {
            "/" => format!("'{}'{part}", queue.name),
            virtual_host => format!("'{}'{part} in vhost '{virtual_host}'", queue.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_queue_is_named_after_it_and_its_priority() {
        let attributes = b"l\x01\x09\0\0\0\0\0\0\x01\x2c\x01/\x05tasks";
        let stored = StoredQueue::read(attributes).unwrap();
        assert_eq!(stored.part, Some(QueuePart { of: QueueId::new(300), priority: 9 }));
        assert_eq!(StoredQueue::describe(QueueId::new(309), attributes), "'tasks' (priority 9)");
        let elsewhere = b"l\x01\x01\0\0\0\0\0\0\x01\x2c\x01a\x01q";
        let described = StoredQueue::describe(QueueId::new(309), elsewhere);
        assert_eq!(described, "'q' (priority 1) in vhost 'a'");
        assert_eq!(StoredQueue::describe(QueueId::new(309), b"?"), "number 309");
        assert_eq!(StoredQueue::describe(QueueId::new(1), b"\x01\0\x01/\x01q\0\0\0\0"), "'q'");
    }
}
