//! The protocol on raw frames over real sockets.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml allows them in `#[test]`s, not in their helpers

mod abuse;
mod access;
mod bounds;
mod canary;
#[path = "../common/certificates.rs"]
mod certificates;
mod channels;
#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod failing;
mod frames;
mod full;
mod giving_back;
mod held_back;
mod leaving;
mod messages;
mod negotiation;
mod order_within_channel;
mod orders;
mod pieces;
mod pipelining;
mod properties;
#[path = "../common/quota.rs"]
mod quota;
mod routing;
mod shutdown;
mod tls;
mod transactions;
mod watermarks;

use common::{basic_get, exchange_declare, queue_bind, queue_declare};
