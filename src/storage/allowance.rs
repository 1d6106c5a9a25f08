//! Memory for messages that somebody has fetched, and may give back.

use std::sync::Arc;

use super::message::Message;
use super::store::{Shared, Store};

/// A message counts for so much at least: a small one may be all that keeps the memory from being used again that it shares with others.
const LEAST: u64 = 1 << 10;

/// A part of the store's memory, for messages that were [fetched](super::Queue::fetch) and that their holder may want to give
/// [back](super::Queue::keep). All parts together are a quarter of [`Options::cache`](super::Options::cache), and who comes first is
/// served first. It is given back when this is dropped.
///
/// It only counts: the holder has the messages.
#[derive(Debug)]
pub struct Allowance {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Allowance {
    /// What a message counts for, in bytes.
    #[must_use]
    pub fn charge(message: &Message) -> u64 {
        (message.size() as u64).max(LEAST)
    }

    /// How much it is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it larger by so many bytes; false: there are not so many.
    #[must_use]
    pub fn grow(&mut self, by: u64) -> bool {
        let grown = self.shared.allowances.try_take(by);
        self.bytes += if grown { by } else { 0 };
        grown
    }

    /// Makes it no larger than so many bytes.
    pub fn shrink(&mut self, to: u64) {
        let less = self.bytes.saturating_sub(to);
        self.shared.allowances.give_back(less);
        self.bytes -= less;
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Store {
    /// An allowance of nothing, which can grow.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        Allowance { shared: Arc::clone(&self.shared), bytes: 0 }
    }
}
