//! An AMQP 0-9-1 client for the commands that talk to a broker: `torture` and `bench amqp`.
//!
//! One [`Connection`] with one channel, on the crate's own codec: it negotiates, collects what is to be sent, hands out the
//! frames that come, and keeps itself alive. What lives here works with any broker. It must never know what is published
//! or consumed, nor what is right and wrong: that is the business of whoever uses it.
//!
//! | file | what it is |
//! |---|---|
//! | `uri` | where a broker is, and who one is there |
//! | `connection` | the socket: what is sent, what comes, waiting |
//! | `handshake` | from the protocol header to an open channel |
//! | `input` | received bytes, and the frames in them |
//! | `requests` | methods that are asked for in one way only |

mod connection;
mod error;
mod handshake;
mod input;
mod requests;
mod uri;

pub(super) use connection::{CHANNEL, Connection};
pub(super) use error::ClientError;
pub(super) use requests::{consuming, declaration, prefetching};
pub(super) use uri::AmqpUri;

/// How long a server may leave an answer out, or take nothing of what is sent, before it is given up.
pub(super) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
