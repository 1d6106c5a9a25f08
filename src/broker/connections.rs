//! The connections that there are: counted, listed, and told to close.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::outbox::{Outbox, Wakers};
use super::session::SessionId;
use crate::message::ShortStr;

/// All connections of a broker, in the order in which they were opened.
#[derive(Debug, Default)]
pub(super) struct Connections {
    live: Mutex<BTreeMap<SessionId, Arc<Live>>>,
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) user: ShortStr,
    pub(super) virtual_host: ShortStr,
    pub(super) outbox: Arc<Outbox>,
    /// Where it comes from, as its front end names that.
    pub(super) peer: OnceLock<String>,
    /// How many channels it has open.
    pub(super) channels: AtomicU64,
}

/// A connection, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionListing {
    /// Its number: to be closed by.
    pub id: u64,
    /// Who has logged in.
    pub user: String,
    /// The virtual host that it is to.
    pub virtual_host: String,
    /// Where it comes from.
    pub peer: String,
    /// How many channels it has open.
    pub channels: u64,
}

/// So many there are of what is limited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) of_virtual_host: u64,
    pub(super) of_user: u64,
}

impl Connections {
    /// Adds a connection, if `admit` agrees, who is told how many there are already.
    pub(super) fn add<E>(
        &self,
        id: SessionId,
        live: Live,
        admit: impl FnOnce(Counts) -> Result<(), E>,
    ) -> Result<Arc<Live>, E> {
        let mut all = self.live.lock();
        let mut counts = Counts::default();
        for other in all.values() {
            counts.of_virtual_host += u64::from(other.virtual_host == live.virtual_host);
            counts.of_user += u64::from(other.user == live.user);
        }
        admit(counts)?;
        let live = Arc::new(live);
        all.insert(id, Arc::clone(&live));
        Ok(live)
    }

    pub(super) fn remove(&self, id: SessionId) {
        self.live.lock().remove(&id);
    }

    /// How many channels a user has open, on all connections.
    pub(super) fn channels_of(&self, user: &ShortStr) -> u64 {
        let all = self.live.lock();
        let own = all.values().filter(|live| live.user == *user);
        own.map(|live| live.channels.load(Relaxed)).sum()
    }

    /// Tells all connections that are `meant` to close, and why. How many there are.
    pub(super) fn order_to_close(
        &self,
        reason: &str,
        meant: impl Fn(SessionId, &Live) -> bool,
    ) -> usize {
        let meant: Vec<_> = {
            let all = self.live.lock();
            let meant = all.iter().filter(|(id, live)| meant(**id, live));
            meant.map(|(_, live)| Arc::clone(live)).collect()
        };
        let mut wakers = Wakers::default();
        meant.iter().for_each(|live| wakers.add(live.outbox.order_to_close(reason)));
        wakers.wake();
        meant.len()
    }

    pub(super) fn list(&self) -> Vec<ConnectionListing> {
        let all = self.live.lock();
        let listed = all.iter().map(|(id, live)| ConnectionListing {
            id: id.0,
            user: live.user.to_string(),
            virtual_host: live.virtual_host.to_string(),
            peer: live.peer.get().cloned().unwrap_or_default(),
            channels: live.channels.load(Relaxed),
        });
        listed.collect()
    }
}
