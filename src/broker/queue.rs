//! A queue: who consumes from it, and handing its messages out to them.
//!
//! Everything that changes hangs on one lock per queue. Whoever brings something new (a message, an
//! acknowledgement, room in an outbox) dispatches right there, in its own task: there is no task
//! per queue to wake.

mod counting;
mod dead_letter_list;
mod dead_letter_transfer;
mod leaving;
mod lifetime;
mod purging;
mod reading;
mod removal;
mod requeuing;
mod serving;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use self::counting::{Uncounted, counted_body};
use self::dead_letter_list::DeadLetterList;
pub(super) use self::dead_letter_list::{Leaving, WINDOW};
pub(super) use self::lifetime::Lifetime;
#[cfg(test)]
pub(super) use self::purging::PURGED_AT_ONCE;
pub(super) use self::purging::Purge;
use self::purging::Purges;
pub(super) use self::removal::DeleteIf;
use super::arguments::turns;
use super::backlog::{Backlog, Supply, push_sequence};
use super::consumer::{Consumer, Returned};
use super::dead_letters::{Death, PendingSources};
use super::delivery::{ChannelNumber, Delivery, Get, Origin};
use super::in_force::InForce;
use super::levels::Levels;
use super::outbox::Outbox;
use super::refusal::{Reason, Refusal};
use super::rotation::{Rotation, Turns};
use super::session::SessionId;
use super::virtual_host::VirtualHost;
use super::workers::Workers;
use crate::message::{FieldTable, ShortStr};
use crate::storage::{
    Fetched, Lsn, Message, QueueId, Sequence, SequenceRange, StoreError, Timestamp,
};

/// A queue as it was declared.
#[derive(Debug, Clone)]
pub(super) struct QueueSpec {
    pub(super) name: ShortStr,
    pub(super) virtual_host: ShortStr,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    /// The connection that an exclusive queue belongs to.
    pub(super) owner: Option<SessionId>,
    pub(super) arguments: FieldTable,
}

/// A queue.
pub(super) struct Queue {
    spec: QueueSpec,
    store: Levels,
    /// When its declaration is durable; [`Lsn::ZERO`] where there is nothing to wait for.
    declared_at: Lsn,
    host: Weak<VirtualHost>,
    workers: Arc<Workers>,
    rules: InForce,
    /// `None` while nobody consumes and nothing is held: all live messages are ready then, and there is nothing to know of
    /// them. Most of a great many queues are like that most of the time.
    state: Mutex<Option<Box<State>>>,
}

/// What a queue in use has to know.
#[derive(Debug, Default)]
struct State {
    backlog: Backlog,
    consumers: Rotation,
    /// Handed out, in outboxes or held by channels.
    unacknowledged: u64,
    /// `basic.get` requests that wait for a message to be read from disk.
    gets: VecDeque<WaitingGet>,
    /// There was a `basic.get`: another will probably come, and is to find the place where the last one was.
    polled: bool,
    /// How often the loader has been asked to read messages back, and has not done so yet.
    reads: usize,
    /// All that is missing is being read: another read has found nothing to do.
    all_under_way: bool,
    /// Dead letters that wait to be carried away. They count as unacknowledged until they have arrived.
    dead_letters: DeadLetterList,
    /// The carrier has been told of them, or a channel transfers them.
    carried: bool,
    /// The topology, the rules or the room has changed since dead letters were taken.
    has_change: bool,
    /// When held dead letters are tried again.
    retry_at: Option<Timestamp>,
    /// The last pause before that.
    pause: Duration,
    /// Those that the carrier took last could not be stored.
    stuck: bool,
    /// Messages that have left and go nowhere. They count as unacknowledged until they are taken out.
    dropped: Vec<Sequence>,
    /// How many have left since the queue began to run, because their time is over or there are too many.
    left: usize,
    /// The last one that was looked at has left, and so may those behind it.
    emptying: bool,
    /// When the timer will wake the queue.
    wake_at: Option<Timestamp>,
    /// What has come to this place or behind it has not been looked at, whether it is to leave; `None`: that cannot be told.
    unseen_from: Option<Sequence>,
    /// Messages whose bodies have not been counted yet, since a policy bounds their bytes.
    uncounted: Option<Uncounted>,
    /// Purges that are under way. Their messages count as unacknowledged until they are removed.
    purges: Purges,
    /// The number of channels that are putting messages back in pieces: nothing is handed out meanwhile, so that it is handed
    /// out in order.
    requeues: usize,
    deleted: bool,
}

impl State {
    /// Whether nobody is there to get messages.
    fn is_unattended(&self) -> bool {
        self.consumers.is_empty() && self.gets.is_empty()
    }

    /// Whether there is nothing in it that is worth keeping.
    fn is_idle(&self) -> bool {
        !self.deleted
            && self.reads == 0
            && !self.polled
            && self.uncounted.is_none()
            && self.purges.is_empty()
            && self.requeues == 0
            && self.unacknowledged == 0
            && self.gets.is_empty()
            && self.dead_letters.len() == 0
            && !self.carried
            && self.consumers.is_empty()
            && self.backlog.is_empty()
    }
}

#[derive(Debug)]
struct WaitingGet {
    outbox: Arc<Outbox>,
    channel: ChannelNumber,
    no_ack: bool,
}

/// What a queue is told of messages that it has handed out.
#[derive(Debug)]
pub(super) struct Settled<'s> {
    /// Acknowledged, as ranges.
    pub(super) ranges: &'s [SequenceRange],
    /// How many these are.
    pub(super) acknowledged: u64,
    /// Rejected, where that is not the same as acknowledged.
    pub(super) rejected: &'s mut Vec<Rejected>,
    /// Who has got credit back.
    pub(super) consumers: &'s [Returned],
}

/// A message that was rejected for good.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) sequence: Sequence,
    /// Bytes of its body.
    pub(super) body: u32,
    /// The message, if it is in memory still.
    pub(super) message: Option<Message>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

/// Two are the same when they are the same queue of the store.
impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // Only what has rules, or messages that expire, has asked to be woken.
        if self.rules.remembered().is_some() {
            self.workers.timer.forget(self.id());
        }
    }
}

impl Queue {
    pub(super) fn new(
        spec: QueueSpec,
        store: Levels,
        declared_at: Option<Lsn>,
        host: Weak<VirtualHost>,
        workers: Arc<Workers>,
    ) -> Self {
        let rules = InForce::new(&spec.arguments);
        if rules.any()
            && let Some(timeout) = rules.get().consumer_timeout
        {
            workers.note_timeout(Duration::from_millis(timeout));
        }
        Self {
            rules,
            spec,
            store,
            declared_at: declared_at.unwrap_or(Lsn::ZERO),
            host,
            workers,
            state: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> QueueId {
        self.store.id()
    }

    pub(super) fn name(&self) -> &ShortStr {
        &self.spec.name
    }

    pub(super) fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    pub(super) fn store(&self) -> &Levels {
        &self.store
    }

    /// Who of its consumers gets messages. Looked up each time: many queues are never consumed from.
    fn turns(&self) -> Turns {
        turns(&self.spec.arguments)
    }

    /// The virtual host that it is in; `None` when that has gone.
    pub(super) fn host(&self) -> Option<Arc<VirtualHost>> {
        self.host.upgrade()
    }

    /// The rules that it goes by.
    pub(super) fn rules(&self) -> &InForce {
        &self.rules
    }

    /// Whether it has left the topology. Publishers have that locked while they ask.
    pub(super) fn is_gone(&self) -> bool {
        self.rules.is_gone.load(Relaxed)
    }

    /// The queue leaves the topology, which is locked exclusively.
    pub(super) fn set_gone(&self) {
        self.rules.is_gone.store(true, Relaxed);
    }

    /// Notes that one of its consumers, or all, are given so much time to acknowledge a delivery.
    pub(super) fn note_timeout(&self, timeout: Duration) {
        self.workers.note_timeout(timeout);
    }

    /// When its declaration is durable; `None` where there is nothing to wait for.
    pub(super) fn declared_at(&self) -> Option<Lsn> {
        Some(self.declared_at).filter(|declared_at| *declared_at > Lsn::ZERO)
    }

    /// Whether it is in the log: an exclusive queue goes with its connection, and a connection never
    /// survives a restart, so that "durable" means nothing for it.
    pub(super) fn is_stored(&self) -> bool {
        self.spec.durable && self.spec.owner.is_none()
    }

    /// `queue 'q' in vhost '/'`, as error texts name it.
    pub(super) fn label(&self) -> String {
        format!("queue '{}' in vhost '{}'", self.spec.name, self.spec.virtual_host)
    }

    /// Refuses others than the owner of an exclusive queue (405).
    pub(super) fn check_access(&self, session: SessionId) -> Result<(), Refusal> {
        match self.spec.owner {
            Some(owner) if owner != session => Err(self.locked()),
            _ => Ok(()),
        }
    }

    pub(super) fn locked(&self) -> Refusal {
        Refusal::new(
            Reason::ResourceLocked,
            format_args!(
                "cannot obtain exclusive access to locked {}. It could be originally declared on \
                 another connection or the exclusive property value does not match that of the \
                 original declaration.",
                self.label()
            ),
        )
    }

    /// Messages ready for delivery, and consumers.
    pub(super) fn counts(&self) -> (u32, u32) {
        match &*self.state.lock() {
            Some(state) => (self.ready(state), saturate(state.consumers.len() as u64)),
            None => (saturate(self.store.len()), 0),
        }
    }

    fn ready(&self, state: &State) -> u32 {
        saturate(self.store.len().saturating_sub(state.unacknowledged))
    }

    /// Adds a consumer and serves it. Refused when the queue has an exclusive consumer, or has consumers, or lets a single one be
    /// active, and this one wants to be exclusive (403), or has been deleted meanwhile (404).
    pub(super) fn add_consumer(self: &Arc<Self>, consumer: Arc<Consumer>) -> Result<(), Refusal> {
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return Err(self.not_found());
        }
        let taken = match state.consumers.any() {
            // What would be exclusive there is the activity, and that is the queue's to give.
            None => consumer.is_exclusive() && self.turns() == Turns::SingleByPriority,
            Some(one) => consumer.is_exclusive() || one.is_exclusive(),
        };
        if taken {
            return Err(Refusal::new(
                Reason::AccessRefused,
                format_args!("{} in exclusive use", self.label()),
            ));
        }
        let first = state.consumers.is_empty();
        state.consumers.add(consumer, self.turns());
        self.run(guard);
        if first {
            self.occupy();
        }
        Ok(())
    }

    /// RabbitMQ's quorum queues with a single active consumer are for consumers alone.
    fn refuse_get(&self) -> Refusal {
        Refusal::new(
            Reason::ResourceLocked,
            format_args!(
                "cannot obtain access to locked {}. basic.get operations are not supported by quorum \
                 queues with single active consumer",
                self.label()
            ),
        )
    }

    fn not_found(&self) -> Refusal {
        Refusal::new(Reason::NotFound, format_args!("no {}", self.label()))
    }

    /// Hands these consumers nothing more: they are going. The caller takes back what has not left their outbox. What they hold
    /// can be returned before they are [removed](Self::remove_stopped): where one is the single active one, the next finds
    /// everything in order.
    pub(super) fn stop_consumers(&self, consumers: &[Arc<Consumer>]) {
        if let Some(state) = &mut *self.state.lock() {
            consumers.iter().for_each(|consumer| state.consumers.stop(consumer));
        }
    }

    /// Removes consumers that have been [stopped](Self::stop_consumers). Returns whether the queue, declared auto-delete, has
    /// lost its last consumer by that.
    pub(super) fn remove_stopped(self: &Arc<Self>, consumers: &[Arc<Consumer>]) -> bool {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return false };
        let mut any = false;
        for consumer in consumers {
            any |= state.consumers.remove(consumer, self.turns());
        }
        any && self.consumers_removed(guard)
    }

    /// Serves the consumers that are left. Returns whether the queue, declared auto-delete, has lost its last one.
    fn consumers_removed(self: &Arc<Self>, guard: MutexGuard<'_, Option<Box<State>>>) -> bool {
        let last = guard.as_ref().is_none_or(|state| state.consumers.is_empty());
        self.run(guard);
        if last {
            self.touch();
        }
        self.spec.auto_delete && last
    }

    /// Removes a consumer, and takes back what has not left its outbox. Whether the queue, declared
    /// auto-delete, has lost its last consumer by that.
    pub(super) fn remove_consumer(self: &Arc<Self>, consumer: &Arc<Consumer>) -> bool {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return false };
        if !state.consumers.remove(consumer, self.turns()) {
            return false;
        }
        // Nothing more is put into the outbox for it: that happens under this lock.
        let retracted = consumer.outbox().retract_consumer(consumer);
        self.take_back(state, retracted);
        self.consumers_removed(guard)
    }

    /// Takes back deliveries that were never sent: they do not count as handed out.
    pub(super) fn give_back(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        let mut guard = self.state.lock();
        self.take_back(guard.get_or_insert_default(), deliveries);
        self.run(guard);
    }

    fn take_back(&self, state: &mut State, deliveries: Vec<Delivery>) {
        for Delivery { origin, sequence, deliveries, message } in deliveries {
            if let Some(consumer) = origin.consumer() {
                consumer.release_credit(1);
            }
            if !state.deleted {
                state.unacknowledged = state.unacknowledged.saturating_sub(1);
                let fetched = Fetched { sequence, message, deliveries };
                self.more_ready(counted_body(state.uncounted.as_ref(), &fetched));
                state.backlog.put_back_fetched(fetched);
            }
        }
    }

    /// `basic.get`.
    pub(super) fn get(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        channel: ChannelNumber,
        no_ack: bool,
        pending: &mut PendingSources,
    ) -> Result<Get, Refusal> {
        self.touch();
        let moment = self.moment(None);
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return Err(self.not_found());
        }
        if self.turns() == Turns::SingleByAge {
            return Err(self.refuse_get());
        }
        state.polled = true;
        // Whoever asked first is served first.
        let supply = if state.gets.is_empty() && state.requeues == 0 {
            self.supply(state, moment.as_ref())
        } else {
            Supply::OnDisk(Sequence::FIRST)
        };
        let got = match supply {
            Supply::Ready => match self.hand_out(state, no_ack) {
                Some(delivery) => Get::Message(delivery, self.left(state)),
                None => Get::Empty,
            },
            Supply::Empty => Get::Empty,
            Supply::OnDisk(_) => {
                state.gets.push_back(WaitingGet { outbox: Arc::clone(outbox), channel, no_ack });
                Get::Pending
            }
        };
        if moment.is_some() {
            // Messages may have left, and another one is next.
            self.run_for(guard, None, pending);
        }
        Ok(got)
    }

    /// How many messages are ready, those not counted that are to leave.
    fn left(self: &Arc<Self>, state: &mut State) -> u32 {
        self.look_after(state);
        self.ready(state)
    }

    /// Forgets the `basic.get` requests of a channel that is going.
    pub(super) fn forget_gets(&self, outbox: &Arc<Outbox>, channel: ChannelNumber) {
        if let Some(state) = &mut *self.state.lock() {
            state.gets.retain(|get| get.channel != channel || !Arc::ptr_eq(&get.outbox, outbox));
        }
    }

    fn hand_out(self: &Arc<Self>, state: &mut State, no_ack: bool) -> Option<Delivery> {
        let fetched = state.backlog.pop()?;
        self.less_ready(counted_body(state.uncounted.as_ref(), &fetched));
        let Fetched { sequence, message, deliveries } = fetched;
        state.unacknowledged += 1;
        let origin = Origin::Get { queue: Arc::clone(self), no_ack };
        Some(Delivery { origin, sequence, deliveries, message })
    }

    /// Counts hand-outs, so that `redelivered` survives a restart.
    pub(super) fn mark_delivered(&self, delivered: &[(Sequence, u32)]) -> Result<(), StoreError> {
        let guard = self.state.lock();
        if delivered.is_empty() || guard.as_ref().is_some_and(|state| state.deleted) {
            return Ok(());
        }
        self.store.mark_delivered(delivered)
    }

    /// Settles messages that have been acknowledged or rejected. The credit for them has been released already. Returns when the
    /// acknowledgements are durable, if they are to be.
    pub(super) fn settle(
        self: &Arc<Self>,
        settled: &mut Settled<'_>,
        pending: &mut PendingSources,
    ) -> Result<Option<Lsn>, StoreError> {
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return Ok(None);
        }
        let mut outcome = Ok(None);
        if settled.acknowledged > 0 {
            state.unacknowledged = state.unacknowledged.saturating_sub(settled.acknowledged);
            outcome = self.store.acknowledge(settled.ranges).map(|done| done.durable_at);
        }
        let rejected = settled.rejected.drain(..);
        match self.moment(None) {
            Some(moment) => rejected.for_each(|Rejected { sequence, body, message }| {
                let leaving = Leaving { sequence, death: Death::Rejected, message };
                self.discard(state, &moment, leaving, body as usize);
            }),
            // A policy has gone since they were rejected: that is the same as acknowledged now.
            None => state.dropped.extend(rejected.map(|rejected| rejected.sequence)),
        }
        settled.consumers.iter().for_each(|returned| state.consumers.unpark(&returned.consumer));
        self.run_for(guard, None, pending);
        outcome
    }

    /// Hands out what can be handed out. `arrival`: when the first of the messages was published that have just
    /// arrived, if that is known.
    pub(super) fn dispatch(
        self: &Arc<Self>,
        arrival: Option<Timestamp>,
        pending: &mut PendingSources,
    ) {
        self.run_for(self.state.lock(), arrival, pending);
    }

    /// The timer says that it is time, for the earliest of what it was asked for. It is asked again for the rest.
    pub(super) fn wake(self: &Arc<Self>) {
        let mut guard = self.state.lock();
        if let Some(state) = &mut *guard {
            state.wake_at = None;
            self.retry_in_time(state, self.workers.timer.now());
        }
        self.run(guard);
        self.expire();
    }

    /// A consumer that was refused for lack of room or of its channel's credit may be served again.
    pub(super) fn resume(self: &Arc<Self>, consumer: &Arc<Consumer>) {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return };
        state.consumers.unpark(consumer);
        self.run(guard);
    }
}

/// Counts on the wire have 32 bits.
fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
