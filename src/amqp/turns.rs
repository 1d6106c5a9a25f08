//! A queue that is fair between sources, and between the users of each.
//!
//! Sources take turns, and so do the users of one source. Entries of one user from one source come in their order. The time that an
//! entry waits depends on how many others there are of sources and users, never on how many entries one of them has.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The entries that wait, at most [`Turns::most`] of them.
#[derive(Debug)]
pub(super) struct Turns<S, U, T> {
    lanes: HashMap<S, Lane<U, T>>,
    /// The sources with entries, the next one first.
    order: VecDeque<S>,
    len: usize,
    most: usize,
}

/// The entries of one source.
#[derive(Debug)]
struct Lane<U, T> {
    users: HashMap<U, VecDeque<T>>,
    /// The users with entries, the next one first.
    order: VecDeque<U>,
    len: usize,
}

impl<S: Hash + Eq + Clone, U: Hash + Eq + Clone, T> Turns<S, U, T> {
    /// Returns an empty queue for `most` entries.
    pub(super) fn new(most: usize) -> Self {
        Self { lanes: HashMap::new(), order: VecDeque::new(), len: 0, most }
    }

    /// Adds an entry. Returns the one that has to go for it, if the queue is full: the newest of the user who has most, of the source
    /// that has most. It may be the one that was added.
    pub(super) fn push(&mut self, source: &S, user: U, entry: T) -> Option<T> {
        let lane = self.lanes.entry(source.clone()).or_insert_with(|| {
            self.order.push_back(source.clone());
            Lane { users: HashMap::new(), order: VecDeque::new(), len: 0 }
        });
        let waiting = lane.users.entry(user).or_insert_with_key(|user| {
            lane.order.push_back(user.clone());
            VecDeque::new()
        });
        waiting.push_back(entry);
        lane.len += 1;
        self.len += 1;
        if self.len > self.most { self.evict() } else { None }
    }

    /// Takes the entry whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let source = self.order.pop_front()?;
        let lane = self.lanes.get_mut(&source)?;
        let user = lane.order.pop_front()?;
        let waiting = lane.users.get_mut(&user)?;
        let entry = waiting.pop_front();
        if waiting.is_empty() {
            lane.users.remove(&user);
        } else {
            lane.order.push_back(user);
        }
        lane.len -= 1;
        self.len -= 1;
        if lane.len == 0 {
            self.lanes.remove(&source);
        } else {
            self.order.push_back(source);
        }
        entry
    }

    /// Takes the entries of a user that `due` gives something for, from all sources, with what it gives.
    pub(super) fn take<R>(&mut self, user: &U, due: impl Fn(&T) -> Option<R>) -> Vec<(T, R)> {
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut() {
            let Some(waiting) = lane.users.get_mut(user) else { continue };
            let before = taken.len();
            for entry in std::mem::take(waiting) {
                match due(&entry) {
                    Some(given) => taken.push((entry, given)),
                    None => waiting.push_back(entry),
                }
            }
            lane.len -= taken.len() - before;
            if waiting.is_empty() {
                lane.users.remove(user);
                lane.order.retain(|other| other != user);
            }
        }
        self.len -= taken.len();
        self.lanes.retain(|_, lane| lane.len > 0);
        self.order.retain(|source| self.lanes.contains_key(source));
        taken
    }

    fn evict(&mut self) -> Option<T> {
        let (source, lane) = self.lanes.iter_mut().max_by_key(|(_, lane)| lane.len)?;
        let (user, waiting) = lane.users.iter_mut().max_by_key(|(_, waiting)| waiting.len())?;
        let entry = waiting.pop_back();
        if waiting.is_empty() {
            let user = user.clone();
            lane.users.remove(&user);
            lane.order.retain(|other| *other != user);
        }
        lane.len -= 1;
        self.len -= 1;
        if lane.len == 0 {
            let source = source.clone();
            self.lanes.remove(&source);
            self.order.retain(|other| *other != source);
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(turns: &mut Turns<u8, char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn sources_take_turns_and_users_of_a_source_too() {
        let mut turns = Turns::new(100);
        for n in 0..4 {
            assert_eq!(turns.push(&1, 'a', n), None);
        }
        turns.push(&1, 'b', 10);
        turns.push(&2, 'a', 20);
        turns.push(&2, 'a', 21);
        assert_eq!(drained(&mut turns), [0, 20, 10, 21, 1, 2, 3]);
        assert!(turns.lanes.is_empty() && turns.order.is_empty() && turns.len == 0);
    }

    #[test]
    fn a_full_queue_refuses_those_who_have_most_in_it() {
        let mut turns = Turns::new(4);
        for n in 0..3 {
            turns.push(&1, 'a', n);
        }
        turns.push(&1, 'b', 10);
        assert_eq!(turns.push(&2, 'a', 20), Some(2));
        assert_eq!(turns.push(&1, 'a', 3), Some(3));
        assert_eq!(drained(&mut turns), [0, 20, 10, 1]);
        let mut none = Turns::new(0);
        assert_eq!(none.push(&1, 'a', 7), Some(7));
        assert!(none.lanes.is_empty() && none.order.is_empty());
    }

    #[test]
    fn entries_of_a_user_are_taken_out_of_their_turn_and_the_others_stay() {
        let mut turns = Turns::new(100);
        for n in 0..4 {
            turns.push(&1, 'a', n);
        }
        turns.push(&1, 'b', 10);
        turns.push(&2, 'a', 20);
        assert_eq!(turns.take(&'a', |n| (n % 2 == 0).then_some(())).len(), 3);
        assert_eq!(turns.take(&'c', |_| Some(())), []);
        assert_eq!((turns.len, turns.order.len()), (3, 1));
        assert_eq!(drained(&mut turns), [1, 10, 3]);
    }
}
