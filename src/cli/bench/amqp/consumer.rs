//! One who consumes: a thread and a connection, for one queue or several.
//!
//! Each message is checked as it comes, and acknowledged after what was read together with it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::BytesMut;

use super::super::report::Latencies;
use super::received::Received;
use super::scenario::{Ack, Mode};
use super::shared::{GLANCE, Shared};
use super::stamp::{BodyReader, LENGTH};
use super::topology::QueueNumber;
use crate::amqp::codec::{ContentHeader, FrameKind, FrameView, Method, put_method};
use crate::cli::client::{AmqpUri, CHANNEL, ClientError, Connection, consuming, prefetching};

/// Who has read less than this has read everything, most likely: it is cheaper to wait than to ask again.
const MUCH: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Consuming<'a> {
    shared: &'a Shared<'a>,
    connection: Connection,
    queues: Vec<QueueNumber>,
    dialogue: Dialogue<'a>,
}

/// What one consumer has received.
#[derive(Debug)]
pub(super) struct Consumed {
    pub(super) received: Received,
    /// All messages, those that had come before too.
    pub(super) delivered: u64,
    pub(super) redelivered: u64,
    pub(super) last_delivered: Instant,
    /// From when they were due.
    pub(super) deliveries: Latencies,
}

/// What the frames that come have to do with each other, and what is to be acknowledged.
#[derive(Debug)]
struct Dialogue<'a> {
    shared: &'a Shared<'a>,
    arriving: Option<Arriving>,
    acks: BytesMut,
    /// Delivered, and not acknowledged yet.
    pending: u16,
    newest: u64,
    /// Different messages that have come since others were told.
    news: u64,
    done: Consumed,
}

/// A message that is arriving.
#[derive(Debug)]
struct Arriving {
    queue: QueueNumber,
    redelivered: bool,
    /// Bytes of the body that are still to come; `None`: it has not been said how many there are.
    missing: Option<u64>,
    fits: bool,
    body: BodyReader,
}

impl<'a> Consuming<'a> {
    /// Connects. The consumer with this number consumes from the queues that are its share, or from one that it shares.
    pub(super) fn open(
        shared: &'a Shared<'a>,
        uri: &AmqpUri,
        number: u32,
    ) -> Result<Consuming<'a>, ClientError> {
        let scenario = shared.scenario;
        let mut connection = Connection::open(uri, &format!("haypile bench consumer {number}"))?;
        connection.call(&prefetching(scenario.prefetch), "basic.qos-ok")?;
        let first = number % scenario.queues;
        let queues = (first..scenario.queues).step_by(scenario.consumers as usize);
        let done = Consumed {
            received: Received::default(),
            delivered: 0,
            redelivered: 0,
            last_delivered: shared.epoch,
            deliveries: Latencies::default(),
        };
        let dialogue = Dialogue {
            shared,
            arriving: None,
            acks: BytesMut::new(),
            pending: 0,
            newest: 0,
            news: 0,
            done,
        };
        Ok(Consuming { shared, connection, queues: queues.map(QueueNumber).collect(), dialogue })
    }

    /// Begins to consume, and returns when the server has: to be called before there are messages.
    pub(super) fn attach(&mut self) -> Result<(), ClientError> {
        let no_ack = self.shared.scenario.ack == Ack::Auto;
        for queue in &self.queues {
            let name = self.shared.topology.queue_name(*queue);
            let tag = queue.0.to_string();
            let consume = consuming(&name, &tag, no_ack);
            let dialogue = &mut self.dialogue;
            self.connection.call_with(
                &consume,
                "basic.consume-ok",
                |_| {},
                |frame| dialogue.take(frame, Instant::now()),
            )?;
        }
        Ok(())
    }

    /// Takes what comes until the others say that it is over.
    pub(super) fn run(mut self) -> Result<Consumed, ClientError> {
        if self.shared.scenario.mode == Mode::Drain {
            self.attach()?;
        }
        while !self.shared.is_over() {
            let read = self.connection.read_some()?;
            self.take()?;
            if read < MUCH {
                if read == 0 {
                    self.dialogue.acknowledge();
                }
                self.send_acks()?;
                self.connection.wait(Instant::now() + GLANCE)?;
            } else {
                self.send_acks()?;
            }
        }
        self.settle()?;
        Ok(self.dialogue.done)
    }

    fn take(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        while let Some(frame) = self.connection.next_frame()? {
            if frame.kind != FrameKind::Heartbeat && !self.dialogue.take(&frame, now)? {
                let method = Method::decode(frame.payload)?;
                return Err(ClientError::unexpected("basic.consume", &method));
            }
        }
        let news = std::mem::take(&mut self.dialogue.news);
        if news > 0 {
            self.shared.delivered.fetch_add(news, Ordering::Relaxed);
        }
        Ok(())
    }

    fn send_acks(&mut self) -> Result<(), ClientError> {
        if !self.dialogue.acks.is_empty() {
            self.connection.output().extend_from_slice(&self.dialogue.acks);
            self.dialogue.acks.clear();
        }
        self.connection.write_some()
    }

    /// Acknowledges the last ones, and waits until the server has taken note of everything.
    fn settle(&mut self) -> Result<(), ClientError> {
        self.dialogue.acknowledge();
        self.send_acks()?;
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 };
        let dialogue = &mut self.dialogue;
        self.connection.call_with(
            &close,
            "channel.close-ok",
            |_| {},
            |frame| dialogue.take(frame, Instant::now()),
        )
    }
}

impl Dialogue<'_> {
    /// Takes a frame, if it is what comes to a consumer.
    fn take(&mut self, frame: &FrameView<'_>, now: Instant) -> Result<bool, ClientError> {
        match frame.kind {
            FrameKind::Heartbeat => {}
            FrameKind::Method => match Method::decode(frame.payload)? {
                Method::BasicDeliver { consumer_tag, delivery_tag, redelivered, .. } => {
                    self.newest = delivery_tag;
                    let queue = queue_of(consumer_tag);
                    self.arriving = Some(Arriving {
                        // A tag that is not ours: whatever comes with it is no message of ours either.
                        queue: queue.unwrap_or(QueueNumber(u32::MAX)),
                        redelivered,
                        missing: None,
                        fits: queue.is_some(),
                        body: BodyReader::new(),
                    });
                }
                Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {} => {}
                _ => return Ok(false),
            },
            FrameKind::Header => {
                let size = ContentHeader::decode(frame.payload)?.body_size;
                if let Some(arriving) = &mut self.arriving {
                    arriving.missing = Some(size);
                    arriving.fits &= size == u64::from(self.shared.scenario.size);
                }
                self.arrived(now);
            }
            FrameKind::Body => {
                if let Some(arriving) = &mut self.arriving {
                    arriving.body.take(frame.payload);
                    arriving.missing = arriving
                        .missing
                        .map(|missing| missing.saturating_sub(frame.payload.len() as u64));
                }
                self.arrived(now);
            }
        }
        Ok(true)
    }

    /// Checks a message that is whole, and notes that it is to be acknowledged.
    fn arrived(&mut self, now: Instant) {
        let whole = self.arriving.take_if(|arriving| arriving.missing == Some(0));
        let Some(Arriving { queue, redelivered, fits, body, .. }) = whole else { return };
        self.done.delivered += 1;
        self.done.redelivered += u64::from(redelivered);
        self.done.last_delivered = now;
        self.check(queue, redelivered, fits, body, now);
        match self.shared.scenario.ack {
            Ack::Auto => {}
            Ack::Each => {
                let ack = Method::BasicAck { delivery_tag: self.newest, multiple: false };
                put_method(&mut self.acks, CHANNEL, &ack);
            }
            Ack::Every(count) => {
                self.pending += 1;
                if self.pending >= count {
                    self.acknowledge();
                }
            }
        }
    }

    fn check(
        &mut self,
        queue: QueueNumber,
        redelivered: bool,
        fits: bool,
        body: BodyReader,
        now: Instant,
    ) {
        let shared = self.shared;
        if (shared.scenario.size as usize) < LENGTH {
            // There is no stamp: only its size can be wrong.
            self.done.received.faults.altered += u64::from(!fits);
            self.news += 1;
            return;
        }
        let stamp = body.stamp().filter(|stamp| {
            fits && stamp.run == shared.run
                && stamp.publisher.0 < shared.scenario.publishers
                && shared.topology.leads(stamp.route, queue)
        });
        let Some(stamp) = stamp else {
            self.done.received.faults.altered += 1;
            return;
        };
        self.news += u64::from(self.done.received.take(queue, &stamp, redelivered));
        if shared.scenario.mode == Mode::Both {
            let waited = now.saturating_duration_since(shared.epoch).saturating_sub(stamp.due);
            self.done.deliveries.record(waited);
        }
    }

    /// Acknowledges everything that has come and was not acknowledged by itself.
    fn acknowledge(&mut self) {
        if self.pending > 0 {
            self.pending = 0;
            let ack = Method::BasicAck { delivery_tag: self.newest, multiple: true };
            put_method(&mut self.acks, CHANNEL, &ack);
        }
    }
}

/// Consumer tags are numbers of queues.
fn queue_of(tag: &[u8]) -> Option<QueueNumber> {
    std::str::from_utf8(tag).ok()?.parse().ok().map(QueueNumber)
}
