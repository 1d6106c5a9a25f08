//! The memory that a connection holds for what arrives, and waiting for it (see [`intake`](super::super::intake)).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::super::gateway::Admission;
use super::super::intake::{FREE, Reservation};
use super::{Connection, State};

/// A read is not worth less than this, in bytes.
const SMALLEST: usize = 4 * 1024;

/// Completes when a connection may read on.
type AwaitMemory = Pin<Box<dyn Future<Output = Admission> + Send>>;

/// What a connection has reserved, and what it waits for.
pub(super) struct Arriving {
    reservation: Reservation,
    wait: Option<AwaitMemory>,
}

impl Arriving {
    pub(super) fn new(reservation: Reservation) -> Arriving {
        Arriving { reservation, wait: None }
    }

    /// Whether the connection is not read because there is no memory for more.
    pub(super) fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }
}

impl Connection {
    /// Returns how many of `room` bytes may be read while `input` bytes wait for the rest of their frame. Zero means that the
    /// connection waits for memory from now on.
    pub(in super::super) fn admit(&mut self, input: usize, room: usize) -> usize {
        let held = self.held() + input;
        let State::Running(running) = &self.state else { return room };
        let reservation = &mut self.arriving.reservation;
        if reservation.grow(held + room) {
            return room;
        }
        let rest = reservation.allowed().saturating_sub(held);
        if rest >= SMALLEST {
            return rest.min(room);
        }
        if running.has_leave() {
            reservation.exceed(held + room);
            return room;
        }
        let own = reservation.bytes();
        self.arriving.wait = Some(self.gateway.await_memory(own, held + room));
        0
    }

    /// Releases memory that the connection does not hold any more, where `input` bytes wait for the rest of their frame and
    /// as many as `buffer` are read at once. Returns `true` if the buffer should be given up as well, because others wait.
    pub(in super::super) fn release_arrived(&mut self, input: usize, buffer: usize) -> bool {
        let held = self.held() + input;
        let State::Running(running) = &mut self.state else { return false };
        if held <= FREE && !running.is_partial() {
            running.drop_leave();
        }
        let Arriving { reservation, wait } = &mut self.arriving;
        let blocks = running.memory().kept();
        if blocks > 0 && !reservation.grow(held + buffer + blocks) {
            running.memory().release();
        }
        // What was published and waits for the log takes memory still.
        if reservation.bytes() == 0 || self.wait.is_some() || wait.is_some() {
            return false;
        }
        reservation.shrink(held + buffer + running.memory().kept());
        held == 0 && self.gateway.is_short_of_receive_memory()
    }

    /// Returns the bytes that have arrived and are held: unfinished bodies, and frames that wait. Up to a quarter of a read
    /// buffer is lost between two bodies.
    fn held(&self) -> usize {
        let unfinished = match &self.state {
            State::Running(running) => running.unfinished(),
            _ => 0,
        };
        unfinished + unfinished / 4 + self.frames.bytes()
    }

    /// Takes the memory that the connection has waited for, or leave to go on without.
    pub(super) fn poll_memory(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(wait) = &mut self.arriving.wait else { return Poll::Pending };
        let Poll::Ready(admission) = wait.as_mut().poll(context) else { return Poll::Pending };
        self.arriving.wait = None;
        match (admission, &mut self.state) {
            (Admission::Reserved(more), _) => self.arriving.reservation.join(more),
            (Admission::Leave(leave), State::Running(running)) => running.take_leave(leave),
            (Admission::Leave(_), _) => {}
        }
        Poll::Ready(())
    }

    /// Releases all of it: the session has ended.
    pub(super) fn release_memory(&mut self) {
        self.arriving = Arriving::new(Reservation::new(&self.gateway.intake));
    }
}
