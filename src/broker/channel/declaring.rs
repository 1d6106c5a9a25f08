//! Exchanges, queues and bindings: what a client declares, asks for and deletes on a channel.

use std::sync::Arc;

use super::Channel;
use crate::broker::arguments::check_server_named;
use crate::broker::names::{random_name, strip_line_breaks};
use crate::broker::queue::{DeleteIf, Queue, QueueSpec};
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::replies::is_reserved;
use crate::broker::request::{
    Bind, DeclareExchange, DeclareQueue, DestinationKind, QueueDeclared, QueueDeleted,
};
use crate::message::ShortStr;
use crate::storage::Lsn;

impl Channel {
    /// `exchange.declare`.
    ///
    /// # Errors
    /// 403 reserved name or default exchange, 404 passive and missing, 406 not equivalent or unknown type,
    /// 540 argument not supported.
    pub fn declare_exchange(&mut self, request: &DeclareExchange) -> Result<Option<Lsn>, Refusal> {
        let name = strip_line_breaks(&request.name);
        let request = &DeclareExchange { name, ..request.clone() };
        let virtual_host = &self.session.virtual_host;
        self.powers.check_declare_exchange(request, || virtual_host.has_exchange(&request.name))?;
        virtual_host.declare_exchange(request)
    }

    /// Whether a declaration of that name has to wait, because an earlier queue or exchange of that name is being deleted. The
    /// session [prunes](crate::broker::Session::prune_some) its bindings then.
    #[must_use]
    pub fn awaits_deletion(&self, kind: DestinationKind, name: &[u8]) -> bool {
        let name = strip_line_breaks(&ShortStr::copy_of(name));
        let is_going = self.session.virtual_host.is_going(kind, &name);
        if is_going {
            self.session.note_deletion();
        }
        is_going
    }

    /// `exchange.delete`. An exchange that does not exist is as good as deleted.
    ///
    /// # Errors
    /// 403 pre-declared or default exchange, 406 `if_unused` and it has bindings.
    pub fn delete_exchange(
        &mut self,
        name: &[u8],
        if_unused: bool,
    ) -> Result<Option<Lsn>, Refusal> {
        let name = strip_line_breaks(&ShortStr::copy_of(name));
        self.powers.check_delete_exchange(&name)?;
        let deleted = self.session.virtual_host.delete_exchange(&name, if_unused);
        self.session.note_deletion();
        deleted
    }

    /// `queue.bind`, `exchange.bind`. Binding twice is the same as once.
    ///
    /// # Errors
    /// 403 default exchange, 404 one of the ends is missing, 405 another connection's queue, 406 bad arguments.
    pub fn bind(&mut self, request: &Bind) -> Result<Option<Lsn>, Refusal> {
        let bind = self.expand(request)?;
        let virtual_host = &self.session.virtual_host;
        self.powers.check_bind(&bind, || virtual_host.is_topic(&bind.source))?;
        virtual_host.bind(&bind, self.session.id)
    }

    /// `queue.unbind`, `exchange.unbind`. A binding that does not exist is as good as removed.
    ///
    /// # Errors
    /// 403 default exchange, 405 another connection's queue.
    pub fn unbind(&mut self, request: &Bind) -> Result<Option<Lsn>, Refusal> {
        let bind = self.expand(request)?;
        let virtual_host = &self.session.virtual_host;
        self.powers.check_bind(&bind, || virtual_host.is_topic(&bind.source))?;
        let unbound = virtual_host.unbind(&bind, self.session.id);
        self.session.note_deletion();
        unbound
    }

    /// An empty queue name is the last queue declared; with an empty routing key, that one is its name too. Other names lose
    /// their line breaks.
    fn expand(&self, request: &Bind) -> Result<Bind, Refusal> {
        let mut bind = request.clone();
        if bind.kind == DestinationKind::Queue && bind.destination.is_empty() {
            bind.destination = self.queue_name(&[])?;
            if bind.routing_key.is_empty() {
                bind.routing_key = bind.destination.clone();
            }
        }
        bind.source = strip_line_breaks(&bind.source);
        bind.destination = strip_line_breaks(&bind.destination);
        Ok(bind)
    }

    /// The name as given, or that of the last queue declared on this channel (404 if there is none).
    pub(super) fn queue_name(&self, name: &[u8]) -> Result<ShortStr, Refusal> {
        if !name.is_empty() {
            return Ok(ShortStr::copy_of(name));
        }
        let last = self.last_queue.clone();
        last.ok_or_else(|| Refusal::new(Reason::NotFound, "no previously declared queue"))
    }

    /// The queue of that name, which is to be read from.
    pub(super) fn readable_queue(&mut self, name: &[u8]) -> Result<Arc<Queue>, Refusal> {
        if name.is_empty() {
            let name = self.queue_name(name)?;
            self.powers.check_read_queue(&name)?;
            return self.session.virtual_host.queue(&name, self.session.id);
        }
        self.powers.check_read_queue(name)?;
        self.session.virtual_host.queue(name, self.session.id)
    }

    /// `queue.declare`.
    ///
    /// # Errors
    /// 403 reserved name, 404 passive and missing, 405 another connection's queue, 406 not equivalent or bad argument,
    /// 540 argument not supported.
    pub fn declare_queue(&mut self, request: &DeclareQueue) -> Result<QueueDeclared, Refusal> {
        let stripped = strip_line_breaks(&request.name);
        if is_reserved(&stripped) {
            return self.declare_reserved(&stripped);
        }
        let queue = if request.passive {
            // A question about an unnamed queue before there is one; every other method says so differently.
            if request.name.is_empty() && self.last_queue.is_none() {
                return Err(self.session.virtual_host.no_queue(&[]));
            }
            let name = if request.name.is_empty() { self.queue_name(&[])? } else { stripped };
            self.powers.check_ask_for_queue(&name)?;
            let queue = self.session.virtual_host.queue(&name, self.session.id)?;
            queue.touch();
            queue
        } else {
            let server_named = stripped.is_empty();
            if server_named {
                check_server_named(&request.arguments)?;
            }
            let name = if server_named { random_name("amq.gen-")? } else { stripped };
            let virtual_host = &self.session.virtual_host;
            self.powers.check_declare_queue(request, &name, || virtual_host.has_queue(&name))?;
            let spec = QueueSpec {
                name,
                virtual_host: self.session.virtual_host.name().clone(),
                durable: request.durable,
                auto_delete: request.auto_delete,
                owner: request.exclusive.then_some(self.session.id),
                arguments: request.arguments.clone(),
            };
            self.session.virtual_host.declare_queue(spec, server_named)?
        };
        self.last_queue = Some(queue.name().clone());
        let (messages, consumers) = queue.counts();
        let durable_at = queue.declared_at();
        Ok(QueueDeclared { name: queue.name().clone(), messages, consumers, durable_at })
    }

    /// Whoever is to answer directly may ask whether somebody still waits: as if there were a queue, with one consumer.
    fn declare_reserved(&mut self, name: &ShortStr) -> Result<QueueDeclared, Refusal> {
        let virtual_host = &self.session.virtual_host;
        if !virtual_host.replies().exists(name) {
            return Err(virtual_host.no_queue(name));
        }
        self.last_queue = Some(name.clone());
        Ok(QueueDeclared { name: name.clone(), messages: 0, consumers: 1, durable_at: None })
    }

    /// `queue.delete`. A queue that does not exist is as good as deleted.
    ///
    /// # Errors
    /// 404 no name and no queue declared, 405 another connection's queue, 406 in use or not empty when that was ruled out.
    pub fn delete_queue(
        &mut self,
        name: &[u8],
        if_unused: bool,
        if_empty: bool,
    ) -> Result<QueueDeleted, Refusal> {
        // So that the counts are up to date.
        self.flush()?;
        let name = strip_line_breaks(&self.queue_name(name)?);
        self.powers.check_configure_queue(&name)?;
        let conditions = DeleteIf { unused: if_unused, empty: if_empty };
        let virtual_host = &self.session.virtual_host;
        let (messages, durable_at) =
            virtual_host.delete_queue(&name, conditions, self.session.id)?;
        self.session.note_deletion();
        Ok(QueueDeleted { messages, durable_at })
    }
}
