//! The engine in this process: filling a queue of it, and emptying it.

use std::path::Path;

use haypile::storage::{
    Fetch, Message, Options, Persistence, Queue, Sequence, SequenceRange, Store,
};

use super::Outcome;

/// How many messages are appended before those before them have to be durable.
const WINDOW: u64 = 10_000;

/// How many messages are fetched and acknowledged at a time.
const BATCH: usize = 1000;

/// Bytes of a message's header: what an envelope takes.
pub(crate) const HEADER: usize = 20;

/// A new store with one queue, and that queue.
pub(crate) fn create(dir: &Path, options: Options) -> Outcome<(Store, Queue)> {
    let store = Store::open(dir, options)?;
    let (queue, created) = store.create_queue(b"bench")?;
    store.wait_durable(created)?;
    Ok((store, queue))
}

/// Appends durable messages with bodies of `size` bytes; returns when all of them are durable. As many as a window are
/// not durable at any time.
pub(crate) fn publish(store: &Store, queue: &Queue, messages: u64, size: usize) -> Outcome {
    publish_while(store, queue, size, |published| published < messages)?;
    Ok(())
}

/// The same, for as long as `more` says so of the number of messages so far; returns that number.
pub(crate) fn publish_while(
    store: &Store,
    queue: &Queue,
    size: usize,
    more: impl Fn(u64) -> bool,
) -> Outcome<u64> {
    let (header, body) = (vec![b'h'; HEADER], vec![b'x'; size]);
    let (mut before, mut last, mut number) = (None, None, 0);
    while more(number) {
        // Every message has bytes of its own, as one that came off a socket.
        let message = Message::new(header.clone(), body.clone());
        last = store.append(&message, Persistence::Durable, &[queue])?.durable_at;
        number += 1;
        if number % (WINDOW / 2) == 0
            && let Some(lsn) = std::mem::replace(&mut before, last)
        {
            store.wait_durable(lsn)?;
        }
    }
    last.map_or(Ok(()), |lsn| store.wait_durable(lsn))?;
    Ok(number)
}

/// Takes everything out of a queue, in order; returns how many messages that were, and how often they had to be loaded.
pub(crate) fn drain(queue: &Queue) -> Outcome<(u64, u64)> {
    let (mut from, mut fetched, mut messages, mut loads) = (Sequence::FIRST, Vec::new(), 0, 0);
    loop {
        let outcome = queue.fetch(from, BATCH, &mut fetched);
        if let (Some(first), Some(last)) = (fetched.first(), fetched.last()) {
            let range = SequenceRange { first: first.sequence, last: last.sequence };
            from = last.sequence.next();
            messages += queue.acknowledge(&[range])?.messages;
            fetched.clear();
        } else if outcome == Fetch::NeedsLoad {
            queue.load(from)?;
            loads += 1;
        } else {
            return Ok((messages, loads));
        }
    }
}
