//! Several operations that are one: of what they append and acknowledge all is there after a restart, or nothing.

use std::slice;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::append::{Persistence, Plan};
use super::draft::Draft;
use super::error::StoreError;
use super::index::Released;
use super::log::{Outline, Placed};
use super::queue::{Queue, QueueCore, QueueState};
use super::record::{AcknowledgeRecord, RecordKind};
use super::store::{Shared, Store};
use super::units::{Lsn, Sequence, SequenceRange};

/// A part of what is [applied together](Store::apply_together).
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// Appends a message, as [`Store::append`] does.
    Append {
        /// The message.
        message: Draft<'a>,
        /// Whether it is to survive a restart.
        persistence: Persistence,
        /// The queues that get it.
        queues: &'a [&'a Queue],
    },
    /// Takes messages out of a queue for good, as [`Queue::acknowledge`] does: those that were in it before.
    Acknowledge {
        /// The queue.
        queue: &'a Queue,
        /// Their places.
        ranges: &'a [SequenceRange],
    },
}

/// What operations that are applied together come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Together {
    /// How many messages went.
    pub messages: u64,
    /// When this is durable, all of it is; `None`: nothing of it is meant to survive a restart.
    pub durable_at: Option<Lsn>,
}

impl Store {
    /// Applies several operations as one. Whoever looks at one of their queues sees all of what they do to it, or nothing;
    /// and a restart brings all of it back, or nothing, whatever happened in between. What need not survive a restart (transient
    /// messages, volatile queues) takes part in memory.
    ///
    /// The messages of a queue are in the order of the operations. Never waits for the disk, like [`append`](Self::append); but
    /// these queues are locked until it is done, and the log until all has been copied there, so many megabytes hold others up.
    ///
    /// ```
    /// # use haypile::storage::{Message, Operation, Options, Persistence, SequenceRange, Sequence, Store};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path(), Options { segment_size: 1 << 20, ..Options::default() })?;
    /// # let (orders, _) = store.create_queue(b"orders")?;
    /// # let (refused, _) = store.create_queue(b"refused")?;
    /// # let message = Message::new("header", "one bale of hay");
    /// # store.append(&message, Persistence::Durable, &[&orders])?;
    /// let done = store.apply_together(&[
    ///     Operation::Append {
    ///         message: (&message).into(),
    ///         persistence: Persistence::Durable,
    ///         queues: &[&refused],
    ///     },
    ///     Operation::Acknowledge { queue: &orders, ranges: &[SequenceRange::one(Sequence::FIRST)] },
    /// ])?;
    /// assert_eq!((orders.len(), refused.len(), done.messages), (0, 1, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]: it does not fit into one [segment](super::Options::segment_size) less 4,160 bytes, or into 1 GiB.
    /// A message counts as in the log, with 12 bytes and a few for each queue; an acknowledgement takes 20 bytes, and 12 for
    /// each range. If a single message goes to the log, that may be as large as any: what is acknowledged with it has to
    /// fit. [`StoreError::Full`], [`StoreError::NoRoom`]: there is no room for all of it, and a message is among it. [`StoreError::ForeignQueue`]: one
    /// of the queues belongs to another store. Nothing is done in any of these cases.
    /// All other errors are the end of the store.
    pub fn apply_together(&self, operations: &[Operation<'_>]) -> Result<Together, StoreError> {
        let shared = &*self.shared;
        queues_of(operations).try_for_each(|queue| self.check_owns(queue))?;
        let ranges = operations.iter().map(|operation| match operation {
            Operation::Append { .. } => 0,
            Operation::Acknowledge { ranges, .. } => ranges.len(),
        });
        shared.keep_room_for_checkpoints(ranges.sum())?;
        let cores = cores_of(operations);
        let mut queues: SmallVec<[Member<'_>; 4]> = cores.into_iter().map(Member::lock).collect();
        let unit = Unit::plan(shared, operations, &mut queues);
        let mut released = Released::default();
        let together = match unit.admit(shared) {
            Ok(()) => unit.carry_out(shared, &mut queues, &mut released)?,
            Err(error) => {
                unit.withdraw(shared);
                return Err(error);
            }
        };
        drop(queues);
        shared.give_back(&released);
        Ok(together)
    }
}

/// The queues of all operations, as these name them.
fn queues_of<'a>(operations: &[Operation<'a>]) -> impl Iterator<Item = &'a Queue> {
    operations.iter().flat_map(|operation| match operation {
        Operation::Append { queues, .. } => queues.iter().copied(),
        Operation::Acknowledge { queue, .. } => slice::from_ref(queue).iter().copied(),
    })
}

/// The queues of all operations, each once, in the order in which everybody locks them.
fn cores_of<'a>(operations: &[Operation<'a>]) -> SmallVec<[&'a QueueCore; 4]> {
    let mut cores: SmallVec<[&QueueCore; 4]> =
        queues_of(operations).map(|queue| &*queue.core).collect();
    cores.sort_unstable_by_key(|core| core.id());
    cores.dedup_by_key(|core| core.id());
    cores
}

/// A queue that takes part, locked.
struct Member<'a> {
    core: &'a QueueCore,
    state: MutexGuard<'a, QueueState>,
    /// The place of the next message that is planned for it.
    next: Sequence,
}

impl<'a> Member<'a> {
    fn lock(core: &'a QueueCore) -> Member<'a> {
        let state = core.state.lock();
        let next = state.index.next();
        Member { core, state, next }
    }
}

/// Where a queue is among those that take part.
fn position(queues: &[Member<'_>], queue: &Queue) -> usize {
    queues
        .binary_search_by_key(&queue.core.id(), |member| member.core.id())
        .expect("the queues of all operations are locked")
}

/// An append, with the positions of its queues.
struct PlannedAppend<'a> {
    plan: Plan<'a>,
    queues: SmallVec<[usize; 4]>,
}

struct PlannedAcknowledgement {
    queue: usize,
    ranges: SmallVec<[SequenceRange; 8]>,
    /// Whether the log has to say so, if any of the messages would come back.
    is_durable: bool,
}

/// What is going to be done.
struct Unit<'a> {
    acknowledgements: SmallVec<[PlannedAcknowledgement; 1]>,
    appends: SmallVec<[PlannedAppend<'a>; 1]>,
}

impl<'a> Unit<'a> {
    fn plan(shared: &Shared, operations: &[Operation<'a>], queues: &mut [Member<'_>]) -> Unit<'a> {
        let mut unit = Unit { acknowledgements: SmallVec::new(), appends: SmallVec::new() };
        for operation in operations {
            match *operation {
                Operation::Append { message, persistence, queues: targets } => {
                    let mut at: SmallVec<[usize; 4]> =
                        targets.iter().map(|queue| position(queues, queue)).collect();
                    at.sort_unstable();
                    at.dedup();
                    at.retain(|at| !queues[*at].state.deleted);
                    let places = at.iter().map(|at| (queues[*at].core, queues[*at].next));
                    let plan = Plan::new(shared, message, persistence, places);
                    for at in &at {
                        queues[*at].next = queues[*at].next.next();
                    }
                    unit.appends.push(PlannedAppend { plan, queues: at });
                }
                Operation::Acknowledge { queue, ranges } => {
                    let queue = position(queues, queue);
                    let Member { core, state, .. } = &queues[queue];
                    let is_durable = core.is_durable() && !state.deleted;
                    let ranges = state.taken(ranges);
                    if !ranges.is_empty() {
                        let planned = PlannedAcknowledgement { queue, ranges, is_durable };
                        unit.acknowledgements.push(planned);
                    }
                }
            }
        }
        unit
    }

    /// Whether all of it may be appended.
    fn admit(&self, shared: &Shared) -> Result<(), StoreError> {
        shared.log.check()?;
        let acknowledgements = self.acknowledgements.iter().filter(|planned| planned.is_durable);
        let mut outlines: SmallVec<[Outline; 4]> =
            acknowledgements.map(PlannedAcknowledgement::outline).collect();
        let only_acknowledged = outlines.len();
        outlines.extend(self.records().map(|append| append.plan.outline()));
        shared.log.check_unit(&outlines)?;
        // What only makes room is taken from a full disk as well.
        if outlines.len() == only_acknowledged { Ok(()) } else { shared.log.admit_unit(&outlines) }
    }

    /// The appends that need a record.
    fn records(&self) -> impl Iterator<Item = &PlannedAppend<'a>> {
        self.appends.iter().filter(|append| !append.plan.references.is_empty())
    }

    /// Gives back what was taken for it.
    fn withdraw(&self, shared: &Shared) {
        self.appends.iter().for_each(|append| append.plan.withdraw(shared));
    }

    /// Does all of it. If the log takes nothing any more, the store is at its end.
    fn carry_out(
        &self,
        shared: &Shared,
        queues: &mut [Member<'_>],
        released: &mut Released,
    ) -> Result<Together, StoreError> {
        // What would not come back anyway need not be told.
        let mut told: SmallVec<[&PlannedAcknowledgement; 4]> = SmallVec::new();
        for planned in &self.acknowledgements {
            let Member { state, .. } = &mut queues[planned.queue];
            let before = released.stored;
            for range in &planned.ranges {
                state.index.acknowledge(*range, released);
            }
            if released.stored > before && planned.is_durable {
                state.changed = true;
                told.push(planned);
            }
        }
        let placed = self.append(shared, &told, queues).inspect_err(|_| self.withdraw(shared))?;
        let survives = !told.is_empty() || self.appends.iter().any(|append| append.plan.survives);
        let durable_at = placed.last().filter(|_| survives).map(|placed| placed.end);
        let mut placed = placed.into_iter().skip(told.len());
        let mut entered = Ok(());
        for PlannedAppend { plan, queues: at } in &self.appends {
            let placed = if plan.references.is_empty() { None } else { placed.next() };
            let members = queues.iter_mut().enumerate().filter(|(member, _)| at.contains(member));
            let targets = members.map(|(_, member)| (member.core, &mut *member.state));
            // What goes wrong is that something else could not leave memory for the log.
            entered = entered.and(plan.enter(shared, placed, targets));
        }
        entered.map(|()| Together { messages: released.messages, durable_at })
    }

    /// Appends its records, first the acknowledgements.
    fn append(
        &self,
        shared: &Shared,
        told: &[&PlannedAcknowledgement],
        queues: &[Member<'_>],
    ) -> Result<SmallVec<[Placed; 4]>, StoreError> {
        let records: SmallVec<[&PlannedAppend<'_>; 4]> = self.records().collect();
        let outlines = told.iter().map(|planned| planned.outline());
        let outlines = outlines.chain(records.iter().map(|append| append.plan.outline()));
        let outlines: SmallVec<[Outline; 4]> = outlines.collect();
        if outlines.is_empty() {
            return Ok(SmallVec::new());
        }
        shared.log.append_unit(&outlines, |number, buffer| match told.get(number) {
            Some(PlannedAcknowledgement { queue, ranges, .. }) => {
                AcknowledgeRecord::encode(buffer, queues[*queue].core.id(), ranges);
            }
            None => records[number - told.len()].plan.encode(buffer),
        })
    }
}

impl PlannedAcknowledgement {
    fn outline(&self) -> Outline {
        Outline {
            kind: RecordKind::Acknowledge,
            size: AcknowledgeRecord::encoded_size(&self.ranges),
            references: 0,
        }
    }
}
