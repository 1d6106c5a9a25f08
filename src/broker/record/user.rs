//! A stored user, as an entry of the store's metadata.
//!
//! ```text
//! key    b'U'               value  version    u8   1
//!        name  short str           algorithm  short str   as definitions files name it; empty: the user cannot log in
//!                                  hash       long str    as definitions files have it
//!                                  tags       u16, then so many short strs
//!                                  limits     u8          bit 0 connections, bit 1 channels
//!                                             u64 each, of those that there are
//! ```

use super::{RecordError, check_version, name, put_long, put_name, put_names, text};
use crate::broker::access::{Password, User, UserLimits};
use crate::message::{Reader, ShortStr};

const WHAT: &str = "user";
const VERSION: u8 = 1;
const CONNECTIONS: u8 = 1;
const CHANNELS: u8 = 2;

/// Where a user's record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct UserKey(pub(in crate::broker) ShortStr);

impl UserKey {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'U';

    /// The stored form.
    pub(in crate::broker) fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::PREFIX];
        put_name(&mut out, &self.0);
        out
    }
}

/// The stored form of a user, without the name.
pub(in crate::broker) fn encode_user(user: &User) -> Vec<u8> {
    let mut out = vec![VERSION];
    let (algorithm, hash) = match &user.password {
        Some(password) => (password.algorithm(), password.hash()),
        None => ("", String::new()),
    };
    put_name(&mut out, algorithm.as_bytes());
    put_long(&mut out, hash.as_bytes());
    put_names(&mut out, &user.tags);
    let limits = [(CONNECTIONS, user.limits.max_connections), (CHANNELS, user.limits.max_channels)];
    out.push(limits.iter().filter(|(_, limit)| limit.is_some()).map(|(flag, _)| flag).sum());
    for limit in limits.into_iter().filter_map(|(_, limit)| limit) {
        out.extend_from_slice(&limit.to_be_bytes());
    }
    out
}

/// Reads the stored form.
pub(in crate::broker) fn decode_user(key: &[u8], value: &[u8]) -> Result<User, RecordError> {
    let malformed = RecordError::malformed(WHAT);
    let mut reader = Reader::new(value);
    check_version(WHAT, VERSION, reader.u8().map_err(&malformed)?)?;
    let mut read = || {
        let mut key = Reader::new(key);
        key.u8()?;
        let name = name(&mut key)?;
        key.finish()?;
        let algorithm = text(reader.short_str()?);
        let hash = text(reader.long_str()?);
        let tags = super::names(&mut reader)?;
        let flags = reader.u8()?;
        let mut limit = |flag| if flags & flag == 0 { Ok(None) } else { reader.u64().map(Some) };
        let limits =
            UserLimits { max_connections: limit(CONNECTIONS)?, max_channels: limit(CHANNELS)? };
        reader.finish()?;
        Ok((name, algorithm, hash, tags, limits))
    };
    let (name, algorithm, hash, tags, limits) = read().map_err(malformed)?;
    let password = if algorithm.is_empty() {
        None
    } else {
        let unusable = |error| RecordError::unusable(WHAT, &error);
        Some(Password::from_hash(&algorithm, &hash).map_err(unusable)?)
    };
    Ok(User { name, password, tags, limits })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "3S7h9CiqgHoiamit+kiU5JkMRr/W5GTrv0jGKAhLUkWLR7Dn";

    fn user() -> User {
        User {
            name: ShortStr::from_static("shop"),
            password: Some(Password::from_hash("rabbit_password_hashing_sha256", HASH).unwrap()),
            tags: vec![ShortStr::from_static("monitoring")],
            limits: UserLimits { max_connections: None, max_channels: Some(7) },
        }
    }

    #[test]
    fn a_user_record_has_these_bytes() {
        let user = user();
        let key = UserKey(user.name.clone()).encode();
        assert_eq!(key, b"U\x04shop");
        let mut bytes = b"\x01\x1erabbit_password_hashing_sha256\0\0\0\x30".to_vec();
        bytes.extend_from_slice(HASH.as_bytes());
        bytes.extend_from_slice(b"\0\x01\x0amonitoring\x02\0\0\0\0\0\0\0\x07");
        assert_eq!(encode_user(&user), bytes);
        assert_eq!(decode_user(&key, &bytes), Ok(user));
    }

    #[test]
    fn a_user_may_have_nothing_but_a_name() {
        let nobody = User { password: None, tags: vec![], limits: UserLimits::default(), ..user() };
        let bytes = encode_user(&nobody);
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\0\0");
        assert_eq!(decode_user(b"U\x04shop", &bytes), Ok(nobody));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let decode = |value: &[u8]| decode_user(b"U\x04shop", value);
        assert!(matches!(decode(b"\x02"), Err(RecordError::Version { found: 2, .. })));
        assert!(matches!(decode(b"\x01\0"), Err(RecordError::Malformed { .. })));
        let unknown = decode(b"\x01\x03md5\0\0\0\x01x\0\0\0").unwrap_err();
        assert!(unknown.to_string().contains("the hashing algorithm 'md5' is not supported"));
    }
}
