//! The target `frames`: bytes as what a peer sends, cut into frames, methods and content headers.
//!
//! It does not matter how the bytes arrive; no announced length is believed; what is accepted says the same when it is
//! written anew.

use bytes::BytesMut;

use crate::amqp::codec::{
    ContentHeader, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameError, FrameKind, Method,
    put_content_header, put_method, split_frames,
};
use crate::message::{Envelope, RawProperties};

/// Runs the target. The first byte says in how large pieces the others arrive.
pub(crate) fn frames(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let whole = split(stream, stream.len().max(1));
    let pieces = split(stream, usize::from(piece).max(1));
    assert_eq!(whole, pieces);
    for frame in whole.0 {
        match frame.kind {
            FrameKind::Method => method(&frame),
            FrameKind::Header => header(&frame),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
    }
}

fn split(stream: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for arrived in stream.chunks(piece) {
        buffer.extend_from_slice(arrived);
        let (mut frames, error) = split_frames(&mut buffer, FRAME_MIN_SIZE);
        while !frames.is_empty() {
            let class = frames.next_class();
            let Some(frame) = frames.next() else { unreachable!("a frame that is there is given") };
            assert!(frame.payload.len() + FRAME_OVERHEAD <= FRAME_MIN_SIZE as usize);
            if let (FrameKind::Method, Ok(method)) = (frame.kind, Method::decode(&frame.payload)) {
                assert_eq!(class, Some(method.id().class));
            }
            all.push(frame);
        }
        if error.is_some() {
            return (all, error);
        }
    }
    (all, None)
}

fn method(frame: &Frame) {
    let Ok(method) = Method::decode(&frame.payload) else { return };
    let mut again = BytesMut::new();
    put_method(&mut again, frame.channel, &method);
    // Bits that mean nothing are not kept; everything else is.
    assert_eq!(again.len(), frame.payload.len() + FRAME_OVERHEAD);
    assert_eq!(Method::decode(&again[7..again.len() - 1]), Ok(method));
}

fn header(frame: &Frame) {
    let Ok(header) = ContentHeader::decode(&frame.payload) else { return };
    let mut again = BytesMut::new();
    put_content_header(&mut again, frame.channel, header.body_size, header.properties);
    assert_eq!(again.len(), frame.payload.len() + FRAME_OVERHEAD);
    assert_eq!(again[15..again.len() - 1], frame.payload[8..]);

    let owned = header.properties.to_properties();
    let bytes = owned.to_bytes();
    assert_eq!(bytes.len(), header.properties.as_bytes().len());
    assert_eq!(RawProperties::parse(&bytes).map(|raw| raw.to_properties()), Ok(owned));

    let envelope = Envelope {
        exchange: b"exchange",
        routing_key: b"key",
        properties: header.properties,
        published_at: None,
    };
    let stored = envelope.to_bytes();
    assert_eq!(Envelope::parse(&stored), Ok(envelope));
}

/// Inputs to begin with: each method with fields of its own, and contents.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for layout in Method::LAYOUTS {
        let mut payload = Vec::new();
        payload.extend_from_slice(&layout.id.class.to_be_bytes());
        payload.extend_from_slice(&layout.id.method.to_be_bytes());
        let mut bits = false;
        for field in layout.fields {
            use crate::amqp::codec::FieldKind;
            let bytes: &[u8] = match field {
                FieldKind::bit if bits => b"",
                FieldKind::bit | FieldKind::octet => b"\x01",
                FieldKind::short => b"\0\x02",
                FieldKind::long => b"\0\0\x10\0",
                FieldKind::longlong => b"\0\0\0\0\0\0\0\x01",
                FieldKind::shortstr => b"\x02q1",
                FieldKind::longstr => b"\0\0\0\x04text",
                FieldKind::table => b"\0\0\0\x07\x01kS\0\0\0\0",
            };
            bits = *field == FieldKind::bit;
            payload.extend_from_slice(bytes);
        }
        seeds.push((layout.name.replace('.', "-"), frame(1, &payload)));
    }
    for (name, properties) in [
        ("content-plain", &b"\x10\0\x02"[..]),
        ("content-all", b"\xff\xfc\x01a\x01b\0\0\0\0\x01\x02\x01c\x01d\x01e\x01f\0\0\0\0\0\0\0\x07\x01g\x01h\x01i\x01j"),
        ("content-headers", b"\x20\0\0\0\0\x07\x01kS\0\0\0\0"),
    ] {
        let header = [&b"\0\x3c\0\0\0\0\0\0\0\0\0\x04"[..], properties].concat();
        seeds.push((name.to_owned(), [frame(2, &header), frame(3, b"body")[1..].to_vec()].concat()));
    }
    seeds.push(("heartbeat".to_owned(), frame(8, b"")));
    seeds
}

/// An input of one frame, which arrives in pieces of five bytes.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&[5, kind, 0, 1], &length[..], payload, b"\xce"].concat()
}
