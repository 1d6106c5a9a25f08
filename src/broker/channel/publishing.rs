//! Publishing on a channel that is not transactional, and confirming what was published.

use bytes::Bytes;

use super::Channel;
use crate::broker::confirms::{Confirm, Confirms};
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::routing::Effort;
use crate::broker::virtual_host::Routed;
use crate::message::{Envelope, Scratch};
use crate::storage::{Draft, Lsn, Message, MessageMemory};

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
    /// `confirm.select`: messages published from now on are confirmed. Asking twice changes nothing.
    ///
    /// Direct replies are then sent by [`flush`](Self::flush), so that a front end can send their [confirms](Self::confirms) before.
    ///
    /// # Errors
    /// 406 when the channel is transactional.
    pub fn confirm_select(&mut self) -> Result<(), Refusal> {
        if self.is_transactional() {
            let why = "cannot switch from tx to confirm mode";
            return Err(Refusal::new(Reason::PreconditionFailed, why));
        }
        self.confirms.get_or_insert_default();
        self.arrivals.holds_replies = true;
        Ok(())
    }

    /// `basic.publish`, where there is no transaction (in one, [`stage`](Self::stage) it). Exchange, routing key, headers and
    /// delivery mode are those of the message's [`Envelope`](crate::message::Envelope).
    ///
    /// # Errors
    /// 403 internal exchange, 404 no such exchange, 406 too large for the store, another user's `user-id`, a malformed
    /// property; 506 the disk is full, and it may be published again later.
    pub fn publish(&mut self, message: &Message) -> Result<Published, Refusal> {
        loop {
            if let Some(published) = self.publish_some(message, Effort::Whole)? {
                return Ok(published);
            }
        }
    }

    /// Does this with bounded effort. Returns `None` if that was not enough: nothing has been done then, and the
    /// channel must be given the same message again before any other.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_some(
        &mut self,
        message: &Message,
        effort: Effort,
    ) -> Result<Option<Published>, Refusal> {
        let envelope = Envelope::parse(message.header())
            .map_err(|error| Refusal::new(Reason::InternalError, error))?;
        self.publish_draft(&envelope, message.into(), effort)
    }

    /// Publishes a message that need not stay in memory, and is not in memory of its own: it is copied to `memory` if it has
    /// to stay. Returns `None` if it takes more effort than [`Effort::Glance`]: nothing has been done then, and nothing of
    /// the message is kept.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_pieces(
        &mut self,
        envelope: &Envelope<'_>,
        body: &[u8],
        memory: &MessageMemory,
    ) -> Result<Option<Published>, Refusal> {
        let mut scratch = Scratch::default();
        let header = envelope.pieces(&mut scratch);
        let message = Draft::Pieces { header: &header, body, memory };
        self.publish_draft(envelope, message, Effort::Glance)
    }

    fn publish_draft(
        &mut self,
        envelope: &Envelope<'_>,
        message: Draft<'_>,
        effort: Effort,
    ) -> Result<Option<Published>, Refusal> {
        let virtual_host = &self.session.virtual_host;
        self.powers.check_publish(envelope, || virtual_host.is_topic(envelope.exchange))?;
        // A confirm vouches for what the channel did before as well: whoever acknowledges a message, publishes its result
        // and sees that confirmed, will not see the message again.
        if self.confirms.is_some() && self.settlement.is_pending() {
            let settled = self.settlement.flush(&mut self.pending_sources);
            self.resume_starved();
            settled?;
        }
        let publisher = self.session.publisher(self.reply_consumer.as_deref());
        let virtual_host = &self.session.virtual_host;
        let (arrivals, matches) = (&mut self.arrivals, &mut self.matches);
        matches.start(effort, self.session.steps_left());
        let routed = virtual_host.publish(envelope, message, publisher, arrivals, matches);
        self.session.note_steps(matches.steps_taken());
        if routed.as_ref().is_ok_and(|routed| routed.is_put_off) {
            return Ok(None);
        }
        matches.finish();
        let routed = routed?;
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
        Ok(Some(Published { queues, refused, replies, rewritten }))
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

    /// Whether a message can be confirmed that waits for nothing.
    #[must_use]
    pub fn has_confirm(&self) -> bool {
        self.confirms.as_ref().is_some_and(Confirms::is_ready)
    }

    /// What may be confirmed when the store is durable up to `durable`: one confirm for as much as one can stand for, so
    /// ask until there is none. Ask after publishing, too: messages that are not persistent need not wait.
    pub fn confirms(&mut self, durable: Lsn) -> Option<Confirm> {
        self.confirms.as_mut()?.take(durable)
    }
}
