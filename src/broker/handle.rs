//! The broker as a whole: its store, its virtual hosts, and how it starts.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tracing::warn;

use super::access::{Accounts, Founding, Grant};
use super::connections::{ConnectionListing, Connections, Counts, Live};
use super::levels::Levels;
use super::limits::Limits;
use super::record::{
    BindingKey, BindingRecord, ExchangeKey, ExchangeRecord, FoundingKey, PermissionKey, PolicyKey,
    QueueNote, RecordError, TopicPermissionKey, UserKey, VirtualHostKey, decode_founding,
    decode_policy, decode_virtual_host,
};
use super::refusal::{Reason, Refusal};
use super::routing::STEPS_OF_A_TURN;
use super::session::{Session, SessionId, Shared};
use super::transaction::StagedBytes;
use super::virtual_host::VirtualHost;
use super::workers::{WorkerThreads, Workers};
use crate::message::ShortStr;
use crate::storage::{Change, Store, StoreError};

/// The virtual host that there always is.
pub(super) const DEFAULT_VIRTUAL_HOST: ShortStr = ShortStr::from_static("/");

/// A running broker. Cloning gives another handle to the same.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    /// Those of each virtual host.
    limits: Limits,
    pub(super) virtual_hosts: RwLock<HashMap<ShortStr, Arc<VirtualHost>>>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) connections: Arc<Connections>,
    /// Held by whoever changes virtual hosts, users, permissions or policies: one at a time.
    pub(super) administering: Mutex<()>,
    sessions: AtomicU64,
    /// Ends its threads when the last handle goes.
    pub(super) workers: WorkerThreads,
}

/// Why a broker did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store holds topology that this program cannot use.
    #[error("the stored topology cannot be used: {0}; start the version of haypile that wrote it")]
    Record(#[from] RecordError),
    /// The store cannot be written to.
    #[error("bindings of deleted queues and exchanges cannot be removed from the store: {0}")]
    Orphans(StoreError),
    /// The operating system gave no threads.
    #[error("cannot start the threads that work for the queues: {0}")]
    Threads(#[from] io::Error),
}

/// The number of bindings that one record removes at the start.
const ORPHANS_AT_ONCE: usize = 4096;

impl Broker {
    /// Starts a broker on the exchanges, queues and bindings that the store holds.
    ///
    /// # Errors
    /// [`StartError`]; the store is unchanged.
    pub fn open(store: Store) -> Result<Self, StartError> {
        Self::with_limits(store, Limits::default())
    }

    /// The same with limits other than the default ones.
    ///
    /// # Errors
    /// [`StartError`]; the store is unchanged.
    pub fn with_limits(store: Store, limits: Limits) -> Result<Self, StartError> {
        let workers = WorkerThreads::start(&store)?;
        let accounts = Accounts::new();
        let mut virtual_hosts = HashMap::new();
        restore(&mut virtual_hosts, workers.workers(), limits, &accounts)?;
        let inner = Inner {
            store,
            limits,
            virtual_hosts: RwLock::new(virtual_hosts),
            accounts: Arc::new(accounts),
            connections: Arc::default(),
            administering: Mutex::default(),
            sessions: AtomicU64::new(0),
            workers,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A virtual host with nothing in it, that is not this broker's yet.
    pub(super) fn new_virtual_host(&self, name: ShortStr) -> Arc<VirtualHost> {
        VirtualHost::new(name, Arc::clone(self.inner.workers.workers()), self.inner.limits)
    }

    /// The users and their permissions.
    #[must_use]
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.inner.accounts
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionListing> {
        self.inner.connections.list()
    }

    /// Has connections closed (320): that of this number, or all. How many there are.
    pub fn close_connections(&self, id: Option<u64>, reason: &str) -> usize {
        self.inner.connections.order_to_close(reason, |other, _| id.is_none_or(|id| id == other.0))
    }

    /// The store that everything is kept in: where to wait for an [`Lsn`](crate::storage::Lsn).
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Does what queues wait for, in the caller's thread: reads messages back, carries dead letters, looks what has expired. Whether
    /// there was anything. Only for a store with [`Background::Caller`](crate::storage::Background::Caller): with its
    /// own threads, the broker has some for this too.
    pub fn work_off(&self) -> bool {
        self.inner.workers.work_off()
    }

    /// A new session for a user who has authenticated.
    ///
    /// # Errors
    /// 530 when there is no such virtual host, it or the user has connections enough, or the user may not have one to it.
    pub fn connect(&self, virtual_host: &[u8], user: &[u8]) -> Result<Session, Refusal> {
        let Inner { accounts, connections, .. } = &*self.inner;
        // Locked until the connection is known: whoever deletes the virtual host finds it.
        let virtual_hosts = self.inner.virtual_hosts.read();
        let host = virtual_hosts.get(virtual_host).ok_or_else(|| {
            let name = String::from_utf8_lossy(virtual_host);
            Refusal::new(Reason::NotAllowed, format_args!("vhost {name} not found"))
        })?;
        let id = SessionId(self.inner.sessions.fetch_add(1, Relaxed));
        let user = ShortStr::copy_of(user);
        let outbox = Arc::default();
        let live = Live {
            user: user.clone(),
            virtual_host: host.name().clone(),
            outbox: Arc::clone(&outbox),
            peer: std::sync::OnceLock::new(),
            channels: AtomicU64::new(0),
        };
        let live = connections.add(id, live, |counts| self.admit(host, &user, counts))?;
        Ok(Session::new(Shared {
            id,
            user,
            virtual_host: Arc::clone(host),
            outbox,
            staged: Arc::new(StagedBytes::new(host.limits().transaction)),
            accounts: Arc::clone(accounts),
            connections: Arc::clone(connections),
            live,
            prunes: false.into(),
            steps: STEPS_OF_A_TURN.into(),
        }))
    }

    /// Refuses (530) a connection too many, and one that the user may not have.
    fn admit(&self, host: &VirtualHost, user: &ShortStr, counts: Counts) -> Result<(), Refusal> {
        let refused = |why: std::fmt::Arguments<'_>| Err(Refusal::new(Reason::NotAllowed, why));
        let name = host.name();
        let of_host = host.description().limits.max_connections;
        let of_user = self.inner.accounts.limits(user).max_connections;
        if let Some(limit) = of_host.filter(|limit| counts.of_virtual_host >= *limit) {
            return refused(format_args!(
                "access to vhost '{name}' refused for user '{user}': \
                 connection limit ({limit}) is reached"
            ));
        }
        if let Some(limit) = of_user.filter(|limit| counts.of_user >= *limit) {
            return refused(format_args!(
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            ));
        }
        match self.inner.accounts.grant(user, name) {
            Grant::Nothing => {
                refused(format_args!("access to vhost '{name}' refused for user '{user}'"))
            }
            _ => Ok(()),
        }
    }
}

/// Virtual hosts by their names.
type VirtualHosts = HashMap<ShortStr, Arc<VirtualHost>>;

/// The virtual host that something stored is in.
fn host_of<'h>(
    hosts: &'h VirtualHosts,
    virtual_host: &ShortStr,
    what: &str,
    name: &ShortStr,
) -> Option<&'h Arc<VirtualHost>> {
    let found = hosts.get(virtual_host);
    if found.is_none() {
        warn!(%virtual_host, %name, "a stored {what} of an unknown virtual host is left alone");
    }
    found
}

/// Puts back virtual hosts with their policies, users, exchanges and queues, then the bindings between them.
fn restore(
    hosts: &mut VirtualHosts,
    workers: &Arc<Workers>,
    limits: Limits,
    accounts: &Accounts,
) -> Result<(), StartError> {
    let new_host = |name: &ShortStr| VirtualHost::new(name.clone(), Arc::clone(workers), limits);
    hosts.insert(DEFAULT_VIRTUAL_HOST, new_host(&DEFAULT_VIRTUAL_HOST));
    let entries = workers.store.entries();
    let of_prefix = |prefix| entries.iter().filter(move |(key, _)| key.first() == Some(&prefix));
    for (key, value) in of_prefix(VirtualHostKey::PREFIX) {
        let VirtualHostKey(name) = VirtualHostKey::decode(key)?;
        let described = decode_virtual_host(value)?;
        hosts.entry(name).or_insert_with_key(new_host).describe(described);
    }
    // Before what they are for: a queue that comes back is to find them in force.
    for (key, value) in of_prefix(PolicyKey::PREFIX) {
        let key = PolicyKey::decode(key)?;
        let policy = decode_policy(&key, value)?;
        if let Some(host) = host_of(hosts, &key.virtual_host, "policy", &policy.name) {
            host.restore_policy(policy);
        }
    }
    hosts.values().for_each(|host| host.apply_policies());
    if !entries.is_empty() || !workers.store.queues().is_empty() {
        accounts.restore_founding(Founding::Unknown);
    }
    let (mut bindings, mut notes) = (Vec::new(), HashMap::new());
    for (key, value) in &entries {
        match key.first() {
            Some(&(VirtualHostKey::PREFIX | PolicyKey::PREFIX)) => {}
            Some(&FoundingKey::PREFIX) => {
                decode_founding(value)?;
                accounts.restore_founding(Founding::Done);
            }
            Some(&UserKey::PREFIX) => accounts.restore_user(key, value)?,
            Some(&PermissionKey::PREFIX) => accounts.restore_permissions(key, value)?,
            Some(&TopicPermissionKey::PREFIX) => accounts.restore_topic_permissions(key, value)?,
            Some(&ExchangeKey::PREFIX) => {
                let ExchangeKey { virtual_host, name } = ExchangeKey::decode(key)?;
                if let Some(host) = host_of(hosts, &virtual_host, "exchange", &name) {
                    host.restore_exchange(name, ExchangeRecord::decode(value)?);
                }
            }
            Some(&BindingKey::PREFIX) => bindings.push((key, BindingRecord::decode(key, value)?)),
            Some(&QueueNote::PREFIX) => {
                notes.insert(QueueNote::queue(key)?, QueueNote::decode(value)?);
            }
            _ => warn!(key = %key.escape_ascii(), "a stored entry of unknown type is left alone"),
        }
    }
    for (record, levels) in Levels::stored(&workers.store)? {
        if let Some(host) = host_of(hosts, &record.virtual_host, "queue", &record.name) {
            let note = notes.remove(&levels.id().get()).unwrap_or_default();
            host.restore_queue(record, levels, note);
        }
    }
    let mut orphans = Vec::new();
    for (key, record) in bindings {
        if let Some(host) = host_of(hosts, &record.virtual_host, "binding", &record.source) {
            let bind = record.into_bind();
            if !host.restore_binding(&bind, key) {
                orphans.push(Change::remove(key.clone()));
            }
        }
    }
    remove_orphans(&workers.store, orphans)
}

/// Removes bindings of deleted queues and exchanges from the store: a large deletion was under way when the broker stopped.
fn remove_orphans(store: &Store, mut orphans: Vec<Change>) -> Result<(), StartError> {
    if !orphans.is_empty() {
        warn!(bindings = orphans.len(), "bindings of deleted queues and exchanges are removed");
    }
    while !orphans.is_empty() {
        let rest = orphans.split_off(orphans.len().min(ORPHANS_AT_ONCE));
        store.apply(std::mem::replace(&mut orphans, rest)).map_err(StartError::Orphans)?;
    }
    Ok(())
}
