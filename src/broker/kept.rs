//! The messages of unacknowledged deliveries that stay in memory, so that what is given back can go out again at once.
//!
//! Those of all deliveries may be any number of bytes, and nearly all of them are acknowledged. So a channel keeps what came first,
//! which is what its client comes to first, up to a bound; what is given back beyond that is read from the log.

use super::delivery::DeliveryTag;
use super::tagged::Tagged;
use crate::storage::{Allowance, Message, Store};

/// What a channel has left, in bytes, when it keeps nothing: without it, channels with a message at a time would all
/// write to one counter for each.
const SMALLEST: u64 = 4 << 10;

/// What a channel has at most, in bytes.
const LARGEST: u64 = 256 << 10;

/// What a channel keeps.
#[derive(Debug)]
pub(super) struct Kept {
    messages: Tagged<Message>,
    allowance: Allowance,
    /// What is left of the allowance.
    room: u64,
    /// There was no larger allowance to be had, since the last [`Kept::rest`].
    refused: bool,
}

impl Kept {
    pub(super) fn new(store: &Store) -> Self {
        let (messages, allowance) = (Tagged::default(), store.allowance());
        Self { messages, allowance, room: 0, refused: false }
    }

    /// Keeps a message, if there is room for it.
    pub(super) fn offer(&mut self, tag: DeliveryTag, message: Message) {
        let charge = Allowance::charge(&message);
        if charge <= self.room || self.make_room(charge) {
            self.room -= charge;
            self.messages.push(tag, message);
        }
    }

    /// Takes a message out, if it was kept.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Message> {
        let message = self.messages.take(tag)?;
        self.room += Allowance::charge(&message);
        Some(message)
    }

    /// Takes out all that have that tag or one before it, in order.
    pub(super) fn take_through(&mut self, tag: DeliveryTag) -> Vec<(DeliveryTag, Message)> {
        let taken = self.messages.take_through(tag);
        self.room += taken.iter().map(|(_, message)| Allowance::charge(message)).sum::<u64>();
        taken
    }

    /// Gives up all that have that tag or one before it.
    pub(super) fn forget_through(&mut self, tag: DeliveryTag) {
        while let Some((_, message)) = self.messages.pop_through(tag) {
            self.room += Allowance::charge(&message);
        }
    }

    /// Gives up what is not needed. To be called now and then.
    pub(super) fn rest(&mut self) {
        self.refused = false;
        if self.messages.len() == 0 && self.allowance.bytes() > SMALLEST {
            self.allowance.shrink(SMALLEST);
            self.room = SMALLEST;
        }
    }

    #[cold]
    fn make_room(&mut self, charge: u64) -> bool {
        while !self.refused && self.room < charge {
            let more = self.allowance.bytes().max(SMALLEST);
            let fits = self.allowance.bytes() + more <= LARGEST && charge <= LARGEST;
            self.refused = !fits || !self.allowance.grow(more);
            self.room += if self.refused { 0 } else { more };
        }
        self.room >= charge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Options;

    const CACHE: u64 = 4 << 20;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_size: 1 << 20, cache: CACHE, ..Options::default() };
        let store = Store::open(dir.path().join("data"), options).unwrap();
        (dir, store)
    }

    fn message(tag: u64, size: usize) -> Message {
        Message::new(tag.to_string(), vec![0; size])
    }

    /// Offers messages of that size with these tags; how many are kept then.
    fn offer(kept: &mut Kept, tags: std::ops::RangeInclusive<u64>, size: usize) -> usize {
        tags.for_each(|tag| kept.offer(DeliveryTag(tag), message(tag, size)));
        kept.messages.len()
    }

    #[test]
    fn the_first_are_kept_and_others_when_these_have_gone() {
        let (_dir, store) = store();
        let mut kept = Kept::new(&store);
        assert_eq!(offer(&mut kept, 1..=1000, 10), 256, "a small one counts for 1 KiB");
        assert_eq!(kept.take(DeliveryTag(256)), Some(message(256, 10)));
        assert_eq!(kept.take(DeliveryTag(256)), None);
        assert_eq!(kept.take(DeliveryTag(257)), None);
        assert_eq!(offer(&mut kept, 1001..=1002, 10), 256);
        let taken = kept.take_through(DeliveryTag(900));
        assert_eq!(taken.len(), 255);
        assert!(taken.into_iter().eq((1..256).map(|tag| (DeliveryTag(tag), message(tag, 10)))));
        assert_eq!(offer(&mut kept, 1003..=1010, 50_000), 6, "1001, and five of 50 KB");
    }

    #[test]
    fn a_message_that_is_more_than_there_may_be_is_not_kept() {
        let (_dir, store) = store();
        let mut kept = Kept::new(&store);
        assert_eq!(offer(&mut kept, 1..=1, LARGEST as usize + 1), 0);
        kept.rest();
        assert_eq!(offer(&mut kept, 2..=2, LARGEST as usize - 1), 1);
        assert_eq!(kept.room, 0);
    }

    #[test]
    fn all_channels_together_keep_a_quarter_of_the_memory_for_messages() {
        let (_dir, store) = store();
        let mut all: Vec<_> = (0..10).map(|_| Kept::new(&store)).collect();
        let counts: Vec<_> = all.iter_mut().map(|kept| offer(kept, 1..=300, 1000)).collect();
        assert_eq!(counts, [256, 256, 256, 256, 0, 0, 0, 0, 0, 0]);
        // One has nothing left of it, another has gone.
        all[0].take_through(DeliveryTag(300));
        all[0].rest();
        drop(all.remove(1));
        let counts: Vec<_> = all
            .iter_mut()
            .skip(3)
            .map(|kept| (kept.rest(), offer(kept, 301..=600, 1000)).1)
            .collect();
        assert_eq!(counts, [256, 128, 64, 32, 16, 8]);
        assert_eq!(all[0].room, SMALLEST);
    }
}
