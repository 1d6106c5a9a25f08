//! The oracle catches lies: a disk that lies about its syncs, answers that come too early, and whatever else may be wrong with
//! what a restart brings back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use haypile::simulation::{Image, SimulatedDisk};
use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile};
use haypile::storage::{
    Change, Fetch, Fetched, Message, Options, Persistence, Queue, Sequence, SequenceRange, Store,
};

use super::clients::{At, Clients};
use super::cuts::{DIR, Recording, Stage, options};
use super::model::World;
use super::recorded::{DURABLE, binding, everything};

/// A disk whose files say that they are synced, and are not, from some moment on.
#[derive(Debug)]
struct LyingDisk {
    disk: SimulatedDisk,
    lies: Arc<AtomicBool>,
}

#[derive(Debug)]
struct LyingFile {
    file: Arc<dyn DiskFile>,
    lies: Arc<AtomicBool>,
}

impl LyingDisk {
    fn lying(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(LyingFile { file, lies: self.lies.clone() })
    }
}

impl Disk for LyingDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.lying(self.disk.open(path, access)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.lying(self.disk.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        self.disk.lock_dir(dir)
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.lies.load(Relaxed) { Ok(()) } else { self.file.sync_data() }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

/// A queue that is bound to an exchange, and two confirmed messages in it.
fn two_messages(clients: &mut Clients) {
    let at = At(clients.connect(1), 0);
    clients.confirm_select(at);
    let answer = clients.declare_queue(at, "q-a", DURABLE);
    clients.receive(answer);
    let answer = clients.bind(at, &binding("amq.direct", "q-a", "hay"));
    clients.receive(answer);
    for _ in 0..2 {
        clients.publish(at, ("", "q-a"), &[], true, 10);
        clients.await_confirms(at);
    }
}

fn recorded(session: impl FnOnce(&mut Clients)) -> Recording {
    let mut stage = Stage::open(Image::default(), World::default(), (0, 0), 1);
    session(&mut stage.clients);
    stage.end()
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let lies = Arc::new(AtomicBool::new(false));
    let liar = lies.clone();
    let lying = |disk: &SimulatedDisk| Options {
        disk: Arc::new(LyingDisk { disk: disk.clone(), lies: liar }),
        ..options(disk, 1)
    };
    let mut stage = Stage::with(SimulatedDisk::new(), lying, World::default(), (0, 0), 1);
    two_messages(&mut stage.clients);
    lies.store(true, Relaxed);
    stage.clients.publish(At(0, 0), ("", "q-a"), &[], true, 10);
    stage.clients.await_confirms(At(0, 0));
    let wrong = stage.end().cut_everywhere(1, 100).unwrap_err();
    assert!(wrong.contains("queue q-a has lost 3:"), "{wrong}");
}

#[test]
fn an_answer_that_comes_before_its_time_is_found_out() {
    let early = |session: fn(&mut Clients)| {
        let recording = recorded(|clients| {
            clients.lose_patience();
            session(clients);
        });
        recording.cut_everywhere(1, 100).unwrap_err()
    };
    let declared: fn(&mut Clients) = |clients| {
        let at = At(clients.connect(1), 0);
        let answer = clients.declare_queue(at, "q-a", DURABLE);
        clients.receive(answer);
    };
    assert!(early(declared).contains("queue q-a is lost"), "{}", early(declared));
    assert!(early(everything).contains("is lost"), "{}", early(everything));
}

#[test]
fn a_confirm_that_comes_before_its_time_is_found_out() {
    let recording = recorded(|clients| {
        two_messages(clients);
        clients.lose_patience();
        clients.publish(At(0, 0), ("", "q-a"), &[], true, 10);
        clients.await_confirms(At(0, 0));
    });
    let wrong = recording.cut_everywhere(1, 100).unwrap_err();
    assert!(wrong.contains("queue q-a has lost 3:"), "{wrong}");
}

/// Changes the store behind the broker's back, and has the oracle look at it.
fn verdict_on(tampering: impl FnOnce(&Store, &Queue, &[Fetched])) -> Result<(), String> {
    let recording = recorded(two_messages);
    let disk = SimulatedDisk::of(recording.last_image());
    let store = Store::open(DIR, options(&disk, 2)).unwrap();
    let queue = store.queues().remove(0);
    let mut messages = Vec::new();
    while queue.fetch(Sequence::FIRST, 10, &mut messages) == Fetch::NeedsLoad {
        queue.load(Sequence::FIRST).unwrap();
    }
    tampering(&store, &queue, &messages);
    drop(queue);
    store.close().unwrap();
    recording.judge_last(disk.image()).map_err(|wrong| wrong.to_string())
}

fn lie_of(tampering: impl FnOnce(&Store, &Queue, &[Fetched])) -> String {
    verdict_on(tampering).unwrap_err()
}

#[test]
fn a_store_that_nobody_has_touched_tells_the_truth() {
    verdict_on(|_, _, messages| assert_eq!(messages.len(), 2)).unwrap();
}

#[test]
fn a_message_that_is_lost_doubled_altered_moved_or_marked_is_found_out() {
    let append = |store: &Store, queue: &Queue, message: &Message| {
        store.append(message, Persistence::Durable, &[queue]).unwrap();
    };
    let lost = lie_of(|_, queue, messages| {
        queue.acknowledge(&[SequenceRange::one(messages[1].sequence)]).unwrap();
    });
    assert!(lost.contains("queue q-a has lost 2:"), "{lost:?}");
    let doubled = lie_of(|store, queue, messages| append(store, queue, &messages[0].message));
    assert!(doubled.contains("more than once"), "{doubled:?}");
    let altered = lie_of(|store, queue, messages| {
        let header = messages[0].message.header().to_vec();
        append(store, queue, &Message::new(header, "1:hay"));
        queue.acknowledge(&[SequenceRange::one(messages[0].sequence)]).unwrap();
    });
    assert!(altered.contains("must not have 1:hay; queue q-a has lost 1:"), "{altered:?}");
    let moved = lie_of(|store, queue, messages| {
        append(store, queue, &messages[0].message);
        queue.acknowledge(&[SequenceRange::one(messages[0].sequence)]).unwrap();
    });
    assert!(moved.contains("was never like this"), "{moved:?}");
    let marked = lie_of(|_, queue, messages| {
        queue.mark_delivered(&[(messages[0].sequence, 1)]).unwrap();
    });
    assert!(marked.contains("with redelivered=true"), "{marked:?}");
}

#[test]
fn topology_that_is_lost_or_left_over_is_found_out() {
    let bound = |store: &Store| {
        let of_binding = |key: &[u8]| key.windows(3).any(|part| part == b"q-a");
        store.entries().into_iter().find(|(key, _)| of_binding(key)).unwrap()
    };
    let unbound = lie_of(|store, _, _| {
        store.apply(vec![Change::remove(bound(store).0)]).unwrap();
    });
    assert!(unbound.contains(r#"key: "hay", headers: [] } must not go to {}"#), "{unbound}");
    let deleted = lie_of(|store, queue, _| {
        store.apply(vec![Change::DeleteQueue(queue.id())]).unwrap();
    });
    assert!(deleted.contains("queue q-a is lost"), "{deleted}");
    let left_over = lie_of(|store, _, _| {
        let (key, value) = bound(store);
        let key: Vec<u8> =
            key.iter().map(|byte| if *byte == b'h' { b'x' } else { *byte }).collect();
        store.apply(vec![Change::put(key, value)]).unwrap();
    });
    assert!(left_over.contains("must not be 2 exchanges and bindings stored"), "{left_over}");
}

/// A crash while the bindings of a deleted queue are removed leaves some of them: the broker removes them when it starts.
#[test]
fn a_binding_of_a_queue_that_is_gone_is_removed_at_the_start() {
    verdict_on(|store, _, _| {
        let of_queue = |key: &[u8]| key.windows(3).any(|part| part == b"q-a");
        let mut entries = store.entries().into_iter();
        let (key, value) = entries.find(|(key, _)| of_queue(key)).unwrap();
        let key: Vec<u8> =
            key.iter().map(|byte| if *byte == b'q' { b'x' } else { *byte }).collect();
        store.apply(vec![Change::put(key, value)]).unwrap();
    })
    .unwrap();
}
