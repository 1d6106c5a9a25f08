//! The deliveries of a channel that its peer has not acknowledged.

use std::sync::Arc;

use super::delivery::{DeliveryTag, Origin};
use super::kept::Kept;
use super::queue::Queue;
use super::tagged::Tagged;
use crate::storage::{Message, Sequence, Store};

/// A delivery that the peer holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) sequence: Sequence,
    /// How often the message has been handed out, this time included.
    pub(super) deliveries: u32,
    /// Bytes of its body.
    pub(super) body: u32,
}

/// A delivery that goes back to its queue.
#[derive(Debug)]
pub(super) struct GivenBack {
    pub(super) held: Held,
    /// The message, if it is in memory still.
    pub(super) message: Option<Message>,
}

impl GivenBack {
    /// The queue that it goes back to.
    pub(super) fn queue(&self) -> &Arc<Queue> {
        self.held.origin.queue()
    }

    /// Deliveries whose messages have to be read from the log.
    pub(super) fn from_log(held: Vec<Held>) -> Vec<GivenBack> {
        held.into_iter().map(|held| GivenBack { held, message: None }).collect()
    }
}

/// Deliveries by their tag.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    deliveries: Tagged<Held>,
    kept: Kept,
}

impl Unacknowledged {
    pub(super) fn new(store: &Store) -> Self {
        Self { deliveries: Tagged::default(), kept: Kept::new(store) }
    }

    /// Adds a delivery; its tag is higher than all before.
    pub(super) fn push(&mut self, tag: DeliveryTag, held: Held, message: Message) {
        self.deliveries.push(tag, held);
        self.kept.offer(tag, message);
    }

    /// Takes out the delivery with that tag, which is done with.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Held> {
        self.deliveries.take(tag)
    }

    /// Takes out deliveries that are done with, with their tags, in order; they may [come back](Self::put_back). The one with that tag, or with
    /// `multiple` all before it too, and with tag 0 all that there are. `None` when that tag is unknown.
    pub(super) fn take_tagged(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
    ) -> Option<Vec<(DeliveryTag, Held)>> {
        if !multiple {
            return Some(vec![(tag, self.take(tag)?)]);
        }
        let last = self.last_of(tag)?;
        Some(self.deliveries.take_through(last))
    }

    /// The same for what goes back to its queue.
    pub(super) fn take_back(&mut self, tag: DeliveryTag, multiple: bool) -> Option<Vec<GivenBack>> {
        if !multiple {
            let held = self.deliveries.take(tag)?;
            return Some(vec![GivenBack { held, message: self.kept.take(tag) }]);
        }
        let last = self.last_of(tag)?;
        let mut kept = self.kept.take_through(last).into_iter().peekable();
        let given_back = self.deliveries.take_through(last).into_iter().map(|(tag, held)| {
            // Those in between belong to deliveries that are done with.
            while kept.next_if(|(kept, _)| *kept < tag).is_some() {}
            let message = kept.next_if(|(kept, _)| *kept == tag).map(|(_, message)| message);
            GivenBack { held, message }
        });
        Some(given_back.collect())
    }

    /// Takes out the first deliveries up to the one with that tag, `most` at most, which go back to their queues.
    pub(super) fn take_some_back(&mut self, through: DeliveryTag, most: usize) -> Vec<GivenBack> {
        let last = self.last_of_some(through, most);
        last.and_then(|last| self.take_back(last, true)).unwrap_or_default()
    }

    /// The same for what is done with.
    pub(super) fn take_some(
        &mut self,
        through: DeliveryTag,
        most: usize,
    ) -> Vec<(DeliveryTag, Held)> {
        let last = self.last_of_some(through, most);
        last.map(|last| self.deliveries.take_through(last)).unwrap_or_default()
    }

    fn last_of_some(&self, through: DeliveryTag, most: usize) -> Option<DeliveryTag> {
        self.iter().take(most).map(|(tag, _)| tag).take_while(|tag| *tag <= through).last()
    }

    /// Whether there are deliveries up to that tag.
    pub(super) fn has_through(&self, through: DeliveryTag) -> bool {
        self.iter().next().is_some_and(|(tag, _)| tag <= through)
    }

    /// Puts deliveries back that were taken out.
    pub(super) fn put_back(&mut self, taken: Vec<(DeliveryTag, Held)>) {
        self.deliveries.put_back(taken);
    }

    /// Gives up memory that is not needed. To be called when some may have been acknowledged.
    pub(super) fn rest(&mut self) {
        self.kept.rest(&self.deliveries);
    }

    /// The tag of the oldest.
    pub(super) fn first(&self) -> Option<DeliveryTag> {
        self.deliveries.first()
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (DeliveryTag, &Held)> {
        self.deliveries.iter()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.deliveries.slots()
    }

    /// The tag up to which deliveries are meant by one that stands for several. `None` when it is unknown.
    pub(super) fn last_of(&self, tag: DeliveryTag) -> Option<DeliveryTag> {
        if tag == ALL {
            return Some(DeliveryTag(u64::MAX));
        }
        self.deliveries.contains(tag).then_some(tag)
    }
}

/// Stands for all deliveries where one can stand for several.
const ALL: DeliveryTag = DeliveryTag(0);
