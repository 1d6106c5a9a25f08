//! Transactions: a commit is one change, and its answer vouches for all of it.

use super::super::model::{Cause, Effect};
use super::publishing::Publish;
use super::{Answer, At, Clients, Untold};

impl Clients {
    pub(in super::super) fn tx_select(&mut self, at: At) {
        self.chan(at).inner.tx_select().unwrap();
    }

    /// Publishes these messages and acknowledges the first `acknowledging` messages that the channel holds, or as many as there
    /// are, and commits that.
    pub(in super::super) fn transact(
        &mut self,
        at: At,
        messages: &[Publish<'_>],
        acknowledging: usize,
    ) -> Answer {
        // What was handed out is counted before.
        self.note_flush(at);
        let (mut effects, mut any_lasts) = (Vec::new(), false);
        for publish in messages {
            let (stored, message) = self.new_message(publish);
            self.chan(at).inner.stage(&stored, false).unwrap();
            let (queues, lasts) = self.routed(publish);
            any_lasts |= lasts;
            if !queues.is_empty() {
                effects.push(Effect::Publish(queues, message));
            }
        }
        let held = self.holds(at).min(acknowledging);
        if held > 0 {
            self.acknowledge(at, held - 1, true, false);
        }
        for ((name, incarnation), Untold { done, .. }) in std::mem::take(&mut self.chan(at).pending)
        {
            let Some(queue) = self.world.queues.get(name) else { continue };
            if queue.incarnation != incarnation {
                continue;
            }
            let lasts = |place| queue.messages.get(place).is_some_and(|m| m.persistent);
            any_lasts |= queue.spec.is_stored() && done.iter().any(lasts);
            for place in &done {
                self.out.remove(&(incarnation, *place));
            }
            effects.push(Effect::Acknowledge(name, incarnation, done));
        }
        let step =
            (!effects.is_empty()).then(|| self.one(Effect::Together(Cause::Transaction, effects)));
        let relieves = self.drop_excess();
        let committed = self.chan(at).inner.tx_commit().unwrap();
        if relieves {
            self.relieve();
        }
        assert!(committed.returned.is_empty(), "none of them was mandatory");
        Answer { durable_at: committed.durable_at, vouches_for: step.filter(|_| any_lasts) }
    }

    /// The same without the commit: nothing has happened then.
    pub(in super::super) fn roll_back(&mut self, at: At, messages: &[Publish<'_>]) {
        for publish in messages {
            let (stored, _) = self.new_message(publish);
            self.chan(at).inner.stage(&stored, false).unwrap();
        }
        let chan = self.chan(at);
        for held in &chan.held {
            chan.inner.nack(held.tag, false, true).unwrap();
        }
        chan.inner.tx_rollback().unwrap();
    }
}
