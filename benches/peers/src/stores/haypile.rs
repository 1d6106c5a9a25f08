//! `haypile::storage` with its default options, but for [`MEMORY`](super::MEMORY), which is its default as well. It has group
//! commit: there is no combiner in front.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ::haypile::storage::{
    Fetch, Message, Options, Persistence, Queue, Sequence, SequenceRange, Store,
};
use bytes::Bytes;

use super::MEMORY;
use crate::Outcome;
use crate::peer::{Fetched, Peer, Place};

pub(super) struct Haypile {
    store: Store,
    queue: Queue,
    /// The first place that was not acknowledged by us.
    front: Mutex<Sequence>,
}

pub(super) fn open(dir: &Path) -> Outcome<Haypile> {
    let store = Store::open(dir, Options { cache: MEMORY, ..Options::default() })?;
    let queue = match store.queues().pop() {
        Some(queue) => queue,
        None => {
            let (queue, created) = store.create_queue(b"queue")?;
            store.wait_durable(created)?;
            queue
        }
    };
    Ok(Haypile { store, queue, front: Mutex::new(Sequence::FIRST) })
}

fn sequence(place: Place) -> Sequence {
    Sequence::new(place.0 - Place::FIRST.0)
}

impl Peer for Haypile {
    fn append(&self, messages: &[Bytes]) -> Outcome {
        let mut last = None;
        for body in messages {
            let message = Message::new(Bytes::new(), body.clone());
            last = self.store.append(&message, Persistence::Durable, &[&self.queue])?.durable_at;
        }
        last.map_or(Ok(()), |lsn| self.store.wait_durable(lsn))?;
        Ok(())
    }

    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>> {
        let (from, mut found) = (sequence(from), Vec::with_capacity(limit));
        while self.queue.fetch(from, limit, &mut found) == Fetch::NeedsLoad {
            self.queue.load(from)?;
        }
        let place = |sequence: Sequence| Place(sequence.get() + Place::FIRST.0);
        Ok(found.iter().map(|f| (place(f.sequence), f.message.body())).collect())
    }

    fn acknowledge(&self, through: Place) -> Outcome {
        let mut front = self.front.lock().unwrap_or_else(PoisonError::into_inner);
        let last = sequence(through);
        let Some(range) = SequenceRange::new(*front, last) else { return Ok(()) };
        let acknowledged = self.queue.acknowledge(&[range])?;
        *front = last.next();
        drop(front);
        // Others do not wait for this; here everybody does.
        acknowledged.durable_at.map_or(Ok(()), |lsn| self.store.wait_durable(lsn))?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome {
        let Haypile { store, queue, .. } = *self;
        store.close()?;
        drop(queue);
        Ok(())
    }
}
