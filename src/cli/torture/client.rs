//! What the torture does with a broker: one connection, one channel in confirm mode.
//!
//! It stands on the command line's AMQP client. What comes is an [`Event`]; what is sent is collected until [`Client::flush`].
//! It must never know what is right and wrong: that is the oracle's business.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use super::oracle::{Found, Sent};
use super::stamp::{Identity, QueueNumber};
use crate::amqp::codec::{
    ContentHeader, FRAME_END, FRAME_OVERHEAD, FrameKind, FrameView, Method, put_body_frame_header,
    put_content_header, put_method,
};
use crate::cli::client::{AmqpUri, CHANNEL, ClientError, Connection, declaration};
use crate::message::{Properties, RawProperties, RawTable, ShortStr};

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
    connection: Connection,
    dialogue: Dialogue,
}

/// What the frames that come have to do with each other, and with what was sent.
#[derive(Debug)]
struct Dialogue {
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
        let connection = Connection::open(&AmqpUri::guest_at(address), "haypile torture")?;
        let dialogue = Dialogue {
            arriving: None,
            early: VecDeque::new(),
            next_tag: 1,
            unconfirmed: BTreeMap::new(),
            unconfirmed_bytes: 0,
        };
        let mut client = Client { connection, dialogue };
        client.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
        Ok(client)
    }

    /// Sends a request and waits for its answer; what else comes is an event later.
    pub(super) fn call(
        &mut self,
        method: &Method<'_>,
        answer: &'static str,
    ) -> Result<(), ClientError> {
        self.call_with(method, answer, |_| {})
    }

    fn call_with(
        &mut self,
        method: &Method<'_>,
        answer: &'static str,
        look: impl FnOnce(&Method<'_>),
    ) -> Result<(), ClientError> {
        let Client { connection, dialogue } = self;
        connection.call_with(method, answer, look, |frame| {
            if frame.kind == FrameKind::Method && !is_event(&Method::decode(frame.payload)?) {
                return Ok(false);
            }
            let event = dialogue.take(frame)?;
            dialogue.early.extend(event);
            Ok(true)
        })
    }

    /// How many messages wait in a queue, which has to be there.
    pub(super) fn waiting(&mut self, queue: QueueNumber) -> Result<u32, ClientError> {
        let name = queue.to_string();
        let mut count = 0;
        let passive = declaration(&name, true, RawTable::EMPTY);
        self.call_with(&passive, "queue.declare-ok", |method| {
            if let Method::QueueDeclareOk { message_count, .. } = method {
                count = *message_count;
            }
        })?;
        Ok(count)
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
        let frame_max = self.connection.frame_max();
        let output = self.connection.output();
        put_method(output, CHANNEL, &publish);
        let label = sent.stamp.identity.to_string();
        let properties = Properties {
            delivery_mode: Some(if sent.persistent { 2 } else { 1 }),
            message_id: ShortStr::new(label.into_bytes()).ok(),
            ..Properties::default()
        };
        let properties = properties.to_bytes();
        let properties = RawProperties::parse(&properties).unwrap_or(RawProperties::NONE);
        put_content_header(output, CHANNEL, u64::from(sent.stamp.length), properties);
        for part in sent.stamp.body().chunks(frame_max as usize - FRAME_OVERHEAD) {
            put_body_frame_header(output, CHANNEL, part.len() as u32);
            output.put_slice(part);
            output.put_u8(FRAME_END);
        }
        self.dialogue.sent(sent);
    }

    /// How many messages, and bytes, are not confirmed yet.
    pub(super) fn unconfirmed(&self) -> (usize, u64) {
        (self.dialogue.unconfirmed.len(), self.dialogue.unconfirmed_bytes)
    }

    /// Acknowledges a delivery, and those before it if `multiple`; when it is flushed.
    pub(super) fn acknowledge(&mut self, tag: DeliveryTag, multiple: bool) {
        self.connection.send(&Method::BasicAck { delivery_tag: tag.0, multiple });
    }

    /// Gives a delivery back to its queue, when it is flushed.
    pub(super) fn requeue(&mut self, tag: DeliveryTag) {
        self.connection.send(&Method::BasicReject { delivery_tag: tag.0, requeue: true });
    }

    /// Sends what has been collected.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        self.connection.flush()
    }

    /// What comes next, if it comes within this time.
    pub(super) fn event(&mut self, within: Duration) -> Result<Option<Event>, ClientError> {
        if let Some(event) = self.dialogue.early.pop_front() {
            return Ok(Some(event));
        }
        let until = Instant::now() + within;
        while self.connection.await_frame(until)? {
            let Some(frame) = self.connection.next_frame()? else { continue };
            if let Some(event) = self.dialogue.take(&frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Says goodbye; what comes meanwhile is dropped.
    pub(super) fn close(self) -> Result<(), ClientError> {
        self.connection.close()
    }
}

impl Dialogue {
    fn sent(&mut self, sent: Sent) {
        self.unconfirmed.insert(self.next_tag, sent);
        self.unconfirmed_bytes += u64::from(sent.stamp.length);
        self.next_tag += 1;
    }

    /// What a frame amounts to, if it ends something.
    fn take(&mut self, frame: &FrameView<'_>) -> Result<Option<Event>, ClientError> {
        match frame.kind {
            FrameKind::Heartbeat => Ok(None),
            FrameKind::Method => self.take_method(&Method::decode(frame.payload)?),
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload)?;
                if let Some(arriving) = &mut self.arriving {
                    arriving.label = header.properties.message_id().unwrap_or_default().to_vec();
                    // The size is a claim: room is made as it arrives.
                    arriving.missing = usize::try_from(header.body_size).unwrap_or(usize::MAX);
                }
                Ok(self.arrived())
            }
            FrameKind::Body => Ok(self.take_body(frame.payload)),
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
                let answer = format!("basic.nack of message {}", refused.unwrap_or_default());
                Err(ClientError::Answer { request: "basic.publish", answer })
            }
            Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {} => Ok(None),
            _ => Err(ClientError::unexpected("nothing", method)),
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

    fn take_body(&mut self, part: &[u8]) -> Option<Event> {
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
            | Method::ConnectionBlocked { .. }
            | Method::ConnectionUnblocked {}
    )
}
