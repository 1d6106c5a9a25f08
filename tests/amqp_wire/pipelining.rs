//! Clients that do not wait for an answer before they send the next request.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use haypile::amqp::codec::{Method, put_method};
use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile, RealDisk};

use crate::common::{TestServer, queue_declare};

/// The real disk, with its syncs counted.
#[derive(Debug, Default)]
struct CountingDisk(Arc<AtomicUsize>);

#[derive(Debug)]
struct CountingFile(Arc<dyn DiskFile>, Arc<AtomicUsize>);

impl Disk for CountingDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(RealDisk.open(path, access)?, Arc::clone(&self.0))))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(RealDisk.create(path)?, Arc::clone(&self.0))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        RealDisk.lock_dir(dir)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

/// Every declaration used to wait for a sync of its own: 50,000 queues took 9 s.
#[test]
fn declarations_sent_together_share_their_syncs() {
    const QUEUES: usize = 500;
    let syncs = Arc::new(AtomicUsize::new(0));
    let disk = CountingDisk(Arc::clone(&syncs));
    let server = TestServer::with(|config| {
        config.storage.disk = Arc::new(disk);
        // Nothing is synced because it has waited for long, which on a slow machine everything has.
        config.storage.lazy_sync = Duration::from_secs(3600);
    });
    let mut client = server.open_channel();
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
    let mut out = BytesMut::new();
    names.iter().for_each(|name| put_method(&mut out, 1, &queue_declare(name, true)));
    let before = syncs.load(Ordering::SeqCst);
    client.send_bytes(&out);
    for name in &names {
        let answer = client.method();
        let Method::QueueDeclareOk { queue, .. } = answer.method() else { panic!("{answer:?}") };
        assert_eq!(queue, name.as_bytes());
    }
    let syncs = syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < QUEUES / 5, "{syncs} syncs for {QUEUES} declarations");
    assert!(client.is_served());
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.open_channel(2);
    let mut out = BytesMut::new();
    for name in ["a", "b"] {
        put_method(&mut out, 1, &queue_declare(name, true));
        put_method(&mut out, 2, &crate::queue_bind(name, "amq.direct", "key"));
        // Answered without a sync, and yet in its turn.
        put_method(&mut out, 1, &queue_declare("transient", false));
    }
    // No such exchange: the channel is closed, after all answers.
    put_method(&mut out, 1, &crate::queue_bind("a", "missing", "key"));
    put_method(&mut out, 2, &crate::basic_get("a"));
    client.send_bytes(&out);
    for _ in 0..2 {
        for (channel, name) in
            [(1, "queue.declare-ok"), (2, "queue.bind-ok"), (1, "queue.declare-ok")]
        {
            let answer = client.method();
            assert_eq!((answer.channel(), answer.name()), (channel, name));
        }
    }
    client.expect_channel_close(1, 404);
    let answer = client.method();
    assert_eq!((answer.channel(), answer.name()), (2, "basic.get-empty"));
}

#[test]
fn what_closes_the_connection_comes_after_the_answers_to_what_was_sent_before() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    let mut out = BytesMut::new();
    put_method(&mut out, 1, &queue_declare("a", true));
    put_method(&mut out, 1, &queue_declare("b", true));
    put_method(
        &mut out,
        1,
        &Method::BasicPublish {
            reserved_1: 0,
            exchange: b"",
            routing_key: b"a",
            mandatory: false,
            immediate: true,
        },
    );
    put_method(&mut out, 1, &queue_declare("c", true));
    client.send_bytes(&out);
    for _ in 0..2 {
        assert_eq!(client.method().name(), "queue.declare-ok");
    }
    client.expect_close(540);
}

/// py-amqp fails when it hears that its consumer is gone while it waits for `queue.delete-ok`.
#[test]
fn who_deletes_its_own_queue_is_answered_before_its_consumer_is_cancelled() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    for durable in [false, true] {
        client.declare_queue(1, "q", durable);
        client.consume(1, "q", false);
        client.delete_queue(1, "q");
        let cancel = Method::BasicCancel { consumer_tag: b"consumer", nowait: true };
        assert_eq!(client.method().method(), cancel);
    }
}
