//! The deliveries of a channel that its peer has not acknowledged.

use std::collections::VecDeque;

use super::delivery::{DeliveryTag, Origin};
use crate::storage::Sequence;

/// A delivery that the peer holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) sequence: Sequence,
    /// How often the message has been handed out, this time included.
    pub(super) deliveries: u32,
    /// Bytes of its body.
    pub(super) body: u32,
}

/// Deliveries by their tag.
///
/// Tags are given out in order and mostly come back in order, so this is a deque with holes rather than a tree. Holes are
/// closed when they are more than the deliveries, so that one old delivery that is never acknowledged
/// does not hold a place for each that came after it.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    slots: VecDeque<(DeliveryTag, Option<Held>)>,
    held: usize,
}

/// Fewer holes than this are not worth closing.
const FEW_HOLES: usize = 64;

impl Unacknowledged {
    /// Adds a delivery; its tag is higher than all before.
    pub(super) fn push(&mut self, tag: DeliveryTag, held: Held) {
        self.slots.push_back((tag, Some(held)));
        self.held += 1;
    }

    /// Takes out the delivery with that tag.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Held> {
        let place = self.find(tag)?;
        let held = self.slots[place].1.take()?;
        self.held -= 1;
        self.close_holes();
        Some(held)
    }

    /// Takes out the delivery with that tag and all before it, in order. `None` when that tag is unknown.
    pub(super) fn take_through(&mut self, tag: DeliveryTag) -> Option<Vec<Held>> {
        let place = self.find(tag)?;
        self.slots[place].1.as_ref()?;
        let taken: Vec<Held> = self.slots.drain(..=place).filter_map(|(_, held)| held).collect();
        self.held -= taken.len();
        self.close_holes();
        Some(taken)
    }

    /// Takes out deliveries with their tags, in order, which may [come back](Self::put_back): the one with that tag, or with
    /// `multiple` all before it too, and with tag 0 all that there are. `None` when that tag is unknown.
    pub(super) fn take_tagged(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
    ) -> Option<Vec<(DeliveryTag, Held)>> {
        if !multiple {
            return Some(vec![(tag, self.take(tag)?)]);
        }
        let count = if tag == DeliveryTag(0) {
            self.slots.len()
        } else {
            let place = self.find(tag)?;
            self.slots[place].1.as_ref()?;
            place + 1
        };
        let taken: Vec<_> =
            self.slots.drain(..count).filter_map(|(tag, held)| Some((tag, held?))).collect();
        self.held -= taken.len();
        self.close_holes();
        Some(taken)
    }

    /// Puts deliveries back that were taken out.
    pub(super) fn put_back(&mut self, taken: Vec<(DeliveryTag, Held)>) {
        self.held += taken.len();
        self.slots.retain(|(_, held)| held.is_some());
        self.slots.extend(taken.into_iter().map(|(tag, held)| (tag, Some(held))));
        self.slots.make_contiguous().sort_unstable_by_key(|(tag, _)| *tag);
    }

    /// Takes out all deliveries, in order.
    pub(super) fn take_all(&mut self) -> Vec<Held> {
        self.held = 0;
        self.slots.drain(..).filter_map(|(_, held)| held).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    fn find(&self, tag: DeliveryTag) -> Option<usize> {
        let (first, _) = self.slots.front()?;
        // Where it is if no holes have been closed before it.
        let guess = usize::try_from(tag.0.checked_sub(first.0)?).ok()?;
        if self.slots.get(guess).is_some_and(|(found, _)| *found == tag) {
            return Some(guess);
        }
        self.slots.binary_search_by_key(&tag, |(found, _)| *found).ok()
    }

    fn close_holes(&mut self) {
        while let Some((_, None)) = self.slots.front() {
            self.slots.pop_front();
        }
        if self.slots.len() > 2 * self.held + FEW_HOLES {
            self.slots.retain(|(_, held)| held.is_some());
        }
    }
}
