//! Finding whole records among damaged ones.

use super::frame::{self, FRAME};
use crate::storage::checksum::Seed;
use crate::storage::units::Lsn;

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
    pub(crate) fn new(bytes: usize) -> Search {
        Search { budget: EFFORT * bytes as u64, given_up: false }
    }

    /// The first place from `from` on where a record passes its check. `start` is the LSN of the first of `bytes`.
    pub(crate) fn next(
        &mut self,
        bytes: &[u8],
        from: usize,
        start: Lsn,
        seed: Seed,
    ) -> Option<usize> {
        for at in from..(bytes.len() + 1).saturating_sub(FRAME) {
            let here = &bytes[at..];
            let Some(size) = frame::plausible(here) else { continue };
            if self.budget < size as u64 {
                self.given_up = true;
                return None;
            }
            self.budget -= size as u64;
            if frame::open(here, start.plus(at as u64), seed).is_ok() {
                return Some(at);
            }
        }
        None
    }

    /// Whether it has become too much work: records may be left that were not found.
    pub(crate) fn has_given_up(&self) -> bool {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::record::{RecordKind, seal};
    use crate::storage::units::SegmentId;

    fn seed() -> Seed {
        Seed::new(b"0123456789abcdef", SegmentId(3), 7)
    }

    #[test]
    fn a_record_behind_garbage_is_found() {
        let start = Lsn(0x3000);
        let mut bytes = vec![0xa5; 100];
        let mut record = vec![0; FRAME];
        record.extend_from_slice(b"hay");
        seal(&mut record, RecordKind::Message, start.plus(100), seed());
        bytes.extend_from_slice(&record);
        assert_eq!(Search::new(bytes.len()).next(&bytes, 0, start, seed()), Some(100));
        assert_eq!(Search::new(bytes.len()).next(&bytes, 101, start, seed()), None);
    }

    /// Every place looked like a record that goes on to the end of the segment: the search was quadratic.
    #[test]
    fn a_message_made_of_frames_does_not_hold_the_search_up() {
        let mut bytes = Vec::new();
        for n in (0..1_000_000u32).rev() {
            bytes.extend_from_slice(&[1, 2, 3, 4]);
            bytes.extend_from_slice(&(n * 12).to_le_bytes());
            bytes.extend_from_slice(&[1, 0, 0, 0]);
        }
        let mut search = Search::new(bytes.len());
        assert_eq!(search.next(&bytes, 1, Lsn(0x3000), seed()), None);
        assert!(search.has_given_up());
    }
}
