//! Damage that a running server meets: its consumers get everything else, in order, and it is told afterwards.

#![expect(clippy::disallowed_methods, reason = "files are damaged from outside")]

use std::path::{Path, PathBuf};

use haypile::amqp::codec::Method;
use haypile::message::{Properties, RawProperties};
use haypile::storage::disk::RealDisk;
use haypile::storage::inspect::verify;
use haypile::storage::{Background, Options, Store};

use crate::common::{Client, TestServer, queue_declare};

const MESSAGES: usize = 200;

fn options() -> Options {
    Options { segment_size: 64 << 10, chunk_places: 16, index: 0, ..Options::default() }
}

fn serve(data_dir: &Path) -> TestServer {
    let data_dir = data_dir.to_owned();
    TestServer::with(|config| {
        config.data_dir = data_dir;
        config.storage = options();
    })
}

fn body(n: usize) -> Vec<u8> {
    format!("message {n:>1000}").into_bytes()
}

/// Publishes all messages, and as many times two others, that go again; on return all of it is confirmed.
fn publish(client: &mut Client) {
    client.declare_queue(1, "orders", true);
    client.declare_queue(1, "passing", true);
    client.call(1, &Method::ConfirmSelect { nowait: false });
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    for n in 0..MESSAGES {
        client.publish_with(1, "", "orders", false, persistent, &body(n));
        for _ in 0..2 {
            client.publish_with(1, "", "passing", false, persistent, &[0; 1000]);
        }
    }
    let mut confirmed = 0;
    while confirmed < 3 * MESSAGES as u64 {
        let received = client.method();
        let Method::BasicAck { delivery_tag, .. } = received.method() else {
            panic!("basic.ack was expected, {received:?} came");
        };
        confirmed = delivery_tag;
    }
    let purge = Method::QueuePurge { reserved_1: 0, queue: b"passing", nowait: false };
    assert_eq!(client.call(1, &purge).name(), "queue.purge-ok");
}

fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data_dir).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "segment"));
    files.sort();
    files
}

/// Flips a bit behind what begins like this, wherever that is.
fn damage(data_dir: &Path, beginning: &[u8]) {
    let mut damaged = 0;
    for file in segments(data_dir) {
        let mut content = std::fs::read(&file).unwrap();
        let found = content.windows(beginning.len()).enumerate();
        let found: Vec<usize> = found.filter(|(_, w)| *w == beginning).map(|(at, _)| at).collect();
        found.iter().for_each(|at| content[at + beginning.len() - 1] ^= 0x80);
        damaged += found.len();
        std::fs::write(&file, content).unwrap();
    }
    assert!(damaged > 0);
}

/// Has a consumer take all messages but these, which are damaged, and acknowledge them; then `verify` tells of each damaged
/// one its queue and its place, and where the damaged record is, of one of these
/// kinds.
fn consume_all_but(data_dir: &Path, damaged: &[usize], kinds: &[u8]) {
    let mut server = serve(data_dir);
    let mut client = server.open_channel();
    client.consume(1, "orders", false);
    for n in (0..MESSAGES).filter(|n| !damaged.contains(n)) {
        let (delivery_tag, _, received) = client.delivery();
        assert!(received == body(n), "{n} was expected, {}", String::from_utf8_lossy(&received));
        client.send(1, &Method::BasicAck { delivery_tag, multiple: false });
    }
    // What comes behind is delivered as well, and comes next.
    client.publish(1, "", "orders", b"behind");
    assert_eq!(client.delivery().2, b"behind");
    drop(client);
    server.stop().unwrap();

    let found = verify(&RealDisk::shared(), data_dir, |_| {}).unwrap();
    assert!(found.refusal.is_none());
    let mut told = Vec::new();
    for finding in found.damage.iter().filter(|finding| !finding.messages.is_empty()) {
        let content = std::fs::read(&finding.file).unwrap();
        assert!(kinds.contains(&content[finding.offset as usize + 8]), "{finding:?}");
        for message in &finding.messages {
            let name = String::from_utf8_lossy(&message.attributes);
            assert!(name.contains("orders"), "{name}");
            told.push(message.sequence.get() as usize);
        }
    }
    told.sort_unstable();
    assert_eq!(told, damaged);
    // And a server tells its clients how many there are.
    let server = serve(data_dir);
    let mut client = server.open_channel();
    let declared = client.call(1, &queue_declare("orders", true));
    let Method::QueueDeclareOk { message_count, .. } = declared.method() else {
        panic!("{declared:?}");
    };
    assert_eq!(message_count as usize, damaged.len());
}

fn published() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(directory.path());
    publish(&mut server.open_channel());
    server.stop().unwrap();
    // The lists may be in the same group as the last checkpoint, and a store whose tail is damaged does not open: so there is
    // another checkpoint, which leaves them where they are.
    let quiet = Options { background: Background::Caller, ..options() };
    Store::open(directory.path(), quiet).unwrap().close().unwrap();
    directory
}

#[test]
fn a_consumer_gets_everything_but_damaged_messages() {
    let directory = published();
    for n in [0, 70, 71, 199] {
        damage(directory.path(), &body(n));
    }
    // The server may have moved some of them already.
    consume_all_but(directory.path(), &[0, 70, 71, 199], &[1, 11]);
}

#[test]
fn a_consumer_gets_everything_but_messages_that_were_moved_and_then_damaged() {
    let directory = published();
    let store = Store::open(directory.path(), options()).unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    for n in [0, 70, 71] {
        damage(directory.path(), &body(n));
    }
    consume_all_but(directory.path(), &[0, 70, 71], &[11]);
}

#[test]
fn a_consumer_gets_everything_but_the_messages_of_a_damaged_list() {
    let directory = published();
    // Kind 6, queue 1; then the first place, and how many there are.
    let list = b"\x06\0\0\0\x01\0\0\0\0\0\0\0";
    for file in segments(directory.path()) {
        let mut content = std::fs::read(&file).unwrap();
        for at in 0..content.len() - 32 {
            let places = u32::from_le_bytes(content[at + 20..at + 24].try_into().unwrap());
            let first = u64::from_le_bytes(content[at + 12..at + 20].try_into().unwrap());
            if content[at..].starts_with(list) && (first..first + u64::from(places)).contains(&70) {
                content[at + 24] ^= 0x80;
            }
        }
        std::fs::write(&file, content).unwrap();
    }
    let found = verify(&RealDisk::shared(), directory.path(), |_| {}).unwrap();
    let listed: Vec<usize> = found
        .damage
        .iter()
        .flat_map(|finding| &finding.messages)
        .map(|message| message.sequence.get() as usize)
        .collect();
    assert!(listed.contains(&70) && listed.len() <= 16, "{listed:?}");
    consume_all_but(directory.path(), &listed, &[6]);
}
