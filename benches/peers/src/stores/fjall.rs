//! fjall: an LSM tree behind a journal. By default a batch is in the page cache when it is committed; here every one is made
//! durable with `PersistMode::SyncData`, an `fdatasync` of the journal. Keys are big-endian, so that their order is the queue's.

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use bytes::Bytes;

use super::MEMORY;
use crate::Outcome;
use crate::combiner::{Combiner, Ledger, Reader};
use crate::peer::{Fetched, Place};

const ACKNOWLEDGED: &str = "acknowledged";

pub(super) struct Writer {
    database: Database,
    messages: Keyspace,
    front: Keyspace,
    /// Up to here the queue has been acknowledged.
    acknowledged: u64,
}

pub(super) struct Fetcher(Keyspace);

pub(super) fn open(dir: &Path) -> Outcome<Combiner<Writer>> {
    let database = Database::builder(dir.join("queue")).cache_size(MEMORY).open()?;
    let messages = database.keyspace("messages", KeyspaceCreateOptions::default)?;
    let front = database.keyspace("front", KeyspaceCreateOptions::default)?;
    let acknowledged = front.get(ACKNOWLEDGED)?.map_or(Ok(0), |value| number(&value))?;
    let from = Place(acknowledged).next().0.to_be_bytes();
    let newest = match messages.range(from..).next_back() {
        Some(newest) => number(&newest.key()?)?,
        None => 0,
    };
    let reader = Fetcher(messages.clone());
    let next = Place(newest.max(acknowledged)).next();
    Ok(Combiner::new(Writer { database, messages, front, acknowledged }, reader, next))
}

fn number(bytes: &[u8]) -> Outcome<u64> {
    Ok(u64::from_be_bytes(bytes.try_into()?))
}

impl Ledger for Writer {
    type Reader = Fetcher;

    fn commit(&mut self, first: Place, messages: &[Bytes], through: Option<Place>) -> Outcome {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (place, body) in (first.0..).zip(messages) {
            batch.insert(&self.messages, place.to_be_bytes(), &body[..]);
        }
        if let Some(through) = through {
            for place in self.acknowledged + 1..=through.0 {
                batch.remove(&self.messages, place.to_be_bytes());
            }
            batch.insert(&self.front, ACKNOWLEDGED, through.0.to_be_bytes());
            self.acknowledged = through.0;
        }
        batch.commit()?;
        Ok(())
    }

    fn close(self, reader: Fetcher) -> Outcome {
        // Dropping the last handle is how it is closed.
        self.database.persist(PersistMode::SyncAll)?;
        drop(reader);
        Ok(())
    }
}

impl Reader for Fetcher {
    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>> {
        let rows = self.0.range(from.0.to_be_bytes()..).take(limit).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((Place(number(&key)?), Bytes::copy_from_slice(&value)))
        });
        rows.collect()
    }
}
