//! One connection's protocol state: negotiation, channels, closing. No socket, no clock.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use self::arriving::Arriving;
use super::codec::{
    FRAME_OVERHEAD, Frame, FrameError, FrameKind, Frames, Method, ReplyCode, split_frames,
};
use super::fault::Fault;
use super::gateway::{AwaitRoom, Gateway, Leave, Room};
use super::handshake::{Access, Failure, Handshake, Header, Progress};
use super::intake::Reservation;
use super::limits::Limits;
use super::output::Output;
use super::running::{Outcome, Running};
use crate::broker::access::LoginRefused;
use crate::message::ShortStr;
use crate::storage::{Durable, Lsn, StoreError};

/// Nothing is read while more than this waits to be written, in bytes: a peer that asks and does not
/// read the answers is made to wait.
const READ_BELOW: usize = 1024 * 1024;

/// The classes of methods that declare, bind and delete (AMQP 0-9-1, 1.6 and 1.7).
const EXCHANGE: u16 = 40;
const QUEUE: u16 = 50;

/// The methods of these classes that are carried out before others of the thread have their turn: each takes some microseconds, and a
/// read may hold thousands.
const DECLARATIONS_OF_A_TURN: u32 = 512;

/// A connection, as the protocol sees it.
pub(super) struct Connection {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    state: State,
    /// Complete frames that have not been looked at: everything waits for `wait`.
    frames: Frames,
    /// Frames to write.
    pub(super) output: Output,
    /// The password is being verified: no frame is looked at meanwhile.
    login: Option<Login>,
    wait: Option<Wait>,
    blocked: Option<Blocked>,
    /// Whether the peer has been told that it is blocked, and not yet that it is not.
    told_blocked: bool,
    /// For the oldest confirm that waits for its message to be durable.
    confirm: Option<Pin<Box<Durable>>>,
    /// The log has been asked to write everything up to here.
    expedited: Lsn,
    /// Whether others have had their turn since the last piece of what is done in pieces.
    yielded: bool,
    /// The methods on exchanges and queues that may be carried out before others have their turn.
    declarations: u32,
    /// The memory for what arrives.
    arriving: Arriving,
    /// A session that is ending.
    ending: Option<Box<Running>>,
    /// The peer has asked for the end.
    peer_leaves: bool,
    /// Why this side ended the connection, for the log.
    reason: Option<String>,
}

/// Who has logged in, when it is found out.
type Login = Pin<Box<dyn Future<Output = Result<ShortStr, LoginRefused>> + Send>>;

enum State {
    Handshake(Handshake),
    Running(Box<Running>),
    /// `connection.close` has been put out: only its answer counts.
    Closing,
    /// Nothing is read any more; the socket is closed when the output is written.
    Finished,
}

/// No frame is looked at until the log is durable up to a point.
struct Wait {
    durable: Pin<Box<Durable>>,
    /// What is then sent; empty when there is only congestion to wait for.
    answers: Output,
    /// What then ends the connection.
    fault: Option<Fault>,
}

/// The peer has published, and publishers are held back: no frame is looked at until there is room.
struct Blocked {
    room: AwaitRoom,
    /// The first that was not looked at.
    frame: Option<Frame>,
}

impl Connection {
    pub(super) fn new(gateway: Arc<Gateway>, peer: SocketAddr) -> Connection {
        let arriving = Arriving::new(Reservation::new(&gateway.intake));
        Connection {
            gateway,
            peer,
            state: State::Handshake(Handshake::new()),
            frames: Frames::default(),
            output: Output::default(),
            login: None,
            wait: None,
            blocked: None,
            told_blocked: false,
            confirm: None,
            expedited: Lsn::default(),
            yielded: false,
            declarations: DECLARATIONS_OF_A_TURN,
            arriving,
            ending: None,
            peer_leaves: false,
            reason: None,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.gateway.limits
    }

    /// Whether the socket should be read.
    pub(super) fn wants_input(&self) -> bool {
        self.takes_frames() && self.frames.is_empty() && !self.is_finished()
    }

    /// Whether the next frame may be looked at: nothing has to be answered first, and there is room for answers.
    fn takes_frames(&self) -> bool {
        let answering = match &self.state {
            State::Running(running) => running.awaits_message() || running.has_work(),
            _ => false,
        };
        self.wait.is_none()
            && self.login.is_none()
            && self.blocked.is_none()
            && !self.arriving.is_waiting()
            && !answering
            && self.declarations > 0
            && self.output.len() < READ_BELOW
    }

    /// Whether `connection.open` is still to come.
    pub(super) fn is_negotiating(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// Whether the peer has sent its password, and waits for it to be verified.
    pub(super) fn is_verifying(&self) -> bool {
        self.login.is_some()
    }

    /// Whether a message has arrived by a part.
    pub(super) fn is_partial(&self) -> bool {
        matches!(&self.state, State::Running(running) if running.is_partial())
    }

    /// Ends the connection if a message has not gone on arriving since the last sweep.
    pub(super) fn sweep(&mut self) {
        let takes_frames = self.takes_frames();
        let State::Running(running) = &mut self.state else { return };
        if !takes_frames {
            running.skip_sweep();
        } else if let Err(fault) = running.sweep() {
            self.fail(&fault);
        }
    }

    /// Returns the time between two looks for expired deliveries. `None` means that nothing can expire.
    pub(super) fn timeout_interval(&self) -> Option<Duration> {
        match &self.state {
            State::Running(running) => running.timeout_interval(),
            _ => None,
        }
    }

    /// Closes the channels whose client holds a delivery for longer than it may, unless its acknowledgement may be among the frames
    /// that wait.
    pub(super) fn check_timeouts(&mut self, now: Instant) {
        if self.takes_frames()
            && let State::Running(running) = &mut self.state
        {
            running.check_timeouts(now, &mut self.output);
        }
    }

    /// Forgets the last sweep, because frames have waited since then.
    pub(super) fn skip_sweep(&mut self) {
        if let State::Running(running) = &mut self.state {
            running.skip_sweep();
        }
    }

    /// Whether `connection.close` is among the frames that wait to be looked at, or in `ahead`, which was read behind them.
    pub(super) fn asks_to_close(&self, ahead: &BytesMut) -> bool {
        let State::Running(running) = &self.state else { return false };
        let frame_max = running.frame_max() + FRAME_OVERHEAD as u32;
        let (behind, _) = split_frames(&mut ahead.clone(), frame_max);
        self.frames.clone().chain(behind).any(|frame| {
            (frame.channel, frame.kind) == (0, FrameKind::Method)
                && matches!(Method::decode(&frame.payload), Ok(Method::ConnectionClose { .. }))
        })
    }

    /// Agrees to `connection.close` before what the client has sent ahead of it, which there is no room for.
    pub(super) fn close_while_held(&mut self) {
        self.agree_to_close();
        self.reason = Some("closed by the client while it was held back".to_owned());
    }

    /// Whether it keeps memory for nothing but what is to come.
    pub(super) fn holds_spare_memory(&self) -> bool {
        let message_memory = match &self.state {
            State::Running(running) => running.memory().is_held(),
            _ => false,
        };
        message_memory || self.output.holds_spare_memory()
    }

    /// Gives that memory up: an idle connection needs none.
    pub(super) fn release_spare_memory(&mut self) {
        if let State::Running(running) = &self.state {
            running.memory().release();
        }
        self.output.release();
    }

    /// Whether the peer has not sent anything that made sense yet.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(&self.state, State::Handshake(handshake) if handshake.expects_header())
    }

    /// Whether `connection.close` has been put out and not been answered.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// Whether the socket is to be closed once the output is written.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// The heartbeat interval, if one was agreed on.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        match &self.state {
            State::Running(running) => running.heartbeat(),
            _ => None,
        }
    }

    /// Whether the peer has asked for the end, and so closes the socket itself.
    pub(super) fn peer_leaves(&self) -> bool {
        self.peer_leaves
    }

    /// Why this side ended the connection, for the log.
    pub(super) fn take_reason(&mut self) -> Option<String> {
        self.reason.take()
    }

    /// Does what can be done without waiting: looks at what was received, puts out deliveries and confirms.
    ///
    /// Returns `true` if confirms have been put out that wait for nothing: they are to be written, and this to be called again,
    /// before others get the messages. A client that hears of a message from elsewhere then has its confirm already.
    #[must_use = "what was published is not handed out before the next call"]
    pub(super) fn work(&mut self, input: &mut BytesMut) -> bool {
        self.end_some();
        if let State::Running(running) = &self.state {
            running.begin_turn();
        }
        if self.has_work()
            && let State::Running(running) = &mut self.state
        {
            let outcome = running.work_some(&mut self.output);
            self.conclude(outcome);
        }
        self.receive(input);
        if let State::Running(running) = &mut self.state
            && running.confirm_at_once(self.gateway.store.durable_lsn(), &mut self.output)
        {
            return true;
        }
        self.respond();
        false
    }

    /// Has queues hand out what they got, and puts out deliveries and confirms.
    fn respond(&mut self) {
        let State::Running(running) = &mut self.state else { return };
        if let Some(reason) = running.take_order_to_close() {
            return self.fail(&Fault::connection(ReplyCode::ConnectionForced, reason));
        }
        let awaited = self.wait.as_mut().map(|wait| &mut wait.answers);
        let settled = running.settle();
        if let Err(fault) = settled.and_then(|()| running.deliver(&mut self.output, awaited)) {
            return self.fail(&fault);
        }
        let store = &self.gateway.store;
        if let Some((oldest, newest)) = running.confirm(store.durable_lsn(), &mut self.output) {
            // While the log is busy with what the oldest confirm waits for, this says that there is more to do: it need not
            // ask here first.
            if newest > self.expedited {
                self.expedited = newest;
                store.expedite(newest);
            }
            self.confirm.get_or_insert_with(|| Box::pin(store.durable(oldest)));
        }
        if self.wait.is_none()
            && let Some(lsn) = self.gateway.store.congested()
        {
            self.wait_for(lsn, Output::default(), None);
        }
    }

    /// Looks at the frames that have arrived, until something has to be waited for.
    fn receive(&mut self, input: &mut BytesMut) {
        while self.takes_frames() {
            if self.whole_publish() {
                continue;
            }
            if matches!(self.frames.next_class(), Some(EXCHANGE | QUEUE)) {
                self.declarations -= 1;
            }
            if let Some(frame) = self.frames.next() {
                self.frame(self.output.dialect().translate(frame));
                continue;
            }
            // Lets go of the read buffer, which can then be used again.
            self.frames = Frames::default();
            let frame_max = match &mut self.state {
                State::Handshake(handshake) if handshake.expects_header() => {
                    match handshake.header(input, &mut self.output) {
                        Header::Accepted => continue,
                        Header::Incomplete => return,
                        Header::Refused => {
                            return self.finish("the peer does not speak AMQP 0-9-1".to_owned());
                        }
                    }
                }
                State::Handshake(handshake) => handshake.frame_max(),
                State::Running(running) => running.frame_max(),
                State::Closing => self.gateway.limits.frame_max,
                State::Finished => return input.clear(),
            };
            // Quite a few clients count a frame's eight octets of overhead wrongly.
            let (frames, error) = split_frames(input, frame_max + FRAME_OVERHEAD as u32);
            self.frames = frames;
            if self.frames.is_empty() {
                if let Some(error) = error {
                    self.lose_sync(error);
                }
                return;
            }
            if let State::Running(running) = &self.state {
                running.memory().expect(self.frames.bytes());
            }
        }
    }

    /// Looks at all frames of a message at once, if it has arrived in one go.
    fn whole_publish(&mut self) -> bool {
        let State::Running(running) = &mut self.state else { return false };
        let Some(whole) = self.frames.whole_publish() else { return false };
        let length = whole.length();
        match running.whole_publish(&whole, &self.gateway, &mut self.output) {
            Ok(false) => return false,
            Ok(true) => {}
            Err(fault) => self.fail(&fault),
        }
        self.frames.advance(length);
        true
    }

    /// The bytes that follow are not frames: nothing that the peer sends can be understood any more, not even an
    /// answer to `connection.close`.
    fn lose_sync(&mut self, error: FrameError) {
        if !self.is_closing() {
            self.fail(&Fault::from(error));
        }
        self.state = State::Finished;
    }

    fn frame(&mut self, frame: Frame) {
        match &mut self.state {
            State::Handshake(_) => {
                if let Err(failure) = self.negotiate(&frame) {
                    self.refuse(failure);
                }
            }
            State::Running(running) => {
                let outcome = running.frame(frame, &self.gateway, &mut self.output);
                self.conclude(outcome);
            }
            State::Closing => self.closing_frame(&frame),
            State::Finished => {}
        }
    }

    fn conclude(&mut self, outcome: Result<Outcome, Fault>) {
        match outcome {
            Ok(Outcome::Done | Outcome::WaitForMessage | Outcome::More) => {}
            Ok(Outcome::Wait(lsn, reply)) => self.gather(lsn, &reply),
            Ok(Outcome::NoRoom(room, frame)) => self.block(room, frame),
            Ok(Outcome::Close) => self.agree_to_close(),
            Err(fault) => self.fail(&fault),
        }
    }

    /// Agrees to the peer's `connection.close`.
    fn agree_to_close(&mut self) {
        self.output.method(0, &Method::ConnectionCloseOk {});
        self.leave(State::Finished);
        self.peer_leaves = true;
    }

    /// Holds a publisher back until there is room, and tells it if it wants to know.
    fn block(&mut self, room: Room, frame: Option<Frame>) {
        self.blocked = Some(Blocked { room: self.gateway.await_room(room), frame });
        // Nothing is short where a message takes its time.
        let is_short = !matches!(room, Room::ToRoute | Room::NextTurn);
        if let State::Running(running) = &self.state
            && running.understands_blocked()
            && is_short
            && !self.told_blocked
        {
            self.told_blocked = true;
            let reason = self.gateway.reason();
            self.output.method(0, &Method::ConnectionBlocked { reason });
        }
    }

    /// There is room again, or `leave` to go on without.
    fn unblock(&mut self, leave: Option<Leave>, frame: Option<Frame>) {
        if let State::Running(running) = &mut self.state {
            let outcome = running.resume(leave, &mut self.output);
            self.conclude(outcome);
        }
        match (&mut self.blocked, frame) {
            // Somebody else was faster.
            (Some(blocked), frame) => blocked.frame = frame,
            (None, Some(frame)) => self.frame(frame),
            (None, None) => {}
        }
        if self.blocked.is_none() && matches!(self.state, State::Running(_)) && self.told_blocked {
            self.told_blocked = false;
            self.output.method(0, &Method::ConnectionUnblocked {});
        }
    }

    fn negotiate(&mut self, frame: &Frame) -> Result<(), Failure> {
        let State::Handshake(handshake) = &mut self.state else { return Ok(()) };
        let method = match (frame.channel, frame.kind) {
            (0, FrameKind::Heartbeat) => return Ok(()),
            (0, FrameKind::Method) => Method::decode(&frame.payload).map_err(Fault::from)?,
            _ => {
                return Err(Fault::connection(
                    ReplyCode::UnexpectedFrame,
                    "only methods on channel 0 are expected during the handshake",
                )
                .into());
            }
        };
        if matches!(method, Method::ConnectionClose { .. }) {
            self.agree_to_close();
            return Ok(());
        }
        let access = Access {
            limits: &self.gateway.limits,
            accounts: self.gateway.broker.accounts(),
            loopback: self.peer.ip().to_canonical().is_loopback(),
        };
        match handshake.method(&method, &access, &mut self.output)? {
            Progress::Next => {}
            Progress::Verify(verification) => {
                let outcome = self.gateway.verifier.verify(self.peer.ip(), verification);
                self.login = Some(Box::pin(outcome));
            }
            Progress::Open(terms) => {
                let session = self
                    .gateway
                    .broker
                    .connect(&terms.virtual_host, &terms.user)
                    .map_err(|refusal| Fault::from(refusal).during(method.id()))?;
                session.set_peer(self.peer.to_string());
                self.output.method(0, &Method::ConnectionOpenOk { reserved_1: b"" });
                tracing::info!(peer = %self.peer, user = %terms.user, "connection open");
                let log = Arc::clone(&self.gateway.log);
                let running = Running::new(self.peer, terms, session, log);
                self.state = State::Running(Box::new(running));
            }
        }
        Ok(())
    }

    /// The password has been verified.
    fn logged_in(&mut self, login: Result<ShortStr, LoginRefused>) {
        let State::Handshake(handshake) = &mut self.state else { return };
        if let Err(failure) = handshake.verified(login, &self.gateway.limits, &mut self.output) {
            self.refuse(failure);
        }
    }

    fn refuse(&mut self, failure: Failure) {
        match failure.told {
            Some(fault) => {
                self.fail(&fault);
                self.reason = Some(failure.reason);
            }
            None => self.finish(failure.reason),
        }
    }

    fn closing_frame(&mut self, frame: &Frame) {
        if (frame.channel, frame.kind) != (0, FrameKind::Method) {
            return;
        }
        match Method::decode(&frame.payload) {
            Ok(Method::ConnectionCloseOk {}) => self.leave(State::Finished),
            // Both sides have had enough at the same time.
            Ok(Method::ConnectionClose { .. }) => {
                self.output.method(0, &Method::ConnectionCloseOk {});
            }
            _ => {}
        }
    }

    /// Has `reply` sent when the log is durable up to `lsn`. A client that sends one declaration after the other without
    /// waiting for answers gets them all for one sync: what follows in the frames at hand is done now, and
    /// answered in its turn. Other methods than those on exchanges and queues wait: what they bring about (deliveries,
    /// confirms) would be sent before the answers.
    fn gather(&mut self, mut lsn: Lsn, reply: &[u8]) {
        let mut answers = Output::default();
        answers.encoded(reply);
        let mut fault = None;
        while fault.is_none()
            && self.declarations > 0
            && matches!(self.frames.next_class(), Some(EXCHANGE | QUEUE))
            && let State::Running(running) = &mut self.state
            && !running.has_work()
            && let Some(frame) = self.frames.next()
        {
            self.declarations -= 1;
            match running.frame(frame, &self.gateway, &mut answers) {
                Ok(Outcome::Wait(later, reply)) => {
                    lsn = lsn.max(later);
                    answers.encoded(&reply);
                }
                Ok(Outcome::Done | Outcome::WaitForMessage | Outcome::More | Outcome::Close) => {}
                // A declaration that waits for a deletion.
                Ok(Outcome::NoRoom(room, frame)) => {
                    self.block(room, frame);
                    break;
                }
                Err(found) => fault = Some(found),
            }
        }
        self.wait_for(lsn, answers, fault);
    }

    fn wait_for(&mut self, lsn: Lsn, answers: Output, fault: Option<Fault>) {
        let durable = Box::pin(self.gateway.store.durable(lsn));
        self.wait = Some(Wait { durable, answers, fault });
    }

    /// Closes the connection with `connection.close`.
    fn fail(&mut self, fault: &Fault) {
        self.output.method(0, &fault.connection_close());
        self.leave(State::Closing);
        self.reason = Some(fault.text.clone());
    }

    /// Closes the connection because the server stops.
    pub(super) fn shut_down(&mut self) {
        if let State::Running(_) = self.state {
            self.output.method(0, &Fault::shutdown().connection_close());
            self.leave(State::Closing);
        } else if self.is_negotiating() {
            self.leave(State::Finished);
        }
    }

    /// Closes the socket without a word.
    fn finish(&mut self, reason: String) {
        self.leave(State::Finished);
        self.reason = Some(reason);
    }

    /// Ends the session, if there is one: what it holds goes back to its queues. Returns whether it has ended: until then, it
    /// is to be called again.
    pub(super) fn end(&mut self) -> bool {
        self.end_some();
        self.leave(State::Finished);
        self.ending.is_none()
    }

    /// Whether there is a piece to do of something that is done in pieces. Its answer comes behind those that wait for a sync.
    fn has_work(&self) -> bool {
        let works = matches!(&self.state, State::Running(running) if running.has_work());
        self.ending.is_some() || (works && self.wait.is_none())
    }

    /// Goes on with the end of the session.
    fn end_some(&mut self) {
        self.ending.take_if(|running| running.close_some());
    }

    fn leave(&mut self, next: State) {
        self.login = None;
        self.wait = None;
        self.blocked = None;
        self.confirm = None;
        self.release_memory();
        if let State::Running(running) = std::mem::replace(&mut self.state, next) {
            self.ending = Some(running);
            self.end_some();
        }
    }

    /// Ready when [`Connection::work`] has something to do that is not in the input.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Frames may have waited for room, and writing has made some.
        let mut ready = if self.takes_frames() && !self.frames.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        };
        if !self.has_work() && self.declarations > 0 {
            self.yielded = false;
        } else if std::mem::replace(&mut self.yielded, true) {
            // The others of the thread have had their turn.
            self.yielded = false;
            self.declarations = DECLARATIONS_OF_A_TURN;
            ready = Poll::Ready(());
        } else {
            context.waker().wake_by_ref();
        }
        if let Some(login) = &mut self.login
            && let Poll::Ready(outcome) = login.as_mut().poll(context)
        {
            self.login = None;
            self.logged_in(outcome);
            ready = Poll::Ready(());
        }
        if let Some(wait) = &mut self.wait
            && let Poll::Ready(result) = wait.durable.as_mut().poll(context)
        {
            if let Some(Wait { answers, fault, .. }) = self.wait.take() {
                self.output.append(answers);
                match fault.filter(|_| result.is_ok()) {
                    Some(fault) => self.fail(&fault),
                    None => self.check(result),
                }
            }
            ready = Poll::Ready(());
        }
        // Not before the answers to what came before.
        if self.wait.is_none()
            && let Some(blocked) = &mut self.blocked
            && let Poll::Ready(leave) = blocked.room.as_mut().poll(context)
        {
            let frame = blocked.frame.take();
            self.blocked = None;
            self.unblock(leave, frame);
            ready = Poll::Ready(());
        }
        if self.poll_memory(context).is_ready() {
            ready = Poll::Ready(());
        }
        if let Some(confirm) = &mut self.confirm
            && let Poll::Ready(result) = confirm.as_mut().poll(context)
        {
            self.confirm = None;
            self.check(result);
            ready = Poll::Ready(());
        }
        if let State::Running(running) = &mut self.state
            && running.poll(context, &self.output).is_ready()
        {
            ready = Poll::Ready(());
        }
        ready
    }

    /// A failed log confirms nothing and answers nothing any more.
    fn check(&mut self, durable: Result<(), StoreError>) {
        if let Err(error) = durable {
            self.output = Output::default();
            self.finish(error.to_string());
        }
    }
}

mod arriving;
#[cfg(test)]
mod tests;
