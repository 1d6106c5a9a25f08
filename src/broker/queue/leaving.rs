//! Messages that leave their queue otherwise than to a consumer: their time is over, there are too many of them, they came
//! back too often, or were rejected.
//!
//! With a dead-letter exchange they stay in the queue, held by nobody, until the carrier has stored them where they go;
//! without one they are gone at once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::{error, warn};

use super::counting::counted_body;
use super::{Leaving, Queue, State, push_sequence};
use crate::broker::backlog::Supply;
use crate::broker::dead_letters::Death;
use crate::broker::promises::milliseconds;
use crate::broker::rules::{Load, Rules};
use crate::message::{Envelope, FieldTable};
use crate::storage::{Fetched, MOST_DELIVERIES, Sequence, Timestamp};

/// So many leave at a time because there are too many of them or their time is over: the queue is locked meanwhile.
const AT_ONCE: usize = 2048;

/// When so many dead letters wait for the carrier, nothing else leaves for these reasons.
const WAITING: usize = 16_384;

/// Messages that are looked through at a time before they are handed out.
const LOOKED_THROUGH: usize = 64;

/// What a queue that is watched goes by while it hands out, looked up once.
#[derive(Debug)]
pub(super) struct Moment {
    rules: Arc<Rules>,
    /// What expires now or before is not handed out.
    now: Timestamp,
    /// Unless it is in this place or behind it: nobody has looked at it before, and whoever waits gets it, however short its life
    /// is. `None`: all have been looked at.
    unseen_from: Option<Sequence>,
    /// Whoever waits does not wait for letters that cannot go: what he acknowledges may be what makes room for them.
    presses: bool,
}

impl Moment {
    /// The same for those who have waited since the queue was last looked after.
    pub(super) fn for_waiting(self, state: &State) -> Self {
        Self {
            unseen_from: state.unseen_from,
            presses: state.stuck || state.dead_letters.held() > 0,
            ..self
        }
    }

    /// Whether a message that came back so often is to leave.
    pub(super) fn is_too_often(&self, deliveries: u32) -> bool {
        // The engine counts no further: a larger limit would never be reached.
        let limit = self.rules.delivery_limit.map(|limit| limit.min(MOST_DELIVERIES.into()));
        limit.is_some_and(|limit| u64::from(deliveries) > limit)
    }
}

/// What has become of the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It may be handed out.
    Stays,
    /// It has left.
    Left,
    /// It is to leave when others have gone.
    Waits,
}

impl State {
    /// Whether as many leave as may. The queue runs again when some of them have gone.
    fn is_crowded(&self) -> bool {
        self.has_left_enough() || self.dead_letters.len() >= WAITING
    }

    /// Whether as many have left as may at a time. The queue is to run again soon.
    pub(super) fn has_left_enough(&self) -> bool {
        self.left >= AT_ONCE
    }
}

impl Queue {
    /// Whether a message may leave it otherwise than to a consumer.
    pub(super) fn is_watched(&self) -> bool {
        self.rules.any() || self.rules.timed_before() > 0
    }

    /// What to go by, if the queue is watched. With `arrival`, when the first of the messages was published that
    /// have just arrived: they are handed out whatever their time, if there is somebody for them at once.
    pub(super) fn moment(&self, arrival: Option<Timestamp>) -> Option<Moment> {
        self.is_watched().then(|| {
            let before =
                |time: Timestamp| Timestamp::from_unix_millis(time.unix_millis().saturating_sub(1));
            let now = arrival.map_or_else(|| self.workers.timer.now(), before);
            Moment { rules: self.rules.get(), now, unseen_from: None, presses: false }
        })
    }

    /// Messages with a time of their own have been added: all that are in it now may be.
    pub(in crate::broker) fn note_timed(&self) {
        self.rules.details().timed_before.fetch_max(self.store.next_sequence().get(), Relaxed);
    }

    /// When a message expires; `None`: never.
    fn expires_at(&self, rules: &Rules, fetched: &Fetched) -> Option<Timestamp> {
        let header = fetched.message.header();
        if fetched.sequence.get() >= self.rules.timed_before() || !Envelope::is_timed(header) {
            return None;
        }
        let envelope = Envelope::parse(header).ok()?;
        let own = envelope.properties.expiration().and_then(|text| milliseconds(text).ok());
        let lives = own.into_iter().chain(rules.message_ttl).min()?;
        Some(Timestamp::from_unix_millis(envelope.published_at?).plus_millis(lives))
    }

    /// Why a message is not to be handed out any more, if that is so.
    fn death(&self, moment: &Moment, fetched: &Fetched) -> Option<Death> {
        if moment.is_too_often(fetched.deliveries) {
            return Some(Death::DeliveryLimit);
        }
        if moment.unseen_from.is_some_and(|unseen| fetched.sequence >= unseen) {
            return None;
        }
        let expired = self.expires_at(&moment.rules, fetched).is_some_and(|at| at <= moment.now);
        expired.then_some(Death::Expired)
    }

    /// Has the next message leave if it is not to be handed out any more.
    pub(super) fn drop_spent(&self, state: &mut State, moment: &Moment) -> Next {
        let spent = state.backlog.front().and_then(|fetched| self.death(moment, fetched));
        match spent {
            None => Next::Stays,
            Some(_) if state.has_left_enough() => Next::Waits,
            Some(_) if state.is_crowded() && !moment.presses => Next::Waits,
            Some(death) => {
                self.drop_front(state, moment, death);
                Next::Left
            }
        }
    }

    /// How many of the next `most` messages can be handed out, of which the first can; and the bytes of their bodies, where
    /// these count.
    pub(super) fn fresh(
        &self,
        state: &mut State,
        moment: &Moment,
        most: usize,
    ) -> (usize, Vec<usize>) {
        let most = most.min(LOOKED_THROUGH);
        let State { backlog, uncounted, .. } = state;
        let (fetched, _) = backlog.run();
        let others = fetched.iter().take(most).skip(1);
        let fresh = 1 + others.take_while(|next| self.death(moment, next).is_none()).count();
        let mut bodies = Vec::new();
        if self.rules.bounds_bytes() {
            let next = fetched.iter().take(fresh);
            bodies.extend(next.map(|next| counted_body(uncounted.as_ref(), next)));
        }
        (fresh, bodies)
    }

    fn drop_front(&self, state: &mut State, moment: &Moment, death: Death) {
        let Some(fetched) = state.backlog.pop() else { return };
        self.less_ready(counted_body(state.uncounted.as_ref(), &fetched));
        let Fetched { sequence, message, .. } = fetched;
        state.unacknowledged += 1;
        state.left += 1;
        state.emptying = true;
        let body = message.body_len();
        self.discard(state, moment, Leaving { sequence, death, message: Some(message) }, body);
    }

    /// Has a message with a body of so many bytes leave that somebody held.
    pub(super) fn discard(
        &self,
        state: &mut State,
        moment: &Moment,
        leaving: Leaving,
        body: usize,
    ) {
        if moment.rules.has_dead_letters() {
            state.dead_letters.push(leaving, body);
        } else {
            state.dropped.push(leaving.sequence);
        }
    }

    /// Has messages leave for which there is no room, or whose time is over, and sees to it that the next one's is noticed.
    pub(super) fn look_after(self: &Arc<Self>, state: &mut State) {
        let Some(moment) = self.moment(None) else { return };
        // Not where what comes later may have a place in front.
        state.unseen_from = (!self.store.is_ranked()).then(|| self.store.next_sequence());
        while self.is_too_long(state, &moment.rules) {
            if state.is_crowded() {
                return;
            }
            // Whose size does not count need not be read for it.
            if !self.rules.bounds_bytes()
                && let Some(sequence) = state.backlog.pop_returned(&self.store)
            {
                state.unacknowledged += 1;
                state.left += 1;
                let leaving = Leaving { sequence, death: Death::MaxLength, message: None };
                self.discard(state, &moment, leaving, 0);
                continue;
            }
            match state.backlog.peek(&self.store) {
                Supply::Ready => self.drop_front(state, &moment, Death::MaxLength),
                Supply::OnDisk(from) => {
                    state.emptying = true;
                    return self.have_read(state, from);
                }
                Supply::Empty => break,
            }
        }
        if moment.rules.message_ttl.is_none() && self.rules.timed_before() == 0 {
            return;
        }
        loop {
            match state.backlog.peek(&self.store) {
                Supply::Ready => match self.drop_spent(state, &moment) {
                    Next::Left => {}
                    Next::Stays => break,
                    Next::Waits => return,
                },
                Supply::OnDisk(from) => return self.have_read(state, from),
                Supply::Empty => return,
            }
        }
        state.emptying = false;
        let next = state.backlog.front();
        if let Some(at) = next.and_then(|next| self.expires_at(&moment.rules, next))
            && state.wake_at.is_none_or(|known| at < known)
        {
            state.wake_at = Some(at);
            self.workers.timer.wake_at(at, self);
        }
    }

    /// Returns `true` if the head must be removed, so that the queue keeps its bounds.
    fn is_too_long(&self, state: &mut State, rules: &Rules) -> bool {
        if !rules.is_bounded() {
            return false;
        }
        // Not where what is ready is: what a transaction or the carrier takes out goes from the store first.
        if self.store.len() == 0 {
            self.forget_ready_bytes(state);
        }
        let messages = self.store.len().saturating_sub(state.unacknowledged);
        let ready = Load { messages, bytes: self.ready_bytes() };
        messages > 0 && rules.excess(ready) != Load::default()
    }

    /// Whether a message with a body of so many bytes is refused for lack of room. Several publishers at the same time may all
    /// find room for one.
    pub(in crate::broker) fn refuses(&self, rules: &Rules, body: usize) -> bool {
        if !rules.can_refuse() {
            return false;
        }
        rules.refuses(self.occupied(self.state.lock().as_deref(), rules), body)
    }

    /// Returns the load that counts to the bounds of a queue that refuses publishes: ready
    /// messages, and dead letters with at-least-once, because these can stay for any time.
    pub(super) fn occupied(&self, state: Option<&State>, rules: &Rules) -> Load {
        let mut taken = state.map_or(0, |state| state.unacknowledged);
        let mut bytes = self.ready_bytes();
        if let Some(State { dead_letters, .. }) = state.filter(|_| rules.is_at_least_once()) {
            taken = taken.saturating_sub(dead_letters.len() as u64);
            bytes += dead_letters.bytes();
        }
        Load { messages: self.store.len().saturating_sub(taken), bytes }
    }

    // ---- Policies ----

    /// Goes by its arguments and by what a policy says (an empty table: nothing), from now on.
    pub(in crate::broker) fn set_policy(&self, definition: &FieldTable) {
        let own = Rules::of_arguments(&self.spec.arguments);
        let counted = self.rules.bounds_bytes();
        let rules = own.under(Rules::of_policy(definition));
        if rules.contradicts_at_least_once() {
            warn!(
                queue = %self.name(),
                "dead-letter-strategy at-least-once needs overflow reject-publish where the queue's length is \
                 limited: dead letters go at most once"
            );
        }
        self.rules.set(rules);
        if self.rules.bounds_bytes() && !counted {
            self.begin_counting();
        }
        let rules = self.rules.get();
        if rules.message_ttl.is_some() {
            self.note_timed();
        }
        if let Some(timeout) = rules.consumer_timeout {
            self.note_timeout(Duration::from_millis(timeout));
        }
    }

    /// Does to the messages that are there what a new policy asks for.
    pub(in crate::broker) fn obey(self: &Arc<Self>) {
        self.touch();
        self.retry_dead_letters();
        let guard = self.state.lock();
        if guard.as_ref().is_some_and(|state| state.uncounted.is_some()) {
            self.workers.loader.submit_count(Arc::clone(self));
        }
        self.run(guard);
    }

    /// Takes messages out for good that have left, and go nowhere.
    pub(super) fn flush_dropped(&self, state: &mut State) {
        if state.dropped.is_empty() {
            return;
        }
        state.dropped.sort_unstable();
        let mut ranges = Vec::new();
        state.dropped.iter().for_each(|sequence| push_sequence(&mut ranges, *sequence));
        let count = state.dropped.len() as u64;
        state.dropped.clear();
        state.unacknowledged = state.unacknowledged.saturating_sub(count);
        if let Err(error) = self.store.acknowledge(&ranges) {
            // The store has failed: the process is about to end, and they are there again afterwards.
            error!(queue = %self.name(), %error, "messages that have expired or found no room are not taken out");
        }
    }
}
