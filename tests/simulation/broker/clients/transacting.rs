//! Transactions: a commit does what was asked for one after the other, first what was published, and its answer vouches for
//! all of it.

use super::super::model::Effect;
use super::publishing::Publish;
use super::{Answer, At, Clients};

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
        let mut vouches_for = None;
        for publish in messages {
            let (stored, message) = self.new_message(publish);
            self.chan(at).inner.stage(&stored, false).unwrap();
            let (queues, lasts) = self.routed(publish);
            if !queues.is_empty() {
                let step = self.one(Effect::Publish(queues, message));
                vouches_for = if lasts { Some(step) } else { vouches_for };
            }
        }
        let held = self.holds(at).min(acknowledging);
        if held > 0 {
            self.acknowledge(at, held - 1, true, false);
        }
        self.note_flush(at);
        let chan = self.chan(at);
        let committed = chan.inner.tx_commit().unwrap();
        assert!(committed.returned.is_empty(), "none of them was mandatory");
        let vouches_for = vouches_for.max(chan.acknowledged);
        Answer { durable_at: committed.durable_at, vouches_for }
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
