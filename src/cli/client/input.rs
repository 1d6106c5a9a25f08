//! Received bytes, and the frames in them.

use std::io::{self, Read};

use crate::amqp::codec::{FrameError, FrameView, first_frame};

/// Room for what one read brings; more than two of the largest frames.
const CAPACITY: usize = 384 << 10;

/// The largest whole frame that the server may send.
pub(super) const FRAME_MAX: u32 = 131_072;

/// A buffer that is read into and taken from without any allocation.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Input {
        Input { bytes: vec![0; CAPACITY].into_boxed_slice(), begin: 0, end: 0 }
    }

    /// Whether there is room for another read.
    pub(super) fn has_room(&self) -> bool {
        self.end - self.begin < self.bytes.len()
    }

    /// Reads once; how many bytes came, 0 at the end of the stream. There has to be room.
    pub(super) fn read_from(&mut self, mut stream: impl Read) -> io::Result<usize> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.bytes.len() - self.end < FRAME_MAX as usize {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let count = stream.read(self.bytes.get_mut(self.end..).unwrap_or_default())?;
        self.end += count;
        Ok(count)
    }

    /// Whether a whole frame is there.
    pub(super) fn has_frame(&self) -> Result<bool, FrameError> {
        let held = self.bytes.get(self.begin..self.end).unwrap_or_default();
        Ok(first_frame(held, FRAME_MAX)?.is_some())
    }

    /// Takes the next frame, if a whole one is there.
    pub(super) fn next(&mut self) -> Result<Option<FrameView<'_>>, FrameError> {
        let held = self.bytes.get(self.begin..self.end).unwrap_or_default();
        let Some((frame, length)) = first_frame(held, FRAME_MAX)? else { return Ok(None) };
        self.begin += length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_the_reads_are_cut() {
        let mut stream = Vec::new();
        for n in 0..20_u8 {
            let length = 40_000 + u32::from(n);
            stream.extend_from_slice(&[3, 0, n]);
            stream.extend_from_slice(&length.to_be_bytes());
            stream.resize(stream.len() + length as usize, n);
            stream.push(0xce);
        }
        let mut input = Input::new();
        let mut rest = &stream[..];
        let mut seen = 0_u8;
        while !rest.is_empty() {
            let part = rest.len().min(31_337);
            assert!(input.has_room());
            let count = input.read_from(&rest[..part]).unwrap();
            rest = &rest[count..];
            while let Some(frame) = input.next().unwrap() {
                assert_eq!(
                    (frame.channel, frame.payload.len()),
                    (u16::from(seen), 40_000 + usize::from(seen))
                );
                assert!(frame.payload.iter().all(|octet| *octet == seen));
                seen += 1;
            }
        }
        assert_eq!(seen, 20);
        assert_eq!(input.has_frame(), Ok(false));
    }

    #[test]
    fn a_full_buffer_has_a_frame_in_it() {
        let mut input = Input::new();
        let frame = [&[3, 0, 1, 0, 1, 0xff, 0xf8][..], &vec![7; 131_064], &[0xce]].concat();
        while input.has_room() {
            input.read_from(&frame[..]).unwrap();
        }
        assert!(input.next().unwrap().is_some());
    }
}
