//! What waits to be written to one peer: frames in order, large bodies by reference.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::codec::{
    self, Dialect, FRAME_END, FRAME_OVERHEAD, Method, PROTOCOL_HEADER, put_body_frame_header,
    put_content_header,
};
use crate::message::RawProperties;
use crate::storage::Piece;

/// Body pieces from this size on are queued as they are; smaller ones are copied behind their
/// frame header, because a copy of a few KiB is cheaper than one more piece in the vectored write.
const BY_REFERENCE: usize = 8 * 1024;

/// What a delivery takes besides its message, in bytes, roughly: the frames around it, and the consumer's tag.
const AROUND_MESSAGE: usize = 128;

/// Frames waiting to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Finished pieces, before `tail`.
    pieces: VecDeque<Bytes>,
    /// The piece that frames are being appended to.
    tail: BytesMut,
    /// Bytes in `pieces`.
    queued: usize,
    /// The dialect of the peer.
    dialect: Dialect,
}

impl Output {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.queued + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dialect of the peer.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Methods are put out in this dialect from now on.
    pub(super) fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// The answer to a peer that does not speak AMQP.
    pub(super) fn protocol_header(&mut self) {
        self.tail.extend_from_slice(&PROTOCOL_HEADER);
    }

    pub(super) fn method(&mut self, channel: u16, method: &Method<'_>) {
        self.dialect.put_method(&mut self.tail, channel, method);
    }

    /// Makes room for deliveries of messages of these sizes, as far as they are copied. Otherwise the frames would move whenever
    /// their memory has to double, which costs as much as copying each message once more.
    pub(super) fn reserve(&mut self, messages: impl Iterator<Item = usize>) {
        let copied = messages.filter(|size| *size < BY_REFERENCE);
        self.tail.reserve(copied.map(|size| size + AROUND_MESSAGE).sum());
    }

    /// Appends frames that have been encoded elsewhere.
    pub(super) fn encoded(&mut self, frames: &[u8]) {
        self.tail.extend_from_slice(frames);
    }

    /// Appends everything that waits in another output.
    pub(super) fn append(&mut self, mut other: Output) {
        if other.pieces.is_empty() {
            return self.encoded(&other.tail);
        }
        self.seal();
        other.seal();
        self.queued += other.queued;
        self.pieces.append(&mut other.pieces);
    }

    pub(super) fn heartbeat(&mut self) {
        codec::put_heartbeat(&mut self.tail);
    }

    /// Appends a content header and the body's frames, none larger than `frame_max` in all.
    /// `pieces` are the body's, `size` their length together.
    pub(super) fn content<'p>(
        &mut self,
        channel: u16,
        frame_max: u32,
        properties: RawProperties<'_>,
        size: u64,
        pieces: impl IntoIterator<Item = Piece<'p>>,
    ) {
        put_content_header(&mut self.tail, channel, size, properties);
        let most = frame_max as usize - FRAME_OVERHEAD;
        for piece in pieces {
            let part = piece.bytes();
            let mut start = 0;
            while start < part.len() {
                let end = part.len().min(start + most);
                let length = u32::try_from(end - start).expect("at most frame_max");
                put_body_frame_header(&mut self.tail, channel, length);
                if end - start < BY_REFERENCE {
                    self.tail.extend_from_slice(&part[start..end]);
                } else {
                    self.push(piece.to_bytes().slice(start..end));
                }
                self.tail.extend_from_slice(&[FRAME_END]);
                start = end;
            }
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.seal();
        self.queued += piece.len();
        self.pieces.push_back(piece);
    }

    /// Moves what has been appended behind the finished pieces.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.queued += self.tail.len();
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// The next bytes to write, in as many slices as `slices` holds. Returns how many it filled.
    pub(super) fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.seal();
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Forgets the first `count` bytes: they have been written.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.queued -= count;
        while let Some(first) = self.pieces.front_mut() {
            if first.len() > count {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }

    /// Whether it keeps memory for nothing but what is to come.
    pub(super) fn holds_spare_memory(&self) -> bool {
        self.is_empty() && (self.tail.capacity() > 0 || self.pieces.capacity() > 0)
    }

    /// Gives that memory up: an idle connection needs none.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Output { dialect: self.dialect, ..Output::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::codec::{FrameKind, split_frames};
    use crate::storage::Message;

    /// Takes everything out, a little at a time.
    fn drain(output: &mut Output, step: usize) -> BytesMut {
        let mut bytes = BytesMut::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = output.slices(&mut slices);
            let next: Vec<u8> = slices[..filled]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .take(step)
                .collect();
            bytes.extend_from_slice(&next);
            output.advance(next.len());
        }
        bytes
    }

    #[test]
    fn frames_leave_in_order_whole_however_they_are_written() {
        for step in [1, 7, 4096, usize::MAX] {
            let parts =
                vec![Bytes::from(vec![1; 20_000]), Bytes::new(), Bytes::from_static(b"end")];
            let message = Message::from_parts(Bytes::new(), parts);
            let mut output = Output::default();
            output.heartbeat();
            output.content(9, 16_384, RawProperties::NONE, 20_003, message.pieces());
            output.method(1, &Method::ChannelCloseOk {});
            let expected = output.len();
            let mut bytes = drain(&mut output, step);
            assert_eq!(bytes.len(), expected);
            let (frames, error) = split_frames(&mut bytes, 16_384);
            assert_eq!((error, bytes.len()), (None, 0));
            let frames: Vec<(FrameKind, u16, usize)> =
                frames.map(|frame| (frame.kind, frame.channel, frame.payload.len())).collect();
            assert_eq!(
                frames,
                [
                    (FrameKind::Heartbeat, 0, 0),
                    (FrameKind::Header, 9, 14),
                    (FrameKind::Body, 9, 16_376),
                    (FrameKind::Body, 9, 3624),
                    (FrameKind::Body, 9, 3),
                    (FrameKind::Method, 1, 4),
                ]
            );
        }
    }

    #[test]
    fn a_large_body_is_queued_without_a_copy() {
        let body = Bytes::from(vec![1; BY_REFERENCE]);
        let message = Message::joined(body.clone(), 0);
        let mut output = Output::default();
        output.content(1, 131_072, RawProperties::NONE, body.len() as u64, message.pieces());
        assert!(output.pieces.iter().any(|piece| piece.as_ptr() == body.as_ptr()));
    }

    #[test]
    fn an_empty_body_is_a_header_alone() {
        let mut output = Output::default();
        output.content(1, 4096, RawProperties::NONE, 0, Message::new("", "").pieces());
        let (frames, _) = split_frames(&mut drain(&mut output, usize::MAX), 4096);
        assert_eq!(frames.count(), 1);
    }
}
