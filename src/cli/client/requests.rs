//! Methods that are asked for in one way only.

use crate::amqp::codec::Method;
use crate::message::RawTable;

/// A durable queue; `passive`: which has to be there already.
pub(in crate::cli) fn declaration<'a>(
    queue: &'a str,
    passive: bool,
    arguments: RawTable<'a>,
) -> Method<'a> {
    Method::QueueDeclare {
        reserved_1: 0,
        queue: queue.as_bytes(),
        passive,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments,
    }
}

/// So many unacknowledged messages at most for each consumer that begins after it; 0: as many as there are.
pub(in crate::cli) fn prefetching(count: u16) -> Method<'static> {
    Method::BasicQos { prefetch_size: 0, prefetch_count: count, global: false }
}

/// A consumer; `no_ack`: whose messages count as acknowledged when they are sent.
pub(in crate::cli) fn consuming<'a>(queue: &'a str, tag: &'a str, no_ack: bool) -> Method<'a> {
    Method::BasicConsume {
        reserved_1: 0,
        queue: queue.as_bytes(),
        consumer_tag: tag.as_bytes(),
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    }
}
