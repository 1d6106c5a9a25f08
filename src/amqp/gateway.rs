//! What all connections share.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::limits::{Limits, User};
use crate::broker::Broker;
use crate::storage::{Store, StoreError};

/// The broker, its store, and the rules for connections.
#[derive(Debug)]
pub struct Gateway {
    pub(super) broker: Broker,
    pub(super) store: Store,
    pub(super) users: Vec<User>,
    pub(super) limits: Limits,
    failure: Mutex<Option<StoreError>>,
    failing: Notify,
}

impl Gateway {
    /// Lets `users` connect to `broker`, which keeps its messages in `store`.
    #[must_use]
    pub fn new(broker: Broker, store: Store, users: Vec<User>, limits: Limits) -> Gateway {
        Gateway { broker, store, users, limits, failure: Mutex::new(None), failing: Notify::new() }
    }

    /// Notes that the log has failed. Nothing may be confirmed after that; whoever waits for
    /// [`Gateway::failed`] ends the process.
    pub(super) fn fail(&self, error: StoreError) {
        self.failure.lock().get_or_insert(error);
        self.failing.notify_waiters();
    }

    /// Finds out, after something went wrong, whether the log has failed: it refuses everything then. Otherwise it
    /// takes the record of a change of nothing, which costs some bytes.
    pub(super) fn probe(&self) {
        if let Err(error) = self.store.apply(Vec::new()) {
            self.fail(error);
        }
    }

    /// Waits until the log has failed; usually for ever.
    pub async fn failed(&self) -> StoreError {
        loop {
            let notified = self.failing.notified();
            if let Some(error) = self.failure.lock().take() {
                return error;
            }
            notified.await;
        }
    }
}
