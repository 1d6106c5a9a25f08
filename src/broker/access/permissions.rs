//! What a user may do in a virtual host.

use super::pattern::{Pattern, PatternError};

/// What a request needs of a queue or exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To declare and delete it.
    Configure,
    /// To publish to it; of a queue, and of an exchange that is bound to another: to bind it.
    Write,
    /// To consume from it; of an exchange: to bind to it.
    Read,
}

/// A user's permissions in one virtual host: for each right, which names it is given for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl Permissions {
    /// Permissions for the names that these patterns match. An empty one matches none.
    ///
    /// # Errors
    /// The first pattern that cannot be used.
    pub fn new(configure: &str, write: &str, read: &str) -> Result<Permissions, PatternError> {
        Ok(Permissions {
            configure: Pattern::new(configure)?,
            write: Pattern::new(write)?,
            read: Pattern::new(read)?,
        })
    }

    /// The pattern of a right, as the operator wrote it.
    #[must_use]
    pub fn pattern(&self, right: Right) -> &str {
        self.of(right).as_str()
    }

    /// Whether they give a right for that name. The default exchange goes by the name `amq.default`.
    #[must_use]
    pub fn allow(&self, right: Right, name: &[u8]) -> bool {
        let pattern = self.of(right);
        if pattern.as_str().is_empty() { name.is_empty() } else { pattern.matches(name) }
    }

    /// Whether they give a right for every name that there can be.
    pub(super) fn allow_everything(&self, right: Right) -> bool {
        self.of(right).matches_everything()
    }

    fn of(&self, right: Right) -> &Pattern {
        match right {
            Right::Configure => &self.configure,
            Right::Write => &self.write,
            Right::Read => &self.read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_has_its_pattern_and_an_empty_one_gives_nothing() {
        let permissions = Permissions::new("", "^shop", ".*").unwrap();
        assert!(!permissions.allow(Right::Configure, b"shop"));
        assert!(permissions.allow(Right::Write, b"shop"));
        assert!(!permissions.allow(Right::Write, b"the.shop"));
        assert!(permissions.allow(Right::Read, b"whatever"));
        assert!(permissions.allow_everything(Right::Read));
        assert!(!permissions.allow_everything(Right::Configure));
    }
}
