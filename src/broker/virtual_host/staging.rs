//! Messages of transactions: routed when they are published, stored when they are committed.

use bytes::BytesMut;

use super::publishing::Nature;
use super::{Routed, VirtualHost};
use crate::broker::arrivals::Arrivals;
use crate::broker::copies::Copies;
use crate::broker::promises::{Publisher, check_properties};
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::routing::Matches;
use crate::broker::transaction::Staged;
use crate::message::{Envelope, RawProperties};
use crate::storage::{Draft, Message};

impl VirtualHost {
    /// Routes a message, and makes the copy of it that its transaction keeps. What would refuse it now is not asked again.
    /// `None`: it has been put off, because its keys have to be looked up for longer than may be now.
    pub(in crate::broker) fn stage(
        &self,
        message: &Message,
        mandatory: bool,
        publisher: Publisher<'_>,
        matches: &mut Matches,
    ) -> Result<Option<Staged>, Refusal> {
        matches.clear();
        let envelope = envelope(message)?;
        let topology = self.topology.read();
        let exchange = self.publishing_to(&topology, envelope.exchange)?;
        let wishes = check_properties(&envelope.properties, publisher)?;
        let copies = wishes.iter().flat_map(|wishes| &wishes.copies).flat_map(Copies::keys);
        let keys: Vec<_> = std::iter::once(envelope.routing_key).chain(copies).collect();
        let rewritten = wishes.as_ref().and_then(|wishes| wishes.rewrite(&envelope.properties));
        let properties =
            rewritten.as_deref().map_or(envelope.properties, RawProperties::from_checked);
        topology.route(exchange, &keys, &properties, matches);
        drop(topology);
        if matches.is_put_off() {
            return Ok(None);
        }
        Ok(Some(Staged {
            message: copy(&Envelope { properties, ..envelope }, message),
            mandatory,
            queues: matches.queues().iter().map(|queue| queue.name().clone()).collect(),
            replies: matches.replies().into(),
        }))
    }

    /// Stores a message in those of its queues that are there, and delivers it where it is a direct reply.
    pub(in crate::broker) fn publish_staged(
        &self,
        staged: &Staged,
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Routed, Refusal> {
        matches.clear();
        let envelope = envelope(&staged.message)?;
        // Locked until it is stored, as for every message.
        let topology = self.topology.read();
        for queue in staged.queues.iter().filter_map(|name| topology.queue(name)) {
            matches.add_queue(queue);
        }
        staged.replies.iter().for_each(|address| matches.add_reply(address));
        let expires = envelope.properties.expiration().is_some();
        let nature = Nature { altered: false, expires };
        let draft = Draft::Whole(&staged.message);
        let routed = self.store(&topology, &envelope, draft, nature, arrivals, matches)?;
        drop(topology);
        if staged.replies.is_empty() {
            return Ok(routed);
        }
        Ok(self.reply(&envelope, Draft::Whole(&staged.message), routed, arrivals, matches))
    }
}

pub(super) fn envelope(message: &Message) -> Result<Envelope<'_>, Refusal> {
    Envelope::parse(message.header()).map_err(|error| Refusal::new(Reason::InternalError, error))
}

/// The message in memory of its own: as it came, a piece of it may keep a whole read buffer, which nobody counts.
fn copy(envelope: &Envelope<'_>, message: &Message) -> Message {
    let header = envelope.encoded_len();
    let mut bytes = BytesMut::with_capacity(header + message.body_len());
    envelope.encode(&mut bytes);
    for piece in message.pieces() {
        bytes.extend_from_slice(piece.bytes());
    }
    Message::joined(bytes, header)
}
