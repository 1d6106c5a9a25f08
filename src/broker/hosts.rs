//! What is said of a virtual host, apart from what is in it.

use crate::message::ShortStr;

/// What an operator has said of a virtual host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostDescription {
    /// For people.
    pub description: String,
    /// For people as well.
    pub tags: Vec<ShortStr>,
    /// How much there may be in it.
    pub limits: HostLimits,
}

/// Limits of one virtual host; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostLimits {
    /// Connections at the same time.
    pub max_connections: Option<u64>,
    /// Queues at the same time, of all kinds.
    pub max_queues: Option<u64>,
}
