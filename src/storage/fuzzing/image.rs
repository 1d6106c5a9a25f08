//! Small stores to begin with, made by the engine itself: every kind of record, and every state that a store is left in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use super::disk::MemoryDisk;
use crate::storage::units::{Sequence, SequenceRange};
use crate::storage::{
    Background, Change, Entropy, Fetch, Fetched, Message, Options, Persistence, Queue, Store,
    Timestamp,
};

/// Bytes of a segment of these stores.
pub(super) const SEGMENT: u64 = 32 << 10;

/// Files, by path.
pub(super) type Files = BTreeMap<PathBuf, Arc<Vec<u8>>>;

/// A message's place, with its queue by the queue's attributes, which are its name.
pub(super) type Place = (Vec<u8>, Sequence);

/// Messages by their places.
pub(super) type Messages = BTreeMap<Place, Message>;

/// Where all these stores are.
pub(super) fn dir() -> &'static Path {
    Path::new("/store")
}

/// A small store.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) files: Files,
    /// Every message that was ever published, acknowledged or not.
    pub(super) published: Messages,
    /// The places of live messages that no damage to the end of the log can make look as if they had never been
    /// confirmed: they are in the last checkpoint.
    pub(super) settled: Vec<Place>,
}

/// Random numbers that are the same every time (SplitMix64).
#[derive(Debug, Default)]
pub(crate) struct Repeatable(AtomicU64);

impl Entropy for Repeatable {
    fn number(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Options that make much happen in few bytes, and the same every time.
pub(super) fn options(disk: Arc<MemoryDisk>) -> Options {
    Options {
        segment_size: SEGMENT,
        segments_ahead: 1,
        segments_spare: 1,
        checkpoint_distance: 1 << 30,
        cache: 4 << 10,
        index: 4 << 10,
        chunk_places: 16,
        background: Background::Caller,
        disk,
        entropy: Arc::new(Repeatable::default()),
        clock: Arc::new(Timestamp::from_unix_millis(0)),
        ..Options::default()
    }
}

/// All live messages of a queue that can be read.
pub(super) fn drain(queue: &Queue) -> Vec<Fetched> {
    let mut all: Vec<Fetched> = Vec::new();
    let mut from = Sequence::FIRST;
    loop {
        let before = all.len();
        let fetch = queue.fetch(from, 64, &mut all);
        from = all.last().map_or(from, |last| last.sequence.next());
        match fetch {
            Fetch::NeedsLoad => queue.load(from).expect("what is durable is not waited for"),
            Fetch::Complete if all.len() == before => return all,
            Fetch::Complete | Fetch::Partial => {}
        }
    }
}

/// The live messages of all queues that can be read.
pub(super) fn messages(store: &Store) -> Messages {
    let mut messages = BTreeMap::new();
    for queue in store.queues() {
        for Fetched { sequence, message, .. } in drain(&queue) {
            let place = (queue.attributes().to_vec(), sequence);
            messages.insert(place, message);
        }
    }
    messages
}

/// The message with this number of a queue: it says where it belongs.
fn message(queue: &str, number: usize) -> Message {
    let filler = ".".repeat(number * 37 % 300);
    Message::new(format!("{queue} header"), format!("{queue} {number} {filler}"))
}

/// Somebody who uses a store while it becomes an image.
struct User {
    disk: Arc<MemoryDisk>,
    store: Store,
    published: Messages,
}

const NEW: &str = "a new store on a disk that does not fail does what it is told";

impl User {
    fn new() -> User {
        let disk = Arc::new(MemoryDisk::default());
        let store = Store::open(dir(), options(disk.clone())).expect(NEW);
        User { disk, store, published: Messages::new() }
    }

    fn queue(&self, name: &str) -> Queue {
        let known = self.store.queues().into_iter().find(|q| q.attributes() == name.as_bytes());
        known.unwrap_or_else(|| self.store.create_queue(name.as_bytes()).expect(NEW).0)
    }

    /// Publishes messages in one group.
    fn publish(&mut self, names: &[&str], count: u32) {
        let queues: Vec<Queue> = names.iter().map(|name| self.queue(name)).collect();
        let queues: Vec<&Queue> = queues.iter().collect();
        for _ in 0..count {
            let message = message(names[0], self.published.len());
            for queue in &queues {
                let place = (queue.attributes().to_vec(), queue.next_sequence());
                self.published.insert(place, message.clone());
            }
            self.store.append(&message, Persistence::Durable, &queues).expect(NEW);
        }
        self.sync();
    }

    fn acknowledge(&self, name: &str, first: u64, last: u64) {
        let range = SequenceRange { first: Sequence(first), last: Sequence(last) };
        self.queue(name).acknowledge(&[range]).expect(NEW);
    }

    fn hand_out(&self, name: &str, places: std::ops::Range<u64>) {
        let delivered: Vec<(Sequence, u32)> =
            places.map(|place| (Sequence(place), 1 + place as u32 % 3)).collect();
        self.queue(name).mark_delivered(&delivered).expect(NEW);
    }

    /// Writes all that was appended.
    fn sync(&self) {
        let put = Change::put("sync", "ed");
        let lsn = self.store.apply(vec![put]).expect(NEW);
        self.store.wait_durable(lsn).expect(NEW);
    }

    /// What a machine that stops now leaves behind. `settled`: the messages that the last checkpoint has.
    fn image(self, settled: Messages) -> Image {
        let files = self.disk.files();
        let live = self.live();
        let settled = settled.into_keys().filter(|place| live.contains_key(place)).collect();
        Image { settled, files, published: self.published }
    }

    /// What an open would find now.
    fn live(&self) -> Messages {
        let disk = Arc::new(MemoryDisk::with(&self.disk.files()));
        messages(&Store::open(dir(), options(disk)).expect(NEW))
    }

    /// Writes a checkpoint, and gives the messages that are in it.
    fn checkpoint(&self) -> Messages {
        self.store.checkpoint().expect(NEW);
        self.live()
    }
}

/// A log that has seen no checkpoint.
fn young() -> Image {
    let mut user = User::new();
    user.publish(&["first"], 3);
    user.publish(&["second", "first"], 2);
    user.hand_out("first", 0..2);
    user.acknowledge("first", 0, 0);
    user.sync();
    user.publish(&["second"], 1);
    user.image(Messages::new())
}

/// A deep queue, shared messages, a deleted queue, transient messages in the log, segments that were compacted.
fn used() -> User {
    let mut user = User::new();
    user.publish(&["short"], 3);
    for _ in 0..12 {
        user.publish(&["deep"], 16);
        user.publish(&["short", "deep"], 1);
    }
    user.publish(&["deleted"], 4);
    user.hand_out("deep", 3..40);
    user.acknowledge("deep", 17, 90);
    user.acknowledge("deep", 110, 140);
    user.acknowledge("short", 1, 1);
    user.store
        .apply(vec![
            Change::DeleteQueue(user.queue("deleted").id()),
            Change::put("exchange", "direct"),
            Change::put("binding", "key"),
            Change::remove("binding"),
        ])
        .expect(NEW);
    let volatile = user.store.create_volatile_queue();
    for number in 0..30 {
        let message = message("volatile", number);
        user.store.append(&message, Persistence::Transient, &[&volatile]).expect(NEW);
    }
    user.sync();
    user.checkpoint();
    user.store.compact().expect(NEW);
    user
}

/// Closed in good order.
fn closed() -> Image {
    let user = used();
    let settled = user.checkpoint();
    user.image(settled)
}

/// Stopped in the middle of things: a checkpoint with much behind it.
fn crashed() -> Image {
    let mut user = used();
    let settled = user.checkpoint();
    user.publish(&["deep"], 20);
    user.hand_out("deep", 90..95);
    user.acknowledge("deep", 0, 4);
    user.publish(&["late", "short"], 5);
    user.acknowledge("late", 2, 3);
    user.acknowledge("deep", 150, 155);
    user.sync();
    user.publish(&["late"], 2);
    let put = Change::put("late", "entry");
    user.store.apply(vec![put]).expect(NEW);
    user.publish(&["deep"], 30);
    user.publish(&["deep"], 30);
    user.image(settled)
}

/// All of them.
pub(super) fn images() -> &'static [Image] {
    static IMAGES: LazyLock<Vec<Image>> = LazyLock::new(|| vec![young(), closed(), crashed()]);
    &IMAGES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::reseal::Sealing;
    use super::*;

    #[test]
    fn the_images_have_every_kind_of_record_between_them() {
        let mut kinds = BTreeSet::new();
        for content in images().iter().flat_map(|image| image.files.values()) {
            let Some(sealing) = Sealing::of(content) else { continue };
            for (at, header) in sealing.groups(content) {
                for (record, _) in Sealing::records(content, at, header.length) {
                    kinds.insert(content[record + 8]);
                }
            }
        }
        assert_eq!(kinds, (1..=12).collect());
    }

    #[test]
    fn the_images_are_the_same_every_time() {
        assert!(young().files == images()[0].files);
        assert!(crashed().files == images()[2].files);
    }

    #[test]
    fn the_images_are_small_and_most_of_their_messages_are_settled() {
        for image in &images()[1..] {
            let bytes: usize = image.files.values().map(|content| content.len()).sum();
            assert!(bytes < 1 << 20, "{bytes} bytes");
            assert!(image.settled.len() > 50, "{} messages", image.settled.len());
        }
    }
}
