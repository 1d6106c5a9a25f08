//! Which rights each method needs, as RabbitMQ 3.10 asks for them, in its order; stricter where a name is only asked for.
//!
//! | method | needs |
//! |---|---|
//! | `exchange.declare`, `exchange.delete` | configure; for a new one with an alternate: read on it, write on the alternate |
//! | `queue.declare`, `queue.delete` | configure; for a new one with a dead-letter exchange: read on it, write on that exchange |
//! | both declared passively | any of the three: RabbitMQ 3.10 needs none, and tells everybody what there is |
//! | `queue.bind`, `exchange.bind` and their reverse | write on the destination, read on the source |
//! | `basic.publish` | write on the exchange; also for a direct reply, which goes to the default one |
//! | `basic.consume`, `basic.get`, `queue.purge` | read on the queue |
//!
//! Where a user's routing keys are restricted, those of a message (of its copies too) and of a binding have to be allowed as well, if the exchange
//! is a topic exchange.
//!
//! What is no question of rights (a reserved name, the default exchange, an unknown type) is left to the request itself.

use super::permissions::Right;
use super::powers::{Powers, Resource};
use crate::broker::arguments::ALTERNATE_EXCHANGE;
use crate::broker::refusal::Refusal;
use crate::broker::request::{Bind, DeclareExchange, DeclareQueue, DestinationKind};
use crate::broker::routing::ExchangeKind;
use crate::message::FieldTable;

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const ANY: [Right; 3] = [Right::Configure, Right::Write, Right::Read];

impl Powers {
    /// `exchange.declare`; `exists` says whether there is one of that name.
    pub(in crate::broker) fn check_declare_exchange(
        &mut self,
        request: &DeclareExchange,
        exists: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        let exchange = Resource::Exchange(&request.name);
        let known = request.passive || ExchangeKind::named(&request.kind).is_some();
        if request.name.is_empty() || !known {
            return Ok(());
        }
        if request.passive {
            return self.check_any(&ANY, exchange);
        }
        self.check(Right::Configure, exchange)?;
        match named(&request.arguments, ALTERNATE_EXCHANGE) {
            Some(alternate) if !exists() => {
                self.check(Right::Read, exchange)?;
                self.check(Right::Write, Resource::Exchange(alternate))
            }
            _ => Ok(()),
        }
    }

    /// `exchange.delete`.
    pub(in crate::broker) fn check_delete_exchange(&mut self, name: &[u8]) -> Result<(), Refusal> {
        if name.is_empty() || name.starts_with(b"amq.") {
            return Ok(());
        }
        self.check(Right::Configure, Resource::Exchange(name))
    }

    /// `queue.declare` of a queue with this name, which the server has chosen where the request names none; `exists` says whether
    /// there is one.
    pub(in crate::broker) fn check_declare_queue(
        &mut self,
        request: &DeclareQueue,
        name: &[u8],
        exists: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        if request.name.starts_with(b"amq.") {
            return Ok(());
        }
        self.check_configure_queue(name)?;
        match named(&request.arguments, DEAD_LETTER_EXCHANGE) {
            Some(exchange) if !exists() => {
                self.check(Right::Read, Resource::Queue(name))?;
                self.check(Right::Write, Resource::Exchange(exchange))
            }
            _ => Ok(()),
        }
    }

    /// A passive `queue.declare`.
    pub(in crate::broker) fn check_ask_for_queue(&mut self, name: &[u8]) -> Result<(), Refusal> {
        self.check_any(&ANY, Resource::Queue(name))
    }

    /// `queue.delete`.
    pub(in crate::broker) fn check_configure_queue(&mut self, name: &[u8]) -> Result<(), Refusal> {
        self.check(Right::Configure, Resource::Queue(name))
    }

    /// `basic.consume`, `basic.get`, `queue.purge`.
    pub(in crate::broker) fn check_read_queue(&mut self, name: &[u8]) -> Result<(), Refusal> {
        self.check(Right::Read, Resource::Queue(name))
    }

    /// `queue.bind`, `queue.unbind`, `exchange.bind`, `exchange.unbind`; `is_topic` says whether the source is a topic exchange.
    pub(in crate::broker) fn check_bind(
        &mut self,
        bind: &Bind,
        is_topic: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        let (destination, is_default) = match bind.kind {
            DestinationKind::Queue => (Resource::Queue(&bind.destination), false),
            DestinationKind::Exchange => {
                (Resource::Exchange(&bind.destination), bind.destination.is_empty())
            }
        };
        self.check(Right::Write, destination)?;
        if is_default || bind.source.is_empty() {
            return Ok(());
        }
        self.check(Right::Read, Resource::Exchange(&bind.source))?;
        let restricted = self.check_topic(Right::Read, &bind.source, &bind.routing_key);
        restricted.or_else(|refusal| if is_topic() { Err(refusal) } else { Ok(()) })
    }
}

fn named<'a>(arguments: &'a FieldTable, argument: &str) -> Option<&'a [u8]> {
    arguments.get(argument.as_bytes())?.as_long_str().map(|name| &name[..])
}
