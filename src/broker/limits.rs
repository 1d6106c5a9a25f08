//! What a broker lets its clients take.

use std::time::Duration;

/// How much of what stays or waits in memory there may be. What goes beyond is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Queues of a virtual host. Default 100,000.
    pub queues: usize,
    /// Exchanges of a virtual host, besides those that there always are. Default 100,000.
    pub exchanges: usize,
    /// Bindings of a virtual host. Default 1,000,000.
    pub bindings: usize,
    /// Bytes of memory that the queues, exchanges and bindings of a virtual host take. Default 512 MiB.
    pub topology: usize,
    /// Bytes of it that the exclusive queues of a connection take, with the bindings to them. Default 128 MiB.
    pub owned_topology: usize,
    /// Deliveries that a channel's client may hold unacknowledged: its consumers get no more than that, as if it were their
    /// prefetch count, and `basic.get` is refused. Default 1,000,000.
    pub unacknowledged: u32,
    /// How long a client may hold a delivery unacknowledged, where neither its consumer nor its queue says so: its channel is
    /// then closed. `None` means no limit. Default `None`.
    pub consumer_timeout: Option<Duration>,
    /// Bytes of messages that the transactions of a connection hold until they are committed. Default 256 MiB.
    pub transaction: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queues: 100_000,
            exchanges: 100_000,
            bindings: 1_000_000,
            topology: 512 << 20,
            owned_topology: 128 << 20,
            unacknowledged: 1_000_000,
            consumer_timeout: None,
            transaction: 256 << 20,
        }
    }
}
