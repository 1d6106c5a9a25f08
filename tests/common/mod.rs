//! A server in this process, and a client that speaks in single frames, right or wrong ones.

#![allow(dead_code)] // every test binary uses its own part of this

pub(crate) mod process;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use haypile::amqp::Limits;
use haypile::amqp::codec::{
    Frame, FrameKind, Method, PROTOCOL_HEADER, put_body_frame_header, put_content_header,
    put_method, split_frames,
};
use haypile::message::{FieldTable, RawProperties, RawTable, ShortStr, Value};
use haypile::server::{Config, RunError, Server};
use haypile::storage;
use tokio::sync::oneshot;

/// How long an answer may take before the test fails: far longer than on any machine on which it comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port, with its data in a directory of its own.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Result<(), RunError>>>,
    _directory: tempfile::TempDir,
}

impl TestServer {
    pub(crate) fn start() -> TestServer {
        TestServer::with(|_| {})
    }

    /// Starts a server with limits other than the default ones.
    pub(crate) fn with_limits(change: impl FnOnce(&mut Limits)) -> TestServer {
        TestServer::with(|config| change(&mut config.limits))
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> TestServer {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            data_dir: directory.path().join("data"),
            // Small segments, because every server writes its first ones full.
            storage: storage::Options { segment_size: 1 << 20, ..storage::Options::default() },
            ..Config::default()
        };
        // However slow the machine is: nobody is cut off whom the test has not meant to be.
        config.limits.handshake = PATIENCE;
        change(&mut config);
        let (stop, stopped) = oneshot::channel();
        let (started, address) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::bind(config).await.unwrap();
                let tls = server.tls_addresses().first().copied();
                started.send((server.addresses()[0], tls)).unwrap();
                server
                    .run(async {
                        stopped.await.ok();
                    })
                    .await
            })
        });
        let (address, tls_address) = address.recv_timeout(PATIENCE).unwrap();
        TestServer {
            address,
            tls_address,
            stop: Some(stop),
            thread: Some(thread),
            _directory: directory,
        }
    }

    /// A socket on which nothing has been sent.
    pub(crate) fn connect(&self) -> Client {
        Client::new(self.address)
    }

    /// A connection after negotiation, with the default terms.
    pub(crate) fn open(&self) -> Client {
        let mut client = self.connect();
        client.open_connection(2047, 131_072, 0);
        client
    }

    /// A connection with channel 1 open.
    pub(crate) fn open_channel(&self) -> Client {
        let mut client = self.open();
        client.open_channel(1);
        client
    }

    /// Tells the server to stop, without waiting for it.
    pub(crate) fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Whether the server has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// Waits until the server ends by itself, and returns how it did.
    pub(crate) fn wait_for_end(&mut self) -> Result<(), RunError> {
        eventually("the server ends", || self.has_ended());
        self.thread.take().unwrap().join().unwrap()
    }

    /// Stops the server and returns how it ended.
    pub(crate) fn stop(&mut self) -> Result<(), RunError> {
        self.tell_to_stop();
        self.wait_for_end()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if self.thread.is_some() && !thread::panicking() {
            self.stop().unwrap();
        }
    }
}

/// A client that sends and receives single frames.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Where it speaks TLS.
    tls: Option<Box<rustls::ClientConnection>>,
    input: BytesMut,
    frames: std::collections::VecDeque<Frame>,
    /// Whether it says that it understands `connection.blocked`.
    pub(crate) understands_blocked: bool,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        Client::on(TcpStream::connect(address).unwrap())
    }

    /// One on a connected socket, on which another may be reading.
    pub(crate) fn on(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            tls: None,
            input: BytesMut::new(),
            frames: Default::default(),
            understands_blocked: false,
        }
    }

    /// One that speaks TLS.
    pub(crate) fn with_tls(address: SocketAddr, tls: rustls::ClientConnection) -> Client {
        Client { tls: Some(Box::new(tls)), ..Client::new(address) }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).unwrap();
    }

    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write_all(bytes),
        }
    }

    /// What has arrived; 0 bytes: the server has closed its side.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(buffer),
        }
    }

    pub(crate) fn send(&mut self, channel: u16, method: &Method<'_>) {
        let mut out = BytesMut::new();
        put_method(&mut out, channel, method);
        self.send_bytes(&out);
    }

    /// `basic.publish`, not mandatory, with its content in one write.
    pub(crate) fn publish(&mut self, channel: u16, exchange: &str, routing_key: &str, body: &[u8]) {
        self.publish_with(channel, exchange, routing_key, false, RawProperties::NONE, body);
    }

    pub(crate) fn publish_with(
        &mut self,
        channel: u16,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        properties: RawProperties<'_>,
        body: &[u8],
    ) {
        let mut out = BytesMut::new();
        put_method(&mut out, channel, &publish_method(exchange, routing_key, mandatory));
        put_content_header(&mut out, channel, body.len() as u64, properties);
        for piece in body.chunks(131_072 - 8) {
            put_body_frame_header(&mut out, channel, u32::try_from(piece.len()).unwrap());
            out.put_slice(piece);
            out.put_u8(0xCE);
        }
        self.send_bytes(&out);
    }

    /// The next frame, or nothing when the server has closed the socket.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            let mut chunk = [0; 65_536];
            match self.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame: {error}"),
            }
            let (frames, error) = split_frames(&mut self.input, 1 << 20);
            assert_eq!(error, None, "the server sent something that is not a frame");
            self.frames.extend(frames);
        }
    }

    /// The next method, on any channel; heartbeats are skipped.
    pub(crate) fn method(&mut self) -> Received {
        loop {
            let frame = self.frame().expect("a method, but the server closed the socket");
            match frame.kind {
                FrameKind::Heartbeat => {}
                FrameKind::Method => return Received(frame),
                kind => panic!("a method was expected, {kind:?} came"),
            }
        }
    }

    /// The next method, or nothing when the server has closed the socket.
    pub(crate) fn method_or_end(&mut self) -> Option<Received> {
        self.frame().map(Received)
    }

    /// The next content: its properties and its body.
    pub(crate) fn content(&mut self) -> (Vec<u8>, Vec<u8>) {
        let header = self.frame().unwrap();
        assert_eq!(header.kind, FrameKind::Header);
        let size = u64::from_be_bytes(header.payload[4..12].try_into().unwrap());
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let frame = self.frame().unwrap();
            assert_eq!((frame.kind, frame.channel), (FrameKind::Body, header.channel));
            body.extend_from_slice(&frame.payload);
        }
        (header.payload[12..].to_vec(), body)
    }

    /// Sends a method and returns the answer.
    pub(crate) fn call(&mut self, channel: u16, method: &Method<'_>) -> Received {
        self.send(channel, method);
        self.method()
    }

    pub(crate) fn expect_eof(&mut self) {
        while let Some(frame) = self.frame() {
            assert_eq!(frame.kind, FrameKind::Heartbeat, "the end was expected, {frame:?} came");
        }
    }

    /// Expects `connection.close` with that code, answers it, and expects the end. Returns the text.
    pub(crate) fn expect_close(&mut self, code: u16) -> String {
        let text = self.expect_close_method(code);
        // The server may be gone already, when it could make no sense of our bytes.
        let mut out = BytesMut::new();
        put_method(&mut out, 0, &Method::ConnectionCloseOk {});
        self.try_send_bytes(&out).ok();
        self.expect_eof();
        text
    }

    pub(crate) fn expect_close_method(&mut self, code: u16) -> String {
        let received = self.method();
        match received.method() {
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                let text = String::from_utf8(reply_text.to_vec()).unwrap();
                assert_eq!(reply_code, code, "{text}");
                text
            }
            other => panic!("connection.close {code} was expected, {other:?} came"),
        }
    }

    /// Expects `channel.close` with that code, and answers it. Returns the text.
    pub(crate) fn expect_channel_close(&mut self, channel: u16, code: u16) -> String {
        let received = self.method();
        assert_eq!(received.channel(), channel);
        match received.method() {
            Method::ChannelClose { reply_code, reply_text, .. } => {
                let text = String::from_utf8(reply_text.to_vec()).unwrap();
                assert_eq!(reply_code, code, "{text}");
                self.send(channel, &Method::ChannelCloseOk {});
                text
            }
            other => panic!("channel.close {code} was expected, {other:?} came"),
        }
    }

    /// Up to `connection.tune`.
    pub(crate) fn log_in(&mut self) {
        self.send_bytes(&PROTOCOL_HEADER);
        assert_eq!(self.method().name(), "connection.start");
        self.start_ok("PLAIN", b"\0guest\0guest", true);
        assert_eq!(self.method().name(), "connection.tune");
    }

    pub(crate) fn start_ok(&mut self, mechanism: &str, response: &[u8], wants_to_know: bool) {
        let capabilities: FieldTable = [
            (ShortStr::from_static("authentication_failure_close"), Value::Bool(wants_to_know)),
            (ShortStr::from_static("consumer_cancel_notify"), Value::Bool(true)),
            (ShortStr::from_static("connection.blocked"), Value::Bool(self.understands_blocked)),
        ]
        .into_iter()
        .collect();
        let properties: FieldTable =
            [(ShortStr::from_static("capabilities"), Value::Table(capabilities))]
                .into_iter()
                .collect();
        let properties = properties.to_bytes();
        self.send(
            0,
            &Method::ConnectionStartOk {
                client_properties: RawTable::parse(&properties).unwrap(),
                mechanism: mechanism.as_bytes(),
                response,
                locale: b"en_US",
            },
        );
    }

    pub(crate) fn tune_ok(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) {
        self.send(0, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat });
    }

    pub(crate) fn open_virtual_host(&mut self, name: &str) {
        let virtual_host = name.as_bytes();
        self.send(0, &Method::ConnectionOpen { virtual_host, reserved_1: b"", reserved_2: false });
    }

    pub(crate) fn open_connection(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) {
        self.log_in();
        self.tune_ok(channel_max, frame_max, heartbeat);
        self.open_virtual_host("/");
        assert_eq!(self.method().name(), "connection.open-ok");
    }

    pub(crate) fn open_channel(&mut self, channel: u16) {
        let answer = self.call(channel, &Method::ChannelOpen { reserved_1: b"" });
        assert_eq!(answer.name(), "channel.open-ok");
    }

    /// Declares a queue without properties on that channel.
    pub(crate) fn declare_queue(&mut self, channel: u16, name: &str, durable: bool) {
        let answer = self.call(channel, &queue_declare(name, durable));
        assert_eq!(answer.name(), "queue.declare-ok");
    }

    pub(crate) fn delete_queue(&mut self, channel: u16, name: &str) {
        let delete = Method::QueueDelete {
            reserved_1: 0,
            queue: name.as_bytes(),
            if_unused: false,
            if_empty: false,
            nowait: false,
        };
        assert_eq!(self.call(channel, &delete).name(), "queue.delete-ok");
    }

    pub(crate) fn consume(&mut self, channel: u16, queue: &str, no_ack: bool) {
        let answer = self.call(channel, &basic_consume(queue, no_ack));
        assert_eq!(answer.name(), "basic.consume-ok");
    }

    /// The next `basic.deliver`: delivery tag, whether redelivered, body.
    pub(crate) fn delivery(&mut self) -> (u64, bool, Vec<u8>) {
        let received = self.method();
        let Method::BasicDeliver { delivery_tag, redelivered, .. } = received.method() else {
            panic!("basic.deliver was expected, {received:?} came");
        };
        (delivery_tag, redelivered, self.content().1)
    }

    /// Whether the connection still does what it is asked for.
    pub(crate) fn is_served(&mut self) -> bool {
        self.call(1, &Method::BasicRecover { requeue: true }).name() == "basic.recover-ok"
    }
}

/// A received method frame.
#[derive(Debug)]
pub(crate) struct Received(Frame);

impl Received {
    pub(crate) fn method(&self) -> Method<'_> {
        Method::decode(&self.0.payload).unwrap()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.method().name()
    }

    pub(crate) fn channel(&self) -> u16 {
        self.0.channel
    }
}

pub(crate) fn queue_declare(name: &str, durable: bool) -> Method<'_> {
    Method::QueueDeclare {
        reserved_1: 0,
        queue: name.as_bytes(),
        passive: false,
        durable,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

pub(crate) fn basic_consume(queue: &str, no_ack: bool) -> Method<'_> {
    Method::BasicConsume {
        reserved_1: 0,
        queue: queue.as_bytes(),
        consumer_tag: b"consumer",
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

pub(crate) fn publish_method<'a>(
    exchange: &'a str,
    routing_key: &'a str,
    mandatory: bool,
) -> Method<'a> {
    Method::BasicPublish {
        reserved_1: 0,
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        mandatory,
        immediate: false,
    }
}

/// Tries `condition` until it holds, and fails the test if it does not for too long.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn exchange_declare<'a>(
    exchange: &'a str,
    kind: &'a str,
    passive: bool,
    durable: bool,
) -> Method<'a> {
    Method::ExchangeDeclare {
        reserved_1: 0,
        exchange: exchange.as_bytes(),
        kind: kind.as_bytes(),
        passive,
        durable,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

pub(crate) fn queue_bind<'a>(
    queue: &'a str,
    exchange: &'a str,
    routing_key: &'a str,
) -> Method<'a> {
    Method::QueueBind {
        reserved_1: 0,
        queue: queue.as_bytes(),
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}

pub(crate) fn basic_get(queue: &str) -> Method<'_> {
    Method::BasicGet { reserved_1: 0, queue: queue.as_bytes(), no_ack: true }
}
