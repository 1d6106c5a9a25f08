//! The check of `--store`: opens the store that a child has left, and shows the oracle what is in it.
//!
//! On a thread of its own, so that an engine that hangs, or panics, is a defect and not the end of the torture.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::TortureError;
use super::defect::DefectKind;
use super::oracle::{Found, Oracle};
use super::stamp::{Identity, QueueNumber};
use super::store_child::{find, found, options};
use crate::storage::disk::RealDisk;
use crate::storage::{
    Fetch, Fetched, OpenError, Queue, Sequence, SequenceRange, Store, StoreError,
};

/// How long a check may take until it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is to be checked, and how.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) data: PathBuf,
    pub(super) segment_size: u64,
    pub(super) queues: u8,
    pub(super) oracle: Arc<Mutex<Oracle>>,
    /// The share of what is found that stays in the queues.
    pub(super) keep: f64,
    pub(super) random: fastrand::Rng,
}

/// What a check has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// How long the store took to open.
    pub(super) opening: Duration,
    /// Messages that were there.
    pub(super) found: u64,
}

impl Check {
    /// Opens the store, has the oracle judge it, and acknowledges a part of what is there.
    pub(super) fn run(self) -> Result<Checked, TortureError> {
        let oracle = self.oracle.clone();
        let (done, outcome) = mpsc::channel();
        thread::spawn(move || done.send(self.open_and_look()));
        let how = match outcome.recv_timeout(PATIENCE) {
            Ok(checked) => return checked,
            Err(RecvTimeoutError::Timeout) => {
                format!("opening and reading the store did not end in {} s", PATIENCE.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                "the engine panicked while the store was opened and read".to_owned()
            }
        };
        oracle.lock().defect(DefectKind::Misbehaved, how);
        Ok(Checked { opening: PATIENCE, found: 0 })
    }

    fn misbehaved(&self, text: String) {
        self.oracle.lock().defect(DefectKind::Misbehaved, text);
    }

    fn is_wrong(&self) -> bool {
        self.oracle.lock().defects().total() > 0
    }

    fn open_and_look(mut self) -> Result<Checked, TortureError> {
        let began = Instant::now();
        let opened = Store::open(&self.data, options(self.segment_size, Arc::new(RealDisk)));
        let opening = began.elapsed();
        let store = match opened {
            Ok(store) => store,
            Err(OpenError::Full { dir, .. }) => return Err(TortureError::NoRoom(dir)),
            Err(error) => {
                self.misbehaved(format!("the store does not open: {error}"));
                return Ok(Checked { opening, found: 0 });
            }
        };
        let looked = self.look(&store);
        if store.set_aside() > 0 {
            self.misbehaved(format!("{} messages were set aside", store.set_aside()));
        }
        // A close writes a checkpoint, and leaves the next open nothing to replay; a drop does not.
        // Nor is one written to a store with a defect: it is evidence.
        let closes = self.random.bool() && !self.is_wrong();
        let closed = if closes { store.close() } else { Ok(()) };
        match looked.and_then(|found| closed.map(|()| found)) {
            Ok(found) => Ok(Checked { opening, found }),
            Err(error) => {
                self.misbehaved(format!("the open store failed: {error}"));
                Ok(Checked { opening, found: 0 })
            }
        }
    }

    fn look(&mut self, store: &Store) -> Result<u64, StoreError> {
        let mut count = 0;
        for number in (0..self.queues).map(QueueNumber) {
            let queue = find(store, number);
            let all = queue.as_ref().map_or(Ok(Vec::new()), fetch_all)?;
            let contents: Vec<Found> = all.iter().map(|(_, found)| found.clone()).collect();
            count += contents.len() as u64;
            self.oracle.lock().recovered(number, &contents);
            // Of evidence, nothing is acknowledged.
            let Some(queue) = queue.filter(|_| !self.is_wrong()) else { continue };
            self.acknowledge(store, number, &queue, &all)?;
        }
        Ok(count)
    }

    /// Acknowledges what is not to be kept.
    fn acknowledge(
        &mut self,
        store: &Store,
        number: QueueNumber,
        queue: &Queue,
        all: &[(Sequence, Found)],
    ) -> Result<(), StoreError> {
        let gone: Vec<&(Sequence, Found)> =
            all.iter().filter(|_| self.random.f64() >= self.keep).collect();
        let ranges: Vec<SequenceRange> =
            gone.iter().map(|(place, _)| SequenceRange::one(*place)).collect();
        let identities: Vec<Identity> = gone.iter().filter_map(|(_, found)| found.label).collect();
        let acknowledged = queue.acknowledge(&ranges)?;
        if acknowledged.messages != ranges.len() as u64 {
            self.misbehaved(format!(
                "{number}: {} messages were acknowledged, and {} are gone",
                ranges.len(),
                acknowledged.messages
            ));
        }
        if let Some(durable_at) = acknowledged.durable_at {
            store.wait_durable(durable_at)?;
        }
        let mut oracle = self.oracle.lock();
        identities.iter().for_each(|identity| oracle.acknowledged(number, *identity));
        oracle.settled(number, &identities, &[]);
        Ok(())
    }
}

/// All live messages of a queue with their places.
fn fetch_all(queue: &Queue) -> Result<Vec<(Sequence, Found)>, StoreError> {
    const AT_ONCE: usize = 256;
    let mut all = Vec::new();
    let mut from = Sequence::FIRST;
    loop {
        let mut fetched: Vec<Fetched> = Vec::new();
        let fetch = queue.fetch(from, AT_ONCE, &mut fetched);
        if let Some(last) = fetched.last() {
            from = last.sequence.next();
        }
        let more = !fetched.is_empty();
        all.extend(fetched.iter().map(|fetched| (fetched.sequence, found(fetched))));
        match fetch {
            Fetch::NeedsLoad => queue.load(from)?,
            Fetch::Partial => {}
            Fetch::Complete if more => {}
            Fetch::Complete => return Ok(all),
        }
    }
}
