//! Addresses to listen on, as people write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses that `text` stands for: `ADDRESS:PORT`, or both loopback addresses for
/// `localhost:PORT` and for a port alone.
///
/// # Errors
/// The reason, and the spelling that was probably meant.
pub(super) fn parse(text: &str) -> Result<Vec<SocketAddr>, String> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    if let Ok(port) = text.parse() {
        return Ok(loopback(port));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(format!("`{text}` has no port: write {}", SocketAddr::new(ip, 5672)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("`{text}` is not an address: write 127.0.0.1:5672, for example"));
    };
    let Ok(port) = port.parse() else {
        return Err(format!("`{port}` is not a port: write a number from 0 to 65535"));
    };
    match host {
        "localhost" => Ok(loopback(port)),
        "" | "*" => Err(format!(
            "`{text}` names no address: write 0.0.0.0:{port} for all IPv4 addresses of this machine, \
             [::]:{port} for IPv6 too, or localhost:{port} for this machine alone"
        )),
        _ if host.parse::<Ipv6Addr>().is_ok() => {
            Err(format!("`{text}` is ambiguous: write [{host}]:{port}"))
        }
        _ => Err(format!(
            "`{host}` is a host name: write an address of this machine, such as 192.0.2.1:{port}"
        )),
    }
}

/// Checks an address of a flag, and returns the text.
///
/// # Errors
/// As [`parse`].
pub(super) fn checked(text: &str) -> Result<String, String> {
    parse(text).map(|_| text.to_owned())
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        parse(text).unwrap().iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn an_address_with_a_port_is_itself() {
        for text in ["127.0.0.1:5672", "0.0.0.0:0", "[::1]:5672", "[::]:1"] {
            assert_eq!(shown(text), [text]);
        }
    }

    #[test]
    fn a_port_and_localhost_stand_for_both_loopback_addresses() {
        for text in ["5673", "localhost:5673", " localhost:5673 "] {
            assert_eq!(shown(text), ["127.0.0.1:5673", "[::1]:5673"], "{text}");
        }
    }

    #[test]
    fn a_wrong_address_is_answered_with_the_right_spelling() {
        for (text, advice) in [
            (":5672", "write 0.0.0.0:5672 for all IPv4 addresses"),
            ("*:5672", "[::]:5672 for IPv6 too"),
            ("127.0.0.1", "write 127.0.0.1:5672"),
            ("::1", "write [::1]:5672"),
            ("[::1]", "write [::1]:5672"),
            ("fe80::x:5672", "`fe80::x` is a host name"),
            ("broker.example:5672", "`broker.example` is a host name"),
            ("127.0.0.1:65536", "`65536` is not a port"),
            ("localhost:amqp", "`amqp` is not a port"),
            ("70000", "is not an address"),
            ("", "is not an address"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
