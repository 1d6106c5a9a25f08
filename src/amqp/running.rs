//! A connection after `connection.open`: its session with the broker, and its channels.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::assembly::{COPIED, PUBLISH, Published};
use super::channel::Channel;
use super::codec::{Frame, FrameKind, Method, ReplyCode, WholePublish};
use super::fault::Fault;
use super::gateway::{Gateway, Leave, Room};
use super::handshake::Terms;
use super::output::Output;
use super::thinning::Thinning;
use crate::broker::{self, ChannelNumber, DestinationKind, Effort, Event, Scope, Session};
use crate::storage::{Lsn, MessageMemory};

/// Deliveries are moved to the output while less than this waits there, in bytes.
const DELIVER_BELOW: usize = 256 * 1024;

/// The bytes of a message that have to arrive between two sweeps, unless it is complete then.
const LEAST_PROGRESS: usize = 64 * 1024;

/// Channels that are closed at a connection's end before others of its thread have their turn.
const CLOSED_AT_ONCE: usize = 16;

/// What is to be done after a frame.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Go on.
    Done,
    /// Wait until the log is durable up to there, send these bytes, then go on.
    Wait(Lsn, BytesMut),
    /// Wait for the message that `basic.get` asked for: it is being read from disk.
    WaitForMessage,
    /// The method is done in pieces: look at no further frame before the [last](Running::work_some) of them.
    More,
    /// Publishers are held back: look at no further frame before there is this room, then [resume](Running::resume) and look at this
    /// one again, if it is one.
    NoRoom(Room, Option<Frame>),
    /// The peer has sent `connection.close`.
    Close,
}

/// A connection in its normal state.
pub(super) struct Running {
    peer: SocketAddr,
    log: Arc<Thinning>,
    terms: Terms,
    /// For each channel with an incomplete message at the last [sweep](Running::sweep): the message's number, and its bytes that
    /// had arrived.
    partial: BTreeMap<u16, (u64, usize)>,
    /// In front of the session, so that they go first.
    channels: BTreeMap<u16, Channel>,
    /// Channels that are being closed in pieces, each with its number if the peer has asked for that. No frame is looked at
    /// meanwhile.
    closing: VecDeque<(broker::Channel, Option<u16>)>,
    session: Session,
    /// Channels that have something to settle or to confirm: those whose `noted` is set.
    noted: Vec<u16>,
    /// A message has come whose confirm waits for nothing.
    confirmable: bool,
    /// Bytes of messages that have not arrived completely, on all channels.
    unfinished: usize,
    /// The channel whose `basic.get` waits for its message. No frame is looked at meanwhile: whoever asks for many
    /// messages gets one after the other, as fast as they are taken.
    awaiting: Option<u16>,
    /// The channel whose method is done in pieces. No frame is looked at meanwhile.
    working: Option<u16>,
    /// A message, and its channel, that has arrived and could not be stored: the disk is full, or it takes long to find out
    /// where it goes.
    held: Option<(u16, Published)>,
    /// The room that the held message waits for.
    held_for: Room,
    /// The turn to find that out.
    routing: Option<Leave>,
    /// Leave to finish a message while memory is short.
    leave: Option<Leave>,
    /// Reused by every round.
    events: Vec<Event>,
    /// For messages that have arrived in one go.
    memory: MessageMemory,
}

impl Running {
    pub(super) fn new(
        peer: SocketAddr,
        terms: Terms,
        session: Session,
        log: Arc<Thinning>,
    ) -> Running {
        Running {
            peer,
            log,
            partial: BTreeMap::new(),
            terms,
            session,
            channels: BTreeMap::new(),
            closing: VecDeque::new(),
            noted: Vec::new(),
            confirmable: false,
            unfinished: 0,
            awaiting: None,
            working: None,
            held: None,
            held_for: Room::Everywhere,
            routing: None,
            leave: None,
            events: Vec::new(),
            memory: MessageMemory::default(),
        }
    }

    /// The memory that messages are copied to.
    pub(super) fn memory(&self) -> &MessageMemory {
        &self.memory
    }

    /// Whether a message is being read from disk that has been asked for.
    pub(super) fn awaits_message(&self) -> bool {
        self.awaiting.is_some()
    }

    /// The largest frame in bytes.
    pub(super) fn frame_max(&self) -> u32 {
        self.terms.frame_max
    }

    /// The heartbeat interval, if one was agreed on.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        let seconds = self.terms.heartbeat;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// Others of the thread have had their turn.
    pub(super) fn begin_turn(&self) {
        self.session.begin_turn();
    }

    /// Whether something is done in pieces: a channel is being closed, a method is under way, or bindings have to be removed that
    /// lead to something deleted. No frame is looked at meanwhile.
    pub(super) fn has_work(&self) -> bool {
        !self.closing.is_empty() || self.working.is_some() || self.session.has_to_prune()
    }

    /// Does the next piece.
    pub(super) fn work_some(&mut self, output: &mut Output) -> Result<Outcome, Fault> {
        if let Some((channel, number)) = self.closing.front_mut() {
            if channel.close_some() {
                close_ok(*number, output);
                self.closing.pop_front();
            }
        } else if let Some(number) = self.working.take() {
            if let Some(channel) = self.channels.get_mut(&number) {
                let outcome = channel.go_on(output);
                return self.conclude(number, outcome, output);
            }
        } else {
            self.session.prune_some();
        }
        Ok(Outcome::Done)
    }

    /// Ends the session in pieces, so that others of its thread have their turn in between. Channels first: what they hold is
    /// at once there for others. Returns whether the session has ended: until then, the caller must call it again.
    pub(super) fn close_some(&mut self) -> bool {
        if let Some((channel, _)) = self.closing.front_mut() {
            if channel.close_some() {
                self.closing.pop_front();
            }
            return false;
        }
        for _ in 0..CLOSED_AT_ONCE {
            let Some((_, mut channel)) = self.channels.pop_first() else {
                return self.session.close_some();
            };
            if let Some(mut inner) = channel.shut()
                && !inner.close_some()
            {
                self.closing.push_back((inner, None));
                return false;
            }
        }
        false
    }

    /// Takes the next frame.
    pub(super) fn frame(
        &mut self,
        frame: Frame,
        gateway: &Gateway,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        if frame.channel == 0 {
            return self.connection_frame(&frame, output);
        }
        let number = frame.channel;
        let outcome = self.channel_frame(frame, gateway, output);
        self.conclude(number, outcome, output)
    }

    /// Takes a message that has arrived in one go, as most do; false: its frames have to be [taken](Self::frame) one by one,
    /// because something is out of the ordinary.
    pub(super) fn whole_publish(
        &mut self,
        whole: &WholePublish<'_>,
        gateway: &Gateway,
        output: &mut Output,
    ) -> Result<bool, Fault> {
        let number = whole.channel;
        if whole.body.len() > COPIED || gateway.holds_publishers_back() {
            return Ok(false);
        }
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(false) };
        if !channel.noted {
            channel.noted = true;
            self.noted.push(number);
        }
        let largest = gateway.limits.message_size;
        let published = channel.publish_whole(whole, largest, &self.memory, output);
        self.confirmable |= channel.has_confirm();
        match published.map_err(|fault| fault.during(PUBLISH)) {
            Err(fault) if fault.scope == Scope::Channel => {
                self.close_channel(number, &fault, output);
                Ok(true)
            }
            published => published,
        }
    }

    /// There is room again: stores the message that was held, if there is one. With `leave`, there is room to finish another.
    pub(super) fn resume(
        &mut self,
        leave: Option<Leave>,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        let Some((number, published)) = self.held.take() else {
            self.leave = self.leave.take().or(leave);
            return Ok(Outcome::Done);
        };
        self.routing = self.routing.take().or(leave);
        let outcome = self.publish(number, published, output);
        if self.held.is_none() || self.held_for == Room::OnDisk {
            self.routing = None;
        }
        self.conclude(number, outcome, output)
    }

    /// Whether a message has arrived by a part.
    pub(super) fn is_partial(&self) -> bool {
        self.unfinished > 0
    }

    /// Bytes of messages that have not arrived completely.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Whether the connection has leave to finish its message.
    pub(super) fn has_leave(&self) -> bool {
        self.leave.is_some()
    }

    /// Takes leave that the connection has waited for.
    pub(super) fn take_leave(&mut self, leave: Leave) {
        self.leave = Some(leave);
    }

    /// Gives leave back: nothing that takes much memory is left to be finished.
    pub(super) fn drop_leave(&mut self) {
        self.leave = None;
    }

    /// Refuses a message of which less than [`LEAST_PROGRESS`] has arrived since the last sweep.
    pub(super) fn sweep(&mut self) -> Result<(), Fault> {
        let before = std::mem::take(&mut self.partial);
        for (number, channel) in &self.channels {
            let (begun, held) = (channel.begun, channel.assembly.held());
            if channel.assembly.is_idle() || channel.is_closing() {
                continue;
            }
            if let Some((message, bytes)) = before.get(number)
                && *message == begun
                && held < bytes + LEAST_PROGRESS
            {
                let how = if held == *bytes { "does not arrive" } else { "arrives too slowly" };
                let text = format_args!("the rest of a message on channel {number} {how}");
                return Err(Fault::connection(ReplyCode::FrameError, text).during(PUBLISH));
            }
            self.partial.insert(*number, (begun, held));
        }
        Ok(())
    }

    /// Returns the time between two looks for expired deliveries. `None` means that nothing can expire.
    pub(super) fn timeout_interval(&self) -> Option<Duration> {
        self.session.timeout_interval()
    }

    /// Closes the channels whose client holds a delivery for longer than it may.
    pub(super) fn check_timeouts(&mut self, now: Instant, output: &mut Output) {
        let expired = |(number, channel): (&u16, &mut Channel)| {
            channel.check_timeouts(now).err().map(|fault| (*number, fault))
        };
        let expired: Vec<_> = self.channels.iter_mut().filter_map(expired).collect();
        for (number, fault) in expired {
            self.close_channel(number, &fault, output);
        }
    }

    /// Forgets the last sweep: nothing could arrive.
    pub(super) fn skip_sweep(&mut self) {
        self.partial.clear();
    }

    /// Why the broker wants the connection closed, if it does.
    pub(super) fn take_order_to_close(&self) -> Option<String> {
        self.session.take_order_to_close()
    }

    /// Whether the client is to be told when it is held back.
    pub(super) fn understands_blocked(&self) -> bool {
        self.terms.connection_blocked
    }

    /// Does what a frame on a channel comes to besides its answer.
    fn conclude(
        &mut self,
        number: u16,
        outcome: Result<Outcome, Fault>,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        match outcome {
            Err(fault) if fault.scope == Scope::Channel => {
                self.close_channel(number, &fault, output);
                Ok(Outcome::Done)
            }
            Ok(Outcome::WaitForMessage) => {
                self.awaiting = Some(number);
                Ok(Outcome::Done)
            }
            Ok(Outcome::More) => {
                self.working = Some(number);
                Ok(Outcome::Done)
            }
            outcome => outcome,
        }
    }

    fn connection_frame(&mut self, frame: &Frame, output: &mut Output) -> Result<Outcome, Fault> {
        match frame.kind {
            FrameKind::Heartbeat if frame.payload.is_empty() => return Ok(Outcome::Done),
            FrameKind::Heartbeat => {
                return Err(Fault::connection(ReplyCode::FrameError, "heartbeat with a payload"));
            }
            FrameKind::Method => {}
            FrameKind::Header | FrameKind::Body => {
                return Err(Fault::connection(
                    ReplyCode::UnexpectedFrame,
                    "content on channel 0, which is the connection's own",
                ));
            }
        }
        let method = Method::decode(&frame.payload)?;
        match method {
            Method::ConnectionClose { reply_code, reply_text, .. } => {
                let text = String::from_utf8_lossy(reply_text);
                tracing::info!(peer = %self.peer, "closed by the client: {reply_code} {text}");
                Ok(Outcome::Close)
            }
            // There is nothing in a password that could run out; the client's new one is taken note of.
            Method::ConnectionUpdateSecret { .. } => {
                output.method(0, &Method::ConnectionUpdateSecretOk {});
                Ok(Outcome::Done)
            }
            _ => Err(Fault::connection(
                ReplyCode::ChannelError,
                format_args!("unexpected method {} on channel 0", method.name()),
            )
            .during(method.id())),
        }
    }

    fn channel_frame(
        &mut self,
        frame: Frame,
        gateway: &Gateway,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        let number = frame.channel;
        if frame.kind == FrameKind::Heartbeat {
            return Err(Fault::connection(
                ReplyCode::UnexpectedFrame,
                format_args!("heartbeat on channel {number}"),
            ));
        }
        let Some(channel) = self.channels.get_mut(&number) else {
            return self.open_channel(&frame, output);
        };
        if channel.is_closing() {
            self.closing_frame(&frame, output);
            return Ok(Outcome::Done);
        }
        if !channel.noted {
            channel.noted = true;
            self.noted.push(number);
        }
        if frame.kind == FrameKind::Body && gateway.is_low_on_memory() && self.leave.is_none() {
            self.leave = gateway.leave_to_finish();
            if self.leave.is_none() {
                return Ok(Outcome::NoRoom(Room::OrLeave, Some(frame)));
            }
        }
        if frame.kind != FrameKind::Method || !channel.assembly.is_idle() {
            self.unfinished -= channel.assembly.held();
            let published = channel.assembly.push(frame, gateway.limits.message_size);
            self.unfinished += channel.assembly.held();
            if self.unfinished as u64 > 2 * gateway.limits.message_size {
                return Err(Fault::connection(
                    ReplyCode::ResourceError,
                    format_args!("unfinished messages of {} bytes in all", self.unfinished),
                ));
            }
            return match published? {
                Some(published) => {
                    // Others have their turn, with each message.
                    self.leave = None;
                    self.publish(number, published, output)
                }
                None => Ok(Outcome::Done),
            };
        }
        let method = Method::decode(&frame.payload)?;
        let channel = if gathers(&method) {
            channel
        } else {
            self.catch_up(number, output)?;
            let Some(channel) = self.channels.get_mut(&number) else { return Ok(Outcome::Done) };
            channel
        };
        match method {
            Method::BasicPublish { immediate: true, .. } => {
                Err(Fault::connection(ReplyCode::NotImplemented, "immediate=true")
                    .during(method.id()))
            }
            // Here nothing of the message has been taken yet.
            Method::BasicPublish { .. } if gateway.holds_publishers_back() => {
                // What has begun on another channel cannot go on either: others may finish theirs.
                self.leave = None;
                Ok(Outcome::NoRoom(Room::Everywhere, Some(frame)))
            }
            Method::BasicPublish { .. } => {
                channel.assembly.announce(frame.payload);
                channel.begun += 1;
                self.unfinished += channel.assembly.held();
                Ok(Outcome::Done)
            }
            Method::ChannelClose { .. } => {
                let inner = channel.shut();
                self.remove_channel(number);
                self.close(inner, Some(number), output);
                Ok(Outcome::Done)
            }
            Method::QueueDeclare { queue, passive: false, .. }
                if channel.awaits_deletion(DestinationKind::Queue, queue) =>
            {
                Ok(Outcome::NoRoom(Room::NextTurn, Some(frame)))
            }
            Method::ExchangeDeclare { exchange, passive: false, .. }
                if channel.awaits_deletion(DestinationKind::Exchange, exchange) =>
            {
                Ok(Outcome::NoRoom(Room::NextTurn, Some(frame)))
            }
            Method::TxCommit {} => {
                let committed = channel.commit(gateway.is_low_on_disk(), output);
                let outcome = committed.map_err(|fault| fault.during(method.id()))?;
                Ok(outcome.unwrap_or(Outcome::NoRoom(Room::OnDisk, Some(frame))))
            }
            Method::BasicConsume { .. } => self
                .consume(number, &method, gateway, output)
                .map_err(|fault| fault.during(method.id())),
            _ => channel.method(&method, output).map_err(|fault| fault.during(method.id())),
        }
    }

    /// Brings about all that the client has asked for before on this channel, and puts out the deliveries that come of it: its next
    /// method is to find them done.
    fn catch_up(&mut self, number: u16, output: &mut Output) -> Result<(), Fault> {
        match self.channels.get_mut(&number) {
            Some(channel) if channel.is_pending() => {
                channel.settle()?;
                self.deliver(output, None)
            }
            _ => Ok(()),
        }
    }

    /// Stores a message that has arrived completely, or holds it.
    fn publish(
        &mut self,
        number: u16,
        published: Published,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(Outcome::Done) };
        if !channel.noted {
            channel.noted = true;
            self.noted.push(number);
        }
        let effort = if self.routing.is_some() { Effort::Piece } else { Effort::Glance };
        let outcome = channel.publish(&published, effort, output);
        self.confirmable |= channel.has_confirm();
        let Some(room) = outcome.map_err(|fault| fault.during(PUBLISH))? else {
            return Ok(Outcome::Done);
        };
        self.held_for = match room {
            Room::ToRoute if self.routing.is_some() => Room::NextTurn,
            room => room,
        };
        self.held = Some((number, published));
        Ok(Outcome::NoRoom(self.held_for, None))
    }

    /// `basic.consume`, if the connection has not too many consumers.
    fn consume(
        &mut self,
        number: u16,
        method: &Method<'_>,
        gateway: &Gateway,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        let limit = gateway.limits.consumers;
        let consumers: usize = self.channels.values().map(Channel::consumers).sum();
        if consumers >= limit {
            return Err(Fault::connection(
                ReplyCode::NotAllowed,
                format_args!("reached maximum ({limit}) of consumers per connection"),
            ));
        }
        match self.channels.get_mut(&number) {
            Some(channel) => channel.method(method, output),
            None => Ok(Outcome::Done),
        }
    }

    /// Closes a channel, in pieces if that is much, and answers `channel.close` with that number then.
    fn close(
        &mut self,
        channel: Option<broker::Channel>,
        number: Option<u16>,
        output: &mut Output,
    ) {
        if let Some(mut channel) = channel
            && (!self.closing.is_empty() || !channel.close_some())
        {
            return self.closing.push_back((channel, number));
        }
        close_ok(number, output);
    }

    fn remove_channel(&mut self, number: u16) {
        self.channels.remove(&number);
        // The next channel of that number is noted anew.
        self.noted.retain(|other| *other != number);
    }

    /// The first frame on a channel number.
    fn open_channel(&mut self, frame: &Frame, output: &mut Output) -> Result<Outcome, Fault> {
        if frame.kind != FrameKind::Method {
            return Err(Fault::connection(
                ReplyCode::UnexpectedFrame,
                "expected method frame, got non method frame instead",
            ));
        }
        let method = Method::decode(&frame.payload)?;
        if !matches!(method, Method::ChannelOpen { .. }) {
            return Err(Fault::connection(ReplyCode::ChannelError, "expected 'channel.open'")
                .during(method.id()));
        }
        let number = frame.channel;
        if number > self.terms.channel_max {
            return Err(Fault::connection(
                ReplyCode::NotAllowed,
                format_args!(
                    "channel {number} is higher than the negotiated channel_max ({})",
                    self.terms.channel_max
                ),
            )
            .during(method.id()));
        }
        let admitted = self.session.check_channel_limit();
        admitted.map_err(|refusal| Fault::from(refusal).during(method.id()))?;
        let inner = self.session.open_channel(ChannelNumber(number));
        self.channels.insert(number, Channel::new(inner, self.terms.frame_max));
        output.method(number, &Method::ChannelOpenOk { reserved_1: b"" });
        Ok(Outcome::Done)
    }

    /// A frame on a channel for which `channel.close` has been put out.
    fn closing_frame(&mut self, frame: &Frame, output: &mut Output) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(&frame.payload) {
            Ok(Method::ChannelCloseOk {}) => self.remove_channel(frame.channel),
            // Both sides have had enough at the same time; the answer to ours still comes.
            Ok(Method::ChannelClose { .. }) => {
                output.method(frame.channel, &Method::ChannelCloseOk {});
            }
            _ => {}
        }
    }

    fn close_channel(&mut self, number: u16, fault: &Fault, output: &mut Output) {
        self.log.say("channel closed", self.peer.ip(), || {
            tracing::warn!(peer = %self.peer, channel = number, "channel closed: {}", fault.text);
        });
        output.method(number, &fault.channel_close());
        if let Some(channel) = self.channels.get_mut(&number) {
            self.unfinished -= channel.assembly.held();
            self.leave = None;
            let inner = channel.shut();
            self.close(inner, None, output);
        }
    }

    /// Tells the queues what has been accepted and acknowledged since the last round.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        for number in &self.noted {
            if let Some(channel) = self.channels.get_mut(number) {
                channel.assembly.detach();
                channel.settle()?;
            }
        }
        Ok(())
    }

    /// Moves deliveries to the output while there is room.
    ///
    /// `awaited` are the answers that a sync is waited for: a consumer hears that its queue is gone after who has deleted it
    /// was answered, which may be the same channel.
    pub(super) fn deliver(
        &mut self,
        output: &mut Output,
        mut awaited: Option<&mut Output>,
    ) -> Result<(), Fault> {
        let mut outcome = Ok(());
        while output.len() < DELIVER_BELOW && outcome.is_ok() {
            let mut events = std::mem::take(&mut self.events);
            self.session.take_events(&mut events, DELIVER_BELOW - output.len());
            if events.is_empty() {
                self.events = events;
                break;
            }
            output.reserve(events.iter().filter_map(|event| match event {
                Event::Delivery { delivery, .. } => Some(delivery.message().size()),
                _ => None,
            }));
            // Every event that was taken has to be dealt with, also after one that failed.
            for event in events.drain(..) {
                let output = match (&event, &mut awaited) {
                    (Event::ConsumerCancelled { .. }, Some(awaited)) => &mut **awaited,
                    _ => &mut *output,
                };
                outcome = outcome.and(self.event(event, output));
            }
            self.events = events;
            self.settle()?;
        }
        outcome
    }

    fn event(&mut self, event: Event, output: &mut Output) -> Result<(), Fault> {
        let number = event.channel().0;
        if matches!(event, Event::Got { .. } | Event::GetRefused { .. }) {
            self.awaiting.take_if(|awaiting| *awaiting == number);
        }
        let Entry::Occupied(mut entry) = self.channels.entry(number) else { return Ok(()) };
        let channel = entry.get_mut();
        if !channel.noted {
            channel.noted = true;
            self.noted.push(number);
        }
        match event {
            Event::Delivery { delivery, .. } => channel.deliver(delivery, output),
            Event::Reply { consumer_tag, message, .. } => {
                channel.deliver_reply(&consumer_tag, &message, output)
            }
            Event::Got { message, .. } => channel.answer_get(message, output),
            Event::GetRefused { refusal, .. } => Err(Fault::from(refusal)),
            Event::ConsumerCancelled { consumer_tag, .. } => {
                channel.cancelled(&consumer_tag, self.terms.consumer_cancel_notify, output);
                Ok(())
            }
        }
    }

    /// Puts out the confirms that wait for nothing, and what else may be confirmed when the log is durable up to `durable`. Returns
    /// `true` if there were such.
    pub(super) fn confirm_at_once(&mut self, durable: Lsn, output: &mut Output) -> bool {
        let confirmable = std::mem::take(&mut self.confirmable);
        if confirmable {
            for number in &self.noted {
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.confirm(durable, output);
                }
            }
        }
        confirmable
    }

    /// Puts out what may be confirmed when the log is durable up to `durable`; returns what the
    /// oldest of the other confirms waits for, and the newest.
    pub(super) fn confirm(&mut self, durable: Lsn, output: &mut Output) -> Option<(Lsn, Lsn)> {
        let mut outstanding = None;
        let channels = &mut self.channels;
        self.noted.retain(|number| {
            let Some(channel) = channels.get_mut(number) else { return false };
            let awaited = channel.confirm(durable, output);
            if let Some((oldest, newest)) = awaited {
                let (first, last) = outstanding.unwrap_or((oldest, newest));
                outstanding = Some((first.min(oldest), last.max(newest)));
            }
            channel.noted = awaited.is_some();
            channel.noted
        });
        outstanding
    }

    /// Ready when there is something to deliver and room for it, or the connection is to be closed: who does not read makes no room, and
    /// is the one to be closed.
    pub(super) fn poll(&self, context: &mut Context<'_>, output: &Output) -> Poll<()> {
        if output.len() < DELIVER_BELOW {
            self.session.poll_events(context)
        } else {
            self.session.poll_order(context)
        }
    }
}

/// Answers `channel.close`, if the peer has sent it.
fn close_ok(number: Option<u16>, output: &mut Output) {
    if let Some(number) = number {
        output.method(number, &Method::ChannelCloseOk {});
    }
}

/// Whether a method takes effect together with others of its kind, when the connection has looked at all that it has read. Every
/// other one finds those before it on its channel done.
fn gathers(method: &Method<'_>) -> bool {
    matches!(
        method,
        Method::BasicPublish { .. }
            | Method::BasicAck { .. }
            | Method::BasicNack { .. }
            | Method::BasicReject { .. }
    )
}
