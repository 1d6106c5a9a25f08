//! One channel: its methods translated into the broker's requests, and the answers back.

use std::time::Instant;

use bytes::BytesMut;

use super::assembly::{Assembly, PUBLISH, Published};
use super::codec::{ContentHeader, Method, ReplyCode, WholePublish, put_method};
use super::fault::Fault;
use super::gateway::Room;
use super::output::Output;
use super::running::Outcome;
use crate::broker::{
    self, Bind, Committed, Confirm, Consume, DeclareExchange, DeclareQueue, Delivery, DeliveryTag,
    DestinationKind, Done, Effort, Get, Reason, Step,
};
use crate::message::{Envelope, RawProperties, ShortStr};
use crate::storage::{Lsn, Message, MessageMemory, Piece};

const PUBLISH_CLASS: u16 = PUBLISH.class;

/// A channel that is open, or that waits for the answer to `channel.close`.
pub(super) struct Channel {
    number: u16,
    /// `None` once `channel.close` has been put out: everything but its answer is then ignored.
    inner: Option<broker::Channel>,
    pub(super) assembly: Assembly,
    frame_max: u32,
    /// Whether the connection has noted that there is something to settle or to confirm.
    pub(super) noted: bool,
    /// The number of messages that have begun to arrive by parts.
    pub(super) begun: u64,
    /// The answer to a method that is done in pieces.
    awaited: Awaited,
}

/// An answer that is put out when its method is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Awaited {
    #[default]
    Nothing,
    PurgeOk,
    RecoverOk,
    CommitOk,
}

impl Channel {
    pub(super) fn new(inner: broker::Channel, frame_max: u32) -> Channel {
        Channel {
            number: inner.number().0,
            inner: Some(inner),
            assembly: Assembly::default(),
            frame_max,
            noted: false,
            begun: 0,
            awaited: Awaited::Nothing,
        }
    }

    /// Whether the answer to `channel.close` is all that is awaited.
    pub(super) fn is_closing(&self) -> bool {
        self.inner.is_none()
    }

    /// Ignores what is still to come from the peer. Returns the broker's channel, which the caller must close.
    pub(super) fn shut(&mut self) -> Option<broker::Channel> {
        self.assembly = Assembly::default();
        self.inner.take()
    }

    /// Whether a declaration of that name has to wait until an earlier queue or exchange of that name has gone.
    pub(super) fn awaits_deletion(&self, kind: DestinationKind, name: &[u8]) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.awaits_deletion(kind, name))
    }

    /// Does the next piece of the method that is under way.
    pub(super) fn go_on(&mut self, output: &mut Output) -> Result<Outcome, Fault> {
        let step = self.inner()?.go_on()?;
        self.stepped(step, output)
    }

    /// Puts out the awaited answer, if the method is done.
    fn stepped(&mut self, step: Step, output: &mut Output) -> Result<Outcome, Fault> {
        let Step::Done(done) = step else { return Ok(Outcome::More) };
        let outcome = match (std::mem::take(&mut self.awaited), done) {
            (Awaited::PurgeOk, Done::Purged(purged)) => {
                let reply = Method::QueuePurgeOk { message_count: purged.messages };
                self.answer(false, purged.durable_at, &reply, output)
            }
            (Awaited::CommitOk, Done::Committed(committed)) => {
                self.committed(&committed, output)?
            }
            (Awaited::RecoverOk, _) => self.answer(false, None, &Method::BasicRecoverOk {}, output),
            _ => Outcome::Done,
        };
        Ok(outcome)
    }

    fn committed(&mut self, committed: &Committed, output: &mut Output) -> Result<Outcome, Fault> {
        for message in &committed.returned {
            let (size, body) = (message.body_len(), message.pieces());
            self.give_back(&envelope(message)?, None, size, body, output);
        }
        if committed.refused {
            let why = "partial tx completion";
            let fault = Fault::channel(ReplyCode::PreconditionFailed, why);
            return Err(fault.during(Method::TxCommit {}.id()));
        }
        Ok(self.answer(false, committed.durable_at, &Method::TxCommitOk {}, output))
    }

    /// How many consumers it has.
    pub(super) fn consumers(&self) -> usize {
        self.inner.as_ref().map_or(0, broker::Channel::consumers)
    }

    /// Whether there is something to [settle](Self::settle).
    pub(super) fn is_pending(&self) -> bool {
        self.inner.as_ref().is_some_and(broker::Channel::is_pending)
    }

    /// Whether there is a confirm that waits for nothing.
    pub(super) fn has_confirm(&self) -> bool {
        self.inner.as_ref().is_some_and(broker::Channel::has_confirm)
    }

    /// Tells the broker what has been accepted and acknowledged since the last time.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        match &mut self.inner {
            Some(inner) => inner.flush().map_err(|error| Fault::from(broker::Refusal::from(error))),
            None => Ok(()),
        }
    }

    /// Refuses a delivery that has been held for too long: the channel is to be closed.
    pub(super) fn check_timeouts(&mut self, now: Instant) -> Result<(), Fault> {
        match &mut self.inner {
            Some(inner) => inner.check_timeouts(now).map_err(Fault::from),
            None => Ok(()),
        }
    }

    /// Puts out what may be confirmed; returns what the next confirm waits for, and the last.
    pub(super) fn confirm(&mut self, durable: Lsn, output: &mut Output) -> Option<(Lsn, Lsn)> {
        let inner = self.inner.as_mut()?;
        while let Some(Confirm { tag: DeliveryTag(delivery_tag), refused, multiple }) =
            inner.confirms(durable)
        {
            let confirm = if refused {
                Method::BasicNack { delivery_tag, multiple, requeue: true }
            } else {
                Method::BasicAck { delivery_tag, multiple }
            };
            output.method(self.number, &confirm);
        }
        inner.awaited_lsn().zip(inner.last_awaited_lsn())
    }

    /// A message has arrived completely. Returns what it has to wait for, if it cannot be taken yet.
    pub(super) fn publish(
        &mut self,
        published: &Published,
        effort: Effort,
        output: &mut Output,
    ) -> Result<Option<Room>, Fault> {
        let Some(inner) = &mut self.inner else { return Ok(None) };
        let message = &published.message;
        if inner.is_transactional() {
            let is_done = inner.stage_some(message, published.mandatory, effort)?;
            return Ok((!is_done).then_some(Room::ToRoute));
        }
        let routed = match inner.publish_some(message, effort) {
            Err(refusal) if refusal.reason() == Reason::ResourceError => {
                return Ok(Some(Room::OnDisk));
            }
            routed => routed?,
        };
        let Some(routed) = routed else { return Ok(Some(Room::ToRoute)) };
        if routed.is_unroutable() && published.mandatory {
            let (size, body) = (message.body_len(), message.pieces());
            self.give_back(&envelope(message)?, routed.rewritten.as_deref(), size, body, output);
        }
        Ok(None)
    }

    /// A message that has arrived in one go; false: it has to be put together and published frame by frame, because
    /// something about it is out of the ordinary.
    pub(super) fn publish_whole(
        &mut self,
        whole: &WholePublish<'_>,
        largest: u64,
        memory: &MessageMemory,
        output: &mut Output,
    ) -> Result<bool, Fault> {
        let Some(inner) = self.inner.as_mut().filter(|_| self.assembly.is_idle()) else {
            return Ok(false);
        };
        let method = Method::decode(whole.method);
        let Ok(Method::BasicPublish { exchange, routing_key, mandatory, immediate: false, .. }) =
            method
        else {
            return Ok(false);
        };
        let Ok(ContentHeader { class: PUBLISH_CLASS, body_size, properties }) =
            ContentHeader::decode(whole.header)
        else {
            return Ok(false);
        };
        if body_size > largest || inner.is_transactional() {
            return Ok(false);
        }
        let envelope = Envelope { exchange, routing_key, properties, published_at: None };
        let routed = match inner.publish_pieces(&envelope, whole.body, memory) {
            Err(refusal) if refusal.reason() == Reason::ResourceError => return Ok(false),
            routed => routed?,
        };
        let Some(routed) = routed else { return Ok(false) };
        if routed.is_unroutable() && mandatory {
            let returned = Message::new([], whole.body);
            let (size, body) = (returned.body_len(), returned.pieces());
            self.give_back(&envelope, routed.rewritten.as_deref(), size, body, output);
        }
        Ok(true)
    }

    /// Puts out `basic.return`: the message could not be routed. `rewritten` are its properties if the broker has changed them.
    fn give_back<'p>(
        &self,
        envelope: &Envelope<'_>,
        rewritten: Option<&[u8]>,
        size: usize,
        body: impl Iterator<Item = Piece<'p>>,
        output: &mut Output,
    ) {
        let Envelope { exchange, routing_key, properties, .. } = *envelope;
        let properties = rewritten.map_or(properties, RawProperties::from_checked);
        let returned = Method::BasicReturn {
            reply_code: ReplyCode::NoRoute.code(),
            reply_text: ReplyCode::NoRoute.name().as_bytes(),
            exchange,
            routing_key,
        };
        output.method(self.number, &returned);
        output.content(self.number, self.frame_max, properties, size as u64, body);
    }

    /// Puts out `basic.deliver`. The delivery counts as accepted even if it turns out to be unreadable.
    pub(super) fn deliver(&mut self, delivery: Delivery, output: &mut Output) -> Result<(), Fault> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let delivery_tag = inner.next_delivery_tag().0;
        let message = delivery.message();
        let put =
            envelope(message).map(|Envelope { exchange, routing_key, properties, .. }| {
                let deliver = Method::BasicDeliver {
                    consumer_tag: delivery.consumer_tag(),
                    delivery_tag,
                    redelivered: delivery.redelivered(),
                    exchange,
                    routing_key,
                };
                output.method(self.number, &deliver);
                let size = message.body_len() as u64;
                let rewritten = delivery.rewritten(&properties);
                let properties =
                    rewritten.as_deref().map_or(properties, RawProperties::from_checked);
                output.content(self.number, self.frame_max, properties, size, message.pieces());
            });
        inner.accept(delivery);
        put
    }

    /// Puts out `basic.deliver` for a direct reply.
    pub(super) fn deliver_reply(
        &mut self,
        consumer_tag: &ShortStr,
        message: &Message,
        output: &mut Output,
    ) -> Result<(), Fault> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let delivery_tag = inner.accept_reply().0;
        let Envelope { exchange, routing_key, properties, .. } = envelope(message)?;
        let deliver = Method::BasicDeliver {
            consumer_tag,
            delivery_tag,
            redelivered: false,
            exchange,
            routing_key,
        };
        output.method(self.number, &deliver);
        let size = message.body_len() as u64;
        output.content(self.number, self.frame_max, properties, size, message.pieces());
        Ok(())
    }

    /// Puts out the answer to `basic.get`.
    pub(super) fn answer_get(
        &mut self,
        found: Option<(Delivery, u32)>,
        output: &mut Output,
    ) -> Result<(), Fault> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let Some((delivery, message_count)) = found else {
            output.method(self.number, &Method::BasicGetEmpty { reserved_1: b"" });
            return Ok(());
        };
        let message = delivery.message().clone();
        let redelivered = delivery.redelivered();
        let rewritten =
            envelope(&message).ok().and_then(|envelope| delivery.rewritten(&envelope.properties));
        let delivery_tag = inner.accept(delivery).0;
        let Envelope { exchange, routing_key, properties, .. } = envelope(&message)?;
        let properties = rewritten.as_deref().map_or(properties, RawProperties::from_checked);
        let ok =
            Method::BasicGetOk { delivery_tag, redelivered, exchange, routing_key, message_count };
        output.method(self.number, &ok);
        let size = message.body_len() as u64;
        output.content(self.number, self.frame_max, properties, size, message.pieces());
        Ok(())
    }

    /// The broker has cancelled a consumer; `notify` says whether the peer understands that.
    pub(super) fn cancelled(&mut self, consumer_tag: &ShortStr, notify: bool, output: &mut Output) {
        let Some(inner) = &mut self.inner else { return };
        if inner.forget_consumer(consumer_tag) && notify {
            output.method(self.number, &Method::BasicCancel { consumer_tag, nowait: true });
        }
    }

    /// Answers a method, at once or when the log is durable up to `durable_at`.
    fn answer(
        &self,
        nowait: bool,
        durable_at: Option<Lsn>,
        reply: &Method<'_>,
        output: &mut Output,
    ) -> Outcome {
        match durable_at {
            _ if nowait => Outcome::Done,
            None => {
                output.method(self.number, reply);
                Outcome::Done
            }
            Some(lsn) => {
                let mut frame = BytesMut::new();
                put_method(&mut frame, self.number, reply);
                Outcome::Wait(lsn, frame)
            }
        }
    }

    /// `tx.commit`; `None`: there is no room on the disk for what it is to store, or for all of it. What is left is
    /// the next commit's.
    pub(super) fn commit(
        &mut self,
        is_full: bool,
        output: &mut Output,
    ) -> Result<Option<Outcome>, Fault> {
        let inner = self.inner()?;
        if is_full && inner.has_staged() {
            return Ok(None);
        }
        let step = match inner.begin_commit() {
            Err(refusal) if refusal.reason() == Reason::ResourceError => return Ok(None),
            step => step?,
        };
        self.awaited = Awaited::CommitOk;
        self.stepped(step, output).map(Some)
    }

    /// Does what a method asks for. `basic.publish`, `tx.commit` and `channel.close` are dealt with elsewhere.
    pub(super) fn method(
        &mut self,
        method: &Method<'_>,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        match *method {
            Method::ChannelOpen { .. } => {
                Err(Fault::connection(ReplyCode::ChannelError, "second 'channel.open' seen"))
            }
            Method::ChannelFlow { active: true } => {
                Ok(self.answer(false, None, &Method::ChannelFlowOk { active: true }, output))
            }
            Method::ChannelFlow { active: false } => {
                Err(Fault::connection(ReplyCode::NotImplemented, "active=false"))
            }
            Method::AccessRequest { .. } => {
                Ok(self.answer(false, None, &Method::AccessRequestOk { ticket: 1 }, output))
            }
            Method::TxSelect {} => {
                self.inner()?.tx_select()?;
                Ok(self.answer(false, None, &Method::TxSelectOk {}, output))
            }
            Method::TxRollback {} => {
                self.inner()?.tx_rollback()?;
                Ok(self.answer(false, None, &Method::TxRollbackOk {}, output))
            }
            Method::ExchangeDeclare { .. }
            | Method::ExchangeDelete { .. }
            | Method::ExchangeBind { .. }
            | Method::ExchangeUnbind { .. } => self.exchange(method, output),
            Method::QueueDeclare { .. }
            | Method::QueueDelete { .. }
            | Method::QueuePurge { .. }
            | Method::QueueBind { .. }
            | Method::QueueUnbind { .. } => self.queue(method, output),
            Method::BasicConsume { .. } | Method::BasicCancel { .. } | Method::BasicGet { .. } => {
                self.consume(method, output)
            }
            _ => self.settle_method(method, output),
        }
    }

    fn inner(&mut self) -> Result<&mut broker::Channel, Fault> {
        self.inner.as_mut().ok_or_else(|| {
            Fault::connection(ReplyCode::ChannelError, "a method on a channel that is being closed")
        })
    }

    fn exchange(&mut self, method: &Method<'_>, output: &mut Output) -> Result<Outcome, Fault> {
        let inner = self.inner()?;
        let (nowait, durable_at, reply) = match *method {
            Method::ExchangeDeclare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                nowait,
                arguments,
                ..
            } => {
                let request = DeclareExchange {
                    name: ShortStr::copy_of(exchange),
                    kind: ShortStr::copy_of(kind),
                    passive,
                    durable,
                    auto_delete,
                    internal,
                    arguments: arguments.to_table(),
                };
                (nowait, inner.declare_exchange(&request)?, Method::ExchangeDeclareOk {})
            }
            Method::ExchangeDelete { exchange, if_unused, nowait, .. } => {
                (nowait, inner.delete_exchange(exchange, if_unused)?, Method::ExchangeDeleteOk {})
            }
            Method::ExchangeBind {
                destination, source, routing_key, nowait, arguments, ..
            } => {
                let bind = Bind {
                    source: ShortStr::copy_of(source),
                    kind: DestinationKind::Exchange,
                    destination: ShortStr::copy_of(destination),
                    routing_key: ShortStr::copy_of(routing_key),
                    arguments: arguments.to_table(),
                };
                (nowait, inner.bind(&bind)?, Method::ExchangeBindOk {})
            }
            Method::ExchangeUnbind {
                destination, source, routing_key, nowait, arguments, ..
            } => {
                let bind = Bind {
                    source: ShortStr::copy_of(source),
                    kind: DestinationKind::Exchange,
                    destination: ShortStr::copy_of(destination),
                    routing_key: ShortStr::copy_of(routing_key),
                    arguments: arguments.to_table(),
                };
                (nowait, inner.unbind(&bind)?, Method::ExchangeUnbindOk {})
            }
            _ => return Err(unimplemented_method()),
        };
        Ok(self.answer(nowait, durable_at, &reply, output))
    }

    fn queue(&mut self, method: &Method<'_>, output: &mut Output) -> Result<Outcome, Fault> {
        let inner = self.inner()?;
        match *method {
            Method::QueueDeclare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                nowait,
                arguments,
                ..
            } => {
                let declared = inner.declare_queue(&DeclareQueue {
                    name: ShortStr::copy_of(queue),
                    passive,
                    durable,
                    exclusive,
                    auto_delete,
                    arguments: arguments.to_table(),
                })?;
                let reply = Method::QueueDeclareOk {
                    queue: &declared.name,
                    message_count: declared.messages,
                    consumer_count: declared.consumers,
                };
                Ok(self.answer(nowait, declared.durable_at, &reply, output))
            }
            Method::QueueDelete { queue, if_unused, if_empty, nowait, .. } => {
                let deleted = inner.delete_queue(queue, if_unused, if_empty)?;
                let reply = Method::QueueDeleteOk { message_count: deleted.messages };
                Ok(self.answer(nowait, deleted.durable_at, &reply, output))
            }
            Method::QueuePurge { queue, nowait, .. } => {
                let step = inner.begin_purge(queue)?;
                self.awaited = if nowait { Awaited::Nothing } else { Awaited::PurgeOk };
                self.stepped(step, output)
            }
            Method::QueueBind { queue, exchange, routing_key, nowait, arguments, .. } => {
                let durable_at = inner.bind(&Bind {
                    source: ShortStr::copy_of(exchange),
                    kind: DestinationKind::Queue,
                    destination: ShortStr::copy_of(queue),
                    routing_key: ShortStr::copy_of(routing_key),
                    arguments: arguments.to_table(),
                })?;
                Ok(self.answer(nowait, durable_at, &Method::QueueBindOk {}, output))
            }
            Method::QueueUnbind { queue, exchange, routing_key, arguments, .. } => {
                let durable_at = inner.unbind(&Bind {
                    source: ShortStr::copy_of(exchange),
                    kind: DestinationKind::Queue,
                    destination: ShortStr::copy_of(queue),
                    routing_key: ShortStr::copy_of(routing_key),
                    arguments: arguments.to_table(),
                })?;
                Ok(self.answer(false, durable_at, &Method::QueueUnbindOk {}, output))
            }
            _ => Err(unimplemented_method()),
        }
    }

    fn consume(&mut self, method: &Method<'_>, output: &mut Output) -> Result<Outcome, Fault> {
        let inner = self.inner()?;
        match *method {
            // `no_local` is ignored, as RabbitMQ does.
            Method::BasicConsume {
                queue,
                consumer_tag,
                no_ack,
                exclusive,
                nowait,
                arguments,
                ..
            } => {
                let tag = inner.consume(&Consume {
                    queue: ShortStr::copy_of(queue),
                    consumer_tag: ShortStr::copy_of(consumer_tag),
                    no_ack,
                    exclusive,
                    arguments: arguments.to_table(),
                })?;
                let reply = Method::BasicConsumeOk { consumer_tag: &tag };
                Ok(self.answer(nowait, None, &reply, output))
            }
            Method::BasicCancel { consumer_tag, nowait } => {
                inner.cancel(consumer_tag)?;
                Ok(self.answer(nowait, None, &Method::BasicCancelOk { consumer_tag }, output))
            }
            Method::BasicGet { queue, no_ack, .. } => {
                match inner.get(queue, no_ack)? {
                    Get::Message(delivery, left) => {
                        self.answer_get(Some((delivery, left)), output)?;
                    }
                    Get::Empty => self.answer_get(None, output)?,
                    Get::Pending => return Ok(Outcome::WaitForMessage),
                }
                Ok(Outcome::Done)
            }
            _ => Err(unimplemented_method()),
        }
    }

    fn settle_method(
        &mut self,
        method: &Method<'_>,
        output: &mut Output,
    ) -> Result<Outcome, Fault> {
        let inner = self.inner()?;
        match *method {
            Method::BasicAck { delivery_tag, multiple } => {
                let step = inner.begin_ack(DeliveryTag(delivery_tag), multiple)?;
                self.stepped(step, output)
            }
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                let step = inner.begin_nack(DeliveryTag(delivery_tag), multiple, requeue)?;
                self.stepped(step, output)
            }
            Method::BasicReject { delivery_tag, requeue } => {
                inner.nack(DeliveryTag(delivery_tag), false, requeue)?;
                Ok(Outcome::Done)
            }
            Method::BasicRecoverAsync { requeue } => {
                let step = inner.begin_recover(requeue)?;
                self.stepped(step, output)
            }
            Method::BasicRecover { requeue } => {
                let step = inner.begin_recover(requeue)?;
                self.awaited = Awaited::RecoverOk;
                self.stepped(step, output)
            }
            Method::BasicQos { prefetch_size, prefetch_count, global } => {
                inner.qos(prefetch_size, prefetch_count, global)?;
                Ok(self.answer(false, None, &Method::BasicQosOk {}, output))
            }
            Method::ConfirmSelect { nowait } => {
                inner.confirm_select()?;
                Ok(self.answer(nowait, None, &Method::ConfirmSelectOk {}, output))
            }
            _ => Err(unimplemented_method()),
        }
    }
}

/// A method that only a server sends, or one that makes no sense on a channel.
fn unimplemented_method() -> Fault {
    Fault::connection(ReplyCode::CommandInvalid, "unimplemented method")
}

/// What a stored message's header says. That it cannot be read should be impossible: the engine's checksums hold.
fn envelope(message: &crate::storage::Message) -> Result<Envelope<'_>, Fault> {
    Envelope::parse(message.header())
        .map_err(|error| Fault::connection(ReplyCode::InternalError, error))
}
