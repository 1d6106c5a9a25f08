//! Group commit for stores that have none: whoever comes first commits for all who came while the commit before was under way.
//!
//! It is what a careful user of such a store would write, and what gives it its best figures: one thread at a time uses the
//! store, nobody hands work to another thread, and only those are woken who have something to do.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::Outcome;
use crate::peer::{Fetched, Peer, Place};

/// A store that has one writer at a time.
pub(crate) trait Ledger: Send {
    /// What reads meanwhile.
    type Reader: Reader;

    /// Appends the messages from `first` on, and takes out those up to `through`, in one transaction. Returns when it is on
    /// stable storage.
    fn commit(&mut self, first: Place, messages: &[Bytes], through: Option<Place>) -> Outcome;

    /// Closes it.
    fn close(self, reader: Self::Reader) -> Outcome;
}

/// Reads what has been committed.
pub(crate) trait Reader: Send + Sync {
    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>>;
}

/// A ledger behind a queue of those who want to write.
pub(crate) struct Combiner<L: Ledger> {
    ledger: Mutex<L>,
    reader: L::Reader,
    state: Mutex<State>,
    /// Those who wait for an even group, and for an odd one.
    committed: [Condvar; 2],
}

#[derive(Default)]
struct State {
    /// What the next commit takes.
    group: Group,
    /// The number of that commit.
    number: u64,
    /// All groups below this have been committed.
    committed: u64,
    /// Somebody commits.
    led: bool,
    failure: Option<String>,
}

#[derive(Default)]
struct Group {
    messages: Vec<Bytes>,
    through: Option<Place>,
    /// The place of the next message that is committed.
    first: u64,
}

impl<L: Ledger> Combiner<L> {
    /// `next` is the place of the first message to come.
    pub(crate) fn new(ledger: L, reader: L::Reader, next: Place) -> Combiner<L> {
        let group = Group { first: next.0, ..Group::default() };
        let state = Mutex::new(State { group, ..State::default() });
        Combiner { ledger: Mutex::new(ledger), reader, state, committed: Default::default() }
    }

    /// Adds to the next group; returns when that has been committed.
    fn join(&self, add: impl FnOnce(&mut Group)) -> Outcome {
        let mut state = lock(&self.state);
        add(&mut state.group);
        let number = state.number;
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone().into());
            }
            if state.committed > number {
                return Ok(());
            }
            if state.led {
                let mine = &self.committed[(number % 2) as usize];
                state = mine.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state = self.lead(state);
            }
        }
    }

    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.led = true;
        let next = state.group.first + state.group.messages.len() as u64;
        let group = std::mem::replace(&mut state.group, Group { first: next, ..Group::default() });
        let number = state.number;
        state.number += 1;
        drop(state);
        let outcome = lock(&self.ledger).commit(Place(group.first), &group.messages, group.through);
        let mut state = lock(&self.state);
        state.led = false;
        state.committed = state.number;
        let failed = outcome.is_err();
        state.failure = outcome.err().map(|error| error.to_string());
        self.committed[(number % 2) as usize].notify_all();
        let next = &self.committed[((number + 1) % 2) as usize];
        // One of the next group leads it; unless there will be none.
        if failed {
            next.notify_all()
        } else {
            next.notify_one()
        }
        state
    }
}

impl<L: Ledger> Peer for Combiner<L> {
    fn append(&self, messages: &[Bytes]) -> Outcome {
        self.join(|group| group.messages.extend_from_slice(messages))
    }

    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>> {
        self.reader.fetch(from, limit)
    }

    fn acknowledge(&self, through: Place) -> Outcome {
        self.join(|group| group.through = group.through.max(Some(through)))
    }

    fn close(self: Box<Self>) -> Outcome {
        let Combiner { ledger, reader, .. } = *self;
        ledger.into_inner().unwrap_or_else(PoisonError::into_inner).close(reader)
    }
}

/// A thread that panicked has left nothing half done that another one would not notice.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
