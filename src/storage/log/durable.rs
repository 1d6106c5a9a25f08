//! Waiting for an LSN in a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Log;
use super::waiters::{Action, WakerSlot};
use crate::storage::error::StoreError;
use crate::storage::units::Lsn;

/// Completes when the LSN it was made for is durable; made by [`Store::durable`](crate::storage::Store::durable). Needs
/// no particular runtime.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Durable {
    log: Arc<Log>,
    lsn: Lsn,
    waker: Option<Arc<WakerSlot>>,
}

impl Durable {
    pub(crate) fn new(log: Arc<Log>, lsn: Lsn) -> Durable {
        Durable { log, lsn, waker: None }
    }

    /// What this waits for.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
}

impl Future for Durable {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.log.settled(self.lsn) {
            return Poll::Ready(outcome);
        }
        if let Some(slot) = &self.waker {
            *slot.lock() = Some(context.waker().clone());
            // It may have been settled between the question above and the new waker.
            return self.log.settled(self.lsn).map_or(Poll::Pending, Poll::Ready);
        }
        if let Some(outcome) = self.log.known(self.lsn) {
            return Poll::Ready(outcome);
        }
        let slot = Arc::new(WakerSlot::new(Some(context.waker().clone())));
        let action = Action::Wake(slot.clone());
        if let Some((_, outcome)) =
            self.log.waiters.add(self.lsn, action, || self.log.settled(self.lsn))
        {
            return Poll::Ready(outcome);
        }
        self.waker = Some(slot);
        self.log.hurry(self.lsn);
        self.log.settled(self.lsn).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(slot) = &self.waker {
            *slot.lock() = None;
        }
    }
}
