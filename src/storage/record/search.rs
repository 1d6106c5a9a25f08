//! Finding whole records among damaged ones.

use super::frame::{self, FRAME};

/// Bytes checksummed at most, for every byte that is searched through.
const EFFORT: u64 = 16;

/// A search for records, place by place, because the length of a damaged one cannot be believed.
///
/// Only what looks like a frame is checksummed. Somebody may have filled a message with frames that promise much, so the
/// work is limited: to some times the size of what is searched.
#[derive(Debug)]
pub(crate) struct Search {
    budget: u64,
    given_up: bool,
}

impl Search {
    /// A search through this many bytes.
    pub(crate) fn new(bytes: u64) -> Search {
        Search { budget: EFFORT.saturating_mul(bytes), given_up: false }
    }

    /// The first place in `bytes` where a record may begin, and its size; it ends within `room` bytes from the first of `bytes`
    /// on. Whoever asks checks the record. `None`: there is none, or it has become too much work.
    pub(crate) fn next(&mut self, bytes: &[u8], room: u64) -> Option<(usize, u64)> {
        let places = 0..(bytes.len() + 1).saturating_sub(FRAME);
        let mut found = places
            .filter_map(|at| Some((at, frame::plausible_within(&bytes[at..], room - at as u64)?)));
        let (at, size) = found.next()?;
        match self.budget.checked_sub(size) {
            Some(left) => {
                self.budget = left;
                Some((at, size))
            }
            None => {
                self.given_up = true;
                None
            }
        }
    }

    /// Whether it has become too much work: records may be left that were not found.
    pub(crate) fn has_given_up(&self) -> bool {
        self.given_up
    }
}
