//! Handing out what is ready to those who wait for it.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::leaving::Moment;
use super::{Queue, State};
use crate::broker::backlog::Supply;
use crate::broker::dead_letters::PendingSources;
use crate::broker::delivery::Event;
use crate::broker::outbox::{Offer, Wakers};
use crate::storage::Timestamp;

impl Queue {
    /// Dispatches, then wakes the connections that got something once the queue is unlocked.
    pub(super) fn run(self: &Arc<Self>, guard: MutexGuard<'_, Option<Box<State>>>) {
        if self.run_at(guard, None) {
            self.leave_to_carrier();
        }
    }

    /// The same for a channel, which transfers dead letters itself: adds the queue to `pending` if
    /// it has any.
    pub(super) fn run_for(
        self: &Arc<Self>,
        guard: MutexGuard<'_, Option<Box<State>>>,
        arrival: Option<Timestamp>,
        pending: &mut PendingSources,
    ) {
        if self.run_at(guard, arrival) {
            pending.add(self);
        }
    }

    /// Returns `true` if there are dead letters: the caller must have them transferred.
    fn run_at(
        self: &Arc<Self>,
        mut guard: MutexGuard<'_, Option<Box<State>>>,
        arrival: Option<Timestamp>,
    ) -> bool {
        let moment = self.moment(arrival);
        if moment.is_some() {
            guard.get_or_insert_default();
        }
        let Some(state) = &mut *guard else { return false };
        if state.deleted {
            return false;
        }
        state.left = 0;
        let moment = moment.map(|moment| moment.for_waiting(state));
        let mut wakers = Wakers::default();
        if state.requeues == 0 {
            self.serve_gets(state, moment.as_ref(), &mut wakers);
            self.serve_consumers(state, moment.as_ref(), &mut wakers);
        }
        if moment.is_some() {
            self.look_after(state);
        }
        if state.has_left_enough() {
            // Others have their turn with the queue in between.
            self.workers.timer.wake_at(self.workers.timer.now(), self);
        }
        self.flush_dropped(state);
        let leaves = state.has_news_for_carrier();
        let has_room = self.has_room_for_waiting_sources(Some(state));
        if state.is_idle() {
            *guard = None;
        }
        drop(guard);
        wakers.wake();
        if has_room {
            self.rules.details().waiting_sources.notify();
        }
        leaves
    }

    fn serve_gets(
        self: &Arc<Self>,
        state: &mut State,
        moment: Option<&Moment>,
        wakers: &mut Wakers,
    ) {
        while !state.gets.is_empty() {
            let supply = self.supply(state, moment);
            if matches!(supply, Supply::OnDisk(_)) {
                return;
            }
            let Some(get) = state.gets.pop_front() else { return };
            let message = if supply == Supply::Ready {
                let delivery = self.hand_out(state, get.no_ack);
                delivery.map(|delivery| (delivery, self.left(state)))
            } else {
                None
            };
            match get.outbox.push(Event::Got { channel: get.channel, message }) {
                Ok(waker) => wakers.add(waker),
                Err(event) => self.take_back(state, event.into_delivery().into_iter().collect()),
            }
        }
    }

    fn serve_consumers(
        self: &Arc<Self>,
        state: &mut State,
        moment: Option<&Moment>,
        wakers: &mut Wakers,
    ) {
        if self.hand_out_to_consumers(state, moment, wakers) > 0 {
            self.read_ahead(state);
        }
    }

    /// Gives consumers what they can take; returns how many messages that was.
    fn hand_out_to_consumers(
        self: &Arc<Self>,
        state: &mut State,
        moment: Option<&Moment>,
        wakers: &mut Wakers,
    ) -> u64 {
        let mut handed_out = 0;
        // First whether there is anybody: a queue without idle consumers does not touch the engine.
        while state.consumers.front().is_some() {
            if self.supply(state, moment) != Supply::Ready {
                break;
            }
            // Where others have their turn, each gets one after the other.
            let mut most = if state.consumers.is_front_alone() { state.backlog.run().1 } else { 1 };
            let mut bodies = Vec::new();
            if let Some(moment) = moment {
                (most, bodies) = self.fresh(state, moment, most);
            }
            let State { consumers, backlog, unacknowledged, .. } = state;
            let Some(consumer) = consumers.front() else { break };
            match consumer.outbox().offer(consumer, backlog.run().0, most) {
                Offer::Taken(count, waker) => {
                    self.less_ready(bodies.iter().take(count as usize).sum());
                    handed_out += u64::from(count);
                    *unacknowledged += u64::from(count);
                    wakers.add(waker);
                    consumers.advance();
                }
                Offer::Declined => consumers.park(),
            }
        }
        handed_out
    }
}
