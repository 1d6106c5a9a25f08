//! Everything that a broker holds but messages, as one value: to be written out, and to be taken in.
//!
//! [`Definitions`] and how a broker says its own are here; `importing` checks what comes from outside and makes it so. Neither knows of
//! files or their format.

mod importing;

use crate::broker::access::{Permissions, TopicPermissions, User};
use crate::broker::handle::Broker;
use crate::broker::hosts::{HostDescription, HostLimits};
use crate::broker::policy::Policy;
use crate::broker::request::{Bind, DeclareExchange, DeclareQueue};
use crate::broker::virtual_host::VirtualHost;
use crate::message::ShortStr;

pub use importing::{Count, Imported};

/// Something in a virtual host, which is named first.
pub type In<T> = (ShortStr, T);

/// All that is declared and set. Exclusive queues are left out: they belong to a connection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    /// Virtual hosts.
    pub virtual_hosts: Vec<In<HostDescription>>,
    /// Limits of virtual hosts that are not among these: a file of one alone does not describe it.
    pub limits: Vec<In<HostLimits>>,
    /// Stored users.
    pub users: Vec<User>,
    /// Permissions of stored users.
    pub permissions: Vec<In<(ShortStr, Permissions)>>,
    /// Which routing keys of an exchange stored users may use: user, exchange, keys.
    pub topic_permissions: Vec<In<(ShortStr, ShortStr, TopicPermissions)>>,
    /// Policies of both kinds.
    pub policies: Vec<In<Policy>>,
    /// Exchanges, without those that are always there.
    pub exchanges: Vec<In<DeclareExchange>>,
    /// Queues.
    pub queues: Vec<In<DeclareQueue>>,
    /// Bindings.
    pub bindings: Vec<In<Bind>>,
}

impl Broker {
    /// All that is declared and set, in an order that is always the same.
    #[must_use]
    pub fn definitions(&self) -> Definitions {
        let permissions = self.inner.accounts.permissions().into_iter();
        let topics = self.inner.accounts.topic_permissions().into_iter();
        let mut all = Definitions {
            users: self.inner.accounts.users(),
            permissions: permissions.map(|(user, host, may)| (host, (user, may))).collect(),
            topic_permissions: topics.map(|(user, host, x, may)| (host, (user, x, may))).collect(),
            ..Definitions::default()
        };
        let virtual_hosts = self.inner.virtual_hosts.read();
        let mut hosts: Vec<_> = virtual_hosts.values().collect();
        hosts.sort_by_key(|host| host.name());
        for host in hosts {
            let described = HostDescription::clone(&host.description());
            all.virtual_hosts.push((host.name().clone(), described));
            host.define(&mut all);
        }
        all
    }
}

impl VirtualHost {
    /// Adds what is in it.
    fn define(&self, all: &mut Definitions) {
        let own = |policy: &std::sync::Arc<Policy>| (self.name().clone(), Policy::clone(policy));
        all.policies.extend(self.policies().iter().map(own));
        let topology = self.topology.read();
        let mut exchanges: Vec<_> =
            topology.exchanges.values().filter(|found| !found.is_predeclared()).collect();
        exchanges.sort_by_key(|exchange| &exchange.spec.name);
        all.exchanges.extend(exchanges.into_iter().map(|exchange| {
            let spec = &exchange.spec;
            let declared = DeclareExchange {
                name: spec.name.clone(),
                kind: ShortStr::copy_of(spec.kind.name().as_bytes()),
                passive: false,
                durable: spec.durable,
                auto_delete: spec.auto_delete,
                internal: spec.internal,
                arguments: spec.arguments.clone(),
            };
            (self.name().clone(), declared)
        }));
        let mut queues: Vec<_> =
            topology.queues().filter(|queue| queue.spec().owner.is_none()).collect();
        queues.sort_by_key(|queue| queue.name());
        all.queues.extend(queues.into_iter().map(|queue| {
            let spec = queue.spec();
            let declared = DeclareQueue {
                name: spec.name.clone(),
                passive: false,
                durable: spec.durable,
                exclusive: false,
                auto_delete: spec.auto_delete,
                arguments: spec.arguments.clone(),
            };
            (self.name().clone(), declared)
        }));
        let mut bindings: Vec<_> = topology
            .bindings()
            .map(|key| (key, key.to_bind()))
            .filter(|(_, bind)| {
                topology.queue(&bind.destination).is_none_or(|queue| queue.spec().owner.is_none())
                    || bind.kind == crate::broker::request::DestinationKind::Exchange
            })
            .collect();
        bindings.sort_by_key(|(key, _)| *key);
        let name = self.name();
        all.bindings.extend(bindings.into_iter().map(|(_, bind)| (name.clone(), bind)));
    }
}
