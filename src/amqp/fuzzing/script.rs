//! What a client does, as a fuzzer's input says: the bytes that it sends, and whether it reads.
//!
//! A step is a choice (one byte) and its arguments. Names come from small lists, so that what is declared is used.
//! Fields that a client could send wrong can be sent wrong: a step may also be any frame, or any bytes at all.

use bytes::{BufMut, BytesMut};

use crate::amqp::codec::{
    FRAME_END, Method, PROTOCOL_HEADER, put_body_frame_header, put_content_header, put_heartbeat,
    put_method,
};
use crate::message::{RawProperties, RawTable};
use crate::storage::fuzzing::Input;

const QUEUES: [&[u8]; 6] = [b"q1", b"q2", b"q3", b"", b"amq.q", b"other"];
const EXCHANGES: [&[u8]; 9] = [
    b"",
    b"amq.direct",
    b"amq.fanout",
    b"amq.topic",
    b"amq.headers",
    b"e1",
    b"e2",
    b"amq.default",
    b"none",
];
const KINDS: [&[u8]; 5] = [b"direct", b"fanout", b"topic", b"headers", b"x-other"];
const KEYS: [&[u8]; 9] = [b"q1", b"q2", b"q3", b"a.b", b"a.*", b"#", b"*.b.#", b"", b"a..b"];
const TAGS: [&[u8]; 4] = [b"", b"c1", b"c2", b"amq.ctag"];
const TABLES: [&[u8]; 15] = [
    b"",
    b"\x07x-matchS\0\0\0\x03any\x01kI\0\0\0\x01",
    b"\x07x-matchS\0\0\0\x03all\x01kV",
    b"\x0ax-priorityI\0\0\0\x05",
    b"\x09x-expiresI\0\0\x03\xe8",
    b"\x0dx-message-ttlI\0\0\0\0",
    b"\x0cx-queue-typeS\0\0\0\x07classic",
    b"\x0cx-max-lengthI\0\0\0\x02",
    b"\x12alternate-exchangeS\0\0\0\x02e1",
    b"\x16x-dead-letter-exchangeS\0\0\0\0\x19x-dead-letter-routing-keyS\0\0\0\x02q1",
    b"\x16x-dead-letter-exchangeS\0\0\0\x02e1\x0dx-message-ttlI\0\0\0\0",
    b"\x16x-dead-letter-exchangeS\0\0\0\0\x0cx-max-lengthI\0\0\0\x01\
      \x0ax-overflowS\0\0\0\x12reject-publish-dlx",
    b"\x12x-max-length-bytesI\0\0\0\x40\x0ex-max-priorityI\0\0\0\x03",
    b"\x18x-single-active-consumert\x01",
    b"\x0cx-queue-typeS\0\0\0\x06quorum\x10x-delivery-limitI\0\0\0\x01",
];
const PROPERTIES: [&[u8]; 7] = [
    b"\0\0",
    b"\x10\0\x02",
    b"\x10\0\x01",
    b"\x30\0\0\0\0\x07\x01kI\0\0\0\x01\x02",
    b"\x01\0\x03100",
    b"\0\x10\x05guest",
    b"\x20\0\0\0\0\x08\x02CCA\0\0\0\0",
];

/// How many kinds of steps there are.
pub(super) const STEPS: u8 = 32;

/// What a step comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Bytes were added to what the client sends.
    Sent,
    /// What was added is sent now, and looked at by the server.
    Flush,
    /// The client reads from now on, or does not.
    Read(bool),
}

/// A valid negotiation, from the header to `connection.open`.
pub(in crate::amqp) fn handshake(out: &mut BytesMut, frame_max: u32) {
    out.extend_from_slice(&PROTOCOL_HEADER);
    let capabilities: &[u8] =
        b"\x0ccapabilitiesF\0\0\0\x2e\x16consumer_cancel_notifyt\x01\x12connection.blockedt\x01";
    put_method(
        out,
        0,
        &Method::ConnectionStartOk {
            client_properties: RawTable::parse(capabilities).unwrap_or(RawTable::EMPTY),
            mechanism: b"PLAIN",
            response: b"\0guest\0guest",
            locale: b"en_US",
        },
    );
    put_method(out, 0, &Method::ConnectionTuneOk { channel_max: 8, frame_max, heartbeat: 0 });
    let open = Method::ConnectionOpen { virtual_host: b"/", reserved_1: b"", reserved_2: false };
    put_method(out, 0, &open);
}

/// Adds what the next step sends to `out`.
pub(super) fn step(input: &mut Input<'_>, out: &mut BytesMut) -> Effect {
    let kind = input.u8() % STEPS;
    match kind {
        0 => return Effect::Flush,
        1 => return Effect::Read(input.u8() & 1 == 1),
        2 => {
            let length = usize::from(input.u8());
            out.extend_from_slice(input.bytes(length));
        }
        3 => any_frame(input, out),
        4 => put_heartbeat(out),
        5 | 6 => {
            let method = open_or_close(kind, input);
            put_method(out, channel(input), &method);
        }
        7..=12 => content(input, out),
        _ => {
            let number = channel(input);
            method(kind, number, input, out);
        }
    }
    Effect::Sent
}

fn channel(input: &mut Input<'_>) -> u16 {
    // Mostly one of two.
    match input.u8() {
        9 => 9,
        0 => 0,
        other => u16::from(other % 2) + 1,
    }
}

fn one<'t>(items: &[&'t [u8]], input: &mut Input<'_>) -> &'t [u8] {
    input.pick(items).copied().unwrap_or_default()
}

fn table(input: &mut Input<'_>) -> RawTable<'static> {
    RawTable::parse(one(&TABLES, input)).unwrap_or(RawTable::EMPTY)
}

fn any_frame(input: &mut Input<'_>, out: &mut BytesMut) {
    let (kind, channel, length) = (input.u8(), channel(input), usize::from(input.u8()));
    let payload = input.bytes(length);
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(payload.len() as u32);
    out.extend_from_slice(payload);
    out.put_u8(FRAME_END);
}

fn open_or_close(kind: u8, input: &mut Input<'_>) -> Method<'static> {
    match (kind, input.u8() % 4) {
        (5, _) => Method::ChannelOpen { reserved_1: b"" },
        (_, 0) => {
            Method::ConnectionClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 }
        }
        (_, 1) => Method::ChannelCloseOk {},
        _ => Method::ChannelClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 },
    }
}

/// `basic.publish` with its content, of which a part may be missing.
fn content(input: &mut Input<'_>, out: &mut BytesMut) {
    let channel = channel(input);
    let flags = input.u8();
    let publish = Method::BasicPublish {
        reserved_1: 0,
        exchange: one(&EXCHANGES, input),
        routing_key: one(&KEYS, input),
        mandatory: flags & 1 == 1,
        immediate: flags == 0xff,
    };
    put_method(out, channel, &publish);
    let properties = RawProperties::parse(one(&PROPERTIES, input)).unwrap_or(RawProperties::NONE);
    let length = usize::from(input.u8()) << (flags >> 1 & 7);
    let announced = if flags & 0xf0 == 0xf0 { u64::from(input.u32()) } else { length as u64 };
    put_content_header(out, channel, announced, properties);
    let body: Vec<u8> = (0..length).map(|at| at as u8).collect();
    for piece in body.chunks(4000) {
        put_body_frame_header(out, channel, piece.len() as u32);
        out.extend_from_slice(piece);
        out.put_u8(FRAME_END);
    }
}

/// Any other method of a channel.
fn method(kind: u8, number: u16, input: &mut Input<'_>, out: &mut BytesMut) {
    let flags = input.u8();
    let bit = |place: u8| flags >> place & 1 == 1;
    let queue = one(&QUEUES, input);
    let delivery_tag = u64::from(flags >> 3);
    let method = match kind {
        13 | 14 => Method::QueueDeclare {
            reserved_1: 0,
            queue,
            passive: bit(0),
            durable: bit(1),
            exclusive: bit(2),
            auto_delete: bit(3),
            nowait: bit(4),
            arguments: table(input),
        },
        15 => Method::ExchangeDeclare {
            reserved_1: 0,
            exchange: one(&EXCHANGES, input),
            kind: one(&KINDS, input),
            passive: bit(0),
            durable: bit(1),
            auto_delete: bit(2),
            internal: bit(3),
            nowait: bit(4),
            arguments: table(input),
        },
        16 | 17 => Method::QueueBind {
            reserved_1: 0,
            queue,
            exchange: one(&EXCHANGES, input),
            routing_key: one(&KEYS, input),
            nowait: bit(0),
            arguments: table(input),
        },
        18 => Method::QueueUnbind {
            reserved_1: 0,
            queue,
            exchange: one(&EXCHANGES, input),
            routing_key: one(&KEYS, input),
            arguments: table(input),
        },
        19 => Method::ExchangeBind {
            reserved_1: 0,
            destination: one(&EXCHANGES, input),
            source: one(&EXCHANGES, input),
            routing_key: one(&KEYS, input),
            nowait: bit(0),
            arguments: table(input),
        },
        20 => Method::ExchangeUnbind {
            reserved_1: 0,
            destination: one(&EXCHANGES, input),
            source: one(&EXCHANGES, input),
            routing_key: one(&KEYS, input),
            nowait: bit(0),
            arguments: table(input),
        },
        21 if bit(0) => Method::ExchangeDelete {
            reserved_1: 0,
            exchange: one(&EXCHANGES, input),
            if_unused: bit(1),
            nowait: bit(2),
        },
        21 if bit(1) => Method::QueuePurge { reserved_1: 0, queue, nowait: bit(2) },
        21 => Method::QueueDelete {
            reserved_1: 0,
            queue,
            if_unused: bit(2),
            if_empty: bit(3),
            nowait: bit(4),
        },
        22 | 23 => Method::BasicConsume {
            reserved_1: 0,
            queue,
            consumer_tag: one(&TAGS, input),
            no_local: bit(0),
            no_ack: bit(1),
            exclusive: bit(2),
            nowait: bit(3),
            arguments: table(input),
        },
        24 => Method::BasicCancel { consumer_tag: one(&TAGS, input), nowait: bit(0) },
        25 => Method::BasicGet { reserved_1: 0, queue, no_ack: bit(0) },
        26 => Method::BasicAck { delivery_tag, multiple: bit(0) },
        27 => Method::BasicNack { delivery_tag, multiple: bit(0), requeue: bit(1) },
        28 => Method::BasicReject { delivery_tag, requeue: bit(1) },
        29 => Method::BasicQos {
            prefetch_size: u32::from(flags == 0xff),
            prefetch_count: u16::from(input.u8()),
            global: bit(0),
        },
        30 if bit(0) => Method::BasicRecover { requeue: bit(1) },
        30 => Method::ChannelFlow { active: !bit(1) },
        _ if flags >> 5 & 3 == 1 => Method::TxSelect {},
        _ if flags >> 5 & 3 == 2 => Method::TxCommit {},
        _ if flags >> 5 & 3 == 3 => Method::TxRollback {},
        _ => Method::ConfirmSelect { nowait: bit(0) },
    };
    put_method(out, number, &method);
}
