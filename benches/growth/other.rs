//! A client in another virtual host, which looks on.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use haypile::amqp::codec::Method;
use haypile::message::{Properties, RawTable};

use super::Paid;
use super::support::Outcome;
use super::support::client::{Client, Place, declare};
use super::support::server::{OTHER, Server};

/// A message each.
const PERIOD: Duration = Duration::from_millis(10);

/// A server, and the time that it has taken so far.
pub(crate) struct Watched {
    server: Server,
    pub(crate) address: SocketAddr,
}

impl Watched {
    /// Starts a server on a new directory.
    pub(crate) fn start(binary: &Path, directory: &Path) -> Outcome<Watched> {
        let (server, address) = Server::start(binary, directory)?;
        Ok(Watched { server, address })
    }

    /// Starts a server on a directory that a server had before.
    pub(crate) fn restart(binary: &Path, directory: &Path) -> Outcome<Watched> {
        let (server, address) = Server::restart(binary, directory)?;
        Ok(Watched { server, address })
    }

    /// A client in the first virtual host.
    pub(crate) fn client(&self) -> Outcome<Client> {
        Client::open(self.place())
    }

    pub(crate) fn place(&self) -> Place<'static> {
        Place { address: self.address, virtual_host: "/" }
    }

    /// Does something that comes to so many units of work. Returns what it cost the server.
    pub(crate) fn pay(&self, act: impl FnOnce() -> Outcome<u64>) -> Outcome<Paid> {
        let stop = &AtomicBool::new(false);
        let place = Place { address: self.address, virtual_host: OTHER };
        thread::scope(|scope| {
            let looking_on =
                scope.spawn(move || look_on(place, stop).map_err(|error| error.to_string()));
            thread::sleep(5 * PERIOD);
            let before = self.server.processor_time()?;
            let units = act();
            let processor = self.server.processor_time()?.saturating_sub(before);
            stop.store(true, Relaxed);
            let longest = looking_on.join().map_err(|_| "the client that looks on panicked")??;
            Ok(Paid { processor, units: units?, longest })
        })
    }
}

/// Publishes a message each [`PERIOD`] until `stop`. Returns the longest time from when one was due until it was confirmed.
fn look_on(place: Place<'_>, stop: &AtomicBool) -> Outcome<Duration> {
    let mut client = Client::open(place)?;
    client.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
    client.call(&declare("looking.on", RawTable::EMPTY), "queue.declare-ok")?;
    let (mut due, mut longest) = (Instant::now(), Duration::ZERO);
    while !stop.load(Relaxed) {
        client.publish("", "looking.on", Properties::default(), b"")?;
        client.expect("basic.ack")?;
        longest = longest.max(due.elapsed());
        due = (due + PERIOD).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(longest)
}
