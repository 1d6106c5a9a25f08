//! Methods that are done in pieces, so that other connections have their turn in between.

use super::Channel;
use super::settling::unknown;
use super::transacting::{Commit, Committed};
use crate::broker::delivery::DeliveryTag;
use crate::broker::queue::Purge;
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::request::QueuePurged;
use crate::broker::settlement::Requeue;
use crate::broker::transaction::Verdict;

/// The number of consumers and deliveries in a piece.
pub(in crate::broker) const PIECE: usize = 1024;

/// A method that is under way.
#[derive(Debug)]
pub(super) enum Work {
    /// Unacknowledged deliveries go back to their queues.
    Requeue { through: DeliveryTag, requeue: Requeue },
    /// Unacknowledged deliveries are acknowledged or rejected.
    Settle { through: DeliveryTag, verdict: Verdict },
    /// `queue.purge`.
    Purge(Purge),
    /// `tx.commit`, when what it stores is stored.
    Commit(Commit),
}

/// The outcome of a piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do: the caller must call [`Channel::go_on`] before anything else.
    More,
    /// The method is done.
    Done(Done),
}

/// What a method has come to that is done.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    /// It has nothing to say.
    Silent,
    /// `queue.purge`.
    Purged(QueuePurged),
    /// `tx.commit`.
    Committed(Committed),
}

impl Channel {
    /// `queue.purge`: removes what is ready now; what consumers hold stays.
    ///
    /// # Errors
    /// 404 no such queue, 405 another connection's queue.
    pub fn purge_queue(&mut self, name: &[u8]) -> Result<QueuePurged, Refusal> {
        let step = self.begin_purge(name)?;
        match self.finish(step)? {
            Done::Purged(purged) => Ok(purged),
            _ => Err(Refusal::new(Reason::InternalError, "a purge without an answer")),
        }
    }

    /// Does the first piece of [`purge_queue`](Self::purge_queue).
    ///
    /// # Errors
    /// As for that.
    pub fn begin_purge(&mut self, name: &[u8]) -> Result<Step, Refusal> {
        let queue = self.readable_queue(name)?;
        self.work = Some(Work::Purge(queue.begin_purge()?));
        self.go_on()
    }

    /// `basic.ack`. Tag 0 with `multiple` means everything.
    ///
    /// # Errors
    /// 406 unknown delivery tag, 541 when the store failed.
    pub fn ack(&mut self, tag: DeliveryTag, multiple: bool) -> Result<(), Refusal> {
        let step = self.begin_ack(tag, multiple)?;
        self.finish(step).map(drop)
    }

    /// Does the first piece of [`ack`](Self::ack).
    ///
    /// # Errors
    /// As for that.
    pub fn begin_ack(&mut self, tag: DeliveryTag, multiple: bool) -> Result<Step, Refusal> {
        if !multiple || !self.settles_in_pieces() {
            self.ack_at_once(tag, multiple)?;
            return Ok(Step::Done(Done::Silent));
        }
        self.begin_settling(tag, Verdict::Acknowledged)
    }

    /// `basic.nack`, and `basic.reject` with `multiple` false. Tag 0 with `multiple` means everything.
    ///
    /// # Errors
    /// 406 unknown delivery tag, 541 when the store failed.
    pub fn nack(&mut self, tag: DeliveryTag, multiple: bool, requeue: bool) -> Result<(), Refusal> {
        let step = self.begin_nack(tag, multiple, requeue)?;
        self.finish(step).map(drop)
    }

    /// Does the first piece of [`nack`](Self::nack).
    ///
    /// # Errors
    /// As for that.
    pub fn begin_nack(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        requeue: bool,
    ) -> Result<Step, Refusal> {
        if !multiple || !self.settles_in_pieces() {
            self.nack_at_once(tag, multiple, requeue)?;
            return Ok(Step::Done(Done::Silent));
        }
        if !requeue {
            return self.begin_settling(tag, Verdict::Rejected);
        }
        let through = self.unacknowledged.last_of(tag).ok_or_else(|| unknown(tag))?;
        self.begin_requeue(through)
    }

    /// Whether there may be more than a piece behind one tag. In a transaction it is the commit that is done in pieces.
    fn settles_in_pieces(&self) -> bool {
        self.unacknowledged.len() > PIECE && !self.is_transactional()
    }

    fn begin_settling(&mut self, tag: DeliveryTag, verdict: Verdict) -> Result<Step, Refusal> {
        let through = self.unacknowledged.last_of(tag).ok_or_else(|| unknown(tag))?;
        self.work = Some(Work::Settle { through, verdict });
        self.go_on()
    }

    /// Acknowledges or rejects a piece. Returns what is left to do.
    fn settle_some(&mut self, through: DeliveryTag, verdict: Verdict) -> Option<Work> {
        if verdict == Verdict::Acknowledged {
            let done = self.unacknowledged.take_some(through, PIECE);
            done.iter().for_each(|(_, held)| self.settlement.done(held));
        } else {
            let rejected = self.unacknowledged.take_some_back(through, PIECE);
            rejected.into_iter().for_each(|rejected| self.settlement.rejected(rejected));
        }
        self.unacknowledged.has_through(through).then_some(Work::Settle { through, verdict })
    }

    /// `basic.recover`: returns everything unacknowledged to the queues.
    ///
    /// # Errors
    /// 540 without `requeue`, 541 when the store failed.
    pub fn recover(&mut self, requeue: bool) -> Result<(), Refusal> {
        let step = self.begin_recover(requeue)?;
        self.finish(step).map(drop)
    }

    /// Does the first piece of [`recover`](Self::recover).
    ///
    /// # Errors
    /// As for that.
    pub fn begin_recover(&mut self, requeue: bool) -> Result<Step, Refusal> {
        if !requeue {
            return Err(Refusal::new(Reason::NotImplemented, "requeue=false"));
        }
        self.begin_requeue(DeliveryTag(u64::MAX))
    }

    fn begin_requeue(&mut self, through: DeliveryTag) -> Result<Step, Refusal> {
        // The hand-outs are counted before the messages can go out again.
        let flushed = self.flush();
        self.work = Some(Work::Requeue { through, requeue: Requeue::default() });
        let step = self.go_on()?;
        flushed?;
        Ok(step)
    }

    /// Does all pieces of a method that has begun.
    pub(super) fn finish(&mut self, mut step: Step) -> Result<Done, Refusal> {
        loop {
            match step {
                Step::More => step = self.go_on()?,
                Step::Done(done) => return Ok(done),
            }
        }
    }

    /// Does the next piece of the method that is under way, if there is one.
    ///
    /// # Errors
    /// 541 when the store failed: the method is over then.
    pub fn go_on(&mut self) -> Result<Step, Refusal> {
        match self.work.take() {
            None => Ok(Step::Done(Done::Silent)),
            Some(Work::Purge(mut purge)) => {
                let Some((messages, durable_at)) =
                    self.session.virtual_host.purge_some(&mut purge)?
                else {
                    self.work = Some(Work::Purge(purge));
                    return Ok(Step::More);
                };
                Ok(Step::Done(Done::Purged(QueuePurged { messages, durable_at })))
            }
            Some(Work::Settle { through, verdict }) => {
                self.work = self.settle_some(through, verdict);
                if self.work.is_none() {
                    return Ok(Step::Done(Done::Silent));
                }
                self.flush()?;
                Ok(Step::More)
            }
            Some(Work::Commit(mut commit)) => {
                if !self.carry_out_some(&mut commit)? {
                    self.work = Some(Work::Commit(commit));
                    return Ok(Step::More);
                }
                Ok(Step::Done(Done::Committed(self.committed()?)))
            }
            Some(Work::Requeue { through, mut requeue }) => {
                let given_back = self.unacknowledged.take_some_back(through, PIECE);
                let last = !self.unacknowledged.has_through(through);
                requeue.put_back(given_back, last, &mut self.pending_sources);
                let is_done = last && requeue.resume_some(PIECE, &mut self.pending_sources);
                self.pending_sources.transfer();
                if !is_done {
                    self.work = Some(Work::Requeue { through, requeue });
                    return Ok(Step::More);
                }
                self.resume_starved();
                Ok(Step::Done(Done::Silent))
            }
        }
    }
}
