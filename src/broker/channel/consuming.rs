//! Who gets messages on a channel, and how many: its consumers, `basic.get`, `basic.qos`.

use std::sync::Arc;

use super::Channel;
use crate::broker::arguments::{check_consumer, consumer_priority, consumer_timeout};
use crate::broker::consumer::{Consumer, Spec};
use crate::broker::delivery::Get;
use crate::broker::names::random_name;
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::replies::{DIRECT_REPLY_TO, ReplyConsumer};
use crate::broker::request::Consume;
use crate::message::ShortStr;

impl Channel {
    /// `basic.qos`: how many messages consumers may hold unacknowledged, 0 for any number. With `global` it is the
    /// limit of all consumers of the channel together, now; without, that of each consumer to come.
    ///
    /// # Errors
    /// 540 for a limit in bytes.
    pub fn qos(
        &mut self,
        prefetch_size: u32,
        prefetch_count: u16,
        global: bool,
    ) -> Result<(), Refusal> {
        if prefetch_size != 0 {
            let what = format_args!("prefetch_size!=0 ({prefetch_size})");
            return Err(Refusal::new(Reason::NotImplemented, what));
        }
        if global {
            self.credit.set_limit(prefetch_count.into());
            self.resume_starved();
        } else {
            self.prefetch = prefetch_count.into();
        }
        Ok(())
    }

    /// `basic.consume`: returns the consumer's tag. Deliveries may wait in the outbox before this returns; they must be
    /// taken after `consume-ok` has been sent.
    ///
    /// # Errors
    /// 403 exclusive use, 404 no such queue, 405 another connection's queue, 406 bad argument, direct replies with
    /// acknowledgements or for the second time; 530 tag in use.
    pub fn consume(&mut self, request: &Consume) -> Result<ShortStr, Refusal> {
        if request.queue.as_bytes() == DIRECT_REPLY_TO {
            return self.consume_replies(request);
        }
        let queue = self.readable_queue(&request.queue)?;
        let tag = self.new_tag(request)?;
        check_consumer(&queue, &request.arguments)?;
        let timeout = consumer_timeout(&queue.label(), &request.arguments)?;
        if let Some(timeout) = timeout {
            queue.note_timeout(timeout);
        }
        let consumer = Arc::new(Consumer::new(Spec {
            tag: tag.clone(),
            channel: self.number,
            queue: Arc::clone(&queue),
            no_ack: request.no_ack,
            exclusive: request.exclusive,
            priority: consumer_priority(&queue.label(), &request.arguments)?,
            prefetch: self.prefetch,
            timeout,
            credit: Arc::clone(&self.credit),
            outbox: Arc::clone(&self.session.outbox),
        }));
        queue.add_consumer(Arc::clone(&consumer))?;
        self.consumers.insert(tag.clone(), consumer);
        Ok(tag)
    }

    /// The channel gets an address for direct replies.
    fn consume_replies(&mut self, request: &Consume) -> Result<ShortStr, Refusal> {
        let tag = self.new_tag(request)?;
        let why = if !request.no_ack {
            "reply consumer cannot acknowledge"
        } else if self.reply_consumer.is_some() {
            "reply consumer already set"
        } else {
            let outbox = Arc::clone(&self.session.outbox);
            let consumer = Arc::new(ReplyConsumer::new(tag.clone(), self.number, outbox)?);
            self.session.virtual_host.replies().add(&consumer);
            self.reply_consumer = Some(consumer);
            return Ok(tag);
        };
        Err(Refusal::new(Reason::PreconditionFailed, why))
    }

    fn is_reply_consumer(&self, tag: &[u8]) -> bool {
        self.reply_consumer.as_ref().is_some_and(|consumer| consumer.tag().as_bytes() == tag)
    }

    pub(super) fn forget_reply_consumer(&mut self) {
        if let Some(consumer) = self.reply_consumer.take() {
            self.session.virtual_host.replies().remove(&consumer);
        }
    }

    /// The tag of a new consumer: its own, or one made up.
    fn new_tag(&self, request: &Consume) -> Result<ShortStr, Refusal> {
        let tag = if request.consumer_tag.is_empty() {
            random_name("amq.ctag-")?
        } else {
            request.consumer_tag.clone()
        };
        if self.consumers.contains_key(&tag) || self.is_reply_consumer(&tag) {
            return Err(Refusal::new(
                Reason::NotAllowed,
                format_args!("attempt to reuse consumer tag '{tag}'"),
            ));
        }
        Ok(tag)
    }

    /// `basic.cancel`. When this returns, nothing for the consumer is in the outbox any more; what has been sent to it
    /// can still be acknowledged. An unknown tag is as good as cancelled.
    ///
    /// # Errors
    /// 541 when the store failed.
    pub fn cancel(&mut self, consumer_tag: &[u8]) -> Result<(), Refusal> {
        if self.is_reply_consumer(consumer_tag) {
            self.forget_reply_consumer();
        }
        if let Some(consumer) = self.consumers.remove(consumer_tag) {
            // What it has consumed without acknowledgement must not go with an auto-delete queue's count.
            self.flush()?;
            self.remove(&consumer);
            self.credit.forget(&consumer);
            self.resume_starved();
        }
        Ok(())
    }

    pub(super) fn remove(&self, consumer: &Arc<Consumer>) {
        let queue = consumer.queue();
        if queue.remove_consumer(consumer) {
            self.session.virtual_host.delete_abandoned(queue);
            self.session.note_deletion();
        }
    }

    /// How many consumers the channel has.
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.consumers.len() + usize::from(self.reply_consumer.is_some())
    }

    /// Takes note of [`Event::ConsumerCancelled`](crate::broker::Event::ConsumerCancelled). Whether the consumer was still known;
    /// if not, its client has cancelled it meanwhile and need not be told.
    pub fn forget_consumer(&mut self, consumer_tag: &[u8]) -> bool {
        let gone = self.consumers.get(consumer_tag).is_some_and(|consumer| consumer.is_gone());
        gone && self.consumers.remove(consumer_tag).is_some()
    }

    /// `basic.get`.
    ///
    /// # Errors
    /// 404 no such queue, 405 another connection's queue, 406 too many unacknowledged deliveries, 541 its messages cannot be read.
    pub fn get(&mut self, queue: &[u8], no_ack: bool) -> Result<Get, Refusal> {
        let queue = self.readable_queue(queue)?;
        let most = self.session.virtual_host.limits().unacknowledged;
        if !no_ack && self.unacknowledged.len() >= most as usize {
            return Err(Refusal::new(
                Reason::PreconditionFailed,
                format_args!("reached maximum ({most}) of unacknowledged deliveries per channel"),
            ));
        }
        let got = queue.get(&self.session.outbox, self.number, no_ack, &mut self.pending_sources);
        // Messages in front of it may have expired.
        self.pending_sources.transfer();
        let got = got?;
        if matches!(got, Get::Pending)
            && !self.pending_gets.iter().any(|other| Arc::ptr_eq(other, &queue))
        {
            self.pending_gets.push(queue);
        }
        Ok(got)
    }
}
