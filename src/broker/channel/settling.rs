//! What becomes of deliveries on a channel: they get their tags, and are acknowledged, rejected or given back.

use super::Channel;
use crate::broker::delivery::{Delivery, DeliveryTag};
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::settlement::requeue;
use crate::broker::transaction::Verdict;
use crate::broker::unacknowledged::{GivenBack, Held};

impl Channel {
    /// The tag that [`Channel::accept`] will return next.
    #[must_use]
    pub fn next_delivery_tag(&self) -> DeliveryTag {
        DeliveryTag(self.last_tag.0 + 1)
    }

    /// Gives a delivery its tag: from here on the peer has it. One that needs no acknowledgement counts as acknowledged.
    pub fn accept(&mut self, delivery: Delivery) -> DeliveryTag {
        let tag = self.next_delivery_tag();
        self.last_tag = tag;
        let Delivery { origin, sequence, deliveries, message } = delivery;
        if origin.no_ack() {
            self.settlement.consumed(origin.queue(), sequence);
        } else {
            self.settlement.delivered(origin.queue(), sequence, deliveries);
            let body = u32::try_from(message.body_len()).unwrap_or(u32::MAX);
            let deliveries = deliveries.saturating_add(1);
            self.unacknowledged.push(tag, Held { origin, sequence, deliveries, body }, message);
        }
        tag
    }

    /// Gives a direct reply its tag. Nothing has to be acknowledged.
    pub fn accept_reply(&mut self) -> DeliveryTag {
        self.last_tag = self.next_delivery_tag();
        self.last_tag
    }

    /// `basic.ack`, not in pieces.
    pub(super) fn ack_at_once(&mut self, tag: DeliveryTag, multiple: bool) -> Result<(), Refusal> {
        if self.transaction.is_some() {
            return self.settle_later(tag, multiple, Verdict::Acknowledged);
        }
        if multiple {
            let held = self.unacknowledged.take_tagged(tag, true).ok_or_else(|| unknown(tag))?;
            held.iter().for_each(|(_, held)| self.settlement.done(held));
        } else {
            let held = self.unacknowledged.take(tag).ok_or_else(|| unknown(tag))?;
            self.settlement.done(&held);
        }
        Ok(())
    }

    /// `basic.nack`, not in pieces.
    pub(super) fn nack_at_once(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), Refusal> {
        if self.transaction.is_some() {
            let verdict = if requeue { Verdict::Requeued } else { Verdict::Rejected };
            return self.settle_later(tag, multiple, verdict);
        }
        if requeue {
            let given_back = self.unacknowledged.take_back(tag, multiple);
            return self.requeue(given_back.ok_or_else(|| unknown(tag))?);
        }
        // With their retained messages, because the channel transfers only dead letters in memory.
        let rejected = self.unacknowledged.take_back(tag, multiple).ok_or_else(|| unknown(tag))?;
        rejected.into_iter().for_each(|rejected| self.settlement.rejected(rejected));
        Ok(())
    }

    fn requeue(&mut self, given_back: Vec<GivenBack>) -> Result<(), Refusal> {
        // The hand-outs are counted before the messages can go out again.
        let flushed = self.flush();
        requeue(given_back, &mut self.pending_sources);
        self.pending_sources.transfer();
        self.resume_starved();
        Ok(flushed?)
    }
}

pub(super) fn unknown(tag: DeliveryTag) -> Refusal {
    Refusal::new(Reason::PreconditionFailed, format_args!("unknown delivery tag {}", tag.0))
}
