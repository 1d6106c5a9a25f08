//! `haypile serve`

use std::io::{self, Write};
use std::net::SocketAddr;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::config::Sources;
use super::{COULD_NOT_RUN, DONE, FAILED, complain, logging};
use crate::server::{Config, Server, fit_allocator};

/// Run the broker in the foreground, until SIGTERM, SIGINT or SIGHUP stops it cleanly.
///
/// Prints one line, "ready" and its addresses ("tls:" before those of TLS), when it accepts connections. Without options it keeps its data in
/// ./haypile-data, listens on 127.0.0.1:5672 and [::1]:5672, and lets the user guest (password guest) in from this
/// machine.
///
/// Settings come from flags, environment variables (HAYPILE_DATA_DIR, HAYPILE_LIMITS_MESSAGE_SIZE …) and a configuration
/// file, in this order. `haypile config` shows all of them.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    sources: Sources,
}

impl Serve {
    pub(super) fn run(&self) -> u8 {
        let Some(effective) = self.sources.effective() else { return COULD_NOT_RUN };
        let settings = effective.settings;
        let _log = logging::start(EnvFilter::new(&settings.log));
        run(settings.into_config())
    }
}

/// Runs a server until it is told to stop, or fails.
pub(super) fn run(config: Config) -> u8 {
    fit_allocator(config.watermarks.memory);
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
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(error) => {
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

/// Completes with the first signal that asks for the end. A terminal that goes is one: half a goodbye would be none. Under `nohup`
/// it is none.
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = hung_up => tracing::info!("SIGHUP: stopping"),
        }
    })
}

/// Whether who started the process has it ignore SIGHUP, as Linux tells: proc(5), `/proc/pid/status`. To wait for the signal
/// would be the end of that.
fn is_hangup_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal n is bit n - 1, and this one is number 1.
    ignored.is_some_and(|mask| mask & 1 != 0)
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

#[cfg(test)]
mod tests {
    use super::ignores_hangup;

    #[test]
    fn a_hangup_is_ignored_where_its_bit_is_set() {
        let status =
            |mask: &str| format!("Name:\thaypile\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(!ignores_hangup("Name:\thaypile\n"));
    }
}
