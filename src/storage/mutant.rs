//! The engine's rules, and how each of them can be broken on purpose: to prove that somebody would notice.
//!
//! What lives here: the list of them, and the question that the engine asks at the place where a rule lives. Without the
//! feature `simulation` the answer is a constant, and nothing is left of the question. With it, a rule is broken by
//! `simulation::with_mutant`, in the thread that calls it. Only cold places ask: once for a group, a sync, a checkpoint or a
//! recovery, or for a call of the program's; never once for each message.

/// An engine with one mistake in it.
#[cfg_attr(not(feature = "simulation"), expect(unreachable_pub, reason = "one enum for both"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A new segment's name may be gone after a power cut: its directory is not synced before the log goes there.
    SkipDirectorySync,
    /// A recycled file may come back under its old name: that it lost it is not durable when its header changes.
    KeepOldName,
    /// The log goes on in a segment that the superblock does not name.
    UnnamedSegment,
    /// A new store may be gone as a whole: the directories that lead to it are not synced.
    SkipParentSync,
    /// A new segment's header and zeros may be gone: its file is not synced before it is used.
    SkipFileSync,
    /// Who waits is told when a group was written, not when it was synced.
    ConfirmBeforeSync,
    /// What cannot be read of the log is taken for its end.
    IgnoreReadError,
    /// A failed sync is tried again, and believed if it succeeds then.
    RetrySync,
    /// A failed write or sync does not end the log.
    GoOnAfterFailure,
    /// A write that took less than it was given is taken for a whole one.
    BelieveShortWrite,
    /// A record's length is used before anything has vouched for it.
    TrustLength,
    /// All segments have the same salt.
    RecycleWithoutSalt,
    /// Dead segments are given away before the checkpoint that does without them is durable.
    RecycleEarly,
    /// The superblock points to a checkpoint that is not durable yet.
    PointEarly,
    /// An open does not wait until the new end of the log is durable.
    CutUnsynced,
    /// Both copies of the superblock are written before either of them is synced.
    OverwriteBothCopies,
    /// What an open reads of the superblock may not be durable.
    TrustCachedSuperblock,
    /// What an open reads of the log's end may not be durable.
    TrustCachedTail,
    /// The names that an open finds may not be durable.
    TrustCachedDirectory,
    /// A group begins in the sector in which the one before it ends.
    ShareSectors,
    /// An acknowledgement is written down for places that no message has taken yet.
    AcknowledgeFuture,
    /// A move is applied whatever is known of the message already.
    MoveUnchecked,
    /// That a chunk has gone from a directory is forgotten.
    ForgetDirectory,
    /// What belongs together is appended one record after the other, to two segments where one of them ends.
    DivideUnits,
    /// A provisional group counts although nothing says that it was durable.
    CountProvisional,
    /// A group larger than a segment is confirmed before the superblock says that it is durable.
    ConfirmUnnoted,
}

#[cfg(feature = "simulation")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Which rule this thread breaks.
    pub(crate) fn active() -> Option<Mutant> {
        ACTIVE.get()
    }

    /// Has this thread break a rule from now on; gives the one that it broke before.
    pub(crate) fn activate(mutant: Option<Mutant>) -> Option<Mutant> {
        ACTIVE.replace(mutant)
    }

    pub(crate) fn is_active(mutant: Mutant) -> bool {
        active() == Some(mutant)
    }
}

#[cfg(feature = "simulation")]
pub(crate) use switch::{activate, active, is_active};

/// Whether this rule is broken: it is not.
#[cfg(not(feature = "simulation"))]
pub(crate) const fn is_active(_mutant: Mutant) -> bool {
    false
}
