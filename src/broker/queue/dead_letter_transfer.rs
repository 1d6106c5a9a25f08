//! Transfer of a queue's dead letters: they are taken, and then arrive, are put back, or are held
//! until they may be tried again.

use std::sync::Arc;
use std::time::Duration;

use super::{Leaving, Queue, State};
use crate::broker::dead_letters::Budget;
use crate::storage::{Fetch, Timestamp};

/// How long held dead letters wait before they are tried again, unless the queue is notified of a
/// change before. The pause doubles each time, until a dead letter of the queue has arrived.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Queue {
    /// How many dead letters wait to be carried away.
    pub(in crate::broker) fn letters(&self) -> usize {
        self.state.lock().as_ref().map_or(0, |state| state.dead_letters.len())
    }

    /// Submits the queue to the carrier.
    pub(in crate::broker) fn leave_to_carrier(self: &Arc<Self>) {
        self.workers.carrier.submit(Arc::clone(self));
    }

    /// Dead letters to be carried away, in order, `most` of them at most. None: the queue will say
    /// so when there are others.
    pub(in crate::broker) fn take_leaving(&self, most: usize) -> Vec<Leaving> {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return Vec::new() };
        let leaving = state.dead_letters.take(most);
        state.carried = !leaving.is_empty();
        state.has_change = false;
        leaving
    }

    /// Takes all dead letters that have not been tried, with their messages, and reduces the budget
    /// by them. Returns `None` if they exceed the budget, or one is not in memory: the carrier has
    /// to transfer them.
    pub(in crate::broker) fn take_few(&self, budget: &mut Budget) -> Option<Vec<Leaving>> {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return Some(Vec::new()) };
        let (mut bytes, mut found) = (0, Vec::new());
        for leaving in state.dead_letters.few_untried(budget.count)? {
            if leaving.message.is_none() {
                let sequence = leaving.sequence;
                if self.store.fetch(sequence, 1, &mut found) == Fetch::NeedsLoad {
                    return None;
                }
                leaving.message = found
                    .pop()
                    .filter(|found| found.sequence == sequence)
                    .map(|found| found.message);
            }
            bytes += leaving.message.as_ref()?.size();
            if bytes > budget.bytes {
                return None;
            }
        }
        let leaving = state.dead_letters.take(budget.count);
        budget.count -= leaving.len();
        budget.bytes -= bytes;
        state.has_change = false;
        Some(leaving)
    }

    /// Ends a channel's transfer. Returns `false` if there are more dead letters by now: the caller
    /// must leave them to the carrier.
    pub(in crate::broker) fn has_carried_all(&self) -> bool {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return true };
        state.carried = state.dead_letters.untried() > 0;
        let all = !state.carried;
        if state.is_idle() {
            *guard = None;
        }
        all
    }

    /// Notes that so many dead letters, with so many bytes of bodies, have been stored in their
    /// target queues and removed from this one.
    pub(in crate::broker) fn buried(self: &Arc<Self>, count: u64, bytes: u64) {
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted || count == 0 {
            return;
        }
        state.unacknowledged = state.unacknowledged.saturating_sub(count);
        state.dead_letters.arrived(bytes);
        state.stuck = false;
        state.pause = Duration::ZERO;
        self.run(guard);
    }

    /// Puts dead letters back that have not been transferred. `is_stuck`: because they could not be stored.
    pub(in crate::broker) fn put_back_leaving(
        self: &Arc<Self>,
        leaving: Vec<Leaving>,
        is_stuck: bool,
    ) {
        if leaving.is_empty() {
            return;
        }
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return;
        }
        state.dead_letters.put_back(leaving);
        state.stuck |= is_stuck;
        self.run(guard);
    }

    /// Puts dead letters back that have no route or no room, and must not be lost. They are tried
    /// again after a change or a pause.
    pub(in crate::broker) fn hold_leaving(self: &Arc<Self>, leaving: Vec<Leaving>) {
        if leaving.is_empty() {
            return;
        }
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return;
        }
        state.dead_letters.hold(leaving);
        if std::mem::take(&mut state.has_change) {
            // The change came while they were tried.
            state.dead_letters.release();
        } else if state.retry_at.is_none() {
            state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let pause = u64::try_from(state.pause.as_millis()).unwrap_or(u64::MAX);
            let at = self.workers.timer.now().plus_millis(pause);
            state.retry_at = Some(at);
            self.workers.timer.wake_at(at, self);
        }
        self.run(guard);
    }

    /// Has held dead letters tried again, because the topology, the rules or the room has changed.
    pub(in crate::broker) fn retry_dead_letters(self: &Arc<Self>) {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return };
        state.has_change = true;
        state.retry_at = None;
        state.dead_letters.release();
        let leaves = !state.deleted && state.has_news_for_carrier();
        drop(guard);
        if leaves {
            self.leave_to_carrier();
        }
    }

    /// Has held dead letters tried again if their pause is over.
    pub(super) fn retry_in_time(self: &Arc<Self>, state: &mut State, now: Timestamp) {
        match state.retry_at {
            Some(at) if at <= now => {
                state.retry_at = None;
                state.dead_letters.release();
            }
            Some(at) => self.workers.timer.wake_at(at, self),
            None => {}
        }
    }

    /// Notes that dead letters of `source` wait for room in this queue.
    pub(in crate::broker) fn add_waiting_source(&self, source: &Arc<Self>) {
        self.rules.details().waiting_sources.add(source);
    }

    /// Has waiting sources retry if there is room. Must not be called with anything locked.
    pub(in crate::broker) fn notify_of_room(&self) {
        let guard = self.state.lock();
        let has_room = self.has_room_for_waiting_sources(guard.as_deref());
        drop(guard);
        if has_room {
            self.rules.details().waiting_sources.notify();
        }
    }

    /// Whether there are sources that wait for room, and there is some.
    pub(super) fn has_room_for_waiting_sources(&self, state: Option<&State>) -> bool {
        if !self.rules.remembered().is_some_and(|details| details.waiting_sources.is_any()) {
            return false;
        }
        let rules = self.rules.get();
        !rules.refuses(self.occupied(state, &rules), 1)
    }
}

impl State {
    /// Returns `true` if there are dead letters to transfer of which neither the carrier nor a
    /// channel has been told. The caller must tell one of them.
    pub(super) fn has_news_for_carrier(&mut self) -> bool {
        self.dead_letters.untried() > 0 && !std::mem::replace(&mut self.carried, true)
    }
}
