//! SQLite: write-ahead log, `synchronous = FULL` (a sync of the log in every commit). The messages are a table whose
//! primary key is the row's number. The log is checkpointed every 4,000 pages instead of 1,000.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::MEMORY;
use crate::Outcome;
use crate::combiner::{Combiner, Ledger, Reader};
use crate::peer::{Fetched, Place};

pub(super) struct Writer {
    connection: Connection,
    /// Up to here the queue has been acknowledged.
    acknowledged: u64,
}

pub(super) struct Fetcher(Mutex<Connection>);

pub(super) fn open(dir: &Path) -> Outcome<Combiner<Writer>> {
    let connection = connect(dir)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS messages (place INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS front (only INTEGER PRIMARY KEY CHECK (only = 1), acknowledged INTEGER NOT NULL);
         INSERT OR IGNORE INTO front VALUES (1, 0);",
    )?;
    let acknowledged = connection.query_row("SELECT acknowledged FROM front", [], as_u64)?;
    let newest = "SELECT place FROM messages ORDER BY place DESC LIMIT 1";
    let newest = connection.query_row(newest, [], as_u64).optional()?;
    let next = Place(newest.unwrap_or(0).max(acknowledged)).next();
    let reader = Fetcher(Mutex::new(connect(dir)?));
    Ok(Combiner::new(Writer { connection, acknowledged }, reader, next))
}

fn as_u64(row: &rusqlite::Row<'_>) -> rusqlite::Result<u64> {
    row.get(0)
}

fn connect(dir: &Path) -> Outcome<Connection> {
    let connection = Connection::open(dir.join("queue.sqlite"))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(
            format!("SQLite has no write-ahead log here: its journal mode is {mode}").into()
        );
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    // Negative: in KiB, not in pages.
    connection.pragma_update(None, "cache_size", -((MEMORY >> 10) as i64))?;
    Ok(connection)
}

impl Ledger for Writer {
    type Reader = Fetcher;

    fn commit(&mut self, first: Place, messages: &[Bytes], through: Option<Place>) -> Outcome {
        let transaction = self.connection.transaction()?;
        if !messages.is_empty() {
            let mut insert = transaction.prepare_cached("INSERT INTO messages VALUES (?1, ?2)")?;
            for (place, body) in (first.0..).zip(messages) {
                insert.execute(params![place, &body[..]])?;
            }
        }
        if let Some(through) = through {
            transaction
                .prepare_cached("DELETE FROM messages WHERE place BETWEEN ?1 AND ?2")?
                .execute([self.acknowledged, through.0])?;
            transaction
                .prepare_cached("UPDATE front SET acknowledged = ?1")?
                .execute([through.0])?;
            self.acknowledged = through.0;
        }
        transaction.commit()?;
        Ok(())
    }

    fn close(self, reader: Fetcher) -> Outcome {
        // The last connection that is closed checkpoints the log.
        let reader = reader.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        reader.close().map_err(|(_, error)| error)?;
        self.connection.close().map_err(|(_, error)| error)?;
        Ok(())
    }
}

impl Reader for Fetcher {
    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut select = connection.prepare_cached(
            "SELECT place, body FROM messages WHERE place >= ?1 ORDER BY place LIMIT ?2",
        )?;
        let rows = select.query_map(params![from.0, limit], |row| {
            let body = row.get_ref(1)?.as_blob()?;
            Ok((Place(row.get(0)?), Bytes::copy_from_slice(body)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
