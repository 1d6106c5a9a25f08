//! Who may do what: users, their passwords and permissions, and what a channel may do by them.
//!
//! - [`Accounts`]: all users and permissions of a broker, in memory and in the store.
//! - [`Password`]: how a password is kept and verified. [`Login`]: what comes of an attempt.
//! - `Powers`: what one channel may do, remembered for as long as no permission changes; `enforcing` asks them for each method.
//! - [`TopicPermissions`]: which routing keys of an exchange a user may use, where that is restricted.
//! - [`Pattern`]: a regular expression of an operator's; policies use them as well.
//!
//! It may use the store (for what is kept) and records. It must never know of exchanges and queues other than by their names.
//!
//! Beside the stored users there may be administrators, of programs that embed a broker: all permissions on every virtual host.
//! A server has none: it stores the user of its settings, once.

mod accounts;
mod enforcing;
mod login;
mod password;
mod pattern;
mod permissions;
mod powers;
mod slow_hash;
mod topics;
mod user;

pub(in crate::broker) use accounts::Founding;
pub use accounts::{AccessError, Accounts, Administrator};
pub use login::{Login, LoginRefused, Verification};
pub use password::{Password, PasswordError};
pub use pattern::{Pattern, PatternError};
pub use permissions::{Permissions, Right};
pub use slow_hash::{AT_ONCE as VERIFIED_AT_ONCE, release_spare_memory};
pub use topics::TopicPermissions;
pub use user::{User, UserLimits};

pub(super) use accounts::{Draft, MOST_TAGS};
pub(super) use powers::{Grant, Powers};
