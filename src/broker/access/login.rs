//! Whether somebody may log in.
//!
//! A right password is known at once where that is cheap: the settings' own, one that RabbitMQ has hashed, and one that has been verified since
//! the broker started (of which a keyed digest is remembered, in memory alone). Everything else takes one Argon2id, whoever asks and
//! whatever is wrong: the time does not tell which users there are. That is not for a connection's thread.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac;
use thiserror::Error;

use super::accounts::{Accounts, Known};
use super::password::{Password, same, verify_nothing};
use crate::message::ShortStr;

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
    /// What the password is to be compared with; `None` and it is wrong already.
    password: Option<Password>,
    loopback_only: bool,
}

impl Accounts {
    /// Looks at a name and a password. `loopback`: whoever it is connects from this machine.
    #[must_use]
    pub fn login(self: &Arc<Self>, name: &[u8], plain: &[u8], loopback: bool) -> Login {
        let mut verification = Verification {
            accounts: Arc::clone(self),
            name: ShortStr::copy_of(name),
            plain: plain.to_vec(),
            loopback,
            password: None,
            loopback_only: false,
        };
        match self.find(name) {
            Known::Administrator(administrator) => {
                verification.loopback_only = administrator.loopback_only;
                if same(administrator.password.as_bytes(), plain) {
                    return verification.accept();
                }
            }
            Known::Stored { user, loopback_only } => {
                verification.loopback_only = loopback_only;
                match &user.password {
                    Some(slow) if slow.is_slow() => {
                        if self.remembered.knows(&user.name, plain) {
                            return verification.accept();
                        }
                        verification.password = Some(slow.clone());
                    }
                    Some(fast) if fast.verify(plain) => return verification.accept(),
                    _ => {}
                }
            }
            Known::Nobody => {}
        }
        Login::Pending(verification)
    }
}

impl Verification {
    /// Finds out. Takes a processor for a while.
    ///
    /// # Errors
    /// [`LoginRefused`].
    pub fn run(self) -> Result<ShortStr, LoginRefused> {
        let Some(password) = &self.password else {
            verify_nothing(&self.plain);
            return Err(self.wrong());
        };
        if !password.verify(&self.plain) {
            return Err(self.wrong());
        }
        let accounts = &self.accounts;
        accounts.while_password_is(&self.name, password, || {
            accounts.remembered.note(&self.name, &self.plain);
        });
        self.check_origin()?;
        Ok(self.name)
    }

    fn accept(self) -> Login {
        match self.check_origin() {
            Ok(()) => Login::Accepted(self.name),
            Err(refused) => Login::Refused(refused),
        }
    }

    fn check_origin(&self) -> Result<(), LoginRefused> {
        if self.loopback_only && !self.loopback {
            return Err(LoginRefused::Loopback(self.name.to_string()));
        }
        Ok(())
    }

    fn wrong(&self) -> LoginRefused {
        LoginRefused::Credentials(self.name.to_string())
    }
}

/// Passwords that were right: a digest of each, keyed with what nobody knows and is gone with the process.
pub(super) struct Remembered {
    key: Option<hmac::Key>,
    right: Mutex<HashMap<ShortStr, hmac::Tag>>,
}

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
        Self { key, right: Mutex::default() }
    }

    fn knows(&self, name: &ShortStr, plain: &[u8]) -> bool {
        let Some(key) = &self.key else { return false };
        let Some(tag) = self.right.lock().get(name).copied() else { return false };
        hmac::verify(key, plain, tag.as_ref()).is_ok()
    }

    fn note(&self, name: &ShortStr, plain: &[u8]) {
        if let Some(key) = &self.key {
            self.right.lock().insert(name.clone(), hmac::sign(key, plain));
        }
    }

    /// Something about users has changed.
    pub(super) fn forget(&self) {
        self.right.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Administrator, User, UserLimits};
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
    fn the_user_of_the_settings_logs_in_from_where_the_settings_say() {
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
