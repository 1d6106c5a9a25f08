//! What ends a channel or a connection: the reply code, the text, and the method at fault.

use super::codec::{FrameError, Method, MethodError, MethodId, ReplyCode};
use crate::broker::{Refusal, Scope};
use crate::message::DecodeError;

/// A protocol error on its way to `channel.close` or `connection.close`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is closed.
    pub(super) scope: Scope,
    /// The reply code.
    pub(super) code: u16,
    /// The reply text, `NAME - what happened`, at most 255 bytes.
    pub(super) text: String,
    /// The method that caused it; 0.0 when no method did.
    pub(super) method: MethodId,
}

impl Fault {
    /// Closes the connection.
    pub(super) fn connection(code: ReplyCode, what: impl std::fmt::Display) -> Fault {
        Fault::new(Scope::Connection, code, what)
    }

    /// Closes the channel.
    pub(super) fn channel(code: ReplyCode, what: impl std::fmt::Display) -> Fault {
        Fault::new(Scope::Channel, code, what)
    }

    fn new(scope: Scope, code: ReplyCode, what: impl std::fmt::Display) -> Fault {
        let mut text = format!("{} - {what}", code.name());
        text.truncate(text.floor_char_boundary(255));
        Fault { scope, code: code.code(), text, method: MethodId::default() }
    }

    /// The server stops.
    pub(super) fn shutdown() -> Fault {
        Fault::connection(
            ReplyCode::ConnectionForced,
            "broker forced connection closure with reason 'shutdown'",
        )
    }

    /// The method that closes the connection.
    pub(super) fn connection_close(&self) -> Method<'_> {
        Method::ConnectionClose {
            reply_code: self.code,
            reply_text: self.text.as_bytes(),
            class_id: self.method.class,
            method_id: self.method.method,
        }
    }

    /// The method that closes the channel.
    pub(super) fn channel_close(&self) -> Method<'_> {
        Method::ChannelClose {
            reply_code: self.code,
            reply_text: self.text.as_bytes(),
            class_id: self.method.class,
            method_id: self.method.method,
        }
    }

    /// Names the method at fault.
    pub(super) fn during(self, method: MethodId) -> Fault {
        Fault { method, ..self }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault {
            scope: refusal.scope(),
            code: refusal.code(),
            text: refusal.text().to_owned(),
            method: MethodId::default(),
        }
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Fault {
        Fault::connection(ReplyCode::FrameError, error)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Fault {
        Fault::connection(ReplyCode::SyntaxError, error)
    }
}

impl From<MethodError> for Fault {
    fn from(error: MethodError) -> Fault {
        match error {
            MethodError::UnknownClass(id) => {
                Fault::connection(ReplyCode::NotImplemented, error).during(id)
            }
            MethodError::UnknownMethod(id) => {
                Fault::connection(ReplyCode::CommandInvalid, error).during(id)
            }
            MethodError::NoId(_) => Fault::connection(ReplyCode::SyntaxError, error),
            MethodError::Fields { id, .. } => {
                Fault::connection(ReplyCode::SyntaxError, error).during(id)
            }
        }
    }
}
