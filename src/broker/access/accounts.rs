//! All users of a broker and their permissions: administrators, and those that are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use parking_lot::RwLock;
use thiserror::Error;

use super::login::Remembered;
use super::password::Password;
use super::permissions::Permissions;
use super::powers::Grant;
use super::topics::{TopicPermissions, Topics};
use super::user::{User, UserLimits};
use crate::broker::record::{
    FoundingKey, PermissionKey, RecordError, TopicPermissionKey, UserKey, decode_permissions,
    decode_topic_permissions, decode_user, encode_founding, encode_permissions,
    encode_topic_permissions, encode_user,
};
use crate::message::ShortStr;
use crate::storage::Change;

/// So many tags a user or virtual host may have.
pub(in crate::broker) const MOST_TAGS: usize = 256;

/// The user that may connect from its own machine only unless the settings say otherwise: its password is known to everybody.
const GUEST: ShortStr = ShortStr::from_static("guest");

/// Whether a store has had its first users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::broker) enum Founding {
    /// Nothing is in it yet.
    #[default]
    Empty,
    /// Something is in it, but no note of that: a version wrote it in which the users of the settings were not stored.
    Unknown,
    /// It has.
    Done,
}

/// A user that has all permissions on every virtual host, and is not stored: for programs that embed a broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Administrator {
    /// The user's name.
    pub name: ShortStr,
    /// The user's password.
    pub password: String,
    /// Whether the user may connect from this machine only.
    pub loopback_only: bool,
}

/// Without the password, so that it never gets into a log.
impl std::fmt::Debug for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Administrator({})", self.name)
    }
}

/// Why users and permissions were not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    /// There is no such user.
    #[error("user '{0}' does not exist")]
    NoUser(ShortStr),
    /// There is one of that name.
    #[error("user '{0}' already exists")]
    UserExists(ShortStr),
    /// It is not stored.
    #[error("user '{0}' is not stored, and has all permissions")]
    Administrator(ShortStr),
    /// A user without a name.
    #[error("a user must have a name")]
    NoName,
    /// More tags than are kept.
    #[error("{0} has more than {MOST_TAGS} tags")]
    TooManyTags(String),
}

/// All users and permissions.
#[derive(Debug)]
pub struct Accounts {
    book: RwLock<Book>,
    /// Grows whenever anything in the book changes: whoever remembers something of it looks here first.
    generation: AtomicU64,
    pub(super) remembered: Remembered,
}

/// What is in them.
#[derive(Debug, Clone, Default)]
struct Book {
    administrators: Vec<Administrator>,
    founding: Founding,
    /// Stored users that may connect from this machine only.
    local: Vec<ShortStr>,
    users: BTreeMap<ShortStr, Arc<User>>,
    permissions: BTreeMap<PermissionKey, Arc<Permissions>>,
    topics: BTreeMap<TopicPermissionKey, Arc<TopicPermissions>>,
}

/// The account of the user who logs in.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) secret: Secret,
    pub(super) loopback_only: bool,
}

/// The secret that a user authenticates with.
#[derive(PartialEq, Eq)]
pub(super) enum Secret {
    OfSettings(String),
    /// `None`: the user cannot log in.
    Stored(Option<Password>),
    NoUser,
}

/// Without the password, so that it never gets into a log.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Book {
    fn find(&self, name: &[u8]) -> Known {
        if let Some(found) = self.administrators.iter().find(|other| &other.name[..] == name) {
            let secret = Secret::OfSettings(found.password.clone());
            return Known { secret, loopback_only: found.loopback_only };
        }
        match self.users.get(name) {
            Some(user) => {
                let secret = Secret::Stored(user.password.clone());
                Known { secret, loopback_only: self.local.iter().any(|local| &local[..] == name) }
            }
            None => Known { secret: Secret::NoUser, loopback_only: false },
        }
    }
}

impl Accounts {
    /// No stored users, and `guest` (password `guest`, from this machine only) as administrator.
    pub(crate) fn new() -> Self {
        let guest =
            Administrator { name: GUEST, password: "guest".to_owned(), loopback_only: true };
        let local = vec![GUEST];
        let book = Book { administrators: vec![guest], local, ..Book::default() };
        Self {
            book: RwLock::new(book),
            generation: AtomicU64::new(1),
            remembered: Remembered::new(),
        }
    }

    /// Says who the administrators are, in place of those before.
    pub fn appoint(&self, administrators: Vec<Administrator>) {
        let mut changed: BTreeSet<_> = self.administrators().into_iter().collect();
        changed.extend(administrators.iter().map(|one| one.name.clone()));
        self.change(&changed, |book| book.administrators = administrators);
    }

    /// Says which stored users may connect from this machine only, in place of those before.
    pub fn confine(&self, local: Vec<ShortStr>) {
        self.change(&BTreeSet::new(), |book| book.local = local);
    }

    /// Says whether the store has had its first users.
    pub(in crate::broker) fn restore_founding(&self, founding: Founding) {
        self.change(&BTreeSet::new(), |book| book.founding = founding);
    }

    /// Whether the store has had its first users.
    pub(in crate::broker) fn founding(&self) -> Founding {
        self.book.read().founding
    }

    /// Changes the book. Passwords of the users in `changed` that were verified before may be wrong after that.
    fn change(&self, changed: &BTreeSet<ShortStr>, change: impl FnOnce(&mut Book)) {
        let mut book = self.book.write();
        change(&mut book);
        changed.iter().for_each(|name| self.remembered.forget(name));
        self.generation.fetch_add(1, Release);
    }

    /// Grows with every change.
    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Puts back a user that was found in the store.
    pub(in crate::broker) fn restore_user(
        &self,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), RecordError> {
        let user = decode_user(key, value)?;
        let changed = BTreeSet::from([user.name.clone()]);
        self.change(&changed, |book| _ = book.users.insert(user.name.clone(), Arc::new(user)));
        Ok(())
    }

    /// Puts back permissions that were found in the store.
    pub(in crate::broker) fn restore_permissions(
        &self,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), RecordError> {
        let key = PermissionKey::decode(key)?;
        let permissions = decode_permissions(value)?;
        self.change(&BTreeSet::new(), |book| {
            _ = book.permissions.insert(key, Arc::new(permissions));
        });
        Ok(())
    }

    /// Puts back permissions for routing keys that were found in the store.
    pub(in crate::broker) fn restore_topic_permissions(
        &self,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), RecordError> {
        let key = TopicPermissionKey::decode(key)?;
        let permissions = decode_topic_permissions(&key, value)?;
        self.change(&BTreeSet::new(), |book| _ = book.topics.insert(key, Arc::new(permissions)));
        Ok(())
    }

    pub(super) fn find(&self, name: &[u8]) -> Known {
        self.book.read().find(name)
    }

    /// Does something while a user's password stays what it is; not at all if it is another by now.
    pub(super) fn while_secret_is(&self, name: &[u8], secret: &Secret, then: impl FnOnce()) {
        let book = self.book.read();
        if book.find(name).secret == *secret {
            then();
        }
    }

    /// What a user may do in a virtual host.
    pub(in crate::broker) fn grant(&self, user: &ShortStr, virtual_host: &ShortStr) -> Grant {
        let book = self.book.read();
        if book.administrators.iter().any(|other| other.name == *user) {
            return Grant::Everything;
        }
        let key = PermissionKey { user: user.clone(), virtual_host: virtual_host.clone() };
        match book.permissions.get(&key) {
            Some(permissions) if book.users.contains_key(user) => {
                Grant::Some(Arc::clone(permissions))
            }
            _ => Grant::Nothing,
        }
    }

    /// Where a user's routing keys are restricted in a virtual host.
    pub(super) fn topics(&self, user: &ShortStr, virtual_host: &ShortStr) -> Topics {
        let book = self.book.read();
        let own = book.topics.iter();
        let own = own.filter(|(key, _)| key.user == *user && key.virtual_host == *virtual_host);
        Topics(own.map(|(key, topics)| (key.exchange.clone(), Arc::clone(topics))).collect())
    }

    /// The limits of a user's connections. Administrators have none.
    pub(in crate::broker) fn limits(&self, user: &ShortStr) -> UserLimits {
        self.book.read().users.get(user).map(|user| user.limits).unwrap_or_default()
    }

    /// Whether this user is an administrator.
    #[must_use]
    pub fn is_administrator(&self, name: &[u8]) -> bool {
        self.book.read().administrators.iter().any(|other| &other.name[..] == name)
    }

    /// The names of the administrators.
    #[must_use]
    pub fn administrators(&self) -> Vec<ShortStr> {
        self.book.read().administrators.iter().map(|found| found.name.clone()).collect()
    }

    /// The stored users, by name.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        self.book.read().users.values().map(|user| User::clone(user)).collect()
    }

    /// All stored permissions: user, virtual host, and what the user may do there.
    #[must_use]
    pub fn permissions(&self) -> Vec<(ShortStr, ShortStr, Permissions)> {
        let book = self.book.read();
        let listed = book.permissions.iter().map(|(key, permissions)| {
            (key.user.clone(), key.virtual_host.clone(), Permissions::clone(permissions))
        });
        listed.collect()
    }

    /// All stored permissions for routing keys: user, virtual host, exchange, and what the user may use there.
    #[must_use]
    pub fn topic_permissions(&self) -> Vec<(ShortStr, ShortStr, ShortStr, TopicPermissions)> {
        let book = self.book.read();
        let listed = book.topics.iter().map(|(key, topics)| {
            let TopicPermissionKey { user, virtual_host, exchange } = key.clone();
            (user, virtual_host, exchange, TopicPermissions::clone(topics))
        });
        listed.collect()
    }

    /// A copy to be changed. Only one may be under way.
    pub(crate) fn draft(&self) -> Draft {
        Draft { book: self.book.read().clone(), changes: Vec::new(), changed: BTreeSet::new() }
    }

    /// What has been drafted holds from now on. Its changes are in the log by then.
    pub(crate) fn adopt(&self, draft: Draft) {
        let Draft { book: drafted, changed, .. } = draft;
        self.change(&changed, |book| *book = drafted);
    }
}

/// Users and permissions as they are going to be, and the changes of what is stored that make them so.
#[derive(Debug)]
pub(crate) struct Draft {
    book: Book,
    changes: Vec<Change>,
    /// The users whose passwords have changed, or who have come or gone.
    changed: BTreeSet<ShortStr>,
}

impl Draft {
    /// The changes of what is stored.
    pub(in crate::broker) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// A stored user, who can be changed and [put](Self::put_user) back.
    pub(in crate::broker) fn user(&self, name: &ShortStr) -> Result<User, AccessError> {
        self.refuse_administrator(name)?;
        let user = self.book.users.get(name).ok_or_else(|| AccessError::NoUser(name.clone()))?;
        Ok(User::clone(user))
    }

    fn refuse_administrator(&self, name: &ShortStr) -> Result<(), AccessError> {
        if self.book.administrators.iter().any(|other| other.name == *name) {
            return Err(AccessError::Administrator(name.clone()));
        }
        Ok(())
    }

    /// Adds a user of a name that is not taken.
    pub(in crate::broker) fn add_user(&mut self, user: User) -> Result<bool, AccessError> {
        if self.book.users.contains_key(&user.name) {
            return Err(AccessError::UserExists(user.name));
        }
        self.put_user(user)
    }

    /// Adds a user, or replaces the one of that name. Whether that changes anything.
    pub(crate) fn put_user(&mut self, user: User) -> Result<bool, AccessError> {
        if user.name.is_empty() {
            return Err(AccessError::NoName);
        }
        self.refuse_administrator(&user.name)?;
        if user.tags.len() > MOST_TAGS {
            return Err(AccessError::TooManyTags(format!("user '{}'", user.name)));
        }
        let found = self.book.users.get(&user.name);
        if found.is_some_and(|found| **found == user) {
            return Ok(false);
        }
        if found.is_none_or(|found| found.password != user.password) {
            self.changed.insert(user.name.clone());
        }
        if self.book.founding == Founding::Empty {
            // Users that an operator puts into an empty store are its first.
            self.found();
        }
        let key = UserKey(user.name.clone()).encode();
        self.changes.push(Change::put(key, encode_user(&user)));
        self.book.users.insert(user.name.clone(), Arc::new(user));
        Ok(true)
    }

    /// Notes that the store has had its first users.
    pub(in crate::broker) fn found(&mut self) {
        self.book.founding = Founding::Done;
        self.changes.push(Change::put(FoundingKey::encode(), encode_founding()));
    }

    /// Removes a user with all permissions.
    pub(in crate::broker) fn delete_user(&mut self, name: &ShortStr) -> Result<bool, AccessError> {
        self.user(name)?;
        self.book.users.remove(name);
        self.changed.insert(name.clone());
        self.changes.push(Change::remove(UserKey(name.clone()).encode()));
        self.clear(|key| key.user == *name);
        self.clear_topics(|key| key.user == *name);
        Ok(true)
    }

    /// Gives a user permissions in a virtual host, in place of those before. Whether that changes anything.
    pub(in crate::broker) fn permit(
        &mut self,
        user: &ShortStr,
        virtual_host: &ShortStr,
        permissions: Permissions,
    ) -> Result<bool, AccessError> {
        self.user(user)?;
        let key = PermissionKey { user: user.clone(), virtual_host: virtual_host.clone() };
        if self.book.permissions.get(&key).is_some_and(|found| **found == permissions) {
            return Ok(false);
        }
        let value = encode_permissions(&permissions);
        self.changes.push(Change::put(key.encode(), value));
        self.book.permissions.insert(key, Arc::new(permissions));
        Ok(true)
    }

    /// Takes a user's permissions in a virtual host away. Whether there were any.
    pub(in crate::broker) fn forbid(
        &mut self,
        user: &ShortStr,
        virtual_host: &ShortStr,
    ) -> Result<bool, AccessError> {
        self.user(user)?;
        Ok(self.clear(|key| key.user == *user && key.virtual_host == *virtual_host))
    }

    /// Takes all permissions in a virtual host away, which is going.
    pub(in crate::broker) fn forget_virtual_host(&mut self, name: &ShortStr) {
        self.clear(|key| key.virtual_host == *name);
        self.clear_topics(|key| key.virtual_host == *name);
    }

    /// Restricts the routing keys that a user may use with an exchange. Whether that changes anything.
    pub(in crate::broker) fn permit_topics(
        &mut self,
        user: &ShortStr,
        virtual_host: &ShortStr,
        exchange: &ShortStr,
        permissions: TopicPermissions,
    ) -> Result<bool, AccessError> {
        self.user(user)?;
        let (user, virtual_host) = (user.clone(), virtual_host.clone());
        let key = TopicPermissionKey { user, virtual_host, exchange: exchange.clone() };
        if self.book.topics.get(&key).is_some_and(|found| **found == permissions) {
            return Ok(false);
        }
        let value = encode_topic_permissions(&permissions);
        self.changes.push(Change::put(key.encode(), value));
        self.book.topics.insert(key, Arc::new(permissions));
        Ok(true)
    }

    /// Lets a user use all routing keys of an exchange again. Whether that changes anything.
    pub(in crate::broker) fn free_topics(
        &mut self,
        user: &ShortStr,
        virtual_host: &ShortStr,
        exchange: &ShortStr,
    ) -> Result<bool, AccessError> {
        self.user(user)?;
        Ok(self.clear_topics(|key| {
            key.user == *user && key.virtual_host == *virtual_host && key.exchange == *exchange
        }))
    }

    fn clear_topics(&mut self, gone: impl Fn(&TopicPermissionKey) -> bool) -> bool {
        let keys: Vec<_> = self.book.topics.keys().filter(|key| gone(key)).cloned().collect();
        for key in &keys {
            self.book.topics.remove(key);
            self.changes.push(Change::remove(key.encode()));
        }
        !keys.is_empty()
    }

    fn clear(&mut self, gone: impl Fn(&PermissionKey) -> bool) -> bool {
        let keys: Vec<_> = self.book.permissions.keys().filter(|key| gone(key)).cloned().collect();
        for key in &keys {
            self.book.permissions.remove(key);
            self.changes.push(Change::remove(key.encode()));
        }
        !keys.is_empty()
    }
}
