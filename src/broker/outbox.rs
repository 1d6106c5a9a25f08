//! What waits to be sent on one connection: bounded, filled by queues, emptied by the front end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::consumer::Consumer;
use super::delivery::{ChannelNumber, Delivery, Event, Origin};
use crate::storage::Fetched;

/// Deliveries that may wait, whatever their size.
const MAX_EVENTS: usize = 4096;
/// Bytes of messages that may wait. A single message may overshoot, or large ones could never be sent.
const MAX_BYTES: usize = 1 << 20;

/// The same for replies, which wait nowhere else: more of them may, also when nothing from a queue gets in.
const MAX_EVENTS_BEFORE_REPLY: usize = 65_536;
const MAX_BYTES_BEFORE_REPLY: usize = 16 << 20;

/// The events that wait for one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Whether there is an order to close: looked at far more often than given.
    ordered: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Events in `waiting`, each message of a run being one.
    events: usize,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
    /// The connection is to be closed, for this reason.
    order: Option<String>,
    /// Consumers that were refused because there was no room.
    starved: Vec<Arc<Consumer>>,
}

/// What waits, in order.
#[derive(Debug)]
enum Waiting {
    /// Messages for one consumer: so many share one reference to it, which is counted where other threads count theirs.
    Run {
        consumer: Arc<Consumer>,
        messages: VecDeque<Fetched>,
    },
    Event(Event),
}

/// What became of offered messages.
#[derive(Debug)]
pub(super) enum Offer {
    /// So many were taken; wake the connection when the queue has been unlocked.
    Taken(u32, Option<Waker>),
    /// The outbox is full, or the consumer has its fill: the consumer will be heard of again.
    Declined,
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES || self.events >= MAX_EVENTS
    }

    /// Whether no reply gets in any more.
    fn refuses_replies(&self) -> bool {
        let full = self.events >= MAX_EVENTS_BEFORE_REPLY || self.bytes >= MAX_BYTES_BEFORE_REPLY;
        self.closed || full
    }

    /// How many of these, which come next, there is room for: one, if it is not full.
    fn room<'f>(&self, messages: impl Iterator<Item = &'f Fetched>) -> u32 {
        let (mut room, mut bytes) = (0, self.bytes);
        for fetched in messages {
            if bytes >= MAX_BYTES || self.events + room as usize >= MAX_EVENTS {
                break;
            }
            room += 1;
            bytes += fetched.message.size();
        }
        room
    }

    /// Below this, those who were refused are asked again: not at the first free place, or
    /// every message taken would cost a round through the queue.
    fn has_room(&self) -> bool {
        self.bytes <= MAX_BYTES / 2 && self.events <= MAX_EVENTS / 2
    }

    fn remember(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn push(&mut self, event: Event) -> Option<Waker> {
        self.bytes += size(&event);
        self.waiting.push_back(Waiting::Event(event));
        self.pushed(1)
    }

    fn push_run(
        &mut self,
        consumer: &Arc<Consumer>,
        messages: impl ExactSizeIterator<Item = Fetched>,
    ) -> Option<Waker> {
        let count = messages.len();
        let messages = messages.inspect(|fetched| self.bytes += fetched.message.size());
        match self.waiting.back_mut() {
            Some(Waiting::Run { consumer: last, messages: run }) if Arc::ptr_eq(last, consumer) => {
                run.extend(messages);
            }
            _ => {
                let run = messages.collect();
                self.waiting
                    .push_back(Waiting::Run { consumer: Arc::clone(consumer), messages: run });
            }
        }
        self.pushed(count)
    }

    /// Counts what has been pushed: the connection is to be woken if nothing waited before.
    fn pushed(&mut self, events: usize) -> Option<Waker> {
        let first = self.events == 0;
        self.events += events;
        if first { self.waker.take() } else { None }
    }

    fn pop(&mut self) -> Option<Event> {
        let event = match self.waiting.pop_front()? {
            Waiting::Event(event) => event,
            Waiting::Run { consumer, mut messages } => {
                let Some(fetched) = messages.pop_front() else { return self.pop() };
                let event = delivery(&consumer, fetched);
                if !messages.is_empty() {
                    self.waiting.push_front(Waiting::Run { consumer, messages });
                }
                event
            }
        };
        self.events -= 1;
        self.bytes -= size(&event);
        Some(event)
    }
}

fn delivery(consumer: &Arc<Consumer>, fetched: Fetched) -> Event {
    let Fetched { sequence, message, deliveries } = fetched;
    let origin = Origin::Consumer(Arc::clone(consumer));
    let delivery = Delivery { origin, sequence, deliveries, message };
    Event::Delivery { channel: consumer.channel(), delivery }
}

fn size(event: &Event) -> usize {
    match event {
        Event::Reply { message, .. } => message.size(),
        other => other.delivery().map_or(0, |delivery| delivery.message.size()),
    }
}

impl Outbox {
    /// Moves as many of the first `most` of `ready` into the outbox, for that consumer, as there is room and credit for.
    /// Called with the consumer's queue locked.
    pub(super) fn offer(
        &self,
        consumer: &Arc<Consumer>,
        ready: &mut VecDeque<Fetched>,
        most: usize,
    ) -> Offer {
        let mut state = self.state.lock();
        if state.closed {
            return Offer::Declined;
        }
        if state.is_full() {
            if consumer.note_starved() {
                state.starved.push(Arc::clone(consumer));
            }
            return Offer::Declined;
        }
        // After the room has been checked: credit that was taken in vain would have to be given
        // back, and somebody on another queue may have been refused for it meanwhile.
        let count = consumer.take_credit(state.room(ready.iter().take(most)));
        if count == 0 {
            return Offer::Declined;
        }
        Offer::Taken(count, state.push_run(consumer, ready.drain(..count as usize)))
    }

    /// Puts an event into the outbox that cannot be put off, also into a full one.
    /// Gives it back when the connection has gone.
    pub(super) fn push(&self, event: Event) -> Result<Option<Waker>, Event> {
        let mut state = self.state.lock();
        if state.closed { Err(event) } else { Ok(state.push(event)) }
    }

    /// Puts a reply into the outbox. Gives it back when too much waits already, or the connection has gone.
    pub(super) fn offer_reply(&self, reply: Event) -> Result<Option<Waker>, Event> {
        let mut state = self.state.lock();
        if state.refuses_replies() { Err(reply) } else { Ok(state.push(reply)) }
    }

    /// Whether a reply would get in now.
    pub(super) fn admits_reply(&self) -> bool {
        !self.state.lock().refuses_replies()
    }

    /// Has the connection closed by its front end. The first reason is the one that is told.
    pub(super) fn order_to_close(&self, reason: &str) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.closed || self.ordered.swap(true, Relaxed) {
            return None;
        }
        state.order = Some(reason.to_owned());
        state.waker.take()
    }

    /// Why the connection is to be closed, if it is and nobody has asked before.
    pub(super) fn take_order(&self) -> Option<String> {
        if !self.ordered.load(Relaxed) {
            return None;
        }
        self.state.lock().order.take()
    }

    /// Ready when there is an event; otherwise the waker is called as soon as there is one.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.events > 0 || state.order.is_some() {
            return Poll::Ready(());
        }
        state.remember(context.waker());
        Poll::Pending
    }

    /// Ready when the connection is to be closed; events alone are left for later. The waker is called for those as well, once.
    pub(super) fn poll_order(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.order.is_some() {
            return Poll::Ready(());
        }
        state.remember(context.waker());
        Poll::Pending
    }

    /// Moves events out until there are none, or `bytes` bytes of messages have been moved.
    /// Returns the consumers for which there is room again.
    pub(super) fn take(&self, events: &mut Vec<Event>, bytes: usize) -> Vec<Arc<Consumer>> {
        let mut state = self.state.lock();
        let mut taken = 0;
        while taken < bytes {
            let Some(event) = state.pop() else { break };
            taken += size(&event);
            events.push(event);
        }
        if !state.starved.is_empty() && state.has_room() {
            return Self::release(&mut state);
        }
        Vec::new()
    }

    /// Takes out the deliveries to one consumer, which is going.
    pub(super) fn retract_consumer(&self, consumer: &Arc<Consumer>) -> Vec<Delivery> {
        self.retract(|waiting| match waiting {
            Waiting::Run { consumer: other, .. } => Arc::ptr_eq(other, consumer),
            Waiting::Event(_) => false,
        })
    }

    /// Takes out the replies to a channel, which wants no more of them.
    pub(super) fn retract_replies(&self, to: ChannelNumber) {
        self.retract(|waiting| {
            matches!(waiting, Waiting::Event(Event::Reply { channel, .. }) if *channel == to)
        });
    }

    /// Takes out all events of a channel, and returns the deliveries among them.
    pub(super) fn retract_channel(&self, channel: ChannelNumber) -> Vec<Delivery> {
        self.retract(|waiting| match waiting {
            Waiting::Run { consumer, .. } => consumer.channel() == channel,
            Waiting::Event(event) => event.channel() == channel,
        })
    }

    /// Takes out all events, and returns the deliveries among them.
    pub(super) fn retract_all(&self) -> Vec<Delivery> {
        self.retract(|_| true)
    }

    fn retract(&self, wanted: impl Fn(&Waiting) -> bool) -> Vec<Delivery> {
        let mut state = self.state.lock();
        if !state.waiting.iter().any(&wanted) {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut state.waiting);
        let (retracted, kept): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(wanted);
        state.waiting = kept;
        let mut deliveries = Vec::new();
        let mut note = |event: Event| {
            state.events -= 1;
            state.bytes -= size(&event);
            deliveries.extend(event.into_delivery());
        };
        for waiting in retracted {
            match waiting {
                Waiting::Event(event) => note(event),
                Waiting::Run { consumer, messages } => {
                    messages.into_iter().for_each(|fetched| note(delivery(&consumer, fetched)));
                }
            }
        }
        deliveries
    }

    /// Refuses everything from now on.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waker = None;
        Self::release(&mut state);
    }

    fn release(state: &mut State) -> Vec<Arc<Consumer>> {
        let starved = std::mem::take(&mut state.starved);
        starved.iter().for_each(|consumer| consumer.forget_starved());
        starved
    }
}

/// Connections to wake once no lock is held.
#[derive(Debug, Default)]
#[must_use = "the connections sleep on if they are not woken"]
pub(super) struct Wakers {
    /// Nearly always there is at most one: it needs no allocation.
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    pub(super) fn add(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(waker);
        }
    }

    pub(super) fn wake(self) {
        self.first.into_iter().chain(self.rest).for_each(Waker::wake);
    }
}
