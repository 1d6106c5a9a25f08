//! The values of all settings, and what a server is started with because of them.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::units;
use crate::amqp::{Limits, User};
use crate::broker;
use crate::server::{Budgets, ClientCertificates, Config, Tls, Watermarks};
use crate::storage::Options;

/// One value per setting. What each of them may be is in the [table](super::table); the defaults are those of
/// [`Config`].
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli) struct Settings {
    pub(super) data_dir: PathBuf,
    pub(super) listen: Vec<SocketAddr>,
    /// `None`: as many as there are processors.
    pub(super) threads: Option<u64>,
    /// What the log's filter is made of.
    pub(in crate::cli) log: String,
    pub(super) grace: Duration,
    pub(super) tls: TlsFiles,
    pub(super) login: Login,
    pub(super) limits: ClientLimits,
    pub(super) storage: Engine,
}

/// TLS; there is none without a certificate.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) only: bool,
    pub(super) client_roots: Option<PathBuf>,
    pub(super) require_client_certificate: bool,
}

/// The user who may log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) remote: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct ClientLimits {
    pub(super) connections: u64,
    pub(super) backlog: u64,
    pub(super) channel_max: u64,
    pub(super) frame_max: u64,
    pub(super) heartbeat: Duration,
    pub(super) consumers: u64,
    /// `None`: what befits the memory that there is.
    pub(super) message_size: Option<u64>,
    /// The same.
    pub(super) receive_memory: Option<u64>,
    pub(super) message_timeout: Duration,
    pub(super) unacknowledged: u64,
    /// Zero means no limit.
    pub(super) consumer_timeout: Duration,
    /// The same.
    pub(super) transaction_size: Option<u64>,
    pub(super) queues: u64,
    pub(super) exchanges: u64,
    pub(super) bindings: u64,
    /// The same.
    pub(super) topology: Option<u64>,
    /// The same.
    pub(super) owned_topology: Option<u64>,
    /// `None`: what befits the machine.
    pub(super) memory: Option<u64>,
    pub(super) disk_free: u64,
    pub(super) handshake_timeout: Duration,
    pub(super) close_timeout: Duration,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Engine {
    /// `None`: what befits the memory that there is.
    pub(super) cache: Option<u64>,
    /// The same.
    pub(super) index: Option<u64>,
    pub(super) segment_size: u64,
    pub(super) segments_ahead: u64,
    pub(super) segments_spare: u64,
    pub(super) checkpoint_distance: u64,
    pub(super) lazy_sync: Duration,
    /// The same.
    pub(super) unsynced_limit: Option<u64>,
}

impl Default for Settings {
    fn default() -> Settings {
        let Config {
            listen,
            data_dir,
            storage,
            limits,
            broker_limits,
            watermarks,
            max_connections,
            backlog,
            grace,
            ..
        } = Config::default();
        let User { name, password, loopback_only } = User::guest();
        Settings {
            data_dir,
            listen,
            threads: None,
            log: "info".to_owned(),
            grace,
            tls: TlsFiles { listen: Tls::default_addresses(), ..TlsFiles::default() },
            login: Login { user: name, password, remote: !loopback_only },
            limits: ClientLimits {
                connections: max_connections as u64,
                backlog: backlog.into(),
                channel_max: limits.channel_max.into(),
                frame_max: limits.frame_max.into(),
                heartbeat: Duration::from_secs(limits.heartbeat.into()),
                consumers: limits.consumers as u64,
                message_size: None,
                receive_memory: None,
                message_timeout: limits.message_timeout,
                unacknowledged: broker_limits.unacknowledged.into(),
                consumer_timeout: broker_limits.consumer_timeout.unwrap_or_default(),
                transaction_size: None,
                queues: broker_limits.queues as u64,
                exchanges: broker_limits.exchanges as u64,
                bindings: broker_limits.bindings as u64,
                topology: None,
                owned_topology: None,
                memory: watermarks.memory,
                disk_free: watermarks.disk_free,
                handshake_timeout: limits.handshake,
                close_timeout: limits.close,
            },
            storage: Engine {
                cache: None,
                index: None,
                segment_size: storage.segment_size,
                segments_ahead: storage.segments_ahead as u64,
                segments_spare: storage.segments_spare as u64,
                checkpoint_distance: storage.checkpoint_distance,
                lazy_sync: storage.lazy_sync,
                unsynced_limit: None,
            },
        }
    }
}

impl Settings {
    /// What the server is started with.
    pub(in crate::cli) fn into_config(self) -> Config {
        let Settings { data_dir, listen, threads, log: _, grace, tls, login, limits, storage } =
            self;
        let threads = match threads {
            Some(threads) => fit(threads),
            None => thread::available_parallelism().map_or(1, NonZero::get),
        };
        let user =
            User { name: login.user, password: login.password, loopback_only: !login.remote };
        let budgets = Budgets::new(limits.memory);
        // Without `..`: what is added to it is to be thought of here.
        Config {
            listen: if tls.only { Vec::new() } else { listen },
            tls: tls.into_tls(),
            data_dir,
            storage: storage.into_options(budgets),
            users: vec![user],
            max_connections: fit(limits.connections),
            backlog: fit(limits.backlog),
            broker_limits: limits.broker_limits(budgets),
            watermarks: Watermarks { memory: limits.memory, disk_free: limits.disk_free },
            limits: limits.into_limits(budgets),
            threads,
            grace,
        }
    }

    /// What "auto" comes to for a budget, in bytes, where this program runs; `None`: it is not known, or no such setting.
    pub(super) fn automatic(&self, key: &str) -> Option<u64> {
        let budgets = Budgets::new(self.limits.memory);
        match key {
            "limits.memory" => budgets.memory,
            "limits.message_size" => Some(budgets.message),
            "limits.receive_memory" => Some(budgets.receive),
            "limits.transaction_size" => Some(budgets.transaction),
            "limits.topology" => Some(budgets.topology),
            "limits.connection_topology" => Some(budgets.owned_topology),
            "storage.cache" => Some(budgets.cache),
            "storage.index" => Some(budgets.index),
            "storage.unsynced_limit" => Some(budgets.unsynced),
            _ => None,
        }
    }

    /// Pairs of settings whose values make no sense together, and why.
    pub(super) fn contradictions(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut found = Vec::new();
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            found.push((
                "tls.certificate",
                "tls.key",
                "a certificate and its key are of no use without each other",
            ));
        }
        if self.tls.certificate.is_none() && self.tls.only {
            found.push((
                "tls.only",
                "tls.certificate",
                "without a certificate there is no TLS, and nothing else is to be listened for",
            ));
        }
        if self.tls.certificate.is_none() && self.tls.client_roots.is_some() {
            found.push((
                "tls.client_roots",
                "tls.certificate",
                "without a certificate there is no TLS, and no client is asked for one",
            ));
        }
        if self.tls.client_roots.is_none() && self.tls.require_client_certificate {
            found.push((
                "tls.require_client_certificate",
                "tls.client_roots",
                "without roots there is nobody to vouch for a client's certificate",
            ));
        }
        if self.grace < self.limits.close_timeout {
            found.push((
                "grace",
                "limits.close_timeout",
                "at a stop, clients would be cut off that still have time to say goodbye; \
                 `grace` must not be the shorter one",
            ));
        }
        if self.limits.memory.zip(self.storage.cache).is_some_and(|(most, cache)| most < cache) {
            found.push((
                "limits.memory",
                "storage.cache",
                "messages that wait to be delivered would hold publishers back; \
                 `limits.memory` must not be the smaller one",
            ));
        }
        if self.storage.checkpoint_distance < self.storage.segment_size {
            found.push((
                "storage.checkpoint_distance",
                "storage.segment_size",
                "a checkpoint is there to free whole segments; \
                 `storage.checkpoint_distance` must not be the smaller one",
            ));
        }
        found
    }

    /// What an operator should know of although it is allowed.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some((cache, memory)) =
            self.storage.cache.zip(Budgets::new(self.limits.memory).memory)
            && self.limits.memory.is_none()
            && memory < cache
        {
            let (cache, memory) = (units::show_size(cache), units::show_size(memory));
            found.push(format!(
                "`storage.cache` is {cache}, and `limits.memory` comes to {memory} here: \
                 publishers will be held back; leave `storage.cache` at \"auto\""
            ));
        }
        let guest = User::guest();
        if self.login.remote && self.login.password == guest.password {
            found.push(
                "`login.remote` lets in whoever knows the default password: set `login.password`"
                    .to_owned(),
            );
        }
        found
    }
}

impl TlsFiles {
    fn into_tls(self) -> Option<Tls> {
        let (certificate, key) = self.certificate.zip(self.key)?;
        let clients = match (self.client_roots, self.require_client_certificate) {
            (None, _) => ClientCertificates::NotAsked,
            (Some(roots), false) => ClientCertificates::Optional(roots),
            (Some(roots), true) => ClientCertificates::Required(roots),
        };
        Some(Tls { listen: self.listen, certificate, key, clients })
    }
}

impl ClientLimits {
    fn broker_limits(&self, budgets: Budgets) -> broker::Limits {
        broker::Limits {
            queues: fit(self.queues),
            exchanges: fit(self.exchanges),
            bindings: fit(self.bindings),
            topology: fit(self.topology.unwrap_or(budgets.topology)),
            owned_topology: fit(self.owned_topology.unwrap_or(budgets.owned_topology)),
            unacknowledged: fit(self.unacknowledged),
            consumer_timeout: Some(self.consumer_timeout).filter(|time| !time.is_zero()),
            transaction: fit(self.transaction_size.unwrap_or(budgets.transaction)),
        }
    }

    fn into_limits(self, budgets: Budgets) -> Limits {
        Limits {
            channel_max: fit(self.channel_max),
            frame_max: fit(self.frame_max),
            heartbeat: fit(self.heartbeat.as_secs()),
            handshake: self.handshake_timeout,
            close: self.close_timeout,
            consumers: fit(self.consumers),
            message_size: self.message_size.unwrap_or(budgets.message),
            receive_memory: fit(self.receive_memory.unwrap_or(budgets.receive)),
            message_timeout: self.message_timeout,
            // Options that are not for operators stay as they are.
            held_back: Limits::default().held_back,
        }
    }
}

impl Engine {
    /// Options that are not for operators stay as they are.
    fn into_options(self, budgets: Budgets) -> Options {
        Options {
            cache: self.cache.unwrap_or(budgets.cache),
            index: self.index.unwrap_or(budgets.index),
            segment_size: self.segment_size,
            segments_ahead: fit(self.segments_ahead),
            segments_spare: fit(self.segments_spare),
            checkpoint_distance: self.checkpoint_distance,
            lazy_sync: self.lazy_sync,
            unsynced_limit: self.unsynced_limit.unwrap_or(budgets.unsynced),
            ..Options::default()
        }
    }
}

/// A number as the type that it is to have.
fn fit<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number).ok().expect("the table of settings allows no number that does not fit")
}
