//! Putting messages back that were handed out.

use std::sync::Arc;

use super::counting::Uncounted;
use super::{Leaving, Queue};
use crate::broker::consumer::Returned;
use crate::broker::dead_letters::{Death, PendingSources};
use crate::broker::unacknowledged::GivenBack;

impl Queue {
    /// Puts messages back into their places, or has them leave that came back too often. The credit for them has been released
    /// already.
    pub(in crate::broker) fn requeue(
        self: &Arc<Self>,
        given_back: &mut [GivenBack],
        consumers: &[Returned],
        pending: &mut PendingSources,
    ) {
        let moment = self.moment(None);
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        if state.deleted {
            return;
        }
        let mut in_memory = Vec::new();
        for GivenBack { held, message } in given_back {
            let (sequence, message) = (held.sequence, message.take());
            match &moment {
                Some(moment) if moment.is_too_often(held.deliveries) => {
                    let leaving = Leaving { sequence, death: Death::DeliveryLimit, message };
                    self.discard(state, moment, leaving, held.body as usize);
                }
                _ => {
                    state.unacknowledged = state.unacknowledged.saturating_sub(1);
                    if Uncounted::counts(state.uncounted.as_ref(), sequence) {
                        self.more_ready(held.body as usize);
                    }
                    state.backlog.put_back([sequence]);
                    in_memory.extend(message.map(|message| (sequence, message)));
                }
            }
        }
        self.store.keep(in_memory);
        consumers.iter().for_each(|returned| state.consumers.unpark(&returned.consumer));
        self.run_for(guard, None, pending);
    }

    /// Hands out nothing until the [end](Self::end_requeue): the caller puts messages back in pieces.
    pub(in crate::broker) fn begin_requeue(&self) {
        self.state.lock().get_or_insert_default().requeues += 1;
    }

    /// Hands out what has been put back.
    pub(in crate::broker) fn end_requeue(self: &Arc<Self>, pending: &mut PendingSources) {
        let mut guard = self.state.lock();
        if let Some(state) = &mut *guard {
            state.requeues = state.requeues.saturating_sub(1);
        }
        self.run_for(guard, None, pending);
    }
}
