//! Dead letters: messages that leave their queue otherwise than to a consumer, and the exchange that they go to.
//!
//! What lives here: how a message tells where it has died (`death`), the thread that carries dead
//! letters from their queue to their exchange (`carrier`), the queues whose dead letters a channel
//! transfers itself (`pending_sources`), and the queues whose dead letters wait for a route or for
//! room (`waiting_sources`). Which messages leave a queue is the queue's own business, and where
//! they arrive the virtual host's.

mod carrier;
mod death;
mod pending_sources;
mod waiting_sources;

pub(super) use carrier::Carrier;
pub(super) use death::{Death, bury, is_cycle};
pub(super) use pending_sources::{Budget, PendingSources};
pub(super) use waiting_sources::WaitingSources;
