//! One connection's tokio task: the socket on one side, [`Connection`] on the other.
//!
//! One task both reads and writes, without ever waiting for one of them alone. A peer that does not
//! read fills its own output buffer, then is not read from any more, and disturbs nobody else.

use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{Interest, Ready};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Gateway;
use super::connection::Connection;
use super::guest::Guest;
use super::handshake_time::HandshakeTime;
use super::transport::Transport;

/// What is read at once: as much as arrives, between these sizes.
const SMALLEST_READ: usize = 8 * 1024;
const LARGEST_READ: usize = 256 * 1024;
/// Bytes read and written before the connections that share the thread get their turn.
const TURN: usize = 256 * 1024;
/// Slices given to one vectored write.
const SLICES: usize = 64;
/// How long a connection keeps its buffers after it was last used.
const KEEP_BUFFERS: Duration = Duration::from_secs(2);
/// So many bytes are read ahead.
const AHEAD: usize = 16 * 1024;
/// How long a socket stays half open for the peer to read what was sent last.
const LINGER: Duration = Duration::from_secs(1);

/// The times for which a peer that leaves Nagle's algorithm on may hold the rest of what it has to send, until its system hears that the last bytes
/// have arrived: Linux says so after 40 ms, and up to 200 ms, if nothing is written before.
const DELAYED: RangeInclusive<Duration> = Duration::from_millis(30)..=Duration::from_millis(250);
/// So many reads are then acknowledged at once, if nothing is written after them.
const ACKNOWLEDGED: u32 = 10_000;

/// Why a connection ended in another way than by `connection.close`.
#[derive(Debug, thiserror::Error)]
enum Abort {
    #[error("the peer closed the socket without connection.close")]
    Eof,
    #[error("the peer closed the socket instead of answering connection.close")]
    Gone,
    #[error("socket error: {0}")]
    Socket(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("missed heartbeats: nothing received for {0:?}")]
    NotSending(Duration),
    #[error("the peer does not read: nothing could be sent for {0:?}")]
    NotReading(Duration),
    #[error("handshake not finished within {0:?}")]
    Handshake(Duration),
    #[error("the peer did not finish closing within {0:?}")]
    Close(Duration),
    #[error("all places for connections are taken, and this one had not logged in")]
    Dismissed,
}

/// Serves one accepted socket until it is closed. Logs how it ended. When `stop` turns true, the peer is told.
pub(crate) async fn serve(
    transport: Transport,
    peer: SocketAddr,
    gateway: Arc<Gateway>,
    guest: Arc<Guest>,
    stop: watch::Receiver<bool>,
) {
    let now = Instant::now();
    let connection = Connection::new(Arc::clone(&gateway), peer);
    let mut task = Task {
        transport,
        connection,
        input: BytesMut::new(),
        read_size: SMALLEST_READ,
        handshake: HandshakeTime::new(now),
        guest: Some(guest),
        held: None,
        reads_ahead: false,
        swept: now,
        checked: now,
        now,
        closing: None,
        received: now,
        sent: now,
        unanswered: None,
        acknowledged: 0,
        moved: 0,
        stop,
        told: false,
    };
    let end = task.run().await;
    let untouched = task.connection.is_untouched();
    while !task.connection.end() {
        tokio::task::yield_now().await;
    }
    match &end {
        Ok(()) | Err(Abort::Gone) => {}
        // A port scan or a health check, not worth a warning.
        Err(Abort::Eof) if untouched => {
            tracing::debug!(%peer, "connected and left without a word");
        }
        Err(abort) => gateway.log.say("connection aborted", peer.ip(), || {
            tracing::warn!(%peer, "connection aborted: {abort}");
        }),
    }
    if let Some(reason) = task.connection.take_reason() {
        gateway.log.say("connection closed", peer.ip(), || {
            tracing::warn!(%peer, "connection closed: {reason}");
        });
    }
    if !matches!(end, Err(Abort::Socket(_) | Abort::Dismissed)) {
        task.linger().await;
    }
}

/// Makes room for a read of about `room` bytes, and returns the room that there is.
///
/// A message that stays in memory keeps the buffer that it was read into, so most of a buffer is
/// used before there is a new one. Otherwise each message that is confirmed by itself would take
/// the memory of a whole buffer.
fn offer_room(input: &mut BytesMut, room: usize) -> usize {
    if input.capacity() - input.len() < room / 4 {
        input.reserve(room);
    }
    input.capacity() - input.len()
}

/// What a task was woken for.
enum Happened {
    Socket(Ready),
    /// The connection has something to do.
    Work,
    Timer,
    /// The server stops.
    Stop,
}

/// Completes when the server wants the place of a guest.
async fn dismissed(guest: Option<&Guest>) {
    match guest {
        Some(guest) => guest.dismissed().await,
        None => pending().await,
    }
}

struct Task {
    transport: Transport,
    connection: Connection,
    input: BytesMut,
    /// How much room to read into.
    read_size: usize,
    handshake: HandshakeTime,
    /// Until the peer has logged in.
    guest: Option<Arc<Guest>>,
    /// Since when no frame has been looked at.
    held: Option<Instant>,
    /// Whether the input holds bytes that were read while frames waited.
    reads_ahead: bool,
    /// When messages that have arrived by a part were last looked at.
    swept: Instant,
    /// When deliveries were last looked at that are not acknowledged.
    checked: Instant,
    /// When there was last something to do: asked once for all that it is needed for.
    now: Instant,
    /// Since when nothing is left but to close: the answer to `connection.close` is awaited, or the peer has yet to
    /// read what was sent last.
    closing: Option<Instant>,
    /// When something was last received, or could not be because we did not read.
    received: Instant,
    /// When something was last sent.
    sent: Instant,
    /// When something was read, if nothing has been written since.
    unanswered: Option<Instant>,
    /// Reads left to acknowledge at once: the peer seems to wait for that before it sends on.
    acknowledged: u32,
    /// Bytes read and written since others had their turn.
    moved: usize,
    stop: watch::Receiver<bool>,
    /// Whether `stop` has been seen.
    told: bool,
}

impl Task {
    async fn run(&mut self) -> Result<(), Abort> {
        let mut timer = pin!(sleep_until(self.next_wake()));
        loop {
            self.work()?;
            if self.reads_ahead && self.connection.wants_input() {
                self.reads_ahead = false;
                self.work()?;
            }
            self.acknowledge();
            self.release_arrived();
            if self.connection.is_finished() && self.is_all_sent() {
                return Ok(());
            }
            let ending = self.connection.is_closing() || self.connection.is_finished();
            if ending && self.closing.is_none() {
                self.closing = Some(self.now);
            }
            self.note_login();
            self.note_held();
            if self.moved >= TURN {
                self.moved = 0;
                tokio::task::yield_now().await;
            }
            let next = self.next_wake();
            if next < timer.deadline() {
                timer.as_mut().reset(next);
            }
            let interest = self.interest();
            let event = tokio::select! {
                ready = self.transport.ready(interest) => Happened::Socket(ready?),
                () = poll_fn(|context| self.connection.poll(context)) => Happened::Work,
                () = timer.as_mut() => Happened::Timer,
                // An error means that the server is gone altogether.
                _ = self.stop.changed(), if !self.told => Happened::Stop,
                () = dismissed(self.guest.as_deref()), if self.guest.is_some() => {
                    return Err(Abort::Dismissed);
                }
            };
            self.now = Instant::now();
            match event {
                Happened::Socket(ready) => self.exchange(ready)?,
                Happened::Work => {}
                Happened::Timer => {
                    self.tick()?;
                    timer.as_mut().reset(self.next_wake());
                }
                Happened::Stop => {
                    self.told = true;
                    self.connection.shut_down();
                }
            }
        }
    }

    /// Notes how far the peer has come with its login.
    fn note_login(&mut self) {
        self.handshake.note(self.connection.is_verifying(), self.now);
        let Some(guest) = &self.guest else { return };
        if !self.connection.is_negotiating() {
            self.guest = None;
        } else if self.connection.is_verifying() {
            guest.note_spoken();
        }
    }

    /// Notes since when frames have waited.
    fn note_held(&mut self) {
        if self.connection.wants_input() || self.connection.is_finished() {
            if self.is_held() {
                self.connection.skip_sweep();
            }
            self.held = None;
        } else if self.held.is_none() {
            self.held = Some(self.now);
        }
    }

    /// Whether frames have waited for so long that the socket is read ahead of them.
    fn is_held(&self) -> bool {
        self.is_held_for(self.connection.limits().held_back)
    }

    fn is_held_for(&self, time: Duration) -> bool {
        self.held.is_some_and(|since| self.now >= since + time)
    }

    /// The bytes that may be read.
    fn room(&self) -> usize {
        if self.connection.wants_input() {
            self.read_size
        } else if self.is_held() {
            AHEAD.saturating_sub(self.input.len())
        } else {
            0
        }
    }

    /// Does what can be done now, and writes what comes of it: confirms that wait for nothing before
    /// anybody else gets their messages.
    fn work(&mut self) -> Result<(), Abort> {
        while self.connection.work(&mut self.input) {
            self.write()?;
        }
        self.write()
    }

    fn is_all_sent(&self) -> bool {
        self.connection.output.is_empty() && !self.transport.holds_unsent()
    }

    fn interest(&self) -> Option<Interest> {
        match (self.room() > 0, self.connection.output.is_empty()) {
            (true, true) => Some(Interest::READABLE),
            (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, false) => Some(Interest::WRITABLE),
            (false, true) => None,
        }
    }

    /// Reads once, if there is something. Writing is the next round's work.
    fn exchange(&mut self, ready: Ready) -> Result<(), Abort> {
        let room = self.room();
        if !ready.is_readable() || room == 0 {
            return Ok(());
        }
        self.reads_ahead = !self.connection.wants_input();
        let admitted = match self.reads_ahead {
            true => room,
            false => self.connection.admit(self.input.len(), room),
        };
        if admitted == 0 {
            return Ok(());
        }
        let offered = offer_room(&mut self.input, admitted);
        match self.transport.try_read(&mut self.input) {
            Ok(0) if self.connection.is_closing() => Err(Abort::Gone),
            Ok(0) => Err(Abort::Eof),
            Ok(count) => {
                self.received = self.now;
                self.moved += count;
                if self.reads_ahead {
                    return Ok(());
                }
                let unanswered = self.unanswered.replace(self.now);
                if unanswered.is_some_and(|since| DELAYED.contains(&(self.now - since))) {
                    self.acknowledged = ACKNOWLEDGED;
                }
                // Who has not logged in has no use for more, and is nobody to keep it for.
                if count >= offered.min(self.read_size) && !self.connection.is_negotiating() {
                    self.read_size = (self.read_size * 2).min(LARGEST_READ);
                } else if count < self.read_size / 4 {
                    self.read_size = (self.read_size / 2).max(SMALLEST_READ);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Abort::Tls(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes until there is nothing left, or no room.
    fn write(&mut self) -> Result<(), Abort> {
        while !self.connection.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.connection.output.slices(&mut slices);
            match self.transport.try_write(&slices[..filled]) {
                Ok(count) => {
                    self.connection.output.advance(count);
                    self.moved += count;
                    self.sent = self.now;
                    self.unanswered = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.transport.try_flush()?)
    }

    /// Has what was just read acknowledged, if nothing has been written that does so, and the peer seems to wait for it.
    fn acknowledge(&mut self) {
        if self.acknowledged > 0 && self.unanswered == Some(self.now) {
            self.acknowledged -= 1;
            self.transport.acknowledge();
        }
    }

    /// When [`Task::tick`] has something to do at the latest.
    fn next_wake(&self) -> Instant {
        let limits = self.connection.limits();
        if let Some(since) = self.closing {
            return since + limits.close;
        }
        if self.connection.is_negotiating()
            && let Some(deadline) = self.handshake.deadline(limits.handshake)
        {
            return deadline;
        }
        // Far enough away to cost nothing.
        let mut next = self.now + Duration::from_secs(3600);
        if let Some(interval) = self.connection.heartbeat() {
            let heartbeat = self.sent + interval / 2;
            next = heartbeat.min(self.received + interval * 2).max(self.now + interval / 8);
        }
        if let Some(since) = self.held {
            let held = limits.held_back;
            let looks = [since + held, since + 2 * held, self.now + held];
            next = looks.into_iter().filter(|at| *at > self.now).fold(next, Instant::min);
        }
        if self.connection.is_partial() {
            next = next.min(self.next_sweep()).max(self.now + Duration::from_millis(1));
        }
        if let Some(interval) = self.connection.timeout_interval() {
            next = next.min((self.checked + interval).max(self.now + Duration::from_millis(1)));
        }
        if self.holds_spare_buffers() {
            next = next.min(self.idle_at().max(self.now + KEEP_BUFFERS / 8));
        }
        next
    }

    /// A message that does not go on arriving between two of them has stopped.
    fn next_sweep(&self) -> Instant {
        self.swept + self.connection.limits().message_timeout
    }

    /// Looks at a socket that has not been read for a while.
    fn look_ahead(&mut self) -> Result<(), Abort> {
        if self.transport.has_hung_up() {
            return Err(Abort::Eof);
        }
        if self.is_held_for(2 * self.connection.limits().held_back)
            && self.connection.asks_to_close(&self.input)
        {
            self.connection.close_while_held();
        }
        Ok(())
    }

    fn holds_spare_buffers(&self) -> bool {
        let input = self.input.is_empty() && self.input.capacity() > 0;
        input || self.connection.holds_spare_memory()
    }

    /// When buffers with nothing in them are given up.
    fn idle_at(&self) -> Instant {
        self.received.max(self.sent) + KEEP_BUFFERS
    }

    /// Gives up the memory that the next bytes would go to.
    fn release_buffers(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.connection.release_spare_memory();
        self.read_size = SMALLEST_READ;
    }

    /// Releases the memory of what has been dealt with, for other connections to read.
    fn release_arrived(&mut self) {
        let buffer = if self.input.capacity() > 0 { self.read_size } else { 0 };
        if self.connection.release_arrived(self.input.len(), buffer) && self.input.is_empty() {
            self.release_buffers();
            self.connection.release_arrived(0, 0);
        }
    }

    /// Looks at the time.
    fn tick(&mut self) -> Result<(), Abort> {
        let now = self.now;
        if now >= self.idle_at() {
            self.release_buffers();
        }
        let limits = self.connection.limits();
        if let Some(since) = self.closing {
            return if now >= since + limits.close {
                Err(Abort::Close(limits.close))
            } else {
                Ok(())
            };
        }
        if self.connection.is_negotiating() {
            let limit = limits.handshake;
            let deadline = self.handshake.deadline(limit);
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Err(Abort::Handshake(limit));
            }
            return if self.is_held() { self.look_ahead() } else { Ok(()) };
        }
        if self.is_held() {
            self.look_ahead()?;
        }
        if now >= self.next_sweep() {
            self.swept = now;
            self.connection.sweep();
        }
        let timeouts = self.connection.timeout_interval();
        if timeouts.is_some_and(|interval| now >= self.checked + interval) {
            self.checked = now;
            self.connection.check_timeouts(now.into_std());
        }
        let Some(interval) = self.connection.heartbeat() else { return Ok(()) };
        if !self.is_all_sent() {
            // What could not be sent is sign enough of life; more would only pile up.
            if now >= self.sent + interval * 2 {
                return Err(Abort::NotReading(now - self.sent));
            }
        } else if now >= self.sent + interval / 2 {
            self.connection.output.heartbeat();
        }
        if self.room() == 0 {
            // The peer's bytes are not read, so they say nothing of it.
            self.received = now;
        } else if now >= self.received + interval * 2 {
            return Err(Abort::NotSending(now - self.received));
        }
        Ok(())
    }

    /// Lets the peer read what was sent last: closing a socket that holds unread input would throw it away.
    ///
    /// A peer that has asked for the end is left to close the socket first, as RabbitMQ does: there are clients that take
    /// the end of what they read for a failure while they are still busy with the answer.
    async fn linger(&mut self) {
        if !self.connection.peer_leaves() && self.transport.shutdown().await.is_err() {
            return;
        }
        let mut scratch = vec![0; SMALLEST_READ];
        // Whether the peer closed its side or the time is over makes no difference.
        timeout(LINGER, self.transport.drain(&mut scratch)).await.ok();
        if self.connection.peer_leaves() {
            self.transport.shutdown().await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each message of 64 KiB that came by itself kept a buffer of 256 KiB.
    #[test]
    fn messages_that_are_read_one_by_one_share_buffers() {
        const BODY: usize = 64 * 1024;
        let mut input = BytesMut::new();
        let mut kept = Vec::new();
        let mut memory = 0;
        for _ in 0..64 {
            let before = input.as_ptr();
            let offered = offer_room(&mut input, LARGEST_READ);
            if input.as_ptr() != before || kept.is_empty() {
                memory += offered;
            }
            input.resize(BODY.min(offered), 0);
            kept.push(input.split().freeze());
        }
        let bodies: usize = kept.iter().map(|body| body.len()).sum();
        assert!(bodies >= 48 * BODY);
        assert!(memory <= bodies * 3 / 2, "{memory} bytes for {bodies}");
    }
}
