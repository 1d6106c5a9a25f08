//! A channel: what one client does on it, without the frames.

mod closing;
mod consuming;
mod declaring;
mod expiring;
mod publishing;
mod settling;
mod transacting;
mod working;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use self::closing::Closing;
use self::expiring::Marks;
use self::working::Work;
use super::access::Powers;
use super::arrivals::Arrivals;
use super::confirms::Confirms;
use super::consumer::{ChannelCredit, Consumer};
use super::dead_letters::PendingSources;
use super::delivery::{ChannelNumber, DeliveryTag};
use super::queue::Queue;
use super::replies::ReplyConsumer;
use super::routing::Matches;
use super::session::Shared;
use super::settlement::Settlement;
use super::transaction::Transaction;
use super::unacknowledged::Unacknowledged;
use crate::message::ShortStr;
use crate::storage::StoreError;

pub use publishing::Published;
pub use transacting::Committed;
#[cfg(test)]
pub(super) use working::PIECE;
pub use working::{Done, Step};

/// One AMQP channel (AMQP 0-9-1, section 1.5). It belongs to the task of its connection; nothing here waits for the disk.
///
/// Where an answer holds an [`Lsn`](crate::storage::Lsn), it must not be sent before the store is durable up to there.
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
    /// When these were delivered, roughly.
    marks: Marks,
    settlement: Settlement,
    /// Queues that have got messages, and have not looked for consumers since.
    arrivals: Arrivals,
    /// Queues that have dead letters because of the channel's methods.
    pending_sources: PendingSources,
    /// Queues that owe an answer to `basic.get`.
    pending_gets: Vec<Arc<Queue>>,
    /// What an empty queue name stands for.
    last_queue: Option<ShortStr>,
    /// A method that is done in pieces, and under way.
    work: Option<Work>,
    closing: Closing,
}

impl Channel {
    pub(super) fn new(session: Arc<Shared>, number: ChannelNumber) -> Self {
        let credit = ChannelCredit::new(session.virtual_host.limits().unacknowledged);
        let Shared { accounts, user, virtual_host, live, .. } = &*session;
        let unacknowledged = Unacknowledged::new(&virtual_host.store);
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
            unacknowledged,
            marks: Marks::default(),
            settlement: Settlement::default(),
            arrivals: Arrivals::default(),
            pending_sources: PendingSources::default(),
            pending_gets: Vec::new(),
            last_queue: None,
            work: None,
            closing: Closing::default(),
        }
    }

    /// The channel's number.
    #[must_use]
    pub fn number(&self) -> ChannelNumber {
        self.number
    }

    /// Whether [`Channel::flush`] has something to tell, or to have handed out.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.arrivals.is_pending()
            || self.settlement.is_pending()
            || self.pending_sources.is_pending()
    }

    /// Tells the queues what has been accepted and acknowledged since the last time; that frees credit, and more may be
    /// delivered at once. Has what was published handed out, and direct replies sent.
    ///
    /// # Errors
    /// Those of the store. Everything has been told all the same.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let outcome = self.settlement.flush(&mut self.pending_sources);
        self.hand_out();
        self.arrivals.send_replies(self.session.virtual_host.replies());
        self.resume_starved();
        self.unacknowledged.rest();
        outcome
    }

    /// Has published messages handed out. Transfers dead letters where they are few.
    pub fn hand_out(&mut self) {
        self.arrivals.dispatch(&mut self.pending_sources);
        self.pending_sources.transfer();
    }

    /// Lets consumers that wait for credit of the channel take turns.
    fn resume_starved(&self) {
        while let Some(consumer) = self.credit.next_turn() {
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
        while !self.close_some() {}
    }
}
