//! `haypile bench amqp` against a real server: that every message comes back, that one that does not is found, and what is said when
//! it cannot go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::process::{Process, haypile, prepare, run_for, signal};
use crate::lying_broker::{Lie, LyingBroker};
use crate::{command, json, text};

/// Long enough for any machine; none of the runs is meant to take a tenth of it.
const PATIENCE: Duration = Duration::from_secs(60);

fn serve() -> (TempDir, Process) {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Process::serve(directory.path());
    (directory, server)
}

fn uri(server: &Process) -> String {
    format!("amqp://{}", server.addresses()[0])
}

fn bench(uri: &str, arguments: &[&str]) -> Output {
    let mut command = haypile(&["bench", "amqp", "--uri", uri, "--json"]);
    command.args(arguments);
    run_for(PATIENCE, command)
}

/// A run that goes well; the only measurement of it.
fn measured(server: &Process, arguments: &str) -> Value {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let output = bench(&uri(server), &words);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text(&output.stderr));
    let report = json(&output);
    assert_eq!((&report["format"], &report["command"]), (&1.into(), &"bench amqp".into()));
    assert_eq!(report["measurements"].as_array().unwrap().len(), 1, "{report}");
    let measurement = report["measurements"][0].clone();
    assert_eq!(measurement["wrong"], Value::Array(vec![]), "{arguments}: {measurement}");
    measurement
}

/// The names of the queues that the server has.
fn queues(directory: &Path) -> Vec<String> {
    let queues = inspected_queues(directory);
    queues.iter().map(|queue| queue["name"].as_str().unwrap().to_owned()).collect()
}

fn inspected_queues(directory: &Path) -> Vec<Value> {
    let output = command("inspect", directory, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    json(&output)["queues"].as_array().unwrap().clone()
}

/// A run that goes on until it is told to end, or its server does; some messages were published.
fn begin(directory: &Path, server: &Process) -> Child {
    let mut command = haypile(&["bench", "amqp", "--uri", &uri(server), "--json"]);
    command.args(["--seconds", "600", "--rate", "500"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !inspected_queues(directory)
        .iter()
        .any(|queue| queue["next_sequence"].as_u64() >= Some(10))
    {
        assert!(begun.elapsed() < PATIENCE, "nothing is published");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

fn ended(child: Child) -> Output {
    let id = child.id();
    let waiting = thread::spawn(move || child.wait_with_output().unwrap());
    let begun = Instant::now();
    while !waiting.is_finished() {
        if begun.elapsed() > PATIENCE {
            signal(id, "KILL");
        }
        thread::sleep(Duration::from_millis(5));
    }
    waiting.join().unwrap()
}

#[test]
fn every_message_comes_back_in_every_mode_and_the_queues_are_gone() {
    let (directory, server) = serve();
    for (arguments, count) in [
        ("--mode publish --messages 200", 200),
        ("--mode publish --messages 200 --window 0 --transient", 200),
        ("--mode publish --messages 20 --window 1", 20),
        ("--mode drain --messages 200 --prefetch 0 --ack 64", 200),
        ("--mode drain --messages 203 --ack auto --consumers 3 --queues 2", 203),
        ("--mode both --messages 201 --publishers 2 --consumers 2 --queues 5", 201),
        ("--mode both --messages 200 --window 0 --ack 100 --prefetch 100", 200),
        ("--mode both --messages 100 --size 0", 100),
        ("--mode both --messages 100 --size 31", 100),
        ("--mode both --messages 100 --size 32", 100),
        ("--mode both --messages 10 --size 300000 --publishers 2", 10),
        ("--mode both --messages 100 --queues 5 --fan-out 3 --consumers 2", 300),
        ("--mode both --messages 100 --queues 3 --fan-out 2 --exchange topic", 200),
        ("--mode drain --messages 100 --queues 4 --exchange fanout --publishers 3", 400),
        ("--mode both --messages 100 --rate 1000", 100),
    ] {
        let measurement = measured(&server, arguments);
        assert_eq!(measurement["count"], count, "{arguments}: {measurement}");
        assert_eq!(queues(directory.path()), [""; 0], "{arguments}");
    }
}

#[test]
fn a_measurement_has_latencies_from_when_messages_were_due_and_what_they_cost() {
    let (_directory, server) = serve();
    let id = server.id().to_string();
    let measurement = measured(&server, &format!("--messages 100 --rate 1000 --broker-pid {id}"));
    let latencies = measurement["latencies"].as_array().unwrap();
    let waits: Vec<(&Value, &Value, &Value)> =
        latencies.iter().map(|one| (&one["of"], &one["since"], &one["count"])).collect();
    let (due, count) = ("due".into(), 100.into());
    assert_eq!(waits, [(&"confirm".into(), &due, &count), (&"delivery".into(), &due, &count)]);
    let figures: Vec<&str> = measurement["figures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|figure| figure["name"].as_str().unwrap())
        .collect();
    let wanted = [
        "published",
        "confirmed",
        "late p50",
        "late p99",
        "client CPU/msg",
        "broker CPU/msg",
        "broker memory",
    ];
    assert_eq!(figures, wanted);
    assert_eq!(measurement["parameters"]["rate"], 1000);
    assert_eq!(measured(&server, "--messages 10")["latencies"][1]["since"], "begun");
}

#[test]
fn the_suite_shows_each_broker_beside_the_first() {
    let (directory, server) = serve();
    let plot = directory.path().join("plot.svg");
    let uri = uri(&server);
    let mut command = haypile(&["bench", "amqp", "--suite", "--uri", &uri, "--uri", &uri]);
    command.args(["--rounds", "2", "--seconds", "0.02", "--json", "--svg", plot.to_str().unwrap()]);
    let output = run_for(PATIENCE, command);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let report = json(&output);
    let measurements = report["measurements"].as_array().unwrap();
    assert_eq!(measurements.len(), 16, "{report}");
    let second = format!("{uri} (2)");
    for pair in measurements.chunks(2) {
        assert_eq!(pair[0]["scenario"], pair[1]["scenario"]);
        assert_eq!(pair[0]["parameters"]["broker"], *uri);
        assert_eq!(pair[1]["parameters"]["broker"], *second);
        assert_eq!(pair[0]["share"]["share"], 1.0);
        assert_eq!(pair[1]["share"]["reference_per_second"], pair[0]["per_second"]);
    }
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    // A line for each scenario, round and broker.
    assert_eq!(errors.lines().filter(|line| line.starts_with(&uri)).count(), 32, "{errors}");
    assert_eq!(queues(directory.path()), [""; 0]);
}

#[test]
fn queues_are_kept_on_demand_under_names_of_their_own() {
    let (directory, server) = serve();
    measured(&server, "--mode publish --messages 10 --queue-prefix mine --keep --queues 2");
    let kept = queues(directory.path());
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|name| name.starts_with("'mine.")), "{kept:?}");
}

/// A run that finds something wrong: what it says of it.
fn wrong(lie: Lie, arguments: &[&str]) -> Vec<String> {
    let broker = LyingBroker::start(lie);
    let output = bench(&broker.uri(), &[&["--messages", "20"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{lie:?}: {}", text(&output.stderr));
    let report = json(&output);
    let wrong = report["measurements"][0]["wrong"].as_array().unwrap();
    wrong.iter().map(|words| words.as_str().unwrap().to_owned()).collect()
}

/// How what does not come is waited for, for a short time; and what is said of that, and of the loss.
const DRAIN: [&str; 4] = ["--mode", "drain", "--patience", "2"];
const STALLED: &str = "nothing happened for 2 s, and it was ended";
const LOST: &str = "1 message was accepted by the broker and not delivered";

// A benchmark that cannot find a fault has measured nothing.

#[test]
fn a_message_that_is_not_in_its_queue_is_lost() {
    assert_eq!(wrong(Lie::Loses, &["--mode", "publish"]), [LOST]);
}

#[test]
fn a_message_that_is_never_delivered_is_lost() {
    assert_eq!(wrong(Lie::Loses, &DRAIN), [STALLED, LOST]);
}

#[test]
fn a_message_without_a_stamp_is_lost_as_well() {
    assert_eq!(wrong(Lie::Loses, &[&DRAIN[..], &["--size", "31"]].concat()), [STALLED, LOST]);
}

#[test]
fn an_altered_message_is_found_and_does_not_stand_for_the_one_that_was_published() {
    let altered = "1 message was delivered with other bytes than were published";
    assert_eq!(wrong(Lie::Alters, &DRAIN), [STALLED, LOST, altered]);
}

#[test]
fn messages_that_are_doubled_or_out_of_order_are_found() {
    let doubled = "1 message was delivered again without being marked as redelivered";
    assert_eq!(wrong(Lie::Doubles, &["--mode", "drain"]), [doubled]);
    let reordered = "1 message was delivered after a later one of the same publisher and queue";
    assert_eq!(wrong(Lie::Swaps, &["--mode", "drain"]), [reordered]);
}

#[test]
fn messages_that_the_broker_refuses_are_counted_and_are_not_lost() {
    let broker = LyingBroker::start(Lie::Refuses);
    let output = bench(&broker.uri(), &["--mode", "publish", "--messages", "20"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = json(&output);
    assert_eq!(report["measurements"][0]["count"], 19);
    let figures = report["measurements"][0]["figures"].as_array().unwrap();
    let refused = figures.iter().find(|figure| figure["name"] == "refused").unwrap();
    assert_eq!(refused["value"], 1.0);
}

#[test]
fn a_server_that_goes_in_the_middle_is_1_with_what_it_said() {
    let (directory, server) = serve();
    for mode in ["publish", "both"] {
        let broker = LyingBroker::start(Lie::Closes);
        let output = bench(&broker.uri(), &["--mode", mode, "--messages", "20"]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        for words in [&broker.uri(), "broke off", "541 INTERNAL_ERROR - a lie"] {
            assert!(errors.contains(words), "{words:?} is not in: {errors}");
        }
    }
    let broker = LyingBroker::start(Lie::GoesAway);
    let output = bench(&broker.uri(), &["--mode", "publish", "--messages", "20"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("without a word"), "{}", text(&output.stderr));

    let child = begin(directory.path(), &server);
    server.signal("TERM");
    let output = ended(child);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for words in ["320 CONNECTION_FORCED", "The queues haypile-bench.", "are still on"] {
        assert!(errors.contains(words), "{words:?} is not in: {errors}");
    }
}

#[test]
fn ctrl_c_ends_it_with_what_was_measured_and_removes_the_queues() {
    let (directory, server) = serve();
    let child = begin(directory.path(), &server);
    signal(child.id(), "INT");
    let output = ended(child);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = json(&output);
    assert_eq!(report["interrupted"], true, "{report}");
    assert!(report["measurements"][0]["count"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["measurements"][0]["wrong"], Value::Array(vec![]));
    assert_eq!(queues(directory.path()), [""; 0]);
}

/// Exit code 2, nothing on standard output, and these words on standard error.
fn refused(uri: &str, arguments: &[&str], words: &[&str]) {
    let output = bench(uri, arguments);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{uri} {arguments:?}: {errors}");
    assert_eq!(text(&output.stdout), "");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
}

#[test]
fn a_broker_that_cannot_be_used_is_2_with_the_reason() {
    let (_directory, server) = serve();
    let address = server.addresses()[0];
    refused("localhost:5672", &[], &["amqp://"]);
    refused("amqps://localhost", &[], &["TLS", "plain amqp://"]);
    // An address that no server of another test is given.
    let nobody = TcpListener::bind("127.9.9.9:0").unwrap().local_addr().unwrap();
    let uri = format!("amqp://{nobody}");
    refused(&uri, &[], &["cannot connect to", &uri, "is a broker running there?"]);
    let wrong = format!("amqp://guest:wr0ng@{address}");
    refused(&wrong, &[], &["refused the login as 'guest'", &uri_of(address)]);
    assert!(!text(&bench(&wrong, &[]).stderr).contains("wr0ng"), "a password is shown");
    refused(&format!("{}/nowhere", uri_of(address)), &[], &["/nowhere: ", "530 NOT_ALLOWED"]);

    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = uri_of(web.local_addr().unwrap());
    thread::spawn(move || {
        let (mut socket, _) = web.accept().unwrap();
        socket.read_exact(&mut [0; 8]).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    refused(&uri, &[], &[&uri, "does not speak AMQP 0-9-1"]);
}

#[test]
fn what_cannot_be_measured_is_2() {
    let (_directory, server) = serve();
    let uri = uri(&server);
    for (arguments, word) in [
        (&["--ack", "100", "--prefetch", "50"][..], "--prefetch 50"),
        (&["--fan-out", "3", "--queues", "2"], "more queues than there are"),
        (&["--fan-out", "2", "--queues", "2", "--exchange", "default"], "--exchange"),
        (&["--broker-pid", "4000000000"], "/proc/4000000000/stat"),
        (&["--uri", "amqp://localhost", "--broker-pid", "1"], "1 times for 2 URIs"),
        (&["--seconds", "0"], "--seconds"),
        (&["--queue-type", "nonsense", "--messages", "1"], "406 PRECONDITION_FAILED"),
        (&["--svg", "/nowhere/plot.svg"], "no directory"),
    ] {
        refused(&uri, arguments, &[word]);
    }
}

fn uri_of(address: SocketAddr) -> String {
    format!("amqp://{address}")
}
