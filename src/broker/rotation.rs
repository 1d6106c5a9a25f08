//! Whose turn it is among the consumers of a queue.

use std::collections::VecDeque;
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
/// Protected by the queue's lock, which is why the consumers' flags are read and written relaxed.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    all: Vec<Arc<Consumer>>,
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

#[derive(Debug)]
struct Class {
    priority: i64,
    turn: VecDeque<Arc<Consumer>>,
}

impl Rotation {
    /// Every consumer, parked or not, in the order in which they came.
    pub(super) fn all(&self) -> &[Arc<Consumer>] {
        &self.all
    }

    /// A new consumer; its turn comes after the others of its priority.
    pub(super) fn add(&mut self, consumer: Arc<Consumer>, turns: Turns) {
        if turns == Turns::All {
            self.enqueue(Arc::clone(&consumer));
        } else if self.active.is_none() {
            self.activate(Arc::clone(&consumer));
        }
        self.all.push(consumer);
    }

    /// A consumer is going: it gets nothing more, and still counts as one. Where it is active nobody takes its place before it
    /// has been [removed](Self::remove).
    pub(super) fn stop(&mut self, consumer: &Arc<Consumer>) {
        // What is not parked is not put back into a class.
        consumer.parked.store(false, Relaxed);
        for class in &mut self.classes {
            class.turn.retain(|other| !Arc::ptr_eq(other, consumer));
        }
        self.classes.retain(|class| !class.turn.is_empty());
    }

    /// Removes a consumer for good. Whether it was there.
    pub(super) fn remove(&mut self, consumer: &Arc<Consumer>, turns: Turns) -> bool {
        if consumer.gone.swap(true, Relaxed) {
            return false;
        }
        self.stop(consumer);
        self.all.retain(|other| !Arc::ptr_eq(other, consumer));
        if self.active.as_ref().is_some_and(|active| Arc::ptr_eq(active, consumer)) {
            self.active = None;
            if let Some(next) = self.successor(turns) {
                self.activate(next);
            }
        }
        true
    }

    fn successor(&self, turns: Turns) -> Option<Arc<Consumer>> {
        let next = match turns {
            // The first of several that are equal: the last would be the maximum.
            Turns::SingleByPriority => self.all.iter().rev().max_by_key(|one| one.priority()),
            Turns::SingleByAge | Turns::All => self.all.first(),
        };
        next.cloned()
    }

    fn activate(&mut self, consumer: Arc<Consumer>) {
        self.enqueue(Arc::clone(&consumer));
        self.active = Some(consumer);
    }

    /// Removes all consumers for good.
    pub(super) fn clear(&mut self) -> Vec<Arc<Consumer>> {
        self.classes.clear();
        self.active = None;
        let all = std::mem::take(&mut self.all);
        all.iter().for_each(|consumer| consumer.gone.store(true, Relaxed));
        all
    }

    /// Whose turn it is.
    pub(super) fn front(&self) -> Option<&Arc<Consumer>> {
        self.classes.iter().find_map(|class| class.turn.front())
    }

    /// Whether no other consumer takes turns with the one in front.
    pub(super) fn is_front_alone(&self) -> bool {
        self.classes.iter().find(|class| !class.turn.is_empty()).is_some_and(|c| c.turn.len() == 1)
    }

    /// The one in front has been served.
    pub(super) fn advance(&mut self) {
        if let Some(class) = self.front_class()
            && class.turn.len() > 1
        {
            class.turn.rotate_left(1);
        }
    }

    /// The one in front cannot take a message now.
    pub(super) fn park(&mut self) {
        if let Some(consumer) = self.front_class().and_then(|class| class.turn.pop_front()) {
            consumer.parked.store(true, Relaxed);
        }
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
        let priority = consumer.priority();
        let place = self.classes.partition_point(|class| class.priority > priority);
        match self.classes.get_mut(place) {
            Some(class) if class.priority == priority => class.turn.push_back(consumer),
            _ => self.classes.insert(place, Class { priority, turn: VecDeque::from([consumer]) }),
        }
    }
}
