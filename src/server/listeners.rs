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

/// Whether the machine has no such address: containers often come without IPv6.
fn is_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}
