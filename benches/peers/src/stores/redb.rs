//! redb: a B-tree of copied pages. `Durability::Immediate`, which is its default: a commit is synced.

use std::path::Path;
use std::sync::Arc;

use ::redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use bytes::Bytes;

use super::MEMORY;
use crate::Outcome;
use crate::combiner::{Combiner, Ledger, Reader};
use crate::peer::{Fetched, Place};

const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
const FRONT: TableDefinition<'_, (), u64> = TableDefinition::new("front");

pub(super) struct Writer {
    database: Arc<Database>,
    /// Up to here the queue has been acknowledged.
    acknowledged: u64,
}

pub(super) struct Fetcher(Arc<Database>);

pub(super) fn open(dir: &Path) -> Outcome<Combiner<Writer>> {
    let database = Builder::new().set_cache_size(MEMORY as usize).create(dir.join("queue.redb"))?;
    let transaction = database.begin_write()?;
    let newest = transaction.open_table(MESSAGES)?.last()?.map_or(0, |(place, _)| place.value());
    let acknowledged = transaction.open_table(FRONT)?.get(())?.map_or(0, |front| front.value());
    transaction.commit()?;
    let database = Arc::new(database);
    let reader = Fetcher(database.clone());
    let next = Place(newest.max(acknowledged)).next();
    Ok(Combiner::new(Writer { database, acknowledged }, reader, next))
}

impl Ledger for Writer {
    type Reader = Fetcher;

    fn commit(&mut self, first: Place, messages: &[Bytes], through: Option<Place>) -> Outcome {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut table = transaction.open_table(MESSAGES)?;
        for (place, body) in (first.0..).zip(messages) {
            table.insert(place, &body[..])?;
        }
        if let Some(through) = through {
            table.retain_in(self.acknowledged..=through.0, |_, _| false)?;
            transaction.open_table(FRONT)?.insert((), through.0)?;
            self.acknowledged = through.0;
        }
        drop(table);
        transaction.commit()?;
        Ok(())
    }

    fn close(self, reader: Fetcher) -> Outcome {
        drop(reader);
        let database = Arc::into_inner(self.database).ok_or("somebody still uses the database")?;
        database.close()?;
        Ok(())
    }
}

impl Reader for Fetcher {
    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>> {
        let table = self.0.begin_read()?.open_table(MESSAGES)?;
        let rows = table.range(from.0..)?.take(limit).map(|row| {
            row.map(|(place, body)| (Place(place.value()), Bytes::copy_from_slice(body.value())))
        });
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
