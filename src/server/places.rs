//! Places for connections. When all are taken, those that have not logged in make room for new ones.
//!
//! The address that has most of them gives one back, the oldest: peers that say nothing cannot keep out those who log in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::amqp::{Guest, source};

/// The time that a new connection waits for the place of another one that was told to go.
const PATIENCE: Duration = Duration::from_secs(2);

/// After so many new connections, those that have logged in are forgotten.
const PRUNE_AFTER: usize = 1024;

/// The places of a server.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    guests: Mutex<Guests>,
}

/// The connections that have not logged in, by address, the oldest first.
#[derive(Debug, Default)]
struct Guests {
    by_source: HashMap<IpAddr, VecDeque<Weak<Guest>>>,
    since_pruned: usize,
}

/// The place that a connection has while it is served.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) guest: Arc<Guest>,
    /// Dropping it frees the place.
    pub(super) permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(most: usize) -> Places {
        Places { free: Arc::new(Semaphore::new(most)), guests: Mutex::default() }
    }

    /// Takes a free place.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.settle(address, permit))
    }

    /// Has another connection go that has not logged in. Returns `false` if there is none.
    pub(super) fn make_room(&self) -> bool {
        self.guests.lock().dismiss()
    }

    /// Waits for the place that was [made](Self::make_room).
    pub(super) async fn wait(&self, address: IpAddr) -> Option<Place> {
        let permit = timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()?;
        Some(self.settle(address, permit))
    }

    /// Waits until all `most` places are free.
    pub(super) async fn all_free(&self, most: usize) {
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        // It is never closed.
        self.free.acquire_many(all).await.ok();
    }

    fn settle(&self, address: IpAddr, permit: OwnedSemaphorePermit) -> Place {
        let guest = Arc::new(Guest::default());
        self.guests.lock().add(source(address), Arc::downgrade(&guest));
        Place { guest, permit }
    }
}

impl Guests {
    fn add(&mut self, source: IpAddr, guest: Weak<Guest>) {
        self.since_pruned += 1;
        if self.since_pruned >= PRUNE_AFTER {
            self.since_pruned = 0;
            self.prune();
        }
        self.by_source.entry(source).or_default().push_back(guest);
    }

    /// Forgets the connections that have logged in or gone.
    fn prune(&mut self) {
        self.by_source.retain(|_, guests| {
            guests.retain(|guest| guest.strong_count() > 0);
            !guests.is_empty()
        });
    }

    fn dismiss(&mut self) -> bool {
        let is_silent =
            |guest: &Weak<Guest>| guest.upgrade().is_some_and(|guest| guest.is_silent());
        let counts = self.by_source.values_mut().map(|guests| {
            let silent = guests.iter().filter(|guest| is_silent(guest)).count();
            (silent, guests)
        });
        let Some((1.., guests)) = counts.max_by_key(|(silent, _)| *silent) else { return false };
        let Some(oldest) = guests.iter().position(is_silent) else { return false };
        match guests.remove(oldest).and_then(|guest| guest.upgrade()) {
            Some(guest) => {
                guest.dismiss();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn is_dismissed(place: &Place) -> bool {
        let mut dismissed = std::pin::pin!(place.guest.dismissed());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        dismissed.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn the_address_with_most_silent_connections_gives_the_oldest_one_back() {
        let places = Places::new(5);
        let other = places.take(address(1)).unwrap();
        let mut many: Vec<_> = (0..4).map(|_| places.take(address(2)).unwrap()).collect();
        many[0].guest.note_spoken();
        assert!(places.take(address(3)).is_none());
        assert!(places.make_room());
        assert!(places.make_room());
        let dismissed: Vec<_> = many.iter().map(is_dismissed).collect();
        assert_eq!(dismissed, [false, true, true, false]);
        assert!(!is_dismissed(&other));
        many.remove(1);
        assert!(places.take(address(3)).is_some());
    }

    #[test]
    fn connections_that_have_logged_in_make_no_room() {
        let places = Places::new(2);
        let (mut one, other) = (places.take(address(1)).unwrap(), places.take(address(1)).unwrap());
        other.guest.note_spoken();
        one.guest = Arc::default();
        assert!(!places.make_room());
        places.guests.lock().prune();
        assert_eq!(places.guests.lock().by_source[&address(1)].len(), 1);
    }
}
