//! TLS: the same protocol behind it, and who is let in.

#![expect(clippy::disallowed_methods, reason = "certificates are no business of the engine's disk")]

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haypile::amqp::codec::{Method, PROTOCOL_HEADER};
use haypile::server::{ClientCertificates, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection};
use tempfile::TempDir;

use super::certificates::{Authority, Identity};
use super::common::{Client, TestServer, queue_declare};

/// A server with a certificate of `authority`, and the directory of its files.
fn server(
    authority: &Authority,
    clients: impl FnOnce(&Path) -> ClientCertificates,
    change: impl FnOnce(&mut haypile::amqp::Limits),
) -> (TestServer, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let identity = authority.vouch_for("localhost");
    write("roots.pem", &authority.certificate());
    let tls = Tls {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        certificate: write("certificate.pem", &identity.certificate),
        key: write("key.pem", &identity.key),
        clients: clients(directory.path()),
    };
    let server = TestServer::with(|config| {
        config.tls = Some(tls);
        change(&mut config.limits);
    });
    (server, directory)
}

fn not_asked(_: &Path) -> ClientCertificates {
    ClientCertificates::NotAsked
}

/// A client that trusts `authority`, and shows a certificate if it has one.
fn connect(server: &TestServer, authority: &Authority, identity: Option<&Identity>) -> Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    Client::with_tls(server.tls_address.unwrap(), session)
}

/// Whether the client gets as far as `connection.start`.
fn is_let_in(mut client: Client) -> bool {
    let mut answer = [0; 1];
    client.try_send_bytes(&PROTOCOL_HEADER).is_ok()
        && client.read(&mut answer).is_ok_and(|count| count == 1)
}

#[test]
fn messages_of_all_sizes_go_through_tls_and_back() {
    let authority = Authority::new();
    let (server, _directory) = server(&authority, not_asked, |_| {});
    let mut client = connect(&server, &authority, None);
    client.open_connection(2047, 131_072, 0);
    client.open_channel(1);
    client.call(1, &queue_declare("q", true));
    client.call(1, &Method::ConfirmSelect { nowait: false });
    let sizes = [0, 1, 1000, 16_384, 131_064, 5_000_000];
    let body = |size: usize| (0..size).map(|n| (n * 7 % 251) as u8).collect::<Vec<u8>>();
    for (size, tag) in sizes.into_iter().zip(1..) {
        client.publish(1, "", "q", &body(size));
        let mut confirmed = 0;
        while confirmed < tag {
            match client.method().method() {
                Method::BasicAck { delivery_tag, .. } => confirmed = delivery_tag,
                other => panic!("a confirm was expected, {other:?} came"),
            }
        }
    }
    // Without TLS it is the same queue.
    let mut plain = server.open_channel();
    for size in sizes {
        let got = plain.call(1, &Method::BasicGet { reserved_1: 0, queue: b"q", no_ack: false });
        assert_eq!(got.name(), "basic.get-ok");
        assert!(plain.content().1 == body(size), "{size}");
    }
    drop(plain); // All goes back.
    for size in sizes {
        let got = loop {
            let get = Method::BasicGet { reserved_1: 0, queue: b"q", no_ack: true };
            let got = client.call(1, &get);
            if got.name() == "basic.get-ok" {
                break got;
            }
        };
        assert_eq!(got.channel(), 1);
        assert!(client.content().1 == body(size), "{size}");
    }
}

#[test]
fn a_client_without_tls_gets_nowhere_and_disturbs_nobody() {
    let authority = Authority::new();
    let (server, _directory) = server(&authority, not_asked, |_| {});
    let mut plain = Client::new(server.tls_address.unwrap());
    plain.send_bytes(&PROTOCOL_HEADER);
    let mut answer = Vec::new();
    // An alert in TLS's own form, or nothing; and the end.
    plain.stream.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"AMQP"), "{answer:?}");
    assert!(is_let_in(connect(&server, &authority, None)));
}

#[test]
fn a_client_that_does_not_trust_the_server_does_not_talk_to_it() {
    let (server, _directory) = server(&Authority::new(), not_asked, |_| {});
    assert!(!is_let_in(connect(&server, &Authority::new(), None)));
}

#[test]
fn a_required_client_certificate_has_to_be_a_good_one() {
    let authority = Authority::new();
    let required = |files: &Path| ClientCertificates::Required(files.join("roots.pem"));
    let (server, _directory) = server(&authority, required, |_| {});
    assert!(is_let_in(connect(&server, &authority, Some(&authority.vouch_for("me")))));
    assert!(!is_let_in(connect(&server, &authority, None)));
    let foreign = Authority::new().vouch_for("me");
    assert!(!is_let_in(connect(&server, &authority, Some(&foreign))));
}

#[test]
fn an_optional_client_certificate_is_checked_where_there_is_one() {
    let authority = Authority::new();
    let optional = |files: &Path| ClientCertificates::Optional(files.join("roots.pem"));
    let (server, _directory) = server(&authority, optional, |_| {});
    assert!(is_let_in(connect(&server, &authority, Some(&authority.vouch_for("me")))));
    assert!(is_let_in(connect(&server, &authority, None)));
    let foreign = Authority::new().vouch_for("me");
    assert!(!is_let_in(connect(&server, &authority, Some(&foreign))));
}

#[test]
fn a_tls_handshake_that_does_not_come_is_cut_off() {
    let authority = Authority::new();
    let hasty = |limits: &mut haypile::amqp::Limits| limits.handshake = Duration::from_millis(50);
    let (server, _directory) = server(&authority, not_asked, hasty);
    let mut silent = Client::new(server.tls_address.unwrap());
    let mut end = Vec::new();
    silent.stream.read_to_end(&mut end).unwrap();
    // It is told, in TLS's own form: an alert.
    assert!(end.iter().take(1).all(|kind| *kind == 0x15), "{end:?}");
}
