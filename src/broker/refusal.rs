//! What the broker answers when it refuses a request.

use std::fmt;

use thiserror::Error;

use crate::storage::StoreError;

/// How much of the peer's session ends with the refusal (AMQP 0-9-1, section 1.2, "hard" and "soft" errors).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The channel is closed (`channel.close`); the connection's other channels go on.
    Channel,
    /// The whole connection is closed (`connection.close`).
    Connection,
}

/// Why a request was refused: one AMQP reply code each, with the scope that the specification gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// 403, closes the channel: reserved names, the default exchange, internal exchanges, exclusive consumers.
    AccessRefused,
    /// 404, closes the channel: the queue or exchange does not exist.
    NotFound,
    /// 405, closes the channel: the queue belongs to another connection.
    ResourceLocked,
    /// 406, closes the channel: not equivalent, in use, not empty, unknown delivery tag, bad argument.
    PreconditionFailed,
    /// 506, closes the connection: the disk is full.
    ResourceError,
    /// 530, closes the connection: a consumer tag used twice, an unknown virtual host.
    NotAllowed,
    /// 540, closes the connection: a feature that the broker does not have.
    NotImplemented,
    /// 541, closes the connection: the store failed.
    InternalError,
}

impl Reason {
    /// The reply code of `channel.close` or `connection.close`.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::AccessRefused => 403,
            Self::NotFound => 404,
            Self::ResourceLocked => 405,
            Self::PreconditionFailed => 406,
            Self::ResourceError => 506,
            Self::NotAllowed => 530,
            Self::NotImplemented => 540,
            Self::InternalError => 541,
        }
    }

    /// What is closed.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => Scope::Channel,
            Self::ResourceError | Self::NotAllowed | Self::NotImplemented | Self::InternalError => {
                Scope::Connection
            }
        }
    }

    /// The name that the reply text begins with, as in `NOT_FOUND - no queue 'q' in vhost '/'`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// A request that the broker refused. Nothing of it has been done.
///
/// `Display` gives the whole reply text, `REASON - what happened`, at most 255 bytes, so that it fits a short string.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Refusal {
    reason: Reason,
    text: String,
}

/// The longest reply text that fits an AMQP short string.
const LONGEST_TEXT: usize = 255;

/// How a text ends that was too long, as RabbitMQ's do.
const CUT: &str = "...";

impl Refusal {
    /// A refusal with the text `REASON - what`. One that is too long is cut at a character boundary, and ends in three points.
    #[must_use]
    pub fn new(reason: Reason, what: impl fmt::Display) -> Self {
        let mut text = format!("{} - {what}", reason.name());
        if text.len() > LONGEST_TEXT {
            text.truncate(text.floor_char_boundary(LONGEST_TEXT - CUT.len()));
            text.push_str(CUT);
        }
        Self { reason, text }
    }

    /// Why the request was refused.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The reply code for `channel.close` or `connection.close`.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.reason.code()
    }

    /// What has to be closed.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.reason.scope()
    }

    /// The reply text, at most 255 bytes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let reason = match &error {
            StoreError::TooLarge { .. } | StoreError::NoRoom { .. } => Reason::PreconditionFailed,
            StoreError::Full => Reason::ResourceError,
            _ => Reason::InternalError,
        };
        Self::new(reason, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_text_never_outgrows_a_short_string() {
        let refusal = Refusal::new(Reason::NotFound, "ü".repeat(200));
        assert!(refusal.text().len() <= 255);
        assert!(refusal.text().starts_with("NOT_FOUND - ü"));
        assert!(refusal.text().ends_with("ü..."));
    }

    #[test]
    fn soft_errors_close_the_channel_and_hard_ones_the_connection() {
        assert_eq!(Refusal::new(Reason::NotFound, "x").scope(), Scope::Channel);
        assert_eq!(Refusal::new(Reason::NotAllowed, "x").scope(), Scope::Connection);
    }
}
