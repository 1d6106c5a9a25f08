//! Logging in as a stored user, what a user may do, and connections that are closed by an operator.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use haypile::amqp::codec::{Method, PROTOCOL_HEADER};
use haypile::broker::access::Password;
use haypile::server::control::{self, Answer, Outcome, Request};

use crate::common::{Client, TestServer, eventually, queue_declare};

/// A server, and the way an operator talks to it.
struct Operated {
    server: TestServer,
    directory: tempfile::TempDir,
}

impl Operated {
    fn start() -> Operated {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        Operated { server: TestServer::with(|config| config.data_dir = data), directory }
    }

    fn ask(&self, request: &Request) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let data = self.directory.path().join("data");
        runtime.block_on(control::ask(&data, request)).unwrap()
    }

    fn does(&self, request: &Request) -> Answer {
        match self.ask(request) {
            Outcome::Done(answer) => answer,
            Outcome::Refused(lines) => panic!("{lines:?}"),
        }
    }

    /// A user with the password `s3cret` who may do everything with names that begin with `my`.
    fn add_shop(&self) {
        let password = Password::new(b"s3cret").unwrap();
        self.does(&Request::AddUser {
            name: "shop".to_owned(),
            algorithm: password.algorithm().to_owned(),
            hash: password.hash(),
            tags: Vec::new(),
        });
        self.does(&Request::Permit {
            user: "shop".to_owned(),
            vhost: "/".to_owned(),
            configure: "^my".to_owned(),
            write: "^my".to_owned(),
            read: "^my".to_owned(),
        });
    }

    fn log_in(&self, response: &[u8]) -> Client {
        let mut client = self.server.connect();
        client.send_bytes(&PROTOCOL_HEADER);
        client.method();
        client.start_ok("PLAIN", response, true);
        client
    }

    fn open(&self, response: &[u8], virtual_host: &str) -> Client {
        let mut client = self.log_in(response);
        assert_eq!(client.method().name(), "connection.tune");
        client.tune_ok(2047, 131_072, 0);
        client.open_virtual_host(virtual_host);
        client
    }

    fn shop(&self) -> Client {
        let mut client = self.open(b"\0shop\0s3cret", "/");
        assert_eq!(client.method().name(), "connection.open-ok");
        client.open_channel(1);
        client
    }
}

#[test]
fn a_stored_user_logs_in_and_a_wrong_password_does_not() {
    let operated = Operated::start();
    operated.add_shop();
    for _ in 0..2 {
        assert!(operated.shop().is_served());
        let mut wrong = operated.log_in(b"\0shop\0S3cret");
        assert!(wrong.expect_close(403).contains("Login was refused"));
    }
    operated.does(&Request::DeleteUser { name: "shop".to_owned() });
    assert!(operated.log_in(b"\0shop\0s3cret").expect_close(403).contains("Login was refused"));
}

#[test]
fn while_a_password_is_verified_others_are_served_and_what_follows_waits() {
    let operated = Operated::start();
    operated.add_shop();
    let mut other = operated.server.open_channel();
    // Everything up to the first declaration in one go: nothing of it is looked at before the password is right.
    let mut client = operated.server.connect();
    client.send_bytes(&PROTOCOL_HEADER);
    client.method();
    client.start_ok("PLAIN", b"\0shop\0s3cret", true);
    client.tune_ok(2047, 131_072, 0);
    client.open_virtual_host("/");
    client.send(1, &Method::ChannelOpen { reserved_1: b"" });
    client.send(1, &queue_declare("my own", false));
    assert!(other.is_served());
    for answer in ["connection.tune", "connection.open-ok", "channel.open-ok", "queue.declare-ok"] {
        assert_eq!(client.method().name(), answer);
    }
}

#[test]
fn a_new_secret_is_taken_note_of() {
    let operated = Operated::start();
    operated.add_shop();
    let mut client = operated.shop();
    let secret = Method::ConnectionUpdateSecret { new_secret: b"another", reason: b"it is time" };
    assert_eq!(client.call(0, &secret).name(), "connection.update-secret-ok");
    assert!(client.is_served());
}

#[test]
fn what_a_user_may_not_do_closes_the_channel() {
    let operated = Operated::start();
    operated.add_shop();
    let mut client = operated.shop();
    client.declare_queue(1, "my queue", true);
    client.send(1, &queue_declare("theirs", true));
    assert_eq!(
        client.expect_channel_close(1, 403),
        "ACCESS_REFUSED - access to queue 'theirs' in vhost '/' refused for user 'shop'"
    );
    client.open_channel(1);
    client.publish(1, "", "my queue", b"body");
    assert_eq!(
        client.expect_channel_close(1, 403),
        "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'shop'"
    );
    // In one go and in pieces.
    client.open_channel(1);
    client.publish(1, "amq.topic", "k", &vec![0; 200_000]);
    assert_eq!(
        client.expect_channel_close(1, 403),
        "ACCESS_REFUSED - access to exchange 'amq.topic' in vhost '/' refused for user 'shop'"
    );
}

#[test]
fn a_virtual_host_lets_those_in_who_may_and_goes_with_them() {
    let operated = Operated::start();
    operated.add_shop();
    let orders = "orders".to_owned();
    let (description, tags) = (String::new(), Vec::new());
    operated.does(&Request::AddVhost { name: orders.clone(), description, tags });
    operated.does(&Request::Permit {
        user: "guest".to_owned(),
        vhost: orders.clone(),
        configure: ".*".to_owned(),
        write: ".*".to_owned(),
        read: ".*".to_owned(),
    });
    assert_eq!(
        operated.open(b"\0shop\0s3cret", "orders").expect_close(530),
        "NOT_ALLOWED - access to vhost 'orders' refused for user 'shop'"
    );
    assert_eq!(
        operated.open(b"\0guest\0guest", "nowhere").expect_close(530),
        "NOT_ALLOWED - vhost nowhere not found"
    );
    let mut client = operated.open(b"\0guest\0guest", "orders");
    assert_eq!(client.method().name(), "connection.open-ok");
    client.open_channel(1);
    client.declare_queue(1, "q", true);
    client.consume(1, "q", false);
    operated.does(&Request::DeleteVhost { name: orders });
    // The consumer may hear of its queue first: that goes before the connection is told.
    let mut told = client.method();
    if told.name() == "basic.cancel" {
        told = client.method();
    }
    let Method::ConnectionClose { reply_code, reply_text, .. } = told.method() else {
        panic!("connection.close was expected, {} came", told.name())
    };
    let text = String::from_utf8_lossy(reply_text);
    assert_eq!((reply_code, &*text), (320, "CONNECTION_FORCED - vhost 'orders' is down"));
    client.send(0, &Method::ConnectionCloseOk {});
    client.expect_eof();
    let again = operated.ask(&Request::DeleteVhost { name: "orders".to_owned() });
    assert_eq!(again, Outcome::Refused(vec!["vhost 'orders' does not exist".to_owned()]));
}

#[test]
fn an_operator_closes_connections_with_a_reason() {
    let operated = Operated::start();
    let (mut first, mut second) = (operated.server.open_channel(), operated.server.open_channel());
    let Answer::Connections(listed) = operated.does(&Request::ListConnections) else { panic!() };
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].user.as_str(), listed[0].channels), ("guest", 1));
    assert_eq!(listed[0].peer, first.stream.local_addr().unwrap().to_string());
    let close = Request::CloseConnections { id: Some(listed[0].id), reason: "because".to_owned() };
    assert_eq!(operated.does(&close), Answer::Closing(1));
    assert_eq!(first.expect_close(320), "CONNECTION_FORCED - because");
    assert!(second.is_served());
    eventually("the connection is gone", || {
        operated.ask(&close) != Outcome::Done(Answer::Closing(1))
    });
}

/// An operator's order was looked for only where there was room for deliveries, so that the one client that did not read, and had no
/// heartbeats, was not closed.
#[test]
fn an_operator_closes_a_client_that_does_not_read() {
    let operated = Operated::start();
    let mut client = operated.server.open_channel();
    client.declare_queue(1, "q", false);
    for _ in 0..200 {
        client.publish(1, "", "q", &[7; 100_000]);
    }
    assert!(client.is_served());
    let mut deaf = operated.server.open_channel();
    deaf.consume(1, "q", true);
    // Its buffers have been given up by then: nothing else wakes it.
    thread::sleep(Duration::from_secs(4));
    let connections = || match operated.does(&Request::ListConnections) {
        Answer::Connections(listed) => listed.iter().map(|one| one.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let id = connections().pop();
    let reason = "nobody reads".to_owned();
    assert_eq!(operated.does(&Request::CloseConnections { id, reason }), Answer::Closing(1));
    eventually("it is closed", || connections().len() == 1);
}

#[test]
fn a_user_is_closed_out_with_a_reason_and_has_no_more_channels_than_allowed() {
    let operated = Operated::start();
    operated.add_shop();
    let limit = |max_channels| Request::LimitUser {
        name: "shop".to_owned(),
        max_connections: Some(2),
        max_channels,
    };
    operated.does(&limit(Some(1)));
    let mut client = operated.shop();
    client.send(2, &Method::ChannelOpen { reserved_1: b"" });
    assert_eq!(
        client.expect_close(530),
        "NOT_ALLOWED - number of channels opened for user 'shop' has reached the maximum allowed user limit of (1)"
    );
    operated.does(&limit(None));
    let (mut one, _two) = (operated.shop(), operated.shop());
    assert_eq!(
        operated.open(b"\0shop\0s3cret", "/").expect_close(530),
        "NOT_ALLOWED - connection refused for user 'shop': user connection limit (2) is reached"
    );
    operated.does(&Request::DeleteUser { name: "shop".to_owned() });
    assert_eq!(one.expect_close(320), "CONNECTION_FORCED - user 'shop' is deleted");
}

#[test]
fn a_request_that_is_none_is_refused_and_the_next_one_answered() {
    use std::os::unix::net::UnixStream;
    let operated = Operated::start();
    let socket = operated.directory.path().join("data/control.socket");
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"{\"request\": \"please\"}").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("{\"refused\":[\"this server does not know the request"),
        "{answer}"
    );
    // One who does not say anything holds nobody up.
    let _silent = UnixStream::connect(&socket).unwrap();
    assert!(matches!(operated.does(&Request::ListUsers), Answer::Users(users) if users.len() == 1));
}
