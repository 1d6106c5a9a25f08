//! `haypile serve`

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{COULD_NOT_RUN, DONE, FAILED, complain};
use crate::server::{ClientCertificates, Config, Server, Tls};

/// Run the broker in the foreground, until SIGTERM or SIGINT stops it cleanly.
///
/// Prints one line, "ready" and its addresses ("tls:" before those of TLS), when it accepts connections. Without options it keeps its data in
/// ./haypile-data, listens on 127.0.0.1:5672 and [::1]:5672, and lets the user guest (password guest) in from this
/// machine.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Where the data is kept; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// An address to listen on, instead of the default ones; may be given several times. Port 0: any free port.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    #[command(flatten)]
    tls: TlsOptions,
}

/// How TLS is served.
#[derive(Debug, clap::Args)]
struct TlsOptions {
    /// Serve TLS too, with the certificate in this PEM file and those between it and a root.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Listen for TLS alone.
    #[arg(long, requires = "tls_certificate", conflicts_with = "listen")]
    tls_only: bool,
    /// An address to serve TLS on, instead of 127.0.0.1:5671 and [::1]:5671; may be given several times.
    #[arg(long, value_name = "ADDR:PORT", requires = "tls_certificate")]
    tls_listen: Vec<SocketAddr>,
    /// Ask clients for a certificate that one of the roots in this PEM file vouches for.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_client_roots: Option<PathBuf>,
    /// Let nobody in on TLS who has no such certificate.
    #[arg(long, requires = "tls_client_roots")]
    tls_require_client_certificate: bool,
}

impl TlsOptions {
    fn tls(self) -> Option<Tls> {
        let (certificate, key) = self.tls_certificate.zip(self.tls_key)?;
        let clients = match (self.tls_client_roots, self.tls_require_client_certificate) {
            (None, _) => ClientCertificates::NotAsked,
            (Some(roots), false) => ClientCertificates::Optional(roots),
            (Some(roots), true) => ClientCertificates::Required(roots),
        };
        let listen =
            if self.tls_listen.is_empty() { Tls::default_addresses() } else { self.tls_listen };
        Some(Tls { listen, certificate, key, clients })
    }
}

impl Serve {
    pub(super) fn run(self) -> u8 {
        let mut config = Config::default();
        if let Some(dir) = self.data_dir {
            config.data_dir = dir;
        }
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        if self.tls.tls_only {
            config.listen = Vec::new();
        }
        config.tls = self.tls.tls();
        run(config)
    }
}

/// Runs a server until it is told to stop, or fails.
pub(super) fn run(config: Config) -> u8 {
    start_logging();
    // For accepting, signals and the like: connections have threads of their own.
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return COULD_NOT_RUN;
        }
    };
    let code = runtime.block_on(serve(config));
    // Whatever still runs has been told to end, and waited for.
    runtime.shutdown_background();
    code
}

async fn serve(config: Config) -> u8 {
    let dir = config.data_dir.clone();
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                complain(&format!("cannot wait for signals: {error}"));
                return COULD_NOT_RUN;
            }
        };
    let server = match Server::bind(config).await {
        Ok(server) => server,
        Err(error) => {
            complain(&error);
            return COULD_NOT_RUN;
        }
    };
    let found = server.recovery();
    tracing::info!(
        dir = %dir.display(),
        queues = found.queues,
        messages = found.messages,
        replayed_records = found.records,
        replayed_bytes = found.bytes,
        torn_tail_cut = found.torn,
        "{}",
        if found.created { "new store" } else { "store recovered" }
    );
    if let Err(error) = say_ready(server.addresses(), server.tls_addresses()) {
        complain(&format!("cannot print that the server is ready: {error}"));
        return FAILED;
    }
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    };
    match server.run(stop).await {
        Ok(()) => {
            tracing::info!("stopped cleanly");
            DONE
        }
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}

fn say_ready(addresses: &[SocketAddr], tls: &[SocketAddr]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "ready")?;
    for address in addresses {
        write!(out, " {address}")?;
    }
    for address in tls {
        write!(out, " tls:{address}")?;
    }
    writeln!(out)?;
    out.flush()
}

/// Log lines go to standard error; `HAYPILE_LOG` says how many of them (`info`, `debug`, `haypile::amqp=debug` …).
pub(super) fn start_logging() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("HAYPILE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
