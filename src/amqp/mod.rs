//! The AMQP 0-9-1 front end: what goes over a connection, from the first byte to the last.
//!
//! - [`codec`]: frames and methods, pure.
//! - `handshake`, `sasl`, `limits`: negotiation. `verifier`, `turns`: passwords are verified in turn.
//! - `gateway`, `scarcity`: what all connections share, and what holds publishers back.
//! - `connection`, `running`, `channel`, `assembly`: the protocol's state, and the translation of its methods into the broker's
//!   requests and back. No sockets: frames in, an `Output` out.
//! - `task`: one tokio task per connection, which joins that state with a `transport` (a socket, with TLS or without) and the clock;
//!   `handshake_time`: the time that a handshake has left; `guest`: a connection that has not logged in; `intake`: the memory for
//!   what arrives; `thinning`: fewer lines in the log.
//!
//! It may use `broker`, `message` and the `Store` to wait for durability. It must never know how a message is
//! routed, queued or stored, nor how it came to its sockets.

pub mod codec;

mod assembly;
#[cfg(feature = "benchmarks")]
pub(crate) mod benchmarks;
mod channel;
mod connection;
mod fault;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gateway;
mod guest;
mod handshake;
mod handshake_time;
mod intake;
mod limits;
mod output;
mod running;
mod sasl;
mod scarcity;
mod task;
mod thinning;
mod transport;
mod turns;
mod verifier;

pub use gateway::Gateway;
pub(crate) use guest::Guest;
pub use limits::{Limits, User};
pub use scarcity::Resource;
pub(crate) use task::serve;
pub(crate) use transport::Transport;
pub(crate) use verifier::source;
