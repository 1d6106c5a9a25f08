//! Inspections: one report of what is in a data directory, whoever has it.
//!
//! A store that nobody uses is read from its files. A running server answers whoever connects to the socket
//! [`inspect.socket`](SOCKET) in its data directory with the same report, as one JSON object, and closes the connection; it
//! reads nothing from it. The socket is open to the server's own user alone.
//!
//! What lives here: the report, and both ends of that socket. It may use the engine's inspections and the names of queues; it
//! must never touch the data directory otherwise, nor hold up the server.

mod answering;
mod asking;
mod report;

pub(super) use self::answering::{Identity, Inspected, InspectionSocket, listen, told_to_stop};
pub use self::asking::{AskError, ask};
pub use self::report::{
    Activity, CheckpointReport, CompactionReport, End, Moved, QueueReport, ReplayReport, Report,
    Running, SegmentReport, Written,
};

/// The name of the socket in the data directory.
pub const SOCKET: &str = "inspect.socket";
