//! Deletion of a queue.

use super::Queue;
use crate::broker::delivery::Event;
use crate::broker::outbox::Wakers;
use crate::broker::refusal::{Reason, Refusal};

/// Conditions of `queue.delete`.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::broker) struct DeleteIf {
    pub(in crate::broker) unused: bool,
    pub(in crate::broker) empty: bool,
}

impl Queue {
    /// Marks the queue as deleted if the conditions hold, and tells its consumers. Returns how many
    /// messages were ready. `log` writes the deletion down; if that fails the queue lives on.
    ///
    /// Called with the virtual host's topology locked, which keeps publishers out, or when none can
    /// find the queue any more.
    pub(in crate::broker) fn delete<T>(
        &self,
        conditions: DeleteIf,
        log: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<(u32, T, Wakers), Refusal> {
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return Err(self.not_found());
        }
        let ready = self.ready(state);
        if conditions.unused && !state.consumers.is_empty() {
            return Err(self.refuse_deletion("in use"));
        }
        // Dead letters that must not be lost keep the queue as well.
        let waiting =
            if self.rules.get().is_at_least_once() { state.dead_letters.len() } else { 0 };
        if conditions.empty && (ready > 0 || waiting > 0) {
            return Err(self.refuse_deletion("not empty"));
        }
        let logged = log()?;
        state.deleted = true;
        if !self.is_stored() {
            // The engine knows nothing of its deletion, and handles to it may live on for a while.
            let mut ready = state.backlog.take_ready(&self.store);
            while let ranges = ready.take_some(usize::MAX)
                && !ranges.is_empty()
            {
                self.store.acknowledge(&ranges)?;
            }
        }
        state.backlog.clear();
        state.dead_letters.clear();
        let mut wakers = Wakers::default();
        for consumer in state.consumers.clear() {
            let event = Event::ConsumerCancelled {
                channel: consumer.channel(),
                consumer_tag: consumer.tag().clone(),
            };
            // A connection that has gone need not be told.
            wakers.add(consumer.outbox().push(event).unwrap_or(None));
        }
        for get in std::mem::take(&mut state.gets) {
            let event = Event::Got { channel: get.channel, message: None };
            wakers.add(get.outbox.push(event).unwrap_or(None));
        }
        Ok((ready, logged, wakers))
    }

    fn refuse_deletion(&self, why: &str) -> Refusal {
        Refusal::new(Reason::PreconditionFailed, format_args!("{} {why}", self.label()))
    }
}
