//! Whose turn it is among the consumers of a queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::consumer::Consumer;

/// The consumers of a queue, and in which order those that may get a message are served: the
/// highest priority first, within a priority in turn. A consumer that cannot take a message is
/// *parked*, so that a thousand busy consumers do not slow down the idle one.
///
/// Where a queue has a single active consumer, that one alone takes part; the others wait until it goes, whether it can take a
/// message or not.
///
/// A queue may have tens of thousands of consumers, which come and go: none of the operations looks at all of them. One that
/// leaves the turn stays in the list, and is taken out when it comes to the front or half of the list is such.
///
/// Protected by the queue's lock, which is why the consumers' flags are read and written relaxed.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// In the order in which they become active, where a single one is; else in the order in which they came.
    all: BTreeMap<Place, Arc<Consumer>>,
    /// The number of consumers that there ever were.
    arrivals: u64,
    /// Highest priority first. Nearly always there is one.
    classes: Vec<Class>,
    /// The one that is active where the others wait.
    active: Option<Arc<Consumer>>,
}

/// Who takes part, and who comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    /// All consumers.
    All,
    /// A single one: after it the one with the highest priority, of several the one that came first.
    SingleByPriority,
    /// A single one: after it the one that came first.
    SingleByAge,
}

/// A consumer's place among all: its rank, then its number.
type Place = (Reverse<i64>, u64);

fn place(consumer: &Consumer, turns: Turns) -> Place {
    let rank = if turns == Turns::SingleByPriority { consumer.priority() } else { 0 };
    (Reverse(rank), consumer.number.load(Relaxed))
}

#[derive(Debug)]
struct Class {
    priority: i64,
    /// Consumers that have left are not [in turn](Consumer::in_turn).
    turn: VecDeque<Arc<Consumer>>,
    /// The number of consumers in it that have left.
    left: usize,
}

impl Class {
    /// One of them leaves the turn.
    fn leave(&mut self, consumer: &Consumer) {
        consumer.in_turn.store(false, Relaxed);
        self.left += 1;
        if 2 * self.left > self.turn.len() {
            self.turn.retain(|other| other.in_turn.load(Relaxed));
            self.left = 0;
        }
        self.tidy();
    }

    /// Takes out those in front that have left.
    fn tidy(&mut self) {
        while self.left > 0 && self.turn.front().is_some_and(|front| !front.in_turn.load(Relaxed)) {
            self.turn.pop_front();
            self.left -= 1;
        }
    }
}

impl Rotation {
    /// The number of consumers, parked or not.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One of the consumers, parked or not.
    pub(super) fn any(&self) -> Option<&Arc<Consumer>> {
        self.all.values().next()
    }

    /// A new consumer; its turn comes after the others of its priority.
    pub(super) fn add(&mut self, consumer: Arc<Consumer>, turns: Turns) {
        consumer.number.store(self.arrivals, Relaxed);
        self.arrivals += 1;
        if turns == Turns::All {
            self.enqueue(Arc::clone(&consumer));
        } else if self.active.is_none() {
            self.activate(Arc::clone(&consumer));
        }
        self.all.insert(place(&consumer, turns), consumer);
    }

    /// A consumer is going: it gets nothing more, and still counts as one. Where it is active nobody takes its place before it
    /// has been [removed](Self::remove).
    pub(super) fn stop(&mut self, consumer: &Arc<Consumer>) {
        // What is not parked is not put back into a class.
        consumer.parked.store(false, Relaxed);
        if !consumer.in_turn.load(Relaxed) {
            return;
        }
        let priority = consumer.priority();
        let at = self.classes.partition_point(|class| class.priority > priority);
        if let Some(class) = self.classes.get_mut(at) {
            class.leave(consumer);
            if class.turn.is_empty() {
                self.classes.remove(at);
            }
        }
    }

    /// Removes a consumer for good. Whether it was there.
    pub(super) fn remove(&mut self, consumer: &Arc<Consumer>, turns: Turns) -> bool {
        if consumer.gone.swap(true, Relaxed) {
            return false;
        }
        self.stop(consumer);
        self.all.remove(&place(consumer, turns));
        if self.active.as_ref().is_some_and(|active| Arc::ptr_eq(active, consumer)) {
            self.active = None;
            if let Some(next) = self.any().cloned() {
                self.activate(next);
            }
        }
        true
    }

    fn activate(&mut self, consumer: Arc<Consumer>) {
        self.enqueue(Arc::clone(&consumer));
        self.active = Some(consumer);
    }

    /// Removes all consumers for good.
    pub(super) fn clear(&mut self) -> Vec<Arc<Consumer>> {
        self.classes.clear();
        self.active = None;
        let all: Vec<_> = std::mem::take(&mut self.all).into_values().collect();
        all.iter().for_each(|consumer| consumer.gone.store(true, Relaxed));
        all
    }

    /// Whose turn it is.
    pub(super) fn front(&self) -> Option<&Arc<Consumer>> {
        self.classes.iter().find_map(|class| class.turn.front())
    }

    /// Whether no other consumer takes turns with the one in front.
    pub(super) fn is_front_alone(&self) -> bool {
        self.classes
            .iter()
            .find(|class| !class.turn.is_empty())
            .is_some_and(|c| c.turn.len() - c.left == 1)
    }

    /// The one in front has been served.
    pub(super) fn advance(&mut self) {
        if let Some(class) = self.front_class()
            && class.turn.len() > 1
        {
            class.turn.rotate_left(1);
            class.tidy();
        }
    }

    /// The one in front cannot take a message now.
    pub(super) fn park(&mut self) {
        let Some(class) = self.front_class() else { return };
        if let Some(consumer) = class.turn.pop_front() {
            consumer.parked.store(true, Relaxed);
            consumer.in_turn.store(false, Relaxed);
        }
        class.tidy();
    }

    /// A consumer that was perhaps parked may be able to take a message again.
    pub(super) fn unpark(&mut self, consumer: &Arc<Consumer>) {
        if !consumer.gone.load(Relaxed) && consumer.parked.swap(false, Relaxed) {
            self.enqueue(Arc::clone(consumer));
        }
    }

    fn front_class(&mut self) -> Option<&mut Class> {
        self.classes.iter_mut().find(|class| !class.turn.is_empty())
    }

    fn enqueue(&mut self, consumer: Arc<Consumer>) {
        consumer.in_turn.store(true, Relaxed);
        let priority = consumer.priority();
        let place = self.classes.partition_point(|class| class.priority > priority);
        match self.classes.get_mut(place) {
            Some(class) if class.priority == priority => class.turn.push_back(consumer),
            _ => self
                .classes
                .insert(place, Class { priority, turn: VecDeque::from([consumer]), left: 0 }),
        }
    }
}
