//! What a message says of itself, so that a benchmark knows what it has measured.
//!
//! | bytes | field, little-endian |
//! |---|---|
//! | 0..4 | CRC-32 of the filler, then of bytes 4..32 |
//! | 4..8 | the run, so that nobody else's messages are taken for ours |
//! | 8..12 | publisher |
//! | 12..16 | route |
//! | 16..24 | number, counted from zero for each publisher and route |
//! | 24..32 | when the message was due, in nanoseconds since the run began |
//! | 32.. | filler |
//!
//! The filler comes first in the checksum because it repeats: its part is computed once, and a message costs its publisher
//! no more than a checksum of 28 bytes. Bodies shorter than a stamp have none, and are only counted.

use std::time::Duration;

use crc32fast::Hasher;

/// The length of a stamp: shorter bodies have none.
pub(super) const LENGTH: usize = 32;

/// There are so many different fillers, so that messages differ in more than their stamps.
const VARIANTS: u64 = 16;

/// A run of the benchmark, drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunId(pub(super) u32);

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Publisher(pub(super) u32);

/// A way that messages take to their queues; counted from zero. See `topology`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Route(pub(super) u32);

/// Everything that a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) run: RunId,
    pub(super) publisher: Publisher,
    pub(super) route: Route,
    pub(super) number: u64,
    /// Since the run began.
    pub(super) due: Duration,
}

/// What fills the bodies of one size up.
#[derive(Debug)]
pub(super) struct Filler {
    bytes: Vec<u8>,
    length: usize,
    /// The checksum so far, of each variant.
    checksums: Vec<Hasher>,
}

/// A body as it arrives, frame by frame.
#[derive(Debug)]
pub(super) struct BodyReader {
    stamp: [u8; LENGTH],
    /// So many bytes of the stamp are there.
    filled: usize,
    filler: Hasher,
}

impl Stamp {
    /// Its bytes, in front of this filler.
    pub(super) fn bytes(&self, filler: &Filler) -> [u8; LENGTH] {
        let mut fields = [0; LENGTH - 4];
        let (run, rest) = fields.split_at_mut(4);
        let (publisher, rest) = rest.split_at_mut(4);
        let (route, rest) = rest.split_at_mut(4);
        let (number, due) = rest.split_at_mut(8);
        run.copy_from_slice(&self.run.0.to_le_bytes());
        publisher.copy_from_slice(&self.publisher.0.to_le_bytes());
        route.copy_from_slice(&self.route.0.to_le_bytes());
        number.copy_from_slice(&self.number.to_le_bytes());
        // Five centuries fit.
        due.copy_from_slice(&(self.due.as_nanos() as u64).to_le_bytes());
        let mut checksum = filler.checksum(self.number);
        checksum.update(&fields);
        let mut bytes = [0; LENGTH];
        let (front, rest) = bytes.split_at_mut(4);
        front.copy_from_slice(&checksum.finalize().to_le_bytes());
        rest.copy_from_slice(&fields);
        bytes
    }
}

impl Filler {
    /// For bodies of so many bytes.
    pub(super) fn new(seed: u64, body: usize) -> Filler {
        let length = body.saturating_sub(LENGTH);
        let mut bytes = vec![0; body.max(LENGTH) + VARIANTS as usize];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        let mut filler = Filler { bytes, length, checksums: Vec::new() };
        for variant in 0..VARIANTS {
            let mut checksum = Hasher::new();
            checksum.update(filler.bytes(variant));
            filler.checksums.push(checksum);
        }
        filler
    }

    /// What is behind the stamp of a message with this number.
    pub(super) fn bytes(&self, number: u64) -> &[u8] {
        let begin = (number % VARIANTS) as usize;
        self.bytes.get(begin..begin + self.length).unwrap_or_default()
    }

    /// The whole body of a message that is too short for a stamp.
    pub(super) fn short(&self, body: usize) -> &[u8] {
        self.bytes.get(..body).unwrap_or_default()
    }

    fn checksum(&self, number: u64) -> Hasher {
        let variant = self.checksums.get((number % VARIANTS) as usize);
        variant.expect("there is a checksum for each variant").clone()
    }
}

impl BodyReader {
    pub(super) fn new() -> BodyReader {
        BodyReader { stamp: [0; LENGTH], filled: 0, filler: Hasher::new() }
    }

    /// Takes what comes next of the body.
    pub(super) fn take(&mut self, part: &[u8]) {
        let missing = LENGTH - self.filled;
        let (stamp, filler) = part.split_at(missing.min(part.len()));
        if let Some(room) = self.stamp.get_mut(self.filled..self.filled + stamp.len()) {
            room.copy_from_slice(stamp);
        }
        self.filled += stamp.len();
        self.filler.update(filler);
    }

    /// What the body says; `None`: it is not as somebody has stamped it.
    pub(super) fn stamp(mut self) -> Option<Stamp> {
        if self.filled < LENGTH {
            return None;
        }
        let (checksum, fields) = self.stamp.split_first_chunk::<4>()?;
        self.filler.update(fields);
        if self.filler.finalize() != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (run, rest) = fields.split_first_chunk::<4>()?;
        let (publisher, rest) = rest.split_first_chunk::<4>()?;
        let (route, rest) = rest.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let due = rest.first_chunk::<8>()?;
        Some(Stamp {
            run: RunId(u32::from_le_bytes(*run)),
            publisher: Publisher(u32::from_le_bytes(*publisher)),
            route: Route(u32::from_le_bytes(*route)),
            number: u64::from_le_bytes(*number),
            due: Duration::from_nanos(u64::from_le_bytes(*due)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64) -> Stamp {
        Stamp {
            run: RunId(0xfeed_f00d),
            publisher: Publisher(3),
            route: Route(70_000),
            number,
            due: Duration::from_nanos(123_456_789_012),
        }
    }

    fn body(number: u64, length: usize) -> Vec<u8> {
        let filler = Filler::new(7, length);
        [&stamp(number).bytes(&filler)[..], filler.bytes(number)].concat()
    }

    fn read(body: &[u8], part: usize) -> Option<Stamp> {
        let mut reader = BodyReader::new();
        body.chunks(part).for_each(|part| reader.take(part));
        reader.stamp()
    }

    #[test]
    fn a_whole_body_says_what_it_was_stamped_with_however_it_is_cut() {
        for length in [LENGTH, LENGTH + 1, 100, 5000] {
            for number in [0, 1, 15, 16, u64::MAX] {
                let body = body(number, length);
                assert_eq!(body.len(), length);
                for part in [1, 5, 31, 32, 33, length] {
                    assert_eq!(read(&body, part), Some(stamp(number)), "{length} by {part}");
                }
            }
        }
    }

    #[test]
    fn no_flipped_bit_and_no_missing_byte_passes() {
        let body = body(3, 60);
        for bit in 0..body.len() * 8 {
            let mut altered = body.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&altered, 60), None, "bit {bit}");
        }
        for length in 0..body.len() {
            assert_eq!(read(&body[..length], 60), None, "{length} bytes");
        }
    }

    #[test]
    fn neighbours_have_different_fillers() {
        let filler = Filler::new(7, 1024);
        assert_ne!(filler.bytes(1), filler.bytes(2));
        assert_eq!(filler.bytes(1), filler.bytes(17));
        let of_another = [&stamp(1).bytes(&filler)[..], filler.bytes(2)].concat();
        assert_eq!(read(&of_another, 2000), None);
        assert_eq!(filler.short(20).len(), 20);
    }
}
