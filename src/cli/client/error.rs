//! Why a connection is of no use any more.

use std::io;
use std::time::Duration;

use super::AmqpUri;
use crate::amqp::codec::{FrameError, Method, MethodError};
use crate::message::DecodeError;

/// See the module. Texts that name a broker leave out the password.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClientError {
    #[error("cannot connect to {uri}: {source}; is a broker running there?")]
    Connect { uri: Box<AmqpUri>, source: io::Error },
    #[error(
        "{uri} refused the login as '{}'; check user name and password (guest may often log in from the same machine only)",
        uri.user()
    )]
    Login { uri: Box<AmqpUri> },
    #[error("{uri} does not speak AMQP 0-9-1: {why}")]
    Protocol { uri: Box<AmqpUri>, why: String },
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the server closed the connection without a word")]
    Ended,
    #[error("the server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the server closed it: {code} {text}")]
    Closed { code: u16, text: String },
    #[error("the server answered {answer} to {request}")]
    Answer { request: &'static str, answer: String },
    #[error("the server sent no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("the server sent no method: {0}")]
    Method(#[from] MethodError),
    #[error("the server sent no content: {0}")]
    Content(#[from] DecodeError),
}

impl ClientError {
    /// What a method means that nobody asked for; `request` is what was asked for.
    pub(in crate::cli) fn unexpected(request: &'static str, method: &Method<'_>) -> ClientError {
        match *method {
            Method::ConnectionClose { reply_code, reply_text, .. }
            | Method::ChannelClose { reply_code, reply_text, .. } => ClientError::Closed {
                code: reply_code,
                text: String::from_utf8_lossy(reply_text).into_owned(),
            },
            ref other => ClientError::Answer { request, answer: other.name().to_owned() },
        }
    }
}
