//! A virtual host: its topology behind a lock, changed and written down together, and read by publishers.

mod committing;
mod dead_lettering;
mod deleting;
mod publishing;
mod staging;
mod together;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tracing::{error, warn};

pub(super) use self::publishing::Routed;
use super::arguments::{check_exchange, check_queue, check_queue_equivalence};
use super::dead_letters::WaitingSources;
use super::exchange::{Exchange, ExchangeSpec, PREDECLARED};
use super::governing::Governed;
use super::levels::Levels;
use super::limits::Limits;
use super::queue::{Queue, QueueSpec};
use super::record::{BindingKey, ExchangeKey, ExchangeRecord, QueueNote, QueueRecord};
use super::refusal::{Reason, Refusal};
use super::replies::Replies;
use super::request::{Bind, DeclareExchange, DestinationKind};
use super::routing::{ExchangeKind, Target, check_headers_arguments};
use super::session::SessionId;
use super::topology::{Binding, PRUNED_IN_PASSING, Topology};
use super::topology_memory::{binding_size, exchange_size, queue_size};
use super::workers::Workers;
use crate::message::ShortStr;
use crate::storage::{Change, Lsn, Store};

/// A virtual host: names mean something only within one.
#[derive(Debug)]
pub(super) struct VirtualHost {
    name: ShortStr,
    /// What its queues know it by.
    this: Weak<VirtualHost>,
    pub(super) store: Store,
    workers: Arc<Workers>,
    limits: Limits,
    pub(super) topology: RwLock<Topology>,
    /// Whether the topology has stale bindings. Written with the topology locked.
    has_stale: AtomicBool,
    pub(super) governed: Governed,
    /// When everything that was ever purged is so durably.
    purged_at: Mutex<Option<Lsn>>,
    replies: Replies,
    /// Queues with at-least-once whose dead letters have no route.
    unrouted: WaitingSources,
}

impl VirtualHost {
    /// A virtual host with the pre-declared exchanges and nothing else.
    pub(super) fn new(name: ShortStr, workers: Arc<Workers>, limits: Limits) -> Arc<Self> {
        let mut topology = Topology::default();
        for (exchange, kind) in PREDECLARED {
            let spec = ExchangeSpec::predeclared(exchange.clone(), kind);
            topology.exchanges.insert(exchange, Exchange::new(spec, None));
        }
        if let Some(timeout) = limits.consumer_timeout {
            workers.note_timeout(timeout);
        }
        let (purged_at, replies) = (Mutex::default(), Replies::default());
        let (store, topology) = (workers.store.clone(), RwLock::new(topology));
        Arc::new_cyclic(|this| Self {
            name,
            this: this.clone(),
            store,
            workers,
            limits,
            topology,
            has_stale: AtomicBool::new(false),
            governed: Governed::default(),
            purged_at,
            replies,
            unrouted: WaitingSources::default(),
        })
    }

    pub(super) fn name(&self) -> &ShortStr {
        &self.name
    }

    /// Has dead letters tried again that had no route.
    pub(super) fn retry_unrouted(&self) {
        self.unrouted.notify();
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The shortest time that any consumer of the broker was ever given to acknowledge a delivery, if one was.
    pub(super) fn shortest_timeout(&self) -> Option<Duration> {
        self.workers.shortest_timeout()
    }

    /// The channels that get direct replies.
    pub(super) fn replies(&self) -> &Replies {
        &self.replies
    }

    fn exchange_label(&self, name: &[u8]) -> String {
        format!("exchange '{}' in vhost '{}'", String::from_utf8_lossy(name), self.name)
    }

    /// `queue 'q' in vhost '/'`, as error texts name it.
    pub(super) fn queue_label(&self, name: &[u8]) -> String {
        format!("queue '{}' in vhost '{}'", String::from_utf8_lossy(name), self.name)
    }

    fn missing(label: &str) -> Refusal {
        Refusal::new(Reason::NotFound, format_args!("no {label}"))
    }

    /// 404: there is no such queue.
    pub(super) fn no_queue(&self, name: &[u8]) -> Refusal {
        Self::missing(&self.queue_label(name))
    }

    /// Refuses one more where there are as many as there may be (406), in the words that a client of RabbitMQ may know.
    fn check_count(
        &self,
        count: usize,
        limit: usize,
        what: impl std::fmt::Display,
    ) -> Result<(), Refusal> {
        if count < limit {
            return Ok(());
        }
        let host = &self.name;
        let text = format_args!("{what} limit in vhost '{host}' ({limit}) is reached");
        Err(Refusal::new(Reason::PreconditionFailed, text))
    }

    /// Refuses something new of that size (406) where the topology, or what of it goes with its owner, would take too much
    /// memory.
    fn check_memory(
        &self,
        topology: &Topology,
        owner: Option<SessionId>,
        size: usize,
        what: impl std::fmt::Display,
    ) -> Result<(), Refusal> {
        let Limits { topology: most, owned_topology, .. } = self.limits;
        let refuse = |of: &str, limit: usize| {
            let host = &self.name;
            let text = format_args!(
                "{what}: memory limit of {of} in vhost '{host}' ({limit} bytes) is reached"
            );
            Err(Refusal::new(Reason::PreconditionFailed, text))
        };
        if topology.memory.all().saturating_add(size) > most {
            return refuse("queues, exchanges and bindings", most);
        }
        match owner.map(|owner| topology.memory.owned_by(owner).saturating_add(size)) {
            Some(owned) if owned > owned_topology => {
                refuse("the connection's exclusive queues", owned_topology)
            }
            _ => Ok(()),
        }
    }

    // ---- What the store holds, at start ----

    /// Puts back an exchange that was found in the store.
    pub(super) fn restore_exchange(&self, name: ShortStr, record: ExchangeRecord) {
        let ExchangeRecord { kind, auto_delete, internal, arguments } = record;
        let spec = ExchangeSpec { name, kind, durable: true, auto_delete, internal, arguments };
        let mut exchange = Exchange::new(spec, None);
        self.govern_exchange(&mut exchange);
        self.topology.write().add_exchange(exchange);
    }

    /// Puts back a queue that was found in the store, with what is noted of it.
    pub(super) fn restore_queue(&self, record: QueueRecord, levels: Levels, note: QueueNote) {
        let QueueRecord { virtual_host: _, name, auto_delete, arguments } = record;
        let spec = QueueSpec {
            name,
            // Its own name, of which there is one for all queues.
            virtual_host: self.name.clone(),
            durable: true,
            auto_delete,
            owner: None,
            arguments,
        };
        let queue = Arc::new(self.new_queue(spec, levels, None));
        let mut topology = self.topology.write();
        if topology.queue(queue.name()).is_some() {
            warn!(queue = %queue.name(), id = %queue.id(), "stored twice: this one is set aside");
            return;
        }
        if queue.rules().bounds_bytes()
            && let Err(error) = queue.measure()
        {
            error!(queue = %queue.name(), %error, "cannot tell how many bytes are in the queue");
        }
        queue.take_up(note);
        topology.add_queue(queue);
    }

    fn new_queue(&self, spec: QueueSpec, levels: Levels, declared_at: Option<Lsn>) -> Queue {
        let (host, workers) = (self.this.clone(), Arc::clone(&self.workers));
        let queue = Queue::new(spec, levels, declared_at, host, workers);
        self.govern_queue(&queue);
        queue
    }

    /// Puts back a binding that was found in the store, after all exchanges and queues. Returns `false` if one of its ends
    /// does not exist: the caller must remove it from the store, or it would belong to the next one of that name.
    #[must_use]
    pub(super) fn restore_binding(&self, bind: &Bind, stored: &Bytes) -> bool {
        let mut topology = self.topology.write();
        let target = topology.target(bind.kind, &bind.destination);
        let (Some(target), true) = (target, topology.exchanges.contains_key(&bind.source)) else {
            return false;
        };
        let key = BindingKey::new(&self.name, bind).shared_with(stored);
        topology.add_binding(key, Binding { stored: true, declared_at: None }, target);
        true
    }

    // ---- Exchanges ----

    pub(super) fn has_exchange(&self, name: &[u8]) -> bool {
        self.topology.read().exchanges.contains_key(name)
    }

    pub(super) fn is_topic(&self, exchange: &[u8]) -> bool {
        let topology = self.topology.read();
        topology.exchanges.get(exchange).is_some_and(|found| found.spec.kind == ExchangeKind::Topic)
    }

    /// `exchange.declare`.
    pub(super) fn declare_exchange(
        &self,
        request: &DeclareExchange,
    ) -> Result<Option<Lsn>, Refusal> {
        refuse_default_exchange(&request.name)?;
        let label = self.exchange_label(&request.name);
        if request.passive {
            let topology = self.topology.read();
            let exchange = topology.exchanges.get(&request.name);
            return exchange.map(|found| found.declared_at).ok_or_else(|| Self::missing(&label));
        }
        let kind = ExchangeKind::named(&request.kind).ok_or_else(|| {
            let unknown = if request.kind.is_empty() { "invalid" } else { "unknown" };
            Refusal::new(
                Reason::PreconditionFailed,
                format_args!("{unknown} exchange type '{}'", request.kind),
            )
        })?;
        let spec = ExchangeSpec {
            name: request.name.clone(),
            kind,
            durable: request.durable,
            auto_delete: request.auto_delete,
            internal: request.internal,
            arguments: request.arguments.clone(),
        };
        let mut topology = self.lock_to_declare(DestinationKind::Exchange, &request.name);
        if let Some(found) = topology.exchanges.get(&request.name) {
            found.spec.check_equivalence(&spec, &label)?;
            // Whoever declares it again may be told before the first one is: both wait.
            return Ok(found.declared_at);
        }
        refuse_reserved("exchange", &request.name)?;
        check_exchange(&label, &spec.arguments)?;
        self.check_count(
            topology.exchanges.len().saturating_sub(PREDECLARED.len()),
            self.limits.exchanges,
            format_args!("cannot declare exchange '{}': exchange", spec.name),
        )?;
        let what = format_args!("cannot declare exchange '{}'", spec.name);
        self.check_memory(&topology, None, exchange_size(&spec), what)?;
        self.refuse_closed(&topology)?;
        let mut declared_at = None;
        if spec.durable {
            let key = ExchangeKey { virtual_host: self.name.clone(), name: spec.name.clone() };
            let change = Change::put(key.encode(), spec.record().encode());
            declared_at = Some(self.store.apply(vec![change])?);
        }
        let mut exchange = Exchange::new(spec, declared_at);
        self.govern_exchange(&mut exchange);
        topology.add_exchange(exchange);
        self.unrouted.notify();
        Ok(declared_at)
    }

    /// `exchange.delete`; an exchange that does not exist is as good as deleted.
    pub(super) fn delete_exchange(
        &self,
        name: &[u8],
        if_unused: bool,
    ) -> Result<Option<Lsn>, Refusal> {
        refuse_default_exchange(name)?;
        if name.starts_with(b"amq.") {
            return Err(Refusal::new(
                Reason::AccessRefused,
                format_args!("deletion of system {} not allowed", self.exchange_label(name)),
            ));
        }
        let topology = self.topology.write();
        let Some(exchange) = topology.exchanges.get(name) else { return Ok(topology.removed_at) };
        if if_unused && exchange.outgoing > 0 {
            return Err(Refusal::new(
                Reason::PreconditionFailed,
                format_args!("{} in use", self.exchange_label(name)),
            ));
        }
        let removal = topology.plan_exchange_removal(&exchange.spec.name);
        self.remove(topology, removal)
    }

    // ---- Bindings ----

    /// `queue.bind`, `exchange.bind`. `session` is who asks.
    pub(super) fn bind(&self, bind: &Bind, session: SessionId) -> Result<Option<Lsn>, Refusal> {
        self.check_ends(bind)?;
        let mut topology = self.topology.write();
        let Some(source) = topology.exchanges.get(&bind.source) else {
            return Err(Self::missing(&self.exchange_label(&bind.source)));
        };
        let (kind, source_durable) = (source.spec.kind, source.spec.durable);
        let target = topology.target(bind.kind, &bind.destination);
        let target_stored = match &target {
            None if bind.kind == DestinationKind::Queue => {
                return Err(Self::missing(&self.queue_label(&bind.destination)));
            }
            None => return Err(Self::missing(&self.exchange_label(&bind.destination))),
            Some(Target::Queue(queue)) => {
                queue.check_access(session)?;
                queue.is_stored()
            }
            Some(Target::Exchange(_)) => {
                let destination = topology.exchanges.get(&bind.destination);
                destination.is_some_and(|exchange| exchange.spec.durable)
            }
        };
        let Some(target) = target else { return Ok(None) };
        if kind == ExchangeKind::Headers {
            check_headers_arguments(&bind.arguments)?;
        }
        let key = BindingKey::new(&self.name, bind);
        if let Some(found) = topology.binding(bind, &key) {
            return Ok(found.declared_at);
        }
        self.check_count(topology.binding_count(), self.limits.bindings, "cannot bind: binding")?;
        let owner = match &target {
            Target::Queue(queue) => queue.spec().owner,
            Target::Exchange(_) => None,
        };
        self.check_memory(&topology, owner, binding_size(kind, &key, bind), "cannot bind")?;
        let stored = source_durable && target_stored;
        let mut declared_at = None;
        if stored {
            let change = Change::put(key.to_bytes(), BindingKey::value());
            declared_at = Some(self.store.apply(vec![change])?);
        }
        topology.add_binding(key, Binding { stored, declared_at }, target);
        self.prune(&mut topology, PRUNED_IN_PASSING);
        self.unrouted.notify();
        Ok(declared_at)
    }

    /// `queue.unbind`, `exchange.unbind`; a binding that does not exist is as good as removed.
    pub(super) fn unbind(&self, bind: &Bind, session: SessionId) -> Result<Option<Lsn>, Refusal> {
        self.check_ends(bind)?;
        let topology = self.topology.write();
        if let Some(Target::Queue(queue)) = topology.target(bind.kind, &bind.destination) {
            queue.check_access(session)?;
        }
        let key = BindingKey::new(&self.name, bind);
        if topology.binding(bind, &key).is_none() {
            return Ok(topology.removed_at);
        }
        let removal = topology.plan_binding_removal(bind, &key);
        self.remove(topology, removal)
    }

    fn check_ends(&self, bind: &Bind) -> Result<(), Refusal> {
        refuse_default_exchange(&bind.source)?;
        match bind.kind {
            DestinationKind::Queue => Ok(()),
            DestinationKind::Exchange => refuse_default_exchange(&bind.destination),
        }
    }

    // ---- Queues ----

    pub(super) fn has_queue(&self, name: &[u8]) -> bool {
        self.topology.read().queue(name).is_some()
    }

    /// The queue of that name, for a connection that may be another than an exclusive queue's owner (405).
    pub(super) fn queue(&self, name: &[u8], session: SessionId) -> Result<Arc<Queue>, Refusal> {
        let topology = self.topology.read();
        let queue = topology.queue(name).ok_or_else(|| self.no_queue(name))?;
        queue.check_access(session)?;
        Ok(Arc::clone(queue))
    }

    /// `queue.declare`, not passive. With `server_named` the name is the server's own and may begin with `amq.`.
    pub(super) fn declare_queue(
        &self,
        spec: QueueSpec,
        server_named: bool,
    ) -> Result<Arc<Queue>, Refusal> {
        if !server_named {
            refuse_reserved("queue", &spec.name)?;
        }
        if let Some(queue) = self.topology.read().queue(&spec.name) {
            check_queue_equivalence(queue, &spec)?;
            queue.touch();
            return Ok(Arc::clone(queue));
        }
        check_queue(&self.queue_label(&spec.name), &spec)?;
        let mut topology = self.lock_to_declare(DestinationKind::Queue, &spec.name);
        if let Some(queue) = topology.queue(&spec.name) {
            // Another connection was quicker.
            check_queue_equivalence(queue, &spec)?;
            return Ok(Arc::clone(queue));
        }
        self.check_count(
            topology.queues().len(),
            self.limits.queues,
            format_args!("cannot declare queue '{}': queue", spec.name),
        )?;
        let what = format_args!("cannot declare queue '{}'", spec.name);
        self.check_memory(&topology, spec.owner, queue_size(&spec), what)?;
        self.admit_queue(&topology, &spec.name)?;
        let (levels, declared_at) = if spec.durable && spec.owner.is_none() {
            let record = QueueRecord {
                virtual_host: spec.virtual_host.clone(),
                name: spec.name.clone(),
                auto_delete: spec.auto_delete,
                arguments: spec.arguments.clone(),
            };
            let (levels, lsn) = Levels::create(&self.store, &record)?;
            (levels, Some(lsn))
        } else {
            (Levels::create_volatile(&self.store, &spec.arguments), None)
        };
        let queue = Arc::new(self.new_queue(spec, levels, declared_at));
        topology.add_queue(Arc::clone(&queue));
        self.unrouted.notify();
        queue.touch();
        Ok(queue)
    }
}

fn refuse_default_exchange(name: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() {
        let what = "operation not permitted on the default exchange";
        return Err(Refusal::new(Reason::AccessRefused, what));
    }
    Ok(())
}

fn refuse_reserved(what: &str, name: &[u8]) -> Result<(), Refusal> {
    if name.starts_with(b"amq.") {
        return Err(Refusal::new(
            Reason::AccessRefused,
            format_args!(
                "{what} name '{}' contains reserved prefix 'amq.*'",
                String::from_utf8_lossy(name)
            ),
        ));
    }
    Ok(())
}
