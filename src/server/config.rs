//! What a server is started with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::tls::Tls;
use super::watermarks::Watermarks;
use crate::amqp::{Limits, User};
use crate::broker;
use crate::storage;

/// A server's configuration. `Config::default()` is what `haypile serve` runs without any options.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on. Default `127.0.0.1:5672` and `[::1]:5672`; an address of this machine's IPv6 that does
    /// not exist is left out as long as another one works.
    pub listen: Vec<SocketAddr>,
    /// TLS, on addresses of its own: with it there need not be others. Default: none.
    pub tls: Option<Tls>,
    /// Where the data is. Default `haypile-data` in the current directory.
    pub data_dir: PathBuf,
    /// The engine's options.
    pub storage: storage::Options,
    /// The users that are stored, with all permissions, when the server starts on an empty data directory. Default `guest` with password `guest`, from this machine only.
    pub users: Vec<User>,
    /// What one connection may do.
    pub limits: Limits,
    /// How much there may be of what stays.
    pub broker_limits: broker::Limits,
    /// Where publishers are held back because of memory or disk space.
    pub watermarks: Watermarks,
    /// Connections at the same time; more are closed as soon as they are accepted. Half of the process's file descriptors at most.
    /// Default 10,000.
    pub max_connections: usize,
    /// Connections that may wait to be accepted, on each address; the system may allow fewer (`net.core.somaxconn`). More are not
    /// answered, so that the client's system tries again a second later. Default 4,096.
    pub backlog: u32,
    /// Threads that serve connections; each connection stays on one of them. Default: as many as there are processors.
    pub threads: usize,
    /// How long connections may take to say goodbye when the server stops. Default 5 s.
    pub grace: Duration,
}

/// The port that IANA has registered for AMQP.
const PORT: u16 = 5672;

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), PORT),
            ],
            tls: None,
            data_dir: PathBuf::from("haypile-data"),
            storage: storage::Options::default(),
            users: vec![User::guest()],
            limits: Limits::default(),
            broker_limits: broker::Limits::default(),
            watermarks: Watermarks::default(),
            max_connections: 10_000,
            backlog: 4096,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            grace: Duration::from_secs(5),
        }
    }
}
