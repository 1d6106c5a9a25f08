//! What a queue keeps its messages in: one queue of the engine, or one per priority.
//!
//! # Levels
//! A queue without priorities has one level, and everything here is passed on to it. One that was declared with `x-max-priority` has a
//! level for each priority from 0 on. That of priority 0 is the *base*: its number is the queue's, its attributes are the queue's
//! record. It is created with the queue, and each of the others with the first message of its priority. All go in one record.
//!
//! Invariant: a level is created before a message is appended to it, so its record lies before the message's in the log. A
//! restart that finds the message finds its level, and a confirm of the message vouches for both. A level without messages, which
//! a crash can leave behind, is like one that has been emptied.
//!
//! # Places
//! With one level a message's place is the one that the engine gave it. With more, the highest eight bits of a place are its
//! [`Rank`], 0 for the highest priority, and the others are the engine's. So the order of places is that of delivery: highest
//! priority first, within one by age. The engine would count up to 2^62; 2^56 is what a million messages a second come to in two
//! thousand years. Nobody but this file takes places apart, and two places that follow each other are of the same rank.
//!
//! # News
//! Whoever hands messages out has fetched some of them, and must not ask 256 levels before each whether something more urgent has
//! come. So what is appended to a rank is noted in a set, after it has been appended and before the queue is dispatched.

mod creation;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed};

use parking_lot::Mutex;

use self::creation::Birth;
use crate::storage::{
    self, Acknowledged, Fetch, Fetched, Message, QueueId, Sequence, SequenceRange, Store,
    StoreError,
};

/// How many bits of a place the engine has.
const ENGINE_BITS: u32 = 56;

/// How many ranks there can be, in words of a set.
const WORDS: usize = 4;

/// A priority by its turn: 0 is the highest that the queue has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u8);

impl Rank {
    /// The rank of the message that has that place in a queue.
    pub(super) fn of(place: Sequence) -> Self {
        // Eight bits are left.
        Self((place.get() >> ENGINE_BITS) as u8)
    }

    /// For tables that have an element per rank.
    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    /// The place of the message that has the place `sequence` in its level.
    fn place(self, sequence: Sequence) -> Sequence {
        debug_assert!(sequence.get() >> ENGINE_BITS == 0, "no queue gets so far");
        Sequence::new(u64::from(self.0) << ENGINE_BITS | sequence.get())
    }
}

/// The place in its level of the message that has that place in a queue with priorities.
fn in_level(place: Sequence) -> Sequence {
    Sequence::new(place.get() & ((1 << ENGINE_BITS) - 1))
}

/// Some of a queue's ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ranks([u64; WORDS]);

impl Ranks {
    /// That many, from the first on.
    pub(super) fn first_of(count: usize) -> Self {
        let mut ranks = Self::default();
        (0..=u8::MAX)
            .take(count)
            .for_each(|rank| ranks.0[usize::from(rank / 64)] |= 1 << (rank % 64));
        ranks
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The highest of them.
    pub(super) fn first(&self) -> Option<Rank> {
        let word = self.0.iter().position(|word| *word != 0)?;
        let bit = word as u32 * 64 + self.0[word].trailing_zeros();
        u8::try_from(bit).ok().map(Rank)
    }

    pub(super) fn remove(&mut self, rank: Rank) {
        self.0[rank.index() / 64] &= !(1 << (rank.0 % 64));
    }
}

/// The engine's queues that make up one of the broker's.
pub(super) enum Levels {
    /// That of a queue without priorities.
    One(storage::Queue),
    /// Those of one that has them.
    Ranked(Box<Ranked>),
}

/// Several levels.
pub(super) struct Ranked {
    /// Those of the priorities above 0, the highest first, that have had a message.
    urgent: Box<[OnceLock<storage::Queue>]>,
    /// That of priority 0.
    base: storage::Queue,
    /// How a level is created. Held while one is, so that each is created once.
    birth: Mutex<Birth>,
    /// Ranks that may have got something since somebody last asked.
    news: [AtomicU64; WORDS],
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels").field("base", &self.id()).field("count", &self.count()).finish()
    }
}

/// A queue without priorities.
impl From<storage::Queue> for Levels {
    fn from(base: storage::Queue) -> Self {
        Self::One(base)
    }
}

impl Ranked {
    /// Returns the level of a rank; `None` if it has never had a message.
    fn get(&self, rank: Rank) -> Option<&storage::Queue> {
        match self.urgent.get(rank.index()) {
            Some(level) => level.get(),
            None => Some(&self.base),
        }
    }

    /// Returns the level that has that place.
    fn level(&self, place: Sequence) -> Option<&storage::Queue> {
        self.get(Rank::of(place))
    }

    /// Returns the level of a rank, which is created if need be.
    fn get_or_create(&self, store: &Store, rank: Rank) -> Result<&storage::Queue, StoreError> {
        if let Some(level) = self.get(rank) {
            return Ok(level);
        }
        let birth = self.birth.lock();
        if let Some(level) = self.get(rank) {
            // Another publisher was quicker.
            return Ok(level);
        }
        let priority = self.lowest().0 - rank.0;
        let level = birth.level(store, self.base.id(), priority)?;
        Ok(self.urgent[rank.index()].get_or_init(|| level))
    }

    /// The rank of priority 0: its number is that of the highest priority.
    fn lowest(&self) -> Rank {
        Rank(u8::try_from(self.urgent.len()).unwrap_or(u8::MAX))
    }

    /// The rank of a message: a priority that is too high counts as the highest, none as 0.
    fn rank(&self, priority: Option<u8>) -> Rank {
        Rank(self.lowest().0.saturating_sub(priority.unwrap_or(0)))
    }
}

impl Levels {
    /// All levels that there are, each with its rank, the highest rank first.
    fn all(&self) -> impl Iterator<Item = (Rank, &storage::Queue)> {
        let (base, urgent) = match self {
            Self::One(queue) => (queue, &[][..]),
            Self::Ranked(ranked) => (&ranked.base, &ranked.urgent[..]),
        };
        let urgent = (0..=u8::MAX).zip(urgent);
        let urgent = urgent.filter_map(|(rank, level)| Some((Rank(rank), level.get()?)));
        urgent.chain([(self.lowest(), base)])
    }

    fn lowest(&self) -> Rank {
        match self {
            Self::One(_) => Rank(0),
            Self::Ranked(ranked) => ranked.lowest(),
        }
    }

    /// The queue's number.
    pub(super) fn id(&self) -> QueueId {
        match self {
            Self::One(queue) => queue.id(),
            Self::Ranked(ranked) => ranked.base.id(),
        }
    }

    /// The numbers of all levels that there are.
    pub(super) fn ids(&self) -> impl Iterator<Item = QueueId> {
        self.all().map(|(_, level)| level.id())
    }

    /// How many ranks there are.
    pub(super) fn count(&self) -> usize {
        self.lowest().index() + 1
    }

    /// Whether there is more than one rank.
    pub(super) fn is_ranked(&self) -> bool {
        matches!(self, Self::Ranked(_))
    }

    /// Live messages of all levels.
    pub(super) fn len(&self) -> u64 {
        self.all().map(|(_, level)| level.len()).sum()
    }

    /// One past the place of the newest message of the lowest rank: no message has a place behind it.
    pub(super) fn next_sequence(&self) -> Sequence {
        match self {
            Self::One(queue) => queue.next_sequence(),
            Self::Ranked(ranked) => ranked.lowest().place(ranked.base.next_sequence()),
        }
    }

    /// What a message of that priority is to be appended to: whoever has no priorities does not ask. [`Self::note_arrival`] it then.
    /// Its level is created if need be; the queue must not be deleted meanwhile.
    ///
    /// # Errors
    /// The store's: the level cannot be created.
    pub(super) fn receiver(
        &self,
        store: &Store,
        priority: impl FnOnce() -> Option<u8>,
    ) -> Result<&storage::Queue, StoreError> {
        match self {
            Self::One(queue) => Ok(queue),
            Self::Ranked(ranked) => ranked.get_or_create(store, ranked.rank(priority())),
        }
    }

    /// A message of that priority has been appended. The queue is to be dispatched afterwards.
    pub(super) fn note_arrival(&self, priority: impl FnOnce() -> Option<u8>) {
        if let Self::Ranked(ranked) = self {
            let Rank(rank) = ranked.rank(priority());
            ranked.news[usize::from(rank / 64)].fetch_or(1 << (rank % 64), AcqRel);
        }
    }

    /// Adds the ranks to `ranks` that have been noted since the last time.
    pub(super) fn take_news(&self, ranks: &mut Ranks) {
        let Self::Ranked(ranked) = self else { return };
        for (noted, known) in ranked.news.iter().zip(&mut ranks.0) {
            // Looked at first: nearly always there is nothing in it.
            if noted.load(Relaxed) != 0 {
                *known |= noted.swap(0, AcqRel);
            }
        }
    }

    /// The level that has that place; `None` if it has never had a message.
    pub(super) fn level(&self, place: Sequence) -> Option<&storage::Queue> {
        match self {
            Self::One(queue) => Some(queue),
            Self::Ranked(ranked) => ranked.level(place),
        }
    }

    /// The first place of each rank, the highest first.
    pub(super) fn firsts(&self) -> impl Iterator<Item = Sequence> {
        (0..=u8::MAX).take(self.count()).map(|rank| Rank(rank).place(Sequence::FIRST))
    }

    /// One past the place of the newest message of each rank, the highest first.
    pub(super) fn ends(&self) -> impl Iterator<Item = Sequence> {
        self.firsts().map(|first| {
            let end = self.level(first).map_or(Sequence::FIRST, storage::Queue::next_sequence);
            if self.is_ranked() { Rank::of(first).place(end) } else { end }
        })
    }

    /// [`storage::Queue::fetch`] from the level that has that place, and from no other.
    pub(super) fn fetch(&self, from: Sequence, limit: usize, out: &mut Vec<Fetched>) -> Fetch {
        let ranked = match self {
            Self::One(queue) => return queue.fetch(from, limit, out),
            Self::Ranked(ranked) => ranked,
        };
        let Some(level) = ranked.level(from) else { return Fetch::Complete };
        let begin = out.len();
        let outcome = level.fetch(in_level(from), limit, out);
        for fetched in &mut out[begin..] {
            fetched.sequence = Rank::of(from).place(fetched.sequence);
        }
        outcome
    }

    /// [`storage::Queue::keep`], each in its level.
    pub(super) fn keep(&self, messages: Vec<(Sequence, Message)>) {
        match self {
            Self::One(queue) => queue.keep(messages),
            Self::Ranked(ranked) => {
                for (place, message) in messages {
                    if let Some(level) = ranked.level(place) {
                        level.keep([(in_level(place), message)]);
                    }
                }
            }
        }
    }

    /// [`storage::Queue::is_loaded`] of the level that has that place.
    pub(super) fn is_loaded(&self, from: Sequence, count: usize) -> bool {
        match self {
            Self::One(queue) => queue.is_loaded(from, count),
            Self::Ranked(ranked) => {
                ranked.level(from).is_none_or(|level| level.is_loaded(in_level(from), count))
            }
        }
    }

    /// [`storage::Queue::load`] of the level that has that place. Blocks.
    pub(super) fn load(&self, from: Sequence) -> Result<(), StoreError> {
        match self {
            Self::One(queue) => queue.load(from),
            Self::Ranked(ranked) => {
                ranked.level(from).map_or(Ok(()), |level| level.load(in_level(from)))
            }
        }
    }

    /// [`storage::Queue::load_some`] of the level that has that place. Blocks.
    pub(super) fn load_some(&self, from: Sequence, most: usize) -> Result<(), StoreError> {
        match self {
            Self::One(queue) => queue.load_some(from, most),
            Self::Ranked(ranked) => {
                ranked.level(from).map_or(Ok(()), |level| level.load_some(in_level(from), most))
            }
        }
    }

    /// [`storage::Queue::load_ahead`] of the level that has that place. Blocks.
    pub(super) fn load_ahead(&self, from: Sequence, most: usize) -> Result<bool, StoreError> {
        match self {
            Self::One(queue) => queue.load_ahead(from, most),
            Self::Ranked(ranked) => {
                ranked.level(from).map_or(Ok(false), |level| level.load_ahead(in_level(from), most))
            }
        }
    }

    /// [`storage::Queue::mark_delivered`], in ascending order of place.
    pub(super) fn mark_delivered(&self, delivered: &[(Sequence, u32)]) -> Result<(), StoreError> {
        let ranked = match self {
            Self::One(queue) => return queue.mark_delivered(delivered).map(|_recorded| ()),
            Self::Ranked(ranked) => ranked,
        };
        let mut outcome = Ok(());
        let mut own = Vec::new();
        for group in delivered.chunk_by(|(one, _), (other, _)| Rank::of(*one) == Rank::of(*other)) {
            own.clear();
            own.extend(group.iter().map(|(place, count)| (in_level(*place), *count)));
            if let Some(level) = group.first().and_then(|(place, _)| ranked.level(*place)) {
                outcome = outcome.and(level.mark_delivered(&own).map(|_recorded| ()));
            }
        }
        outcome
    }

    /// [`storage::Queue::acknowledge`], in ascending order of place. It is all durable when the last of it is.
    pub(super) fn acknowledge(&self, ranges: &[SequenceRange]) -> Result<Acknowledged, StoreError> {
        if let Self::One(queue) = self {
            return queue.acknowledge(ranges);
        }
        let mut total = Acknowledged { messages: 0, durable_at: None };
        for (level, ranges) in self.by_level(ranges) {
            let done = level.acknowledge(&ranges)?;
            total.messages += done.messages;
            total.durable_at = total.durable_at.max(done.durable_at);
        }
        Ok(total)
    }

    /// Places in ascending order as the engine has them: each level that has some of them, with those.
    pub(super) fn by_level(
        &self,
        ranges: &[SequenceRange],
    ) -> Vec<(&storage::Queue, Vec<SequenceRange>)> {
        let ranked = match self {
            Self::One(queue) => return vec![(queue, ranges.to_vec())],
            Self::Ranked(ranked) => ranked,
        };
        let own = |range: &SequenceRange| SequenceRange {
            first: in_level(range.first),
            last: in_level(range.last),
        };
        ranges
            .chunk_by(|one, other| Rank::of(one.first) == Rank::of(other.first))
            .filter_map(|group| {
                Some((ranked.level(group[0].first)?, group.iter().map(own).collect()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_places_is_that_of_delivery() {
        let last = Sequence::new((1 << ENGINE_BITS) - 1);
        let places = [Rank(0), Rank(1), Rank(254), Rank(255)]
            .map(|rank| [Sequence::FIRST, Sequence::new(1), last].map(|own| rank.place(own)));
        assert!(places.as_flattened().is_sorted());
        for (rank, of_rank) in [0, 1, 254, 255].into_iter().zip(places) {
            assert_eq!(of_rank.map(Rank::of), [Rank(rank); 3]);
            assert_eq!(of_rank.map(in_level), [Sequence::FIRST, Sequence::new(1), last]);
        }
        // Whoever has one level sees the engine's places.
        assert_eq!(Rank(0).place(Sequence::new(7)), Sequence::new(7));
    }

    #[test]
    fn a_set_of_ranks_gives_them_highest_first() {
        for count in [1, 2, 64, 65, 256] {
            let mut ranks = Ranks::first_of(count);
            let mut found = Vec::new();
            while let Some(rank) = ranks.first() {
                found.push(rank.index());
                ranks.remove(rank);
            }
            assert_eq!(found, (0..count).collect::<Vec<_>>());
            assert!(ranks.is_empty());
        }
    }
}
