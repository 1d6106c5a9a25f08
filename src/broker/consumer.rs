//! A consumer, and the credit that bounds what it may hold unacknowledged.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;

use super::delivery::ChannelNumber;
use super::outbox::Outbox;
use super::queue::Queue;
use crate::message::ShortStr;

/// One consumer of one queue.
pub(super) struct Consumer {
    spec: Spec,
    /// Handed out and neither acknowledged nor returned. Only grows under the queue's lock.
    outstanding: AtomicU32,
    /// Out of the queue's rotation until something changes. Written under the queue's lock.
    pub(super) parked: AtomicBool,
    /// In its queue's rotation. Written under the queue's lock.
    pub(super) in_turn: AtomicBool,
    /// Its number among all consumers that its queue ever had. Written under the queue's lock.
    pub(super) number: AtomicU64,
    /// No longer one of the queue's consumers. Written under the queue's lock.
    pub(super) gone: AtomicBool,
    /// In the outbox's list of starved consumers. Written under the outbox's lock.
    starved: AtomicBool,
    /// In the list of its channel's credit. Written under that list's lock.
    waits: AtomicBool,
}

/// What a consumer is made of.
pub(super) struct Spec {
    pub(super) tag: ShortStr,
    pub(super) channel: ChannelNumber,
    pub(super) queue: Arc<Queue>,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    /// `x-priority`: the highest is served first.
    pub(super) priority: i64,
    /// How many messages it may hold; 0 for any number.
    pub(super) prefetch: u32,
    /// `x-consumer-timeout`: how long it may hold a message; `None`: as its queue says.
    pub(super) timeout: Option<Duration>,
    pub(super) credit: Arc<ChannelCredit>,
    pub(super) outbox: Arc<Outbox>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the queue: it would print its consumers in turn.
        f.debug_struct("Consumer").field("tag", &self.spec.tag).finish_non_exhaustive()
    }
}

impl Consumer {
    pub(super) fn new(spec: Spec) -> Self {
        Self {
            spec,
            outstanding: AtomicU32::new(0),
            parked: AtomicBool::new(false),
            in_turn: AtomicBool::new(false),
            number: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            waits: AtomicBool::new(false),
        }
    }

    pub(super) fn tag(&self) -> &ShortStr {
        &self.spec.tag
    }

    pub(super) fn channel(&self) -> ChannelNumber {
        self.spec.channel
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.spec.queue
    }

    pub(super) fn no_ack(&self) -> bool {
        self.spec.no_ack
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.spec.exclusive
    }

    pub(super) fn priority(&self) -> i64 {
        self.spec.priority
    }

    /// Returns its own time-out for a delivery. `None` means that of its queue.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.spec.timeout
    }

    /// Whether its queue has let it go.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(SeqCst)
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.spec.outbox
    }

    /// Takes credit for `most` messages, or as many of them as there is credit for with the consumer and with its channel;
    /// returns how many. Called with the queue locked.
    ///
    /// A consumer without acknowledgements takes none, and yet gets nothing while `basic.qos` lets its channel have no more.
    pub(super) fn take_credit(self: &Arc<Self>, most: u32) -> u32 {
        if self.spec.no_ack {
            return if self.spec.credit.admits(self) { most } else { 0 };
        }
        let most = match self.spec.prefetch {
            0 => most,
            prefetch => most.min(prefetch.saturating_sub(self.outstanding.load(SeqCst))),
        };
        if most == 0 {
            return 0;
        }
        let taken = self.spec.credit.take(self, most);
        if taken > 0 {
            self.outstanding.fetch_add(taken, SeqCst);
        }
        taken
    }

    /// Gives back the credit of so many messages. The caller then lets the queue know (the consumer may be
    /// parked), and the channel (others may be starved).
    pub(super) fn release_credit(&self, messages: u32) {
        if self.spec.no_ack {
            return;
        }
        self.outstanding.fetch_sub(messages, SeqCst);
        self.spec.credit.used.fetch_sub(messages, SeqCst);
    }

    /// Whether it was not noted before. Called with the outbox locked.
    pub(super) fn note_starved(&self) -> bool {
        !self.starved.swap(true, SeqCst)
    }

    /// Called with the outbox locked.
    pub(super) fn forget_starved(&self) {
        self.starved.store(false, SeqCst);
    }
}

/// Credit that a consumer gets back, gathered: its counters are other threads' as well, and cost more than anything else that
/// is done with a message.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) consumer: Arc<Consumer>,
    messages: u32,
}

impl Returned {
    /// Notes the credit of one message.
    pub(super) fn note(all: &mut Vec<Returned>, consumer: &Arc<Consumer>) {
        match all.last_mut() {
            Some(last) if Arc::ptr_eq(&last.consumer, consumer) => last.messages += 1,
            _ => all.push(Returned { consumer: Arc::clone(consumer), messages: 1 }),
        }
    }

    /// Gives it all back, once.
    pub(super) fn give_back(all: &mut [Returned]) {
        for returned in all {
            returned.consumer.release_credit(std::mem::take(&mut returned.messages));
        }
    }
}

/// The credit that all consumers of a channel share: `basic.qos` with `global=true`, and never more than the broker allows.
///
/// Consumers that were refused take turns: while one of them waits, no other takes credit but the one whose turn it is, and that one
/// a message at a time.
///
/// Invariant: credit becomes free only in the channel's own task, which then lets the starved have [turns](Self::next_turn) until
/// there is no credit, or none of them is left.
#[derive(Debug)]
pub(super) struct ChannelCredit {
    limit: AtomicU32,
    /// Whether the limit is that of `basic.qos`.
    by_client: AtomicBool,
    /// What the broker allows.
    most: u32,
    used: AtomicU32,
    /// Whether a consumer is starved: looked at with each message. Written with `starved` locked.
    contended: AtomicBool,
    starved: Mutex<Starved>,
}

/// Consumers that were refused because the channel had its fill.
#[derive(Debug, Default)]
struct Starved {
    /// In the order of their turns.
    waiting: VecDeque<Arc<Consumer>>,
    /// The one whose turn it is, until it takes something.
    turn: Option<Arc<Consumer>>,
}

impl Starved {
    /// Whether this consumer has its turn, which is then over.
    fn take_turn(&mut self, consumer: &Arc<Consumer>) -> bool {
        self.turn.take_if(|turn| Arc::ptr_eq(turn, consumer)).is_some()
    }
}

impl ChannelCredit {
    /// Credit for as many as the broker allows.
    pub(super) fn new(most: u32) -> Self {
        Self {
            limit: AtomicU32::new(most),
            by_client: AtomicBool::new(false),
            most,
            used: AtomicU32::new(0),
            contended: AtomicBool::new(false),
            starved: Mutex::default(),
        }
    }

    fn left(&self) -> u32 {
        self.limit.load(SeqCst).saturating_sub(self.used.load(SeqCst))
    }

    /// Takes credit for `most` messages (one at least), or as many as there is credit for. Consumers of several queues may
    /// take at the same time.
    fn take(&self, consumer: &Arc<Consumer>, most: u32) -> u32 {
        if !self.contended.load(SeqCst) {
            let taken = self.take_free(most);
            if taken > 0 {
                return taken;
            }
        }
        self.take_in_turn(consumer, most, |most| self.take_free(most))
    }

    /// Whether a consumer may have messages that take no credit.
    fn admits(&self, consumer: &Arc<Consumer>) -> bool {
        if !self.by_client.load(SeqCst) || (!self.contended.load(SeqCst) && self.left() > 0) {
            return true;
        }
        self.take_in_turn(consumer, 1, |most| self.left().min(most)) > 0
    }

    /// The credit that there is, up to `most`.
    fn take_free(&self, most: u32) -> u32 {
        let mut used = self.used.load(SeqCst);
        loop {
            let count = most.min(self.limit.load(SeqCst).saturating_sub(used));
            if count == 0 {
                return 0;
            }
            match self.used.compare_exchange_weak(used, used + count, SeqCst, SeqCst) {
                Ok(_) => return count,
                Err(current) => used = current,
            }
        }
    }

    /// Takes with `take`, up to `most` where no other consumer waits, and one where this one has its turn. A consumer that gets
    /// nothing waits for its turn.
    #[cold]
    fn take_in_turn(
        &self,
        consumer: &Arc<Consumer>,
        most: u32,
        take: impl FnOnce(u32) -> u32,
    ) -> u32 {
        let mut starved = self.starved.lock();
        // Before the look at the credit: the channel's task frees it before it looks here. One of the two sees the other.
        self.contended.store(true, SeqCst);
        let alone = starved.waiting.iter().all(|other| Arc::ptr_eq(other, consumer));
        let most = match (alone, starved.take_turn(consumer)) {
            (true, _) => most,
            (false, true) => 1,
            (false, false) => 0,
        };
        let taken = take(most);
        if taken > 0 && alone {
            starved.waiting.clear();
            consumer.waits.store(false, SeqCst);
        } else if taken == 0 && !consumer.waits.swap(true, SeqCst) {
            starved.waiting.push_back(Arc::clone(consumer));
        }
        self.contended.store(!starved.waiting.is_empty(), SeqCst);
        taken
    }

    /// 0 for any number.
    pub(super) fn set_limit(&self, limit: u32) {
        self.by_client.store(limit > 0, SeqCst);
        let limit = if limit == 0 { self.most } else { limit.min(self.most) };
        self.limit.store(limit, SeqCst);
    }

    /// The consumer to ask next, while there is credit. Call it until it returns `None`, whenever credit may have become free.
    pub(super) fn next_turn(&self) -> Option<Arc<Consumer>> {
        if !self.contended.load(SeqCst) {
            return None;
        }
        let mut starved = self.starved.lock();
        let next = if self.left() > 0 { starved.waiting.pop_front() } else { None };
        if let Some(next) = &next {
            next.waits.store(false, SeqCst);
        }
        let contended = !starved.waiting.is_empty();
        starved.turn = next.clone().filter(|_| contended);
        self.contended.store(contended, SeqCst);
        next
    }

    /// A consumer has been cancelled, and waits no longer.
    pub(super) fn forget(&self, consumer: &Arc<Consumer>) {
        let mut starved = self.starved.lock();
        if consumer.waits.swap(false, SeqCst) {
            starved.waiting.retain(|other| !Arc::ptr_eq(other, consumer));
            self.contended.store(!starved.waiting.is_empty(), SeqCst);
        }
        starved.take_turn(consumer);
    }

    /// Drops the list of starved consumers: the channel is going.
    pub(super) fn close(&self) {
        *self.starved.lock() = Starved::default();
    }
}
