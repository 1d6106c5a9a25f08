//! Having messages read back that are on disk only, by the loader's threads.

use std::sync::Arc;

use super::leaving::{Moment, Next};
use super::{Queue, State};
use crate::broker::backlog::Supply;
use crate::broker::delivery::Event;
use crate::broker::outbox::Wakers;
use crate::broker::refusal::Refusal;
use crate::storage::{Sequence, StoreError};

/// Messages that are read at a time because they are likely to leave, in a queue that nobody consumes from.
const READ_TO_LEAVE: usize = 64;

/// How many reads of a queue are under way at most: while one is looked through, the disk is busy with the other.
const READS: usize = 2;

impl Queue {
    /// Reads messages back from the log. Blocks: for the loader's threads.
    /// False: what was to be read is there already, or is being read.
    pub(in crate::broker) fn load(&self, from: Sequence) -> Result<bool, StoreError> {
        let most = match &*self.state.lock() {
            Some(state) if !state.is_unattended() => usize::MAX,
            Some(state) if state.emptying => READ_TO_LEAVE,
            // To see when the next one expires, no more than that one is needed.
            _ => 1,
        };
        self.store.load_ahead(from, most)
    }

    /// A read has been done, and has brought something or not.
    pub(in crate::broker) fn loaded(self: &Arc<Self>, any: bool) {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return };
        state.reads -= 1;
        state.all_under_way = !any && state.reads > 0;
        // Whoever reads what is missing has the queue dispatched: to do so here would ask for the same again. Where nobody does, it has
        // been read by somebody who does not dispatch.
        if any || !state.all_under_way {
            self.run(guard);
        }
    }

    /// What was to be read could not be read: those who have asked for it are told. Whether it is worth another try, a while
    /// later; meanwhile whoever asks waits for that.
    pub(in crate::broker) fn load_failed(&self, error: StoreError) -> bool {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return false };
        // A store that has failed or was closed stays so.
        let again = !state.deleted && !matches!(error, StoreError::Failed(_) | StoreError::Closed);
        if !again {
            state.reads -= 1;
        }
        // Nobody else tries before that.
        state.all_under_way = again;
        let refusal = Refusal::from(error);
        let mut wakers = Wakers::default();
        for get in std::mem::take(&mut state.gets) {
            let event = Event::GetRefused { channel: get.channel, refusal: refusal.clone() };
            // A connection that has gone need not be told.
            wakers.add(get.outbox.push(event).unwrap_or(None));
        }
        drop(guard);
        wakers.wake();
        again
    }

    /// [`Backlog::supply`], which also has messages read that are on disk, and those leave that are not to be handed out.
    pub(super) fn supply(self: &Arc<Self>, state: &mut State, moment: Option<&Moment>) -> Supply {
        loop {
            let supply = state.backlog.supply(&self.store);
            match supply {
                Supply::OnDisk(from) => self.have_read(state, from),
                Supply::Ready => {
                    let next = moment.map_or(Next::Stays, |moment| self.drop_spent(state, moment));
                    match next {
                        Next::Left => continue,
                        // As if what comes behind it had to be read first.
                        Next::Waits => return Supply::OnDisk(Sequence::FIRST),
                        Next::Stays => self.read_ahead(state),
                    }
                }
                Supply::Empty => {}
            }
            return supply;
        }
    }

    /// Has messages read that will soon be needed.
    pub(super) fn read_ahead(self: &Arc<Self>, state: &mut State) {
        if state.reads < READS
            && !state.all_under_way
            && let Some(from) = state.backlog.read_ahead(&self.store)
        {
            self.have_read(state, from);
        }
    }

    pub(super) fn have_read(self: &Arc<Self>, state: &mut State, from: Sequence) {
        if state.reads < READS && !state.all_under_way {
            state.reads += 1;
            self.workers.loader.submit(Arc::clone(self), from);
        }
    }
}
