//! A connection, as far as the broker is concerned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use super::access::Accounts;
use super::channel::Channel;
use super::connections::{Connections, Live};
use super::delivery::{ChannelNumber, Delivery, Event};
use super::outbox::Outbox;
use super::promises::Publisher;
use super::refusal::{Reason, Refusal};
use super::replies::ReplyConsumer;
use super::routing::STEPS_OF_A_TURN;
use super::transaction::StagedBytes;
use super::virtual_host::VirtualHost;
use crate::message::ShortStr;
use crate::storage::QueueId;

/// Tells connections apart for as long as the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionId(pub(super) u64);

/// One client's connection: a user, a virtual host, and the events that wait to be sent.
///
/// Dropping it is how a connection ends, cleanly or not: its exclusive queues are deleted, and what waits in its outbox goes
/// back to the queues. Channels return what they hold when they are dropped; drop them first, or
/// nobody can get their messages before that.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    has_ended: bool,
    /// The last of its exclusive queues that has been deleted at its end.
    deleted: Option<QueueId>,
}

/// Expired deliveries are looked for once in a quarter of the shortest time-out, within these bounds: one that a client has
/// chosen must not keep others busy.
const SHORTEST_LOOK: Duration = Duration::from_millis(250);
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// Exclusive queues that a connection deletes at its end before others of its thread have their turn.
const DELETED_AT_ONCE: usize = 64;

/// What a session's channels need of it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SessionId,
    pub(super) user: ShortStr,
    pub(super) virtual_host: Arc<VirtualHost>,
    pub(super) outbox: Arc<Outbox>,
    /// What the transactions of its channels hold.
    pub(super) staged: Arc<StagedBytes>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) connections: Arc<Connections>,
    /// What others may see of it.
    pub(super) live: Arc<Live>,
    /// It has deleted something that has left stale bindings.
    pub(super) prunes: AtomicBool,
    /// The steps that its messages may still take in this turn to find out where they go, without waiting for theirs.
    pub(super) steps: AtomicU64,
}

impl Shared {
    /// Something has perhaps been deleted: its connection prunes the bindings to it.
    pub(super) fn note_deletion(&self) {
        if self.virtual_host.has_stale() {
            self.prunes.store(true, Relaxed);
        }
    }

    /// The steps that a message may take in this turn.
    pub(super) fn steps_left(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    /// A message has taken so many steps.
    pub(super) fn note_steps(&self, steps: u64) {
        if steps > 0 {
            self.steps.store(self.steps.load(Relaxed).saturating_sub(steps), Relaxed);
        }
    }

    /// Who publishes on a channel with that consumer of direct replies.
    pub(super) fn publisher<'p>(&'p self, replies: Option<&'p ReplyConsumer>) -> Publisher<'p> {
        Publisher { user: &self.user, reply_address: replies.map(ReplyConsumer::address) }
    }
}

impl Session {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), has_ended: false, deleted: None }
    }

    /// The connection has its turn: others have had theirs. Its messages may take the steps of a
    /// [piece](crate::broker::Effort::Piece) together with [glances](crate::broker::Effort::Glance).
    pub fn begin_turn(&self) {
        self.shared.steps.store(STEPS_OF_A_TURN, Relaxed);
    }

    /// Says where the connection comes from, for people to read. The first time counts.
    pub fn set_peer(&self, peer: String) {
        self.shared.live.peer.get_or_init(|| peer);
    }

    /// Why the connection is to be closed (320, `CONNECTION_FORCED`): an operator wants it, or its virtual host or user has been deleted.
    /// Said once. [`poll_events`](Self::poll_events) is ready when there is something to say.
    #[must_use]
    pub fn take_order_to_close(&self) -> Option<String> {
        self.shared.outbox.take_order()
    }

    /// Refuses a channel too many for the user, on all connections together. To be asked before [`open_channel`](Self::open_channel).
    ///
    /// # Errors
    /// 530.
    pub fn check_channel_limit(&self) -> Result<(), Refusal> {
        let Shared { user, accounts, connections, .. } = &*self.shared;
        match accounts.limits(user).max_channels {
            Some(limit) if connections.channels_of(user) >= limit => Err(Refusal::new(
                Reason::NotAllowed,
                format_args!(
                    "number of channels opened for user '{user}' has reached the maximum allowed \
                     user limit of ({limit})"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// How long after one look for [expired deliveries](super::Channel::check_timeouts) the next is due; `None`: nothing can expire.
    #[must_use]
    pub fn timeout_interval(&self) -> Option<Duration> {
        let shortest = self.shared.virtual_host.shortest_timeout()?;
        Some((shortest / 4).clamp(SHORTEST_LOOK, LONGEST_LOOK))
    }

    /// The user who has authenticated.
    #[must_use]
    pub fn user(&self) -> &ShortStr {
        &self.shared.user
    }

    /// A new channel. The front end sees to it that no two have the same number at the same time.
    #[must_use]
    pub fn open_channel(&self, number: ChannelNumber) -> Channel {
        Channel::new(Arc::clone(&self.shared), number)
    }

    /// Ready when there are events to take; otherwise the context's waker is called as soon as there are.
    /// For one task at a time: the last waker counts.
    pub fn poll_events(&self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.outbox.poll(context)
    }

    /// The same for whoever has no room for events: ready when the connection is [to be closed](Self::take_order_to_close).
    pub fn poll_order(&self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.outbox.poll_order(context)
    }

    /// Moves events to the end of `events`, until none are left or `bytes` bytes of messages have been moved (the last
    /// one may go beyond). Where that makes room, the queues are asked for more.
    ///
    /// Every event taken has to be dealt with before a channel is dropped that it belongs to.
    pub fn take_events(&self, events: &mut Vec<Event>, bytes: usize) {
        for consumer in self.shared.outbox.take(events, bytes) {
            consumer.queue().resume(&consumer);
        }
    }

    /// Bytes of memory that the virtual host's queues, exchanges and bindings take.
    #[must_use]
    pub fn topology_memory(&self) -> usize {
        self.shared.virtual_host.topology.read().memory.all()
    }

    /// Whether something that it has deleted has left bindings behind, which lead nowhere.
    #[must_use]
    pub fn has_to_prune(&self) -> bool {
        self.shared.prunes.load(Relaxed)
    }

    /// Removes some of these bindings. To be called until [there are no more](Self::has_to_prune), before anything else is done
    /// for the client, and with others having their turn in between.
    pub fn prune_some(&self) {
        if self.has_to_prune() && !self.shared.virtual_host.prune_some() {
            self.shared.prunes.store(false, Relaxed);
        }
    }

    /// Ends the session, as dropping it does.
    pub fn close(self) {}

    /// Ends the session, but deletes only some of its exclusive queues. Returns whether none is left: until then, it is to be
    /// called again.
    pub fn close_some(&mut self) -> bool {
        let Shared { id, virtual_host, outbox, connections, .. } = &*self.shared;
        if !std::mem::replace(&mut self.has_ended, true) {
            connections.remove(*id);
            outbox.close();
            give_back(outbox.retract_all());
        }
        if virtual_host.prune_some() {
            return false;
        }
        let owned = virtual_host.owned_after(*id, self.deleted, DELETED_AT_ONCE);
        for queue in &owned {
            virtual_host.delete_owned(queue);
            self.deleted = Some(queue.id());
            if virtual_host.has_stale() {
                return false;
            }
        }
        owned.len() < DELETED_AT_ONCE
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        while !self.close_some() {}
    }
}

/// Returns deliveries that never left the outbox to their queues.
pub(super) fn give_back(mut deliveries: Vec<Delivery>) {
    deliveries.sort_by_key(|delivery| delivery.origin.queue().id());
    while let Some(last) = deliveries.last() {
        let queue = Arc::clone(last.origin.queue());
        let begins =
            deliveries.partition_point(|delivery| delivery.origin.queue().id() < queue.id());
        queue.give_back(deliveries.split_off(begins));
    }
}
