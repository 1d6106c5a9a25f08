//! The socket: what is sent, what comes, waiting.
//!
//! It never blocks but in [`Connection::wait`], which waits for both directions: so a server that stops reading until its
//! answers are taken cannot hang whoever uses this. Reading and writing are tried before anybody waits; under load
//! a wait is rare.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::input::Input;
use super::{AmqpUri, ClientError, PATIENCE, handshake};
use crate::amqp::codec::{FrameKind, FrameView, Method, put_heartbeat, put_method};

/// The channel that everything happens on.
pub(in crate::cli) const CHANNEL: u16 = 1;

/// So many requests are on the way at most.
const PIPELINED: usize = 100;

/// See the module.
#[derive(Debug)]
pub(in crate::cli) struct Connection {
    stream: TcpStream,
    input: Input,
    output: BytesMut,
    /// Bytes of `output` that have been sent.
    sent: usize,
    /// The largest frame that the server takes.
    pub(super) frame_max: u32,
    /// How soon something has to be sent; nothing: no heartbeats were agreed on.
    pub(super) heartbeat: Option<Duration>,
    /// What the server calls itself.
    pub(super) server: String,
    last_sent: Instant,
    last_received: Instant,
}

impl Connection {
    /// Connects, logs in and opens the channel. `name` is how the connection is called where the server lists it.
    ///
    /// # Errors
    /// [`ClientError`]; those of a login that was refused and of a server that speaks something else say so.
    pub(in crate::cli) fn open(uri: &AmqpUri, name: &str) -> Result<Connection, ClientError> {
        let failed = |source| ClientError::Connect { uri: Box::new(uri.clone()), source };
        let stream = TcpStream::connect(uri.address()).map_err(failed)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let now = Instant::now();
        let mut connection = Connection {
            stream,
            input: Input::new(),
            output: BytesMut::new(),
            sent: 0,
            frame_max: crate::amqp::codec::FRAME_MIN_SIZE,
            heartbeat: None,
            server: String::new(),
            last_sent: now,
            last_received: now,
        };
        handshake::negotiate(&mut connection, uri, name)?;
        Ok(connection)
    }

    /// What the server calls itself, with its version.
    pub(in crate::cli) fn server(&self) -> &str {
        &self.server
    }

    /// The largest whole frame in bytes that may be sent.
    pub(in crate::cli) fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// What is sent next, to be appended to; whole frames.
    pub(in crate::cli) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// How many bytes are waiting to be sent.
    pub(in crate::cli) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Appends a method to what is sent next.
    pub(in crate::cli) fn send(&mut self, method: &Method<'_>) {
        put_method(&mut self.output, CHANNEL, method);
    }

    /// Sends what the socket takes at once.
    pub(in crate::cli) fn write_some(&mut self) -> Result<(), ClientError> {
        while self.unsent() > 0 {
            let rest = self.output.get(self.sent..).unwrap_or_default();
            match (&self.stream).write(rest) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => {
                    self.sent += count;
                    self.last_sent = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The server may have said why it goes, before it went: whoever reads next gets that.
                Err(error) if self.has_come()? => {
                    tracing::debug!("{error}, with something left to be read");
                    self.sent = self.output.len();
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Sends everything; what comes meanwhile is kept.
    pub(in crate::cli) fn flush(&mut self) -> Result<(), ClientError> {
        let mut until = Instant::now() + PATIENCE;
        loop {
            let before = self.unsent();
            self.write_some()?;
            if self.unsent() == 0 {
                return Ok(());
            }
            if self.unsent() < before {
                until = Instant::now() + PATIENCE;
            } else if Instant::now() > until {
                return Err(ClientError::Silent(PATIENCE));
            }
            self.wait(until)?;
            self.read_some()?;
        }
    }

    /// Reads what has come; how many bytes it was. Nothing is read while frames that were not taken fill all the room.
    pub(in crate::cli) fn read_some(&mut self) -> Result<usize, ClientError> {
        if !self.input.has_room() {
            return Ok(0);
        }
        let read = loop {
            match self.input.read_from(&self.stream) {
                Ok(0) => return Err(ClientError::Ended),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                // So the other end goes when it closes its socket with something unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(ClientError::Ended);
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.last_received = Instant::now();
        self.beat(self.last_received);
        Ok(read)
    }

    /// Waits until something can be read, or more can be sent of what is to be sent, or it is `until`. Sends heartbeats
    /// meanwhile, and notices when those of the server stay out.
    pub(in crate::cli) fn wait(&mut self, until: Instant) -> Result<(), ClientError> {
        loop {
            let now = Instant::now();
            if self.beat(now) {
                self.write_some()?;
            }
            // The server owes as many heartbeats as we do.
            let silence = now.saturating_duration_since(self.last_received);
            if self.heartbeat.is_some_and(|interval| silence > interval * 3) {
                return Err(ClientError::Silent(silence));
            }
            let next = self.next_beat().map_or(until, |beat| beat.min(until));
            let mut wanted = PollFlags::empty();
            if self.input.has_room() {
                wanted |= PollFlags::IN;
            }
            if self.unsent() > 0 {
                wanted |= PollFlags::OUT;
            }
            let left = next.saturating_duration_since(now);
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut polled = [PollFd::new(&self.stream, wanted)];
            match poll(&mut polled, Some(&timeout)) {
                Ok(0) if Instant::now() < until => {}
                Ok(_) => return Ok(()),
                // A signal: whoever waits may want to look around.
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    fn next_beat(&self) -> Option<Instant> {
        self.heartbeat.map(|interval| self.last_sent + interval / 2)
    }

    /// Appends a heartbeat if one is due; whether it was.
    fn beat(&mut self, now: Instant) -> bool {
        let is_due = self.unsent() == 0 && self.next_beat().is_some_and(|due| due <= now);
        if is_due {
            put_heartbeat(&mut self.output);
            self.last_sent = now;
        }
        is_due
    }

    /// The next frame that has come, without waiting for one. Heartbeats are shown too.
    pub(in crate::cli) fn next_frame(&mut self) -> Result<Option<FrameView<'_>>, ClientError> {
        Ok(self.input.next()?)
    }

    /// Whether a frame is there, or comes until then.
    pub(in crate::cli) fn await_frame(&mut self, until: Instant) -> Result<bool, ClientError> {
        while !self.input.has_frame()? {
            self.write_some()?;
            if self.read_some()? == 0 {
                if Instant::now() >= until {
                    return Ok(false);
                }
                self.wait(until)?;
            }
        }
        Ok(true)
    }

    /// Whether something has come that was not read yet, or the end.
    fn has_come(&self) -> Result<bool, ClientError> {
        let mut polled = [PollFd::new(&self.stream, PollFlags::IN)];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = poll(&mut polled, Some(&zero)).map_err(io::Error::from)?;
        Ok(ready > 0 && self.input.has_room())
    }

    /// Sends a request and waits for its answer, which `look` sees. What else comes goes to `other`: it says whether it
    /// knows it, and what nobody knows is an error.
    pub(in crate::cli) fn call_with(
        &mut self,
        method: &Method<'_>,
        answer: &'static str,
        look: impl FnOnce(&Method<'_>),
        other: impl FnMut(&FrameView<'_>) -> Result<bool, ClientError>,
    ) -> Result<(), ClientError> {
        self.send(method);
        self.flush()?;
        self.answer_with(method.name(), answer, look, other)
    }

    /// The answer to a request that was sent before. See [`Connection::call_with`].
    pub(super) fn answer_with(
        &mut self,
        request: &'static str,
        answer: &'static str,
        look: impl FnOnce(&Method<'_>),
        mut other: impl FnMut(&FrameView<'_>) -> Result<bool, ClientError>,
    ) -> Result<(), ClientError> {
        let until = Instant::now() + PATIENCE;
        while self.await_frame(until)? {
            let Some(frame) = self.next_frame()? else { continue };
            match frame.kind {
                FrameKind::Heartbeat => {}
                FrameKind::Method => {
                    let method = Method::decode(frame.payload)?;
                    if method.name() == answer {
                        look(&method);
                        return Ok(());
                    }
                    if !other(&frame)? {
                        return Err(ClientError::unexpected(request, &method));
                    }
                }
                FrameKind::Header | FrameKind::Body => {
                    other(&frame)?;
                }
            }
        }
        Err(ClientError::Silent(PATIENCE))
    }

    /// The same, when nothing else is expected but news of the server's memory and disks.
    pub(in crate::cli) fn call(
        &mut self,
        method: &Method<'_>,
        answer: &'static str,
    ) -> Result<(), ClientError> {
        self.call_with(method, answer, |_| {}, only_news)
    }

    /// Sends requests of one kind without waiting for each; `look` sees their answers.
    pub(in crate::cli) fn call_all<'a>(
        &mut self,
        requests: impl Iterator<Item = Method<'a>>,
        answer: &'static str,
        mut look: impl FnMut(&Method<'_>),
    ) -> Result<(), ClientError> {
        let mut requests = requests.peekable();
        while let Some(first) = requests.peek() {
            let name = first.name();
            let mut count = 0;
            for request in requests.by_ref().take(PIPELINED) {
                self.send(&request);
                count += 1;
            }
            self.flush()?;
            for _ in 0..count {
                self.answer_with(name, answer, &mut look, only_news)?;
            }
        }
        Ok(())
    }

    /// Says goodbye; what comes meanwhile is dropped.
    pub(in crate::cli) fn close(mut self) -> Result<(), ClientError> {
        let close =
            Method::ConnectionClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 };
        put_method(&mut self.output, 0, &close);
        self.flush()?;
        self.answer_with("connection.close", "connection.close-ok", |_| {}, |_| Ok(true))
    }
}

/// Knows `connection.blocked` and `connection.unblocked`: whoever publishes notices by itself that it is not read from.
pub(super) fn only_news(frame: &FrameView<'_>) -> Result<bool, ClientError> {
    let method = Method::decode(frame.payload)?;
    Ok(matches!(method, Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {}))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    /// A connection as it is after the negotiation, and its other end.
    fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let now = Instant::now();
        let connection = Connection {
            stream,
            input: Input::new(),
            output: BytesMut::new(),
            sent: 0,
            frame_max: 4096,
            heartbeat: None,
            server: String::new(),
            last_sent: now,
            last_received: now,
        };
        (connection, peer)
    }

    #[test]
    fn who_waits_sends_heartbeats_and_gives_up_a_server_that_sends_none() {
        let (mut connection, mut peer) = connected();
        connection.heartbeat = Some(Duration::from_millis(20));
        let error = loop {
            if let Err(error) = connection.wait(Instant::now() + PATIENCE) {
                break error;
            }
        };
        assert!(matches!(error, ClientError::Silent(_)), "{error}");
        drop(connection);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert!(received.starts_with(b"\x08\0\0\0\0\0\0\xce"), "{received:?}");
    }

    /// A server says why it goes and closes its socket; the next write fails, and its words are still to be read.
    #[test]
    fn what_the_server_has_said_is_not_lost_to_a_write_that_fails() {
        let (mut connection, mut peer) = connected();
        let close = Method::ConnectionClose {
            reply_code: 320,
            reply_text: b"CONNECTION_FORCED",
            class_id: 0,
            method_id: 0,
        };
        let mut said = BytesMut::new();
        put_method(&mut said, 0, &close);
        peer.write_all(&said).unwrap();
        drop(peer);
        // The first write makes the other side say that nobody is there, the later ones fail.
        for _ in 0..100 {
            connection.output().extend_from_slice(&[0; 1000]);
            connection.flush().unwrap();
            std::thread::yield_now();
        }
        let error = connection.call(&Method::ChannelOpen { reserved_1: b"" }, "channel.open-ok");
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "the server closed it: 320 CONNECTION_FORCED");
    }

    #[test]
    fn heartbeats_and_news_are_passed_over_while_an_answer_is_waited_for() {
        let (mut connection, mut peer) = connected();
        let mut said = BytesMut::new();
        put_heartbeat(&mut said);
        put_method(&mut said, 0, &Method::ConnectionBlocked { reason: b"memory" });
        put_method(&mut said, CHANNEL, &Method::BasicQosOk {});
        put_method(&mut said, CHANNEL, &Method::QueueDeleteOk { message_count: 3 });
        peer.write_all(&said).unwrap();
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false };
        connection.call(&qos, "basic.qos-ok").unwrap();
        let error = connection.call(&qos, "basic.qos-ok").unwrap_err().to_string();
        assert_eq!(error, "the server answered queue.delete-ok to basic.qos");
    }
}
