//! Using the store: what each action does, what it has to come to, and what has to be true afterwards.
//!
//! | what goes wrong | what is right |
//! |---|---|
//! | a write or a sync fails | the action fails, and so does all that is tried afterwards; nothing becomes durable, the disk is left alone |
//! | the disk is full | what is new may be refused, and waiting; acknowledgements, hand-outs and deletions are taken |
//! | a read fails, or gives wrong bytes | messages may be set aside, and are counted; what is read is right |
//! | a transfer is short, or interrupted | nobody notices |
//!
//! All else succeeds, and whatever is read is what was put there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::execution::Run;
use super::failure::{Failure, FailureKind};
use super::plan::Action;
use crate::simulation::ledger::{Known, KnownChange};
use crate::storage::{
    Fetch, Fetched, Lsn, Message, Operation, Persistence, Queue, QueueId, Sequence, SequenceRange,
    StoreError,
};

/// How many durable queues there are at most.
const QUEUES: usize = 6;

/// Why an action was not carried out.
pub(super) enum Trouble {
    /// The engine says so; true: of something that has to be taken from a full disk as well.
    Store(StoreError, bool),
    Found(Failure),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Store(error, false)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Found(failure)
    }
}

/// Of what makes room, or takes none.
fn always(error: StoreError) -> Trouble {
    Trouble::Store(error, true)
}

fn differs(what: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Differs, what)
}

/// What has to be in a queue.
type Places = BTreeMap<Sequence, Known>;

impl Run<'_> {
    pub(super) fn use_store(&mut self, action: &Action) -> Result<(), Trouble> {
        match action {
            Action::CreateQueue => {
                if self.driver().store().queues().len() < QUEUES {
                    self.published += 1;
                    let attributes = self.published.to_le_bytes();
                    self.driver().create_queue(&attributes)?;
                }
                Ok(())
            }
            Action::Change { put, remove, delete } => self.change(*put, *remove, *delete),
            Action::Publish { queues, bytes, times, durable } => {
                (0..*times).try_for_each(|_| self.publish(*queues, *bytes, *durable))
            }
            Action::HandOut { queue, skip, count } => {
                self.hand_out(*queue, (*skip).into(), (*count).into())
            }
            Action::Acknowledge { queue, skip, count, step } => {
                self.acknowledge(*queue, (*skip).into(), (*count).into(), (*step).into())
            }
            Action::Replace { queue, skip, count, queues, bytes, times, durable } => {
                let ranges = self.some_of(*queue, (*skip).into(), (*count).into(), 1);
                self.replace(ranges, *queues, *bytes, *times, *durable)
            }
            Action::Purge { queue } => {
                let Some(queue) = self.pick(*queue) else { return Ok(()) };
                let all = SequenceRange { first: Sequence::FIRST, last: Sequence::new(u64::MAX) };
                self.driver().acknowledge(&queue, &[all]).map_err(always)?;
                self.passing.remove(&queue.id());
                Ok(())
            }
            Action::Confirm => Ok(self.driver().confirm()?),
            Action::Checkpoint => Ok(self.driver().store().checkpoint()?),
            Action::Compact => {
                self.summary.moved += self.driver().store().compact()?.messages;
                Ok(())
            }
            _ => self.check(),
        }
    }

    /// There is room again: what was held back goes on.
    pub(super) fn resume(&mut self) -> Result<(), Trouble> {
        self.driver().confirm()?;
        // Unless it has failed over it: what was waited for may be safe nevertheless.
        if self.driver().store().is_full() && !self.watch.lock().is_fatal() {
            return Err(differs("there is room, and the store is full all the same").into());
        }
        Ok(())
    }

    /// What has become of an action, and of the store.
    pub(super) fn settle(
        &mut self,
        action: &Action,
        outcome: Result<(), Trouble>,
    ) -> Result<(), Failure> {
        self.driver().note_what_is_durable();
        self.has_waited = matches!(action, Action::Confirm) && outcome.is_ok();
        self.may_be_unreadable();
        if self.watch.lock().is_fatal() {
            if !self.disk.is_off() {
                // Who waits for what was written before the failure is told that it is durable, which it is; be it to read it, or
                // because there is room again.
                let waits = matches!(
                    action,
                    Action::Confirm | Action::Room | Action::Check | Action::HandOut { .. }
                );
                if outcome.is_ok() && !waits {
                    let what = format!("it succeeds although the disk fails: {action}");
                    return Err(Failure::new(FailureKind::PassedOver, what));
                }
                self.goes_nowhere()?;
            }
            if let Err(Trouble::Found(failure)) = outcome {
                return Err(failure);
            }
            return self.give_up();
        }
        match outcome {
            Ok(()) => {}
            Err(Trouble::Found(failure)) => return Err(failure),
            Err(Trouble::Store(StoreError::Full, false)) if self.is_full() => {
                self.summary.refused_full += 1;
                if !self.driver().store().is_full() {
                    return Err(differs("something is refused as if the disk were full"));
                }
            }
            Err(Trouble::Store(StoreError::NoRoom { .. }, false)) if self.is_full() => {
                self.summary.refused_full += 1;
            }
            Err(Trouble::Store(error @ StoreError::Unreadable { .. }, _))
                if self.may_be_unreadable() && !error.to_string().is_empty() => {}
            Err(Trouble::Store(error, _)) => {
                return Err(Failure::new(FailureKind::Refused, format!("{action}: {error}")));
            }
        }
        self.count_messages()
    }

    /// A store that has failed takes nothing, confirms nothing, and leaves the disk alone.
    fn goes_nowhere(&mut self) -> Result<(), Failure> {
        let changes = self.watch.lock().changes;
        let store = self.driver().store();
        let durable = store.durable_lsn();
        let message = Message::new("header", "too late");
        let queues = store.queues();
        let targets: Vec<&Queue> = queues.iter().take(1).collect();
        let attempts = [
            ("a wait", store.wait_durable(Lsn::MAX).err()),
            ("a new queue", store.create_queue(b"too late").err()),
            ("a checkpoint", store.checkpoint().err()),
            ("operations together", store.apply_together(&[]).err()),
            (
                "a message",
                match &targets[..] {
                    [] => Some(StoreError::Failed("there is no queue".into())),
                    some => store.append(&message, Persistence::Durable, some).err(),
                },
            ),
        ];
        let moved = store.durable_lsn() != durable;
        for (what, refused) in attempts {
            if !matches!(refused, Some(StoreError::Failed(_))) {
                let what = format!("after a failure {what} comes to {refused:?}");
                return Err(Failure::new(FailureKind::GoesOn, what));
            }
        }
        if moved || self.watch.lock().changes != changes {
            let what = "after a failure something is written, or said to be durable";
            return Err(Failure::new(FailureKind::GoesOn, what));
        }
        Ok(())
    }

    /// The durable queues by number, then the volatile one.
    fn queues(&mut self) -> Vec<Queue> {
        let volatile = self.volatile.clone();
        let mut queues = self.driver().store().queues();
        queues.sort_by_key(Queue::id);
        queues.extend(volatile);
        queues
    }

    fn pick(&mut self, number: u8) -> Option<Queue> {
        let mut queues = self.queues();
        let index = usize::from(number).checked_rem(queues.len())?;
        Some(queues.swap_remove(index))
    }

    /// What has to be in the queues.
    fn expected(&self) -> BTreeMap<QueueId, Places> {
        let mut all: BTreeMap<QueueId, Places> = BTreeMap::new();
        for (id, queue) in self.ledger().latest().queues {
            all.insert(id, queue.messages);
        }
        for (id, places) in &self.passing {
            all.entry(*id).or_default().extend(places.clone());
        }
        all
    }

    fn expected_in(&self, queue: &Queue) -> Places {
        self.expected().remove(&queue.id()).unwrap_or_default()
    }

    fn change(
        &mut self,
        put: Option<(u8, u16)>,
        remove: Option<u8>,
        delete: Option<u8>,
    ) -> Result<(), Trouble> {
        let mut changes = Vec::new();
        if let Some((key, bytes)) = put {
            changes.push(KnownChange::Put(vec![key], vec![key ^ 0x5a; bytes.into()]));
        }
        changes.extend(remove.map(|key| KnownChange::Remove(vec![key])));
        let deleted = delete.and_then(|number| self.pick(number)).filter(Queue::is_durable);
        changes.extend(deleted.iter().map(|queue| KnownChange::DeleteQueue(queue.id())));
        let outcome = self.driver().apply(&changes);
        match put {
            Some(_) => outcome?,
            None => outcome.map_err(always)?,
        }
        if let Some(queue) = deleted {
            self.passing.remove(&queue.id());
        }
        Ok(())
    }

    fn publish(&mut self, queues: u8, bytes: u32, durable: bool) -> Result<(), Trouble> {
        let targets = self.targets(queues);
        let targets: Vec<&Queue> = targets.iter().collect();
        if targets.is_empty() {
            return Ok(());
        }
        self.published += 1;
        let body = body(self.published, bytes as usize);
        let places: Vec<_> = targets.iter().map(|queue| queue.next_sequence()).collect();
        if durable {
            self.driver().publish(body.clone(), &targets)?;
        } else {
            self.driver().publish_transient(body.clone(), &targets)?;
        }
        for (queue, place) in targets.iter().zip(places) {
            self.note_passing(queue, place, &body, durable);
        }
        Ok(())
    }

    /// Acknowledges messages of a queue and publishes others, all at once.
    fn replace(
        &mut self,
        gone: Option<(Queue, Vec<SequenceRange>)>,
        queues: u8,
        bytes: u32,
        times: u8,
        durable: bool,
    ) -> Result<(), Trouble> {
        let targets = self.targets(queues);
        let references: Vec<&Queue> = targets.iter().collect();
        let first: Vec<Sequence> = targets.iter().map(Queue::next_sequence).collect();
        let times = if targets.is_empty() { 0 } else { times };
        let bodies: Vec<Bytes> = (1..=u64::from(times))
            .map(|number| body(self.published + number, bytes as usize))
            .collect();
        self.published += u64::from(times);
        let messages: Vec<Message> =
            bodies.iter().map(|body| Message::new("header", body)).collect();
        let persistence = if durable { Persistence::Durable } else { Persistence::Transient };
        let appends = messages.iter().map(|message| Operation::Append {
            message: message.into(),
            persistence,
            queues: &references,
        });
        let acknowledge =
            gone.as_ref().map(|(queue, ranges)| Operation::Acknowledge { queue, ranges });
        let operations: Vec<Operation<'_>> = appends.chain(acknowledge).collect();
        let outcome = self.driver().apply_together(&operations);
        // What only makes room is taken in any case.
        outcome.map_err(|error| Trouble::Store(error, times == 0))?;
        if let Some((queue, ranges)) = gone {
            self.forget_passing(&queue, &ranges);
        }
        for (number, body) in (0..).zip(&bodies) {
            for (queue, first) in targets.iter().zip(&first) {
                self.note_passing(queue, Sequence::new(first.get() + number), body, durable);
            }
        }
        Ok(())
    }

    /// The queues that these bits mean; there is a volatile one from the first time on that it is meant.
    fn targets(&mut self, queues: u8) -> Vec<Queue> {
        if queues & 0x80 != 0 && self.volatile.is_none() {
            self.volatile = Some(self.driver().store().create_volatile_queue());
        }
        let all = self.queues();
        let bits = all.iter().enumerate().filter(|(at, _)| queues & (1 << (at % 8)) != 0);
        let targets: Vec<Queue> = bits.map(|(_, queue)| queue.clone()).collect();
        if targets.is_empty() {
            return all.iter().cycle().skip(queues.into()).take(1).cloned().collect();
        }
        targets
    }

    /// Notes a message that no restart brings back, if it is one.
    fn note_passing(&mut self, queue: &Queue, place: Sequence, body: &Bytes, durable: bool) {
        if !durable || !queue.is_durable() {
            let known = Known { header: "header".into(), body: body.clone(), deliveries: 0 };
            self.passing.entry(queue.id()).or_default().insert(place, known);
        }
    }

    fn forget_passing(&mut self, queue: &Queue, ranges: &[SequenceRange]) {
        if let Some(passing) = self.passing.get_mut(&queue.id()) {
            passing.retain(|place, _| {
                !ranges.iter().any(|range| (range.first..=range.last).contains(place))
            });
        }
    }

    /// Reads so many messages from a place on.
    fn read(
        &mut self,
        queue: &Queue,
        from: Sequence,
        limit: usize,
    ) -> Result<Vec<Fetched>, Trouble> {
        let (mut from, mut all) = (from, Vec::new());
        while all.len() < limit {
            let mut fetched = Vec::new();
            if queue.fetch(from, limit - all.len(), &mut fetched) == Fetch::NeedsLoad {
                queue.load(from)?;
                continue;
            }
            let Some(last) = fetched.last() else { break };
            from = last.sequence.next();
            all.append(&mut fetched);
        }
        Ok(all)
    }

    fn hand_out(&mut self, queue: u8, skip: usize, count: usize) -> Result<(), Trouble> {
        let Some(queue) = self.pick(queue) else { return Ok(()) };
        let expected = self.expected_in(&queue);
        let Some((from, _)) = expected.iter().nth(skip) else { return Ok(()) };
        let fetched = self.read(&queue, *from, count)?;
        fetched.iter().try_for_each(|found| compare(&queue, &expected, found))?;
        let wanted = expected.range(*from..).take(count).map(|(place, _)| *place);
        let exact = wanted.eq(fetched.iter().map(|found| found.sequence));
        if !exact && self.driver().store().set_aside() == 0 {
            let places: Vec<_> = fetched.iter().map(|found| found.sequence.get()).collect();
            return Err(differs(format!("queue {}: fetched {places:?}", queue.id())).into());
        }
        let counts: Vec<_> =
            fetched.iter().map(|found| (found.sequence, found.deliveries + 1)).collect();
        self.driver().deliver(&queue, &counts).map_err(always)?;
        if let Some(passing) = self.passing.get_mut(&queue.id()) {
            for (place, count) in counts {
                if let Some(known) = passing.get_mut(&place) {
                    known.deliveries = count;
                }
            }
        }
        Ok(())
    }

    fn acknowledge(
        &mut self,
        queue: u8,
        skip: usize,
        count: usize,
        step: usize,
    ) -> Result<(), Trouble> {
        let Some((queue, ranges)) = self.some_of(queue, skip, count, step) else { return Ok(()) };
        self.driver().acknowledge(&queue, &ranges).map_err(always)?;
        self.forget_passing(&queue, &ranges);
        Ok(())
    }

    /// The places of some of a queue's messages, each `step`th, behind those that are passed over; `None`: there are none.
    fn some_of(
        &mut self,
        queue: u8,
        skip: usize,
        count: usize,
        step: usize,
    ) -> Option<(Queue, Vec<SequenceRange>)> {
        let queue = self.pick(queue)?;
        let expected = self.expected_in(&queue);
        let places = expected.keys().skip(skip).step_by(step.max(1)).take(count);
        let mut ranges: Vec<SequenceRange> = Vec::new();
        for place in places {
            match ranges.last_mut() {
                Some(range) if range.last.next() == *place => range.last = *place,
                _ => ranges.push(SequenceRange::one(*place)),
            }
        }
        (!ranges.is_empty()).then_some((queue, ranges))
    }

    /// How many messages there are is always known.
    fn count_messages(&mut self) -> Result<(), Failure> {
        let expected = self.expected();
        for queue in self.queues() {
            let known = expected.get(&queue.id()).map_or(0, BTreeMap::len) as u64;
            if queue.len() != known {
                let (id, len) = (queue.id(), queue.len());
                return Err(differs(format!("queue {id} has {len} messages and not {known}")));
            }
        }
        Ok(())
    }

    /// Reads and compares everything.
    fn check(&mut self) -> Result<(), Trouble> {
        self.summary.checks += 1;
        let entries = self.ledger().latest().entries;
        let expected = self.expected();
        let mut missing = 0;
        for queue in self.queues() {
            let known = expected.get(&queue.id()).cloned().unwrap_or_default();
            let fetched = self.read(&queue, Sequence::FIRST, usize::MAX)?;
            fetched.iter().try_for_each(|found| compare(&queue, &known, found))?;
            let places: BTreeSet<_> = fetched.iter().map(|found| found.sequence).collect();
            if places.len() < fetched.len() {
                return Err(differs(format!("queue {} gives a message twice", queue.id())).into());
            }
            missing += (known.len() - fetched.len()) as u64;
        }
        let aside = self.driver().store().set_aside();
        if missing > aside {
            return Err(
                differs(format!("{missing} messages are missing, {aside} set aside")).into()
            );
        }
        if aside > 0 && !self.may_be_unreadable() {
            return Err(differs(format!("{aside} messages set aside that could be read")).into());
        }
        let found = self.driver().store().entries();
        let found: BTreeMap<_, _> =
            found.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        if found != entries {
            return Err(differs(format!("entries are {found:?}, not {entries:?}")).into());
        }
        Ok(())
    }
}

/// What was read has to be what was put there.
fn compare(queue: &Queue, known: &Places, found: &Fetched) -> Result<(), Failure> {
    let (id, place) = (queue.id(), found.sequence);
    let known = known.get(&place);
    let right = known.is_some_and(|known| {
        known.header == found.message.header()
            && known.body == found.message.body()
            && known.deliveries == found.deliveries
    });
    if right {
        Ok(())
    } else {
        Err(differs(format!("queue {id}, place {place}: {found:?}, not {known:?}")))
    }
}

/// A body that no other message has, if there is room for the difference.
fn body(number: u64, bytes: usize) -> Bytes {
    let mut body = format!("{number}:").into_bytes();
    let mut next = number as u8;
    body.resize_with(bytes.max(body.len()), || {
        next = next.wrapping_mul(5).wrapping_add(113);
        next
    });
    body.truncate(bytes);
    body.into()
}
