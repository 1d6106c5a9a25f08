//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::BindError;

/// Listens on all of `addresses`.
pub(super) async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    let mut left_out = None;
    for &address in addresses {
        match TcpListener::bind(address).await {
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
