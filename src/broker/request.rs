//! The arguments of the requests that a client makes, and what they are answered with.
//!
//! Names are bytes, as on the wire: AMQP short strings need not be UTF-8.

use crate::message::{FieldTable, ShortStr};
use crate::storage::Lsn;

/// `exchange.declare` (AMQP 0-9-1, 1.6.2.1).
#[derive(Debug, Clone, PartialEq)]
pub struct DeclareExchange {
    /// Name of the exchange.
    pub name: ShortStr,
    /// Type as named by the client: `direct`, `fanout`, `topic` or `headers`.
    pub kind: ShortStr,
    /// Only ask whether it exists; everything but the name is ignored.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last binding goes.
    pub auto_delete: bool,
    /// Reached through bindings only; clients may not publish to it.
    pub internal: bool,
    /// Optional arguments.
    pub arguments: FieldTable,
}

/// `queue.declare` (AMQP 0-9-1, 1.7.2.1).
#[derive(Debug, Clone, PartialEq)]
pub struct DeclareQueue {
    /// Name of the queue; empty for a name chosen by the server, or with `passive` for the last one declared.
    pub name: ShortStr,
    /// Only ask whether it exists; everything but the name is ignored.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to this connection, and goes with it.
    pub exclusive: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Optional arguments.
    pub arguments: FieldTable,
}

/// What `queue.declare-ok` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDeclared {
    /// Name of the queue, also when the server chose it.
    pub name: ShortStr,
    /// Messages ready for delivery.
    pub messages: u32,
    /// Consumers of the queue.
    pub consumers: u32,
    /// The answer must wait until this is durable.
    pub durable_at: Option<Lsn>,
}

/// What `queue.delete-ok` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDeleted {
    /// Messages that were ready for delivery and went with the queue.
    pub messages: u32,
    /// The answer must wait until this is durable.
    pub durable_at: Option<Lsn>,
}

/// What `queue.purge-ok` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePurged {
    /// Messages removed; those handed out and not yet acknowledged stay.
    pub messages: u32,
    /// The answer must wait until this is durable.
    pub durable_at: Option<Lsn>,
}

/// What a binding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestinationKind {
    /// A queue: `queue.bind`, `queue.unbind`.
    Queue,
    /// Another exchange: `exchange.bind`, `exchange.unbind`.
    Exchange,
}

/// `queue.bind`, `queue.unbind`, `exchange.bind`, `exchange.unbind` (AMQP 0-9-1, 1.7.2.3; RabbitMQ's exchange bindings).
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// The exchange that messages come from.
    pub source: ShortStr,
    /// What `destination` names.
    pub kind: DestinationKind,
    /// The queue or exchange that messages go to; an empty queue name means the last queue declared on the channel.
    pub destination: ShortStr,
    /// Routing key, as the type of the source exchange understands it.
    pub routing_key: ShortStr,
    /// Arguments, as the type of the source exchange understands them.
    pub arguments: FieldTable,
}

/// `basic.consume` (AMQP 0-9-1, 1.8.3.3).
#[derive(Debug, Clone)]
pub struct Consume {
    /// The queue; empty means the last queue declared on the channel.
    pub queue: ShortStr,
    /// Tag of the consumer; empty for one chosen by the server.
    pub consumer_tag: ShortStr,
    /// Messages count as acknowledged when they are sent.
    pub no_ack: bool,
    /// Nobody else may consume from the queue.
    pub exclusive: bool,
    /// Optional arguments; `x-priority` is understood.
    pub arguments: FieldTable,
}
