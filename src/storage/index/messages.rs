//! The messages of a chunk that are in memory.

use std::collections::VecDeque;

use crate::storage::message::Message;

/// Messages by their places. They are close together nearly always, and go from the front: what lies between the first and the
/// last of them takes memory, and nothing else does.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The place of the first of `window`.
    first: u32,
    /// Begins with a message, unless it is empty.
    window: VecDeque<Option<Message>>,
}

impl Messages {
    fn index(&self, place: u32) -> Option<usize> {
        place.checked_sub(self.first).map(|index| index as usize)
    }

    pub(super) fn get(&self, place: u32) -> Option<&Message> {
        self.window.get(self.index(place)?)?.as_ref()
    }

    pub(super) fn contains(&self, place: u32) -> bool {
        self.get(place).is_some()
    }

    /// Puts a message into a place that has none.
    pub(super) fn insert(&mut self, place: u32, message: Message) {
        if self.window.is_empty() {
            self.first = place;
        }
        while place < self.first {
            self.window.push_front(None);
            self.first -= 1;
        }
        let index = (place - self.first) as usize;
        while self.window.len() <= index {
            self.window.push_back(None);
        }
        self.window[index] = Some(message);
    }

    pub(super) fn take(&mut self, place: u32) -> Option<Message> {
        let index = self.index(place)?;
        let message = self.window.get_mut(index)?.take();
        while let Some(None) = self.window.front() {
            self.window.pop_front();
            self.first += 1;
        }
        message
    }

    /// Takes the message of a place that is gone; its bytes of the memory budget.
    pub(super) fn drop_at(&mut self, place: u32) -> u64 {
        self.take(place).map_or(0, |message| message.footprint())
    }

    /// Drops the messages of the places for which `leaves` is true, and gives up the memory. Returns their bytes of the memory
    /// budget.
    pub(super) fn evict(&mut self, leaves: impl Fn(u32) -> bool) -> u64 {
        let mut bytes = 0;
        let window = std::mem::take(&mut self.window);
        for (message, place) in window.into_iter().zip(self.first..) {
            match message {
                Some(message) if leaves(place) => bytes += message.footprint(),
                Some(message) => self.insert(place, message),
                None => {}
            }
        }
        bytes
    }

    /// Drops all of them, and gives up the memory; their bytes of the memory budget.
    pub(super) fn clear(&mut self) -> u64 {
        let messages = std::mem::take(&mut self.window);
        messages.iter().flatten().map(Message::footprint).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(place: u32) -> Message {
        Message::new("", place.to_string())
    }

    #[test]
    fn messages_are_where_they_were_put_and_take_no_room_elsewhere() {
        let mut messages = Messages::default();
        for place in [1000, 1002, 998, 1003] {
            messages.insert(place, message(place));
        }
        let places: Vec<_> = (0..2048).filter(|place| messages.contains(*place)).collect();
        assert_eq!(places, [998, 1000, 1002, 1003]);
        assert_eq!(messages.get(1002), Some(&message(1002)));
        assert_eq!((messages.first, messages.window.len()), (998, 6));
        assert_eq!(messages.take(1000), Some(message(1000)));
        assert_eq!(messages.take(1000), None);
        assert_eq!((messages.first, messages.window.len()), (998, 6));
        assert_eq!(messages.take(998), Some(message(998)));
        assert_eq!((messages.first, messages.window.len()), (1002, 2));
        assert_eq!(messages.drop_at(1003), message(1003).footprint());
        assert_eq!(messages.take(5000), None);
        assert_eq!(messages.clear(), message(1002).footprint());
        assert_eq!((messages.clear(), messages.get(1002)), (0, None));
    }

    #[test]
    fn evicted_messages_give_up_their_memory_and_the_others_stay() {
        let mut messages = Messages::default();
        (100..200).for_each(|place| messages.insert(place, message(place)));
        let evicted = messages.evict(|place| place != 150);
        assert_eq!(evicted, 99 * message(150).footprint());
        assert_eq!((messages.first, messages.window.len()), (150, 1));
        assert!(messages.contains(150) && !messages.contains(149) && !messages.contains(151));
        assert_eq!(messages.evict(|_| true), message(150).footprint());
        assert_eq!((messages.window.len(), messages.window.capacity()), (0, 0));
        messages.insert(7, message(7));
        assert_eq!(messages.get(7), Some(&message(7)));
    }
}
