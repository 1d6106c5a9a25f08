//! What every store has to be able to do: a durable queue, first in, first out.

use bytes::Bytes;

use crate::Outcome;

/// A message's place in the queue. The first one is 1; a place is given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) u64);

impl Place {
    pub(crate) const FIRST: Place = Place(1);

    pub(crate) fn next(self) -> Place {
        Place(self.0 + 1)
    }
}

/// A message and where it is.
pub(crate) type Fetched = (Place, Bytes);

/// A store with one queue, opened. Every thread may call everything.
pub(crate) trait Peer: Send + Sync {
    /// Appends messages, one behind the other. Returns when they are on stable storage.
    fn append(&self, messages: &[Bytes]) -> Outcome;

    /// The live messages from a place on, in order, so many at most.
    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>>;

    /// Takes the messages up to this place, and it, out of the queue for good. Returns when that is on stable storage.
    fn acknowledge(&self, through: Place) -> Outcome;

    /// Closes the store in the way that is meant to be followed by the quickest open.
    fn close(self: Box<Self>) -> Outcome;
}
