//! Reply codes (AMQP 0-9-1, section 1.2 of the reference), with RabbitMQ's names for them.

/// Why a channel or a connection is closed, or a message returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// 200: nothing is wrong.
    Success = 200,
    /// 312: a mandatory message has no queue to go to.
    NoRoute = 312,
    /// 320: an operator closed the connection.
    ConnectionForced = 320,
    /// 403.
    AccessRefused = 403,
    /// 404.
    NotFound = 404,
    /// 405.
    ResourceLocked = 405,
    /// 406.
    PreconditionFailed = 406,
    /// 501: the bytes are not a frame.
    FrameError = 501,
    /// 502: a frame's fields are not well-formed.
    SyntaxError = 502,
    /// 503: a method that makes no sense, or not here.
    CommandInvalid = 503,
    /// 504: a channel that is not open, or open already.
    ChannelError = 504,
    /// 505: a frame that was not expected at this point.
    UnexpectedFrame = 505,
    /// 506: a limit of the server is reached.
    ResourceError = 506,
    /// 530.
    NotAllowed = 530,
    /// 540: a feature that this server does not have.
    NotImplemented = 540,
    /// 541.
    InternalError = 541,
}

impl ReplyCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The name that reply texts begin with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ReplyCode::Success => "SUCCESS",
            ReplyCode::NoRoute => "NO_ROUTE",
            ReplyCode::ConnectionForced => "CONNECTION_FORCED",
            ReplyCode::AccessRefused => "ACCESS_REFUSED",
            ReplyCode::NotFound => "NOT_FOUND",
            ReplyCode::ResourceLocked => "RESOURCE_LOCKED",
            ReplyCode::PreconditionFailed => "PRECONDITION_FAILED",
            ReplyCode::FrameError => "FRAME_ERROR",
            ReplyCode::SyntaxError => "SYNTAX_ERROR",
            ReplyCode::CommandInvalid => "COMMAND_INVALID",
            ReplyCode::ChannelError => "CHANNEL_ERROR",
            ReplyCode::UnexpectedFrame => "UNEXPECTED_FRAME",
            ReplyCode::ResourceError => "RESOURCE_ERROR",
            ReplyCode::NotAllowed => "NOT_ALLOWED",
            ReplyCode::NotImplemented => "NOT_IMPLEMENTED",
            ReplyCode::InternalError => "INTERNAL_ERROR",
        }
    }
}
