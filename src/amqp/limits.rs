//! What the server allows one connection, and who may connect.

use std::time::Duration;

/// Limits of one connection. The defaults are RabbitMQ's where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Channels of a connection, as offered in `connection.tune`. Default 2047.
    pub channel_max: u16,
    /// The largest frame in bytes, as offered in `connection.tune`. At least 4096. Default 131,072.
    pub frame_max: u32,
    /// The heartbeat interval in seconds, as offered in `connection.tune`; the client chooses, and 0 is none.
    /// Default 60.
    pub heartbeat: u16,
    /// From accepting the socket to `connection.open`. Default 10 s.
    pub handshake: Duration,
    /// How long the peer may take to answer `connection.close`, or to read what is left for it, before the socket is
    /// closed all the same. Default 3 s.
    pub close: Duration,
    /// Consumers of a connection, on all of its channels. Default 10,000.
    pub consumers: usize,
    /// The largest body in bytes. Bodies that have not arrived completely may together take twice as much. Default 128 MiB.
    pub message_size: u64,
    /// For read buffers and unfinished bodies of all connections together, in bytes. A connection for which there is no memory is
    /// not read until others have finished; one at a time may exceed this to finish its message. Default 512 MiB.
    pub receive_memory: usize,
    /// The time in which a message that arrives by parts is complete or has got 64 KiB more. Default 60 s.
    pub message_timeout: Duration,
    /// The time that a connection is held back before its socket is read ahead, so that heartbeats and its end are noticed. After twice
    /// that time its `connection.close` is answered. Default 5 s.
    pub held_back: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
            handshake: Duration::from_secs(10),
            close: Duration::from_secs(3),
            consumers: 10_000,
            message_size: 128 << 20,
            receive_memory: 512 << 20,
            message_timeout: Duration::from_secs(60),
            held_back: Duration::from_secs(5),
        }
    }
}

/// A user who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's password.
    pub password: String,
    /// Whether the user may connect from this machine only.
    pub loopback_only: bool,
}

/// Without the password, so that it never gets into a log.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("loopback_only", &self.loopback_only)
            .finish_non_exhaustive()
    }
}

impl User {
    /// `guest`, password `guest`, from this machine only.
    #[must_use]
    pub fn guest() -> User {
        User { name: "guest".to_owned(), password: "guest".to_owned(), loopback_only: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_shows_in_debug_output() {
        let user = User { password: "s3cret".to_owned(), ..User::guest() };
        assert!(!format!("{user:?}").contains("s3cret"));
    }
}
