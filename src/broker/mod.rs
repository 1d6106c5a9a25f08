//! The broker: virtual hosts, exchanges, bindings, queues, consumers, and what a channel promises its client.
//!
//! It may use the engine ([`storage`](crate::storage)) and the message model ([`message`](crate::message)). It must never
//! know of sockets, frames or an asynchronous runtime: everything here can be driven from a test, or from any
//! other front end.
//!
//! # What lives where
//! - [`Broker`]: the whole, opened on a store; [`Session`]: one per connection; [`Channel`]: one per AMQP
//!   channel, driven by its connection's task with `&mut self`.
//! - A virtual host holds the topology: exchanges with their routers (`routing`), bindings and queues. What survives a
//!   restart of it is written by `record`.
//! - A queue holds its consumers (`rotation`) and knows which of the engine's messages are ready (`backlog`). One with priorities
//!   has an engine's queue for each (`levels`).
//! - A channel holds the deliveries that are not acknowledged (`unacknowledged`), and some of their messages (`kept`).
//! - An outbox holds what waits to be sent on one connection.
//! - `replies` knows the channels that await direct replies.
//! - [`access`] knows the users and what they may do, [`policy`] what operators say of queues and exchanges by their names, `connections` who is
//!   connected. [`Administration`] changes virtual hosts, users and policies; [`definitions`] are all of it, and the topology, as one value.
//! - What is asked of a queue besides (how long messages live, how many there may be, where they go otherwise) are its `rules`;
//!   `in_force` has what it remembers for them, `dead_letters` what becomes of messages that leave it otherwise than to a consumer.
//! - `workers` have threads: the loader's read messages back that are on disk only, the carrier's carries dead letters, the timer's
//!   wakes queues when it is time.
//!
//! # How a message moves
//! `Channel::publish` asks whether the user may, routes it (what an exchange routes nowhere goes on to its alternate) and appends it to the engine's queues, and notes them (`arrivals`). `Channel::flush`, once for
//! all that came together, and before any method but `basic.publish`, `ack`, `nack` and `reject`, dispatches each of them: under the queue's lock, the consumer whose turn it is and that has credit
//! and room gets the next message into its connection's outbox. The connection's task takes it out, and `Channel::accept` gives it a delivery tag. An
//! acknowledgement goes to the queue, which removes the message from the engine and dispatches again. A message
//! that is returned goes back to its sequence, which is its place for ever.
//!
//! A message that has been handed out is in exactly one of three places: an outbox, a channel's
//! unacknowledged deliveries, or on the way between them in the one task that owns both. One that
//! leaves for the dead-letter exchange is in its queue's list of those until the carrier or a
//! channel has transferred it, and counts as unacknowledged meanwhile. Whoever takes it out of such
//! a place either acknowledges it or puts it back, and releases its consumer's credit then and only
//! then.
//!
//! # Lock order
//! Whoever administers takes the right to, then the list of virtual hosts if that changes; who connects shares that list, and takes the list of
//! connections and then the users. Nobody takes one of these with one of the following locked, but for the users, which are
//! looked at with nothing locked behind them. A virtual host's description and policies come after its topology.
//!
//! 0. A queue's turn to have its dead letters transferred: by the carrier, by a channel that is
//!    about to delete it, or by a channel that does not wait for the turn. Never two at a time: the
//!    target queues are dispatched when the turn is over.
//! 1. A virtual host's topology: shared while a message is routed and appended, exclusive while
//!    something is declared, bound or deleted.
//! 2. A virtual host's note of the last purge.
//! 3. A queue's state: never two queues at a time. Consumers come, go and are served under it.
//! 4. A virtual host's consumers of direct replies, while one is served, added or removed: with no other lock held before.
//! 5. An outbox: never two at a time.
//! 6. A channel credit's list of starved consumers, the loader's and the carrier's lists of jobs,
//!    the timer's, and lists of source queues that wait for a change. Nothing is locked inside.
//!
//! The engine may be called under 1 to 3; it never calls back into the broker. Wakers are called with
//! nothing locked.
//!
//! Three places look racy, and are not:
//! - *A consumer is parked while its credit or room comes back.* Credit is given back before the queue is locked to say so,
//!   and the dispatcher parks under that lock; refusals for lack of room, or of the channel's credit, are noted under the lock
//!   of what was lacking.
//! - *A consumer is cancelled while a dispatch is under way.* It leaves the queue under the queue's lock, and its deliveries
//!   leave the outbox under the same: nothing can be added between or after.
//! - *A queue is deleted while messages of it are in outboxes or unacknowledged.* They are delivered and acknowledged as
//!   usual; a deleted queue ignores what it is told. It is deleted under the exclusive topology lock, so no
//!   publisher is between routing and appending.

pub mod access;
mod administration;
mod arguments;
mod arrivals;
mod backlog;
#[cfg(feature = "benchmarks")]
pub(crate) mod benchmarks;
mod channel;
mod confirms;
mod connections;
mod consumer;
mod copies;
mod dead_letters;
pub mod definitions;
mod delivery;
mod equivalence;
mod exchange;
mod governing;
mod handle;
mod hosts;
mod in_force;
mod jobs;
mod kept;
mod levels;
mod limits;
mod loader;
mod names;
mod outbox;
pub mod policy;
mod promises;
mod queue;
mod record;
mod refusal;
mod replies;
mod request;
mod rotation;
mod routing;
mod rules;
mod session;
mod settlement;
mod stored_queue;
mod tagged;
mod timer;
mod topology;
mod topology_memory;
mod transaction;
mod unacknowledged;
mod virtual_host;
mod workers;

pub use administration::{Administration, AdministrationError};
pub use channel::{Channel, Committed, Done, Published, Step};
pub use confirms::Confirm;
pub use connections::ConnectionListing;
pub use delivery::{ChannelNumber, Delivery, DeliveryTag, Event, Get};
pub use handle::{Broker, StartError};
pub use hosts::{HostDescription, HostLimits};
pub use limits::Limits;
pub use record::RecordError;
pub use refusal::{Reason, Refusal, Scope};
pub use request::{
    Bind, Consume, DeclareExchange, DeclareQueue, DestinationKind, QueueDeclared, QueueDeleted,
    QueuePurged,
};
pub use routing::Effort;
pub use session::Session;
pub use stored_queue::{QueuePart, StoredQueue};

#[cfg(test)]
mod tests;
