//! Having messages read back that are on disk only, by the loader's threads.

use std::sync::Arc;

use super::leaving::Moment;
use super::{Queue, State};
use crate::broker::backlog::Supply;
use crate::broker::delivery::Event;
use crate::broker::outbox::Wakers;
use crate::broker::refusal::Refusal;
use crate::storage::{Sequence, StoreError};

/// How many reads of a queue are under way at most: while one is looked through, the disk is busy with the other.
const READS: usize = 2;

impl Queue {
    /// Reads messages back from the log. Blocks: for the loader's threads.
    /// False: what was to be read is there already, or is being read.
    pub(in crate::broker) fn load(&self, from: Sequence) -> Result<bool, StoreError> {
        let nobody = self.state.lock().as_ref().is_none_or(|state| state.is_unattended());
        // To see when the next one expires, no more than that one is needed.
        self.store.load_ahead(from, if nobody { 1 } else { usize::MAX })
    }

    /// A read has been done, and has brought something or not.
    pub(in crate::broker) fn loaded(self: &Arc<Self>, any: bool) {
        let mut guard = self.state.lock();
        let Some(state) = &mut *guard else { return };
        state.reads -= 1;
        state.all_under_way = !any && state.reads > 0;
        // Whoever reads what is missing has the queue dispatched: to do so here would ask for the same again.
        if any || !state.all_under_way && std::mem::take(&mut state.lacks) {
            state.lacks = false;
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
                    if moment.is_some_and(|moment| self.drop_spent(state, moment)) {
                        continue;
                    }
                    self.read_ahead(state);
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
        } else {
            state.lacks = true;
        }
    }
}
