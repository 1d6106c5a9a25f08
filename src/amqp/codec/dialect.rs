//! The versions of the protocol that clients may speak. Everything above the codec sees 0-9-1 alone.
//!
//! The methods of 0-8, as RabbitMQ's clients of that version speak it, are those of 0-9-1 but for these:
//!
//! ```text
//! connection.close, close-ok   10.60 and 10.61, not 10.50 and 10.51
//! channel.open-ok              without an argument
//! basic.consume                without a table of arguments
//! ```
//!
//! Methods that are new in 0-9-1 have numbers of their own and are understood in both.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{self, Frame, FrameKind, PROTOCOL_HEADER};
use super::method::{Method, MethodError};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// 0-9-1.
    #[default]
    V0_9_1,
    /// 0-8, which says 8-0 of itself.
    V0_8,
}

/// A table without entries.
const EMPTY_TABLE: [u8; 4] = [0; 4];

impl Dialect {
    /// The headers that a client may send first, each with its dialect. The header of 0-9 selects 0-9-1: the methods do not differ. The last one is
    /// in the text of 0-8, and what some clients of 0-8 send.
    pub const HEADERS: [([u8; 8], Dialect); 4] = [
        (PROTOCOL_HEADER, Dialect::V0_9_1),
        (*b"AMQP\x01\x01\x00\x09", Dialect::V0_9_1),
        (*b"AMQP\x01\x01\x08\x00", Dialect::V0_8),
        (*b"AMQP\x01\x01\x09\x01", Dialect::V0_8),
    ];

    /// Major and minor version, as `connection.start` says them.
    #[must_use]
    pub fn version(self) -> (u8, u8) {
        match self {
            Dialect::V0_9_1 => (0, 9),
            Dialect::V0_8 => (8, 0),
        }
    }

    /// Returns `true` if `connection.start` lists the server's capabilities. RabbitMQ lists none to
    /// clients of 0-8, and some of them cannot read a table with booleans.
    #[must_use]
    pub fn has_capabilities(self) -> bool {
        self == Dialect::V0_9_1
    }

    /// A received frame as it is in 0-9-1.
    #[must_use]
    pub fn translate(self, frame: Frame) -> Frame {
        match self {
            Dialect::V0_9_1 => frame,
            Dialect::V0_8 => Frame { payload: from_0_8(frame.kind, frame.payload), ..frame },
        }
    }

    /// Appends a method frame.
    pub fn put_method(self, out: &mut BytesMut, channel: u16, method: &Method<'_>) {
        match self {
            Dialect::V0_9_1 => frame::put_method(out, channel, method),
            Dialect::V0_8 => put_0_8(out, channel, method),
        }
    }
}

#[cold]
fn from_0_8(kind: FrameKind, payload: Bytes) -> Bytes {
    let Some((id, fields)) = payload.split_first_chunk::<4>() else { return payload };
    let id = match (kind, *id) {
        (FrameKind::Method, [0, 10, 0, 60]) => [0, 10, 0, 50],
        (FrameKind::Method, [0, 10, 0, 61]) => [0, 10, 0, 51],
        (FrameKind::Method, [0, 60, 0, 20]) => {
            let with_table = [&payload[..], &EMPTY_TABLE].concat();
            // One that has a table is no method with another behind it.
            let lacks_table: Result<_, MethodError> = Method::decode(&with_table);
            return if lacks_table.is_ok() { with_table.into() } else { payload };
        }
        _ => return payload,
    };
    [&id, fields].concat().into()
}

#[cold]
fn put_0_8(out: &mut BytesMut, channel: u16, method: &Method<'_>) {
    let start = out.len();
    frame::put_method(out, channel, method);
    // Class and method are behind the frame's header.
    let of_method = start + frame::HEADER + 3;
    match method {
        Method::ConnectionClose { .. } => out[of_method] = 60,
        Method::ConnectionCloseOk {} => out[of_method] = 61,
        Method::ChannelOpenOk { .. } => {
            out.truncate(start);
            frame::put_frame(out, FrameKind::Method, channel, |payload| {
                payload.put_slice(&[0, 20, 0, 11]);
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::RawTable;

    fn sent(dialect: Dialect, method: &Method<'_>) -> Vec<u8> {
        let mut out = BytesMut::new();
        dialect.put_method(&mut out, 1, method);
        out.to_vec()
    }

    fn received(dialect: Dialect, payload: &'static [u8]) -> Bytes {
        let payload = Bytes::from_static(payload);
        dialect.translate(Frame { kind: FrameKind::Method, channel: 1, payload }).payload
    }

    #[test]
    fn methods_that_differ_in_0_8_are_sent_in_its_form() {
        let close =
            Method::ConnectionClose { reply_code: 1, reply_text: b"", class_id: 2, method_id: 3 };
        for (method, bytes) in [
            (close, &b"\x01\0\x01\0\0\0\x0b\0\x0a\0\x3c\0\x01\0\0\x02\0\x03\xce"[..]),
            (Method::ConnectionCloseOk {}, b"\x01\0\x01\0\0\0\x04\0\x0a\0\x3d\xce"),
            (Method::ChannelOpenOk { reserved_1: b"" }, b"\x01\0\x01\0\0\0\x04\0\x14\0\x0b\xce"),
            (Method::ChannelCloseOk {}, b"\x01\0\x01\0\0\0\x04\0\x14\0\x29\xce"),
        ] {
            assert_eq!(sent(Dialect::V0_8, &method), bytes);
        }
        let open_ok = Method::ChannelOpenOk { reserved_1: b"" };
        assert_eq!(sent(Dialect::V0_9_1, &open_ok).len(), 16);
    }

    #[test]
    fn methods_that_differ_in_0_8_are_received_as_0_9_1() {
        let consume = Method::BasicConsume {
            reserved_1: 7,
            queue: b"q",
            consumer_tag: b"t",
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        };
        for payload in
            [&b"\0\x3c\0\x14\0\x07\x01q\x01t\x02"[..], b"\0\x3c\0\x14\0\x07\x01q\x01t\x02\0\0\0\0"]
        {
            assert_eq!(Method::decode(&received(Dialect::V0_8, payload)), Ok(consume));
        }
        let close_ok = received(Dialect::V0_8, b"\0\x0a\0\x3d");
        assert_eq!(Method::decode(&close_ok), Ok(Method::ConnectionCloseOk {}));
        let close = received(Dialect::V0_8, b"\0\x0a\0\x3c\0\x01\0\0\x02\0\x03");
        assert_eq!(Method::decode(&close).map(|method| method.name()), Ok("connection.close"));
        // In 0-9-1 this is another method, and that one is cut short.
        let blocked = received(Dialect::V0_9_1, b"\0\x0a\0\x3c\0");
        assert_eq!(Method::decode(&blocked).map(|method| method.name()), Ok("connection.blocked"));
        let consume = received(Dialect::V0_9_1, b"\0\x3c\0\x14\0\x07\x01q\x01t\x02");
        assert!(Method::decode(&consume).is_err());
    }
}
