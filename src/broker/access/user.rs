//! A stored user.

use super::password::Password;
use crate::message::ShortStr;

/// A user that is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: ShortStr,
    /// The user's password; `None`: the user cannot log in.
    pub password: Option<Password>,
    /// RabbitMQ's tags (`administrator`, `monitoring` …). They are kept, and mean nothing here.
    pub tags: Vec<ShortStr>,
    /// What the user's connections may be.
    pub limits: UserLimits,
}

/// Limits of one user; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Connections at the same time.
    pub max_connections: Option<u64>,
    /// Channels at the same time, on all connections together.
    pub max_channels: Option<u64>,
}
