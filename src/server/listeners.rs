//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::BindError;

/// Listens on all of `addresses`. On each, `backlog` connections may wait to be accepted.
pub(super) fn bind(addresses: &[SocketAddr], backlog: u32) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    let mut left_out = None;
    for &address in addresses {
        match listen(address, backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && is_missing(&error) => {
                tracing::warn!("not listening on {address}: {error}");
                left_out = Some(BindError::Listen { address, error });
            }
            Err(error) => return Err(BindError::Listen { address, error }),
        }
    }
    if listeners.is_empty() { Err(left_out.unwrap_or(BindError::NoAddress)) } else { Ok(listeners) }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that is started again does not wait for the connections of the one before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// The advice for an operator whose address cannot be listened on.
pub(super) fn advice(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!(
                "another program listens there (`ss -ltnp sport = :{port}` names it): stop it, or \
                 choose another address with --listen"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE: choose a port from \
             1024 on with --listen, or give the capability to the service"
                .to_owned()
        }
        _ if is_missing(error) => {
            "this machine has no such address (`ip address` lists those that it has): choose one of \
             them with --listen, or 0.0.0.0 for all of them"
                .to_owned()
        }
        _ => "choose another address with --listen".to_owned(),
    }
}

/// Whether the machine has no such address: containers often come without IPv6.
fn is_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    /// Beyond the backlog the first segment of a client is dropped, and sent again after a second.
    #[tokio::test]
    async fn as_many_connections_wait_as_the_backlog_says() {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let count = allowed.trim().parse::<u32>().unwrap().min(400);
        let listeners = bind(&["127.0.0.1:0".parse().unwrap()], count).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(60));
        let waiting: Vec<TcpStream> = (0..count).map(|n| connect(n).unwrap()).collect();
        // The system takes one more than it was told. Nobody accepts the next one.
        let beyond =
            (0..2).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(300)));
        assert_eq!(beyond.filter(Result::is_ok).count(), 1);
        drop(waiting);
    }
}
