//! A consumer, and the credit that bounds what it may hold unacknowledged.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

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
    /// No longer one of the queue's consumers. Written under the queue's lock.
    pub(super) gone: AtomicBool,
    /// In the outbox's list of starved consumers. Written under the outbox's lock.
    starved: AtomicBool,
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
            gone: AtomicBool::new(false),
            starved: AtomicBool::new(false),
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

    /// Whether its queue has let it go.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(SeqCst)
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.spec.outbox
    }

    /// Takes credit for `most` messages, or as many of them as there is credit for with the consumer and with its channel;
    /// returns how many. Called with the queue locked.
    pub(super) fn take_credit(self: &Arc<Self>, most: u32) -> u32 {
        if self.spec.no_ack {
            return most;
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
#[derive(Debug)]
pub(super) struct ChannelCredit {
    limit: AtomicU32,
    /// What the broker allows.
    most: u32,
    used: AtomicU32,
    /// Consumers that were refused because the channel had its fill.
    starved: Mutex<Vec<Arc<Consumer>>>,
}

impl ChannelCredit {
    /// Credit for as many as the broker allows.
    pub(super) fn new(most: u32) -> Self {
        Self {
            limit: AtomicU32::new(most),
            most,
            used: AtomicU32::new(0),
            starved: Mutex::default(),
        }
    }

    fn is_exhausted(&self) -> bool {
        self.used.load(SeqCst) >= self.limit.load(SeqCst)
    }

    /// Takes credit for `most` messages (one at least), or as many as there is credit for. Consumers of several queues may
    /// take at the same time.
    fn take(&self, consumer: &Arc<Consumer>, most: u32) -> u32 {
        loop {
            let used = self.used.load(SeqCst);
            let limit = self.limit.load(SeqCst);
            let count = most.min(limit.saturating_sub(used));
            if count > 0 {
                if self.used.compare_exchange_weak(used, used + count, SeqCst, SeqCst).is_ok() {
                    return count;
                }
                continue;
            }
            // Whoever gives back lowers `used` first and takes this lock then: either it is seen
            // here, or the consumer is seen there.
            let mut starved = self.starved.lock();
            if self.is_exhausted() {
                if !starved.iter().any(|other| Arc::ptr_eq(other, consumer)) {
                    starved.push(Arc::clone(consumer));
                }
                return 0;
            }
        }
    }

    /// 0 for any number.
    pub(super) fn set_limit(&self, limit: u32) {
        let limit = if limit == 0 { self.most } else { limit.min(self.most) };
        self.limit.store(limit, SeqCst);
    }

    /// The consumers to ask again, when there is credit for them.
    pub(super) fn take_starved(&self) -> Vec<Arc<Consumer>> {
        let mut starved = self.starved.lock();
        if starved.is_empty() || self.is_exhausted() {
            return Vec::new();
        }
        std::mem::take(&mut *starved)
    }

    /// Drops the list of starved consumers: the channel is going.
    pub(super) fn close(&self) {
        self.starved.lock().clear();
    }
}
