//! What a connection does with most of what it gets, to be measured: see [`benchmarks`](crate::benchmarks).
//!
//! The connection is the real one without its socket: bytes in, bytes out. The broker's store is in memory.

use std::hint::black_box;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::BytesMut;

use super::codec::{
    ContentHeader, Frame, FrameKind, Method, put_body_frame_header, put_content_header, put_method,
    split_frames,
};
use super::connection::Connection;
use super::fuzzing::handshake;
use super::{Gateway, Limits, User};
use crate::benchmarks::{Benchmark, Part};
use crate::broker::Broker;
use crate::message::{RawProperties, RawTable};
use crate::storage::benchmarks::{settle, store};

/// How many messages a run is about.
const MESSAGES: u64 = 256;

/// Bytes of a body.
const SIZE: usize = 1024;

const FRAME_MAX: u32 = 131_072;

const QUEUE: &[u8] = b"queue";

/// The turns that a method of these parts takes at most.
const MOST_TURNS: u32 = 1000;

/// See [`benchmarks::all`](crate::benchmarks::all).
pub(crate) const PARTS: &[Benchmark] = &[
    Benchmark {
        group: "amqp",
        name: "parse the frames of a 1 KiB message",
        operations: MESSAGES,
        bytes: SIZE as u64,
        make: Parse::boxed,
    },
    Benchmark {
        group: "amqp",
        name: "parse, route, store and confirm a 1 KiB message",
        operations: MESSAGES,
        bytes: SIZE as u64,
        make: Publish::boxed,
    },
    Benchmark {
        group: "amqp",
        name: "acknowledge a 1 KiB message and deliver the next",
        operations: MESSAGES,
        bytes: 0,
        make: Deliver::boxed,
    },
];

/// One persistent message for the queue, as a client sends it.
fn put_message(out: &mut BytesMut) {
    let publish = Method::BasicPublish {
        reserved_1: 0,
        exchange: b"",
        routing_key: QUEUE,
        mandatory: false,
        immediate: false,
    };
    put_method(out, 1, &publish);
    let persistent = RawProperties::parse(b"\x10\0\x02").expect("these are properties");
    put_content_header(out, 1, SIZE as u64, persistent);
    put_body_frame_header(out, 1, SIZE as u32);
    out.extend_from_slice(&[b'x'; SIZE]);
    out.extend_from_slice(b"\xce");
}

fn messages() -> BytesMut {
    let mut out = BytesMut::new();
    (0..MESSAGES).for_each(|_| put_message(&mut out));
    out
}

/// Frames, methods and content headers out of bytes.
struct Parse {
    sent: BytesMut,
    input: BytesMut,
}

impl Parse {
    fn boxed() -> Box<dyn Part> {
        Box::new(Parse { sent: messages(), input: BytesMut::new() })
    }
}

impl Part for Parse {
    fn prepare(&mut self) {
        self.input = self.sent.clone();
    }

    fn run(&mut self) {
        let (frames, error) = split_frames(&mut self.input, FRAME_MAX);
        assert_eq!(error, None, "these are frames");
        for Frame { kind, payload, .. } in frames {
            match kind {
                FrameKind::Method => drop(black_box(Method::decode(&payload))),
                FrameKind::Header => drop(black_box(ContentHeader::decode(&payload))),
                FrameKind::Body | FrameKind::Heartbeat => drop(black_box(payload)),
            }
        }
    }
}

/// A client with one channel, and its connection at the server.
struct Client {
    connection: Connection,
    input: BytesMut,
    received: BytesMut,
}

fn gateway() -> Arc<Gateway> {
    let store = store();
    let broker = Broker::open(store.clone()).expect("there is nothing to restore");
    Arc::new(Gateway::new(broker, store, vec![User::guest()], Limits::default()))
}

impl Client {
    fn new(gateway: &Arc<Gateway>) -> Client {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut client = Client {
            connection: Connection::new(gateway.clone(), peer),
            input: BytesMut::new(),
            received: BytesMut::new(),
        };
        handshake(&mut client.input, FRAME_MAX);
        client.method(&Method::ChannelOpen { reserved_1: b"" });
        client
    }

    /// Sends a method, and has it answered.
    fn method(&mut self, method: &Method<'_>) {
        put_method(&mut self.input, 1, method);
        self.work();
    }

    /// Has the server do all that it can with what was sent. It never waits: the store writes when it is asked.
    fn work(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = 0;
        loop {
            while self.connection.work(&mut self.input) {}
            while !self.connection.output.is_empty() {
                let mut slices = [IoSlice::new(&[]); 64];
                let filled = self.connection.output.slices(&mut slices);
                let count = slices[..filled].iter().map(|slice| slice.len()).sum();
                for slice in &slices[..filled] {
                    self.received.extend_from_slice(slice);
                }
                self.connection.output.advance(count);
            }
            if self.connection.poll(&mut context).is_pending() {
                if self.connection.wants_input() {
                    return;
                }
                // A method that is done in pieces yields to others of the thread before it goes on.
                turns += 1;
                assert!(turns < MOST_TURNS, "the server waits for something");
            }
        }
    }

    /// How many of the methods that it has received since it was last asked are like this.
    fn received(&mut self, like: impl Fn(&Method<'_>) -> bool) -> u64 {
        let (frames, error) = split_frames(&mut self.received, FRAME_MAX);
        assert_eq!(error, None, "a server sends frames");
        let methods = frames.filter(|frame| frame.kind == FrameKind::Method);
        methods.filter(|frame| Method::decode(&frame.payload).is_ok_and(|m| like(&m))).count()
            as u64
    }

    fn declare(&mut self) {
        self.method(&Method::QueueDeclare {
            reserved_1: 0,
            queue: QUEUE,
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        });
    }
}

/// A publisher's messages, from bytes to confirms.
struct Publish {
    gateway: Arc<Gateway>,
    client: Client,
    sent: BytesMut,
}

impl Publish {
    fn boxed() -> Box<dyn Part> {
        let gateway = gateway();
        let mut client = Client::new(&gateway);
        client.declare();
        client.method(&Method::ConfirmSelect { nowait: false });
        Box::new(Publish { gateway, client, sent: messages() })
    }
}

impl Part for Publish {
    fn prepare(&mut self) {
        self.client.method(&Method::QueuePurge { reserved_1: 0, queue: QUEUE, nowait: false });
        settle(&self.gateway.store);
        self.client.received(|_| true);
        self.client.input = self.sent.clone();
    }

    fn run(&mut self) {
        self.client.work();
        assert!(!self.client.received.is_empty(), "nothing was confirmed");
    }
}

/// A consumer that has all that it may have, and acknowledges one message after the other.
struct Deliver {
    gateway: Arc<Gateway>,
    publisher: Client,
    consumer: Client,
    /// The last message that the consumer has acknowledged.
    acknowledged: u64,
    sent: BytesMut,
}

impl Deliver {
    fn boxed() -> Box<dyn Part> {
        let gateway = gateway();
        let mut publisher = Client::new(&gateway);
        publisher.declare();
        let mut consumer = Client::new(&gateway);
        let prefetch_count = MESSAGES as u16;
        consumer.method(&Method::BasicQos { prefetch_size: 0, prefetch_count, global: false });
        consumer.method(&Method::BasicConsume {
            reserved_1: 0,
            queue: QUEUE,
            consumer_tag: b"consumer",
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        });
        let sent = messages();
        publisher.input = sent.clone();
        publisher.work();
        consumer.work();
        Box::new(Deliver { gateway, publisher, consumer, acknowledged: 0, sent })
    }
}

impl Part for Deliver {
    fn prepare(&mut self) {
        let delivered = self.consumer.received(|m| matches!(m, Method::BasicDeliver { .. }));
        assert_eq!(delivered, MESSAGES, "as many were acknowledged as could be delivered");
        self.publisher.input = self.sent.clone();
        self.publisher.work();
        settle(&self.gateway.store);
        for _ in 0..MESSAGES {
            self.acknowledged += 1;
            let ack = Method::BasicAck { delivery_tag: self.acknowledged, multiple: false };
            put_method(&mut self.consumer.input, 1, &ack);
        }
    }

    fn run(&mut self) {
        self.consumer.work();
    }
}
