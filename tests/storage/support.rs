//! What the tests of the engine share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use haypile::storage::{
    Background, Clock, Fetch, Fetched, Lsn, Message, Options, Persistence, Queue, Sequence,
    SequenceRange, Store, Timestamp,
};

/// A clock that shows what it was set to, in milliseconds.
#[derive(Debug)]
pub(crate) struct SetClock(AtomicU64);

impl SetClock {
    pub(crate) fn at(milliseconds: u64) -> Arc<SetClock> {
        Arc::new(SetClock(AtomicU64::new(milliseconds)))
    }

    pub(crate) fn set(&self, milliseconds: u64) {
        self.0.store(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Small segments, so that few messages fill many of them.
pub(crate) fn small() -> Options {
    Options {
        segment_size: 64 << 10,
        checkpoint_distance: 256 << 10,
        lazy_sync: std::time::Duration::from_millis(1),
        clock: SetClock::at(1_700_000_000_000),
        ..Options::default()
    }
}

/// The same, without threads: nothing is written unless somebody waits for it.
pub(crate) fn manual() -> Options {
    Options { background: Background::Caller, ..small() }
}

pub(crate) fn message(text: impl Into<String>) -> Message {
    Message::new("header", text.into())
}

/// Appends a durable message without waiting.
pub(crate) fn append(store: &Store, queue: &Queue, text: impl Into<String>) -> Lsn {
    let appended = store.append(&message(text), Persistence::Durable, &[queue]).unwrap();
    appended.durable_at.expect("a durable message in a durable queue")
}

/// Appends a durable message and waits until it is on disk.
pub(crate) fn confirm(store: &Store, queue: &Queue, text: impl Into<String>) {
    let lsn = append(store, queue, text);
    store.wait_durable(lsn).unwrap();
}

/// All live messages of a queue.
pub(crate) fn fetch_all(queue: &Queue) -> Vec<Fetched> {
    let mut all = Vec::new();
    let mut from = Sequence::FIRST;
    loop {
        let before = all.len();
        let fetch = queue.fetch(from, 100, &mut all);
        if let Some(last) = all.last() {
            from = last.sequence.next();
        }
        match fetch {
            Fetch::NeedsLoad => queue.load(from).unwrap(),
            Fetch::Complete if all.len() == before => return all,
            Fetch::Complete | Fetch::Partial => {}
        }
    }
}

/// The bodies of all live messages of a queue.
pub(crate) fn bodies(queue: &Queue) -> Vec<String> {
    fetch_all(queue).iter().map(body).collect()
}

pub(crate) fn body(fetched: &Fetched) -> String {
    String::from_utf8(fetched.message.body().to_vec()).unwrap()
}

/// Acknowledges one place without waiting.
pub(crate) fn acknowledge(queue: &Queue, place: u64) -> Option<Lsn> {
    let range = SequenceRange::one(Sequence::new(place));
    queue.acknowledge(&[range]).unwrap().durable_at
}

/// The queue with these attributes.
pub(crate) fn queue(store: &Store, attributes: &str) -> Queue {
    store
        .queues()
        .into_iter()
        .find(|queue| queue.attributes() == attributes.as_bytes())
        .unwrap_or_else(|| panic!("there is no queue {attributes}"))
}

/// Every file of a directory with its content.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// A copy of a data directory: what a machine that lost its power at this moment would have, had everything written
/// reached the disk.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for (name, content) in files(from) {
        std::fs::write(to.join(name), content).unwrap();
    }
}
