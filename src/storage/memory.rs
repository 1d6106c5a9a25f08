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
            // A few are not to live in a block that many more may come to; and where few come, few blocks are needed.
            blocks.open = BytesMut::new();
            blocks.full.pop_front();
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

    /// Returns the bytes of blocks that are kept for more messages, or by messages that came before.
    pub fn kept(&self) -> usize {
        self.0.borrow().full.len() * BLOCK
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

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(memory: &MessageMemory, count: usize) -> Vec<Bytes> {
        let copy = |number: usize| {
            memory.copy(1000, |buffer| buffer.extend_from_slice(&[number as u8; 1000]))
        };
        (0..count).map(copy).collect()
    }

    fn assert_whole(copies: &[Bytes]) {
        for (copy, number) in copies.iter().zip(0..) {
            assert!(copy[..] == [number as u8; 1000], "copy {number}");
        }
    }

    #[test]
    fn many_that_come_together_share_blocks_which_are_used_again() {
        let memory = MessageMemory::default();
        let mut places = std::collections::BTreeSet::new();
        let mut kept = VecDeque::new();
        for _ in 0..100 {
            memory.expect(200_000);
            let round = copies(&memory, 200);
            assert_whole(&round);
            places.extend(round.iter().map(|copy| copy.as_ptr() as usize / BLOCK));
            // They are gone a few rounds later.
            kept.push_back(round);
            if kept.len() > 3 {
                assert_whole(&kept.pop_front().unwrap());
            }
        }
        kept.iter().for_each(|round| assert_whole(round));
        // 20 MB went through it, and a block touches two of these places at most.
        assert!(places.len() <= 2 * (KEPT + 2), "{} places", places.len());
    }

    #[test]
    fn a_few_get_no_more_than_they_need() {
        let memory = MessageMemory::default();
        memory.expect(3000);
        let few = copies(&memory, 3);
        assert_whole(&few);
        assert_eq!(few[2].as_ptr() as usize - few[0].as_ptr() as usize, 2000, "one allocation");
        assert_eq!(memory.0.borrow().open.capacity(), 0, "and nothing is left of it");
        assert_whole(&copies(&memory, 1));
    }

    #[test]
    fn a_message_that_is_larger_than_a_block_has_memory_of_its_own() {
        let memory = MessageMemory::default();
        memory.expect(BLOCK);
        let large = memory.copy(2 * BLOCK, |buffer| buffer.resize(2 * BLOCK, 7));
        assert!(large.len() == 2 * BLOCK && large.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_nothing_needs_is_given_up() {
        let memory = MessageMemory::default();
        assert!(!memory.is_held());
        memory.expect(10 * BLOCK);
        let many = copies(&memory, 600);
        assert!(memory.is_held());
        for _ in 0..=KEPT {
            memory.expect(100);
        }
        assert!(!memory.is_held(), "little by little, where little comes");
        memory.expect(10 * BLOCK);
        copies(&memory, 600);
        memory.release();
        assert!(!memory.is_held());
        assert_whole(&many);
    }
}
