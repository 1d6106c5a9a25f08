//! Who the peer says it is: the two mechanisms that every AMQP 0-9-1 client has.

use crate::message::RawTable;

/// The mechanisms on offer, as `connection.start` lists them.
pub(super) const MECHANISMS: &[u8] = b"PLAIN AMQPLAIN";

/// A name and a password, as received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Credentials<'a> {
    pub(super) user: &'a [u8],
    pub(super) password: &'a [u8],
}

/// Why a response holds no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SaslError {
    /// The mechanism is not one of [`MECHANISMS`].
    UnknownMechanism,
    /// The response is not what the mechanism prescribes.
    Malformed,
    /// A user wants to act as another one.
    AnotherIdentity,
}

/// Reads the response of `connection.start-ok`.
pub(super) fn credentials<'a>(
    mechanism: &[u8],
    response: &'a [u8],
) -> Result<Credentials<'a>, SaslError> {
    match mechanism {
        b"PLAIN" => plain(response),
        b"AMQPLAIN" => amqplain(response).ok_or(SaslError::Malformed),
        _ => Err(SaslError::UnknownMechanism),
    }
}

/// RFC 4616: `[authzid] NUL user NUL password`. No user may act as another one.
fn plain(response: &[u8]) -> Result<Credentials<'_>, SaslError> {
    let mut parts = response.split(|&octet| octet == 0);
    let (Some(identity), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Malformed);
    };
    if !identity.is_empty() && identity != user {
        return Err(SaslError::AnotherIdentity);
    }
    Ok(Credentials { user, password })
}

/// A field table without the length in front, with `LOGIN` and `PASSWORD`.
fn amqplain(response: &[u8]) -> Option<Credentials<'_>> {
    let table = RawTable::parse(response).ok()?;
    Some(Credentials {
        user: table.get(b"LOGIN")?.as_long_str()?,
        password: table.get(b"PASSWORD")?.as_long_str()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        mechanism: &[u8],
        response: &'static [u8],
    ) -> Result<(&'static [u8], &'static [u8]), SaslError> {
        credentials(mechanism, response).map(|found| (found.user, found.password))
    }

    #[test]
    fn both_mechanisms_carry_a_name_and_a_password() {
        let guest = Ok((&b"guest"[..], &b"gu\xffst"[..]));
        assert_eq!(read(b"PLAIN", b"\0guest\0gu\xffst"), guest);
        assert_eq!(read(b"PLAIN", b"guest\0guest\0gu\xffst"), guest);
        let another = Err(SaslError::AnotherIdentity);
        assert_eq!(read(b"PLAIN", b"someone\0guest\0gu\xffst"), another);
        let table = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05gu\xffst";
        assert_eq!(read(b"AMQPLAIN", table), guest);
    }

    #[test]
    fn anything_else_is_refused() {
        for response in [&b""[..], b"guest", b"\0guest", b"\0a\0b\0c"] {
            assert_eq!(read(b"PLAIN", response), Err(SaslError::Malformed));
        }
        for response in [&b""[..], b"\x05LOGINS\0\0\0\x05guest", b"\x05LOGINS\0\0\0\xffguest"] {
            assert_eq!(read(b"AMQPLAIN", response), Err(SaslError::Malformed));
        }
        assert_eq!(read(b"EXTERNAL", b""), Err(SaslError::UnknownMechanism));
    }
}
