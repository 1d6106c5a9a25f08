//! How long a queue that nobody uses lives: `x-expires`.
//!
//! In use is a queue that has consumers; getting a message from it and declaring it again count as use too. The time when it
//! was last used is noted in the store, roughly, so that it goes on over a restart; only a queue whose time was over while the
//! broker was down is left a while more, for its clients to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::Queue;
use crate::broker::in_force::Details;
use crate::broker::record::QueueNote;
use crate::storage::{Change, Timestamp};

/// How long a queue lives at least after a start, unless it would not live as long anyway, in milliseconds.
const GRACE: u64 = 60_000;

/// By what part of its time a queue may live longer after a crash, because not each use of it is noted.
const NOTED_PARTS: u64 = 16;

/// Noted of a queue that has consumers: later than any time.
const IN_USE: Timestamp = Timestamp::LATEST;

/// What a queue knows of that.
#[derive(Debug, Default)]
pub(in crate::broker) struct Lifetime {
    /// When it was last used, in milliseconds of Unix time.
    used_at: AtomicU64,
    /// When the timer will have it looked whether it has expired, in milliseconds of Unix time; 0: never.
    awaited: AtomicU64,
    /// What the store knows.
    note: Mutex<QueueNote>,
}

impl Queue {
    /// Takes up what was noted before a restart, and has messages that may expire watched.
    pub(in crate::broker) fn take_up(self: &Arc<Self>, note: QueueNote) {
        if note == QueueNote::default() && !self.rules.any() {
            return;
        }
        *self.rules.details().lifetime.note.lock() = note;
        let now = self.workers.timer.now();
        if let Some(expires) = self.rules.get().expires {
            // Such that no more than the grace is left to a queue whose time is over.
            let latest = now.unix_millis().saturating_sub(expires.saturating_sub(GRACE));
            let used_at = note.used_at.unwrap_or(now).min(now).unix_millis().max(latest);
            self.rules.details().lifetime.used_at.store(used_at, Relaxed);
            if note.used_at.is_some_and(|used_at| used_at > now) {
                // Its consumers went with the last life of the broker.
                self.note_use(now, 0);
            }
            self.await_expiry(Timestamp::from_unix_millis(used_at).plus_millis(expires));
        }
        if note.timed || self.rules.get().message_ttl.is_some() {
            self.note_timed();
        }
        if self.is_watched() {
            // Soon, and not by whoever opens the store.
            self.workers.timer.wake_at(now, self);
        }
    }

    /// The queue is in use.
    pub(in crate::broker) fn touch(self: &Arc<Self>) {
        if !self.rules.any() {
            return;
        }
        let Some(expires) = self.rules.get().expires else { return };
        let now = self.workers.timer.now();
        self.rules.details().lifetime.used_at.store(now.unix_millis(), Relaxed);
        if self.counts().1 == 0 {
            self.note_use(now, expires / NOTED_PARTS);
        }
        self.await_expiry(now.plus_millis(expires));
    }

    /// The queue has got its first consumer.
    pub(super) fn occupy(&self) {
        if self.rules.any() && self.rules.get().expires.is_some() {
            self.note_use(IN_USE, 0);
        }
    }

    /// Notes a use, unless one is noted that is less than `enough` milliseconds older.
    fn note_use(&self, used_at: Timestamp, enough: u64) {
        if !self.is_stored() {
            return;
        }
        let mut note = self.rules.details().lifetime.note.lock();
        let passed = |known: Timestamp| used_at.unix_millis().saturating_sub(known.unix_millis());
        let known = note.used_at.filter(|known| *known <= used_at && passed(*known) <= enough);
        if known.is_none() {
            let changed = QueueNote { used_at: Some(used_at), ..*note };
            self.write_note(&mut note, changed);
        }
    }

    fn await_expiry(self: &Arc<Self>, at: Timestamp) {
        let millis = at.unix_millis();
        let earlier = |known| (known == 0 || millis < known).then_some(millis);
        if self.rules.details().lifetime.awaited.fetch_update(Relaxed, Relaxed, earlier).is_ok() {
            self.workers.timer.wake_at(at, self);
        }
    }

    /// Deletes the queue if that was waited for, and nobody has used it for its time.
    pub(super) fn expire(self: &Arc<Self>) {
        // Also where the rule has gone that it was waited for: another one may come.
        let awaited = |details: &Details| details.lifetime.awaited.swap(0, Relaxed);
        if self.rules.remembered().is_none_or(|details| awaited(details) == 0) {
            return;
        }
        let Some(expires) = self.rules.get().expires else { return };
        let used_at =
            Timestamp::from_unix_millis(self.rules.details().lifetime.used_at.load(Relaxed));
        let (at, now) = (used_at.plus_millis(expires), self.workers.timer.now());
        if at > now {
            return self.await_expiry(at);
        }
        // With a consumer it is in use, and its time begins when the last one goes.
        if self.counts().1 == 0
            && let Some(host) = self.host()
        {
            info!(queue = %self.name(), "nobody has used the queue for as long as it may be unused: it is deleted");
            host.delete_abandoned(self);
            while host.prune_some() {}
        }
    }

    /// Notes in the store that there are messages with an expiration of their own, before the first of them is added.
    pub(in crate::broker) fn note_expiration(&self) {
        if !self.is_stored() {
            return;
        }
        let mut note = self.rules.details().lifetime.note.lock();
        if !note.timed {
            let changed = QueueNote { timed: true, ..*note };
            self.write_note(&mut note, changed);
        }
    }

    fn write_note(&self, note: &mut QueueNote, changed: QueueNote) {
        let change = Change::put(QueueNote::key(self.id()), changed.encode());
        match self.workers.store.apply(vec![change]) {
            Ok(_) => *note = changed,
            Err(error) => warn!(queue = %self.name(), %error, "a note on the queue is not written"),
        }
    }

    /// What has to change in the store with the queue's deletion, besides it.
    pub(in crate::broker) fn forget_note(&self) -> Option<Change> {
        // Also of a queue whose rules have gone since.
        let noted = *self.rules.remembered()?.lifetime.note.lock() != QueueNote::default();
        noted.then(|| Change::remove(QueueNote::key(self.id())))
    }
}
