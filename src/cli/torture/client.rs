//! An AMQP client that is just enough to torture a broker: one connection, one channel in confirm mode, blocking.
//!
//! It stands on the crate's own codec. What comes is an [`Event`]; what is sent is collected until [`Client::flush`].
//! It must never know what is right and wrong: that is the oracle's business.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::oracle::{Found, Sent};
use super::stamp::{Identity, QueueNumber};
use crate::amqp::codec::{
    ContentHeader, FRAME_END, FRAME_OVERHEAD, Frame, FrameError, FrameKind, Frames, Method,
    MethodError, PROTOCOL_HEADER, put_body_frame_header, put_content_header, put_method,
    split_frames,
};
use crate::message::{DecodeError, Properties, RawProperties, RawTable, ShortStr};

/// How long the server may leave an answer out before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

const FRAME_MAX: u32 = 131_072;

/// The channel that everything happens on.
const CHANNEL: u16 = 1;

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// These were confirmed.
    Confirmed(Vec<Identity>),
    /// A message for the consumer.
    Delivered(DeliveryTag, Found),
    /// A published message that no queue took.
    Returned(String),
}

/// A delivery's number on its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeliveryTag(pub(super) u64);

/// Where a message is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) exchange: &'static str,
    pub(super) key: String,
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the server closed the connection without a word")]
    Ended,
    #[error("the server said nothing for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the server closed it: {0}")]
    Closed(String),
    #[error("the server answered {answer} to {request}")]
    Answer { request: &'static str, answer: String },
    #[error("the server refused message {0}")]
    Refused(String),
    #[error("the server sent no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("the server sent no method: {0}")]
    Method(#[from] MethodError),
    #[error("the server sent no content: {0}")]
    Content(#[from] DecodeError),
}

/// A content that is arriving.
#[derive(Debug)]
struct Arriving {
    /// `None`: it is a message that came back.
    delivery: Option<(DeliveryTag, bool)>,
    label: Vec<u8>,
    body: BytesMut,
    missing: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    input: BytesMut,
    frames: Frames,
    output: BytesMut,
    arriving: Option<Arriving>,
    /// What came while something else was waited for.
    early: VecDeque<Event>,
    next_tag: u64,
    unconfirmed: BTreeMap<u64, Sent>,
    unconfirmed_bytes: u64,
}

impl Client {
    /// Connects, logs in, opens the channel and puts it into confirm mode.
    pub(super) fn connect(address: SocketAddr) -> Result<Client, ClientError> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = Client {
            stream,
            input: BytesMut::new(),
            frames: Frames::default(),
            output: BytesMut::from(&PROTOCOL_HEADER[..]),
            arriving: None,
            early: VecDeque::new(),
            next_tag: 1,
            unconfirmed: BTreeMap::new(),
            unconfirmed_bytes: 0,
        };
        client.flush()?;
        client.answer("a connection", "connection.start", |_| {})?;
        let start = Method::ConnectionStartOk {
            client_properties: RawTable::EMPTY,
            mechanism: b"PLAIN",
            response: b"\0guest\0guest",
            locale: b"en_US",
        };
        client.call_on(0, &start, "connection.tune")?;
        let tune = Method::ConnectionTuneOk { channel_max: 1, frame_max: FRAME_MAX, heartbeat: 0 };
        put_method(&mut client.output, 0, &tune);
        let open =
            Method::ConnectionOpen { virtual_host: b"/", reserved_1: b"", reserved_2: false };
        client.call_on(0, &open, "connection.open-ok")?;
        client.call(&Method::ChannelOpen { reserved_1: b"" }, "channel.open-ok")?;
        client.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
        Ok(client)
    }

    /// Sends a request and waits for its answer; what else comes is an event later.
    pub(super) fn call(
        &mut self,
        method: &Method<'_>,
        answer: &'static str,
    ) -> Result<(), ClientError> {
        self.call_on(CHANNEL, method, answer)
    }

    fn call_on(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        answer: &'static str,
    ) -> Result<(), ClientError> {
        put_method(&mut self.output, channel, method);
        self.flush()?;
        self.answer(method.name(), answer, |_| {})
    }

    /// How many messages wait in a queue, which has to be there.
    pub(super) fn waiting(&mut self, queue: QueueNumber) -> Result<u32, ClientError> {
        let name = queue.to_string();
        put_method(&mut self.output, CHANNEL, &declaration(&name, true));
        self.flush()?;
        let mut count = 0;
        self.answer("queue.declare", "queue.declare-ok", |method| {
            if let Method::QueueDeclareOk { message_count, .. } = method {
                count = *message_count;
            }
        })?;
        Ok(count)
    }

    fn answer(
        &mut self,
        request: &'static str,
        answer: &'static str,
        look: impl FnOnce(&Method<'_>),
    ) -> Result<(), ClientError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let frame = self.frame(until)?.ok_or(ClientError::Silent)?;
            if frame.kind == FrameKind::Method {
                let method = Method::decode(&frame.payload)?;
                if method.name() == answer {
                    look(&method);
                    return Ok(());
                }
                if !is_event(&method) {
                    return Err(unexpected(request, &method));
                }
            }
            if let Some(event) = self.take(&frame)? {
                self.early.push_back(event);
            }
        }
    }

    /// Publishes a message, when it is flushed; a message that no queue takes comes back.
    pub(super) fn publish(&mut self, route: &Route, sent: Sent) {
        let publish = Method::BasicPublish {
            reserved_1: 0,
            exchange: route.exchange.as_bytes(),
            routing_key: route.key.as_bytes(),
            mandatory: true,
            immediate: false,
        };
        put_method(&mut self.output, CHANNEL, &publish);
        let label = sent.stamp.identity.to_string();
        let properties = Properties {
            delivery_mode: Some(if sent.persistent { 2 } else { 1 }),
            message_id: ShortStr::new(label.into_bytes()).ok(),
            ..Properties::default()
        };
        let properties = properties.to_bytes();
        let properties = RawProperties::parse(&properties).unwrap_or(RawProperties::NONE);
        put_content_header(&mut self.output, CHANNEL, u64::from(sent.stamp.length), properties);
        for part in sent.stamp.body().chunks(FRAME_MAX as usize - FRAME_OVERHEAD) {
            put_body_frame_header(&mut self.output, CHANNEL, part.len() as u32);
            self.output.put_slice(part);
            self.output.put_u8(FRAME_END);
        }
        self.unconfirmed.insert(self.next_tag, sent);
        self.unconfirmed_bytes += u64::from(sent.stamp.length);
        self.next_tag += 1;
    }

    /// How many messages, and bytes, are not confirmed yet.
    pub(super) fn unconfirmed(&self) -> (usize, u64) {
        (self.unconfirmed.len(), self.unconfirmed_bytes)
    }

    /// Acknowledges a delivery, and those before it if `multiple`; when it is flushed.
    pub(super) fn acknowledge(&mut self, tag: DeliveryTag, multiple: bool) {
        let ack = Method::BasicAck { delivery_tag: tag.0, multiple };
        put_method(&mut self.output, CHANNEL, &ack);
    }

    /// Gives a delivery back to its queue, when it is flushed.
    pub(super) fn requeue(&mut self, tag: DeliveryTag) {
        let reject = Method::BasicReject { delivery_tag: tag.0, requeue: true };
        put_method(&mut self.output, CHANNEL, &reject);
    }

    /// Sends what has been collected.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// What comes next, if it comes within this time.
    pub(super) fn event(&mut self, within: Duration) -> Result<Option<Event>, ClientError> {
        if let Some(event) = self.early.pop_front() {
            return Ok(Some(event));
        }
        let until = Instant::now() + within;
        while let Some(frame) = self.frame(until)? {
            if let Some(event) = self.take(&frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Says goodbye; what comes meanwhile is dropped.
    pub(super) fn close(mut self) -> Result<(), ClientError> {
        let close =
            Method::ConnectionClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 };
        self.call_on(0, &close, "connection.close-ok")
    }

    fn frame(&mut self, until: Instant) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(frame) = self.frames.next() {
                return Ok(Some(frame));
            }
            let (frames, error) = split_frames(&mut self.input, FRAME_MAX);
            self.frames = frames;
            if !self.frames.is_empty() {
                continue;
            }
            if let Some(error) = error {
                return Err(error.into());
            }
            let left = until.saturating_duration_since(Instant::now());
            if !self.read(left.max(Duration::from_millis(1)))? {
                return Ok(None);
            }
        }
    }

    /// Whether something came.
    fn read(&mut self, within: Duration) -> Result<bool, ClientError> {
        self.stream.set_read_timeout(Some(within))?;
        let held = self.input.len();
        self.input.resize(held + (64 << 10), 0);
        let read = self.stream.read(self.input.get_mut(held..).unwrap_or_default());
        self.input.truncate(held + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ClientError::Ended),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a frame amounts to, if it ends something.
    fn take(&mut self, frame: &Frame) -> Result<Option<Event>, ClientError> {
        match frame.kind {
            FrameKind::Heartbeat => Ok(None),
            FrameKind::Method => self.take_method(&Method::decode(&frame.payload)?),
            FrameKind::Header => {
                let header = ContentHeader::decode(&frame.payload)?;
                if let Some(arriving) = &mut self.arriving {
                    arriving.label = header.properties.message_id().unwrap_or_default().to_vec();
                    // The size is a claim: room is made as it arrives.
                    arriving.missing = usize::try_from(header.body_size).unwrap_or(usize::MAX);
                }
                Ok(self.arrived())
            }
            FrameKind::Body => Ok(self.take_body(&frame.payload)),
        }
    }

    fn take_method(&mut self, method: &Method<'_>) -> Result<Option<Event>, ClientError> {
        let mut announce = |delivery| {
            let (label, body) = (Vec::new(), BytesMut::new());
            self.arriving = Some(Arriving { delivery, label, body, missing: 0 });
        };
        match *method {
            Method::BasicDeliver { delivery_tag, redelivered, .. } => {
                announce(Some((DeliveryTag(delivery_tag), redelivered)));
                Ok(None)
            }
            Method::BasicReturn { .. } => {
                announce(None);
                Ok(None)
            }
            Method::BasicAck { delivery_tag, multiple } => {
                Ok(Some(Event::Confirmed(self.confirm(delivery_tag, multiple))))
            }
            Method::BasicNack { delivery_tag, .. } => {
                let refused = self.unconfirmed.get(&delivery_tag);
                let refused = refused.map(|sent| sent.stamp.identity.to_string());
                Err(ClientError::Refused(refused.unwrap_or_default()))
            }
            _ => Err(unexpected("nothing", method)),
        }
    }

    fn confirm(&mut self, tag: u64, multiple: bool) -> Vec<Identity> {
        let confirmed: Vec<Sent> = if multiple {
            let others = self.unconfirmed.split_off(&(tag + 1));
            std::mem::replace(&mut self.unconfirmed, others).into_values().collect()
        } else {
            self.unconfirmed.remove(&tag).into_iter().collect()
        };
        let bytes: u64 = confirmed.iter().map(|sent| u64::from(sent.stamp.length)).sum();
        self.unconfirmed_bytes -= bytes;
        confirmed.iter().map(|sent| sent.stamp.identity).collect()
    }

    fn take_body(&mut self, part: &Bytes) -> Option<Event> {
        if let Some(arriving) = &mut self.arriving {
            arriving.body.extend_from_slice(part);
            arriving.missing = arriving.missing.saturating_sub(part.len());
        }
        self.arrived()
    }

    fn arrived(&mut self) -> Option<Event> {
        let Arriving { delivery, label, body, .. } =
            self.arriving.take_if(|arriving| arriving.missing == 0)?;
        Some(match delivery {
            Some((tag, redelivered)) => {
                Event::Delivered(tag, Found::new(&label, &body, redelivered))
            }
            None => Event::Returned(String::from_utf8_lossy(&label).into_owned()),
        })
    }
}

/// Whether a method comes by itself.
fn is_event(method: &Method<'_>) -> bool {
    matches!(
        method,
        Method::BasicDeliver { .. }
            | Method::BasicReturn { .. }
            | Method::BasicAck { .. }
            | Method::BasicNack { .. }
    )
}

fn unexpected(request: &'static str, method: &Method<'_>) -> ClientError {
    match method {
        Method::ConnectionClose { reply_code, reply_text, .. }
        | Method::ChannelClose { reply_code, reply_text, .. } => {
            ClientError::Closed(format!("{reply_code} {}", String::from_utf8_lossy(reply_text)))
        }
        other => ClientError::Answer { request, answer: other.name().to_owned() },
    }
}

/// A durable queue; `passive`: which has to be there already.
pub(super) fn declaration(queue: &str, passive: bool) -> Method<'_> {
    Method::QueueDeclare {
        reserved_1: 0,
        queue: queue.as_bytes(),
        passive,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}
