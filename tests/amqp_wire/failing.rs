//! The log fails under a running server.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use haypile::amqp::codec::Method;
use haypile::message::{Properties, RawProperties};
use haypile::server::RunError;
use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile, RealDisk};

use crate::common::{Client, TestServer, eventually};

/// The real disk, until it is told to fail: no sync succeeds from then on.
#[derive(Debug, Default)]
struct FailingDisk(Arc<AtomicBool>);

#[derive(Debug)]
struct FailingFile(Arc<dyn DiskFile>, Arc<AtomicBool>);

impl Disk for FailingDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FailingFile(RealDisk.open(path, access)?, Arc::clone(&self.0))))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FailingFile(RealDisk.create(path)?, Arc::clone(&self.0))))
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

impl FailingFile {
    fn check(&self) -> io::Result<()> {
        const EIO: i32 = 5;
        if self.1.load(Ordering::SeqCst) { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }
}

impl DiskFile for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.check()?;
        self.0.sync_all()
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

/// A server, and what makes its disk fail.
fn failing_server() -> (TestServer, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = FailingDisk(Arc::clone(&broken));
    let server = TestServer::with(|config| config.storage.disk = Arc::new(disk));
    (server, broken)
}

/// The connection ends without an answer: at once, or, when the log had failed before the request came (at a segment to
/// come), with an internal error, or as all connections do when the server ends because of that.
fn expect_the_end(client: &mut Client) {
    while let Some(received) = client.method_or_end() {
        let method = received.method();
        assert!(
            matches!(method, Method::ConnectionClose { reply_code: 541 | 320, .. }),
            "{method:?}"
        );
    }
}

#[test]
fn nothing_is_confirmed_after_the_log_has_failed_and_the_server_ends_with_the_reason() {
    let (mut server, broken) = failing_server();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    client.call(1, &Method::ConfirmSelect { nowait: false });
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    client.publish_with(1, "", "q", false, persistent, b"safe");
    assert_eq!(client.method().name(), "basic.ack");
    broken.store(true, Ordering::SeqCst);
    client.publish_with(1, "", "q", false, persistent, b"not safe");
    // Neither an ack nor anything else: the socket is closed.
    expect_the_end(&mut client);
    match server.wait_for_end() {
        Err(RunError::Failed(error)) => {
            assert!(error.to_string().contains("the log failed"), "{error}");
        }
        other => panic!("the server ended with {other:?}"),
    }
}

#[test]
fn a_declaration_that_did_not_reach_the_disk_is_not_answered() {
    let (mut server, broken) = failing_server();
    let mut client = server.open_channel();
    broken.store(true, Ordering::SeqCst);
    client.send(1, &crate::queue_declare("q", true));
    expect_the_end(&mut client);
    assert!(matches!(server.wait_for_end(), Err(RunError::Failed(_))));
}

#[test]
fn a_failure_that_nobody_waited_for_ends_the_server() {
    let (mut server, broken) = failing_server();
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    broken.store(true, Ordering::SeqCst);
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    // Without confirms there is nothing that the publisher waits for.
    client.publish_with(1, "", "q", false, persistent, b"x");
    eventually("the server notices", || server.has_ended());
    assert!(matches!(server.wait_for_end(), Err(RunError::Failed(_))));
}
