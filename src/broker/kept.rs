//! The messages of unacknowledged deliveries that stay in memory, so that what is given back can go out again at once.
//!
//! Those of all deliveries may be any number of bytes, and nearly all of them are acknowledged. So a channel keeps what came first,
//! which is what its client comes to first, up to a bound; what is given back beyond that is read from the log.
//!
//! An acknowledgement does nothing here. What belongs to deliveries that are done with is given up now and then, for many at once.

use std::collections::VecDeque;

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
    /// In the order of the tags. Those of deliveries that are done with may be among them.
    messages: VecDeque<(DeliveryTag, Message)>,
    allowance: Allowance,
    /// What is left of the allowance.
    room: u64,
    /// There was no room for a message, since the last [`Kept::rest`].
    refused: bool,
    /// How many deliveries had been done with when all messages were last looked at.
    swept_at: u64,
}

impl Kept {
    pub(super) fn new(store: &Store) -> Self {
        let (messages, allowance) = (VecDeque::new(), store.allowance());
        Self { messages, allowance, room: 0, refused: false, swept_at: 0 }
    }

    /// Keeps a message, if there is room for it; its tag is higher than all before.
    pub(super) fn offer(&mut self, tag: DeliveryTag, message: Message) {
        let charge = Allowance::charge(&message);
        if charge <= self.room || self.make_room(charge) {
            self.room -= charge;
            self.messages.push_back((tag, message));
        }
    }

    /// Takes a message out, if it was kept.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Message> {
        let place = self.messages.binary_search_by_key(&tag, |(kept, _)| *kept).ok()?;
        let (_, message) = self.messages.remove(place)?;
        self.room += Allowance::charge(&message);
        Some(message)
    }

    /// Takes out all that have that tag or one before it, in order.
    pub(super) fn take_through(&mut self, tag: DeliveryTag) -> Vec<(DeliveryTag, Message)> {
        let count = self.messages.partition_point(|(kept, _)| *kept <= tag);
        let taken: Vec<_> = self.messages.drain(..count).collect();
        self.room += taken.iter().map(|(_, message)| Allowance::charge(message)).sum::<u64>();
        taken
    }

    /// Gives up what is not needed: there are these deliveries. To be called when some may have been acknowledged.
    pub(super) fn rest<T>(&mut self, deliveries: &Tagged<T>) {
        let oldest = deliveries.first();
        while let Some((tag, message)) = self.messages.front()
            && oldest.is_none_or(|oldest| *tag < oldest)
        {
            self.room += Allowance::charge(message);
            self.messages.pop_front();
        }
        if std::mem::take(&mut self.refused) {
            self.sweep(deliveries);
        }
        if self.messages.is_empty() && self.allowance.bytes() > SMALLEST {
            self.allowance.shrink(SMALLEST);
            self.room = SMALLEST;
        }
    }

    /// Looks for what is not needed behind an old delivery that is not acknowledged. Not often: only when much more has been
    /// acknowledged than there is to look at.
    #[cold]
    fn sweep<T>(&mut self, deliveries: &Tagged<T>) {
        let done = deliveries.taken();
        if done < self.swept_at + 4 * self.messages.len() as u64 {
            return;
        }
        self.swept_at = done;
        let room = &mut self.room;
        self.messages.retain(|(tag, message)| {
            let needed = deliveries.contains(*tag);
            *room += if needed { 0 } else { Allowance::charge(message) };
            needed
        });
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

    fn deliveries(tags: impl IntoIterator<Item = u64>) -> Tagged<()> {
        let mut deliveries = Tagged::default();
        tags.into_iter().for_each(|tag| deliveries.push(DeliveryTag(tag), ()));
        deliveries
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
        let taken = kept.take_through(DeliveryTag(100));
        assert!(taken.into_iter().eq((1..101).map(|tag| (DeliveryTag(tag), message(tag, 10)))));
        kept.rest(&deliveries(900..1003));
        assert_eq!(offer(&mut kept, 1003..=1010, 50_000), 6, "1001, and five of 50 KB");
        kept.rest(&deliveries([]));
        assert_eq!((kept.messages.len(), kept.room), (0, SMALLEST));
    }

    #[test]
    fn behind_an_old_delivery_there_is_room_again_for_others() {
        let (_dir, store) = store();
        let mut kept = Kept::new(&store);
        let mut held = deliveries(1..=2000);
        offer(&mut kept, 1..=2000, 10);
        (2..=1000).for_each(|tag| assert!(held.take(DeliveryTag(tag)).is_some()));
        kept.rest(&held);
        assert_eq!(kept.messages.len(), 256, "it is not worth looking yet");
        (1001..=1100).for_each(|tag| assert!(held.take(DeliveryTag(tag)).is_some()));
        assert_eq!(offer(&mut kept, 2001..=2001, 10), 256);
        kept.rest(&held);
        assert_eq!(kept.messages.len(), 1);
        assert_eq!(offer(&mut kept, 2002..=3000, 10), 256);
        assert_eq!(kept.take(DeliveryTag(1)), Some(message(1, 10)));
    }

    #[test]
    fn a_message_that_is_more_than_there_may_be_is_not_kept() {
        let (_dir, store) = store();
        let mut kept = Kept::new(&store);
        assert_eq!(offer(&mut kept, 1..=1, LARGEST as usize + 1), 0);
        kept.rest(&deliveries([1]));
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
        all[0].rest(&deliveries([]));
        drop(all.remove(1));
        let mut again = |kept: &mut Kept| {
            kept.rest(&deliveries(1..=300));
            offer(kept, 301..=600, 1000)
        };
        let counts: Vec<_> = all.iter_mut().skip(3).map(&mut again).collect();
        assert_eq!(counts, [256, 128, 64, 32, 16, 8]);
        assert_eq!(all[0].room, SMALLEST);
    }
}
