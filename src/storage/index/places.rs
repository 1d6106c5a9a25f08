//! A set of places within a chunk: one bit a place.

/// Some places, counted from the first one of a chunk, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places(Vec<u64>);

impl Places {
    pub(super) fn from_words(words: Vec<u64>) -> Places {
        Places(words)
    }

    pub(crate) fn contains(&self, place: u32) -> bool {
        self.0.get(place as usize / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// Adds a place; false: it was there already.
    pub(crate) fn insert(&mut self, place: u32) -> bool {
        let (word, bit) = (place as usize / 64, 1 << (place % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    /// Takes a place out again.
    pub(super) fn remove(&mut self, place: u32) {
        if let Some(word) = self.0.get_mut(place as usize / 64) {
            *word &= !(1 << (place % 64));
        }
    }

    /// The first place from `from` on, below `end`, that is not in the set.
    pub(super) fn next_absent(&self, from: u32, end: u32) -> Option<u32> {
        let mut place = from;
        while place < end {
            let word = self.0.get(place as usize / 64).copied().unwrap_or(0);
            let absent = !word >> (place % 64);
            if absent != 0 {
                place += absent.trailing_zeros();
                return (place < end).then_some(place);
            }
            place = (place / 64 + 1) * 64;
        }
        None
    }

    /// How many places below `end` are in the set.
    pub(super) fn count(&self, end: u32) -> u32 {
        (0..self.0.len() as u32)
            .map(|index| {
                let below = end.saturating_sub(index * 64).min(64);
                let mask = if below == 64 { u64::MAX } else { (1 << below) - 1 };
                (self.0[index as usize] & mask).count_ones()
            })
            .sum()
    }

    /// The places in the set, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.0).flat_map(|(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The words, without the zeros at the end.
    pub(super) fn words(&self) -> &[u64] {
        let length = self.0.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        &self.0[..length]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn it_agrees_with_a_plain_set(members: BTreeSet<u8>, from: u8, end: u8) -> bool {
            let mut places = Places::default();
            members.iter().for_each(|place| assert!(places.insert(u32::from(*place))));
            members.iter().for_each(|place| assert!(!places.insert(u32::from(*place))));
            let (from, end) = (u32::from(from), u32::from(end));
            let absent = |place: &u32| !members.iter().any(|member| u32::from(*member) == *place);
            (0..256).all(|place| places.contains(place) != absent(&place))
                && places.next_absent(from, end) == (from..end).find(absent)
                && places.count(end) == (0..end).filter(|place| !absent(place)).count() as u32
                && places.words().last() != Some(&0)
                && places.iter().eq(members.iter().map(|place| u32::from(*place)))
                && places.is_empty() == members.is_empty()
                && members.iter().all(|place| {
                    places.remove(u32::from(*place));
                    !places.contains(u32::from(*place))
                })
                && places.is_empty()
        }
    }
}
