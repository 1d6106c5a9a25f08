//! The wire format of AMQP 0-9-1: frames, methods, content headers, reply codes; and what is different in 0-8 ([`Dialect`]).
//!
//! Pure: bytes in, borrowed views out, and back into a buffer. It may use `message` for the field
//! types and nothing else of this crate; it must never know of sockets, connections or queues.
//!
//! Everything decoded borrows the bytes that it was received in, so that decoding a method allocates
//! nothing. Announced sizes are checked against the negotiated limit before anything else is done.

mod content;
mod dialect;
mod fields;
mod frame;
mod method;
mod reply;

pub use content::{ContentHeader, put_body_frame_header, put_content_header};
pub use dialect::Dialect;
pub use frame::{
    FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameError, FrameKind, FrameView, Frames,
    PROTOCOL_HEADER, WholePublish, first_frame, put_heartbeat, put_method, split_frames,
};
pub use method::{FieldKind, Layout, Method, MethodError, MethodId};
pub use reply::ReplyCode;
