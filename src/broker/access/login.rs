//! Whether somebody may log in.
//!
//! A right password is known at once where that is cheap: an administrator's, one that RabbitMQ has hashed, and one that has been verified since
//! the broker started (of which a keyed digest is remembered, in memory alone). Everything else takes one Argon2id, whoever asks and
//! whatever is wrong: the time does not tell which users there are. That is not for a connection's thread.
//!
//! A wrong password is remembered as well: clients with one try it again and again, and would have those wait for their turn who
//! have the right one. It tells nobody anything: who is refused at once has been refused before, whether there is such a user or not.
//!
//! A change of a user forgets the passwords of that user alone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac;
use thiserror::Error;

use super::accounts::{Accounts, Known, Secret};
use super::password::{Password, same, verify_nothing};
use crate::message::ShortStr;

/// So many wrong passwords are remembered.
const MOST_WRONG: usize = 4096;

/// Why somebody may not log in: for the log, never for whoever tries.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginRefused {
    /// The password is wrong, or there is no such user.
    #[error("user '{0}' - invalid credentials")]
    Credentials(String),
    /// From this machine only.
    #[error("user '{0}' can only connect via localhost")]
    Loopback(String),
    /// It was not found out: the server stops.
    #[error("the password was not verified: {0}")]
    Unverified(String),
}

/// What comes of an attempt to log in.
#[derive(Debug)]
pub enum Login {
    /// It is this user.
    Accepted(ShortStr),
    /// The password was right, and yet.
    Refused(LoginRefused),
    /// It takes a while to find out: some 20 ms and 19 MiB.
    Pending(Verification),
}

/// An attempt that has still to be looked into.
#[derive(Debug)]
pub struct Verification {
    accounts: Arc<Accounts>,
    name: ShortStr,
    plain: Vec<u8>,
    loopback: bool,
    /// By what it is remembered.
    digest: Option<Digest>,
    /// The user's secret when the login began.
    secret: Secret,
    loopback_only: bool,
}

impl Accounts {
    /// Looks at a name and a password. `loopback`: whoever it is connects from this machine.
    #[must_use]
    pub fn login(self: &Arc<Self>, name: &[u8], plain: &[u8], loopback: bool) -> Login {
        let Known { secret, loopback_only } = self.find(name);
        let verification = Verification {
            accounts: Arc::clone(self),
            name: ShortStr::copy_of(name),
            plain: plain.to_vec(),
            loopback,
            digest: self.remembered.digest(name, plain),
            secret,
            loopback_only,
        };
        let is_right = match &verification.secret {
            Secret::OfSettings(password) => same(password.as_bytes(), plain),
            Secret::Stored(Some(password)) if !password.is_slow() => password.verify(plain),
            Secret::Stored(_) | Secret::NoUser => false,
        };
        let known = if is_right { Some(verification.accept()) } else { verification.known() };
        match known {
            Some(Ok(user)) => Login::Accepted(user),
            Some(Err(refused)) => Login::Refused(refused),
            None => Login::Pending(verification),
        }
    }
}

impl Verification {
    /// The name that the login is for, be it of a user or not.
    #[must_use]
    pub fn user(&self) -> &ShortStr {
        &self.name
    }

    /// Returns the outcome if it is known by now: another login with the same name and password has been verified.
    #[must_use]
    pub fn known(&self) -> Option<Result<ShortStr, LoginRefused>> {
        let remembered = &self.accounts.remembered;
        if self.slow_password().is_some() && remembered.knows(&self.name, self.digest) {
            return Some(self.accept());
        }
        remembered.knows_wrong(self.digest).then(|| Err(self.wrong()))
    }

    /// Finds out. Takes a processor for a while.
    ///
    /// # Errors
    /// [`LoginRefused`].
    pub fn run(self) -> Result<ShortStr, LoginRefused> {
        // Of many connections that come back at the same time, the first has found out for all.
        if let Some(known) = self.known() {
            return known;
        }
        let remembered = &self.accounts.remembered;
        let is_right = match self.slow_password() {
            Some(password) => password.verify(&self.plain),
            None => {
                verify_nothing(&self.plain);
                false
            }
        };
        self.accounts.while_secret_is(&self.name, &self.secret, || {
            if is_right {
                remembered.note(&self.name, self.digest);
            } else {
                remembered.note_wrong(&self.name, self.digest);
            }
        });
        if is_right { self.accept() } else { Err(self.wrong()) }
    }

    /// The hash that the password must be compared with slowly. `None` means that it is wrong already.
    fn slow_password(&self) -> Option<&Password> {
        match &self.secret {
            Secret::Stored(Some(password)) if password.is_slow() => Some(password),
            _ => None,
        }
    }

    /// The password is right.
    fn accept(&self) -> Result<ShortStr, LoginRefused> {
        if self.loopback_only && !self.loopback {
            return Err(LoginRefused::Loopback(self.name.to_string()));
        }
        Ok(self.name.clone())
    }

    fn wrong(&self) -> LoginRefused {
        LoginRefused::Credentials(self.name.to_string())
    }
}

/// Passwords that were right, and some that were wrong: a digest of each, keyed with what nobody knows and is gone with the process.
pub(super) struct Remembered {
    key: Option<hmac::Key>,
    right: Mutex<HashMap<ShortStr, Digest>>,
    wrong: Mutex<Wrong>,
}

/// Passwords that were wrong, [`MOST_WRONG`] of them.
#[derive(Default)]
struct Wrong {
    users: HashMap<Digest, ShortStr>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

/// The digest of a name and a password.
type Digest = [u8; 32];

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembered")
    }
}

impl Remembered {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        // Without randomness nothing is remembered, and each login takes its time.
        let key = getrandom::fill(&mut key).ok().map(|()| hmac::Key::new(hmac::HMAC_SHA256, &key));
        Self { key, right: Mutex::default(), wrong: Mutex::default() }
    }

    fn knows(&self, name: &ShortStr, digest: Option<Digest>) -> bool {
        let Some(digest) = digest else { return false };
        self.right.lock().get(name).is_some_and(|right| same(right, &digest))
    }

    fn note(&self, name: &ShortStr, digest: Option<Digest>) {
        if let Some(digest) = digest {
            self.right.lock().insert(name.clone(), digest);
        }
    }

    fn digest(&self, name: &[u8], plain: &[u8]) -> Option<Digest> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        // The length keeps names and passwords apart that are the same one after the other.
        context.update(&name.len().to_be_bytes());
        context.update(name);
        context.update(plain);
        context.sign().as_ref().try_into().ok()
    }

    fn knows_wrong(&self, digest: Option<Digest>) -> bool {
        digest.is_some_and(|digest| self.wrong.lock().users.contains_key(&digest))
    }

    fn note_wrong(&self, name: &ShortStr, digest: Option<Digest>) {
        let Some(digest) = digest else { return };
        let mut wrong = self.wrong.lock();
        if wrong.users.insert(digest, name.clone()).is_some() {
            return;
        }
        wrong.order.push_back(digest);
        if wrong.order.len() > MOST_WRONG
            && let Some(oldest) = wrong.order.pop_front()
        {
            wrong.users.remove(&oldest);
        }
    }

    /// Forgets the passwords of a user, who has changed.
    pub(super) fn forget(&self, name: &ShortStr) {
        self.right.lock().remove(name);
        let Wrong { users, order } = &mut *self.wrong.lock();
        let before = users.len();
        users.retain(|_, of| of != name);
        if users.len() < before {
            order.retain(|digest| users.contains_key(digest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Administrator, Draft, User, UserLimits, slow_hash};
    use super::*;

    fn accounts(password: Option<Password>) -> Arc<Accounts> {
        let accounts = Arc::new(Accounts::new());
        change_password(&accounts, password);
        accounts
    }

    fn change_password(accounts: &Accounts, password: Option<Password>) {
        let name = ShortStr::from_static("shop");
        let mut draft = accounts.draft();
        let limits = UserLimits::default();
        draft.put_user(User { name, password, tags: Vec::new(), limits }).unwrap();
        accounts.adopt(draft);
    }

    fn slowly(login: Login) -> Result<ShortStr, LoginRefused> {
        match login {
            Login::Pending(verification) => verification.run(),
            other => panic!("{other:?} without having looked"),
        }
    }

    #[test]
    fn an_administrator_logs_in_from_where_it_may() {
        let accounts = Arc::new(Accounts::new());
        assert!(matches!(accounts.login(b"guest", b"guest", true), Login::Accepted(_)));
        let Login::Refused(why) = accounts.login(b"guest", b"guest", false) else { panic!() };
        assert_eq!(why.to_string(), "user 'guest' can only connect via localhost");
        let name = ShortStr::from_static("admin");
        let password = "s3cret".to_owned();
        accounts.appoint(vec![Administrator { name, password, loopback_only: false }]);
        assert!(matches!(accounts.login(b"admin", b"s3cret", false), Login::Accepted(_)));
        assert!(slowly(accounts.login(b"guest", b"guest", true)).is_err());
        for wrong in [&b""[..], b"s3cre", b"s3crett", b"S3cret"] {
            assert!(slowly(accounts.login(b"admin", wrong, true)).is_err());
        }
    }

    #[test]
    fn a_stored_password_is_verified_slowly_once_and_is_then_known() {
        let accounts = accounts(Some(Password::new(b"s3cret").unwrap()));
        assert_eq!(&slowly(accounts.login(b"shop", b"s3cret", false)).unwrap()[..], b"shop");
        assert!(matches!(accounts.login(b"shop", b"s3cret", false), Login::Accepted(_)));
        let wrong = slowly(accounts.login(b"shop", b"S3cret", false)).unwrap_err();
        assert_eq!(wrong.to_string(), "user 'shop' - invalid credentials");
        change_password(&accounts, Some(Password::new(b"another").unwrap()));
        assert!(slowly(accounts.login(b"shop", b"s3cret", false)).is_err());
        assert!(slowly(accounts.login(b"shop", b"another", false)).is_ok());
    }

    #[test]
    fn a_password_that_is_changed_while_it_is_verified_is_not_remembered() {
        let accounts = accounts(Some(Password::new(b"s3cret").unwrap()));
        let Login::Pending(verification) = accounts.login(b"shop", b"s3cret", true) else {
            panic!()
        };
        change_password(&accounts, Some(Password::new(b"another").unwrap()));
        assert!(verification.run().is_ok());
        assert!(slowly(accounts.login(b"shop", b"s3cret", true)).is_err());
    }

    /// A thousand connections come back after a restart, all with the same password: one Argon2id each would keep the last of
    /// them waiting for longer than a handshake may take.
    #[test]
    fn who_has_waited_while_another_found_out_does_not_find_out_again() {
        let accounts = accounts(Some(Password::new(b"s3cret").unwrap()));
        let pending = |plain: &[u8]| match accounts.login(b"shop", plain, true) {
            Login::Pending(verification) => verification,
            other => panic!("{other:?} without having looked"),
        };
        let right: Vec<_> = (0..1000).map(|_| pending(b"s3cret")).collect();
        let wrong: Vec<_> = (0..1000).map(|_| pending(b"S3cret")).collect();
        let before = slow_hash::runs_of_this_thread();
        assert!(right.into_iter().all(|one| one.run().is_ok()));
        assert!(wrong.into_iter().all(|one| one.run().is_err()));
        assert_eq!(slow_hash::runs_of_this_thread() - before, 2);
    }

    /// Clients with an old password, which try every second, had others wait whose password had not been verified yet.
    #[test]
    fn what_was_wrong_is_known_to_be_until_something_changes() {
        let accounts = accounts(Some(Password::new(b"s3cret").unwrap()));
        for user in ["shop", "nobody", "guest"] {
            assert!(slowly(accounts.login(user.as_bytes(), b"another", true)).is_err());
            let again = accounts.login(user.as_bytes(), b"another", true);
            assert!(matches!(again, Login::Refused(LoginRefused::Credentials(_))), "{user}");
            assert!(slowly(accounts.login(user.as_bytes(), b"anothe", true)).is_err());
        }
        assert!(slowly(accounts.login(b"nobodya", b"nother", true)).is_err());
        change_password(&accounts, Some(Password::new(b"another").unwrap()));
        assert!(slowly(accounts.login(b"shop", b"another", true)).is_ok());
    }

    /// Each user that was added emptied what was known of all others, who came back to the slow way all at once.
    #[test]
    fn a_change_of_a_user_forgets_the_passwords_of_that_user_alone() {
        let password = Password::new(b"s3cret").unwrap();
        let accounts = accounts(Some(password.clone()));
        assert!(slowly(accounts.login(b"shop", b"s3cret", true)).is_ok());
        assert!(slowly(accounts.login(b"shop", b"another", true)).is_err());
        let change = |change: &dyn Fn(&mut Draft)| {
            let mut draft = accounts.draft();
            change(&mut draft);
            accounts.adopt(draft);
        };
        let (shop, other) = (ShortStr::from_static("shop"), ShortStr::from_static("other"));
        let user = |name: &ShortStr| User {
            name: name.clone(),
            password: Some(password.clone()),
            tags: Vec::new(),
            limits: UserLimits::default(),
        };
        change(&|draft| _ = draft.put_user(user(&other)).unwrap());
        change(&|draft| _ = draft.delete_user(&other).unwrap());
        // A change that has nothing to do with the password.
        let limits = UserLimits { max_connections: Some(5), max_channels: None };
        change(&|draft| _ = draft.put_user(User { limits, ..user(&shop) }).unwrap());
        assert!(matches!(accounts.login(b"shop", b"s3cret", true), Login::Accepted(_)));
        assert!(matches!(accounts.login(b"shop", b"another", true), Login::Refused(_)));
        change(&|draft| _ = draft.delete_user(&shop).unwrap());
        assert!(matches!(accounts.login(b"shop", b"s3cret", true), Login::Pending(_)));
        assert!(matches!(accounts.login(b"shop", b"another", true), Login::Pending(_)));
    }

    #[test]
    fn a_password_that_becomes_right_while_it_is_verified_is_not_remembered_as_wrong() {
        let accounts = accounts(Some(Password::new(b"s3cret").unwrap()));
        let Login::Pending(verification) = accounts.login(b"shop", b"another", true) else {
            panic!()
        };
        change_password(&accounts, Some(Password::new(b"another").unwrap()));
        assert!(verification.run().is_err());
        assert!(slowly(accounts.login(b"shop", b"another", true)).is_ok());
    }

    #[test]
    fn of_wrong_passwords_only_so_many_are_remembered() {
        let remembered = Remembered::new();
        let name = ShortStr::from_static("shop");
        let digest = |n: usize| remembered.digest(b"shop", &n.to_be_bytes());
        for n in 0..3 * MOST_WRONG {
            remembered.note_wrong(&name, digest(n));
        }
        assert_eq!(remembered.wrong.lock().users.len(), MOST_WRONG);
        assert_eq!(remembered.wrong.lock().order.len(), MOST_WRONG);
        for n in [2 * MOST_WRONG, 3 * MOST_WRONG - 1] {
            assert!(remembered.knows_wrong(digest(n)));
        }
        remembered.forget(&name);
        assert!(remembered.wrong.lock().order.is_empty());
    }

    #[test]
    fn what_is_wrong_takes_the_slow_way_whoever_it_is() {
        let hash = "3S7h9CiqgHoiamit+kiU5JkMRr/W5GTrv0jGKAhLUkWLR7Dn";
        let of_rabbitmq = Password::from_hash("rabbit_password_hashing_sha256", hash).unwrap();
        let accounts = accounts(Some(of_rabbitmq));
        assert!(matches!(accounts.login(b"shop", b"s3cret", true), Login::Accepted(_)));
        for (user, password) in [("shop", "x"), ("guest", "x"), ("nobody", "x"), ("nobody", "")] {
            let login = accounts.login(user.as_bytes(), password.as_bytes(), true);
            assert!(slowly(login).is_err(), "{user}");
        }
        change_password(&accounts, None);
        assert!(slowly(accounts.login(b"shop", b"", true)).is_err());
    }
}
