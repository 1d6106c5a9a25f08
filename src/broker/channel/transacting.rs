//! The transactions of a channel: `tx.select`, `tx.commit`, `tx.rollback`.

use std::collections::VecDeque;

use super::Channel;
use super::settling::unknown;
use super::working::{Done, PIECE, Step, Work};
use crate::broker::delivery::DeliveryTag;
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::routing::Effort;
use crate::broker::settlement::Requeue;
use crate::broker::transaction::{Settled, Transaction, Verdict};
use crate::broker::unacknowledged::GivenBack;
use crate::message::Envelope;
use crate::storage::{Lsn, Message};

/// What a commit has come to.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    /// `commit-ok` must not be sent before the store is durable up to here; `None`: there is nothing to wait for.
    pub durable_at: Option<Lsn>,
    /// Mandatory messages that nobody has: they are returned (312, `NO_ROUTE`) before `commit-ok`.
    pub returned: Vec<Message>,
    /// Whether a queue had no room for one of the messages: then the channel is closed instead (406). All else has been done.
    pub refused: bool,
}

/// The deliveries of a commit whose queues are still to be told.
#[derive(Debug)]
pub(super) struct Commit {
    settled: VecDeque<Settled>,
    requeue: Requeue,
}

fn not_transactional() -> Refusal {
    Refusal::new(Reason::PreconditionFailed, "channel is not transactional")
}

impl Channel {
    /// `tx.select`: what is published and acknowledged from now on counts when it is committed. Asking twice changes nothing.
    ///
    /// # Errors
    /// 406 when the channel's messages are confirmed.
    pub fn tx_select(&mut self) -> Result<(), Refusal> {
        if self.confirms.is_some() {
            let why = "cannot switch from confirm to tx mode";
            return Err(Refusal::new(Reason::PreconditionFailed, why));
        }
        let memory = &self.session.staged;
        self.transaction.get_or_insert_with(|| Box::new(Transaction::new(memory.clone())));
        Ok(())
    }

    /// Whether messages have to be [staged](Self::stage) rather than published.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether a commit would store messages, for which there has to be room on the disk.
    #[must_use]
    pub fn has_staged(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.has_messages())
    }

    /// `basic.publish` in a transaction. The message is copied, and stored when the transaction is committed.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish), but for what has to do with storing it; 406 when the connection's transactions
    /// hold too much, or the channel has none.
    pub fn stage(&mut self, message: &Message, mandatory: bool) -> Result<(), Refusal> {
        self.stage_some(message, mandatory, Effort::Whole).map(drop)
    }

    /// Does this with bounded effort. Returns `false` if that was not enough: nothing has been done then, and the
    /// channel must be given the same message again before any other.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub fn stage_some(
        &mut self,
        message: &Message,
        mandatory: bool,
        effort: Effort,
    ) -> Result<bool, Refusal> {
        let envelope = Envelope::parse(message.header())
            .map_err(|error| Refusal::new(Reason::InternalError, error))?;
        let host = &self.session.virtual_host;
        self.powers.check_publish(&envelope, || host.is_topic(envelope.exchange))?;
        let publisher = self.session.publisher(self.reply_consumer.as_deref());
        let transaction = self.transaction.as_mut().ok_or_else(not_transactional)?;
        let virtual_host = &self.session.virtual_host;
        self.matches.start(effort, self.session.steps_left());
        let staged = virtual_host.stage(message, mandatory, publisher, &mut self.matches);
        self.session.note_steps(self.matches.steps_taken());
        if matches!(staged, Ok(None)) {
            return Ok(false);
        }
        self.matches.finish();
        staged?.map_or(Ok(()), |staged| transaction.stage(staged))?;
        Ok(true)
    }

    /// `tx.commit`: after a crash before `commit-ok`, all that was published and acknowledged is so, or nothing.
    ///
    /// Where that cannot be, because it is more than fits into a segment of the log, or a queue refuses what is too much,
    /// everything is done in order, first what was published: then a crash may leave a message twice, and never not at
    /// all. What is rejected into a dead-letter exchange, or requeued, is so afterwards.
    ///
    /// # Errors
    /// 406 when the channel has no transaction; 506 the disk is full: to be called again later, and goes on then; 541 when the
    /// store failed.
    pub fn tx_commit(&mut self) -> Result<Committed, Refusal> {
        let step = self.begin_commit()?;
        match self.finish(step)? {
            Done::Committed(committed) => Ok(committed),
            _ => Err(Refusal::new(Reason::InternalError, "a commit without an answer")),
        }
    }

    /// Does the first piece of [`tx_commit`](Self::tx_commit): everything that has to count as one.
    ///
    /// # Errors
    /// As for that.
    pub fn begin_commit(&mut self) -> Result<Step, Refusal> {
        let mut transaction = self.transaction.take().ok_or_else(not_transactional)?;
        let stored = self.store_transaction(&mut transaction);
        let settled = stored.map(|()| transaction.take_settled());
        self.transaction = Some(transaction);
        self.work = Some(Work::Commit(Commit { settled: settled?, requeue: Requeue::default() }));
        self.go_on()
    }

    fn store_transaction(&mut self, transaction: &mut Transaction) -> Result<(), Refusal> {
        // What was handed out is counted first.
        self.flush()?;
        let virtual_host = &self.session.virtual_host;
        let (arrivals, matches) = (&mut self.arrivals, &mut self.matches);
        let acknowledged = transaction.acknowledged();
        let staged = transaction.staged();
        let at_once = virtual_host.publish_together(staged, &acknowledged, arrivals, matches)?;
        if let Some(at_once) = at_once {
            at_once.routed.iter().for_each(|routed| transaction.published(routed));
            transaction.done(at_once.durable_at);
        }
        while let Some(staged) = transaction.staged().front() {
            let routed = virtual_host.publish_staged(staged, arrivals, matches)?;
            arrivals.note(matches.queues());
            transaction.published(&routed);
        }
        Ok(())
    }

    /// Tells the queues of some deliveries that a commit has settled. Returns whether these were the last.
    ///
    /// What is out of its queue already is passed over there, and its consumers get their credit.
    pub(super) fn carry_out_some(&mut self, commit: &mut Commit) -> Result<bool, Refusal> {
        let mut left = PIECE;
        while let Some(settled) = commit.settled.front_mut()
            && left > 0
        {
            let (verdict, held) = (settled.verdict, settled.take_some(left));
            left -= held.len();
            if settled.is_empty() {
                commit.settled.pop_front();
            }
            match verdict {
                Verdict::Acknowledged => held.iter().for_each(|held| self.settlement.done(held)),
                Verdict::Rejected => {
                    let rejected = GivenBack::from_log(held);
                    rejected.into_iter().for_each(|rejected| self.settlement.rejected(rejected));
                }
                Verdict::Requeued => {
                    // The hand-outs are counted before the messages can go out again.
                    self.flush()?;
                    let last = !commit.settled.iter().any(|s| s.verdict == Verdict::Requeued);
                    let given_back = GivenBack::from_log(held);
                    commit.requeue.put_back(given_back, last, &mut self.pending_sources);
                }
            }
        }
        let is_done = left > 0 && commit.requeue.resume_some(left, &mut self.pending_sources);
        self.flush()?;
        Ok(is_done)
    }

    /// Returns what has come of a commit, which is at its end.
    pub(super) fn committed(&mut self) -> Result<Committed, Refusal> {
        let committed = self.transaction.as_mut().ok_or_else(not_transactional)?.finish();
        // All that was ever acknowledged here is a little more than is asked for, and never comes later in the log.
        let durable_at = committed.durable_at.max(self.settlement.durable_at());
        Ok(Committed { durable_at, ..committed })
    }

    /// `tx.rollback`: what was published is forgotten, and what was acknowledged can be acknowledged again.
    ///
    /// # Errors
    /// 406 when the channel has no transaction.
    pub fn tx_rollback(&mut self) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or_else(not_transactional)?;
        self.unacknowledged.put_back(transaction.roll_back());
        Ok(())
    }

    /// Acknowledges or rejects in the transaction.
    #[cold]
    pub(super) fn settle_later(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        verdict: Verdict,
    ) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or_else(not_transactional)?;
        let held = self.unacknowledged.take_tagged(tag, multiple);
        transaction.settle(verdict, held.ok_or_else(|| unknown(tag))?);
        Ok(())
    }

    /// Takes back what a transaction that is never committed has settled: the channel is going.
    pub(super) fn abandon_transaction(&mut self) {
        if let Some(mut transaction) = self.transaction.take() {
            self.unacknowledged.put_back(transaction.roll_back());
        }
    }
}
