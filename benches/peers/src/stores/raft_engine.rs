//! raft-engine: a log for many Raft groups, of which the queue is one. Messages are its entries, the places are their indexes,
//! acknowledging is compacting the group's log. Every write is synced. Files are 64 MiB, made ahead of need and recycled
//! (`prefill_for_recycle`, which it leaves off by default); what compaction has emptied is purged once a second.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ::raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};
use bytes::Bytes;
use protobuf::well_known_types::BytesValue;

use crate::Outcome;
use crate::combiner::{Combiner, Ledger, Reader};
use crate::peer::{Fetched, Place};

/// The number of the Raft group that is the queue.
const QUEUE: u64 = 1;

const ACKNOWLEDGED: &[u8] = b"acknowledged";

/// What an entry begins with: its index.
const INDEX: usize = size_of::<u64>();

pub(super) struct Writer {
    engine: Arc<Engine>,
    purger: JoinHandle<Result<(), String>>,
    stop: Sender<()>,
}

pub(super) struct Fetcher(Arc<Engine>);

/// An entry of a Raft log, as far as the engine wants to know.
#[derive(Clone)]
struct Entry;

impl MessageExt for Entry {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |index| u64::from_be_bytes(*index))
    }
}

pub(super) fn open(dir: &Path) -> Outcome<Combiner<Writer>> {
    let dir = dir.join("queue");
    let engine = Arc::new(Engine::open(Config {
        dir: dir.to_str().ok_or("raft-engine wants a directory whose name is text")?.to_owned(),
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize::mb(64),
        purge_threshold: ReadableSize::mb(256),
        prefill_for_recycle: true,
        prefill_limit: Some(ReadableSize::mb(256)),
        ..Config::default()
    })?);
    let acknowledged = match engine.get(QUEUE, ACKNOWLEDGED) {
        Some(value) => u64::from_be_bytes(value.as_slice().try_into()?),
        None => 0,
    };
    let newest = engine.last_index(QUEUE).unwrap_or(0);
    let next = Place(newest.max(acknowledged)).next();
    let (stop, stopped) = channel();
    let purged = engine.clone();
    let purger = std::thread::spawn(move || {
        // The groups that it returns are those that hold up old files: nothing is to be done about messages that are live.
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            purged.purge_expired_files().map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    let reader = Fetcher(engine.clone());
    Ok(Combiner::new(Writer { engine, purger, stop }, reader, next))
}

impl Ledger for Writer {
    type Reader = Fetcher;

    fn commit(&mut self, first: Place, messages: &[Bytes], through: Option<Place>) -> Outcome {
        let entries: Vec<BytesValue> = (first.0..)
            .zip(messages)
            .map(|(place, body)| {
                let mut value = Vec::with_capacity(INDEX + body.len());
                value.extend_from_slice(&place.to_be_bytes());
                value.extend_from_slice(body);
                BytesValue { value, ..BytesValue::default() }
            })
            .collect();
        let mut batch = LogBatch::default();
        batch.add_entries::<Entry>(QUEUE, &entries)?;
        if let Some(through) = through {
            batch.add_command(QUEUE, Command::Compact { index: through.next().0 });
            batch.put(QUEUE, ACKNOWLEDGED.to_vec(), through.0.to_be_bytes().to_vec())?;
        }
        self.engine.write(&mut batch, true)?;
        Ok(())
    }

    fn close(self, reader: Fetcher) -> Outcome {
        drop(self.stop);
        self.purger.join().map_err(|_| "the purging thread panicked")??;
        drop(reader);
        drop(self.engine);
        Ok(())
    }
}

impl Reader for Fetcher {
    fn fetch(&self, from: Place, limit: usize) -> Outcome<Vec<Fetched>> {
        let (Some(first), Some(last)) = (self.0.first_index(QUEUE), self.0.last_index(QUEUE))
        else {
            return Ok(Vec::new());
        };
        let begin = from.0.max(first);
        let end = (last + 1).min(begin + limit as u64);
        let mut entries = Vec::with_capacity(limit);
        if begin < end {
            self.0.fetch_entries_to::<Entry>(QUEUE, begin, end, None, &mut entries)?;
        }
        let fetched = entries.into_iter().map(|entry| {
            let place = Place(Entry::index(&entry));
            (place, Bytes::from(entry.value).slice(INDEX..))
        });
        Ok(fetched.collect())
    }
}
