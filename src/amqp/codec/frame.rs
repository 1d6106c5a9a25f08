//! Frames (AMQP 0-9-1, section 4.2.3).
//!
//! ```text
//! type      u8     1 method, 2 content header, 3 content body, 8 heartbeat
//! channel   u16
//! size      u32    of the payload
//! payload
//! end       u8     0xCE
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::method::Method;

/// What a client sends first: `AMQP`, 0, and the version 0-9-1. Also the answer to any other version.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;

/// Octets of a frame that are not payload.
pub const FRAME_OVERHEAD: usize = 8;

/// The smallest `frame_max` that may be negotiated, and what applies before negotiation.
pub const FRAME_MIN_SIZE: u32 = 4096;

/// Octets in front of a frame's payload.
pub(super) const HEADER: usize = 7;

/// What the payload of a `basic.publish` begins with: class 60, method 40.
const PUBLISH: [u8; 4] = [0, 60, 0, 40];

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method.
    Method = 1,
    /// A content header: body size and properties.
    Header = 2,
    /// A piece of a content's body.
    Body = 3,
    /// Nothing: the peer is alive.
    Heartbeat = 8,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel it belongs to; 0 is the connection itself.
    pub channel: u16,
    /// What it carries, a slice of the read buffer.
    pub payload: Bytes,
}

/// One frame, borrowed from the bytes that it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameView<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel it belongs to; 0 is the connection itself.
    pub channel: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why received bytes are not frames. All of them are 501 `FRAME_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first octet is no frame type.
    #[error("unknown frame type {0}")]
    UnknownKind(u8),
    /// The announced payload does not fit into the largest frame agreed on.
    #[error("frame of {size} bytes on channel {channel} is larger than the {limit} agreed on")]
    TooLarge {
        /// The frame's channel.
        channel: u16,
        /// The whole frame's size in bytes.
        size: u64,
        /// The largest whole frame in bytes.
        limit: u32,
    },
    /// The octet after the payload is not [`FRAME_END`].
    #[error("frame on channel {channel} ends with {octet:#04x} instead of 0xce")]
    WrongEnd {
        /// The frame's channel.
        channel: u16,
        /// What stands in place of the end.
        octet: u8,
    },
}

/// Complete frames, checked, in the bytes of one read.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    bytes: Bytes,
}

/// Takes the complete frames off the front of `buffer`; what is left is the beginning of another.
///
/// A frame that is wrong ends the search: the good ones before it are returned with the error, so that they
/// can be processed before the connection is closed. `frame_max` is the largest whole frame in bytes.
/// Costs no allocation or copy: the frames are slices of the buffer.
pub fn split_frames(buffer: &mut BytesMut, frame_max: u32) -> (Frames, Option<FrameError>) {
    let mut end = 0;
    let error = loop {
        match check_frame(&buffer[end..], frame_max) {
            Ok(Some(length)) => end += length,
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (Frames { bytes: buffer.split_to(end).freeze() }, error)
}

/// The frame that `bytes` begin with, and its whole length, once all of it is there.
///
/// For a reader that is done with a frame before it reads on: unlike [`split_frames`] it counts no references. `frame_max`
/// is the largest whole frame in bytes.
///
/// # Errors
/// [`FrameError`], when what is there cannot become a frame.
pub fn first_frame(
    bytes: &[u8],
    frame_max: u32,
) -> Result<Option<(FrameView<'_>, usize)>, FrameError> {
    let Some(length) = check_frame(bytes, frame_max)? else { return Ok(None) };
    let frame = bytes.split_first_chunk::<HEADER>().and_then(|(header, rest)| {
        let kind = FrameKind::from_octet(header[0])?;
        let payload = rest.get(..length - FRAME_OVERHEAD)?;
        Some((FrameView { kind, channel: addressing(header).0, payload }, length))
    });
    Ok(frame)
}

/// The whole length of the frame that `bytes` begin with, once all of it is there.
fn check_frame(bytes: &[u8], frame_max: u32) -> Result<Option<usize>, FrameError> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    FrameKind::from_octet(kind).ok_or(FrameError::UnknownKind(kind))?;
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let (channel, payload) = addressing(header);
    let size = u64::from(payload) + FRAME_OVERHEAD as u64;
    if size > u64::from(frame_max) {
        return Err(FrameError::TooLarge { channel, size, limit: frame_max });
    }
    let payload = payload as usize;
    match bytes.get(HEADER + payload) {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some(payload + FRAME_OVERHEAD)),
        Some(&octet) => Err(FrameError::WrongEnd { channel, octet }),
    }
}

/// Channel and payload size.
fn addressing(header: &[u8; HEADER]) -> (u16, u32) {
    let [_, c0, c1, s0, s1, s2, s3] = *header;
    (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([s0, s1, s2, s3]))
}

impl FrameKind {
    fn from_octet(octet: u8) -> Option<FrameKind> {
        match octet {
            1 => Some(FrameKind::Method),
            2 => Some(FrameKind::Header),
            3 => Some(FrameKind::Body),
            8 => Some(FrameKind::Heartbeat),
            _ => None,
        }
    }
}

impl Frames {
    /// Whether all frames have been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The class of the next frame's method, without taking the frame; `None` when it carries something else.
    #[must_use]
    pub fn next_class(&self) -> Option<u16> {
        let (header, rest) = self.bytes.split_first_chunk::<HEADER>()?;
        let (_, length) = addressing(header);
        let class = rest.get(..length as usize)?.first_chunk::<2>()?;
        (header[0] == FrameKind::Method as u8).then_some(u16::from_be_bytes(*class))
    }
}

/// A `basic.publish` with its content, whose frames follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholePublish<'a> {
    /// The channel of all its frames.
    pub channel: u16,
    /// The method frame's payload.
    pub method: &'a [u8],
    /// The content header frame's payload.
    pub header: &'a [u8],
    /// The payload of the one body frame; empty if there is none.
    pub body: &'a [u8],
    /// Bytes of the frames.
    length: usize,
}

impl Frames {
    /// Whether the next frames are a publish with all of its content, as most are: what looks like one by the frames'
    /// kinds and sizes. What their payloads say besides has not been looked at.
    #[must_use]
    pub fn whole_publish(&self) -> Option<WholePublish<'_>> {
        let (channel, method, rest) = Self::peek(&self.bytes, FrameKind::Method)?;
        if method.first_chunk() != Some(&PUBLISH) {
            return None;
        }
        let (of_header, header, rest) = Self::peek(rest, FrameKind::Header)?;
        let size = u64::from_be_bytes(*header.get(4..)?.first_chunk()?);
        let (of_body, body, rest) = match size {
            0 => (channel, &[][..], rest),
            _ => Self::peek(rest, FrameKind::Body)?,
        };
        let whole = body.len() as u64 == size && of_header == channel && of_body == channel;
        let length = self.bytes.len() - rest.len();
        whole.then_some(WholePublish { channel, method, header, body, length })
    }

    /// The frame in front of `bytes`, if it is of this kind: its channel, its payload, and what follows.
    fn peek(bytes: &[u8], kind: FrameKind) -> Option<(u16, &[u8], &[u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let (channel, length) = addressing(header);
        let (payload, rest) = rest.split_at_checked(length as usize)?;
        (header[0] == kind as u8).then_some((channel, payload, rest.get(1..)?))
    }

    /// Bytes of the frames.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the frames of a [whole publish](Self::whole_publish), of so many bytes.
    pub fn advance(&mut self, length: usize) {
        self.bytes.advance(length);
    }
}

impl WholePublish<'_> {
    /// Bytes of its frames.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Iterator for Frames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let header = self.bytes.first_chunk::<HEADER>()?;
        let (channel, length) = addressing(header);
        let kind = FrameKind::from_octet(header[0])?;
        self.bytes.advance(HEADER);
        let payload = self.bytes.split_to(length as usize);
        self.bytes.advance(1);
        Some(Frame { kind, channel, payload })
    }
}

/// Appends a method frame.
pub fn put_method(out: &mut BytesMut, channel: u16, method: &Method<'_>) {
    put_frame(out, FrameKind::Method, channel, |payload| method.encode(payload));
}

/// Appends a heartbeat frame.
pub fn put_heartbeat(out: &mut BytesMut) {
    put_frame(out, FrameKind::Heartbeat, 0, |_| {});
}

/// Appends a frame with the payload that `write` appends.
pub(super) fn put_frame(
    out: &mut BytesMut,
    kind: FrameKind,
    channel: u16,
    write: impl FnOnce(&mut BytesMut),
) {
    put_frame_header(out, kind, channel, 0);
    let start = out.len();
    write(out);
    let length = u32::try_from(out.len() - start).expect("frames that we build are small");
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
    out.put_u8(FRAME_END);
}

pub(super) fn put_frame_header(out: &mut BytesMut, kind: FrameKind, channel: u16, length: u32) {
    out.put_u8(kind as u8);
    out.put_u16(channel);
    out.put_u32(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8], frame_max: u32) -> (Vec<Frame>, usize, Option<FrameError>) {
        let mut buffer = BytesMut::from(bytes);
        let (frames, error) = split_frames(&mut buffer, frame_max);
        (frames.collect(), buffer.len(), error)
    }

    #[test]
    fn frames_have_their_published_bytes() {
        let mut out = BytesMut::new();
        put_heartbeat(&mut out);
        put_method(&mut out, 3, &Method::ChannelCloseOk {});
        assert_eq!(&out[..], b"\x08\0\0\0\0\0\0\xce\x01\0\x03\0\0\0\x04\0\x14\0\x29\xce");
    }

    #[test]
    fn frames_are_found_wherever_the_reads_were_cut() {
        let bytes = b"\x08\0\0\0\0\0\0\xce\x03\0\x07\0\0\0\x02hi\xce\x01\0\x03\0\0\0\x01x\xce";
        for cut in 0..=bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let (first, error) = split_frames(&mut buffer, 4096);
            assert_eq!(error, None);
            buffer.extend_from_slice(&bytes[cut..]);
            let (second, error) = split_frames(&mut buffer, 4096);
            assert_eq!(error, None);
            let frames: Vec<Frame> = first.chain(second).collect();
            assert_eq!(frames.len(), 3);
            assert_eq!(frames[1].payload, &b"hi"[..]);
            assert_eq!((frames[2].kind, frames[2].channel), (FrameKind::Method, 3));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_borrowed_frame_is_there_when_its_last_octet_is() {
        let bytes = b"\x03\0\x07\0\0\0\x02hi\xce\x08\0\0";
        for end in 0..10 {
            assert_eq!(first_frame(&bytes[..end], 4096), Ok(None));
        }
        let frame = FrameView { kind: FrameKind::Body, channel: 7, payload: b"hi" };
        for end in 10..=bytes.len() {
            assert_eq!(first_frame(&bytes[..end], 4096), Ok(Some((frame, 10))));
        }
        assert_eq!(
            first_frame(b"\x03\0\x07\0\0\0\x02hi!", 4096),
            Err(FrameError::WrongEnd { channel: 7, octet: b'!' })
        );
    }

    #[test]
    fn a_frame_may_fill_the_limit_and_not_pass_it() {
        let frame = |payload: usize| {
            let mut out = BytesMut::new();
            put_frame(&mut out, FrameKind::Body, 1, |body| body.put_bytes(7, payload));
            out
        };
        let (frames, rest, error) = split(&frame(4088), 4096);
        assert_eq!((frames.len(), rest, error), (1, 0, None));
        let (frames, _, error) = split(&frame(4089), 4096);
        assert!(frames.is_empty());
        assert_eq!(error, Some(FrameError::TooLarge { channel: 1, size: 4097, limit: 4096 }));
    }

    #[test]
    fn a_giant_announced_size_is_refused_from_the_header_alone() {
        let (_, _, error) = split(b"\x03\0\x01\xff\xff\xff\xff", 131_072);
        assert_eq!(
            error,
            Some(FrameError::TooLarge { channel: 1, size: 0x1_0000_0007, limit: 131_072 })
        );
    }

    #[test]
    fn frames_before_a_wrong_one_are_returned_with_the_error() {
        let bytes = b"\x08\0\0\0\0\0\0\xce\x01\0\x03\0\0\0\x01x\xcd";
        let (frames, _, error) = split(bytes, 4096);
        assert_eq!(frames.len(), 1);
        assert_eq!(error, Some(FrameError::WrongEnd { channel: 3, octet: 0xcd }));
        let (_, _, error) = split(b"\x05", 4096);
        assert_eq!(error, Some(FrameError::UnknownKind(5)));
    }

    /// A publish, its content header, and its body in frames; each with its channel.
    fn publish(announced: u64, frames: &[(FrameKind, u16, &[u8])]) -> Frames {
        let mut out = BytesMut::new();
        put_frame(&mut out, FrameKind::Method, 1, |payload| payload.put_slice(b"\0\x3c\0\x28.."));
        put_frame(&mut out, FrameKind::Header, 1, |payload| {
            payload.put_u32(60 << 16);
            payload.put_u64(announced);
            payload.put_u16(0);
        });
        for (kind, channel, bytes) in frames {
            put_frame(&mut out, *kind, *channel, |payload| payload.put_slice(bytes));
        }
        split_frames(&mut out, 4096).0
    }

    #[test]
    fn a_publish_is_whole_when_its_frames_follow_each_other() {
        for (body, announced) in [(&b"bale"[..], 4), (b"", 0)] {
            let parts = [(FrameKind::Body, 1, body), (FrameKind::Heartbeat, 0, b"")];
            let skipped = usize::from(body.is_empty());
            let mut frames = publish(announced, &parts[skipped..]);
            let whole = frames.whole_publish().unwrap();
            assert_eq!(
                (whole.channel, whole.method, whole.body),
                (1, &b"\0\x3c\0\x28.."[..], body)
            );
            assert_eq!(whole.header.len(), 14);
            let length = whole.length();
            frames.advance(length);
            assert_eq!(frames.next().map(|frame| frame.kind), Some(FrameKind::Heartbeat));
        }
    }

    #[test]
    fn a_publish_is_not_whole_when_anything_is_missing_or_comes_between() {
        use FrameKind::{Body, Header, Heartbeat, Method};
        for (announced, frames) in [
            (4, &[][..]),
            (4, &[(Body, 1, &b"bal"[..])]),
            (4, &[(Body, 1, b"ba"), (Body, 1, b"le")]),
            (4, &[(Body, 2, b"bale")]),
            (4, &[(Heartbeat, 0, b""), (Body, 1, b"bale")]),
            (4, &[(Method, 1, b"bale")]),
            (4, &[(Header, 1, b"bale")]),
            (u64::MAX, &[(Body, 1, b"bale")]),
        ] {
            let frames = publish(announced, frames);
            assert_eq!(frames.whole_publish(), None, "{frames:?}");
        }
        let mut frames = publish(0, &[]);
        frames.next();
        assert_eq!(frames.whole_publish(), None);
    }

    quickcheck::quickcheck! {
        fn any_bytes_are_frames_or_refused_without_a_panic(bytes: Vec<u8>, good: u8) -> bool {
            let mut buffer = BytesMut::new();
            for _ in 0..good % 4 {
                put_heartbeat(&mut buffer);
            }
            buffer.extend_from_slice(&bytes);
            let before = buffer.len();
            let (frames, _) = split_frames(&mut buffer, 4096);
            let taken: usize = frames.map(|frame| frame.payload.len() + FRAME_OVERHEAD).sum();
            taken + buffer.len() == before
        }
    }
}
