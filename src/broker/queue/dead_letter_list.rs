//! The list of a queue's dead letters, in the order in which they died.
//!
//! The first are entries of their own, with their messages. Those behind are runs of consecutive
//! sequence numbers, because a queue whose target is full for days can have very many.

use std::collections::VecDeque;

use crate::broker::dead_letters::Death;
use crate::storage::{Message, Sequence};

/// Dead letters that are entries of their own.
const KEPT: usize = 512;

/// How many dead letters of a queue may be held, with at-least-once, before those behind wait for
/// them.
pub(in crate::broker) const WINDOW: usize = 32;

/// A message on its way to the dead-letter exchange.
#[derive(Debug)]
pub(in crate::broker) struct Leaving {
    pub(in crate::broker) sequence: Sequence,
    pub(in crate::broker) death: Death,
    /// `None`: to be read back.
    pub(in crate::broker) message: Option<Message>,
}

/// Dead letters with consecutive sequence numbers and the same reason.
#[derive(Debug)]
struct Run {
    first: Sequence,
    last: Sequence,
    death: Death,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct DeadLetterList {
    front: VecDeque<Leaving>,
    runs: VecDeque<Run>,
    /// Length of all runs.
    behind: usize,
    /// So many of the first have been tried in vain, and wait for another try.
    held: usize,
    /// Bytes of the bodies of all, including those that have been taken and have not arrived.
    bytes: u64,
}

impl DeadLetterList {
    pub(super) fn len(&self) -> usize {
        self.front.len() + self.behind
    }

    /// How many have been tried in vain, and wait for another try.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// How many can be taken.
    pub(super) fn untried(&self) -> usize {
        if self.held < WINDOW { self.len() - self.held } else { 0 }
    }

    /// Adds a dead letter with a body of so many bytes behind the others.
    pub(super) fn push(&mut self, leaving: Leaving, body: usize) {
        self.bytes += body as u64;
        if self.runs.is_empty() && self.front.len() < KEPT {
            return self.front.push_back(leaving);
        }
        let Leaving { sequence, death, .. } = leaving;
        self.behind += 1;
        match self.runs.back_mut() {
            Some(run) if run.death == death && run.last.next() == sequence => run.last = sequence,
            _ => self.runs.push_back(Run { first: sequence, last: sequence, death }),
        }
    }

    /// Bytes of the bodies of all, including those that have been taken and have not
    /// [arrived](Self::arrived).
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes that dead letters with so many bytes of bodies have arrived.
    pub(super) fn arrived(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Takes the first dead letters that have not been tried, `most` of them at most.
    pub(super) fn take(&mut self, most: usize) -> Vec<Leaving> {
        let count = most.min(self.untried());
        while self.front.len() < self.held + count
            && let Some(run) = self.runs.front_mut()
        {
            let (sequence, death) = (run.first, run.death);
            if run.first == run.last {
                self.runs.pop_front();
            } else {
                run.first = run.first.next();
            }
            self.behind -= 1;
            self.front.push_back(Leaving { sequence, death, message: None });
        }
        self.front.drain(self.held..self.held + count).collect()
    }

    /// Returns the dead letters that have not been tried, or `None` if there are more than `most`.
    pub(super) fn few_untried(
        &mut self,
        most: usize,
    ) -> Option<impl Iterator<Item = &mut Leaving>> {
        // Where there are so few, all are entries of their own, unless others are held.
        let few = self.runs.is_empty() && self.untried() <= most;
        let (held, untried) = (self.held, self.untried());
        few.then(|| self.front.iter_mut().skip(held).take(untried))
    }

    /// Puts dead letters back that were taken: they are the first to be tried.
    pub(super) fn put_back(&mut self, leaving: Vec<Leaving>) {
        for (place, leaving) in (self.held..).zip(leaving) {
            self.front.insert(place, leaving);
        }
    }

    /// Puts dead letters back that were tried in vain. Their messages do not stay in memory.
    pub(super) fn hold(&mut self, leaving: Vec<Leaving>) {
        for leaving in leaving {
            self.front.insert(self.held, Leaving { message: None, ..leaving });
            self.held += 1;
        }
    }

    /// Has held dead letters tried again.
    pub(super) fn release(&mut self) {
        self.held = 0;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(list: &mut DeadLetterList, place: u64, death: Death) {
        list.push(Leaving { sequence: Sequence::new(place), death, message: None }, 1);
    }

    fn places(leaving: &[Leaving]) -> Vec<u64> {
        leaving.iter().map(|leaving| leaving.sequence.get()).collect()
    }

    #[test]
    fn dead_letters_are_taken_in_order_and_many_of_them_are_few_runs() {
        let mut list = DeadLetterList::default();
        for place in 1..=2000 {
            let death = if place < 1500 { Death::Rejected } else { Death::Expired };
            push(&mut list, place, death);
        }
        push(&mut list, 3000, Death::Expired);
        assert_eq!((list.len(), list.runs.len()), (2001, 3));
        assert!(list.few_untried(5000).is_none());
        let mut taken = Vec::new();
        while list.untried() > 0 {
            let some = list.take(300);
            assert!(some.len() <= 300);
            taken.extend(some);
        }
        let expected: Vec<u64> = (1..=2000).chain([3000]).collect();
        assert_eq!(places(&taken), expected);
        assert!(taken.iter().all(|leaving| {
            let rejected = leaving.sequence.get() < 1500;
            (leaving.death == Death::Rejected) == rejected
        }));
        assert_eq!((list.len(), list.bytes()), (0, 2001));
        list.arrived(2001);
        assert_eq!(list.bytes(), 0);
    }

    #[test]
    fn held_dead_letters_wait_in_front_until_they_are_released() {
        let mut list = DeadLetterList::default();
        (1..=6).for_each(|place| push(&mut list, place, Death::Rejected));
        let mut taken = list.take(4);
        let rest = taken.split_off(3);
        taken.remove(1);
        list.hold(taken);
        list.put_back(rest);
        assert_eq!((list.held(), list.untried(), list.len()), (2, 3, 5));
        assert_eq!(list.few_untried(3).unwrap().count(), 3);
        assert_eq!(places(&list.take(9)), [4, 5, 6]);
        list.release();
        assert_eq!(places(&list.take(9)), [1, 3]);
    }

    #[test]
    fn no_dead_letters_are_tried_behind_a_full_window_of_held_ones() {
        let mut list = DeadLetterList::default();
        (1..=100).for_each(|place| push(&mut list, place, Death::Rejected));
        let taken = list.take(WINDOW);
        list.hold(taken);
        assert_eq!((list.untried(), list.len()), (0, 100));
        assert!(list.take(1).is_empty());
        list.release();
        assert_eq!(list.take(100).len(), 100);
    }
}
