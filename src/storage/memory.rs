//! Memory that messages which arrive together share.
//!
//! A message that stays in memory until a consumer has it lives for a millisecond, and is given up by another thread than the one
//! that made it. An allocation of its own costs more than all else that is done with such a message; in blocks that many of
//! them share, and that are used again when all of these have gone, it costs next to nothing.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The last message of a block that is left keeps so much, in bytes.
pub(super) const BLOCK: usize = 64 << 10;

/// So many blocks, at most, are kept to be used again when their messages have gone.
const KEPT: usize = 24;

/// Memory for messages of one source, such as a connection, that are to be copied: see
/// [`Draft::Pieces`](super::Draft::Pieces).
///
/// Messages of which few are expected get no more than they need. After [`release`](Self::release) it holds none.
#[derive(Debug, Default)]
pub struct MessageMemory(RefCell<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    /// What is left of the block that is being filled.
    open: BytesMut,
    /// So many bytes of messages are likely to come.
    expected: usize,
    /// Blocks that were filled, the oldest first.
    full: VecDeque<BytesMut>,
}

impl MessageMemory {
    /// Says that messages of so many bytes in all, at most, are likely to come at once.
    pub fn expect(&self, bytes: usize) {
        let mut blocks = self.0.borrow_mut();
        blocks.expected = bytes;
        if bytes < BLOCK / 2 {
            // A few are not to live in a block that many more may come to.
            blocks.open = BytesMut::new();
        }
    }

    /// Gives up all memory that no message needs.
    pub fn release(&self) {
        self.0.take();
    }

    /// Whether there is such memory.
    pub fn is_held(&self) -> bool {
        let blocks = self.0.borrow();
        blocks.open.capacity() > 0 || !blocks.full.is_empty()
    }

    /// So many bytes, which `put` adds to what it is given.
    pub(super) fn copy(&self, size: usize, put: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut blocks = self.0.borrow_mut();
        blocks.make_room(size);
        put(&mut blocks.open);
        debug_assert_eq!(blocks.open.len(), size, "a message is as long as announced");
        blocks.expected = blocks.expected.saturating_sub(size);
        blocks.open.split().freeze()
    }
}

impl Blocks {
    fn make_room(&mut self, size: usize) {
        if self.open.capacity() >= size {
            return;
        }
        if self.expected < BLOCK / 2 || size > BLOCK {
            self.open = BytesMut::with_capacity(size.max(self.expected));
            return;
        }
        let filled = std::mem::take(&mut self.open);
        if filled.capacity() > 0 || !self.full.is_empty() {
            self.full.push_back(filled);
        }
        // They go in the order in which they came, or nearly so.
        let reclaimed = self.full.front_mut().is_some_and(|oldest| oldest.try_reclaim(BLOCK));
        let oldest = if reclaimed || self.full.len() > KEPT { self.full.pop_front() } else { None };
        self.open = oldest.filter(|_| reclaimed).unwrap_or_else(|| BytesMut::with_capacity(BLOCK));
    }
}
