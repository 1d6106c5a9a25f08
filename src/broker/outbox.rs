//! What waits to be sent on one connection: bounded, filled by queues, emptied by the front end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::consumer::Consumer;
use super::delivery::{Delivery, Event};

/// Deliveries that may wait, whatever their size.
const MAX_EVENTS: usize = 4096;
/// Bytes of messages that may wait. A single message may overshoot, or large ones could never be sent.
const MAX_BYTES: usize = 1 << 20;

/// The events that wait for one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
    /// Consumers that were refused because there was no room.
    starved: Vec<Arc<Consumer>>,
}

/// What became of an offered message.
#[derive(Debug)]
pub(super) enum Offer {
    /// Taken; wake the connection when the queue has been unlocked.
    Taken(Option<Waker>),
    /// The outbox is full, or the consumer has its fill: the consumer will be heard of again.
    Declined,
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES || self.events.len() >= MAX_EVENTS
    }

    /// Below this, those who were refused are asked again: not at the first free place, or
    /// every message taken would cost a round through the queue.
    fn has_room(&self) -> bool {
        self.bytes <= MAX_BYTES / 2 && self.events.len() <= MAX_EVENTS / 2
    }

    fn push(&mut self, event: Event) -> Option<Waker> {
        self.bytes += size(&event);
        self.events.push_back(event);
        if self.events.len() == 1 { self.waker.take() } else { None }
    }
}

fn size(event: &Event) -> usize {
    event.delivery().map_or(0, |delivery| delivery.message.size())
}

impl Outbox {
    /// Puts the delivery that `make` builds into the outbox, if there is room and the consumer has credit.
    /// Called with the consumer's queue locked.
    pub(super) fn offer(&self, consumer: &Arc<Consumer>, make: impl FnOnce() -> Delivery) -> Offer {
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
        if !consumer.take_credit() {
            return Offer::Declined;
        }
        Offer::Taken(state.push(Event::Delivery { channel: consumer.channel(), delivery: make() }))
    }

    /// Puts an event into the outbox that cannot be put off, also into a full one.
    /// Gives it back when the connection has gone.
    pub(super) fn push(&self, event: Event) -> Result<Option<Waker>, Event> {
        let mut state = self.state.lock();
        if state.closed { Err(event) } else { Ok(state.push(event)) }
    }

    /// Ready when there is an event; otherwise the waker is called as soon as there is one.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.events.is_empty() {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Moves events out until there are none, or `bytes` bytes of messages have been moved.
    /// Returns the consumers for which there is room again.
    pub(super) fn take(&self, events: &mut Vec<Event>, bytes: usize) -> Vec<Arc<Consumer>> {
        let mut state = self.state.lock();
        let mut taken = 0;
        while taken < bytes {
            let Some(event) = state.events.pop_front() else { break };
            let size = size(&event);
            taken += size;
            state.bytes -= size;
            events.push(event);
        }
        if !state.starved.is_empty() && state.has_room() {
            return Self::release(&mut state);
        }
        Vec::new()
    }

    /// Takes out the deliveries to one consumer, which is going.
    pub(super) fn retract_consumer(&self, consumer: &Arc<Consumer>) -> Vec<Delivery> {
        self.retract(|event| match event {
            Event::Delivery { delivery, .. } => {
                delivery.origin.consumer().is_some_and(|other| Arc::ptr_eq(other, consumer))
            }
            _ => false,
        })
    }

    /// Takes out the events that `wanted` picks, and returns the deliveries among them.
    pub(super) fn retract(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Delivery> {
        let mut state = self.state.lock();
        if !state.events.iter().any(&wanted) {
            return Vec::new();
        }
        let (retracted, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut state.events).into_iter().partition(wanted);
        state.events = kept;
        state.bytes -= retracted.iter().map(size).sum::<usize>();
        retracted.into_iter().filter_map(Event::into_delivery).collect()
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
