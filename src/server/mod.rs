//! The server: listeners, configuration, start and stop.
//!
//! Puts a store, a broker and the AMQP front end together and feeds them sockets, [says](inspection) what is in the
//! store while it runs, and does what its [operator](control) wants. It may use all of them; it must never know what goes over a client's socket.

mod config;
pub mod control;
mod descriptors;
mod founding;
pub mod inspection;
mod listeners;
mod memory;
mod places;
mod threads;
mod tls;
mod watermarks;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::control::ControlSocket;
use self::inspection::{Identity, Inspected, InspectionSocket};
use self::places::{Place, Places};
use self::threads::ConnectionThreads;
use self::watermarks::Watch;
use crate::amqp::{self, Gateway, Transport};
use crate::broker::{Broker, StartError};
use crate::storage::{Clock, OpenError, RecoveryReport, Store, StoreError};

pub(crate) use self::memory::{Budgets, fit_allocator};
pub use config::Config;
pub use descriptors::raise_limit as raise_limit_of_open_files;
pub(crate) use tls::is_readable_by_all;
pub use tls::{ClientCertificates, Tls, TlsError};
pub use watermarks::Watermarks;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}; {}", listeners::advice(*address, error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The operating system gave no threads.
    #[error("cannot start the threads that serve connections: {0}")]
    Threads(io::Error),
    /// TLS cannot be served.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// No address was given.
    #[error("no address to listen on: give at least one with --listen")]
    NoAddress,
    /// The data directory cannot be used.
    #[error("{}: {error}", .directory.display())]
    Store {
        /// The data directory.
        directory: PathBuf,
        /// What is wrong with it.
        error: OpenError,
    },
    /// What the broker stored in the data directory cannot be used.
    #[error("{}: {error}", .directory.display())]
    Broker {
        /// The data directory.
        directory: PathBuf,
        /// What is wrong with it.
        error: StartError,
    },
}

/// Why a server ended before it was told to, or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log failed. Nothing has been confirmed since; the process must end, and may be started again.
    #[error("the log has failed, nothing is accepted any more: {0}")]
    Failed(StoreError),
    /// The store could not be closed cleanly. What was confirmed is safe; the next start takes longer.
    #[error("the store was not closed cleanly: {0}")]
    Close(StoreError),
}

/// A listening socket, and the TLS that its connections speak, if they do.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    fn all(sockets: Vec<TcpListener>, tls: Option<&Arc<ServerConfig>>) -> Vec<Listener> {
        sockets.into_iter().map(|socket| Listener { socket, tls: tls.cloned() }).collect()
    }
}

/// Their addresses, with the ports that port 0 became.
fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
}

/// A server that has its addresses and its data, and does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    store: Store,
    clock: Arc<dyn Clock>,
    inspections: Option<InspectionSocket>,
    control: Option<(ControlSocket, Broker)>,
    gateway: Arc<Gateway>,
    watch: Watch,
    threads: Arc<ConnectionThreads>,
    max_connections: usize,
    grace: Duration,
}

impl Server {
    /// Takes the addresses, then opens the store and recovers what is in it.
    ///
    /// Opening reads and writes files and blocks the calling thread meanwhile: a moment usually.
    ///
    /// # Errors
    /// [`BindError`], when an address or the data directory cannot be had. Nothing has been changed then.
    pub async fn bind(config: Config) -> Result<Server, BindError> {
        let tls = config.tls.as_ref().map(|tls| Ok((tls.load()?, &tls.listen)));
        let tls = tls.transpose().map_err(BindError::Tls)?;
        let mut listeners = match &tls {
            // Who gives addresses for TLS alone wants no others.
            Some(_) if config.listen.is_empty() => Vec::new(),
            _ => Listener::all(listeners::bind(&config.listen, config.backlog)?, None),
        };
        let plain = addresses(&listeners);
        let mut with_tls = Vec::new();
        if let Some((session, listen)) = tls {
            let more = Listener::all(listeners::bind(listen, config.backlog)?, Some(&session));
            with_tls = addresses(&more);
            listeners.extend(more);
        }
        let threads = ConnectionThreads::start(config.threads).map_err(BindError::Threads)?;
        let directory = config.data_dir;
        let clock = Arc::clone(&config.storage.clock);
        let store = match Store::open(&directory, config.storage) {
            Ok(store) => store,
            Err(error) => return Err(BindError::Store { directory, error }),
        };
        let broker = match Broker::with_limits(store.clone(), config.broker_limits) {
            Ok(broker) => broker,
            Err(error) => return Err(BindError::Broker { directory, error }),
        };
        let unstored = founding::found(&broker, config.users);
        let control = ControlSocket::open(&directory).map(|socket| (socket, broker.clone()));
        let gateway = Gateway::new(broker, store.clone(), unstored, config.limits);
        let gateway = Arc::new(gateway);
        let inspections = InspectionSocket::open(&directory);
        let watch = Watch::new(Arc::clone(&gateway), directory, config.watermarks);
        // Before anybody publishes.
        watch.look();
        Ok(Server {
            listeners,
            addresses: plain,
            tls_addresses: with_tls,
            store,
            clock,
            inspections,
            control,
            gateway,
            watch,
            threads: Arc::new(threads),
            max_connections: descriptors::connections(config.max_connections),
            grace: config.grace,
        })
    }

    /// The addresses that are listened on, with the ports that port 0 became.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The addresses where TLS is spoken.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// What opening the store found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        self.store.recovery()
    }

    /// Accepts and serves connections until `stop` is ready, then tells them, waits for them within
    /// [`Config::grace`], and closes the store: all is synced and a checkpoint written.
    ///
    /// # Errors
    /// [`RunError::Failed`], at once and without the above, when the log fails; [`RunError::Close`].
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let Server {
            listeners,
            mut addresses,
            tls_addresses,
            store,
            clock,
            inspections,
            control,
            gateway,
            watch,
            threads,
            max_connections,
            grace,
        } = self;
        let (stopping, stopped) = watch::channel(false);
        addresses.extend(tls_addresses);
        let mut inspecting = JoinSet::new();
        if let Some(socket) = inspections {
            let identity = Identity { addresses, since: clock.now() };
            let levels = watch.levels();
            let inspected = Inspected { store: store.clone(), clock, identity, levels };
            inspecting.spawn(socket.answer(inspected, stopped.clone()));
        }
        if let Some((socket, broker)) = control {
            inspecting.spawn(socket.answer(broker, stopped.clone()));
        }
        let watching = tokio::spawn(watch.keep_looking(stopped.clone()));
        let places = Arc::new(Places::new(max_connections));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(
                listener,
                Arc::clone(&gateway),
                Arc::clone(&threads),
                Arc::clone(&places),
                stopped.clone(),
            ));
        }
        tokio::select! {
            () = stop => {}
            error = gateway.failed() => return Err(give_up(&threads, error).await),
        }
        accepting.shutdown().await;
        // Only fails when there is no connection left to tell.
        stopping.send(true).ok();
        tokio::select! {
            _ = tokio::time::timeout(grace, places.all_free(max_connections)) => {}
            error = gateway.failed() => return Err(give_up(&threads, error).await),
        }
        threads.stop().await;
        // It only fails when it has panicked, which has been said.
        watching.await.ok();
        drop(gateway);
        // Before the store gives the directory back, and with it the socket's name.
        while inspecting.join_next().await.is_some() {}
        tokio::task::spawn_blocking(move || store.close())
            .await
            .expect("closing the store does not panic and is not cancelled")
            .map_err(RunError::Close)
    }
}

/// Ends the connections without a word: while their threads live, they would take the end of the server for a clean one, and say so.
async fn give_up(threads: &ConnectionThreads, error: StoreError) -> RunError {
    threads.stop().await;
    RunError::Failed(error)
}

/// Accepts connections on one socket for ever.
async fn accept(
    listener: Listener,
    gateway: Arc<Gateway>,
    threads: Arc<ConnectionThreads>,
    places: Arc<Places>,
    stopped: watch::Receiver<bool>,
) {
    loop {
        match listener.socket.accept().await {
            Ok((stream, peer)) => {
                let place = places.take(peer.ip());
                if place.is_none() && !places.make_room() {
                    gateway.log.say("connection refused", peer.ip(), || {
                        tracing::warn!(%peer, "connection refused: too many connections");
                    });
                    continue;
                }
                let (gateway, stopped) = (Arc::clone(&gateway), stopped.clone());
                let (stream, tls) = (stream.into_std(), listener.tls.clone());
                let places = Arc::clone(&places);
                threads.serve(move || async move {
                    let place = match place {
                        Some(place) => Some(place),
                        None => places.wait(peer.ip()).await,
                    };
                    if let Some(place) = place {
                        serve(stream, tls, peer, gateway, stopped, place).await;
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: some will be closed soon.
                tracing::error!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a connection, on the thread that it stays on.
async fn serve(
    stream: io::Result<std::net::TcpStream>,
    tls: Option<Arc<ServerConfig>>,
    peer: SocketAddr,
    gateway: Arc<Gateway>,
    stopped: watch::Receiver<bool>,
    place: Place,
) {
    let stream = match stream.and_then(TcpStream::from_std) {
        Ok(stream) => stream,
        Err(error) => return tracing::error!(%peer, "cannot serve a connection: {error}"),
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "cannot switch off Nagle's algorithm: {error}");
    }
    let transport = match tls {
        None => Transport::plain(stream),
        Some(config) => match Transport::tls(stream, config) {
            Ok(transport) => transport,
            Err(error) => return tracing::error!(%peer, "cannot serve TLS: {error}"),
        },
    };
    let Place { guest, permit } = place;
    amqp::serve(transport, peer, gateway, guest, stopped).await;
    drop(permit);
}
