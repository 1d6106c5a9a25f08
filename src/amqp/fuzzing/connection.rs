//! The target `connection`: a client's whole life on a connection, against a broker with a store in memory.
//!
//! Whatever it sends, and whether it reads or not:
//!
//! - nothing panics, and nothing waits for ever;
//! - what it gets are frames, of methods that there are;
//! - what waits to be read stays bounded;
//! - a client that comes after it is served, and what that one has had confirmed is there after a crash, with all that
//!   was declared.
//!
//! The connection is the real one without its socket: bytes in, bytes out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::{Bytes, BytesMut};

use super::script::{self, Effect};
use crate::amqp::codec::{
    ContentHeader, Frame, FrameKind, Method, PROTOCOL_HEADER, put_body_frame_header,
    put_content_header, put_method, split_frames,
};
use crate::amqp::connection::Connection;
use crate::amqp::{Gateway, Limits, User};
use crate::broker::Broker;
use crate::message::{Envelope, RawProperties, RawTable};
use crate::storage::fuzzing::{Input, MemoryDisk, Repeatable};
use crate::storage::{Background, Fetch, Options, Sequence, Store};

/// More than this never waits to be read, in bytes: what a connection lets wait before it stops reading and delivering,
/// one message on top of it, and some.
const MOST_OUTPUT: usize = 2 << 20;

/// The largest frame of these connections, in bytes.
const FRAME_MAX: u32 = 8192;

/// Runs the target.
pub(crate) fn connection(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, piece) = (input.u8() % 3, usize::from(input.u8()));
    let rig = Rig::new(Arc::new(MemoryDisk::default()));
    let mut client = Client::new(&rig.gateway);
    let mut sent = BytesMut::new();
    if mode < 2 {
        script::handshake(&mut sent, FRAME_MAX);
    }
    if mode > 0 {
        sent.extend_from_slice(input.rest());
        client.send(&sent, piece);
    } else {
        while !input.is_empty() {
            match script::step(&mut input, &mut sent) {
                Effect::Sent => {}
                Effect::Flush => client.send(&sent.split(), piece),
                Effect::Read(reads) => client.reads = reads,
            }
        }
        client.send(&sent, piece);
    }
    client.leave();
    rig.serve_another();
}

/// A broker.
struct Rig {
    disk: Arc<MemoryDisk>,
    gateway: Arc<Gateway>,
}

impl Rig {
    fn new(disk: Arc<MemoryDisk>) -> Rig {
        let options = Options {
            segment_size: 64 << 10,
            segments_ahead: 1,
            segments_spare: 1,
            checkpoint_distance: 256 << 10,
            cache: 8 << 10,
            index: 4 << 10,
            chunk_places: 16,
            background: Background::Caller,
            disk: disk.clone(),
            entropy: Arc::new(Repeatable::default()),
            ..Options::default()
        };
        let store = Store::open(Path::new("/store"), options).expect("what was closed opens");
        let broker = Broker::open(store.clone()).expect("what was declared can be restored");
        let limits = Limits { frame_max: FRAME_MAX, message_size: 256 << 10, ..Limits::default() };
        let gateway = Arc::new(Gateway::new(broker, store, vec![User::guest()], limits));
        Rig { disk, gateway }
    }

    /// A client that does nothing wrong is served, and a crash takes nothing away of what it was promised.
    fn serve_another(self) {
        if self.gateway.store.is_full() {
            return;
        }
        let mut client = Client::new(&self.gateway);
        let mut sent = BytesMut::new();
        script::handshake(&mut sent, FRAME_MAX);
        put_method(&mut sent, 1, &Method::ChannelOpen { reserved_1: b"" });
        put_method(&mut sent, 1, &Method::ConfirmSelect { nowait: false });
        put_method(&mut sent, 1, &declare());
        client.send(&sent.split(), 0);
        let frames = client.frames();
        let declared = frames.last().map(|frame| Method::decode(&frame.payload));
        let Some(Ok(Method::QueueDeclareOk { queue, .. })) = declared else {
            unreachable!("the next client is not served: {declared:?}")
        };
        put_method(&mut sent, 1, &publish(queue));
        let properties = RawProperties::parse(b"\x10\0\x02").expect("these are properties");
        put_content_header(&mut sent, 1, 4, properties);
        put_body_frame_header(&mut sent, 1, 4);
        sent.extend_from_slice(b"body\xce");
        client.send(&sent.split(), 0);
        let confirmed = client.frames().iter().any(|frame| {
            matches!(Method::decode(&frame.payload), Ok(Method::BasicAck { delivery_tag: 1, .. }))
        });
        assert!(confirmed, "the next client is not confirmed");

        // The machine stops here; what is in memory is what was synced, and more.
        let disk = Arc::new(MemoryDisk::with(&self.disk.files()));
        client.leave();
        drop(self);
        let again = Rig::new(disk);
        let mut found = false;
        for queue in again.gateway.store.queues() {
            found |= queue.attributes().windows(4).any(|part| part == b"amq.") && check(&queue) > 0;
        }
        assert!(found, "a confirmed message is lost");
    }
}

/// Reads all messages of a queue as the broker would; gives their number.
fn check(queue: &crate::storage::Queue) -> usize {
    let mut all = Vec::new();
    let mut from = Sequence::FIRST;
    loop {
        let before = all.len();
        let fetch = queue.fetch(from, 64, &mut all);
        from = all.last().map_or(from, |last| last.sequence.next());
        match fetch {
            Fetch::NeedsLoad => queue.load(from).expect("what is durable is not waited for"),
            Fetch::Complete if all.len() == before => break,
            Fetch::Complete | Fetch::Partial => {}
        }
    }
    for fetched in &all {
        let envelope = Envelope::parse(fetched.message.header()).expect("the broker wrote it");
        assert!(RawProperties::parse(envelope.properties.as_bytes()).is_ok());
    }
    all.len()
}

fn declare() -> Method<'static> {
    Method::QueueDeclare {
        reserved_1: 0,
        queue: b"",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

fn publish(queue: &[u8]) -> Method<'_> {
    Method::BasicPublish {
        reserved_1: 0,
        exchange: b"",
        routing_key: queue,
        mandatory: true,
        immediate: false,
    }
}

/// Wakes the fuzzer's thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// One end of a connection, and the other.
struct Client {
    gateway: Arc<Gateway>,
    connection: Connection,
    /// What the server has received and not looked at.
    input: BytesMut,
    /// Whether the client reads.
    reads: bool,
    received: BytesMut,
    waker: Waker,
}

impl Client {
    fn new(gateway: &Arc<Gateway>) -> Client {
        Client {
            gateway: gateway.clone(),
            connection: Connection::new(gateway.clone(), SocketAddr::from(([127, 0, 0, 1], 1))),
            input: BytesMut::new(),
            reads: true,
            received: BytesMut::new(),
            waker: Waker::from(Arc::new(Unpark(thread::current()))),
        }
    }

    /// Sends bytes, in pieces of so many (0: all at once), each of them when the server reads.
    fn send(&mut self, bytes: &[u8], piece: usize) {
        let piece = if piece == 0 { bytes.len().max(1) } else { piece };
        for piece in bytes.chunks(piece) {
            self.settle();
            if self.connection.is_finished() || !self.connection.wants_input() {
                return; // Gone, or held back for want of room on the disk.
            }
            self.input.extend_from_slice(piece);
            while self.connection.work(&mut self.input) {}
        }
        self.settle();
    }

    /// Has the server do all that it can, until it waits for the client.
    fn settle(&mut self) {
        loop {
            while self.connection.work(&mut self.input) {}
            let waits = self.connection.output.len();
            assert!(waits < MOST_OUTPUT, "{waits} bytes wait to be read");
            // A client that never reads waits for ever, which is its own doing.
            if self.reads || !self.connection.wants_input() {
                self.read();
            }
            if self.connection.is_finished() {
                return;
            }
            match self.connection.poll(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(()) => {}
                // Messages are read back, expire, or go to their dead-letter exchange.
                Poll::Pending if self.gateway.broker.work_off() => {}
                Poll::Pending if self.connection.wants_input() => return,
                Poll::Pending if !self.connection.output.is_empty() => {}
                Poll::Pending if self.gateway.store.is_full() => return,
                // A message is being read from the disk.
                Poll::Pending => thread::park(),
            }
        }
    }

    fn read(&mut self) {
        while !self.connection.output.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let filled = self.connection.output.slices(&mut slices);
            let count = slices[..filled].iter().map(|slice| slice.len()).sum();
            slices[..filled].iter().for_each(|slice| self.received.extend_from_slice(slice));
            self.connection.output.advance(count);
        }
        if self.received.starts_with(&PROTOCOL_HEADER) {
            assert_eq!(self.received.len(), PROTOCOL_HEADER.len());
            assert!(self.connection.is_finished());
            self.received.clear();
        }
        // What came before is of no further interest, unless somebody asks for it.
        if self.received.len() > MOST_OUTPUT {
            self.frames();
        }
    }

    /// What has been received.
    fn frames(&mut self) -> Vec<Frame> {
        let (frames, error) = split_frames(&mut self.received, FRAME_MAX);
        assert_eq!(error, None, "the server sent something that is not a frame");
        let frames: Vec<Frame> = frames.collect();
        for Frame { kind, payload, .. } in &frames {
            match kind {
                FrameKind::Method => assert!(Method::decode(payload).is_ok(), "{payload:?}"),
                FrameKind::Header => assert!(ContentHeader::decode(payload).is_ok(), "{payload:?}"),
                FrameKind::Body | FrameKind::Heartbeat => {}
            }
        }
        frames
    }

    /// Reads what there is, and goes without a word.
    fn leave(mut self) {
        self.reads = true;
        self.settle();
        self.read();
        self.frames();
        assert!(self.received.is_empty(), "the server sent a part of a frame");
        self.connection.end();
    }
}

/// Inputs to begin with: what a client usually does, and a few things that it should not.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let script = |steps: &[&[u8]]| [&[0, 0], &steps.concat()[..]].concat();
    const OPEN: &[u8] = &[5, 1, 1];
    const DECLARE: &[u8] = &[13, 0, 0b10, 0, 0];
    const PUBLISH: &[u8] = &[7, 0, 0b100, 0, 0, 1, 20];
    let mut seeds: Vec<(String, Vec<u8>)> = [
        ("publish", script(&[OPEN, &[31, 0, 0], DECLARE, &[0], PUBLISH, PUBLISH, &[0]])),
        ("get", script(&[OPEN, DECLARE, PUBLISH, &[25, 0, 0, 0, 0, 26, 0, 8, 0]])),
        (
            "consume",
            script(&[
                OPEN,
                DECLARE,
                PUBLISH,
                PUBLISH,
                &[29, 0, 0, 0, 1, 22, 0, 0, 0, 1, 0, 0, 27, 0, 11, 0],
            ]),
        ),
        (
            "fan-out",
            script(&[
                OPEN,
                DECLARE,
                &[13, 0, 0, 1, 0],
                &[16, 0, 0, 0, 2, 0, 0],
                &[16, 0, 0, 1, 2, 0, 0],
                &[7, 0, 1, 2, 0, 1, 200],
                &[15, 0, 2, 0, 5, 2, 0, 19, 0, 0, 0, 2, 5, 3, 0],
            ]),
        ),
        (
            "unread",
            script(&[OPEN, DECLARE, &[1, 0, 22, 0, 2, 0, 1, 0], &PUBLISH.repeat(40), &[0, 1, 1]]),
        ),
        ("unroutable", script(&[OPEN, &[7, 0, 0b1111, 0, 3, 0, 255], &[0]])),
        ("delete", script(&[OPEN, DECLARE, PUBLISH, &[21, 0, 2, 0, 21, 0, 0, 0, 0]])),
        ("errors", script(&[OPEN, &[13, 0, 1, 2, 0, 6, 0, 1, 5, 1, 1], &[13, 0, 0, 3, 5]])),
        ("half", script(&[OPEN, &[7, 0, 0xf0, 0, 0, 0, 9, 0xff, 0, 0, 0, 6, 0, 2]])),
        ("any-frame", script(&[OPEN, &[3, 1, 1, 4, 0, 20, 0, 20, 2, 3, 9, 9, 9]])),
        ("close", script(&[OPEN, DECLARE, &[6, 0, 0]])),
    ]
    .into_iter()
    .map(|(name, seed)| (name.to_owned(), seed))
    .collect();
    let mut whole = BytesMut::new();
    script::handshake(&mut whole, FRAME_MAX);
    seeds.push(("handshake".to_owned(), [&[2, 7], &whole[..]].concat()));
    let http = Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n");
    seeds.push(("another-protocol".to_owned(), [&[2, 0], &http[..]].concat()));
    seeds
}
