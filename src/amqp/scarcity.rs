//! What there is too little of for publishers to go on.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Something that publishers use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Space on the disk that the messages are on.
    Disk,
    /// The machine's memory.
    Memory,
}

/// What is short at the moment, one bit each: it is looked at for every message.
#[derive(Debug, Default)]
pub(super) struct Scarcity(AtomicU8);

impl Resource {
    const fn bit(self) -> u8 {
        match self {
            Resource::Disk => 1,
            Resource::Memory => 2,
        }
    }
}

impl Scarcity {
    /// Notes whether it is short. Whether that is news.
    pub(super) fn set(&self, resource: Resource, is_short: bool) -> bool {
        let bit = resource.bit();
        let before =
            if is_short { self.0.fetch_or(bit, Relaxed) } else { self.0.fetch_and(!bit, Relaxed) };
        (before & bit != 0) != is_short
    }

    /// Whether anything is short.
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Whether that is short.
    pub(super) fn is_of(&self, resource: Resource) -> bool {
        self.0.load(Relaxed) & resource.bit() != 0
    }
}

/// The reason that `connection.blocked` gives.
pub(super) fn reason(disk: bool, memory: bool) -> &'static [u8] {
    match (disk, memory) {
        (true, true) => b"low on disk & memory",
        (false, true) => b"low on memory",
        // Neither: it has just passed, which the peer is told as well.
        (_, false) => b"low on disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_noted_once_and_apart() {
        let scarcity = Scarcity::default();
        assert!(!scarcity.is_any());
        assert!(scarcity.set(Resource::Memory, true) && !scarcity.set(Resource::Memory, true));
        assert!(scarcity.is_of(Resource::Memory) && !scarcity.is_of(Resource::Disk));
        assert!(scarcity.set(Resource::Disk, true) && scarcity.set(Resource::Memory, false));
        assert!(scarcity.is_any() && !scarcity.set(Resource::Memory, false));
        assert!(scarcity.set(Resource::Disk, false) && !scarcity.is_any());
    }

    #[test]
    fn the_reasons_are_those_that_clients_know() {
        assert_eq!(reason(true, false), b"low on disk");
        assert_eq!(reason(false, true), b"low on memory");
        assert_eq!(reason(true, true), b"low on disk & memory");
    }
}
