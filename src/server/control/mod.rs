//! What an operator asks of a broker, whoever has its data directory.
//!
//! A running server answers whoever connects to the socket [`control.socket`](SOCKET) in its data directory: one [`Request`] as JSON up to the
//! end of what the peer sends, one [`Answer`] back, and the connection is closed. The socket is open to the server's own user alone. On a
//! directory that nobody has open, whoever opens it [performs](perform) the same requests by itself.
//!
//! What lives here: requests and answers, what is done for them, and both ends of the socket. It may use the broker, its store to wait for
//! durability, and definitions. An answer is given when what it tells of is durable.

mod answering;
mod asking;
mod performing;
mod request;

pub(super) use self::answering::ControlSocket;
pub use self::asking::{AskError, ask};
pub use self::performing::perform;
pub use self::request::{
    Answer, ConnectionRow, CountRow, Outcome, PermissionRow, PolicyRow, Request,
    TopicPermissionRow, UserRow, VirtualHostRow,
};

/// The name of the socket in the data directory.
pub const SOCKET: &str = "control.socket";

/// More than this nobody may ask at once, in bytes.
const LARGEST_REQUEST: usize = 256 << 20;
