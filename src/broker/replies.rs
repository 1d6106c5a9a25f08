//! Direct reply-to: answers that go straight to the channel that asked, without a queue.
//!
//! A channel that consumes from `amq.rabbitmq.reply-to` gets an address of its own that nobody can guess. Requests that it
//! publishes with that name as `reply-to` go out with the address instead, and what is published to the default exchange with the
//! address as routing key goes into the outbox of the channel's connection. Nothing of it is stored: an answer whose channel
//! has gone, or whose connection does not read, has gone nowhere.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::delivery::{ChannelNumber, Event};
use super::names::reply_name;
use super::outbox::{Outbox, Wakers};
use super::refusal::Refusal;
use crate::message::ShortStr;
use crate::storage::Message;

/// The name that stands for answers without a queue, in `basic.consume` and `reply-to`.
pub(super) const DIRECT_REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// What every address begins with.
const ADDRESS: &str = "amq.rabbitmq.reply-to.";

/// Whether a routing key is an address, of a channel that there may be or not.
pub(super) fn is_address(key: &[u8]) -> bool {
    key.starts_with(ADDRESS.as_bytes())
}

/// Whether a queue's name stands for answers without one.
pub(super) fn is_reserved(queue: &[u8]) -> bool {
    queue.starts_with(DIRECT_REPLY_TO)
}

/// A channel that gets answers.
#[derive(Debug)]
pub(super) struct ReplyConsumer {
    tag: ShortStr,
    channel: ChannelNumber,
    address: ShortStr,
    outbox: Arc<Outbox>,
}

impl ReplyConsumer {
    /// A consumer with a new address.
    pub(super) fn new(
        tag: ShortStr,
        channel: ChannelNumber,
        outbox: Arc<Outbox>,
    ) -> Result<Self, Refusal> {
        Ok(Self { tag, channel, address: reply_name(ADDRESS)?, outbox })
    }

    pub(super) fn tag(&self) -> &ShortStr {
        &self.tag
    }

    /// What its requests have for `reply-to`.
    pub(super) fn address(&self) -> &ShortStr {
        &self.address
    }
}

/// The channels of a virtual host that get answers, by their addresses.
#[derive(Debug, Default)]
pub(super) struct Replies {
    consumers: RwLock<HashMap<ShortStr, Arc<ReplyConsumer>>>,
}

impl Replies {
    pub(super) fn add(&self, consumer: &Arc<ReplyConsumer>) {
        self.consumers.write().insert(consumer.address.clone(), Arc::clone(consumer));
    }

    /// When this returns, nothing for the consumer is in its outbox, nor gets there any more.
    pub(super) fn remove(&self, consumer: &ReplyConsumer) {
        self.consumers.write().remove(&consumer.address);
        consumer.outbox.retract_replies(consumer.channel);
    }

    /// Whether a queue of that name would be said to exist: the name for all, or the address of a channel that is there.
    pub(super) fn exists(&self, name: &[u8]) -> bool {
        name == DIRECT_REPLY_TO || self.consumers.read().contains_key(name)
    }

    /// Whether the address leads to an outbox with room for an answer.
    pub(super) fn admits(&self, address: &[u8]) -> bool {
        let consumers = self.consumers.read();
        consumers.get(address).is_some_and(|consumer| consumer.outbox.admits_reply())
    }

    /// Puts an answer into the outbox that the address leads to; whether there is one, with room. The connection is to be woken
    /// when nothing is locked.
    pub(super) fn deliver(&self, address: &[u8], message: &Message, wakers: &mut Wakers) -> bool {
        // Locked until it is in the outbox: who removes the consumer then finds it there.
        let consumers = self.consumers.read();
        let Some(ReplyConsumer { tag, channel, outbox, .. }) =
            consumers.get(address).map(Arc::as_ref)
        else {
            return false;
        };
        let (channel, consumer_tag, message) = (*channel, tag.clone(), message.clone());
        match outbox.offer_reply(Event::Reply { channel, consumer_tag, message }) {
            Ok(waker) => wakers.add(waker),
            Err(_) => {
                tracing::debug!(
                    channel = channel.0,
                    "a reply is dropped: its connection does not read"
                );
                return false;
            }
        }
        true
    }
}
