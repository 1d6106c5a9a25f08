//! The broker as a whole: its store, its virtual hosts, and how it starts.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use thiserror::Error;
use tracing::warn;

use super::limits::Limits;
use super::record::{
    BindingKey, BindingRecord, ExchangeKey, ExchangeRecord, QueueNote, QueueRecord, RecordError,
};
use super::refusal::{Reason, Refusal};
use super::session::{Session, SessionId};
use super::virtual_host::VirtualHost;
use super::workers::WorkerThreads;
use crate::message::ShortStr;
use crate::storage::Store;

/// The virtual host that there always is.
const DEFAULT_VIRTUAL_HOST: ShortStr = ShortStr::from_static("/");

/// A running broker. Cloning gives another handle to the same.
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    virtual_hosts: HashMap<ShortStr, Arc<VirtualHost>>,
    sessions: AtomicU64,
    /// Ends its threads when the last handle goes.
    workers: WorkerThreads,
}

/// Why a broker did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store holds topology that this program cannot use.
    #[error("the stored topology cannot be used: {0}; start the version of haypile that wrote it")]
    Record(#[from] RecordError),
    /// The operating system gave no threads.
    #[error("cannot start the threads that work for the queues: {0}")]
    Threads(#[from] io::Error),
}

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
        let default = VirtualHost::new(DEFAULT_VIRTUAL_HOST, Arc::clone(workers.workers()), limits);
        restore(&default, &store)?;
        let virtual_hosts = HashMap::from([(DEFAULT_VIRTUAL_HOST, default)]);
        let sessions = AtomicU64::new(0);
        Ok(Self { inner: Arc::new(Inner { store, virtual_hosts, sessions, workers }) })
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
    /// 530 when there is no such virtual host.
    pub fn connect(&self, virtual_host: &[u8], user: &[u8]) -> Result<Session, Refusal> {
        let found = self.inner.virtual_hosts.get(virtual_host).ok_or_else(|| {
            let name = String::from_utf8_lossy(virtual_host);
            Refusal::new(Reason::NotAllowed, format_args!("vhost {name} not found"))
        })?;
        let id = SessionId(self.inner.sessions.fetch_add(1, Relaxed));
        Ok(Session::new(id, ShortStr::copy_of(user), Arc::clone(found)))
    }
}

/// Puts back exchanges and queues, then the bindings between them.
fn restore(host: &VirtualHost, store: &Store) -> Result<(), RecordError> {
    let mut bindings = Vec::new();
    let mut notes = HashMap::new();
    for (key, value) in store.entries() {
        match key.first() {
            Some(&ExchangeKey::PREFIX) => {
                let ExchangeKey { virtual_host, name } = ExchangeKey::decode(&key)?;
                if is_of(host, &virtual_host, "exchange", &name) {
                    host.restore_exchange(name, ExchangeRecord::decode(&value)?);
                }
            }
            Some(&BindingKey::PREFIX) => {
                let record = BindingRecord::decode(&key, &value)?;
                if is_of(host, &record.virtual_host, "binding", &record.source) {
                    bindings.push(record.into_bind());
                }
            }
            Some(&QueueNote::PREFIX) => {
                notes.insert(QueueNote::queue(&key)?, QueueNote::decode(&value)?);
            }
            _ => warn!(key = %key.escape_ascii(), "a stored entry of unknown type is left alone"),
        }
    }
    for queue in store.queues() {
        let record = QueueRecord::decode(queue.attributes())?;
        if is_of(host, &record.virtual_host, "queue", &record.name) {
            let note = notes.remove(&queue.id().get()).unwrap_or_default();
            host.restore_queue(record, queue, note);
        }
    }
    bindings.into_iter().for_each(|bind| host.restore_binding(bind));
    Ok(())
}

fn is_of(host: &VirtualHost, virtual_host: &ShortStr, what: &str, name: &ShortStr) -> bool {
    let known = host.name() == virtual_host;
    if !known {
        warn!(%virtual_host, %name, "a stored {what} of an unknown virtual host is left alone");
    }
    known
}
