//! Keeping the accounts of a log with holes: which places of queues nothing was found for.
//!
//! A queue's messages come in the order of their places, so the first one behind a hole shows which places were skipped.
//! A skipped place is taken off the list again when a copy of its message is found, or when it turns out to have been a
//! transient message's.

use std::collections::{BTreeMap, HashSet};

use crate::storage::record::Reference;
use crate::storage::units::{QueueId, Sequence, SequenceRange};

/// The number of a hole, in the order of the log.
pub(super) type HoleIndex = usize;

/// What is missing of queues, and in which hole it went.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// The newest hole, and the queues that have had a message since what cannot be read of it.
    waiting: Option<(HoleIndex, HashSet<QueueId>)>,
    /// Runs of places that no record was found for: from the first to the last one, and the hole.
    missing: BTreeMap<(QueueId, Sequence), (Sequence, HoleIndex)>,
    /// Places of transient messages that no later message of their queue has passed yet.
    transient: BTreeMap<QueueId, Vec<SequenceRange>>,
    /// What damaged records seem to have been.
    claims: Vec<(HoleIndex, Reference)>,
}

impl Accounts {
    /// Something cannot be read here: what is skipped from here on went into this hole.
    pub(super) fn hole(&mut self, hole: HoleIndex) {
        self.waiting = Some((hole, HashSet::new()));
    }

    /// The hole that what is missing now went into.
    pub(super) fn newest_hole(&self) -> Option<HoleIndex> {
        self.waiting.as_ref().map(|(hole, _)| *hole)
    }

    /// A message was found for a queue whose next place was `next` before.
    pub(super) fn message(&mut self, reference: Reference, next: Sequence) {
        let Reference { queue, sequence } = reference;
        if sequence < next {
            return;
        }
        let transient = self.transient.remove(&queue).unwrap_or_default();
        let Some((hole, seen)) = &mut self.waiting else { return };
        if !seen.insert(queue) {
            return;
        }
        let hole = *hole;
        self.skip(queue, (next, sequence), hole, &transient);
    }

    /// A move was found of a message whose earlier records went into a hole, and whose queue's next place was `next` before.
    /// Moves are not in the order of places, so only the places in front of this one are known to be skipped: the next
    /// message of the queue still shows what is missing behind it.
    pub(super) fn moved(&mut self, reference: Reference, next: Sequence) {
        let Reference { queue, sequence } = reference;
        let Some((hole, seen)) = &self.waiting else { return };
        if sequence < next || seen.contains(&queue) {
            return;
        }
        let hole = *hole;
        let transient = self.transient.remove(&queue).unwrap_or_default();
        self.skip(queue, (next, sequence), hole, &transient);
        let behind = transient.into_iter().filter(|known| known.last > sequence);
        let behind: Vec<SequenceRange> = behind.collect();
        if !behind.is_empty() {
            self.transient.insert(queue, behind);
        }
    }

    /// Notes that places up to `end` went into a hole, but for those of transient messages.
    fn skip(
        &mut self,
        queue: QueueId,
        (mut first, end): (Sequence, Sequence),
        hole: HoleIndex,
        transient: &[SequenceRange],
    ) {
        for known in transient.iter().filter(|known| known.last < end) {
            insert(&mut self.missing, queue, first, known.first, hole);
            first = first.max(known.last.next());
        }
        insert(&mut self.missing, queue, first, end, hole);
    }

    /// A place turned out to be a transient message's: it was not meant to survive.
    pub(super) fn transient(&mut self, reference: Reference, next: Sequence) {
        let Reference { queue, sequence } = reference;
        if sequence < next {
            self.take(reference);
            return;
        }
        let ranges = self.transient.entry(queue).or_default();
        match ranges.last_mut() {
            Some(last) if last.last.next() == sequence => last.last = sequence,
            Some(last) if last.last < sequence => ranges.push(SequenceRange::one(sequence)),
            None => ranges.push(SequenceRange::one(sequence)),
            // It went to the log long after others behind it.
            Some(_) => {
                let at = ranges.partition_point(|range| range.last < sequence);
                if ranges[at].first > sequence {
                    ranges.insert(at, SequenceRange::one(sequence));
                }
            }
        }
    }

    /// Takes a place off the list of what is missing; false: it was not on it.
    pub(super) fn take(&mut self, reference: Reference) -> bool {
        let Reference { queue, sequence } = reference;
        let before = self.missing.range((queue, Sequence(0))..=(queue, sequence)).next_back();
        let Some((&(_, first), &(last, hole))) = before.filter(|(_, (last, _))| *last >= sequence)
        else {
            return false;
        };
        self.missing.remove(&(queue, first));
        insert(&mut self.missing, queue, first, sequence, hole);
        insert(&mut self.missing, queue, sequence.next(), last.next(), hole);
        true
    }

    /// A damaged record in a hole seems to have been a message with this place. It is believed only where nothing else is
    /// found to be in that place, nor behind it.
    pub(super) fn claim(&mut self, hole: HoleIndex, reference: Reference) {
        self.claims.push((hole, reference));
    }

    /// The missing places of each hole, by queue and place. `next`: the place that a queue's next message gets now.
    pub(super) fn settle(
        mut self,
        next: impl Fn(QueueId) -> Option<Sequence>,
    ) -> Vec<(HoleIndex, QueueId, SequenceRange)> {
        for (hole, Reference { queue, sequence }) in std::mem::take(&mut self.claims) {
            if next(queue).is_some_and(|next| next <= sequence) {
                self.missing.entry((queue, sequence)).or_insert((sequence, hole));
            }
        }
        let missing = self.missing.into_iter();
        missing
            .map(|((queue, first), (last, hole))| (hole, queue, SequenceRange { first, last }))
            .collect()
    }
}

/// Adds the places from `first` up to `end`, which is not among them.
fn insert(
    missing: &mut BTreeMap<(QueueId, Sequence), (Sequence, HoleIndex)>,
    queue: QueueId,
    first: Sequence,
    end: Sequence,
    hole: HoleIndex,
) {
    if let Some(last) = end.previous().filter(|last| first <= *last) {
        missing.insert((queue, first), (last, hole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(1);

    fn at(place: u64) -> Reference {
        Reference { queue: QUEUE, sequence: Sequence(place) }
    }

    fn missing(accounts: Accounts, next: u64) -> Vec<(HoleIndex, u64, u64)> {
        let settled = accounts.settle(|_| Some(Sequence(next)));
        settled.iter().map(|(hole, _, places)| (*hole, places.first.0, places.last.0)).collect()
    }

    #[test]
    fn only_the_first_message_behind_a_hole_shows_what_is_missing() {
        let mut accounts = Accounts::default();
        accounts.message(at(3), Sequence(1));
        accounts.hole(0);
        accounts.message(at(9), Sequence(4));
        accounts.message(at(12), Sequence(10));
        accounts.hole(1);
        accounts.message(at(13), Sequence(13));
        accounts.message(at(20), Sequence(14));
        assert_eq!(missing(accounts, 21), [(0, 4, 8)]);
    }

    #[test]
    fn a_move_does_not_hide_what_the_next_message_shows_to_be_missing() {
        let mut accounts = Accounts::default();
        accounts.transient(at(6), Sequence(4));
        accounts.transient(at(12), Sequence(4));
        accounts.hole(0);
        accounts.moved(at(8), Sequence(4));
        accounts.moved(at(10), Sequence(9));
        accounts.message(at(20), Sequence(11));
        accounts.moved(at(30), Sequence(21));
        assert!(accounts.take(at(15)));
        let expected = [(0, 4, 5), (0, 7, 7), (0, 9, 9), (0, 11, 11), (0, 13, 14), (0, 16, 19)];
        assert_eq!(missing(accounts, 31), expected);
    }

    #[test]
    fn what_is_found_and_what_was_transient_is_not_missing() {
        let mut accounts = Accounts::default();
        for place in [5, 8, 9, 6, 30] {
            accounts.transient(at(place), Sequence(4));
        }
        accounts.hole(0);
        accounts.message(at(20), Sequence(4));
        assert!(accounts.take(at(15)));
        assert!(!accounts.take(at(15)));
        assert!(!accounts.take(at(8)));
        assert!(!accounts.take(at(20)));
        accounts.transient(at(19), Sequence(21));
        assert_eq!(missing(accounts, 21), [(0, 4, 4), (0, 7, 7), (0, 10, 14), (0, 16, 18)]);
    }

    #[test]
    fn a_claim_counts_once_and_only_at_the_end_of_a_queue() {
        let mut accounts = Accounts::default();
        accounts.hole(0);
        for place in [5, 8, 8] {
            accounts.claim(0, at(place));
        }
        assert_eq!(missing(accounts, 7), [(0, 8, 8)]);
    }
}
