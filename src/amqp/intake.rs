//! Budget for the memory of what arrives, of all connections together: read buffers, unfinished bodies, and blocks of
//! [`MessageMemory`](crate::storage::MessageMemory).
//!
//! A connection reserves memory before it reads. The first [`FREE`] bytes of each connection need no reservation, so that
//! messages of up to 16 KiB arrive whatever other connections hold. A connection may reserve only as much as it leaves to the
//! others. So a few that send halves of messages cannot take the whole budget. A connection for which there is no memory is
//! not read until there is some, or until it has leave to exceed the budget, which one connection has at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

/// Bytes of a connection that need no reservation: a message of 16 KiB, and a read of 8 KiB.
pub(super) const FREE: usize = 24 * 1024;

/// Reservations are multiples of this, in bytes, so that they seldom change.
const STEP: usize = 64 * 1024;

/// The budget, and what connections have reserved of it.
#[derive(Debug)]
pub(super) struct Intake {
    budget: usize,
    reserved: AtomicUsize,
    /// Connections that wait for memory.
    waiting: AtomicUsize,
    released: Notify,
}

/// What one connection has reserved. Dropping it releases all of it.
#[derive(Debug)]
pub(super) struct Reservation {
    intake: Arc<Intake>,
    bytes: usize,
}

/// Counts a connection that waits.
struct Waiting<'a>(&'a Intake);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// Returns the reservation for so many bytes.
fn rounded(bytes: usize) -> usize {
    if bytes <= FREE { 0 } else { bytes.next_multiple_of(STEP) }
}

impl Intake {
    pub(super) fn new(budget: usize) -> Arc<Intake> {
        let (reserved, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Intake { budget, reserved, waiting, released: Notify::new() })
    }

    /// Returns `true` if a connection waits for memory.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Returns the bytes that are reserved.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(SeqCst)
    }

    /// Adds to the reservation of a connection that has `own` bytes of it, if it leaves as much to the others as it has then.
    fn try_add(&self, own: usize, more: usize) -> bool {
        let fits = |all: usize| {
            let after = all + more;
            (after + own + more <= self.budget).then_some(after)
        };
        self.reserved.fetch_update(SeqCst, SeqCst, fits).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, SeqCst);
        if self.is_short() {
            self.released.notify_one();
        }
    }

    /// Completes when a connection that has reserved `own` bytes has reserved enough for `bytes`. Returns the addition.
    ///
    /// Connections are served in the order in which they came. One for which a release was not enough waits behind the others.
    pub(super) async fn add(self: Arc<Intake>, own: usize, bytes: usize) -> Reservation {
        self.waiting.fetch_add(1, SeqCst);
        let waiting = Waiting(&self);
        let more = rounded(bytes).saturating_sub(own);
        // Memory may have been released since the connection was refused, when nobody waited.
        while !self.try_add(own, more) {
            self.released.notified().await;
        }
        drop(waiting);
        if self.is_short() {
            // There may be enough for the next one as well.
            self.released.notify_one();
        }
        Reservation { intake: self, bytes: more }
    }
}

impl Reservation {
    pub(super) fn new(intake: &Arc<Intake>) -> Reservation {
        Reservation { intake: Arc::clone(intake), bytes: 0 }
    }

    /// Returns the bytes that the connection may hold.
    pub(super) fn allowed(&self) -> usize {
        self.bytes.max(FREE)
    }

    /// Returns the bytes that are reserved.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserves enough for the connection to hold `bytes`. Returns `false` if there is not as much.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        if bytes <= self.allowed() {
            return true;
        }
        let more = rounded(bytes) - self.bytes;
        let is_added = self.intake.try_add(self.bytes, more);
        if is_added {
            self.bytes += more;
        }
        is_added
    }

    /// Reserves as much although the budget may not allow it: for the connection that has leave to finish its message.
    pub(super) fn exceed(&mut self, bytes: usize) {
        if bytes > self.allowed() {
            let more = rounded(bytes) - self.bytes;
            self.intake.reserved.fetch_add(more, SeqCst);
            self.bytes += more;
        }
    }

    /// Releases what the connection does not need to hold `bytes`, but for a step that it may soon need again.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let needed = rounded(bytes);
        if needed == 0 || needed + STEP < self.bytes {
            self.release(self.bytes.saturating_sub(needed));
        }
    }

    /// Takes over another reservation of the same connection.
    pub(super) fn join(&mut self, mut other: Reservation) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    fn release(&mut self, bytes: usize) {
        if bytes > 0 {
            self.bytes -= bytes;
            self.intake.release(bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn a_connection_leaves_as_much_to_the_others_as_it_has() {
        let intake = Intake::new(16 * STEP);
        let [mut one, mut two, mut three] = [(); 3].map(|()| Reservation::new(&intake));
        assert!(one.grow(8 * STEP) && !one.grow(8 * STEP + 1));
        assert!(two.grow(4 * STEP) && !two.grow(5 * STEP));
        assert!(three.grow(2 * STEP) && !three.grow(3 * STEP));
        assert_eq!(intake.reserved(), 14 * STEP);
        drop(one);
        assert!(three.grow(6 * STEP) && !three.grow(7 * STEP));
    }

    #[test]
    fn the_first_bytes_of_a_connection_need_no_reservation() {
        let intake = Intake::new(0);
        let mut one = Reservation::new(&intake);
        assert!(one.grow(FREE) && !one.grow(FREE + 1));
        one.exceed(FREE + 1);
        assert_eq!((one.bytes(), one.allowed()), (STEP, STEP));
        assert_eq!(intake.reserved(), STEP);
    }

    #[test]
    fn a_reservation_shrinks_when_more_than_a_step_is_spare() {
        let intake = Intake::new(16 * STEP);
        let mut one = Reservation::new(&intake);
        assert!(one.grow(5 * STEP));
        one.shrink(4 * STEP);
        assert_eq!(one.bytes(), 5 * STEP);
        one.shrink(3 * STEP);
        assert_eq!(one.bytes(), 3 * STEP);
        one.shrink(FREE);
        assert_eq!((one.bytes(), intake.reserved()), (0, 0));
    }

    #[test]
    fn released_memory_goes_to_waiting_connections_in_order() {
        let intake = Intake::new(4 * STEP);
        let mut holder = Reservation::new(&intake);
        holder.exceed(4 * STEP);
        let mut first = pin!(intake.clone().add(0, STEP));
        let mut second = pin!(intake.clone().add(0, STEP));
        assert!(first.as_mut().poll(&mut context()).is_pending());
        assert!(second.as_mut().poll(&mut context()).is_pending());
        assert!(intake.is_short());
        holder.shrink(2 * STEP);
        assert!(second.as_mut().poll(&mut context()).is_pending(), "it is not its turn");
        let Poll::Ready(one) = first.as_mut().poll(&mut context()) else { panic!("no memory") };
        assert_eq!(one.bytes(), STEP);
        assert!(second.as_mut().poll(&mut context()).is_pending());
        holder.join(one);
        drop(holder);
        assert!(second.as_mut().poll(&mut context()).is_ready());
        assert!(!intake.is_short());
    }

    #[test]
    fn a_waiting_connection_that_ends_passes_its_turn_on() {
        let intake = Intake::new(4 * STEP);
        let mut holder = Reservation::new(&intake);
        holder.exceed(4 * STEP);
        let mut first = Box::pin(intake.clone().add(0, STEP));
        let mut second = pin!(intake.add(0, STEP));
        assert!(first.as_mut().poll(&mut context()).is_pending());
        assert!(second.as_mut().poll(&mut context()).is_pending());
        drop(holder);
        drop(first);
        assert!(second.as_mut().poll(&mut context()).is_ready());
    }
}
