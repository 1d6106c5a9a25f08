//! Group commit: threads that append to one queue on the real disk, each of which waits for its own message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use haypile::storage::{Message, Options, Persistence, Queue, Sequence, SequenceRange, Store};
use tempfile::TempDir;

const THREADS: [u64; 4] = [1, 4, 16, 64];

/// Bytes of a body.
const SIZE: usize = 1024;

/// How long the store is left alone to make its first segments ready.
const SETTLE: Duration = Duration::from_secs(2);

/// Times a message, with so many threads at work. The store is in the system's directory for temporary files.
pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group commit");
    group.throughput(Throughput::Elements(1));
    for threads in THREADS {
        // This is called for each sample; the store is made by the first, if there is one.
        let mut rig = None;
        group.bench_function(format!("1 KiB, {threads} threads"), |bencher| {
            let rig = rig.get_or_insert_with(Rig::new);
            bencher.iter_custom(|messages| {
                let time = append(&rig.store, &rig.queue, threads, messages);
                rig.empty();
                time
            });
        });
    }
    group.finish();
}

/// A store with one queue.
struct Rig {
    queue: Queue,
    store: Store,
    _dir: TempDir,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().expect("there is a directory for temporary files");
        let store = Store::open(dir.path(), Options::default()).expect("the directory is empty");
        let (queue, _) = store.create_queue(b"queue").expect("the disk is whole");
        thread::sleep(SETTLE);
        Rig { queue, store, _dir: dir }
    }

    fn empty(&self) {
        if let Some(last) = self.queue.next_sequence().previous() {
            let all = SequenceRange { first: Sequence::FIRST, last };
            self.queue.acknowledge(&[all]).expect("the disk is whole");
        }
    }
}

fn append(store: &Store, queue: &Queue, threads: u64, messages: u64) -> Duration {
    let next = AtomicU64::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < messages {
                    let message = Message::new(&b"header"[..], vec![b'x'; SIZE]);
                    let appended = store.append(&message, Persistence::Durable, &[queue]);
                    let durable_at = appended.expect("the disk is whole").durable_at;
                    let lsn = durable_at.expect("the queue is durable");
                    store.wait_durable(lsn).expect("the disk is whole");
                }
            });
        }
    });
    began.elapsed()
}
