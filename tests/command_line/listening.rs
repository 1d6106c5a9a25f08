//! Whoever listens to what commands say may stop to; what clients say is not what the log says.

use std::io::pipe;
use std::process::Stdio;
use std::thread;

use haypile::amqp::codec::PROTOCOL_HEADER;

use super::common::Client;
use super::common::process::{Process, haypile, prepare, run};
use super::text;

/// Every command that prints a result, with the exit code that it has on a directory that is fine.
fn commands(directory: &str) -> Vec<Vec<&str>> {
    let mut all = vec![vec!["config"], vec!["bench", "store", "--list"]];
    for command in ["inspect", "verify", "repair"] {
        all.push(vec![command, "--data-dir", directory]);
        all.push(vec![command, directory, "--json"]);
    }
    for list in ["users", "vhosts", "policies"] {
        all.push(vec![list, "list", "--data-dir", directory]);
        all.push(vec![list, "list", "--json", "--data-dir", directory]);
    }
    all.push(vec!["definitions", "export", "--data-dir", directory]);
    all
}

/// `haypile inspect | head` ended in a panic.
#[test]
fn who_prints_for_somebody_who_has_gone_ends_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let users = ["add", "shop", "--data-dir", directory.path().to_str().unwrap()];
    let mut add = haypile(&["users"]);
    let (reader, mut writer) = pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"s3cret\n").unwrap();
    drop(writer);
    add.args(users).stdin(reader);
    assert_eq!(run(add).status.code(), Some(0));
    for arguments in commands(directory.path().to_str().unwrap()) {
        let expected = run(haypile(&arguments)).status.code();
        let mut command = haypile(&arguments);
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        // `run` would take standard output for itself.
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), expected, "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
#[expect(clippy::disallowed_types, reason = "it is no file of the engine's")]
fn a_result_that_cannot_be_written_is_told() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    for arguments in commands(directory.path().to_str().unwrap()) {
        if text(&run(haypile(&arguments)).stdout).is_empty() {
            continue;
        }
        let mut command = haypile(&arguments);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let errors = text(&output.stderr);
        assert!(errors.starts_with("haypile: the result could not be written: "), "{errors}");
    }
}

/// Whoever may declare a queue could have an operator's terminal do what its name said.
#[test]
fn names_that_clients_chose_are_shown_and_not_obeyed() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    client.declare_queue(1, "odd\x1b[2J\x07", true);
    let inspect = |json: &[&str]| {
        let mut command = haypile(&["inspect", directory.path().to_str().unwrap()]);
        command.args(json);
        text(&run(command).stdout)
    };
    assert!(inspect(&[]).contains("odd\\u{1b}[2J\\u{7}"), "{}", inspect(&[]));
    let json: serde_json::Value = serde_json::from_str(&inspect(&["--json"])).unwrap();
    assert!(json["queues"][0]["name"].as_str().unwrap().contains("odd\x1b[2J\x07"), "{json}");
}

/// The program that takes the log was restarted, and from then on every connection ended in a panic: the log could not be
/// written, which was to be told on standard error, which could not be written.
#[test]
fn a_server_whose_log_nobody_takes_any_more_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let mut server = Process::serve(directory.path());
    server.hang_up();
    for _ in 0..4 {
        assert!(server.open_channel().is_served());
    }
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(0));
}

/// Whoever takes the log has stopped to, and has not hung up: the threads that serve connections waited for that.
#[test]
fn a_server_whose_log_is_not_taken_for_a_while_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    // More than a pipe holds.
    let mechanism = "X".repeat(200);
    for _ in 0..1000 {
        let mut client = Client::new(server.addresses()[0]);
        client.send_bytes(&PROTOCOL_HEADER);
        client.method();
        client.start_ok(&mechanism, b"", true);
        assert_eq!(client.method().name(), "connection.close");
    }
    assert!(server.open_channel().is_served());
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(0));
}

#[test]
fn what_clients_say_is_on_one_line_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    // Nobody has to log in for this.
    for (mechanism, response) in
        [("X\nFORGED", &b""[..]), ("PLAIN", b"\0name\nFORGED\0x"), ("PLAIN\r\nFORGED", b"")]
    {
        let mut client = Client::new(server.addresses()[0]);
        client.send_bytes(&PROTOCOL_HEADER);
        client.method();
        client.start_ok(mechanism, response, true);
        assert_eq!(client.method().name(), "connection.close");
    }
    server.signal("TERM");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("\\nFORGED").count(), 3, "{log}");
    assert!(!log.lines().any(|line| line.starts_with("FORGED")), "{log}");
}

/// What a terminal sends when it is closed, and some programs to have a log written anew.
#[test]
fn a_hangup_stops_the_server_as_cleanly_as_any_signal() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve_with_signals("--default-signal=HUP", directory.path());
    let mut client = server.open_channel();
    let waiting = thread::spawn(move || client.expect_close(320));
    server.signal("HUP");
    assert!(waiting.join().unwrap().contains("shutdown"));
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopped cleanly"), "{log}");
}

/// The server waited for the signal, which was the end of `nohup`.
#[test]
fn a_hangup_is_nothing_to_a_server_that_was_to_ignore_it() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve_with_signals("--ignore-signal=HUP", directory.path());
    server.signal("HUP");
    assert!(server.open_channel().is_served());
    server.signal("TERM");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("SIGHUP"), "{log}");
}
