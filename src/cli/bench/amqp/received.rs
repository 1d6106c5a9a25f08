//! What consumers have received, and what was wrong with it.

use std::collections::HashMap;

use super::stamp::{Publisher, Route, Stamp};
use super::topology::QueueNumber;

/// Numbers that are further ahead than this of all that were seen have not been published.
const FAR: u64 = 1 << 26;

/// The messages of one publisher that came to one queue by one route. Their numbers have no gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub(super) queue: QueueNumber,
    pub(super) publisher: Publisher,
    pub(super) route: Route,
}

/// What one consumer has received, or all of them.
#[derive(Debug, Default)]
pub(super) struct Received {
    streams: Vec<Seen>,
    places: HashMap<Stream, usize>,
    /// The stream that the last message belonged to: most often the next one does, too.
    last: Option<(Stream, usize)>,
    pub(super) faults: Faults,
}

/// Messages that were not as they have to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Accepted, and never delivered.
    pub(super) lost: u64,
    /// Delivered more than once without being marked as redelivered.
    pub(super) doubled: u64,
    /// Delivered to a consumer after a later one of the same publisher and queue.
    pub(super) reordered: u64,
    /// Not the bytes that were published.
    pub(super) altered: u64,
}

/// The numbers of a stream that were seen.
#[derive(Debug, Default)]
struct Seen {
    bits: Vec<u64>,
    /// One more than the largest.
    next: u64,
}

impl Received {
    /// Takes note of a message with a whole stamp; whether it is the first time that it comes.
    pub(super) fn take(&mut self, queue: QueueNumber, stamp: &Stamp, redelivered: bool) -> bool {
        let stream = Stream { queue, publisher: stamp.publisher, route: stamp.route };
        let place = self.place(stream);
        let Some(seen) = self.streams.get_mut(place) else { return false };
        let number = stamp.number;
        if number >= seen.next + FAR {
            self.faults.altered += 1;
            return false;
        }
        let is_new = seen.insert(number);
        if !is_new && !redelivered {
            self.faults.doubled += 1;
        }
        if number >= seen.next {
            seen.next = number + 1;
        } else if is_new && !redelivered {
            self.faults.reordered += 1;
        }
        is_new
    }

    fn place(&mut self, stream: Stream) -> usize {
        if let Some((_, place)) = self.last.filter(|(last, _)| *last == stream) {
            return place;
        }
        let place = *self.places.entry(stream).or_insert_with(|| {
            self.streams.push(Seen::default());
            self.streams.len() - 1
        });
        self.last = Some((stream, place));
        place
    }

    /// Takes over what another consumer has received.
    pub(super) fn add(&mut self, other: &Received) {
        self.faults.doubled += other.faults.doubled;
        self.faults.reordered += other.faults.reordered;
        self.faults.altered += other.faults.altered;
        for (stream, place) in &other.places {
            let Some(theirs) = other.streams.get(*place) else { continue };
            let place = self.place(*stream);
            if let Some(ours) = self.streams.get_mut(place) {
                self.faults.doubled += ours.add(theirs);
            }
        }
    }

    /// How many of the first `count` of a stream were not received.
    pub(super) fn missing(&self, stream: &Stream, count: u64) -> u64 {
        let seen = self.places.get(stream).and_then(|place| self.streams.get(*place));
        count - seen.map_or(0, |seen| seen.below(count))
    }
}

impl Seen {
    /// Whether it is new.
    fn insert(&mut self, number: u64) -> bool {
        let word = (number / 64) as usize;
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        let Some(word) = self.bits.get_mut(word) else { return false };
        let bit = 1 << (number % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Takes over those of another; how many both had.
    fn add(&mut self, other: &Seen) -> u64 {
        if self.bits.len() < other.bits.len() {
            self.bits.resize(other.bits.len(), 0);
        }
        let mut both = 0;
        for (ours, theirs) in self.bits.iter_mut().zip(&other.bits) {
            both += u64::from((*ours & theirs).count_ones());
            *ours |= theirs;
        }
        self.next = self.next.max(other.next);
        both
    }

    /// How many below `count` there are.
    fn below(&self, count: u64) -> u64 {
        let whole = (count / 64) as usize;
        let full: u64 = self.bits.iter().take(whole).map(|word| u64::from(word.count_ones())).sum();
        let last = self.bits.get(whole).copied().unwrap_or_default() & ((1 << (count % 64)) - 1);
        full + u64::from(last.count_ones())
    }
}

impl Faults {
    /// In words, what there is of it.
    pub(super) fn words(&self) -> Vec<String> {
        let Faults { lost, doubled, reordered, altered } = *self;
        [
            (lost, "accepted by the broker and not delivered"),
            (doubled, "delivered again without being marked as redelivered"),
            (reordered, "delivered after a later one of the same publisher and queue"),
            (altered, "delivered with other bytes than were published"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| {
            let messages = if count == 1 { "message was" } else { "messages were" };
            format!("{} {messages} {what}", crate::cli::text::count(count))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::stamp::RunId;
    use super::*;

    const STREAM: Stream =
        Stream { queue: QueueNumber(5), publisher: Publisher(1), route: Route(2) };

    fn take(received: &mut Received, number: u64, redelivered: bool) {
        let stamp = Stamp {
            run: RunId(1),
            publisher: STREAM.publisher,
            route: STREAM.route,
            number,
            due: Duration::ZERO,
        };
        received.take(STREAM.queue, &stamp, redelivered);
    }

    fn received(numbers: impl IntoIterator<Item = u64>) -> Received {
        let mut received = Received::default();
        numbers.into_iter().for_each(|number| take(&mut received, number, false));
        received
    }

    #[test]
    fn everything_once_and_in_order_is_as_it_has_to_be() {
        let received = received(0..1000);
        assert_eq!(received.faults, Faults::default());
        assert_eq!(received.missing(&STREAM, 1000), 0);
        assert_eq!(received.missing(&STREAM, 1001), 1);
        let other = Stream { queue: QueueNumber(6), ..STREAM };
        assert_eq!(received.missing(&other, 10), 10);
    }

    #[test]
    fn what_is_wrong_is_counted_as_what_it_is() {
        let mut received = received([0, 1, 3, 2, 2, 70, 69, u64::MAX - FAR]);
        let faults = Faults { doubled: 1, reordered: 2, altered: 1, lost: 0 };
        assert_eq!(received.faults, faults);
        assert_eq!(received.missing(&STREAM, 71), 65);
        take(&mut received, 70, true);
        take(&mut received, 68, true);
        assert_eq!(received.faults, faults, "what is marked as redelivered may come again");
    }

    #[test]
    fn consumers_of_one_queue_see_it_together() {
        let mut all = received((0..200).step_by(2));
        all.add(&received((1..200).step_by(2)));
        assert_eq!((all.faults, all.missing(&STREAM, 200)), (Faults::default(), 0));
        all.add(&received([7, 500]));
        assert_eq!(all.faults.doubled, 1);
        assert_eq!(all.missing(&STREAM, 501), 300);
    }

    #[test]
    fn faults_are_told_in_words() {
        assert!(Faults::default().words().is_empty());
        let words = Faults { lost: 1, altered: 2000, ..Faults::default() }.words();
        assert_eq!(
            words,
            [
                "1 message was accepted by the broker and not delivered",
                "2,000 messages were delivered with other bytes than were published"
            ]
        );
    }
}
