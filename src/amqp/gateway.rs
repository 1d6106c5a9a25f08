//! What all connections share.

use tokio::sync::watch;

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
    failure: watch::Receiver<Option<StoreError>>,
    /// Changes whenever the store becomes full, or has room again.
    room: watch::Receiver<u64>,
}

impl Gateway {
    /// Lets `users` connect to `broker`, which keeps its messages in `store`.
    #[must_use]
    pub fn new(broker: Broker, store: Store, users: Vec<User>, limits: Limits) -> Gateway {
        let (failing, failure) = watch::channel(None);
        store.on_failure(move |error| {
            failing.send_replace(Some(error));
        });
        let (changing, room) = watch::channel(0);
        store.on_room_change(move || changing.send_modify(|changes| *changes += 1));
        Gateway { broker, store, users, limits, failure, room }
    }

    /// Completes when the store is not full: at once, usually.
    pub(super) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let (store, mut changes) = (self.store.clone(), self.room.clone());
        async move {
            // An error means that the store is gone: nobody waits for it then.
            while store.is_full() && changes.changed().await.is_ok() {}
        }
    }

    /// Waits until the log has failed, be it that nobody waits for it; usually for ever. Nothing may be confirmed after
    /// that, and the process has to end.
    pub async fn failed(&self) -> StoreError {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            // The store was closed, and with it gone nothing can fail any more.
            _ => std::future::pending().await,
        }
    }
}
