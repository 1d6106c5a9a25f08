//! Verifies passwords, one after the other: each takes a processor for some 20 ms and 19 MiB, and anybody may ask for it.
//!
//! Half of the processors at most are at it. Source addresses take turns, and so do the users of one address: the time that a login
//! waits does not depend on how many wrong passwords another address or user sends. A login whose answer another one has found
//! out meanwhile does not wait for its turn, and one whose connection has gone takes none.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::turns::Turns;
use crate::broker::access::{LoginRefused, VERIFIED_AT_ONCE, Verification};
use crate::message::ShortStr;

/// So many logins may wait for their turn.
const MOST_WAITING: usize = 4096;

/// The outcome of a login.
type Outcome = Result<ShortStr, LoginRefused>;

/// Verifies passwords. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    queue: Arc<Mutex<Queue>>,
    /// So many are verified at the same time.
    at_once: usize,
}

#[derive(Debug)]
struct Queue {
    turns: Turns<IpAddr, ShortStr, Waiting>,
    /// Threads that verify passwords now.
    running: usize,
}

#[derive(Debug)]
struct Waiting {
    verification: Verification,
    answer: oneshot::Sender<Outcome>,
}

impl Waiting {
    fn answer(self, outcome: Outcome) {
        // An error means that the connection has gone.
        self.answer.send(outcome).ok();
    }
}

impl Verifier {
    pub(super) fn new() -> Verifier {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let queue = Queue { turns: Turns::new(MOST_WAITING), running: 0 };
        let at_once = (processors / 2).clamp(1, VERIFIED_AT_ONCE);
        Verifier { queue: Arc::new(Mutex::new(queue)), at_once }
    }

    /// Verifies a password that came from `address`, not on the thread of the connection, and when it is its turn.
    pub(super) fn verify(
        &self,
        address: IpAddr,
        verification: Verification,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        // Without a runtime, the driver of the connection has nothing else to do.
        let now = if Handle::try_current().is_ok() {
            Err(self.enqueue(address, verification))
        } else {
            Ok(verification.run())
        };
        async move {
            match now {
                Ok(outcome) => outcome,
                Err(answer) => answer.await.unwrap_or_else(|_| {
                    Err(LoginRefused::Unverified("too many logins are waiting".to_owned()))
                }),
            }
        }
    }

    fn enqueue(&self, address: IpAddr, verification: Verification) -> oneshot::Receiver<Outcome> {
        let (answer, answered) = oneshot::channel();
        let user = verification.user().clone();
        let mut queue = self.queue.lock();
        // Dropping the one that is too much answers it.
        drop(queue.turns.push(&source(address), user, Waiting { verification, answer }));
        let starts = queue.running < self.at_once;
        queue.running += usize::from(starts);
        drop(queue);
        if starts {
            let verifier = self.clone();
            tokio::task::spawn_blocking(move || verifier.work());
        }
        answered
    }

    /// Verifies until there is nothing left.
    fn work(&self) {
        while self.verify_next().is_some() {}
    }

    /// Verifies the login whose turn it is, and answers all that it is the answer for. `None`: there is nothing left.
    fn verify_next(&self) -> Option<()> {
        let Waiting { verification, answer } = self.next()?;
        let user = verification.user().clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| verification.run()));
        let panicked = |_| Err(LoginRefused::Unverified("the verification panicked".to_owned()));
        // An error means that the connection has gone.
        answer.send(outcome.unwrap_or_else(panicked)).ok();
        let known = self.queue.lock().turns.take(&user, |one| one.verification.known());
        for (waiting, outcome) in known {
            waiting.answer(outcome);
        }
        Some(())
    }

    /// Returns the login whose turn it is and that needs a verification. `None` ends the thread.
    fn next(&self) -> Option<Waiting> {
        loop {
            let mut queue = self.queue.lock();
            let Some(next) = queue.turns.pop() else {
                queue.running = queue.running.saturating_sub(1);
                return None;
            };
            drop(queue);
            if next.answer.is_closed() {
                continue;
            }
            match next.verification.known() {
                Some(outcome) => next.answer(outcome),
                None => return Some(next),
            }
        }
    }
}

/// Returns what counts as one source: an address, or the network of 64 bits that an IPv6 address is in.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::broker::access::{Accounts, Login, Password, User, UserLimits};

    /// Without threads: the test takes what is next by itself.
    fn verifier() -> Verifier {
        Verifier { at_once: 0, ..Verifier::new() }
    }

    fn accounts(users: &[&'static str]) -> Arc<Accounts> {
        let accounts = Arc::new(Accounts::new());
        let mut draft = accounts.draft();
        for name in users {
            let password = Some(Password::new(b"s3cret").unwrap());
            let (name, limits) = (ShortStr::from_static(name), UserLimits::default());
            draft.put_user(User { name, password, tags: Vec::new(), limits }).unwrap();
        }
        accounts.adopt(draft);
        accounts
    }

    fn pending(accounts: &Arc<Accounts>, user: &str, password: &str) -> Verification {
        match accounts.login(user.as_bytes(), password.as_bytes(), true) {
            Login::Pending(verification) => verification,
            other => panic!("{other:?}"),
        }
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// Sixty sockets with wrong passwords kept right first logins out for ten seconds.
    #[test]
    fn a_right_password_waits_for_one_wrong_one_of_each_other_user_and_address() {
        let accounts = accounts(&["shop", "till"]);
        let verifier = verifier();
        let mut wrong = Vec::new();
        for n in 0..60 {
            let guess = pending(&accounts, "shop", &format!("guess {n}"));
            wrong.push(verifier.enqueue(address(1), guess));
        }
        let mut same_address = verifier.enqueue(address(1), pending(&accounts, "till", "s3cret"));
        let mut same_user = verifier.enqueue(address(2), pending(&accounts, "shop", "s3cret"));
        for _ in 0..3 {
            let Waiting { verification, answer } = verifier.next().unwrap();
            answer.send(verification.run()).unwrap();
        }
        assert!(same_user.try_recv().unwrap().is_ok());
        assert!(same_address.try_recv().unwrap().is_ok());
        let answered = wrong.iter_mut().filter_map(|one| one.try_recv().ok()).count();
        assert_eq!(answered, 1);
    }

    #[test]
    fn logins_with_one_password_take_one_verification() {
        let accounts = accounts(&["shop"]);
        let verifier = verifier();
        let enqueue = |n: u8, password: &str| {
            verifier.enqueue(address(n % 7), pending(&accounts, "shop", password))
        };
        let right: Vec<_> = (0..100).map(|n| enqueue(n, "s3cret")).collect();
        let mut wrong: Vec<_> = (0..100).map(|n| enqueue(n, "S3cret")).collect();
        for _ in 0..2 {
            verifier.verify_next().unwrap();
        }
        assert!(verifier.next().is_none());
        assert!(right.into_iter().all(|mut one| one.try_recv().unwrap().is_ok()));
        assert!(wrong.iter_mut().all(|one| one.try_recv().unwrap().is_err()));
    }

    #[test]
    fn a_login_whose_connection_has_gone_is_not_verified() {
        let accounts = accounts(&["shop"]);
        let verifier = verifier();
        drop(verifier.enqueue(address(1), pending(&accounts, "shop", "s3cret")));
        let mut last = verifier.enqueue(address(1), pending(&accounts, "shop", "other"));
        verifier.verify_next().unwrap();
        assert!(verifier.next().is_none());
        assert!(last.try_recv().unwrap().is_err());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let source = |address: &str| source(address.parse().unwrap());
        assert_eq!(source("2001:db8::1:2:3:4"), source("2001:db8::5:6:7:8"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.2"), source("192.0.2.1"));
    }
}
