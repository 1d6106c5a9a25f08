//! What an operator changes: virtual hosts, users, permissions, limits, policies. One change at a time, each durable when its LSN is.

use std::sync::Arc;

use parking_lot::MutexGuard;
use thiserror::Error;

use super::access::{
    AccessError, Accounts, Draft, Founding, MOST_TAGS, Permissions, TopicPermissions, User,
};
use super::handle::{Broker, DEFAULT_VIRTUAL_HOST, Inner};
use super::hosts::HostDescription;
use super::policy::{Policy, PolicyKind};
use super::record::{PolicyKey, VirtualHostKey, encode_policy, encode_virtual_host};
use super::virtual_host::VirtualHost;
use crate::message::ShortStr;
use crate::storage::{Change, Lsn, StoreError};

/// Why an operator's change was not made. Nothing has changed then.
#[derive(Debug, Clone, Error)]
pub enum AdministrationError {
    /// Users and permissions.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no such virtual host.
    #[error("vhost '{0}' does not exist")]
    NoVirtualHost(ShortStr),
    /// There is one of that name.
    #[error("vhost '{0}' already exists")]
    VirtualHostExists(ShortStr),
    /// It is always there.
    #[error("vhost '{DEFAULT_VIRTUAL_HOST}' is always there, and cannot be deleted")]
    DefaultVirtualHost,
    /// A virtual host without a name.
    #[error("a vhost must have a name")]
    NoName,
    /// There is no such policy.
    #[error("there is no policy '{name}' in vhost '{virtual_host}'")]
    NoPolicy {
        /// The policy.
        name: ShortStr,
        /// Where it was looked for.
        virtual_host: ShortStr,
    },
    /// The store took it not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The right to change things. Whoever else wants it waits.
#[derive(Debug)]
pub struct Administration<'b> {
    broker: &'b Inner,
    whole: &'b Broker,
    _alone: MutexGuard<'b, ()>,
}

/// When a change is durable; `None` if there was nothing to change.
type Done = Result<Option<Lsn>, AdministrationError>;

impl Broker {
    /// Waits until nobody else changes things, for as long as that takes.
    #[must_use]
    pub fn administer(&self) -> Administration<'_> {
        let _alone = self.inner.administering.lock();
        Administration { broker: &self.inner, whole: self, _alone }
    }

    /// The virtual hosts and what is said of them, by name.
    #[must_use]
    pub fn virtual_hosts(&self) -> Vec<(ShortStr, HostDescription)> {
        let hosts = self.inner.virtual_hosts.read();
        let mut listed: Vec<_> = hosts
            .iter()
            .map(|(name, host)| (name.clone(), HostDescription::clone(&host.description())))
            .collect();
        listed.sort_by(|(one, _), (other, _)| one.cmp(other));
        listed
    }

    /// The policies of a virtual host; `None`: there is none of that name.
    #[must_use]
    pub fn policies(&self, virtual_host: &[u8]) -> Option<Vec<Arc<Policy>>> {
        let hosts = self.inner.virtual_hosts.read();
        hosts.get(virtual_host).map(|host| host.policies())
    }
}

impl Administration<'_> {
    // ---- Users and permissions ----

    fn change_accounts(&self, draft: impl FnOnce(&mut Draft) -> Result<bool, AccessError>) -> Done {
        let mut drafted = self.broker.accounts.draft();
        draft(&mut drafted)?;
        let changes = drafted.take_changes();
        if changes.is_empty() {
            return Ok(None);
        }
        let durable_at = self.apply(changes)?;
        self.broker.accounts.adopt(drafted);
        Ok(Some(durable_at))
    }

    /// Whether the store awaits its first users: nothing was ever stored in it, or only by a version that did not store those of
    /// the settings.
    #[must_use]
    pub fn awaits_first_users(&self) -> bool {
        self.broker.accounts.founding() != Founding::Done
    }

    /// Stores the first users, with `permissions` in every virtual host that there is. They are users like any other from then on. Does nothing, once and for all, in a store that has had its first users.
    ///
    /// # Errors
    /// A user has no name; the store took it not.
    pub fn add_first_users(&self, users: Vec<User>, permissions: &Permissions) -> Done {
        if !self.awaits_first_users() {
            return Ok(None);
        }
        let hosts: Vec<_> = self.broker.virtual_hosts.read().keys().cloned().collect();
        self.change_accounts(|draft| {
            draft.found();
            for user in users {
                let name = user.name.clone();
                draft.put_user(user)?;
                for host in &hosts {
                    draft.permit(&name, host, permissions.clone())?;
                }
            }
            Ok(true)
        })
    }

    /// Adds a user.
    ///
    /// # Errors
    /// There is one of that name, stored or an administrator.
    pub fn add_user(&self, user: User) -> Done {
        self.change_accounts(|draft| draft.add_user(user))
    }

    /// Changes a stored user: password, tags, limits. Connections that are open stay so.
    ///
    /// # Errors
    /// There is no such user, or it is an administrator.
    pub fn change_user(&self, name: &ShortStr, change: impl FnOnce(&mut User)) -> Done {
        self.change_accounts(|draft| {
            let mut user = draft.user(name)?;
            change(&mut user);
            draft.put_user(user)
        })
    }

    /// Deletes a user with all permissions, and has the user's connections closed.
    ///
    /// # Errors
    /// There is no such user, or it is an administrator.
    pub fn delete_user(&self, name: &ShortStr) -> Done {
        let done = self.change_accounts(|draft| draft.delete_user(name))?;
        let reason = format!("user '{name}' is deleted");
        self.broker.connections.order_to_close(&reason, |_, live| live.user == *name);
        Ok(done)
    }

    /// Gives a user permissions in a virtual host, in place of those before. It holds at once, also on connections that are open.
    ///
    /// # Errors
    /// There is no such user or virtual host, or the user is an administrator.
    pub fn permit(
        &self,
        user: &ShortStr,
        virtual_host: &ShortStr,
        permissions: Permissions,
    ) -> Done {
        self.host(virtual_host)?;
        self.change_accounts(|draft| draft.permit(user, virtual_host, permissions))
    }

    /// Takes a user's permissions in a virtual host away. Connections that are open stay so, and can do nothing.
    ///
    /// # Errors
    /// There is no such user or virtual host, or the user is an administrator.
    pub fn forbid(&self, user: &ShortStr, virtual_host: &ShortStr) -> Done {
        self.host(virtual_host)?;
        self.change_accounts(|draft| draft.forbid(user, virtual_host))
    }

    /// Restricts the routing keys that a user may use with a topic exchange, in place of what was said before.
    ///
    /// # Errors
    /// There is no such user or virtual host, or the user is an administrator.
    pub fn permit_topics(
        &self,
        user: &ShortStr,
        virtual_host: &ShortStr,
        exchange: &ShortStr,
        permissions: TopicPermissions,
    ) -> Done {
        self.host(virtual_host)?;
        self.change_accounts(|draft| draft.permit_topics(user, virtual_host, exchange, permissions))
    }

    /// Lets a user use all routing keys of an exchange again.
    ///
    /// # Errors
    /// There is no such user or virtual host, or the user is an administrator.
    pub fn free_topics(
        &self,
        user: &ShortStr,
        virtual_host: &ShortStr,
        exchange: &ShortStr,
    ) -> Done {
        self.host(virtual_host)?;
        self.change_accounts(|draft| draft.free_topics(user, virtual_host, exchange))
    }

    // ---- Virtual hosts ----

    pub(super) fn host(&self, name: &ShortStr) -> Result<Arc<VirtualHost>, AdministrationError> {
        let hosts = self.broker.virtual_hosts.read();
        let found = hosts.get(name);
        found.cloned().ok_or_else(|| AdministrationError::NoVirtualHost(name.clone()))
    }

    /// Adds a virtual host.
    ///
    /// # Errors
    /// There is one of that name; it has no name, or too many tags.
    pub fn add_virtual_host(&self, name: &ShortStr, description: HostDescription) -> Done {
        if self.host(name).is_ok() {
            return Err(AdministrationError::VirtualHostExists(name.clone()));
        }
        Self::check_description(name, &description)?;
        let durable_at = self.apply(vec![Self::description_change(name, &description)])?;
        self.put_host(name, description);
        Ok(Some(durable_at))
    }

    /// Says something else of a virtual host. New limits are for what comes: what is there stays.
    ///
    /// # Errors
    /// There is no such virtual host; too many tags.
    pub fn describe_virtual_host(&self, name: &ShortStr, description: HostDescription) -> Done {
        let host = self.host(name)?;
        if *host.description() == description {
            return Ok(None);
        }
        Self::check_description(name, &description)?;
        let durable_at = self.apply(vec![Self::description_change(name, &description)])?;
        host.describe(description);
        Ok(Some(durable_at))
    }

    /// Describes a virtual host, which is made if there is none of that name. It is in the log by then.
    pub(super) fn put_host(&self, name: &ShortStr, description: HostDescription) {
        let mut hosts = self.broker.virtual_hosts.write();
        let new = || self.whole.new_virtual_host(name.clone());
        hosts.entry(name.clone()).or_insert_with(new).describe(description);
    }

    pub(super) fn check_description(
        name: &ShortStr,
        description: &HostDescription,
    ) -> Result<(), AdministrationError> {
        if name.is_empty() {
            return Err(AdministrationError::NoName);
        }
        if description.tags.len() > MOST_TAGS {
            return Err(AccessError::TooManyTags(format!("vhost '{name}'")).into());
        }
        Ok(())
    }

    pub(super) fn description_change(name: &ShortStr, description: &HostDescription) -> Change {
        let key = VirtualHostKey(name.clone()).encode();
        Change::put(key, encode_virtual_host(description))
    }

    pub(super) fn accounts(&self) -> &Arc<Accounts> {
        &self.broker.accounts
    }

    pub(super) fn apply(&self, changes: Vec<Change>) -> Result<Lsn, StoreError> {
        self.broker.store.apply(changes)
    }

    /// Deletes a virtual host with all that is in it and all permissions for it, in one change, and has its connections closed.
    ///
    /// # Errors
    /// There is no such virtual host, or it is the one that is always there.
    pub fn delete_virtual_host(&self, name: &ShortStr) -> Done {
        if *name == DEFAULT_VIRTUAL_HOST {
            return Err(AdministrationError::DefaultVirtualHost);
        }
        // A client that has connected is told to close, one that comes finds it gone. There may be much in it, which other
        // clients must not wait for.
        let removed = self.broker.virtual_hosts.write().remove(name);
        let host = removed.ok_or_else(|| AdministrationError::NoVirtualHost(name.clone()))?;
        let mut draft = self.broker.accounts.draft();
        draft.forget_virtual_host(name);
        let mut changes = draft.take_changes();
        changes.push(Change::remove(VirtualHostKey(name.clone()).encode()));
        changes.extend(
            host.policies()
                .iter()
                .map(|policy| Change::remove(policy_key(name, policy.kind, &policy.name).encode())),
        );
        let closed = host.close_down(changes);
        if closed.is_err() {
            self.broker.virtual_hosts.write().insert(name.clone(), host);
        }
        let durable_at = closed?;
        self.broker.accounts.adopt(draft);
        let reason = format!("vhost '{name}' is down");
        self.broker.connections.order_to_close(&reason, |_, live| live.virtual_host == *name);
        Ok(Some(durable_at))
    }

    // ---- Policies ----

    /// Sets a policy, in place of one of its kind and name. It takes effect on all there is at once.
    ///
    /// # Errors
    /// There is no such virtual host.
    pub fn set_policy(&self, virtual_host: &ShortStr, policy: Policy) -> Done {
        let host = self.host(virtual_host)?;
        if host.policies().iter().any(|found| **found == policy) {
            return Ok(None);
        }
        let durable_at = self.apply(vec![Self::policy_change(virtual_host, &policy)])?;
        host.change_policies(|policies| _ = policies.put(policy));
        Ok(Some(durable_at))
    }

    pub(super) fn policy_change(virtual_host: &ShortStr, policy: &Policy) -> Change {
        let key = policy_key(virtual_host, policy.kind, &policy.name).encode();
        Change::put(key, encode_policy(policy))
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// There is no such virtual host or policy.
    pub fn delete_policy(
        &self,
        virtual_host: &ShortStr,
        kind: PolicyKind,
        name: &ShortStr,
    ) -> Done {
        let host = self.host(virtual_host)?;
        if !host.policies().iter().any(|found| found.kind == kind && found.name == *name) {
            let (name, virtual_host) = (name.clone(), virtual_host.clone());
            return Err(AdministrationError::NoPolicy { name, virtual_host });
        }
        let key = policy_key(virtual_host, kind, name).encode();
        let durable_at = self.apply(vec![Change::remove(key)])?;
        host.change_policies(|policies| _ = policies.remove(kind, name));
        Ok(Some(durable_at))
    }
}

fn policy_key(virtual_host: &ShortStr, kind: PolicyKind, name: &ShortStr) -> PolicyKey {
    PolicyKey { virtual_host: virtual_host.clone(), kind, name: name.clone() }
}
