//! Invalid frames, and methods and content that do not fit where they stand.

use std::io::Write;

use bytes::BytesMut;
use haypile::amqp::codec::{put_content_header, put_method};
use haypile::message::RawProperties;

use crate::common::{TestServer, publish_method};

#[test]
fn a_wrong_frame_end_is_501() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x08\0\0\0\0\0\0\xcd");
    assert!(client.expect_close(501).starts_with("FRAME_ERROR - "));
}

#[test]
fn a_giant_announced_frame_is_501_before_it_arrives() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x03\0\x01\xff\xff\xff\xff");
    client.expect_close(501);
}

#[test]
fn an_unknown_frame_type_is_501() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x07\0\0\0\0\0\0\xce");
    client.expect_close(501);
}

#[test]
fn garbage_after_the_handshake_disturbs_nobody_else() {
    let server = TestServer::start();
    let mut other = server.open_channel();
    for seed in 0..20_u8 {
        let mut client = server.open_channel();
        let garbage: Vec<u8> =
            (0..997_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
        // The server may have had enough before all of it is sent.
        client.stream.write_all(&garbage).ok();
        client.expect_close(501);
    }
    assert!(other.is_served());
}

#[test]
fn frames_out_of_order_are_505() {
    let server = TestServer::start();
    let mut header = BytesMut::new();
    put_content_header(&mut header, 1, 3, RawProperties::NONE);
    let mut publish = BytesMut::new();
    put_method(&mut publish, 1, &publish_method("", "q", false));
    let body = b"\x03\0\x01\0\0\0\x01x\xce";
    let cases: [(&str, Vec<u8>); 6] = [
        ("a header without a publish", header.to_vec()),
        ("a body without a publish", body.to_vec()),
        ("a body without a header", [&publish[..], body].concat()),
        ("a method instead of a header", [&publish[..], &publish[..]].concat()),
        ("a method instead of a body", [&publish[..], &header[..], &publish[..]].concat()),
        ("a heartbeat on a channel", b"\x08\0\x01\0\0\0\0\xce".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut client = server.open_channel();
        client.send_bytes(&bytes);
        let text = client.expect_close(505);
        assert!(text.starts_with("UNEXPECTED_FRAME - "), "{what}: {text}");
    }
}

#[test]
fn a_body_larger_than_announced_is_501() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    let mut bytes = BytesMut::new();
    put_method(&mut bytes, 1, &publish_method("", "q", false));
    put_content_header(&mut bytes, 1, 2, RawProperties::NONE);
    bytes.extend_from_slice(b"\x03\0\x01\0\0\0\x03xyz\xce");
    client.send_bytes(&bytes);
    client.expect_close(501);
}

#[test]
fn a_content_header_of_another_class_or_out_of_shape_is_refused() {
    let server = TestServer::start();
    let mut publish = BytesMut::new();
    put_method(&mut publish, 1, &publish_method("", "q", false));
    let mut client = server.open_channel();
    client.send_bytes(&publish);
    client.send_bytes(b"\x02\0\x01\0\0\0\x0e\0\x32\0\0\0\0\0\0\0\0\0\0\0\0\xce");
    client.expect_close(505);
    let mut client = server.open_channel();
    client.send_bytes(&publish);
    client.send_bytes(b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\0\x80\0\xce");
    client.expect_close(502);
}

#[test]
fn unknown_classes_and_methods_are_refused() {
    let server = TestServer::start();
    // 60.11, basic.qos-ok, is a method, but only a server sends it.
    for (payload, code) in
        [(b"\0\x3d\0\x0a", 540), (b"\0\x3c\x01\x0b", 503), (b"\0\x3c\0\x0b", 503)]
    {
        let mut client = server.open_channel();
        client.send_bytes(&[&b"\x01\0\x01\0\0\0\x04"[..], payload, b"\xce"].concat());
        client.expect_close(code);
    }
}

#[test]
fn a_method_cut_short_is_502() {
    let server = TestServer::start();
    let mut client = server.open_channel();
    client.send_bytes(b"\x01\0\x01\0\0\0\x07\0\x32\0\x0a\0\0\x05\xce");
    assert!(client.expect_close(502).starts_with("SYNTAX_ERROR - queue.declare: "));
}
