//! Which of a queue's messages are ready, in which order, and which of them have been fetched.

use std::collections::{BTreeSet, VecDeque};

use smallvec::{SmallVec, smallvec};

use super::levels::{Levels, Rank, Ranks};
use crate::storage::{self, Fetch, Fetched, Sequence, SequenceRange};

/// Messages fetched at a time, at most. As long as half of one read from the disk takes to be handed out, the next read can
/// take without anybody noticing.
const BATCH: usize = 512;
/// When fewer batches than this are in memory behind those fetched, more is read: by the time that they are needed a read of the
/// usual size is over.
const AHEAD: usize = 8;
/// Bytes fetched at a time, roughly: judged by the queue's average.
const BATCH_BYTES: u64 = 256 << 10;

/// The messages of a queue that nobody holds: those returned, those fetched ahead, and everything behind.
///
/// A message's sequence is its place for ever, so that a returned message is simply served before all
/// that are behind it. In a queue with priorities the order of places is still that of delivery (see [`Levels`]), but what comes later
/// may belong in front of what has been fetched: so there is a frontier for each rank, and before a message is handed out
/// ranks above its own that have something behind their frontiers are looked at.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Ready messages in order, fetched already. The engine may have given up its copy of their bodies.
    fetched: VecDeque<Fetched>,
    /// Returned by those who held them, or given up, and not fetched again yet. All below the frontier of their rank.
    returned: BTreeSet<Sequence>,
    /// By rank: nothing from here on has ever been fetched. A queue without priorities has one rank.
    frontiers: SmallVec<[Sequence; 1]>,
    /// Ranks of a queue with priorities that may have something behind their frontiers.
    unseen: Ranks,
    /// When only this many fetched messages are left, more are fetched ahead: half of a batch.
    low: usize,
    /// What was behind the frontiers when they were last looked at.
    behind: Behind,
    /// Room for `fetch` to put messages into.
    batch: Vec<Fetched>,
}

/// Messages that were ready, taken out of a backlog. Each of the lists is in ascending order.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) returned: BTreeSet<Sequence>,
    pub(super) fetched: VecDeque<Fetched>,
    /// The places behind the frontiers.
    pub(super) behind: VecDeque<SequenceRange>,
}

/// What is known of the messages behind the frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Nothing,
    InMemory,
    OnDisk,
}

/// Whether there is a message to hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    /// [`Backlog::pop`] will give one.
    Ready,
    /// Nothing is ready.
    Empty,
    /// The next one is on disk, from this place on.
    OnDisk(Sequence),
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            fetched: VecDeque::new(),
            returned: BTreeSet::new(),
            frontiers: smallvec![Sequence::FIRST],
            unseen: Ranks::default(),
            low: 0,
            behind: Behind::Nothing,
            batch: Vec::new(),
        }
    }
}

impl Backlog {
    /// Sees to it that the next message in order has been fetched, if there is one.
    pub(super) fn supply(&mut self, queue: &Levels) -> Supply {
        self.supply_up_to(queue, BATCH)
    }

    fn supply_up_to(&mut self, queue: &Levels, most: usize) -> Supply {
        loop {
            if self.is_overtaken(queue) {
                match self.fetch_new(queue, most) {
                    Supply::Empty => continue,
                    supply => return supply,
                }
            }
            match (self.returned.first().copied(), self.fetched.front()) {
                (Some(first), Some(front)) if front.sequence < first => return Supply::Ready,
                (None, Some(_)) => return Supply::Ready,
                (Some(first), _) => {
                    if let Some(supply) = self.fetch_returned(queue, first) {
                        return supply;
                    }
                }
                (None, None) => return self.fetch_new(queue, most),
            }
        }
    }

    /// Whether a rank that comes before all that is known here may have something behind its frontier.
    fn is_overtaken(&mut self, queue: &Levels) -> bool {
        if !queue.is_ranked() {
            return false;
        }
        self.learn(queue);
        let Some(rank) = self.unseen.first() else { return false };
        let fetched = self.fetched.front().map(|message| message.sequence);
        let known = self.returned.first().copied().into_iter().chain(fetched).min();
        known.is_none_or(|place| rank < Rank::of(place))
    }

    /// Takes note of what has come to a queue with priorities.
    fn learn(&mut self, queue: &Levels) {
        if self.frontiers.len() < queue.count() {
            self.frontiers = queue.firsts().collect();
            self.unseen = Ranks::first_of(queue.count());
        }
        queue.take_news(&mut self.unseen);
    }

    /// The rank that has the next messages behind its frontier.
    fn next_rank(&self) -> Rank {
        self.unseen.first().unwrap_or_default()
    }

    fn frontier(&self) -> Sequence {
        self.frontiers[self.next_rank().index()]
    }

    /// Fetches the run of returned messages that begins with `first`. `None` when the caller has to look again.
    fn fetch_returned(&mut self, queue: &Levels, first: Sequence) -> Option<Supply> {
        // Only as far as they follow each other: what lies between is held by somebody.
        let mut last = first;
        let mut length = 1;
        let limit = batch_size(queue.level(first));
        for &next in self.returned.range(first.next()..) {
            if length == limit || next != last.next() {
                break;
            }
            last = next;
            length += 1;
        }
        let outcome = queue.fetch(first, length, &mut self.batch);
        let on_disk = outcome == Fetch::NeedsLoad;
        let reached = match outcome {
            Fetch::Complete => Some(last),
            Fetch::Partial | Fetch::NeedsLoad => self.batch.last().map(|message| message.sequence),
        };
        // What the fetch passed over and did not bring exists no more: the engine set it aside as damaged.
        if let Some(reached) = reached {
            while let Some(&sequence) = self.returned.first()
                && sequence <= reached
            {
                self.returned.pop_first();
            }
        }
        // Beyond the run are messages that somebody holds, or that the frontier will come to.
        self.batch.retain(|message| message.sequence <= last);
        let found = !self.batch.is_empty();
        for message in self.batch.drain(..).rev() {
            self.fetched.push_front(message);
        }
        if found {
            Some(Supply::Ready)
        } else if on_disk {
            Some(Supply::OnDisk(first))
        } else {
            None
        }
    }

    /// The same for somebody who wants to look at the next message, and will not hand out others: no more is fetched than that.
    pub(super) fn peek(&mut self, queue: &Levels) -> Supply {
        let most = if self.is_empty() { 1 } else { BATCH };
        self.supply_up_to(queue, most)
    }

    /// Takes the next message in order if it is one that was returned and has not been fetched again: its place is known then.
    pub(super) fn pop_returned(&mut self, queue: &Levels) -> Option<Sequence> {
        let first = *self.returned.first()?;
        let is_next = self.fetched.front().is_none_or(|front| first < front.sequence);
        if is_next && !self.is_overtaken(queue) { self.returned.pop_first() } else { None }
    }

    /// The next message in order, when it has been fetched.
    pub(super) fn front(&self) -> Option<&Fetched> {
        self.fetched.front()
    }

    /// Fetches `most` messages at most from behind the frontier of the rank that is next.
    fn fetch_new(&mut self, queue: &Levels, most: usize) -> Supply {
        let rank = self.next_rank();
        let frontier = self.frontier();
        let limit = batch_size(queue.level(frontier)).min(most);
        let outcome = queue.fetch(frontier, limit, &mut self.batch);
        self.low = limit / 2;
        self.behind = match outcome {
            Fetch::NeedsLoad | Fetch::Partial => Behind::OnDisk,
            Fetch::Complete if self.batch.len() < limit => {
                self.unseen.remove(rank);
                if self.unseen.is_empty() { Behind::Nothing } else { Behind::InMemory }
            }
            Fetch::Complete => Behind::InMemory,
        };
        if let Some(last) = self.batch.last() {
            self.frontiers[rank.index()] = last.sequence.next();
            self.take_in();
            return Supply::Ready;
        }
        match outcome {
            Fetch::NeedsLoad => Supply::OnDisk(frontier),
            Fetch::Complete | Fetch::Partial => Supply::Empty,
        }
    }

    /// Puts a batch that was fetched where it belongs among what was fetched before.
    fn take_in(&mut self) {
        let Some(first) = self.batch.first() else { return };
        if self.fetched.back().is_none_or(|last| last.sequence < first.sequence) {
            self.fetched.extend(self.batch.drain(..));
            return;
        }
        let place = self.fetched.partition_point(|other| other.sequence < first.sequence);
        let behind = self.fetched.split_off(place);
        self.fetched.extend(self.batch.drain(..));
        self.give_up(behind);
    }

    /// Messages that others have overtaken stay fetched if they are not too many: each rank could have its own otherwise.
    fn give_up(&mut self, overtaken: VecDeque<Fetched>) {
        let mut bytes: u64 = 0;
        for message in overtaken {
            if self.fetched.len() < 2 * BATCH && bytes < BATCH_BYTES {
                bytes += message.message.size() as u64;
                self.fetched.push_back(message);
            } else {
                self.returned.insert(message.sequence);
            }
        }
    }

    /// Fetches more when half of what was fetched has been handed out: a place from which messages have to be read
    /// from the disk meanwhile, if there is one. At most one batch and a half are ever fetched ahead, and some more are in
    /// memory behind them.
    ///
    /// A queue that is emptied as fast as it is filled has nothing behind the frontier, and pays nothing here.
    pub(super) fn read_ahead(&mut self, queue: &Levels) -> Option<Sequence> {
        if self.behind == Behind::Nothing || self.fetched.len() > self.low {
            return None;
        }
        self.fetch_new(queue, BATCH);
        let frontier = self.frontier();
        let lacks = match self.behind {
            Behind::Nothing => false,
            Behind::InMemory => {
                !queue.is_loaded(frontier, AHEAD * batch_size(queue.level(frontier)))
            }
            Behind::OnDisk => true,
        };
        lacks.then_some(frontier)
    }

    /// The next message in order, after [`Backlog::supply`] said that it is ready.
    pub(super) fn pop(&mut self) -> Option<Fetched> {
        self.fetched.pop_front()
    }

    /// The messages that have been fetched, and how many of them are next in order, after [`Backlog::supply`] said that the
    /// next one is ready.
    pub(super) fn run(&mut self) -> (&mut VecDeque<Fetched>, usize) {
        let run = match self.returned.first() {
            None => self.fetched.len(),
            Some(first) => self.fetched.partition_point(|message| message.sequence < *first),
        };
        let run = match self.unseen.first() {
            None => run,
            Some(rank) => run.min(self.fetched.partition_point(|m| Rank::of(m.sequence) <= rank)),
        };
        (&mut self.fetched, run)
    }

    /// Puts messages back into their places.
    pub(super) fn put_back(&mut self, sequences: impl IntoIterator<Item = Sequence>) {
        self.returned.extend(sequences);
    }

    /// Puts a message back into its place that never left the broker, so that it need not be fetched again.
    pub(super) fn put_back_fetched(&mut self, message: Fetched) {
        let place = self.fetched.partition_point(|other| other.sequence < message.sequence);
        self.fetched.insert(place, message);
    }

    /// Whether the message in that place, which is live, is held by nobody.
    pub(super) fn is_ready(&mut self, queue: &Levels, place: Sequence) -> bool {
        self.learn(queue);
        let rank = if queue.is_ranked() { Rank::of(place).index() } else { 0 };
        self.frontiers.get(rank).is_some_and(|frontier| place >= *frontier)
            || self.returned.contains(&place)
            || self.fetched.binary_search_by_key(&place, |message| message.sequence).is_ok()
    }

    /// Takes out all ready messages.
    pub(super) fn take_ready(&mut self, queue: &Levels) -> Ready {
        self.learn(queue);
        let mut behind = VecDeque::new();
        for (frontier, end) in self.frontiers.iter_mut().zip(queue.ends()) {
            if *frontier < end {
                let last = Sequence::new(end.get() - 1);
                behind.push_back(SequenceRange { first: *frontier, last });
                *frontier = end;
            }
        }
        let (returned, fetched) =
            (std::mem::take(&mut self.returned), std::mem::take(&mut self.fetched));
        Ready { returned, fetched, behind }
    }

    /// Whether no message has been fetched or returned. Where nobody holds one either, a new backlog is as good: it finds
    /// all that are live.
    pub(super) fn is_empty(&self) -> bool {
        self.fetched.is_empty() && self.returned.is_empty()
    }

    /// How many messages have been fetched ahead.
    #[cfg(test)]
    pub(super) fn ahead(&self) -> usize {
        self.fetched.len()
    }

    /// Gives up all memory: the queue is being deleted.
    pub(super) fn clear(&mut self) {
        let (frontiers, unseen) = (std::mem::take(&mut self.frontiers), self.unseen);
        *self = Self { frontiers, unseen, ..Self::default() };
    }
}

/// How many messages to fetch: many small ones or few large ones.
fn batch_size(level: Option<&storage::Queue>) -> usize {
    let average = level.and_then(|level| level.bytes().checked_div(level.len())).unwrap_or(0);
    let fitting = BATCH_BYTES.checked_div(average).unwrap_or(BATCH as u64);
    usize::try_from(fitting).unwrap_or(BATCH).clamp(1, BATCH)
}

/// Adds a sequence behind those in `ranges`, joining it to the last range where it follows it.
pub(super) fn push_sequence(ranges: &mut Vec<SequenceRange>, sequence: Sequence) {
    match ranges.last_mut() {
        Some(range) if range.last.next() == sequence => range.last = sequence,
        _ => ranges.push(SequenceRange { first: sequence, last: sequence }),
    }
}
