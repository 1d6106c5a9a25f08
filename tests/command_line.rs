//! The `haypile` command as a person or a script uses it: what it prints, where, and its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // files are looked at from outside here

#[path = "command_line/bench_amqp.rs"]
mod bench_amqp;
#[path = "command_line/benching.rs"]
mod benching;
mod common;
#[path = "command_line/configuring.rs"]
mod configuring;
#[path = "command_line/inspecting.rs"]
mod inspecting;
#[path = "command_line/listening.rs"]
mod listening;
#[path = "command_line/lying_broker.rs"]
mod lying_broker;
#[path = "command_line/operating.rs"]
mod operating;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::process::{Process, haypile, prepare, run};
use common::{Client, queue_declare};
use haypile::amqp::codec::Method;
use haypile::message::{Properties, RawProperties};
use serde_json::Value;
use tempfile::TempDir;

/// Every file of a directory, with its content.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn command(name: &str, directory: &Path, more: &[&str]) -> Output {
    let mut command = haypile(&[name, directory.to_str().unwrap()]);
    command.args(more);
    run(command)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `haypile serve` on a directory that it must refuse: exit code 2, nothing on standard output, and these words in one
/// complaint on standard error.
fn complains(directory: &Path, words: &[&str]) {
    let directory = directory.to_str().unwrap();
    let output = run(haypile(&["serve", "--data-dir", directory, "--listen", "127.0.0.1:0"]));
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(text(&output.stdout), "");
    let complaint = errors.lines().find(|line| line.starts_with("haypile: "));
    let complaint = complaint.unwrap_or_else(|| panic!("no complaint: {errors}"));
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in: {complaint}");
    }
}

/// The same for a directory that nobody uses: no file may have changed either.
fn refused(directory: &Path, words: &[&str]) {
    let before = directory.is_dir().then(|| files(directory));
    complains(directory, words);
    if let Some(before) = before {
        assert!(files(directory) == before, "the refusal changed files");
    }
}

const BODY: &[u8] = b"a body that can be found on disk";

fn publish_confirmed(client: &mut Client, queue: &str, count: u64) {
    assert_eq!(
        client.call(1, &Method::ConfirmSelect { nowait: false }).name(),
        "confirm.select-ok"
    );
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    for _ in 0..count {
        client.publish_with(1, "", queue, false, persistent, BODY);
    }
    let mut confirmed = 0;
    while confirmed < count {
        match client.method().method() {
            Method::BasicAck { delivery_tag, .. } => confirmed = delivery_tag,
            other => panic!("{other:?}"),
        }
    }
}

/// A directory in which a server has left two durable queues, `orders` with three messages and `empty` with none, and was
/// then stopped cleanly.
fn left_behind() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    client.declare_queue(1, "orders", true);
    client.declare_queue(1, "empty", true);
    publish_confirmed(&mut client, "orders", 3);
    server.signal("TERM");
    client.expect_close(320);
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    directory
}

/// Changes a byte of each message body in the log; returns how many there were, and the first one's file and offset.
fn damage_bodies(directory: &Path, most: usize) -> (usize, PathBuf) {
    let mut found = (0, PathBuf::new());
    for (path, mut content) in files(directory) {
        let places: Vec<usize> = content
            .windows(BODY.len())
            .enumerate()
            .filter(|(_, w)| *w == BODY)
            .map(|(n, _)| n)
            .collect();
        for place in places.into_iter().take(most - found.0) {
            content[place] ^= 1;
            found = (found.0 + 1, path.clone());
        }
        fs::write(path, content).unwrap();
    }
    found
}

/// Rewrites both copies of the superblock with `change`, and a checksum that fits if `sealed`.
fn change_superblock(directory: &Path, sealed: bool, change: impl Fn(&mut [u8])) {
    let path = directory.join("superblock");
    let mut content = fs::read(&path).unwrap();
    for start in [0, 4096] {
        let copy = &mut content[start..start + 512];
        change(copy);
        if sealed {
            let mut checksum = crc32fast::Hasher::new();
            checksum.update(&copy[..12]);
            checksum.update(&copy[16..]);
            copy[12..16].copy_from_slice(&checksum.finalize().to_le_bytes());
        }
    }
    fs::write(path, content).unwrap();
}

#[test]
fn serve_says_on_one_line_that_it_is_ready_and_where() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let listen = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let server = Process::serve_with(directory.path(), &listen);
    let addresses = server.addresses();
    assert_eq!(addresses.len(), 2, "{}", server.ready);
    assert_ne!(addresses[0], addresses[1]);
    for address in addresses {
        let mut client = Client::new(address);
        client.open_connection(2047, 131_072, 0);
    }
}

#[test]
fn a_new_data_directory_is_made_with_those_above_it() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b");
    let server = Process::serve(&deep);
    assert!(deep.join("superblock").is_file());
    server.signal("INT");
    assert_eq!(server.end().0.code(), Some(0));
}

#[test]
fn sigterm_tells_the_consumers_syncs_writes_a_checkpoint_and_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    let mut publisher = server.open_channel();
    publisher.declare_queue(1, "q", true);
    publish_confirmed(&mut publisher, "q", 200);
    let mut consumer = server.open_channel();
    consumer.consume(1, "q", false);
    for n in 1..=200 {
        assert_eq!(consumer.delivery().0, n);
    }
    consumer.send(1, &Method::BasicAck { delivery_tag: 150, multiple: true });
    // A request of its own behind the acknowledgement: when it is answered, that has been taken.
    let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false };
    assert_eq!(consumer.call(1, &qos).name(), "basic.qos-ok");
    server.signal("TERM");
    for mut client in [publisher, consumer] {
        assert_eq!(
            client.expect_close(320),
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
        );
    }
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(errors.contains("stopped cleanly"), "{errors}");
    let inspected = json(&command("inspect", directory.path(), &["--json"]));
    assert!(inspected["checkpoint_lsn"].as_u64().unwrap() > 0, "{inspected}");
    // The checkpoint's own records, and nothing of the messages'.
    assert!(inspected["replay"]["records"].as_u64().unwrap() < 10, "{inspected}");
    assert_eq!(inspected["queues"][0]["messages"], 50, "{inspected}");
}

#[test]
fn a_killed_server_leaves_something_to_replay_and_nothing_damaged() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    publish_confirmed(&mut client, "q", 20);
    server.signal("KILL");
    assert_eq!(server.end().0.code(), None);
    let inspected = json(&command("inspect", directory.path(), &["--json"]));
    assert!(inspected["replay"]["records"].as_u64().unwrap() > 20, "{inspected}");
    assert_eq!(command("verify", directory.path(), &[]).status.code(), Some(0));
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    let declared = client.call(1, &queue_declare("q", true));
    let Method::QueueDeclareOk { message_count, .. } = declared.method() else {
        panic!("{declared:?}");
    };
    assert_eq!(message_count, 20);
}

#[test]
fn a_log_that_fails_ends_the_process_with_the_reason_and_what_was_confirmed_is_there() {
    const BATCH: u64 = 50;
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve_to_fail(directory.path());
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    client.call(1, &Method::ConfirmSelect { nowait: false });
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() }.to_bytes();
    let persistent = RawProperties::parse(&persistent).unwrap();
    let (mut published, mut confirmed) = (0, 0);
    'publishing: loop {
        for _ in 0..BATCH {
            client.publish_with(1, "", "q", false, persistent, &[7; 1000]);
        }
        published += BATCH;
        while confirmed < published {
            let Some(received) = client.method_or_end() else { break 'publishing };
            match received.method() {
                Method::BasicAck { delivery_tag, .. } => confirmed = delivery_tag,
                // The log had failed before the message reached it: at a segment to come.
                Method::ConnectionClose { reply_code: 541, .. } => break 'publishing,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(published, BATCH, "confirmed without having been written");
        server.fail_writes();
    }
    assert_eq!(confirmed, BATCH);
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("haypile: the log has failed"), "{errors}");
    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    let declared = client.call(1, &queue_declare("q", true));
    let Method::QueueDeclareOk { message_count, .. } = declared.method() else {
        panic!("{declared:?}");
    };
    assert!(u64::from(message_count) >= confirmed, "{message_count} of {confirmed}");
}

#[test]
fn a_directory_in_use_is_refused_by_all_commands_that_need_it_for_themselves() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let _server = Process::serve(directory.path());
    complains(directory.path(), &[directory.path().to_str().unwrap(), "in use", "fuser"]);
    for name in ["verify", "repair"] {
        let output = command(name, directory.path(), &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("in use"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_port_in_use_is_named_and_the_data_directory_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        run(haypile(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", &address]));
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for word in [&*address, "--listen"] {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
    assert!(!data.exists());
}

#[test]
fn a_data_directory_that_is_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    refused(&file, &[file.to_str().unwrap()]);
    refused(&file.join("below"), &[file.to_str().unwrap()]);
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
    let unreadable = directory.path().join("store");
    fs::create_dir(&unreadable).unwrap();
    prepare(&unreadable);
    fs::remove_file(unreadable.join("superblock")).unwrap();
    fs::create_dir(unreadable.join("superblock")).unwrap();
    refused(&unreadable, &["superblock"]);
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let directory = left_behind();
    change_superblock(directory.path(), true, |copy| copy[8] = 9);
    refused(directory.path(), &["superblock", "version 9", "version 4"]);
    for name in ["inspect", "verify", "repair"] {
        let output = command(name, directory.path(), &[]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("version 9"));
    }
}

#[test]
fn a_damaged_superblock_is_refused_with_file_offset_meaning_and_advice() {
    let directory = left_behind();
    change_superblock(directory.path(), false, |copy| copy[40] ^= 1);
    refused(directory.path(), &["superblock", "byte", "This means", "haypile verify"]);
    let output = command("verify", directory.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("superblock"), "{}", text(&output.stdout));
    let output = command("verify", directory.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    assert_eq!(found["opens"], false, "{found}");
    assert!(found["damage"][0]["file"].as_str().unwrap().ends_with("superblock"), "{found}");
}

#[test]
fn a_whole_store_verifies_and_shows_its_queues() {
    let directory = left_behind();
    let before = files(directory.path());
    let output = command("verify", directory.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(
        printed.contains("3 live messages") && printed.contains("everything is whole"),
        "{printed}"
    );
    let found = json(&command("verify", directory.path(), &["--json"]));
    assert_eq!((&found["messages"], &found["opens"]), (&Value::from(3), &Value::from(true)));
    assert_eq!(found["damage"], Value::Array(vec![]));
    let output = command("inspect", directory.path(), &[]);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    for word in [
        "2 durable queues with 3 messages",
        "'orders'",
        "'empty'",
        "checkpoint at",
        "to replay at a start",
        "% live",
        "reclaim",
    ] {
        assert!(printed.contains(word), "{word:?} is not in: {printed}");
    }
    let found = json(&command("inspect", directory.path(), &["--json"]));
    let queues: BTreeMap<&str, u64> = found["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| (queue["name"].as_str().unwrap(), queue["messages"].as_u64().unwrap()))
        .collect();
    assert_eq!(queues, BTreeMap::from([("'empty'", 0), ("'orders'", 3)]));
    assert!(files(directory.path()) == before, "looking changed files");
}

#[test]
fn verify_lists_each_damaged_message_by_queue_and_place() {
    let directory = left_behind();
    let (damaged, file) = damage_bodies(directory.path(), 2);
    assert_eq!(damaged, 2);
    let before = files(directory.path());
    let output = command("verify", directory.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let lost: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("place") && line.contains("'orders'"))
        .collect();
    assert_eq!(lost.len(), 2, "{printed}");
    assert!(printed.contains(file.to_str().unwrap()) && printed.contains("at byte"), "{printed}");
    let output = command("verify", directory.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    let listed: Vec<u64> = found["damage"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|place| place["messages"].as_array().unwrap())
        .inspect(|message| assert_eq!(message["queue"], "'orders'"))
        .map(|message| message["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(listed.len(), 2, "{found}");
    assert_ne!(listed[0], listed[1]);
    assert!(files(directory.path()) == before, "looking changed files");
}

#[test]
fn repair_says_what_would_be_lost_and_does_it_when_told_to() {
    let directory = left_behind();
    let nothing = command("repair", directory.path(), &["--apply"]);
    assert_eq!(nothing.status.code(), Some(0), "{}", text(&nothing.stderr));
    assert!(text(&nothing.stdout).contains("nothing to repair"), "{}", text(&nothing.stdout));

    assert_eq!(damage_bodies(directory.path(), 1).0, 1);
    let before = files(directory.path());
    let planned = command("repair", directory.path(), &[]);
    assert_eq!(planned.status.code(), Some(1), "{}", text(&planned.stderr));
    let printed = text(&planned.stdout);
    for word in
        ["would be taken out", "place 0 of queue 'orders'", "--apply", "damaged messages: 1;"]
    {
        assert!(printed.contains(word), "{word:?} is not in: {printed}");
    }
    let planned = json(&command("repair", directory.path(), &["--json"]));
    assert_eq!((&planned["messages_lost"], &planned["applied"]), (&Value::from(1), &Value::Null));
    assert!(files(directory.path()) == before, "a repair that was not told to changed files");
    assert!(!directory.path().join("repair-1").exists());

    let done = command("repair", directory.path(), &["--apply", "--json"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let done = json(&done);
    assert_eq!(done["found"], planned["found"]);
    assert_eq!(done["applied"]["whole"], true, "{done}");
    let report = fs::read(directory.path().join("repair-1/report.txt")).unwrap();
    assert!(text(&report).contains("lost: place 0"), "{}", text(&report));
    assert_eq!(command("verify", directory.path(), &[]).status.code(), Some(0));
    assert_eq!(command("repair", directory.path(), &[]).status.code(), Some(0));

    let server = Process::serve(directory.path());
    let mut client = server.open_channel();
    let declared = client.call(1, &queue_declare("orders", true));
    let Method::QueueDeclareOk { message_count, .. } = declared.method() else {
        panic!("{declared:?}");
    };
    assert_eq!(message_count, 2);
}

#[test]
fn a_store_without_a_superblock_that_can_be_read_is_not_repaired() {
    let directory = left_behind();
    change_superblock(directory.path(), false, |copy| copy[40] ^= 1);
    let before = files(directory.path());
    for arguments in [&[][..], &["--apply"]] {
        let output = command("repair", directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        let errors = text(&output.stderr);
        assert!(errors.contains("nothing was changed") && errors.contains("backup"), "{errors}");
    }
    assert!(files(directory.path()) == before);
}

#[test]
fn looking_at_what_is_no_store_is_2() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["inspect", "verify", "repair"] {
        for path in [directory.path().to_owned(), directory.path().join("missing")] {
            let output = command(name, &path, &[]);
            assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
            assert!(text(&output.stderr).starts_with("haypile: "), "{}", text(&output.stderr));
            assert!(text(&output.stderr).contains(path.to_str().unwrap()));
        }
    }
    assert!(files(directory.path()).is_empty());
}

#[test]
fn every_command_explains_itself() {
    for (arguments, words) in [
        (&["--help"][..], &["serve", "config", "inspect", "verify", "repair", "torture"][..]),
        (&["serve", "--help"], &["--config", "--data-dir", "--listen", "--set", "SIGTERM"]),
        (&["config", "--help"], &["--config", "--data-dir", "--listen", "--set", "Exit code"]),
        (&["inspect", "--help"], &["<DIR>", "--json"]),
        (&["verify", "--help"], &["<DIR>", "--json", "--all", "Exit code"]),
        (
            &["torture", "--help"],
            &["<DIR>", "--json", "--minutes", "--seed", "--disk-limit", "Exit code", "page cache"],
        ),
        (&["repair", "--help"], &["<DIR>", "--json", "--apply", "Exit code", "repair-N"]),
    ] {
        let output = run(haypile(arguments));
        assert_eq!(output.status.code(), Some(0));
        for word in words {
            assert!(text(&output.stdout).contains(word), "{word:?}: {}", text(&output.stdout));
        }
    }
    let output = run(haypile(&["serve", "--port", "1"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--port"));
    let output = run(haypile(&["--version"]));
    assert_eq!(text(&output.stdout), format!("haypile {}\n", env!("CARGO_PKG_VERSION")));
}
