//! Looking at a store: what is in it ([`inspect`], and [`Store::inspect`](super::Store::inspect) of one that is open), and
//! whether all of it can be read ([`verify`]); and making a damaged one whole again ([`repair`]).
//!
//! Nothing is ever changed here, but by a repair that is told to. The directory is locked meanwhile, so a store that is in
//! use is refused; an open one is looked at by the process that has it, which holds up nobody.
//!
//! What lives here: describing a store; reading segments and messages, looking for what is not where it should be, keeping
//! what is taken out and putting right what is left. It may use all of the engine; it must never take for true what nothing
//! whole says.

mod keep;
mod lost_list;
mod mend;
mod messages;
mod open;
mod repair;
mod search;
mod stopped;
mod sweep;
mod verify;
mod view;

pub use self::repair::{Applied, Repair, RepairError, repair};
pub use self::search::WholeRecord;
pub use self::stopped::inspect;
pub use self::verify::{Finding, LogHole, LostMessage, LostPlaces, Verification, verify};
pub use self::view::{
    CheckpointView, CompactionView, Inspection, OpenView, QueueView, Replay, SegmentView,
    VolatileQueues,
};
pub use super::recovery::Extent;
