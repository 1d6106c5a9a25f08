//! Where a broker is, and who one is there: `amqp://user:password@host:port/vhost`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The port of AMQP without TLS.
const PORT: u16 = 5672;

/// A broker's address and a login. Shown without the password, also for debugging.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli) struct AmqpUri {
    user: String,
    password: String,
    host: String,
    port: u16,
    virtual_host: String,
}

/// Why a text is no such URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum UriError {
    #[error(
        "amqps:// is AMQP over TLS, which this client does not have: give a plain amqp:// listener"
    )]
    Tls,
    #[error("it does not begin with amqp://")]
    Scheme,
    #[error("there is no host in it")]
    NoHost,
    #[error("'{0}' is no port")]
    Port(String),
    #[error("an address in brackets has to end with one: amqp://[::1]:5672")]
    Brackets,
    #[error(
        "'%{0}' is no percent-encoded octet: two hexadecimal digits have to follow, and a percent sign is %25"
    )]
    Percent(String),
    #[error("what is percent-encoded in the {0} is not UTF-8")]
    Encoding(&'static str),
    #[error("the {0} has {1} bytes, more than the 255 that AMQP allows")]
    TooLong(&'static str, usize),
    #[error("'?{0}': parameters are not understood here")]
    Parameters(String),
}

impl AmqpUri {
    /// `guest` on the virtual host `/`.
    pub(in crate::cli) fn guest_at(address: SocketAddr) -> AmqpUri {
        AmqpUri { host: address.ip().to_string(), port: address.port(), ..AmqpUri::local() }
    }

    fn local() -> AmqpUri {
        AmqpUri {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            host: "localhost".to_owned(),
            port: PORT,
            virtual_host: "/".to_owned(),
        }
    }

    pub(in crate::cli) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Host and port, the host without brackets.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    pub(super) fn virtual_host(&self) -> &str {
        &self.virtual_host
    }
}

impl FromStr for AmqpUri {
    type Err = UriError;

    /// What is left out is `guest`, `guest`, 5672 and `/`. An empty virtual host is `/`, too.
    fn from_str(text: &str) -> Result<AmqpUri, UriError> {
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        match &*scheme.to_ascii_lowercase() {
            "amqp" => {}
            "amqps" => return Err(UriError::Tls),
            _ => return Err(UriError::Scheme),
        }
        if let Some((_, parameters)) = rest.split_once('?') {
            return Err(UriError::Parameters(parameters.to_owned()));
        }
        let (authority, virtual_host) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let mut uri = AmqpUri::local();
        if let Some(login) = login {
            let (user, password) = login.split_once(':').unwrap_or((login, "guest"));
            uri.user = decoded(user, "user name")?;
            uri.password = decoded(password, "password")?;
        }
        let (host, port) = split_port(place)?;
        uri.host = decoded(host, "host")?;
        if uri.host.is_empty() {
            return Err(UriError::NoHost);
        }
        if let Some(port) = port {
            let number = port.parse().ok().filter(|number| *number != 0);
            uri.port = number.ok_or_else(|| UriError::Port(port.to_owned()))?;
        }
        if !virtual_host.is_empty() {
            uri.virtual_host = decoded(virtual_host, "virtual host")?;
        }
        match uri.virtual_host.len() {
            0..=255 => Ok(uri),
            length => Err(UriError::TooLong("virtual host", length)),
        }
    }
}

/// Host, and port if there is one.
fn split_port(place: &str) -> Result<(&str, Option<&str>), UriError> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UriError::Brackets)?;
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => Ok((host, None)),
            None => Err(UriError::Brackets),
            port => Ok((host, port)),
        };
    }
    match place.split_once(':') {
        // An IPv6 address without its brackets.
        Some((_, port)) if port.contains(':') => Err(UriError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((place, None)),
    }
}

fn decoded(text: &str, what: &'static str) -> Result<String, UriError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let wrong = || UriError::Percent(part.chars().take(2).collect());
        let (digits, rest) = part.split_at_checked(2).ok_or_else(wrong)?;
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let octet = u8::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal);
        bytes.push(octet.ok_or_else(wrong)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| UriError::Encoding(what))
}

impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AmqpUri { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "amqp://[{host}]:{port}")?;
        } else {
            write!(f, "amqp://{host}:{port}")?;
        }
        if self.virtual_host == "/" {
            return Ok(());
        }
        write!(f, "/{}", self.virtual_host.replace('%', "%25").replace('/', "%2f"))
    }
}

impl fmt::Debug for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} as {}", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(String, String, String, u16, String), UriError> {
        let AmqpUri { user, password, host, port, virtual_host } = text.parse()?;
        Ok((user, password, host, port, virtual_host))
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        for (text, expected) in [
            ("amqp://localhost", ("guest", "guest", "localhost", 5672, "/")),
            ("AMQP://localhost/", ("guest", "guest", "localhost", 5672, "/")),
            ("amqp://h:1/v", ("guest", "guest", "h", 1, "v")),
            ("amqp://u@h", ("u", "guest", "h", 5672, "/")),
            ("amqp://u:p@h:65535/%2f", ("u", "p", "h", 65535, "/")),
            ("amqp://u:@h", ("u", "", "h", 5672, "/")),
            ("amqp://[::1]", ("guest", "guest", "::1", 5672, "/")),
            ("amqp://u:p@[fe80::1]:7/v", ("u", "p", "fe80::1", 7, "v")),
            ("amqp://a%40b:p%3aq%2F%25@h/v%20w/x", ("a@b", "p:q/%", "h", 5672, "v w/x")),
            ("amqp://u:p@ss@h", ("u", "p@ss", "h", 5672, "/")),
        ] {
            let (user, password, host, port, virtual_host) = expected;
            let expected = (user.into(), password.into(), host.into(), port, virtual_host.into());
            assert_eq!(parts(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", UriError::Scheme),
            ("localhost:5672", UriError::Scheme),
            ("http://localhost", UriError::Scheme),
            ("amqps://localhost", UriError::Tls),
            ("amqp://", UriError::NoHost),
            ("amqp://u:p@/v", UriError::NoHost),
            ("amqp://h:x", UriError::Port("x".to_owned())),
            ("amqp://h:", UriError::Port(String::new())),
            ("amqp://h:0", UriError::Port("0".to_owned())),
            ("amqp://h:65536", UriError::Port("65536".to_owned())),
            ("amqp://::1", UriError::Brackets),
            ("amqp://[::1", UriError::Brackets),
            ("amqp://[::1]5672", UriError::Brackets),
            ("amqp://u:%@h", UriError::Percent(String::new())),
            ("amqp://u:%2@h", UriError::Percent("2".to_owned())),
            ("amqp://u:%+2@h", UriError::Percent("+2".to_owned())),
            ("amqp://u:%é@h", UriError::Percent("é".to_owned())),
            ("amqp://%ff@h", UriError::Encoding("user name")),
            ("amqp://h/v?heartbeat=5", UriError::Parameters("heartbeat=5".to_owned())),
        ] {
            assert_eq!(parts(text), Err(expected), "{text}");
        }
        let long = format!("amqp://h/{}", "v".repeat(256));
        assert_eq!(parts(&long), Err(UriError::TooLong("virtual host", 256)));
    }

    #[test]
    fn the_password_is_never_shown() {
        let uri: AmqpUri = "amqp://me:s3cret@[::1]:7/a%2fb".parse().unwrap();
        assert_eq!(uri.to_string(), "amqp://[::1]:7/a%2fb");
        assert!(!format!("{uri:?}").contains("s3cret"));
        let guest: AmqpUri = "amqp://h".parse().unwrap();
        assert_eq!(guest.to_string(), "amqp://h:5672");
    }
}
