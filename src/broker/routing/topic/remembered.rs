//! Results of long lookups, remembered until a binding of the exchange changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use super::NodeId;
use crate::message::ShortStr;

/// The most bytes that an exchange remembers.
const MOST_BYTES: usize = 256 * 1024;
/// The bytes of an entry besides its key and nodes.
const OVERHEAD: usize = 128;

/// The nodes that keys lead to.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Looked at with each message, without the lock.
    any: AtomicBool,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<ShortStr, Box<[NodeId]>>,
    bytes: usize,
}

impl Remembered {
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Relaxed)
    }

    /// Appends to `found` what the key leads to. Returns `false` if that is not known.
    pub(super) fn recall(&self, key: &[u8], found: &mut Vec<NodeId>) -> bool {
        if self.is_empty() {
            return false;
        }
        let entries = self.entries.lock();
        let known = entries.by_key.get(key);
        known.inspect(|nodes| found.extend_from_slice(nodes)).is_some()
    }

    /// Remembers what a key leads to, in no more memory than the exchange's patterns take.
    pub(super) fn insert(&self, key: &[u8], nodes: Box<[NodeId]>, bytes: usize) {
        let size = OVERHEAD + key.len() + size_of_val(&*nodes);
        let most = bytes.min(MOST_BYTES);
        if size > most {
            return;
        }
        let mut entries = self.entries.lock();
        if entries.bytes + size > most {
            *entries = Entries::default();
        }
        if entries.by_key.insert(ShortStr::copy_of(key), nodes).is_none() {
            entries.bytes += size;
        }
        self.any.store(true, Relaxed);
    }

    /// A binding has changed.
    pub(super) fn forget(&mut self) {
        if std::mem::take(self.any.get_mut()) {
            *self.entries.get_mut() = Entries::default();
        }
    }
}
