//! Things by the tags of the deliveries that they belong to.

use std::collections::VecDeque;

use super::delivery::DeliveryTag;

/// Things by their tags.
///
/// Tags are given out in order and mostly come back in order, so this is a deque with holes rather than a tree. Holes are
/// closed when they are more than the things, so that one old delivery that is never acknowledged
/// does not hold a place for each that came after it.
#[derive(Debug)]
pub(super) struct Tagged<T> {
    slots: VecDeque<(DeliveryTag, Option<T>)>,
    held: usize,
}

/// Fewer holes than this are not worth closing.
const FEW_HOLES: usize = 64;

impl<T> Default for Tagged<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), held: 0 }
    }
}

impl<T> Tagged<T> {
    /// Adds something; its tag is higher than all before.
    pub(super) fn push(&mut self, tag: DeliveryTag, thing: T) {
        self.slots.push_back((tag, Some(thing)));
        self.held += 1;
    }

    /// Takes out what has that tag.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<T> {
        let is_first = self.slots.front().is_some_and(|(first, _)| *first == tag);
        let thing = if is_first {
            self.slots.pop_front()?.1?
        } else {
            let place = self.find(tag)?;
            self.slots[place].1.take()?
        };
        self.held -= 1;
        self.close_holes();
        Some(thing)
    }

    /// Takes out all that have that tag or one before it, in order.
    pub(super) fn take_through(&mut self, tag: DeliveryTag) -> Vec<(DeliveryTag, T)> {
        let count = self.slots.partition_point(|(other, _)| *other <= tag);
        let taken: Vec<_> =
            self.slots.drain(..count).filter_map(|(tag, thing)| Some((tag, thing?))).collect();
        self.held -= taken.len();
        self.close_holes();
        taken
    }

    /// Puts things back that were taken out.
    pub(super) fn put_back(&mut self, taken: Vec<(DeliveryTag, T)>) {
        self.held += taken.len();
        self.slots.retain(|(_, thing)| thing.is_some());
        self.slots.extend(taken.into_iter().map(|(tag, thing)| (tag, Some(thing))));
        // Two runs in order: a stable sort only merges them.
        self.slots.make_contiguous().sort_by_key(|(tag, _)| *tag);
    }

    /// Whether there is something with that tag.
    pub(super) fn contains(&self, tag: DeliveryTag) -> bool {
        self.find(tag).is_some_and(|place| self.slots[place].1.is_some())
    }

    /// The tag of the first.
    pub(super) fn first(&self) -> Option<DeliveryTag> {
        self.slots.front().map(|(tag, _)| *tag)
    }

    /// All things, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (DeliveryTag, &T)> {
        self.slots.iter().filter_map(|(tag, thing)| Some((*tag, thing.as_ref()?)))
    }

    /// How many were taken out, roughly: as many as there are fewer than their tags say.
    pub(super) fn taken(&self) -> u64 {
        let given_out = self.slots.back().map_or(0, |(tag, _)| tag.0);
        given_out.saturating_sub(self.held as u64)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// Places, holes included.
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
            self.slots.retain(|(_, thing)| thing.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(range: std::ops::Range<u64>) -> impl Iterator<Item = DeliveryTag> {
        range.map(DeliveryTag)
    }

    #[test]
    fn things_are_found_whatever_has_gone_between_them() {
        let mut tagged = Tagged::default();
        tags(1..2000)
            .filter(|tag| !tag.0.is_multiple_of(3))
            .for_each(|tag| tagged.push(tag, tag.0));
        for tag in tags(0..2000).filter(|tag| !tag.0.is_multiple_of(7)) {
            let there = !tag.0.is_multiple_of(3);
            assert_eq!((tagged.contains(tag), tagged.take(tag)), (there, there.then_some(tag.0)));
            assert_eq!((tagged.contains(tag), tagged.take(tag)), (false, None));
        }
        let left = |tag: &DeliveryTag| tag.0.is_multiple_of(7) && !tag.0.is_multiple_of(3);
        assert_eq!(tagged.len(), tags(1..2000).filter(left).count());
        assert!(tagged.slots() <= 2 * tagged.len() + FEW_HOLES);

        let taken = tagged.take_through(DeliveryTag(1000));
        assert!(taken.iter().map(|(tag, _)| *tag).eq(tags(1..1001).filter(left)));
        tagged.put_back(taken);
        assert_eq!(tagged.len(), tags(1..2000).filter(left).count());
        let all = tagged.take_through(DeliveryTag(u64::MAX));
        assert!(all.iter().map(|(tag, _)| *tag).eq(tags(1..2000).filter(left)));
        assert_eq!((tagged.len(), tagged.slots()), (0, 0));
    }
}
