//! An AMQP client that costs little: frames encoded beforehand, answers looked at and not kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use haypile::amqp::codec::{
    FRAME_OVERHEAD, Method, PROTOCOL_HEADER, put_body_frame_header, put_content_header, put_method,
};
use haypile::message::{Properties, RawProperties, RawTable};

use super::Outcome;

/// How long nothing may come before the server is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many messages are on the way at most.
const WINDOW: u64 = 20_000;

/// How many messages are written at once.
const BLOCK: u64 = 500;

/// The channel that everything happens on.
const CHANNEL: u16 = 1;

/// The type octet of a method frame.
const METHOD: u8 = 1;

/// `basic.deliver`: class and method.
const DELIVER: [u8; 4] = [0, 60, 0, 60];

/// A connection with one channel, in confirm mode.
pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` that have been looked at.
    seen: usize,
    published: u64,
    confirmed: u64,
}

impl Client {
    /// Connects, logs in and opens the channel.
    pub(crate) fn connect(address: SocketAddr) -> Outcome<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = Client { stream, input: Vec::new(), seen: 0, published: 0, confirmed: 0 };
        client.stream.write_all(&PROTOCOL_HEADER)?;
        client.expect("connection.start")?;
        let start = Method::ConnectionStartOk {
            client_properties: RawTable::EMPTY,
            mechanism: b"PLAIN",
            response: b"\0guest\0guest",
            locale: b"en_US",
        };
        client.send(0, &start)?;
        client.expect("connection.tune")?;
        client.send(
            0,
            &Method::ConnectionTuneOk { channel_max: 1, frame_max: 131_072, heartbeat: 0 },
        )?;
        let open =
            Method::ConnectionOpen { virtual_host: b"/", reserved_1: b"", reserved_2: false };
        client.send(0, &open)?;
        client.expect("connection.open-ok")?;
        client.call(&Method::ChannelOpen { reserved_1: b"" }, "channel.open-ok")?;
        client.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
        Ok(client)
    }

    fn send(&mut self, channel: u16, method: &Method<'_>) -> Outcome {
        let mut out = BytesMut::new();
        put_method(&mut out, channel, method);
        Ok(self.stream.write_all(&out)?)
    }

    fn call(&mut self, method: &Method<'_>, answer: &str) -> Outcome {
        self.send(CHANNEL, method)?;
        self.expect(answer)
    }

    /// Waits for a method of that name.
    fn expect(&mut self, name: &str) -> Outcome {
        let frame = self.frame()?;
        let found = Method::decode(self.payload(&frame))?;
        if found.name() != name {
            return Err(format!("{name} was expected, {found:?} came").into());
        }
        Ok(())
    }

    /// The next frame, as its type and where its payload is in `input`.
    fn frame(&mut self) -> Outcome<(u8, std::ops::Range<usize>)> {
        loop {
            let rest = self.input.get(self.seen..).unwrap_or_default();
            if let Some(&[kind, _, _, a, b, c, d]) = rest.first_chunk::<7>() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if rest.len() >= length + FRAME_OVERHEAD {
                    let begin = self.seen + 7;
                    self.seen += length + FRAME_OVERHEAD;
                    return Ok((kind, begin..begin + length));
                }
            }
            self.read()?;
        }
    }

    fn payload(&self, frame: &(u8, std::ops::Range<usize>)) -> &[u8] {
        self.input.get(frame.1.clone()).unwrap_or_default()
    }

    fn read(&mut self) -> Outcome {
        self.input.drain(..self.seen);
        self.seen = 0;
        let held = self.input.len();
        self.input.resize(held + (256 << 10), 0);
        let read = self.stream.read(self.input.get_mut(held..).unwrap_or_default());
        self.input.truncate(held + read.as_ref().map_or(0, |count| *count));
        if read? == 0 { Err("the server closed the connection".into()) } else { Ok(()) }
    }

    /// Declares a durable queue and waits for the answer.
    pub(crate) fn declare(&mut self, queue: &str) -> Outcome {
        self.call(&declaration(queue, false), "queue.declare-ok")
    }

    /// Declares durable queues without waiting for one before the next is sent; returns when all are durable. With
    /// `nowait` only the last one is answered.
    pub(crate) fn declare_all(&mut self, queues: &[String], nowait: bool) -> Outcome {
        let Some((last, others)) = queues.split_last() else { return Ok(()) };
        for block in others.chunks(BLOCK as usize) {
            let mut out = BytesMut::new();
            block.iter().for_each(|name| put_method(&mut out, CHANNEL, &declaration(name, nowait)));
            self.stream.write_all(&out)?;
            if !nowait {
                (0..block.len()).try_for_each(|_| self.expect("queue.declare-ok"))?;
            }
        }
        self.declare(last)
    }

    /// Publishes persistent messages to queues in turn; returns when all of them are confirmed.
    pub(crate) fn publish(&mut self, queues: &[String], messages: u64, size: usize) -> Outcome {
        let body = vec![b'x'; size];
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
        let properties = RawProperties::parse(&properties)?;
        // One round through the queues, or as many as make a block.
        let mut rounds = BytesMut::new();
        let mut ends = vec![0];
        let round = (queues.len() as u64).max(1);
        for queue in queues.iter().cycle().take((BLOCK.div_ceil(round) * round) as usize) {
            let publish = Method::BasicPublish {
                reserved_1: 0,
                exchange: b"",
                routing_key: queue.as_bytes(),
                mandatory: false,
                immediate: false,
            };
            put_method(&mut rounds, CHANNEL, &publish);
            put_content_header(&mut rounds, CHANNEL, size as u64, properties);
            put_body_frame_header(&mut rounds, CHANNEL, u32::try_from(size)?);
            rounds.put_slice(&body);
            rounds.put_u8(0xCE);
            ends.push(rounds.len());
        }
        let (mut next, mut left) = (0, messages);
        while left > 0 {
            let last = (next + BLOCK.min(left) as usize).min(ends.len() - 1);
            let written = (last - next) as u64;
            self.stream.write_all(&rounds[ends[next]..ends[last]])?;
            next = if last == ends.len() - 1 { 0 } else { last };
            left -= written;
            self.published += written;
            while self.published - self.confirmed > WINDOW {
                self.confirm()?;
            }
        }
        while self.confirmed < self.published {
            self.confirm()?;
        }
        Ok(())
    }

    fn confirm(&mut self) -> Outcome {
        let frame = self.frame()?;
        match Method::decode(self.payload(&frame))? {
            Method::BasicAck { delivery_tag, .. } => self.confirmed = delivery_tag,
            other => return Err(format!("a confirm was expected, {other:?} came").into()),
        }
        Ok(())
    }

    /// Consumes so many messages; without `prefetch` they need no acknowledgement, with it half of that many are
    /// acknowledged at a time.
    pub(crate) fn consume(&mut self, queue: &str, messages: u64, prefetch: Option<u16>) -> Outcome {
        if let Some(prefetch_count) = prefetch {
            let qos = Method::BasicQos { prefetch_size: 0, prefetch_count, global: false };
            self.call(&qos, "basic.qos-ok")?;
        }
        let consume = Method::BasicConsume {
            reserved_1: 0,
            queue: queue.as_bytes(),
            consumer_tag: b"c",
            no_local: false,
            no_ack: prefetch.is_none(),
            exclusive: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        };
        self.call(&consume, "basic.consume-ok")?;
        let batch = prefetch.map_or(u64::MAX, |prefetch| u64::from(prefetch / 2).max(1));
        let mut bodies = 0;
        while bodies < messages {
            let frame = self.frame()?;
            match frame.0 {
                METHOD if !self.payload(&frame).starts_with(&DELIVER) => {
                    let found = Method::decode(self.payload(&frame))?;
                    return Err(format!("basic.deliver was expected, {found:?} came").into());
                }
                METHOD => bodies += 1,
                _ => continue,
            }
            if bodies % batch == 0 || (bodies == messages && prefetch.is_some()) {
                self.send(CHANNEL, &Method::BasicAck { delivery_tag: bodies, multiple: true })?;
            }
        }
        // Done when the server has taken note of all acknowledgements; what it has delivered beyond is passed over.
        self.send(CHANNEL, &Method::BasicCancel { consumer_tag: b"c", nowait: false })?;
        loop {
            let frame = self.frame()?;
            if frame.0 != METHOD || self.payload(&frame).starts_with(&DELIVER) {
                continue;
            }
            let found = Method::decode(self.payload(&frame))?;
            if found.name() != "basic.cancel-ok" {
                return Err(format!("basic.cancel-ok was expected, {found:?} came").into());
            }
            return Ok(());
        }
    }
}

fn declaration(queue: &str, nowait: bool) -> Method<'_> {
    Method::QueueDeclare {
        reserved_1: 0,
        queue: queue.as_bytes(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait,
        arguments: RawTable::EMPTY,
    }
}
