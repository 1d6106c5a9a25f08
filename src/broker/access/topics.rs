//! Which routing keys of a topic exchange a user may use: a permission beside that for the exchange.

use std::sync::Arc;

use super::pattern::{Pattern, PatternError};
use super::permissions::Right;
use crate::message::ShortStr;

/// A user's permissions for the routing keys of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissions {
    write: Key,
    read: Key,
}

/// A pattern as the operator wrote it, and with the names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    text: String,
    pattern: Pattern,
}

impl Key {
    fn new(text: &str, user: &ShortStr, virtual_host: &ShortStr) -> Result<Key, PatternError> {
        // A name that looks like a pattern is still a name.
        let named = |name: &ShortStr| regex::escape(&name.to_string());
        let expanded =
            text.replace("{username}", &named(user)).replace("{vhost}", &named(virtual_host));
        Ok(Key { text: text.to_owned(), pattern: Pattern::new(&expanded)? })
    }

    fn allows(&self, routing_key: &[u8]) -> bool {
        if self.text.is_empty() {
            routing_key.is_empty()
        } else {
            self.pattern.matches(routing_key)
        }
    }
}

impl TopicPermissions {
    /// Permissions for the routing keys that these patterns match, in which `{username}` and `{vhost}` stand for the names. An
    /// empty pattern matches the empty key alone.
    ///
    /// # Errors
    /// The first pattern that cannot be used.
    pub fn new(
        user: &ShortStr,
        virtual_host: &ShortStr,
        write: &str,
        read: &str,
    ) -> Result<TopicPermissions, PatternError> {
        let key = |text| Key::new(text, user, virtual_host);
        Ok(TopicPermissions { write: key(write)?, read: key(read)? })
    }

    /// The pattern for publishing, as the operator wrote it.
    #[must_use]
    pub fn write(&self) -> &str {
        &self.write.text
    }

    /// The pattern for binding, as the operator wrote it.
    #[must_use]
    pub fn read(&self) -> &str {
        &self.read.text
    }

    /// Whether they give a right for that routing key. There is none to configure.
    pub(super) fn allow(&self, right: Right, routing_key: &[u8]) -> bool {
        match right {
            Right::Write => self.write.allows(routing_key),
            Right::Read => self.read.allows(routing_key),
            Right::Configure => false,
        }
    }
}

/// The exchanges of a virtual host whose routing keys are restricted for a user.
#[derive(Debug, Default)]
pub(in crate::broker) struct Topics(pub(super) Vec<(ShortStr, Arc<TopicPermissions>)>);

impl Topics {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, exchange: &[u8]) -> Option<&Arc<TopicPermissions>> {
        self.0.iter().find(|(name, _)| &name[..] == exchange).map(|(_, topics)| topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_themselves_in_patterns() {
        let (user, host) = (ShortStr::from_static("a.b"), ShortStr::from_static("/"));
        let topics = TopicPermissions::new(&user, &host, "^{username}\\.", "^{vhost}$").unwrap();
        assert!(topics.allow(Right::Write, b"a.b.c"));
        assert!(!topics.allow(Right::Write, b"axb.c"));
        assert!(topics.allow(Right::Read, b"/"));
        assert_eq!(topics.write(), "^{username}\\.");
        let nothing = TopicPermissions::new(&user, &host, "", "").unwrap();
        assert!(nothing.allow(Right::Write, b""));
        assert!(!nothing.allow(Right::Write, b"k"));
        assert!(TopicPermissions::new(&user, &host, "(", "").is_err());
    }
}
