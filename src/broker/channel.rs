//! A channel: what one client does on it, without the frames.

mod transacting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::access::Powers;
use super::arguments::{check_server_named, consumer_priority};
use super::arrivals::Arrivals;
use super::confirms::{Confirm, Confirms};
use super::consumer::{ChannelCredit, Consumer, Spec};
use super::delivery::{ChannelNumber, Delivery, DeliveryTag, Get};
use super::names::random_name;
use super::queue::{DeleteIf, Queue, QueueSpec};
use super::refusal::{Reason, Refusal};
use super::replies::{DIRECT_REPLY_TO, ReplyConsumer, is_reserved};
use super::request::{
    Bind, Consume, DeclareExchange, DeclareQueue, DestinationKind, QueueDeclared, QueueDeleted,
    QueuePurged,
};
use super::routing::Matches;
use super::session::{Shared, give_back};
use super::settlement::{Settlement, requeue};
use super::transaction::{Transaction, Verdict};
use super::unacknowledged::{Held, Unacknowledged};
use super::virtual_host::Routed;
use crate::message::{Envelope, Scratch, ShortStr};
use crate::storage::{Draft, Lsn, Message, MessageMemory, StoreError};

pub use transacting::Committed;

/// One AMQP channel (AMQP 0-9-1, section 1.5). It belongs to the task of its connection; nothing here waits for the disk.
///
/// Where an answer holds an [`Lsn`], it must not be sent before the store is durable up to there.
///
/// What the user has no right to is refused with 403, by every method that declares, deletes, binds, publishes or reads.
///
/// Acknowledgements are gathered, and so are messages that queues are to hand out: call [`Channel::flush`] after each batch of
/// requests or events, before waiting for more. Dropping the channel closes it: unacknowledged messages go back to their queues at once.
#[derive(Debug)]
pub struct Channel {
    session: Arc<Shared>,
    /// What the user may do.
    powers: Powers,
    number: ChannelNumber,
    matches: Matches,
    confirms: Option<Confirms>,
    /// After `tx.select`. In a box, because hardly any channel has one.
    transaction: Option<Box<Transaction>>,
    /// In an order, so that closing the channel always does the same.
    consumers: BTreeMap<ShortStr, Arc<Consumer>>,
    /// What gets direct replies: one at most.
    reply_consumer: Option<Arc<ReplyConsumer>>,
    credit: Arc<ChannelCredit>,
    /// `basic.qos` for consumers to come; 0 for any number.
    prefetch: u32,
    last_tag: DeliveryTag,
    unacknowledged: Unacknowledged,
    settlement: Settlement,
    /// Queues that have got messages, and have not looked for consumers since.
    arrivals: Arrivals,
    /// Queues that owe an answer to `basic.get`.
    pending_gets: Vec<Arc<Queue>>,
    /// What an empty queue name stands for.
    last_queue: Option<ShortStr>,
}

/// Where a published message went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// How many queues it was routed to.
    pub queues: usize,
    /// Whether one of them had no room for it and refused it: with confirms, its publisher gets a `basic.nack`.
    pub refused: bool,
    /// How many channels it went to as a direct reply.
    pub replies: usize,
    /// The properties that it went on with, and is returned with, where they are not those that it was published with:
    /// without the header `BCC`, and with an address for direct replies. As
    /// [`RawProperties`](crate::message::RawProperties) has them.
    pub rewritten: Option<Bytes>,
}

impl Published {
    /// Whether nobody has it: when it was published as mandatory it is returned (312, `NO_ROUTE`), before it is confirmed.
    #[must_use]
    pub fn is_unroutable(&self) -> bool {
        self.queues == 0 && self.replies == 0
    }
}

impl Channel {
    pub(super) fn new(session: Arc<Shared>, number: ChannelNumber) -> Self {
        let credit = ChannelCredit::new(session.virtual_host.limits().unacknowledged);
        let Shared { accounts, user, virtual_host, live, .. } = &*session;
        let powers = Powers::new(Arc::clone(accounts), user.clone(), virtual_host.name().clone());
        live.channels.fetch_add(1, Relaxed);
        Self {
            session,
            powers,
            number,
            matches: Matches::default(),
            confirms: None,
            transaction: None,
            consumers: BTreeMap::new(),
            reply_consumer: None,
            credit: Arc::new(credit),
            prefetch: 0,
            last_tag: DeliveryTag(0),
            unacknowledged: Unacknowledged::default(),
            settlement: Settlement::default(),
            arrivals: Arrivals::default(),
            pending_gets: Vec::new(),
            last_queue: None,
        }
    }

    /// The channel's number.
    #[must_use]
    pub fn number(&self) -> ChannelNumber {
        self.number
    }

    /// `exchange.declare`.
    ///
    /// # Errors
    /// 403 reserved name or default exchange, 404 passive and missing, 406 not equivalent, 503 unknown type,
    /// 540 argument not supported.
    pub fn declare_exchange(&mut self, request: &DeclareExchange) -> Result<Option<Lsn>, Refusal> {
        let virtual_host = &self.session.virtual_host;
        self.powers.check_declare_exchange(request, || virtual_host.has_exchange(&request.name))?;
        virtual_host.declare_exchange(request)
    }

    /// `exchange.delete`. An exchange that does not exist is as good as deleted.
    ///
    /// # Errors
    /// 403 pre-declared or default exchange, 406 `if_unused` and it has bindings.
    pub fn delete_exchange(
        &mut self,
        name: &[u8],
        if_unused: bool,
    ) -> Result<Option<Lsn>, Refusal> {
        self.powers.check_delete_exchange(name)?;
        self.session.virtual_host.delete_exchange(name, if_unused)
    }

    /// `queue.bind`, `exchange.bind`. Binding twice is the same as once.
    ///
    /// # Errors
    /// 403 default exchange, 404 one of the ends is missing, 405 another connection's queue, 406 bad arguments.
    pub fn bind(&mut self, request: &Bind) -> Result<Option<Lsn>, Refusal> {
        let bind = self.expand(request)?;
        let virtual_host = &self.session.virtual_host;
        self.powers.check_bind(&bind, || virtual_host.is_topic(&bind.source))?;
        virtual_host.bind(&bind, self.session.id)
    }

    /// `queue.unbind`, `exchange.unbind`. A binding that does not exist is as good as removed.
    ///
    /// # Errors
    /// 403 default exchange, 405 another connection's queue.
    pub fn unbind(&mut self, request: &Bind) -> Result<Option<Lsn>, Refusal> {
        let bind = self.expand(request)?;
        let virtual_host = &self.session.virtual_host;
        self.powers.check_bind(&bind, || virtual_host.is_topic(&bind.source))?;
        virtual_host.unbind(&bind, self.session.id)
    }

    /// An empty queue name is the last queue declared; with an empty routing key, that one is its name too.
    fn expand(&self, request: &Bind) -> Result<Bind, Refusal> {
        let mut bind = request.clone();
        if bind.kind == DestinationKind::Queue && bind.destination.is_empty() {
            bind.destination = self.queue_name(&[])?;
            if bind.routing_key.is_empty() {
                bind.routing_key = bind.destination.clone();
            }
        }
        Ok(bind)
    }

    /// The name as given, or that of the last queue declared on this channel (404 if there is none).
    fn queue_name(&self, name: &[u8]) -> Result<ShortStr, Refusal> {
        if !name.is_empty() {
            return Ok(ShortStr::copy_of(name));
        }
        let last = self.last_queue.clone();
        last.ok_or_else(|| Refusal::new(Reason::NotFound, "no previously declared queue"))
    }

    /// The queue of that name, which is to be read from.
    fn readable_queue(&mut self, name: &[u8]) -> Result<Arc<Queue>, Refusal> {
        if name.is_empty() {
            let name = self.queue_name(name)?;
            self.powers.check_read_queue(&name)?;
            return self.session.virtual_host.queue(&name, self.session.id);
        }
        self.powers.check_read_queue(name)?;
        self.session.virtual_host.queue(name, self.session.id)
    }

    /// `queue.declare`.
    ///
    /// # Errors
    /// 403 reserved name, 404 passive and missing, 405 another connection's queue, 406 not equivalent or bad argument,
    /// 540 argument not supported.
    pub fn declare_queue(&mut self, request: &DeclareQueue) -> Result<QueueDeclared, Refusal> {
        if is_reserved(&request.name) {
            return self.declare_reserved(&request.name);
        }
        let queue = if request.passive {
            // A question about an unnamed queue before there is one; every other method says so differently.
            if request.name.is_empty() && self.last_queue.is_none() {
                return Err(self.session.virtual_host.no_queue(&[]));
            }
            let name = self.queue_name(&request.name)?;
            self.powers.check_ask_for_queue(&name)?;
            let queue = self.session.virtual_host.queue(&name, self.session.id)?;
            queue.touch();
            queue
        } else {
            let server_named = request.name.is_empty();
            if server_named {
                check_server_named(&request.arguments)?;
            }
            let name = if server_named { random_name("amq.gen-")? } else { request.name.clone() };
            let virtual_host = &self.session.virtual_host;
            self.powers.check_declare_queue(request, &name, || virtual_host.has_queue(&name))?;
            let spec = QueueSpec {
                name,
                virtual_host: self.session.virtual_host.name().clone(),
                durable: request.durable,
                auto_delete: request.auto_delete,
                owner: request.exclusive.then_some(self.session.id),
                arguments: request.arguments.clone(),
            };
            self.session.virtual_host.declare_queue(spec, server_named)?
        };
        self.last_queue = Some(queue.name().clone());
        let (messages, consumers) = queue.counts();
        let durable_at = queue.declared_at();
        Ok(QueueDeclared { name: queue.name().clone(), messages, consumers, durable_at })
    }

    /// Whoever is to answer directly may ask whether somebody still waits: as if there were a queue, with one consumer.
    fn declare_reserved(&mut self, name: &ShortStr) -> Result<QueueDeclared, Refusal> {
        let virtual_host = &self.session.virtual_host;
        if !virtual_host.replies().exists(name) {
            return Err(virtual_host.no_queue(name));
        }
        self.last_queue = Some(name.clone());
        Ok(QueueDeclared { name: name.clone(), messages: 0, consumers: 1, durable_at: None })
    }

    /// `queue.delete`. A queue that does not exist is as good as deleted.
    ///
    /// # Errors
    /// 404 no name and no queue declared, 405 another connection's queue, 406 in use or not empty when that was ruled out.
    pub fn delete_queue(
        &mut self,
        name: &[u8],
        if_unused: bool,
        if_empty: bool,
    ) -> Result<QueueDeleted, Refusal> {
        // So that the counts are up to date.
        self.flush()?;
        let name = self.queue_name(name)?;
        self.powers.check_configure_queue(&name)?;
        let conditions = DeleteIf { unused: if_unused, empty: if_empty };
        let virtual_host = &self.session.virtual_host;
        let (messages, durable_at) =
            virtual_host.delete_queue(&name, conditions, self.session.id)?;
        Ok(QueueDeleted { messages, durable_at })
    }

    /// `queue.purge`: removes what is ready; what consumers hold stays.
    ///
    /// # Errors
    /// 404 no such queue, 405 another connection's queue.
    pub fn purge_queue(&mut self, name: &[u8]) -> Result<QueuePurged, Refusal> {
        let queue = self.readable_queue(name)?;
        let (messages, durable_at) = self.session.virtual_host.purge(&queue)?;
        Ok(QueuePurged { messages, durable_at })
    }

    /// `confirm.select`: messages published from now on are confirmed. Asking twice changes nothing.
    ///
    /// # Errors
    /// 406 when the channel is transactional.
    pub fn confirm_select(&mut self) -> Result<(), Refusal> {
        if self.is_transactional() {
            let why = "cannot switch from tx to confirm mode";
            return Err(Refusal::new(Reason::PreconditionFailed, why));
        }
        self.confirms.get_or_insert_default();
        Ok(())
    }

    /// `basic.publish`, where there is no transaction (in one, [`stage`](Self::stage) it). Exchange, routing key, headers and
    /// delivery mode are those of the message's [`Envelope`](crate::message::Envelope).
    ///
    /// # Errors
    /// 403 internal exchange, 404 no such exchange, 406 too large for the store, another user's `user-id`, a malformed
    /// property; 506 the disk is full, and it may be published again later.
    pub fn publish(&mut self, message: &Message) -> Result<Published, Refusal> {
        let envelope = Envelope::parse(message.header())
            .map_err(|error| Refusal::new(Reason::InternalError, error))?;
        self.publish_draft(&envelope, message.into())
    }

    /// The same for a message that need not stay in memory, and is not in memory of its own: it is copied to `memory` if it has
    /// to stay.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    pub fn publish_pieces(
        &mut self,
        envelope: &Envelope<'_>,
        body: &[u8],
        memory: &MessageMemory,
    ) -> Result<Published, Refusal> {
        let mut scratch = Scratch::default();
        let header = envelope.pieces(&mut scratch);
        self.publish_draft(envelope, Draft::Pieces { header: &header, body, memory })
    }

    fn publish_draft(
        &mut self,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
    ) -> Result<Published, Refusal> {
        let virtual_host = &self.session.virtual_host;
        self.powers.check_publish(envelope, || virtual_host.is_topic(envelope.exchange))?;
        // A confirm vouches for what the channel did before as well: whoever acknowledges a message, publishes its result
        // and sees that confirmed, will not see the message again.
        if self.confirms.is_some() && self.settlement.is_pending() {
            self.flush()?;
        }
        let publisher = self.session.publisher(self.reply_consumer.as_deref());
        let virtual_host = &self.session.virtual_host;
        let (arrivals, matches) = (&mut self.arrivals, &mut self.matches);
        let routed = virtual_host.publish(envelope, message, publisher, arrivals, matches)?;
        arrivals.note(matches.queues());
        if let Some(confirms) = &mut self.confirms {
            // What is stored comes behind the acknowledgements in the log. What is not would have nothing to wait for.
            confirms.published(routed.durable_at.or(self.settlement.durable_at()));
            if routed.refused {
                confirms.refused();
            }
        }
        let Routed { queues, refused, bounded, replies, rewritten, .. } = routed;
        if bounded {
            // What a consumer takes at once leaves room for the next one.
            self.hand_out();
        }
        Ok(Published { queues, refused, replies, rewritten })
    }

    /// The position that the oldest unconfirmed message waits for; `None` when none waits.
    #[must_use]
    pub fn awaited_lsn(&self) -> Option<Lsn> {
        self.confirms.as_ref().and_then(Confirms::awaited)
    }

    /// The position that the newest unconfirmed message waits for; `None` when none waits.
    #[must_use]
    pub fn last_awaited_lsn(&self) -> Option<Lsn> {
        self.confirms.as_ref().and_then(Confirms::last_awaited)
    }

    /// What may be confirmed when the store is durable up to `durable`: one confirm for as much as one can stand for, so
    /// ask until there is none. Ask after publishing, too: messages that are not persistent need not wait.
    pub fn confirms(&mut self, durable: Lsn) -> Option<Confirm> {
        self.confirms.as_mut()?.take(durable)
    }

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
        let consumer = Arc::new(Consumer::new(Spec {
            tag: tag.clone(),
            channel: self.number,
            queue: Arc::clone(&queue),
            no_ack: request.no_ack,
            exclusive: request.exclusive,
            priority: consumer_priority(&queue.label(), &request.arguments)?,
            prefetch: self.prefetch,
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

    fn forget_reply_consumer(&mut self) {
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
            self.resume_starved();
        }
        Ok(())
    }

    fn remove(&self, consumer: &Arc<Consumer>) {
        let queue = consumer.queue();
        if queue.remove_consumer(consumer) {
            self.session.virtual_host.delete_abandoned(queue);
        }
    }

    /// How many consumers the channel has.
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.consumers.len() + usize::from(self.reply_consumer.is_some())
    }

    /// Takes note of [`Event::ConsumerCancelled`](super::Event::ConsumerCancelled). Whether the consumer was still known;
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
        let got = queue.get(&self.session.outbox, self.number, no_ack)?;
        if matches!(got, Get::Pending)
            && !self.pending_gets.iter().any(|other| Arc::ptr_eq(other, &queue))
        {
            self.pending_gets.push(queue);
        }
        Ok(got)
    }

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
            self.unacknowledged.push(tag, Held { origin, sequence, deliveries, body });
        }
        tag
    }

    /// Gives a direct reply its tag. Nothing has to be acknowledged.
    pub fn accept_reply(&mut self) -> DeliveryTag {
        self.last_tag = self.next_delivery_tag();
        self.last_tag
    }

    /// `basic.ack`. Tag 0 with `multiple` means everything.
    ///
    /// # Errors
    /// 406 unknown delivery tag.
    pub fn ack(&mut self, tag: DeliveryTag, multiple: bool) -> Result<(), Refusal> {
        if self.transaction.is_some() {
            return self.settle_later(tag, multiple, Verdict::Acknowledged);
        }
        if multiple {
            for held in self.take_through(tag)? {
                self.settlement.done(&held);
            }
        } else {
            let held = self.unacknowledged.take(tag).ok_or_else(|| unknown(tag))?;
            self.settlement.done(&held);
        }
        Ok(())
    }

    /// `basic.nack`, and `basic.reject` with `multiple` false. Tag 0 with `multiple` means everything.
    ///
    /// # Errors
    /// 406 unknown delivery tag, 541 when the store failed.
    pub fn nack(&mut self, tag: DeliveryTag, multiple: bool, requeue: bool) -> Result<(), Refusal> {
        if self.transaction.is_some() {
            let verdict = if requeue { Verdict::Requeued } else { Verdict::Rejected };
            return self.settle_later(tag, multiple, verdict);
        }
        let held = if multiple {
            self.take_through(tag)?
        } else {
            vec![self.unacknowledged.take(tag).ok_or_else(|| unknown(tag))?]
        };
        if requeue {
            return self.requeue(held);
        }
        held.iter().for_each(|held| self.settlement.rejected(held));
        Ok(())
    }

    fn take_through(&mut self, tag: DeliveryTag) -> Result<Vec<Held>, Refusal> {
        if tag == DeliveryTag(0) {
            return Ok(self.unacknowledged.take_all());
        }
        self.unacknowledged.take_through(tag).ok_or_else(|| unknown(tag))
    }

    /// `basic.recover`: returns everything unacknowledged to the queues.
    ///
    /// # Errors
    /// 540 without `requeue`, 541 when the store failed.
    pub fn recover(&mut self, requeue: bool) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::new(Reason::NotImplemented, "requeue=false"));
        }
        let held = self.unacknowledged.take_all();
        self.requeue(held)
    }

    fn requeue(&mut self, held: Vec<Held>) -> Result<(), Refusal> {
        // The hand-outs are counted before the messages can go out again.
        let flushed = self.flush();
        requeue(held);
        self.resume_starved();
        Ok(flushed?)
    }

    /// Tells the queues what has been accepted and acknowledged since the last time; that frees credit, and more may be
    /// delivered at once. Has what was published handed out.
    ///
    /// # Errors
    /// Those of the store. Everything has been told all the same.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let outcome = self.settlement.flush();
        self.hand_out();
        self.resume_starved();
        outcome
    }

    /// Has what was published handed out, and nothing else.
    pub fn hand_out(&mut self) {
        self.arrivals.dispatch();
    }

    /// Consumers of other queues may have waited for credit of the channel.
    fn resume_starved(&self) {
        for consumer in self.credit.take_starved() {
            consumer.queue().resume(&consumer);
        }
    }

    /// Places kept for unacknowledged deliveries, holes included.
    #[cfg(test)]
    pub(super) fn held_slots(&self) -> usize {
        self.unacknowledged.slots()
    }

    /// Closes the channel, as dropping it does.
    pub fn close(self) {}
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.session.live.channels.fetch_sub(1, Relaxed);
        self.forget_reply_consumer();
        let consumers: Vec<_> = std::mem::take(&mut self.consumers).into_values().collect();
        // They go when what they hold is back in its place: others that waited for that begin with it.
        consumers.iter().for_each(|consumer| consumer.queue().stop_consumer(consumer));
        for queue in self.pending_gets.drain(..) {
            queue.forget_gets(&self.session.outbox, self.number);
        }
        // Answers to `basic.get`, and notices that nobody will read.
        let number = self.number;
        give_back(self.session.outbox.retract_channel(number));
        self.arrivals.dispatch();
        if let Err(error) = self.settlement.flush() {
            tracing::error!(%error, "acknowledgements of a closing channel are lost");
        }
        self.abandon_transaction();
        requeue(self.unacknowledged.take_all());
        consumers.iter().for_each(|consumer| self.remove(consumer));
        self.credit.close();
    }
}

fn unknown(tag: DeliveryTag) -> Refusal {
    Refusal::new(Reason::PreconditionFailed, format_args!("unknown delivery tag {}", tag.0))
}
