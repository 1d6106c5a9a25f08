//! A connection that has not logged in: it may be asked to go, for another one to have its place.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;

/// The place of a connection that has not logged in. The connection drops it when it has logged in.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    has_spoken: AtomicBool,
    dismissed: Notify,
}

impl Guest {
    /// Whether the peer has not sent its password yet.
    pub(crate) fn is_silent(&self) -> bool {
        !self.has_spoken.load(Relaxed)
    }

    /// Has the connection closed.
    pub(crate) fn dismiss(&self) {
        self.dismissed.notify_one();
    }

    /// The peer has sent its password.
    pub(crate) fn note_spoken(&self) {
        self.has_spoken.store(true, Relaxed);
    }

    /// Completes when the server wants the place.
    pub(crate) async fn dismissed(&self) {
        self.dismissed.notified().await;
    }
}
