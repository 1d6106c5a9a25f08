//! `haypile inspect`, of a running server and of what one has left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use haypile::amqp::codec::Method;
use haypile::message::{FieldTable, Properties, RawProperties, RawTable, ShortStr, Value as Field};
use haypile::storage::{Options, Store};
use serde_json::Value;

use crate::common::process::{Process, prepare};
use crate::common::{Client, queue_declare};
use crate::{command, json, left_behind, publish_confirmed, text};

fn socket(directory: &Path) -> PathBuf {
    directory.join("inspect.socket")
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// What `inspect --json` says.
fn inspected(directory: &Path) -> Value {
    let output = command("inspect", directory, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    json(&output)
}

/// The number of messages in a queue.
fn depth(inspected: &Value, queue: &str) -> u64 {
    let queues = inspected["queues"].as_array().unwrap();
    let queue = queues.iter().find(|found| found["name"] == queue).unwrap();
    queue["messages"].as_u64().unwrap()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A server on small segments, with three messages in the queue `orders`, and the connection that published them.
fn serve(directory: &Path) -> (Process, Client) {
    prepare(directory);
    let server = Process::serve(directory);
    let mut client = server.open_channel();
    client.declare_queue(1, "orders", true);
    publish_confirmed(&mut client, "orders", 3);
    (server, client)
}

/// Other people's scripts read these: they are added to, and keep their meaning.
#[test]
fn the_names_in_the_json_are_the_same_of_a_running_server_and_of_a_stopped_one() {
    let directory = tempfile::tempdir().unwrap();
    let (server, client) = serve(directory.path());
    let running = inspected(directory.path());
    drop(client);
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(0));
    let stopped = inspected(directory.path());
    for found in [&running, &stopped] {
        let names = [
            "format",
            "store",
            "segment_size",
            "checkpoint_lsn",
            "replay",
            "segments",
            "bytes",
            "live_bytes",
            "reclaimable_bytes",
            "unused_files",
            "queues",
            "entries",
            "inspected_unix_ms",
            "running",
            "checkpoint",
            "compaction",
        ];
        assert_eq!(keys(found), BTreeSet::from(names));
        let names = ["from_lsn", "end_lsn", "groups", "records", "bytes", "torn_tail"];
        assert_eq!(keys(&found["replay"]), BTreeSet::from(names));
        let names = [
            "id",
            "file",
            "bytes",
            "live_references",
            "live_bytes",
            "dead",
            "next_victim",
            "stuck",
        ];
        assert_eq!(keys(&found["segments"][0]), BTreeSet::from(names));
        let names = ["id", "name", "messages", "bytes", "next_sequence"];
        assert_eq!(keys(&found["queues"][0]), BTreeSet::from(names));
        let names = ["written_unix_ms", "age_ms", "under_way"];
        assert_eq!(keys(&found["checkpoint"]), BTreeSet::from(names));
        let names = [
            "activity",
            "last_end",
            "last_end_unix_ms",
            "due",
            "due_when_quiet",
            "dead_bytes",
            "live_bytes",
            "borne_bytes",
            "borne_in_use_bytes",
            "excess_bytes",
            "total",
        ];
        assert_eq!(keys(&found["compaction"]), BTreeSet::from(names));
        assert!(found["compaction"]["activity"]["state"].is_string(), "{found}");
        assert_eq!(depth(found, "'orders'"), 3);
    }
    assert_eq!(running["store"], stopped["store"]);
    assert_eq!(running["queues"], stopped["queues"]);
    assert_eq!(stopped["running"], Value::Null);
}

#[test]
fn a_queue_with_priorities_is_one_queue() {
    let directory = tempfile::tempdir().unwrap();
    let (server, mut client) = serve(directory.path());
    let arguments: FieldTable =
        [(ShortStr::try_from("x-max-priority").unwrap(), Field::U8(9))].into_iter().collect();
    let arguments = arguments.to_bytes();
    let mut declare = queue_declare("urgent", true);
    if let Method::QueueDeclare { arguments: none, .. } = &mut declare {
        *none = RawTable::parse(&arguments).unwrap();
    }
    assert_eq!(client.call(1, &declare).name(), "queue.declare-ok");
    for priority in [0, 4, 9, 4] {
        let properties = Properties {
            priority: Some(priority),
            delivery_mode: Some(2),
            ..Properties::default()
        };
        let properties = properties.to_bytes();
        let properties = RawProperties::parse(&properties).unwrap();
        client.publish_with(1, "", "urgent", false, properties, b"x");
    }
    assert!(client.is_served());
    let running = inspected(directory.path());
    drop(client);
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(0));
    for found in [running, inspected(directory.path())] {
        assert_eq!(found["queues"].as_array().unwrap().len(), 2, "{found}");
        assert_eq!((depth(&found, "'orders'"), depth(&found, "'urgent'")), (3, 4));
        assert_eq!(found["queues"][1]["next_sequence"], 4);
    }
}

#[test]
fn a_running_server_says_what_is_in_it_and_what_it_is_doing() {
    let directory = tempfile::tempdir().unwrap();
    let (server, mut client) = serve(directory.path());
    client.declare_queue(1, "passing", false);
    let found = inspected(directory.path());
    let running = &found["running"];
    assert_eq!(running["pid"], server.id());
    assert_eq!(running["addresses"][0], server.addresses()[0].to_string());
    assert_eq!(running["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(running["volatile_queues"], 1);
    assert_eq!((&running["disk_full"], &running["messages_set_aside"]), (&false.into(), &0.into()));
    assert_eq!(
        (&running["low_on_memory"], &running["low_on_disk"]),
        (&false.into(), &false.into())
    );
    assert!(running["memory_bytes"].as_u64() < running["memory_limit_bytes"].as_u64());
    assert!(running["log"]["groups"].as_u64().unwrap() > 0, "{found}");
    assert!(running["since_unix_ms"].as_u64() <= found["inspected_unix_ms"].as_u64());
    assert!(found["checkpoint_lsn"].as_u64().unwrap() > 0, "it was left with a checkpoint");
    assert!(found["checkpoint"]["age_ms"].is_u64(), "{found}");
    for segment in found["segments"].as_array().unwrap() {
        let file = Path::new(segment["file"].as_str().unwrap());
        assert_eq!(file.parent(), Some(directory.path()));
    }

    let output = command("inspect", directory.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    for word in [
        &*format!("running: process {}, for ", server.id()),
        &server.addresses()[0].to_string(),
        "disk: not full",
        "memory: ",
        " in use of ",
        " free, 50.0 MiB to be left",
        "s ago",
        "compaction: ",
        " borne",
        "1 durable queues with 3 messages",
        "'orders'",
        "1 other queues, gone after a restart",
        "set aside: no message was found damaged",
        "since the store was created: ",
    ] {
        assert!(printed.contains(word), "{word:?} is not in: {printed}");
    }
    // It went on meanwhile.
    publish_confirmed(&mut client, "orders", 2);
    assert_eq!(depth(&inspected(directory.path()), "'orders'"), 5);
}

#[test]
fn the_socket_is_the_owners_alone_and_goes_with_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let (server, client) = serve(directory.path());
    let found = fs::symlink_metadata(socket(directory.path())).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    drop(client);
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(0));
    assert!(!is_socket(&socket(directory.path())));
    let printed = text(&command("inspect", directory.path(), &[]).stdout);
    assert!(printed.contains("no server is running on it"), "{printed}");
    assert!(printed.contains("s ago"), "{printed}");
}

#[test]
fn the_socket_of_a_server_that_was_killed_is_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _client) = serve(directory.path());
    server.signal("KILL");
    assert_eq!(server.end().0.code(), None);
    assert!(is_socket(&socket(directory.path())));
    assert_eq!(depth(&inspected(directory.path()), "'orders'"), 3);
    assert_eq!(inspected(directory.path())["running"], Value::Null);
    for name in ["verify", "repair"] {
        assert_eq!(command(name, directory.path(), &[]).status.code(), Some(0));
    }
    let server = Process::serve(directory.path());
    assert_eq!(inspected(directory.path())["running"]["pid"], server.id());
}

#[test]
fn a_second_server_that_is_refused_leaves_the_first_ones_socket_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _client) = serve(directory.path());
    crate::complains(directory.path(), &["in use"]);
    assert_eq!(inspected(directory.path())["running"]["pid"], server.id());
}

#[test]
fn who_does_not_read_a_report_holds_up_neither_the_others_nor_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 1 << 20, ..Options::default() };
    let store = Store::open(directory.path(), options).unwrap();
    // So many queues that the report does not fit into what the kernel takes for a reader that does not read.
    for n in 10_000..15_000 {
        // Version, flags, virtual host, name, arguments: as the broker stores it.
        let attributes = format!("\u{1}\0\u{1}/\u{5}{n}\0\0\0\0");
        store.create_queue(attributes.as_bytes()).unwrap();
    }
    store.close().unwrap();
    let server = Process::serve(directory.path());
    let silent = [(); 3].map(|()| UnixStream::connect(socket(directory.path())).unwrap());
    let found = inspected(directory.path());
    assert_eq!(depth(&found, "'12345'"), 0);
    assert!(found.to_string().len() > 300_000);
    server.signal("TERM");
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(!is_socket(&socket(directory.path())));
    drop(silent);
}

#[test]
fn a_directory_whose_path_is_too_long_for_a_socket_is_served_without() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("x".repeat(100));
    fs::create_dir(&deep).unwrap();
    let (server, client) = serve(&deep);
    assert!(!socket(&deep).exists());
    let output = command("inspect", &deep, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    let errors = text(&output.stderr);
    for word in [deep.to_str().unwrap(), "in use", "inspect.socket", "fuser"] {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
    drop(client);
    server.signal("TERM");
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(errors.contains("`haypile inspect` cannot look at this server"), "{errors}");
    assert_eq!(depth(&inspected(&deep), "'orders'"), 3);
}

#[test]
fn something_else_of_the_sockets_name_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(socket(directory.path()), "notes").unwrap();
    let (server, client) = serve(directory.path());
    drop(client);
    server.signal("TERM");
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(errors.contains("is no socket"), "{errors}");
    assert_eq!(fs::read(socket(directory.path())).unwrap(), b"notes");
}

#[test]
fn a_directory_that_another_program_has_open_is_refused_plainly() {
    let directory = left_behind();
    let options = Options::default();
    let store = Store::open(directory.path(), options).unwrap();
    let refused = |words: &[&str]| {
        let output = command("inspect", directory.path(), &[]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        for word in words {
            assert!(text(&output.stderr).contains(word), "{word:?}: {}", text(&output.stderr));
        }
    };
    refused(&["in use", "answers no inspections"]);
    // Somebody is there and says something else, or nothing.
    let listener = UnixListener::bind(socket(directory.path())).unwrap();
    for (answer, words) in
        [("", &["did not answer", "hung up"]), ("{}", &["something else", "version"])]
    {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _): (UnixStream, _) = listener.accept().unwrap();
                std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            });
            refused(words);
        });
    }
    store.close().unwrap();
    assert_eq!(depth(&inspected(directory.path()), "'orders'"), 3);
}

/// A queue's name may hold anything but ends of lines: it must neither end its line nor tell the terminal something.
#[test]
fn a_queue_s_name_with_control_characters_stays_on_its_line() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    client.declare_queue(1, "or\u{b}ders\t\u{1b}[2J\u{9b}1m", true);
    let shown = "'or\\u{b}ders\\t\\u{1b}[2J\\u{9b}1m'\n";
    let look = || {
        let output = text(&command("inspect", directory.path(), &[]).stdout);
        assert!(output.contains(shown), "{output}");
        let output = command("inspect", directory.path(), &["--json"]);
        assert_eq!(depth(&json(&output), "'or\u{b}ders\t\u{1b}[2J\u{9b}1m'"), 0);
        let line = text(&output.stdout);
        assert!(!line.trim_end_matches('\n').contains(char::is_control), "{line}");
    };
    look();
    server.signal("KILL");
    server.end();
    look();
}
