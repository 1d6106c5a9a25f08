//! An AMQP client with one channel, which is sent methods and says what comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use haypile::amqp::codec::{
    FRAME_END, Frame, FrameKind, Frames, Method, PROTOCOL_HEADER, put_body_frame_header,
    put_content_header, put_method, split_frames,
};
use haypile::message::{Properties, RawProperties, RawTable};

use super::Outcome;

/// The longest silence before a client gives the server up.
const PATIENCE: Duration = Duration::from_secs(300);

/// The largest frame.
pub(crate) const FRAME: u32 = 131_072;

/// The address and virtual host of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) virtual_host: &'a str,
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: BytesMut,
    frames: Frames,
}

impl Client {
    /// Connects a socket and sends nothing.
    pub(crate) fn connect(address: SocketAddr) -> Outcome<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, input: BytesMut::new(), frames: Frames::default() })
    }

    /// Sends a user's password. Returns whether the server accepts it.
    pub(crate) fn log_in(&mut self, user: &str, password: &str) -> Outcome<bool> {
        self.stream.write_all(&PROTOCOL_HEADER)?;
        self.expect("connection.start")?;
        let response = format!("\0{user}\0{password}");
        let start = Method::ConnectionStartOk {
            client_properties: RawTable::EMPTY,
            mechanism: b"PLAIN",
            response: response.as_bytes(),
            locale: b"en_US",
        };
        self.send(0, &start)?;
        Ok(self.expect("connection.tune").is_ok())
    }

    /// Connects, logs in as the administrator and opens channel 1.
    pub(crate) fn open(place: Place<'_>) -> Outcome<Client> {
        let mut client = Client::connect(place.address)?;
        if !client.log_in("guest", "guest")? {
            return Err("the login was refused".into());
        }
        let tune = Method::ConnectionTuneOk { channel_max: 100, frame_max: FRAME, heartbeat: 0 };
        client.send(0, &tune)?;
        let virtual_host = place.virtual_host.as_bytes();
        let open = Method::ConnectionOpen { virtual_host, reserved_1: b"", reserved_2: false };
        client.send(0, &open)?;
        client.expect("connection.open-ok")?;
        client.call(&Method::ChannelOpen { reserved_1: b"" }, "channel.open-ok")?;
        Ok(client)
    }

    pub(crate) fn send(&mut self, channel: u16, method: &Method<'_>) -> Outcome {
        let mut out = BytesMut::new();
        put_method(&mut out, channel, method);
        Ok(self.stream.write_all(&out)?)
    }

    /// Sends a method on channel 1 and waits for its answer.
    pub(crate) fn call(&mut self, method: &Method<'_>, answer: &str) -> Outcome {
        self.send(1, method)?;
        self.expect(answer)
    }

    /// Sends many methods on channel 1 that have no answer.
    pub(crate) fn send_all<'m>(&mut self, methods: impl Iterator<Item = Method<'m>>) -> Outcome {
        let mut out = BytesMut::new();
        for method in methods {
            put_method(&mut out, 1, &method);
            if out.len() > 64 << 10 {
                self.stream.write_all(&out)?;
                out.clear();
            }
        }
        Ok(self.stream.write_all(&out)?)
    }

    /// Waits for a method of that name.
    pub(crate) fn expect(&mut self, name: &str) -> Outcome {
        let frame = self.frame()?;
        match Method::decode(&frame.payload) {
            Ok(found) if found.name() == name && frame.kind == FrameKind::Method => Ok(()),
            found => Err(format!("{name} was expected, {found:?} came").into()),
        }
    }

    /// Receives the next frame but heartbeats.
    pub(crate) fn frame(&mut self) -> Outcome<Frame> {
        loop {
            match self.frames.next() {
                Some(frame) if frame.kind == FrameKind::Heartbeat => {}
                Some(frame) => return Ok(frame),
                None => self.read()?,
            }
        }
    }

    fn read(&mut self) -> Outcome {
        let held = self.input.len();
        self.input.resize(held + (64 << 10), 0);
        let read = self.stream.read(&mut self.input[held..]);
        self.input.truncate(held + read.as_ref().map_or(0, |count| *count));
        if read? == 0 {
            return Err("the server closed the connection".into());
        }
        let (frames, error) = split_frames(&mut self.input, 2 * FRAME);
        self.frames = frames;
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Publishes a persistent message in one write.
    pub(crate) fn publish(
        &mut self,
        exchange: &str,
        routing_key: &str,
        properties: Properties,
        body: &[u8],
    ) -> Outcome {
        let mut out = begun(exchange, routing_key, properties, body.len())?;
        for part in body.chunks(FRAME as usize - 8) {
            put_body_frame_header(&mut out, 1, u32::try_from(part.len())?);
            out.put_slice(part);
            out.put_u8(FRAME_END);
        }
        Ok(self.stream.write_all(&out)?)
    }
}

/// The method and header of a message whose body has `size` bytes.
pub(crate) fn begun(
    exchange: &str,
    routing_key: &str,
    properties: Properties,
    size: usize,
) -> Outcome<BytesMut> {
    let properties = Properties { delivery_mode: Some(2), ..properties }.to_bytes();
    let publish = Method::BasicPublish {
        reserved_1: 0,
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        mandatory: false,
        immediate: false,
    };
    let mut out = BytesMut::new();
    put_method(&mut out, 1, &publish);
    put_content_header(&mut out, 1, size as u64, RawProperties::parse(&properties)?);
    Ok(out)
}

/// `queue.declare`.
pub(crate) fn declare<'m>(queue: &'m str, arguments: RawTable<'m>) -> Method<'m> {
    Method::QueueDeclare {
        reserved_1: 0,
        queue: queue.as_bytes(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments,
    }
}

/// `queue.delete`.
pub(crate) fn delete(queue: &str) -> Method<'_> {
    Method::QueueDelete {
        reserved_1: 0,
        queue: queue.as_bytes(),
        if_unused: false,
        if_empty: false,
        nowait: false,
    }
}

/// `basic.consume`, without an answer.
pub(crate) fn consume<'m>(queue: &'m str, tag: &'m str, no_ack: bool) -> Method<'m> {
    Method::BasicConsume {
        reserved_1: 0,
        queue: queue.as_bytes(),
        consumer_tag: tag.as_bytes(),
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: true,
        arguments: RawTable::EMPTY,
    }
}

/// `queue.bind`, without an answer.
pub(crate) fn bind<'m>(
    queue: &'m str,
    exchange: &'m str,
    key: &'m str,
    arguments: RawTable<'m>,
) -> Method<'m> {
    Method::QueueBind {
        reserved_1: 0,
        queue: queue.as_bytes(),
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        nowait: true,
        arguments,
    }
}

/// A client with a queue and an exchange of its own.
pub(crate) fn with_exchange(place: Place<'_>, name: &str, kind: &str) -> Outcome<Client> {
    let mut client = Client::open(place)?;
    let exchange = Method::ExchangeDeclare {
        reserved_1: 0,
        exchange: name.as_bytes(),
        kind: kind.as_bytes(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    };
    client.call(&exchange, "exchange.declare-ok")?;
    client.call(&declare(name, RawTable::EMPTY), "queue.declare-ok")?;
    Ok(client)
}

/// Publishes so many empty messages, and waits for their confirms.
pub(crate) fn publish_confirmed(
    client: &mut Client,
    exchange: &str,
    key: &str,
    properties: &Properties,
    count: u64,
) -> Outcome {
    client.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
    for _ in 0..count {
        client.publish(exchange, key, properties.clone(), b"")?;
    }
    let mut confirmed = 0;
    while confirmed < count {
        match Method::decode(&client.frame()?.payload)? {
            Method::BasicAck { delivery_tag, .. } => confirmed = delivery_tag,
            other => return Err(format!("a confirm was expected, {other:?} came").into()),
        }
    }
    Ok(())
}

/// Publishes so many empty messages, and waits until the queue has them.
pub(crate) fn fill(client: &mut Client, queue: &str, count: u32) -> Outcome {
    let one = begun("", queue, Properties::default(), 0)?;
    let many = one.repeat(1000);
    for _ in 0..count / 1000 {
        client.stream.write_all(&many)?;
    }
    client.stream.write_all(&one.repeat(count as usize % 1000))?;
    client.call(
        &Method::BasicQos { prefetch_size: 0, prefetch_count: 0, global: false },
        "basic.qos-ok",
    )
}

/// Receives so many empty messages.
pub(crate) fn take(client: &mut Client, count: u32) -> Outcome {
    let mut taken = 0;
    while taken < count {
        taken += u32::from(client.frame()?.kind == FrameKind::Header);
    }
    Ok(())
}
