//! What a message says of itself: so that nothing but its body is needed to tell whether it is whole.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | CRC-32 of all that follows |
//! | 4..8 | length of the whole body |
//! | 8..10 | publisher |
//! | 10..18 | number |
//! | 18..26 | queues that it was published to, a bit each |
//! | 26.. | filler, which follows from publisher and number |

use std::fmt;
use std::str::FromStr;

/// Where the filler begins: the shortest body.
pub(super) const SHORTEST: u32 = 26;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Publisher(pub(super) u16);

/// A message: its publisher's n-th. A publisher counts up, and publishes in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) publisher: Publisher,
    pub(super) number: u64,
}

/// One of the queues, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct QueueNumber(pub(super) u8);

/// Some of the queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueSet(u64);

/// Everything that a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) identity: Identity,
    pub(super) queues: QueueSet,
    /// Of the whole body, in bytes.
    pub(super) length: u32,
}

/// Why a body is not what somebody published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Altered {
    #[error("{0} bytes are left of it, fewer than any body has")]
    Short(usize),
    #[error("it says that it has {said} bytes, and has {found}")]
    Length { said: u32, found: usize },
    #[error("its checksum does not fit its {0} bytes")]
    Checksum(usize),
}

/// Not a publisher and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a publisher and a number")]
pub(super) struct NotAnIdentity;

impl QueueSet {
    /// The most queues that there may be.
    pub(super) const MOST: u8 = 64;

    pub(super) fn one(queue: QueueNumber) -> QueueSet {
        QueueSet(1 << queue.0)
    }

    /// The first `count` of them.
    pub(super) fn all(count: u8) -> QueueSet {
        QueueSet(u64::MAX.checked_shr(u32::from(Self::MOST - count)).unwrap_or(0))
    }

    pub(super) fn and(self, queue: QueueNumber) -> QueueSet {
        QueueSet(self.0 | 1 << queue.0)
    }

    pub(super) fn holds(self, queue: QueueNumber) -> bool {
        self.0 >> queue.0 & 1 == 1
    }

    pub(super) fn iter(self) -> impl Iterator<Item = QueueNumber> {
        (0..Self::MOST).map(QueueNumber).filter(move |queue| self.holds(*queue))
    }
}

impl Stamp {
    /// The body that says this.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.length as usize);
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&self.length.to_le_bytes());
        body.extend_from_slice(&self.identity.publisher.0.to_le_bytes());
        body.extend_from_slice(&self.identity.number.to_le_bytes());
        body.extend_from_slice(&self.queues.0.to_le_bytes());
        let filler = body.len();
        body.resize((self.length as usize).max(filler), 0);
        let seed = self.identity.number << 16 | u64::from(self.identity.publisher.0);
        if let Some(filler) = body.get_mut(filler..) {
            fastrand::Rng::with_seed(seed).fill(filler);
        }
        let checksum = body.get(4..).map_or(0, crc32fast::hash);
        body.splice(..4, checksum.to_le_bytes());
        body
    }

    /// What a body says, if it is whole.
    pub(super) fn read(body: &[u8]) -> Result<Stamp, Altered> {
        let short = Altered::Short(body.len());
        let (checksum, rest) = body.split_first_chunk::<4>().ok_or(short)?;
        let (length, fields) = rest.split_first_chunk::<4>().ok_or(short)?;
        let (publisher, fields) = fields.split_first_chunk::<2>().ok_or(short)?;
        let (number, fields) = fields.split_first_chunk::<8>().ok_or(short)?;
        let (queues, _) = fields.split_first_chunk::<8>().ok_or(short)?;
        let length = u32::from_le_bytes(*length);
        if length as usize != body.len() {
            return Err(Altered::Length { said: length, found: body.len() });
        }
        if crc32fast::hash(rest) != u32::from_le_bytes(*checksum) {
            return Err(Altered::Checksum(body.len()));
        }
        let publisher = Publisher(u16::from_le_bytes(*publisher));
        let identity = Identity { publisher, number: u64::from_le_bytes(*number) };
        Ok(Stamp { identity, queues: QueueSet(u64::from_le_bytes(*queues)), length })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.publisher.0, self.number)
    }
}

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Identity, NotAnIdentity> {
        let (publisher, number) = text.split_once('.').ok_or(NotAnIdentity)?;
        let publisher = Publisher(publisher.parse().map_err(|_| NotAnIdentity)?);
        Ok(Identity { publisher, number: number.parse().map_err(|_| NotAnIdentity)? })
    }
}

impl fmt::Display for QueueNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "torture.{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(length: u32) -> Stamp {
        let identity = Identity { publisher: Publisher(3), number: 1_000_000 };
        Stamp { identity, queues: QueueSet::one(QueueNumber(1)).and(QueueNumber(63)), length }
    }

    #[test]
    fn a_whole_body_says_what_it_was_stamped_with() {
        for length in [SHORTEST, SHORTEST + 1, 1000, 3 << 20] {
            let stamp = stamp(length);
            assert_eq!(stamp.body().len(), length as usize);
            assert_eq!(Stamp::read(&stamp.body()), Ok(stamp));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_missing_byte_passes() {
        let body = stamp(60).body();
        for bit in 0..body.len() * 8 {
            let mut altered = body.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(Stamp::read(&altered).is_err(), "bit {bit}");
        }
        for length in 0..body.len() {
            assert!(Stamp::read(&body[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let identity = stamp(60).identity;
        assert_eq!(identity.to_string().parse(), Ok(identity));
        for text in ["", "3", "3.", ".3", "3.x", "70000.1"] {
            assert_eq!(text.parse::<Identity>(), Err(NotAnIdentity), "{text}");
        }
    }

    #[test]
    fn all_queues_are_as_many_as_there_are() {
        for count in [1, 4, 63, 64] {
            assert_eq!(QueueSet::all(count).iter().count(), usize::from(count));
        }
    }
}
