//! A message on its way from a queue to a channel.

use std::sync::Arc;

use bytes::Bytes;

use super::consumer::Consumer;
use super::queue::Queue;
use super::refusal::Refusal;
use crate::message::{RawProperties, ShortStr, Value};
use crate::storage::{Message, Sequence};

/// The header that says how often a message came back.
const DELIVERY_COUNT: ShortStr = ShortStr::from_static("x-delivery-count");

/// A channel's number within its connection (AMQP 0-9-1, section 4.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(pub u16);

/// Identifies a delivery on its channel: 1 for the first, then one more each (AMQP 0-9-1, section 1.1, `delivery-tag`).
///
/// Publisher confirms count published messages in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryTag(pub u64);

/// A message that a queue has handed out, and that its channel has not accepted yet.
///
/// It must end in [`Channel::accept`](super::Channel::accept); what is still in an outbox when its
/// consumer, channel or session goes is returned to its queue by these.
#[derive(Debug)]
pub struct Delivery {
    pub(super) origin: Origin,
    pub(super) sequence: Sequence,
    /// How often the message had been handed out before.
    pub(super) deliveries: u32,
    pub(super) message: Message,
}

/// Who asked for the message.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    Consumer(Arc<Consumer>),
    Get { queue: Arc<Queue>, no_ack: bool },
}

impl Origin {
    pub(super) fn queue(&self) -> &Arc<Queue> {
        match self {
            Self::Consumer(consumer) => consumer.queue(),
            Self::Get { queue, .. } => queue,
        }
    }

    pub(super) fn no_ack(&self) -> bool {
        match self {
            Self::Consumer(consumer) => consumer.no_ack(),
            Self::Get { no_ack, .. } => *no_ack,
        }
    }

    pub(super) fn consumer(&self) -> Option<&Arc<Consumer>> {
        match self {
            Self::Consumer(consumer) => Some(consumer),
            Self::Get { .. } => None,
        }
    }
}

impl Delivery {
    /// Tag of the consumer that it goes to; empty for an answer to `basic.get`.
    #[must_use]
    pub fn consumer_tag(&self) -> &[u8] {
        self.origin.consumer().map_or(&[], |consumer| consumer.tag().as_bytes())
    }

    /// Name of the queue that it comes from.
    #[must_use]
    pub fn queue(&self) -> &ShortStr {
        self.origin.queue().name()
    }

    /// Its place in that queue.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Whether it was handed out before, to anybody, also before a restart.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.deliveries > 0
    }

    /// The properties that it is delivered with, if these are not the message's own: a quorum queue says how often the message
    /// came back. As [`RawProperties`] has them.
    #[must_use]
    pub fn rewritten(&self, properties: &RawProperties<'_>) -> Option<Bytes> {
        let counts = self.origin.queue().rules().counts_deliveries();
        counts.then(|| properties.with_header(&DELIVERY_COUNT, &Value::I64(self.deliveries.into())))
    }

    /// The message; its header is a [`message::Envelope`](crate::message::Envelope).
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }
}

/// What the broker has for a connection's peer without having been asked.
#[derive(Debug)]
pub enum Event {
    /// `basic.deliver`: accept it on the channel, then send it.
    Delivery {
        /// The consumer's channel.
        channel: ChannelNumber,
        /// The message.
        delivery: Delivery,
    },
    /// `basic.deliver` to a channel's consumer of direct replies: give it a tag with
    /// [`Channel::accept_reply`](super::Channel::accept_reply), then send it. There is nothing to acknowledge.
    Reply {
        /// The consumer's channel.
        channel: ChannelNumber,
        /// The consumer's tag.
        consumer_tag: ShortStr,
        /// The message.
        message: Message,
    },
    /// The answer to a `basic.get` for which [`Get::Pending`] was returned.
    Got {
        /// The channel that asked.
        channel: ChannelNumber,
        /// The message to accept and send with `basic.get-ok`, and how many are ready behind it; `None` for
        /// `basic.get-empty`.
        message: Option<(Delivery, u32)>,
    },
    /// The answer to such a `basic.get` when the message cannot be read (541).
    GetRefused {
        /// The channel that asked.
        channel: ChannelNumber,
        /// Why not.
        refusal: Refusal,
    },
    /// `basic.cancel`: the queue has gone. For peers with the capability `consumer_cancel_notify`; for others
    /// nothing is sent. The channel must be told with [`Channel::forget_consumer`](super::Channel::forget_consumer).
    ConsumerCancelled {
        /// The consumer's channel.
        channel: ChannelNumber,
        /// The consumer's tag.
        consumer_tag: ShortStr,
    },
}

impl Event {
    /// The channel that it concerns.
    #[must_use]
    pub fn channel(&self) -> ChannelNumber {
        match self {
            Self::Delivery { channel, .. }
            | Self::Reply { channel, .. }
            | Self::Got { channel, .. }
            | Self::GetRefused { channel, .. }
            | Self::ConsumerCancelled { channel, .. } => *channel,
        }
    }

    /// The delivery in it, if there is one.
    pub(super) fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Delivery { delivery, .. } => Some(delivery),
            Self::Got { message, .. } => message.as_ref().map(|(delivery, _)| delivery),
            Self::Reply { .. } | Self::GetRefused { .. } | Self::ConsumerCancelled { .. } => None,
        }
    }

    /// Takes the delivery out of it, if there is one.
    pub(super) fn into_delivery(self) -> Option<Delivery> {
        match self {
            Self::Delivery { delivery, .. } => Some(delivery),
            Self::Got { message, .. } => message.map(|(delivery, _)| delivery),
            Self::Reply { .. } | Self::GetRefused { .. } | Self::ConsumerCancelled { .. } => None,
        }
    }
}

/// What `basic.get` found.
#[derive(Debug)]
pub enum Get {
    /// A message, to be accepted and sent with `basic.get-ok`, and how many are ready behind it.
    Message(Delivery, u32),
    /// Nothing is ready: `basic.get-empty`.
    Empty,
    /// The message has to be read from disk first: the answer comes as [`Event::Got`].
    Pending,
}
